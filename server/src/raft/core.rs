//! The state machine of one node: its state, what goes in, and what comes out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::log::{Log, weight};
use super::message::Message;
use super::progress::Progress;
use super::quorum::majority;
use super::types::{Entry, HardState, Index, Io, IoSeq, NodeId, Position, Recovered, Term};

/// What a core must be told before it begins. Times are in ticks, whose length is the caller's business.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// How many nodes vote, this one included.
    pub voters: usize,
    /// Everything random follows from it.
    pub seed: u64,
    /// An election timeout is drawn from this range, anew for each wait. Its start is also for how long a follower
    /// that heard from its leader refuses to help anybody else to the office; its end, for how long a leader keeps it
    /// without hearing from a majority.
    pub election_ticks: Range<u32>,
    /// Between two heartbeats. Well below `election_ticks.start`.
    pub heartbeat_ticks: u32,
    /// Entries in one append weigh no more, unless a single one does.
    pub append_bytes_max: usize,
    /// Appends under way to one follower.
    pub append_messages_max: usize,
    /// Weight of appends under way to one follower.
    pub window_bytes_max: usize,
    /// Weight of accepted proposals that are not committed yet; above it proposals are refused.
    pub uncommitted_bytes_max: usize,
    /// Planted bug: the leader commits what its own disk has, without waiting for a majority.
    #[cfg(feature = "mutants")]
    pub ack_before_majority: bool,
}

impl Config {
    /// The defaults for nodes on one network, with ticks of 10 ms: elections after 150–300 ms, heartbeats every 30 ms.
    pub fn new(id: NodeId, voters: usize, seed: u64) -> Config {
        Config {
            id,
            voters,
            seed,
            election_ticks: 15..31,
            heartbeat_ticks: 3,
            append_bytes_max: 256 << 10,
            append_messages_max: 64,
            window_bytes_max: 4 << 20,
            uncommitted_bytes_max: 64 << 20,
            #[cfg(feature = "mutants")]
            ack_before_majority: false,
        }
    }
}

/// Names a batch of reads while it waits; chosen by the caller.
pub type ReadToken = u64;

/// Names one connection to a peer, so that answers from an earlier one are told apart. Chosen by the caller, never
/// reused for the same peer.
pub type Epoch = u64;

/// Why the core did not take a proposal or a read. Nothing of it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This node does not lead; the one it holds for the leader, if any.
    NotLeader(Option<NodeId>),
    /// Too much waits for its commit already.
    Overloaded,
}

/// What the caller must do, in this order: send [`Output::send`], pass [`Output::io`] on to the disk, apply
/// [`Output::apply`], answer the reads. Nothing here has to be waited for.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages that may leave at once.
    pub send: Vec<(NodeId, Message)>,
    /// The next request to the disk; report it with [`Core::durable`].
    pub io: Option<Io>,
    /// Committed entries, each exactly once and in order.
    pub apply: Vec<Entry>,
    /// Reads that may be answered once everything up to the index is applied.
    pub reads: Vec<(ReadToken, Index)>,
    /// Reads that lost their leader before they were confirmed.
    pub reads_failed: Vec<ReadToken>,
}

impl Output {
    /// Makes room for the next [`Core::poll`].
    pub fn clear(&mut self) {
        self.send.clear();
        self.io = None;
        self.apply.clear();
        self.reads.clear();
        self.reads_failed.clear();
    }
}

/// What a node is doing, without the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// Follows, or waits for somebody to follow.
    Follower,
    /// Asks whether an election would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

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
    /// The followers with a connection now or once in this term.
    pub(super) progress: BTreeMap<NodeId, Progress>,
    /// Index of the entry that opened this term: no read is answered from a state before it.
    pub(super) opened_at: Index,
    /// The latest read round.
    pub(super) read_seq: u64,
    /// Read rounds that wait for a majority.
    pub(super) reads: VecDeque<PendingRead>,
    pub(super) ticks_to_heartbeat: u32,
    /// Weight of entries above the commit index.
    pub(super) uncommitted_bytes: usize,
}

