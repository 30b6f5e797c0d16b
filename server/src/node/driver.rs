//! The node's one task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prost::Message as _;
use proto::raft::Consistency;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::gathering::Gathering;
use super::keeping::Keeping;
use super::leaderless::Leaderless;
use super::pending::Pending;
use super::requests::{Answer, Answered, ClientRequest, Failure, Found, ReadRequest};
use super::roles::Roles;
use super::waiting::{Reads, Writes};
use super::{Control, status};
use crate::kv::Store;
use crate::metrics::Counters;
use crate::raft::{
    Configuration, Core, Epoch, Index, IoSeq, Message, NodeId, Output, Refused, RoleKind, Term, Violation,
};
use crate::transport::{Link, LinkEvent, Members};
use crate::wal::{WalError, WalHandle};

/// The core's unit of time.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// So much of each kind is taken in one turn before anything is sent or written; of requests, so many operations.
const TURN_EVENTS_MAX: usize = 1024;

/// A stopping node gives its successor so long to take over, and the writes in its log to be committed.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// So many requests may wait for their answers; more are refused.
const WAITING_MAX: usize = 64 << 10;

/// Everything the task works with.
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) wal: WalHandle,
    pub(crate) members: Arc<Members>,
    pub(crate) links: mpsc::Receiver<LinkEvent>,
    pub(crate) requests: mpsc::Receiver<ClientRequest>,
    pub(crate) control: mpsc::Receiver<Control>,
    pub(crate) durable: mpsc::UnboundedReceiver<Result<IoSeq, WalError>>,
    /// Told whether this node knows a leader.
    pub(crate) has_leader: watch::Sender<bool>,
    /// Told what was applied.
    pub(crate) applied: watch::Sender<Index>,
    /// Told what this node becomes.
    pub(crate) roles: Roles,
    /// Where the others reach this node.
    pub(crate) own_address: String,
    pub(crate) counters: Arc<Counters>,
}

/// See the module documentation of `node`.
pub(crate) struct Driver {
    pub(super) parts: Parts,
    pub(super) store: Store,
    pub(super) keeping: Keeping,
    pub(super) pending: Pending,
    /// The configuration that the transport knows of.
    pub(super) configuration: Option<(Index, Arc<Configuration>)>,
    output: Output,
    gathering: Gathering,
    pub(super) writes: Writes,
    reads: Reads,
    /// Reads of this turn, which will share one token.
    reads_new: Vec<ReadRequest>,
    pub(super) links: BTreeMap<NodeId, (Epoch, Link)>,
    /// Where answers to the requests of each peer go: votes and heartbeats, appends.
    pub(super) answers: BTreeMap<(NodeId, bool), mpsc::Sender<Message>>,
    /// What each peer did last that breaks the protocol, so that it is said once.
    pub(super) violations: BTreeMap<NodeId, Violation>,
    /// The term in which this node leads, to notice when that ends.
    leads: Option<Term>,
    pub(super) leaderless: Leaderless,
    stop_by: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(parts: Parts, store: Store, keeping: Keeping) -> Driver {
        Driver {
            parts,
            store,
            keeping,
            pending: Pending::default(),
            configuration: None,
            output: Output::default(),
            gathering: Gathering::default(),
            writes: Writes::default(),
            reads: Reads::default(),
            reads_new: Vec::new(),
            links: BTreeMap::new(),
            answers: BTreeMap::new(),
            violations: BTreeMap::new(),
            leads: None,
            leaderless: Leaderless::default(),
            stop_by: None,
        }
    }

    /// Runs until it is told to stop, or until the log fails: then nothing may be promised any more. Whoever still waits
    /// for an answer is told what is known.
    pub(crate) async fn run(mut self) -> Result<(), WalError> {
        let outcome = self.turns().await;
        self.pending.abandon();
        self.keeping.abandon();
        self.writes.lose_others(None, self.parts.core.term());
        self.refuse_the_rest();
        if outcome.is_ok() {
            // Writes and syncs whatever the thread still holds.
            self.parts.wal.shutdown();
        }
        outcome
    }

