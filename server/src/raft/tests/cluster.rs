//! A cluster of cores with a network and disks that do exactly what a test says, in one thread.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::raft::{
    Change, Config, Configuration, Core, Entry, Epoch, HardState, Index, Io, Member, Message, NodeId, Output,
    Position, Recovered, RoleKind, SnapshotMeta, Term,
};

/// A node, its disk, and what it told the outside.
pub(super) struct TestNode {
    pub(super) core: Core,
    disk: Recovered,
    /// Requests that a crash would lose.
    pub(super) unsynced: VecDeque<Io>,
    pub(super) applied: Vec<Entry>,
    /// What its newest snapshot holds; as durable as its description in `disk`.
    frozen: Vec<Entry>,
    pub(super) reads: Vec<(u64, Index)>,
    pub(super) reads_failed: Vec<u64>,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Flight {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    epoch: Epoch,
    pub(super) message: Message,
}

/// A snapshot on its way, whole.
pub(super) struct Parcel {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    term: Term,
    pub(super) meta: SnapshotMeta,
    state: Vec<Entry>,
}

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<NodeId, TestNode>,
    pub(super) wire: Vec<Flight>,
    pub(super) parcels: Vec<Parcel>,
    /// Connection of each directed pair; cut when absent.
    epochs: BTreeMap<(NodeId, NodeId), Epoch>,
    next_epoch: Epoch,
    seed: u64,
    /// One entry in each append and few under way: what usually arrives together arrives in parts.
    narrow: bool,
    /// How each core is configured, beyond the defaults.
    adjust: fn(&mut Config),
}

/// Only what a test forges may break the protocol: a core that reports anything else has met a bug of another core.
const LAWFUL: &str = "no core breaks the protocol";

/// The nodes of these tests are called `n1`, `n2`, …
pub(super) fn id(number: u64) -> NodeId {
    NodeId::of(&format!("n{number}"))
}

pub(super) fn member(number: u64, voter: bool) -> Member {
    Member {
        name: format!("n{number}").into(),
        address: format!("host{number}:1").into(),
        voter,
        outgoing_voter: false,
    }
}

impl Cluster {
    pub(super) fn new(voters: u64, seed: u64) -> Cluster {
        Cluster::build(voters, seed, false, |_| {})
    }

    /// A cluster whose cores are configured otherwise.
    pub(super) fn adjusted(voters: u64, seed: u64, adjust: fn(&mut Config)) -> Cluster {
        Cluster::build(voters, seed, false, adjust)
    }

    /// A cluster that sends one entry at a time, so that a follower often holds a part of what its leader has.
    pub(super) fn narrow(voters: u64, seed: u64) -> Cluster {
        Cluster::build(voters, seed, true, |_| {})
    }

