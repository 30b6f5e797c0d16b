//! The node's one task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::waiting::{Reads, Writes};
use super::{Answer, ClientRequest, Control, Failure, PeerStatus, Status};
use crate::kv::{Store, Versioned};
use crate::raft::{Core, Epoch, IoSeq, Message, NodeId, Output, Refused, RoleKind, Term};
use crate::transport::{Link, LinkEvent, Members};
use crate::wal::{WalError, WalHandle};

/// The core's unit of time.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// So much of each kind is taken in one turn before anything is sent or written.
const TURN_EVENTS_MAX: usize = 1024;

/// A stopping node gives the writes in its log so long to be committed.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Everything the task works with.
pub(crate) struct Parts {
    pub(crate) core: Core,
    pub(crate) wal: WalHandle,
    pub(crate) members: Arc<Members>,
    pub(crate) links: mpsc::Receiver<LinkEvent>,
    pub(crate) requests: mpsc::Receiver<ClientRequest>,
    pub(crate) control: mpsc::UnboundedReceiver<Control>,
    pub(crate) durable: mpsc::UnboundedReceiver<Result<IoSeq, WalError>>,
    /// Told whether this node knows a leader.
    pub(crate) has_leader: watch::Sender<bool>,
}

type ReadRequest = (String, oneshot::Sender<Result<Answer<Versioned>, Failure>>);

/// See the module documentation of `node`.
pub(crate) struct Driver {
    parts: Parts,
    store: Store,
    output: Output,
    writes: Writes,
    reads: Reads,
    /// Reads of this turn, which will share one token.
    reads_new: Vec<ReadRequest>,
    links: BTreeMap<NodeId, (Epoch, Link)>,
    /// Where answers to the requests of each peer go: votes and heartbeats, appends.
    answers: BTreeMap<(NodeId, bool), mpsc::Sender<Message>>,
    /// The term in which this node leads, to notice when that ends.
    leads: Option<Term>,
    stop_by: Option<Instant>,
}

impl Driver {
    pub(crate) fn new(parts: Parts) -> Driver {
        Driver {
            parts,
            store: Store::default(),
            output: Output::default(),
            writes: Writes::default(),
            reads: Reads::default(),
            reads_new: Vec::new(),
            links: BTreeMap::new(),
            answers: BTreeMap::new(),
            leads: None,
            stop_by: None,
        }
    }

    /// Runs until it is told to stop, or until the log fails: then nothing may be promised any more.
    pub(crate) async fn run(mut self) -> Result<(), WalError> {
        let mut ticks = tokio::time::interval(TICK);
        // A node that did not get to run must not believe that all that time passed in silence: it could not have heard.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut links = Vec::with_capacity(TURN_EVENTS_MAX);
        let mut requests = Vec::with_capacity(TURN_EVENTS_MAX);
        loop {
            let mut durable = None;
            let mut control = None;
            tokio::select! {
                biased;
                event = self.parts.durable.recv() => {
                    durable = Some(event.expect("the log's thread reports until it is shut down"));
                }
                event = self.parts.control.recv() => control = event,
                _ = self.parts.links.recv_many(&mut links, TURN_EVENTS_MAX) => {}
                _ = ticks.tick() => self.parts.core.tick(),
                _ = self.parts.requests.recv_many(&mut requests, TURN_EVENTS_MAX) => {}
            }
            // Whatever else has arrived belongs to the same turn: that is where batches come from.
            while let Some(event) = durable.take().or_else(|| self.parts.durable.try_recv().ok()) {
                self.parts.core.durable(event?);
            }
            while let Some(event) = control.take().or_else(|| self.parts.control.try_recv().ok()) {
                self.on_control(event);
            }
            take_waiting(&mut self.parts.links, &mut links);
            links.drain(..).for_each(|event| self.on_link(event));
            take_waiting(&mut self.parts.requests, &mut requests);
            requests.drain(..).for_each(|request| self.on_request(request));
            self.act();
            if self
                .stop_by
                .is_some_and(|by| self.writes.is_empty() || Instant::now() >= by)
            {
                break;
            }
        }
        self.writes.lose_others(None, self.parts.core.term());
        self.refuse_the_rest();
        // Writes and syncs whatever the thread still holds.
        self.parts.wal.shutdown();
        Ok(())
    }

