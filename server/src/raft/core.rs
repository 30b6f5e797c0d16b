//! The state machine of one node: its state, what goes in, and what comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::config::Config;
use super::log::{Log, weight};
use super::message::{Message, ReadIndexResponse};
use super::output::{Output, ReadToken, Refused};
use super::progress::Progress;
use super::quorum::{reached_by_majority, reached_by_quorum};
use super::reads::{Asker, LeaseRound, PendingRead, RemoteRead};
use super::transfer::Transfer;
use super::types::{Entry, EntryKind, HardState, Index, Io, IoSeq, NodeId, Position, Recovered, Term};
use super::violation::Violation;

/// Names one connection to a peer, so that answers from an earlier one are told apart. Chosen by the caller, never
/// reused for the same peer.
pub type Epoch = u64;

#[derive(Debug)]
pub(super) enum Role {
    Follower,
    PreCandidate { granted: BTreeSet<NodeId> },
    Candidate { granted: BTreeSet<NodeId> },
    Leader(Leadership),
}

/// What only a leader has.
#[derive(Debug)]
pub(super) struct Leadership {
    /// Whom it feeds: the other members; before there is a configuration, those with a connection now or once in this
    /// term.
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// Index of the entry that opened this term: no read is answered from a state before it.
    pub(super) opened_at: Index,
    /// The latest read round.
    pub(super) read_seq: u64,
    /// Read rounds that wait for a quorum.
    pub(super) reads: VecDeque<PendingRead>,
    /// When the rounds were begun that could still prolong the lease.
    pub(super) lease_rounds: VecDeque<LeaseRound>,
    /// When the last round that a quorum has answered was begun.
    pub(super) lease_from_ms: Option<u64>,
    /// Somebody was asked to take over in this term. The request may arrive late, and voters heed it whomever they hear, so
    /// no lease holds any more.
    pub(super) lease_forfeited: bool,
    pub(super) ticks_to_heartbeat: u32,
    /// Weight of entries that are not committed, or not on this node's own disk: those wait in the queue of its log.
    pub(super) pending_bytes: usize,
    /// Entries up to here are not counted in it any more.
    pub(super) settled: Index,
    /// The office is being handed over.
    pub(super) transfer: Option<Transfer>,
}

/// What must be on disk before a message may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing.
    Open,
    /// The term and vote as they are now.
    HardState,
    /// The log as it is now, and the hard state with it.
    Log,
}

/// One node of a Raft cluster: events in, [`Output`] out. See the module documentation for the rules.
#[derive(Debug)]
pub struct Core {
    pub(super) config: Config,
    random: SplitMix,
    pub(super) hard_state: HardState,
    hard_state_dirty: bool,
    pub(super) log: Log,
    pub(super) role: Role,
    pub(super) leader: Option<NodeId>,
    /// Ticks since the leader was heard, a vote was given, or an election began.
    pub(super) ticks_quiet: u32,
    pub(super) ticks_to_election: u32,
    /// Ticks since the start, as far as they matter to leases that were granted before it.
    pub(super) ticks_alive: u32,
    /// For so many ticks more nobody else is helped to the office, whatever is heard meanwhile: a lease may rest on it.
    pub(super) ticks_loyal: u32,
    /// The caller's clock, see [`Core::set_clock`].
    pub(super) now_ms: u64,
    /// Peers with a connection that this node dialled.
    pub(super) connected: BTreeMap<NodeId, Epoch>,
    /// Peers met so far: the voters, as long as they are only counted.
    pub(super) met: BTreeSet<NodeId>,
    /// See [`Core::set_loyalty`].
    pub(super) loyal_ms: BTreeMap<NodeId, u64>,
    io_issued: IoSeq,
    io_durable: IoSeq,
    /// The last disk request that carried a hard state.
    io_hard_state: IoSeq,
    /// Ticks since the disk last finished something, while anything is under way.
    ticks_disk_silent: u32,
    /// The caller says that this node should not lead.
    pub(super) unfit: bool,
    /// See [`Recovered::suspect`].
    pub(super) suspect: Option<Position>,
    trust_regained: bool,
    outbox: Vec<(Gate, NodeId, Message)>,
    /// Messages that wait for the disk, in order of what they wait for.
    held: VecDeque<(IoSeq, NodeId, Message)>,
    pub(super) reads_new: Vec<Asker>,
    pub(super) reads_remote: Vec<RemoteRead>,
    pub(super) read_id_next: u64,
    pub(super) reads_done: Vec<(ReadToken, Index)>,
    pub(super) reads_failed: Vec<ReadToken>,
    pub(super) snapshots: Vec<NodeId>,
}