    async fn turns(&mut self) -> Result<(), WalError> {
        let mut ticks = tokio::time::interval(TICK);
        // A node that did not get to run must not believe that all that time passed in silence: it could not have heard.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut links = Vec::with_capacity(TURN_EVENTS_MAX);
        let mut requests = Vec::with_capacity(TURN_EVENTS_MAX);
        loop {
            let mut durable = None;
            let mut control = None;
            let begin_by = self.gathering.begin_by();
            tokio::select! {
                biased;
                event = self.parts.durable.recv() => {
                    durable = Some(event.expect("the log's thread reports until it is shut down"));
                }
                event = self.parts.control.recv() => control = event,
                _ = self.parts.links.recv_many(&mut links, TURN_EVENTS_MAX) => {}
                _ = ticks.tick() => self.tick(),
                () = tokio::time::sleep_until(begin_by.unwrap_or_else(Instant::now)), if begin_by.is_some() => {}
                // The rest comes below, where their operations are counted.
                _ = self.parts.requests.recv_many(&mut requests, 1) => {}
            }
            self.parts.core.set_clock(status::boot_ms());
            // Whatever else has arrived belongs to the same turn: that is where batches come from.
            while let Some(event) = durable.take().or_else(|| self.parts.durable.try_recv().ok()) {
                let seq = event?;
                self.parts.core.durable(seq);
                self.gathering.durable(seq);
            }
            while let Some(event) = control.take().or_else(|| self.parts.control.try_recv().ok()) {
                self.on_control(event);
            }
            take_waiting(&mut self.parts.links, &mut links, |_| 1);
            links.drain(..).for_each(|event| self.on_link(event));
            take_waiting(&mut self.parts.requests, &mut requests, operations);
            requests.drain(..).for_each(|request| self.on_request(request));
            self.begin_writes();
            self.act();
            if self.may_stop() {
                return Ok(());
            }
        }
    }

    fn tick(&mut self) {
        self.parts.core.set_unfit(self.parts.wal.is_full());
        self.parts.core.tick();
        self.reads.forget_the_gone();
        self.complain_without_leader();
    }

    /// Whether a node that is to stop has nothing left to wait for.
    fn may_stop(&self) -> bool {
        let begun = !self.writes.is_empty() || self.pending.change.is_some();
        let idle = !begun && !self.parts.core.is_transferring();
        self.stop_by.is_some_and(|by| idle || Instant::now() >= by)
    }

    /// Answers those who came too late to be taken in: nothing of theirs happened.
    fn refuse_the_rest(&mut self) {
        self.parts.requests.close();
        while let Ok(request) = self.parts.requests.try_recv() {
            refuse(request, &Failure::Stopping);
        }
        let gathered = self.gathering.take_all();
        gathered
            .into_iter()
            .for_each(|write| refuse(write, &Failure::Stopping));
        let reads_new = std::mem::take(&mut self.reads_new);
        reads_new
            .into_iter()
            .for_each(|read| read.reply.send(Err(Failure::Stopping)));
        self.reads.fail_all(&Failure::Stopping);
        self.parts.control.close();
        while let Ok(control) = self.parts.control.try_recv() {
            // Dropping the other replies says the same.
            if let Control::Admin(_, reply) = control {
                let _ = reply.send(Err(Failure::Stopping));
            }
        }
    }

    fn on_control(&mut self, control: Control) {
        match control {
            gone if gone.is_abandoned() => {}
            Control::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Control::Dump(digest_index, reply) => drop(reply.send(self.dump(digest_index))),
            Control::Membership(reply) => drop(reply.send(self.membership())),
            Control::Admin(_, reply) if self.stop_by.is_some() => {
                let _ = reply.send(Err(Failure::Stopping));
            }
            Control::Admin(admin, reply) => self.on_admin(admin, reply),
            Control::Stop => {
                self.stop_by = Some(Instant::now() + STOP_TIMEOUT);
                // If this node leads and somebody else can, nobody has to wait for an election timeout.
                let _ = self.parts.core.transfer(None);
            }
        }
    }

    fn on_request(&mut self, request: ClientRequest) {
        match request {
            ClientRequest::Several(requests) => {
                return requests.into_iter().for_each(|request| self.on_request(request));
            }
            ClientRequest::Events {
                prefix,
                from,
                bytes_max,
                reply,
            } => {
                let events = self.store.events(&prefix, from, bytes_max);
                return drop(reply.send((self.parts.core.term(), events)));
            }
            _ => {}
        }
        match self.objection(&request) {
            Some(failure) => refuse(request, &failure),
            None => self.take_in(request),
        }
    }