#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) seq: u64,
    pub(super) index: Index,
    pub(super) token: ReadToken,
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
    /// Peers with a connection that this node dialled.
    pub(super) connected: BTreeMap<NodeId, Epoch>,
    io_issued: IoSeq,
    io_durable: IoSeq,
    /// The last disk request that carried a hard state.
    io_hard_state: IoSeq,
    outbox: Vec<(Gate, NodeId, Message)>,
    /// Messages that wait for the disk, in order of what they wait for.
    held: VecDeque<(IoSeq, NodeId, Message)>,
    reads_new: Vec<ReadToken>,
    reads_failed: Vec<ReadToken>,
}

impl Core {
    /// A node that starts as a follower from what its disk held. Leadership is never resumed: what the old leader sent
    /// but did not keep must not be sent again differently in the same term.
    pub fn new(config: Config, recovered: Recovered) -> Core {
        assert!(config.voters > 0, "a cluster has at least one voter");
        assert!(
            config.heartbeat_ticks < config.election_ticks.start,
            "heartbeats every {} ticks cannot hold off elections after {}",
            config.heartbeat_ticks,
            config.election_ticks.start
        );
        let mut core = Core {
            random: SplitMix(config.seed),
            config,
            hard_state: recovered.hard_state,
            hard_state_dirty: false,
            log: Log::recovered(recovered.entries),
            role: Role::Follower,
            leader: None,
            ticks_quiet: 0,
            ticks_to_election: 0,
            connected: BTreeMap::new(),
            io_issued: 0,
            io_durable: 0,
            io_hard_state: 0,
            outbox: Vec::new(),
            held: VecDeque::new(),
            reads_new: Vec::new(),
            reads_failed: Vec::new(),
        };
        assert!(
            core.hard_state.term >= core.log.last().term,
            "the log reaches into term {} but the node only remembers term {}",
            core.log.last().term,
            core.hard_state.term
        );
        core.draw_election_timeout();
        core
    }

    // What goes in.

    /// One unit of time passed.
    pub fn tick(&mut self) {
        match self.role {
            Role::Leader(_) => self.tick_leader(),
            _ => self.tick_election(),
        }
    }

    /// A connection to a peer was made; requests to it may be sent.
    pub fn peer_up(&mut self, peer: NodeId, epoch: Epoch) {
        assert_ne!(peer, self.config.id, "a node is not its own peer");
        self.connected.insert(peer, epoch);
        let last = self.log.last().index;
        if let Role::Leader(leadership) = &mut self.role {
            let known = leadership.progress.get(&peer);
            let progress = known.map_or_else(|| Progress::unknown(last), |known| known.reconnected(last));
            leadership.progress.insert(peer, progress);
            self.send_append(peer);
        }
    }

    /// The connection to a peer is gone.
    pub fn peer_down(&mut self, peer: NodeId, epoch: Epoch) {
        if self.connected.get(&peer) == Some(&epoch) {
            self.connected.remove(&peer);
        }
    }