    /// Answers those who came too late to be taken in: nothing of theirs happened.
    fn refuse_the_rest(&mut self) {
        self.parts.requests.close();
        while let Ok(request) = self.parts.requests.try_recv() {
            match request {
                ClientRequest::Write { reply, .. } => drop(reply.send(Err(Failure::Stopping))),
                ClientRequest::Read { reply, .. } => drop(reply.send(Err(Failure::Stopping))),
            }
        }
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Control::Stop => self.stop_by = Some(Instant::now() + STOP_TIMEOUT),
        }
    }

    fn on_link(&mut self, event: LinkEvent) {
        let core = &mut self.parts.core;
        match event {
            LinkEvent::Up { peer, epoch, link } => {
                self.links.insert(peer, (epoch, link));
                core.peer_up(peer, epoch);
            }
            LinkEvent::Down { peer, epoch } => {
                self.links.remove(&peer);
                core.peer_down(peer, epoch);
            }
            LinkEvent::Responses {
                peer,
                epoch,
                messages,
            } => {
                messages
                    .into_iter()
                    .for_each(|message| core.receive_response(peer, epoch, message));
            }
            LinkEvent::Accepted {
                peer,
                append,
                answers,
            } => {
                self.answers.insert((peer, append), answers);
            }
            LinkEvent::Requests { peer, messages } => {
                messages
                    .into_iter()
                    .for_each(|message| core.receive_request(peer, message));
            }
        }
    }

    fn on_request(&mut self, request: ClientRequest) {
        match request {
            ClientRequest::Write { reply, .. } if self.stop_by.is_some() => {
                let _ = reply.send(Err(Failure::Stopping));
            }
            ClientRequest::Write { command, reply } => {
                match self.parts.core.propose(command.encode_to_vec().into()) {
                    Ok(position) => self.writes.push(position, reply),
                    Err(refused) => {
                        let _ = reply.send(Err(self.refusal(refused)));
                    }
                }
            }
            ClientRequest::Read { key, reply } => self.reads_new.push((key, reply)),
        }
    }

    fn refusal(&self, refused: Refused) -> Failure {
        match refused {
            Refused::Overloaded | Refused::Transferring | Refused::Unfit => Failure::Overloaded,
            Refused::NotLeader(leader) => {
                let leader = leader.map(|leader| self.parts.members.name_and_address(leader));
                Failure::NotLeader {
                    term: self.parts.core.term(),
                    leader,
                }
            }
        }
    }

    /// Ends the turn: does everything the core asks for.
    fn act(&mut self) {
        self.ask_reads();
        let mut output = std::mem::take(&mut self.output);
        output.clear();
        self.parts.core.poll(&mut output);
        let term = self.parts.core.term();
        for (to, message) in output.send.drain(..) {
            self.send(to, message);
        }
        if let Some(io) = output.io.take() {
            self.parts.wal.submit(io);
        }
        for entry in output.apply.drain(..) {
            let reply = self.store.apply(&entry);
            self.writes.applied(&entry, reply, term);
        }
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
                for (_, reply) in reads {
                    let _ = reply.send(Err(failure.clone()));
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
                Some(term) => tracing::info!(term, "this node leads now"),
                None => tracing::info!(term = core.term(), "this node no longer leads"),
            }
            // Whoever leads next decides what becomes of these. A write that came together with the last vote stays.
            self.writes.lose_others(leads, core.term());
            if self.leads.is_some() {
                let failure = self.refusal(Refused::NotLeader(core.leader()));
                self.reads.fail_confirmed(&failure);
            }
            self.leads = leads;
        }
        let has_leader = core.leader().is_some();
        self.parts
            .has_leader
            .send_if_modified(|known| std::mem::replace(known, has_leader) != has_leader);
    }

    fn status(&self) -> Status {
        let core = &self.parts.core;
        let peers = self
            .parts
            .members
            .slots()
            .into_iter()
            .map(|(address, node)| match node {
                None => PeerStatus {
                    name: String::new(),
                    address,
                    connected: false,
                    matched: 0,
                },
                Some((name, id)) => PeerStatus {
                    name,
                    address,
                    connected: self.links.contains_key(&id),
                    matched: core.matched(id),
                },
            });
        Status {
            role: core.role(),
            term: core.term(),
            leader: core
                .leader()
                .map(|leader| self.parts.members.name_and_address(leader)),
            commit: core.commit(),
            applied: self.store.applied(),
            last: core.last().index,
            durable: core.durable_index(),
            digest: self.store.digest(),
            peers: peers.collect(),
        }
    }
}

/// Moves what waits in a queue behind what was taken from it already, up to the limit of a turn.
fn take_waiting<T>(queue: &mut mpsc::Receiver<T>, taken: &mut Vec<T>) {
    while taken.len() < TURN_EVENTS_MAX {
        let Ok(event) = queue.try_recv() else { return };
        taken.push(event);
    }
}