    /// Why a request is not even begun, if there is a reason.
    fn objection(&self, request: &ClientRequest) -> Option<Failure> {
        let (deadline, is_write) = match request {
            ClientRequest::Write { deadline, .. } => (*deadline, true),
            ClientRequest::Read(read) => (read.deadline, false),
            _ => return None,
        };
        if is_write && self.stop_by.is_some() {
            return Some(Failure::Stopping);
        }
        let writes = self.writes.len() + self.gathering.len();
        if writes + self.reads.len() + self.reads_new.len() >= WAITING_MAX {
            return Some(Failure::Overloaded);
        }
        let late = deadline.is_some_and(|deadline| deadline <= Instant::now());
        late.then_some(Failure::TooLate { begun: false })
    }

    fn take_in(&mut self, request: ClientRequest) {
        match request {
            write @ ClientRequest::Write { .. } => self.gathering.push(write),
            ClientRequest::Read(read) => match read.consistency {
                Consistency::Stale => self.answer_read(read, Consistency::Stale),
                Consistency::Lease if self.may_read_by_lease() => self.answer_by_lease(read),
                _ => self.reads_new.push(read),
            },
            _ => {}
        }
    }

    /// Proposes the writes whose time has come.
    fn begin_writes(&mut self) {
        let leads = self.parts.core.role() == RoleKind::Leader;
        for write in self.gathering.take_due(leads, Instant::now) {
            match self.objection(&write) {
                Some(failure) => refuse(write, &failure),
                None => self.propose(write),
            }
        }
    }

    fn propose(&mut self, write: ClientRequest) {
        let ClientRequest::Write { command, reply, .. } = write else {
            unreachable!("only writes are gathered")
        };
        match self.parts.core.propose(command.encode_to_vec().into()) {
            Ok(position) => self.writes.push(position, reply),
            Err(refused) => reply.send(Err(self.refusal(refused))),
        }
    }

    fn may_read_by_lease(&self) -> bool {
        let index = self.parts.core.lease_read();
        index.is_some_and(|index| index <= self.store.applied())
    }

    /// Reads, and answers only if the lease still holds after that.
    fn answer_by_lease(&mut self, read: ReadRequest) {
        let found = read.query.run(&self.store);
        self.parts.core.set_clock(status::boot_ms());
        if self.parts.core.lease_read().is_none() {
            return self.reads_new.push(read);
        }
        let value = Answered::Found(Found {
            read: found,
            consistency: Consistency::Lease,
            applied: self.store.applied(),
        });
        let term = self.parts.core.term();
        read.reply.send(Ok(Answer { term, value }));
    }

    fn answer_read(&self, read: ReadRequest, consistency: Consistency) {
        let value = Answered::Found(Found {
            read: read.query.run(&self.store),
            consistency,
            applied: self.store.applied(),
        });
        let term = self.parts.core.term();
        read.reply.send(Ok(Answer { term, value }));
    }

    fn refusal(&self, refused: Refused) -> Failure {
        match refused {
            Refused::Overloaded => Failure::Overloaded,
            Refused::Transferring => Failure::Transferring,
            Refused::Unfit => Failure::DiskFull,
            Refused::NotLeader(leader) => self.not_leader(leader),
        }
    }

    pub(super) fn not_leader(&self, leader: Option<NodeId>) -> Failure {
        Failure::NotLeader {
            term: self.parts.core.term(),
            leader: leader.map(|leader| self.parts.members.name_and_address(leader)),
        }
    }