    /// A request came in from a peer.
    pub fn receive_request(&mut self, from: NodeId, message: Message) {
        match message {
            Message::VoteRequest(request) => self.on_vote_request(from, request),
            Message::AppendRequest(request) => self.on_append_request(from, request),
            Message::Heartbeat(request) => self.on_heartbeat(from, request),
            // A response on the requesting side is a peer's mistake, and harmless when ignored.
            _ => {}
        }
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
            _ => {}
        }
    }

    /// Appends a command to the log, if this node leads. Where it went is returned at once; whether it stays there is
    /// known when that index is applied: with the same term it is this command, with another it never happened.
    pub fn propose(&mut self, payload: Bytes) -> Result<Position, Refused> {
        let Role::Leader(leadership) = &mut self.role else {
            return Err(Refused::NotLeader(self.leader));
        };
        let position = Position {
            term: self.hard_state.term,
            index: self.log.last().index + 1,
        };
        let entry = Entry {
            term: position.term,
            index: position.index,
            kind: Default::default(),
            payload,
        };
        let bytes = leadership.uncommitted_bytes + weight(&entry);
        if bytes > self.config.uncommitted_bytes_max {
            return Err(Refused::Overloaded);
        }
        leadership.uncommitted_bytes = bytes;
        self.log.push(entry);
        Ok(position)
    }

    /// Asks for a moment at which this node certainly led. All reads that arrived together share one token.
    pub fn read(&mut self, token: ReadToken) -> Result<(), Refused> {
        match self.role {
            Role::Leader(_) => {
                self.reads_new.push(token);
                Ok(())
            }
            _ => Err(Refused::NotLeader(self.leader)),
        }
    }

    /// Every disk request up to `seq` is on disk.
    pub fn durable(&mut self, seq: IoSeq) {
        assert!(
            seq <= self.io_issued,
            "disk request {seq} was never made (last {})",
            self.io_issued
        );
        self.io_durable = self.io_durable.max(seq);
        self.log.io_done(seq);
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
        self.broadcast_appends();
        output.io = self.take_io();
        self.release_messages(&mut output.send);
        output.apply.extend_from_slice(self.log.take_committed());
        self.finish_reads(&mut output.reads);
        output.reads_failed.append(&mut self.reads_failed);
    }

    fn take_io(&mut self) -> Option<Io> {
        if !self.hard_state_dirty && !self.log.has_io() {
            return None;
        }
        self.io_issued += 1;
        let seq = self.io_issued;
        let hard_state = std::mem::take(&mut self.hard_state_dirty).then_some(self.hard_state);
        if hard_state.is_some() {
            self.io_hard_state = seq;
        }
        let (truncate_from, entries) = self.log.take_io(seq);
        Some(Io {
            seq,
            hard_state,
            truncate_from,
            entries,
            ..Io::default()
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

    pub(super) fn majority(&self) -> usize {
        majority(self.config.voters)
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

    /// Follows `leader` in `term`. Whatever this node was before ends here.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        if term > self.hard_state.term {
            self.set_hard_state(term, None);
        }
        if let Role::Leader(leadership) = &self.role {
            self.reads_failed
                .extend(leadership.reads.iter().map(|read| read.token));
            self.reads_failed.append(&mut self.reads_new);
        }
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

    fn start_reads(&mut self) {
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        if self.reads_new.is_empty() {
            return;
        }
        leadership.read_seq += 1;
        // Entries of earlier terms may be committed without this leader knowing yet: nothing is answered from a state
        // before its own first entry (§6.4 of Ongaro's thesis).
        let index = self.log.commit().max(leadership.opened_at);
        let seq = leadership.read_seq;
        leadership.reads.extend(
            self.reads_new
                .drain(..)
                .map(|token| PendingRead { seq, index, token }),
        );
        // Tells everybody the new round at once; under load an append carries it as well, but heartbeats never wait
        // behind entries.
        self.broadcast_heartbeats();
    }

    fn finish_reads(&mut self, reads: &mut Vec<(ReadToken, Index)>) {
        if !matches!(&self.role, Role::Leader(leadership) if !leadership.reads.is_empty()) {
            return;
        }
        let confirmed = self.confirmed_read_seq();
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        while leadership.reads.front().is_some_and(|read| read.seq <= confirmed) {
            let read = leadership.reads.pop_front().expect("the front was just seen");
            reads.push((read.token, read.index));
        }
    }

    // What can be asked.

    /// What this node is doing.
    pub fn role(&self) -> RoleKind {
        match self.role {
            Role::Follower => RoleKind::Follower,
            Role::PreCandidate { .. } => RoleKind::PreCandidate,
            Role::Candidate { .. } => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Who leads this term, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Highest index known to be committed.
    pub fn commit(&self) -> Index {
        self.log.commit()
    }

    /// End of this node's log.
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// Highest index of its log that is on its disk.
    pub fn durable_index(&self) -> Index {
        self.log.durable()
    }

    /// Leader only: how far a follower's disk has come.
    pub fn matched(&self, peer: NodeId) -> Index {
        match &self.role {
            Role::Leader(leadership) => leadership
                .progress
                .get(&peer)
                .map_or(0, |progress| progress.matched),
            _ => 0,
        }
    }

    /// Who has this node's vote in the current term.
    pub fn vote(&self) -> Option<NodeId> {
        self.hard_state.vote
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