    fn build(voters: u64, seed: u64, narrow: bool, adjust: fn(&mut Config)) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            wire: Vec::new(),
            parcels: Vec::new(),
            epochs: BTreeMap::new(),
            next_epoch: 1,
            seed,
            narrow,
            adjust,
        };
        for number in 1..=voters {
            cluster.boot(id(number), voters as usize, Recovered::default(), Vec::new());
        }
        for from in 1..=voters {
            for to in (1..=voters).filter(|to| *to != from) {
                cluster.connect(id(from), id(to));
            }
        }
        cluster
    }

    fn boot(&mut self, node: NodeId, voters: usize, mut disk: Recovered, frozen: Vec<Entry>) {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(node.0);
        let mut config = Config::new(node, voters, self.seed);
        if self.narrow {
            config.append_bytes_max = 1;
            config.append_messages_max = 3;
        }
        (self.adjust)(&mut config);
        let snapshot = disk.snapshot.last;
        let covered = match snapshot.index.checked_sub(disk.base.index) {
            Some(0) => snapshot.term == disk.base.term,
            Some(behind) => disk
                .entries
                .get(behind as usize - 1)
                .is_some_and(|entry| entry.term == snapshot.term),
            None => false,
        };
        // Power was lost between a snapshot that arrived and the log that should have begun behind it.
        if !covered {
            (disk.base, disk.entries) = (snapshot, Vec::new());
        }
        let core = Core::new(config, disk.clone());
        let fresh = TestNode {
            core,
            disk,
            unsynced: VecDeque::new(),
            applied: frozen.clone(),
            frozen,
            reads: Vec::new(),
            reads_failed: Vec::new(),
        };
        self.nodes.insert(node, fresh);
    }

    pub(super) fn node(&mut self, number: u64) -> &mut TestNode {
        self.nodes.get_mut(&id(number)).unwrap()
    }

    pub(super) fn connect(&mut self, from: NodeId, to: NodeId) {
        self.disconnect(from, to);
        if !self.nodes.contains_key(&to) || !self.knows(from, to) {
            return;
        }
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.epochs.insert((from, to), epoch);
        self.nodes.get_mut(&from).unwrap().core.peer_up(to, epoch);
        self.nodes.get_mut(&from).unwrap().core.set_loyalty(to, 150);
        self.poll(from);
    }

    /// Whether `from` has heard of `to`: it was told of it at its start, or its log says so.
    fn knows(&self, from: NodeId, to: NodeId) -> bool {
        let core = &self.nodes[&from].core;
        let told = core.voters_told() as u64;
        let listed = core
            .configuration()
            .is_some_and(|(_, found)| found.members.contains_key(&to));
        listed || told == 0 || (1..=told).any(|number| id(number) == to)
    }

    /// Connects whoever is not connected.
    pub(super) fn connect_all(&mut self) {
        for from in self.nodes.keys().copied().collect::<Vec<_>>() {
            for to in self.others(from) {
                if !self.epochs.contains_key(&(from, to)) {
                    self.connect(from, to);
                }
            }
        }
    }

    /// So much time passes for these nodes without a word from anybody that they no longer hold to their leader.
    pub(super) fn forget_the_leader(&mut self, numbers: &[u64]) {
        for number in numbers {
            let core = &mut self.node(*number).core;
            (0..15).for_each(|_| core.tick());
        }
    }

    /// Cuts the connection that `from` dialled; everything on it is lost.
    pub(super) fn disconnect(&mut self, from: NodeId, to: NodeId) {
        let Some(epoch) = self.epochs.remove(&(from, to)) else {
            return;
        };
        self.nodes.get_mut(&from).unwrap().core.peer_down(to, epoch);
        self.wire.retain(|flight| flight.epoch != epoch);
    }

    pub(super) fn isolate(&mut self, node: NodeId) {
        for other in self.others(node) {
            self.disconnect(node, other);
            self.disconnect(other, node);
        }
    }

    pub(super) fn rejoin(&mut self, node: NodeId) {
        for other in self.others(node) {
            self.connect(node, other);
            self.connect(other, node);
        }
    }

    pub(super) fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes
            .keys()
            .copied()
            .filter(|other| *other != node)
            .collect()
    }

    /// Loses power: memory, and whatever the disk was not asked to sync in time. Comes back at once.
    pub(super) fn crash(&mut self, node: NodeId) {
        self.isolate(node);
        let TestNode {
            core, disk, frozen, ..
        } = self.nodes.remove(&node).unwrap();
        let voters = core.voters_told();
        self.boot(node, voters, disk, frozen);
        self.rejoin(node);
    }

    /// Exchanges the disk of a node for one that holds this, and restarts the node.
    pub(super) fn restart_from(&mut self, number: u64, hard_state: HardState, entries: Vec<Entry>) {
        self.node(number).disk = Recovered {
            hard_state,
            entries,
            ..Recovered::default()
        };
        self.crash(id(number));
    }

    /// A node with an empty disk that waits to be taken in.
    pub(super) fn start_joining(&mut self, number: u64) {
        self.boot(id(number), 0, Recovered::default(), Vec::new());
        self.rejoin(id(number));
    }

    /// Damages the log of `node` behind `keep` entries and restarts it: what it holds is shorter than what it promised,
    /// and it knows.
    pub(super) fn damage(&mut self, number: u64, keep: Index) {
        let disk = &mut self.node(number).disk;
        let end = disk.entries.last().map_or(disk.base, Entry::position);
        disk.entries.retain(|entry| entry.index <= keep);
        disk.suspect = Some(disk.suspect.unwrap_or_default().max(end));
        self.crash(id(number));
    }

    /// Takes a snapshot of what `number` has applied and forgets all but the last `trailing` entries before it, in memory
    /// and on disk.
    pub(super) fn compact(&mut self, number: u64, trailing: u64) {
        let node = self.node(number);
        let Some(last) = node.applied.last().map(Entry::position) else {
            return;
        };
        if last.index <= node.disk.snapshot.last.index {
            return;
        }
        let configuration = node.core.configuration_at(last.index).cloned();
        node.disk.snapshot = SnapshotMeta { last, configuration };
        node.frozen = node.applied.clone();
        node.core.compact(last, last.index.saturating_sub(trailing));
        let base = node.core.base();
        // The disk forgets later, if it is not behind memory.
        let disk = &mut node.disk;
        if let Some(count) = disk.entries.iter().position(|entry| entry.position() == base) {
            disk.base = base;
            disk.entries.drain(..=count);
        }
    }

    /// Delivers the oldest snapshot on its way.
    pub(super) fn deliver_parcel(&mut self, at: usize) {
        let Parcel {
            from,
            to,
            term,
            meta,
            state,
        } = self.parcels.remove(at);
        let last = meta.last.index;
        let node = self.nodes.get_mut(&to).unwrap();
        if last > node.disk.snapshot.last.index && last > node.core.commit() {
            node.disk.snapshot = meta.clone();
            node.frozen = state.clone();
        }
        if node.core.install(from, term, meta).expect(LAWFUL) {
            node.applied = state;
        }
        self.poll(to);
        self.end_parcel(from, to, Some(last));
    }

    /// Loses a snapshot on its way.
    pub(super) fn lose_parcel(&mut self, at: usize) {
        let Parcel { from, to, .. } = self.parcels.remove(at);
        self.end_parcel(from, to, None);
    }

    fn end_parcel(&mut self, from: NodeId, to: NodeId, last: Option<Index>) {
        self.nodes.get_mut(&from).unwrap().core.snapshot_sent(to, last);
        self.poll(from);
    }

    /// Does what the core of `node` asks for.
    pub(super) fn poll(&mut self, node: NodeId) {
        let mut output = Output::default();
        let state = self.nodes.get_mut(&node).unwrap();
        state.core.poll(&mut output);
        state.unsynced.extend(output.io);
        state.applied.extend(output.apply);
        state.reads.extend(output.reads);
        state.reads_failed.extend(output.reads_failed);
        for to in output.snapshots {
            let (meta, frozen) = (state.disk.snapshot.clone(), state.frozen.clone());
            assert!(
                meta.last.index >= state.core.base().index,
                "what the log forgot is in the snapshot"
            );
            self.parcels.push(Parcel {
                from: node,
                to,
                term: state.core.term(),
                meta,
                state: frozen,
            });
        }
        for (to, message) in output.send {
            // A response goes back on the connection that the other side dialled.
            let pair = if message.is_response() {
                (to, node)
            } else {
                (node, to)
            };
            if let Some(&epoch) = self.epochs.get(&pair) {
                self.wire.push(Flight {
                    from: node,
                    to,
                    epoch,
                    message,
                });
            }
        }
    }

    pub(super) fn tick(&mut self, node: NodeId) {
        self.nodes.get_mut(&node).unwrap().core.tick();
        self.poll(node);
    }

    /// Completes the oldest disk request of `node`.
    pub(super) fn sync_one(&mut self, node: NodeId) {
        let state = self.nodes.get_mut(&node).unwrap();
        let Some(io) = state.unsynced.pop_front() else {
            return;
        };
        write(&mut state.disk, &io);
        state.core.durable(io.seq);
        self.poll(node);
    }

    pub(super) fn deliver(&mut self, at: usize) {
        let flight = self.wire.remove(at);
        self.hand_over(flight);
    }

    pub(super) fn hand_over(&mut self, flight: Flight) {
        let core = &mut self.nodes.get_mut(&flight.to).unwrap().core;
        if flight.message.is_response() {
            core.receive_response(flight.from, flight.epoch, flight.message);
        } else {
            core.receive_request(flight.from, flight.message).expect(LAWFUL);
        }
        self.poll(flight.to);
    }

    /// Hands a request from `from` to `to` that is not on the wire.
    pub(super) fn request(&mut self, from: u64, to: u64, message: Message) {
        let received = self.node(to).core.receive_request(id(from), message);
        received.expect(LAWFUL);
        self.poll(id(to));
    }

    /// Hands a response from `from` to `to` as if it came on the present connection.
    pub(super) fn respond(&mut self, from: u64, to: u64, message: Message) {
        let epoch = self.epoch(to, from);
        self.respond_on(epoch, from, to, message);
    }

    /// Hands a response from `from` to `to` as if it came on that connection.
    pub(super) fn respond_on(&mut self, epoch: Epoch, from: u64, to: u64, message: Message) {
        self.node(to).core.receive_response(id(from), epoch, message);
        self.poll(id(to));
    }

    /// The connection that `from` dialled to `to`.
    pub(super) fn epoch(&self, from: u64, to: u64) -> Epoch {
        self.epochs[&(id(from), id(to))]
    }

    /// Delivers and syncs until nothing is left to do. Does not touch the clock.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.wire.is_empty() {
                self.deliver(0);
                continue;
            }
            if !self.parcels.is_empty() {
                self.deliver_parcel(0);
                continue;
            }
            let busy = self
                .nodes
                .iter()
                .find(|(_, node)| !node.unsynced.is_empty())
                .map(|(id, _)| *id);
            match busy {
                Some(node) => self.sync_one(node),
                None => return,
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets `node` time out and settles. Returns whether it leads afterwards.
    pub(super) fn elect(&mut self, number: u64) -> bool {
        for _ in 0..40 {
            self.tick(id(number));
            self.settle();
            if self.leads(number) {
                return true;
            }
        }
        false
    }

    /// So many ticks on all nodes, settling after each.
    pub(super) fn run(&mut self, ticks: u32) {
        for _ in 0..ticks {
            for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                self.tick(node);
            }
            self.settle();
        }
    }

    pub(super) fn leads(&self, number: u64) -> bool {
        self.nodes[&id(number)].core.role() == RoleKind::Leader
    }

    pub(super) fn leaders(&self) -> Vec<(NodeId, Term)> {
        let leaders = self
            .nodes
            .iter()
            .filter(|(_, node)| node.core.role() == RoleKind::Leader);
        leaders.map(|(id, node)| (*id, node.core.term())).collect()
    }

    pub(super) fn propose(&mut self, number: u64, payload: &'static str) -> Index {
        let position = self
            .node(number)
            .core
            .propose(Bytes::from_static(payload.as_bytes()))
            .unwrap();
        self.poll(id(number));
        position.index
    }

    /// Writes into the log of the leader `number` who votes: nodes 1 to `voters`.
    pub(super) fn begin_configuration(&mut self, number: u64, voters: u64) -> Position {
        let members = (1..=voters)
            .map(|number| (id(number), member(number, true)))
            .collect();
        let first = Configuration {
            members,
            ..Configuration::default()
        };
        self.change(number, Change::Begin(first)).unwrap()
    }

    pub(super) fn change(
        &mut self,
        number: u64,
        change: Change,
    ) -> Result<Position, crate::raft::ChangeRefused> {
        let position = self.node(number).core.change(change)?;
        self.poll(id(number));
        Ok(position)
    }

    /// The same if this node has met all of them and may.
    pub(super) fn try_begin_configuration(&mut self, number: u64, voters: u64) -> bool {
        let met = self.node(number).core.met().len() as u64;
        let opened = met + 1 == voters;
        opened && {
            let members = (1..=voters)
                .map(|number| (id(number), member(number, true)))
                .collect();
            let first = Configuration {
                members,
                ..Configuration::default()
            };
            self.change(number, Change::Begin(first)).is_ok()
        }
    }

    /// Begins to feed a node, if the leader may.
    pub(super) fn try_add_learner(&mut self, leader: u64, number: u64) -> bool {
        let member = member(number, false);
        let change = Change::AddLearner {
            name: member.name,
            address: member.address,
        };
        let begun = self.change(leader, change).is_ok();
        if begun {
            self.connect(id(leader), id(number));
        }
        begun
    }

    pub(super) fn add_learner(&mut self, leader: u64, number: u64) {
        assert!(
            self.try_add_learner(leader, number),
            "node {leader} may add node {number}"
        );
    }

    pub(super) fn hard_state_on_disk(&self, number: u64) -> HardState {
        self.nodes[&id(number)].disk.hard_state
    }
}

fn write(disk: &mut Recovered, io: &Io) {
    if let Some(hard_state) = io.hard_state {
        disk.hard_state = hard_state;
    }
    if let Some(position) = io.reset {
        assert!(
            disk.snapshot.last >= position,
            "a log is reset to a snapshot that is on disk"
        );
        (disk.base, disk.entries) = (position, Vec::new());
    }
    if let Some(from) = io.truncate_from {
        disk.entries.truncate((from - disk.base.index) as usize - 1);
    }
    disk.entries.extend(io.entries.iter().cloned());
    for (entry, index) in disk.entries.iter().zip(disk.base.index + 1..) {
        assert_eq!(entry.index, index, "the disk was asked to write a log with a gap");
    }
    if io.trusted {
        disk.suspect = None;
    }
}