impl Core {
    /// A node that starts as a follower from what its disk held. Leadership is never resumed: what the old leader sent
    /// but did not keep must not be sent again differently in the same term.
    pub fn new(config: Config, recovered: Recovered) -> Core {
        assert!(
            config.heartbeat_ticks < config.election_ticks.start,
            "heartbeats every {} ticks cannot hold off elections after {}",
            config.heartbeat_ticks,
            config.election_ticks.start
        );
        let (hard_state, suspect) = (recovered.hard_state, recovered.suspect);
        let snapshot_term = recovered.snapshot.last.term;
        let mut core = Core {
            random: SplitMix(config.seed),
            config,
            hard_state,
            hard_state_dirty: false,
            log: Log::recovered(recovered),
            role: Role::Follower,
            leader: None,
            ticks_quiet: 0,
            ticks_to_election: 0,
            ticks_alive: 0,
            ticks_loyal: 0,
            now_ms: 0,
            connected: BTreeMap::new(),
            met: BTreeSet::new(),
            loyal_ms: BTreeMap::new(),
            io_issued: 0,
            io_durable: 0,
            io_hard_state: 0,
            ticks_disk_silent: 0,
            unfit: false,
            suspect,
            trust_regained: false,
            outbox: Vec::new(),
            held: VecDeque::new(),
            reads_new: Vec::new(),
            reads_remote: Vec::new(),
            read_id_next: 0,
            reads_done: Vec::new(),
            reads_failed: Vec::new(),
            snapshots: Vec::new(),
        };
        if core.hard_state.term < snapshot_term {
            // A snapshot may become durable before the term in which it was taken: this node promised nothing there yet.
            core.set_hard_state(snapshot_term, None);
        }
        assert!(
            core.hard_state.term >= core.log.last().term,
            "the log reaches into term {} but the node only remembers term {}",
            core.log.last().term,
            core.hard_state.term
        );
        core.draw_election_timeout();
        // The leader may still be busy with the questions of the process that was here before.
        core.read_id_next = core.random.next();
        core
    }

    // What goes in.

    /// One unit of time passed.
    pub fn tick(&mut self) {
        self.ticks_alive = self.ticks_alive.saturating_add(1);
        self.ticks_loyal = self.ticks_loyal.saturating_sub(1);
        self.ticks_disk_silent = match self.io_durable < self.io_issued {
            true => self.ticks_disk_silent + 1,
            false => 0,
        };
        self.tick_remote_reads();
        match self.role {
            Role::Leader(_) => self.tick_leader(),
            _ => self.tick_election(),
        }
    }