    /// Ends the turn: does everything the core asks for.
    fn act(&mut self) {
        self.write_first_configuration();
        self.ask_reads();
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        self.parts.core.poll(&mut output);
        let term = self.parts.core.term();
        for (to, message) in output.send.drain(..) {
            self.send(to, message);
        }
        if let Some(io) = output.io.take() {
            self.gathering.submitted(io.seq);
            self.parts.wal.submit(io);
        }
        // Behind the request that tells the log of the snapshot, if there is one.
        if let Some(index) = self.keeping.take_release() {
            self.parts.wal.release(index);
        }
        for entry in output.apply.drain(..) {
            let applied = self.store.apply(&entry);
            self.keeping.applied(entry.payload.len());
            self.writes.applied(&entry, applied, term);
        }
        output
            .snapshots
            .drain(..)
            .for_each(|peer| self.send_newest_snapshot(peer));
        for (token, index) in output.reads.drain(..) {
            self.reads.confirm(token, index);
        }
        self.reads.answer(&self.store, term);
        if !output.reads_failed.is_empty() {
            let failure = self.refusal(Refused::NotLeader(self.parts.core.leader()));
            output
                .reads_failed
                .drain(..)
                .for_each(|token| self.reads.fail(token, &failure));
        }
        self.output = output;
        self.notice_office();
        self.notice_configuration();
        self.finish_admin();
        self.keep_snapshots();
        let applied = self.store.applied();
        self.parts
            .applied
            .send_if_modified(|known| std::mem::replace(known, applied) != applied);
    }

    fn ask_reads(&mut self) {
        if self.reads_new.is_empty() {
            return;
        }
        let reads = std::mem::take(&mut self.reads_new);
        let token = self.reads.next_token();
        match self.parts.core.read(token) {
            Ok(()) => self.reads.ask(token, reads),
            Err(refused) => {
                let failure = self.refusal(refused);
                for read in reads {
                    read.reply.send(Err(failure.clone()));
                }
            }
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if message.is_response() {
            if let Some(answers) = self.answers.get(&(to, message.is_append())) {
                let _ = answers.try_send(message);
            }
        } else if let Some((_, link)) = self.links.get(&to) {
            link.send(message);
        }
    }

    /// Notices when this node takes or loses office, and whether there is a leader at all.
    fn notice_office(&mut self) {
        let core = &self.parts.core;
        let leads = (core.role() == RoleKind::Leader).then(|| core.term());
        if leads != self.leads {
            match leads {
                Some(term) => {
                    self.parts.counters.offices_taken.fetch_add(1, Relaxed);
                    tracing::info!(term, "this node leads now");
                }
                None => tracing::info!(term = core.term(), "this node no longer leads"),
            }
            // Whoever leads next decides what becomes of these. A write that came together with the last vote stays.
            self.writes.lose_others(leads, core.term());
            if self.leads.is_some() {
                let failure = self.refusal(Refused::NotLeader(core.leader()));
                self.reads.fail_confirmed(&failure);
            }
            self.leads = leads;
            self.stop_sending(|_, term| Some(term) == leads);
        }
        let core = &self.parts.core;
        self.parts
            .roles
            .note(core.term(), core.role(), core.vote(), core.leader());
        let has_leader = core.leader().is_some();
        self.parts
            .has_leader
            .send_if_modified(|known| std::mem::replace(known, has_leader) != has_leader);
    }
}

/// Refuses whatever is in a request.
fn refuse(request: ClientRequest, failure: &Failure) {
    match request {
        ClientRequest::Write { reply, .. } => reply.send(Err(failure.clone())),
        ClientRequest::Read(read) => read.reply.send(Err(failure.clone())),
        ClientRequest::Several(requests) => requests.into_iter().for_each(|request| refuse(request, failure)),
        // Dropping the responder says that the node is stopping.
        ClientRequest::Events { .. } => {}
    }
}

/// Moves what waits in a queue behind what was taken from it already, up to the limit of a turn. The last one may exceed it.
fn take_waiting<T>(queue: &mut mpsc::Receiver<T>, taken: &mut Vec<T>, weight: impl Fn(&T) -> usize) {
    let mut sum: usize = taken.iter().map(&weight).sum();
    while sum < TURN_EVENTS_MAX {
        let Ok(event) = queue.try_recv() else { return };
        sum += weight(&event);
        taken.push(event);
    }
}

/// How many operations come with a request.
fn operations(request: &ClientRequest) -> usize {
    match request {
        ClientRequest::Several(several) => several.len(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_a_bounded_number_of_operations_and_leaves_the_rest_for_the_next() {
        let (sender, mut queue) = mpsc::channel(10);
        for weight in [1000, 20, 500, 7] {
            sender.try_send(weight).expect("there is room");
        }
        let mut taken = Vec::new();
        take_waiting(&mut queue, &mut taken, |weight| *weight);
        assert_eq!(
            taken,
            [1000, 20, 500],
            "the third exceeds the limit, and nothing comes after it"
        );
        assert_eq!(queue.try_recv(), Ok(7));
    }
}