    /// The caller's monotonic clock, which must also advance while the machine sleeps. Only leases look at it.
    pub fn set_clock(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Whether this node should stay out of office for the caller's reasons, such as a full disk. It keeps following
    /// and voting; as a leader it takes no more proposals and hands its office to a voter that is fit, if there is one.
    pub fn set_unfit(&mut self, unfit: bool) {
        self.unfit = unfit;
    }

    /// A connection to a peer was made; requests to it may be sent.
    pub fn peer_up(&mut self, peer: NodeId, epoch: Epoch) {
        assert_ne!(peer, self.config.id, "a node is not its own peer");
        self.connected.insert(peer, epoch);
        self.met.insert(peer);
        let last = self.log.last().index;
        let feeds = self.feeds(peer);
        if let Role::Leader(leadership) = &mut self.role
            && feeds
        {
            let known = leadership.progress.get(&peer);
            let progress = known.map_or_else(|| Progress::unknown(last), |known| known.reconnected(last));
            leadership.progress.insert(peer, progress);
            self.send_append(peer);
        }
    }

    /// The peer at the other end of its present connection says for how many milliseconds it helps nobody else to the office
    /// after it heard from its leader, restarts included. Only leases look at it.
    pub fn set_loyalty(&mut self, peer: NodeId, loyal_ms: u64) {
        self.loyal_ms.insert(peer, loyal_ms);
    }

    /// The connection to a peer is gone.
    pub fn peer_down(&mut self, peer: NodeId, epoch: Epoch) {
        if self.connected.get(&peer) == Some(&epoch) {
            self.connected.remove(&peer);
            self.begin_lease_anew();
        }
    }

    /// A request came in from a peer. Whoever breaks the protocol with it is not answered, but reported.
    pub fn receive_request(&mut self, from: NodeId, message: Message) -> Result<(), Violation> {
        match message {
            Message::VoteRequest(request) => self.on_vote_request(from, request),
            Message::AppendRequest(request) => return self.on_append_request(from, request),
            Message::Heartbeat(request) => return self.on_heartbeat(from, request),
            Message::TimeoutNow { term } => self.on_timeout_now(from, term),
            Message::ReadIndexRequest(request) => self.on_read_index_request(from, request),
            // A response on the requesting side is a peer's mistake, and harmless when ignored.
            _ => {}
        }
        Ok(())
    }

    /// A response came back on the connection `epoch` to a peer. One from an earlier connection is ignored.
    pub fn receive_response(&mut self, from: NodeId, epoch: Epoch, message: Message) {
        if self.connected.get(&from) != Some(&epoch) {
            return;
        }
        match message {
            Message::VoteResponse(response) => self.on_vote_response(from, response),
            Message::AppendResponse(response) => self.on_append_response(from, response),
            Message::HeartbeatResponse(response) => self.on_heartbeat_response(from, response),
            Message::ReadIndexResponse(response) => self.on_read_index_response(from, response),
            _ => {}
        }
    }

    /// Appends a command to the log, if this node leads. Where it went is returned at once; whether it stays there is
    /// known when that index is applied: with the same term it is this command, with another it never happened.
    pub fn propose(&mut self, payload: Bytes) -> Result<Position, Refused> {
        match &self.role {
            Role::Leader(leadership) if leadership.transfer.is_some() => return Err(Refused::Transferring),
            Role::Leader(_) if self.unfit => return Err(Refused::Unfit),
            Role::Leader(_) => {}
            _ => return Err(Refused::NotLeader(self.leader)),
        }
        self.append(EntryKind::Command, payload)
    }

    /// A leader's own entry, of whatever kind.
    pub(super) fn append(&mut self, kind: EntryKind, payload: Bytes) -> Result<Position, Refused> {
        let Role::Leader(leadership) = &mut self.role else {
            return Err(Refused::NotLeader(self.leader));
        };
        let entry = Entry {
            term: self.hard_state.term,
            index: self.log.last().index + 1,
            kind,
            payload,
        };
        let bytes = leadership.pending_bytes + weight(&entry);
        if bytes > self.config.pending_bytes_max && kind == EntryKind::Command {
            return Err(Refused::Overloaded);
        }
        leadership.pending_bytes = bytes;
        let position = entry.position();
        self.log.push(entry);
        if kind == EntryKind::Configuration {
            self.feed_members();
        }
        Ok(position)
    }

    /// Every disk request up to `seq` is on disk.
    pub fn durable(&mut self, seq: IoSeq) {
        assert!(
            seq <= self.io_issued,
            "disk request {seq} was never made (last {})",
            self.io_issued
        );
        if seq > self.io_durable {
            self.ticks_disk_silent = 0;
        }
        self.io_durable = self.io_durable.max(seq);
        self.log.io_done(seq);
        self.settle_pending();
        match self.role {
            Role::Leader(_) => self.advance_commit(),
            Role::Candidate { .. } => self.count_own_vote(),
            _ => {}
        }
    }

    // What comes out.

    /// Collects everything that is to be done since the last call.
    pub fn poll(&mut self, output: &mut Output) {
        self.start_reads();
        self.hand_over_if_caught_up();
        self.broadcast_appends();
        output.io = self.take_io();
        self.release_messages(&mut output.send);
        output.apply.extend_from_slice(self.log.take_committed());
        self.finish_reads();
        output.reads.append(&mut self.reads_done);
        output.reads_failed.append(&mut self.reads_failed);
        output.snapshots.append(&mut self.snapshots);
        // Answers to reads of others may have come up just now.
        self.release_messages(&mut output.send);
    }

    fn take_io(&mut self) -> Option<Io> {
        if !self.hard_state_dirty && !self.log.has_io() && !self.trust_regained {
            return None;
        }
        self.io_issued += 1;
        let seq = self.io_issued;
        let hard_state = std::mem::take(&mut self.hard_state_dirty).then_some(self.hard_state);
        if hard_state.is_some() {
            self.io_hard_state = seq;
        }
        let io = self.log.take_io(seq);
        Some(Io {
            seq,
            hard_state,
            reset: io.reset,
            truncate_from: io.truncate_from,
            entries: io.entries,
            trusted: std::mem::take(&mut self.trust_regained),
        })
    }

    /// Sends what may leave; what must wait for the disk joins the queue. Called right after [`Core::take_io`], so
    /// that "as it is now" means the last request made.
    fn release_messages(&mut self, send: &mut Vec<(NodeId, Message)>) {
        while self.held.front().is_some_and(|(seq, ..)| *seq <= self.io_durable) {
            let (_, to, message) = self.held.pop_front().expect("the front was just seen");
            send.push((to, message));
        }
        for (gate, to, message) in self.outbox.drain(..) {
            let seq = match gate {
                Gate::Open => 0,
                Gate::HardState => self.io_hard_state,
                Gate::Log => self.io_issued,
            };
            if seq <= self.io_durable {
                send.push((to, message));
                continue;
            }
            let at = self.held.partition_point(|(held, ..)| *held <= seq);
            self.held.insert(at, (seq, to, message));
        }
    }

    // What the other files of this module share.

    pub(super) fn send(&mut self, gate: Gate, to: NodeId, message: Message) {
        self.outbox.push((gate, to, message));
    }

    /// The largest value that a quorum has reached: of the newest configuration or, before there is one, of as many
    /// voters as were announced.
    pub(super) fn quorum_reached(&self, reached: impl Fn(NodeId) -> u64) -> u64 {
        if let Some((_, configuration)) = self.log.configuration() {
            return reached_by_quorum(configuration, reached);
        }
        if self.config.voters == 0 {
            return 0;
        }
        let mut values: Vec<u64> = self
            .met
            .iter()
            .copied()
            .chain([self.config.id])
            .map(reached)
            .collect();
        reached_by_majority(&mut values, self.config.voters)
    }

    /// Whether this node has a vote to give itself.
    pub(super) fn votes(&self) -> bool {
        match self.log.configuration() {
            Some((_, configuration)) => configuration.is_voter(self.config.id),
            None => self.config.voters > 0,
        }
    }

    /// Remembers a peer that has spoken without being dialled.
    pub(super) fn meet(&mut self, peer: NodeId) {
        self.met.insert(peer);
    }

    /// The peers met so far.
    pub fn met(&self) -> &BTreeSet<NodeId> {
        &self.met
    }

    pub(super) fn set_hard_state(&mut self, term: Term, vote: Option<NodeId>) {
        let new = HardState { term, vote };
        assert!(new.term >= self.hard_state.term, "terms never go back");
        if new != self.hard_state {
            self.hard_state = new;
            self.hard_state_dirty = true;
        }
    }

    /// Whether term and vote, as they are now, are on disk.
    pub(super) fn hard_state_is_durable(&self) -> bool {
        !self.hard_state_dirty && self.io_hard_state <= self.io_durable
    }

    /// Whether the disk has left a request unanswered for longer than any election takes to begin.
    pub fn disk_is_stalled(&self) -> bool {
        self.ticks_disk_silent > self.config.election_ticks.end
    }

    /// The log was refilled by a leader up to `verified`: does it hold again everything that this node may have
    /// acknowledged?
    pub(super) fn regain_trust(&mut self, verified: Index) {
        let Some(suspect) = self.suspect else { return };
        let term = self.log.term_at(verified).unwrap_or_default();
        let verified = Position {
            term,
            index: verified,
        };
        if verified >= suspect {
            self.suspect = None;
            self.trust_regained = true;
        }
    }

    /// Follows `leader` in `term`. Whatever this node was before ends here.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        if term > self.hard_state.term {
            self.set_hard_state(term, None);
        }
        self.fail_reads_of_office(leader);
        if !matches!(self.role, Role::Follower) {
            self.role = Role::Follower;
            self.restart_election_timer();
        }
        self.leader = leader;
    }

    pub(super) fn restart_election_timer(&mut self) {
        self.ticks_quiet = 0;
        self.draw_election_timeout();
    }

    fn draw_election_timeout(&mut self) {
        let Range { start, end } = self.config.election_ticks;
        let span = u64::from(end.saturating_sub(start).max(1));
        self.ticks_to_election = start + (self.random.next() % span) as u32;
    }

    /// Tells a follower that this node cannot confirm its read.
    pub(super) fn refuse_read_of(&mut self, peer: NodeId, id: u64) {
        let response = ReadIndexResponse {
            term: self.hard_state.term,
            id,
            index: None,
        };
        self.send(Gate::Open, peer, Message::ReadIndexResponse(response));
    }

    /// The newest configuration in the log, committed or not, and its index; `None` before there is any.
    pub fn configuration(&self) -> Option<(Index, &Arc<super::Configuration>)> {
        self.log.configuration()
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough to spread election timeouts, and the same everywhere.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
