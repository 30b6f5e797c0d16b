//! A cluster of cores with a network and disks that do exactly what a test says, in one thread.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::raft::{
    Config, Core, Entry, Epoch, HardState, Index, Io, Message, NodeId, Output, Recovered, RoleKind, Term,
};

/// A node, its disk, and what it told the outside.
pub(super) struct TestNode {
    pub(super) core: Core,
    disk: Recovered,
    /// Requests that a crash would lose.
    pub(super) unsynced: VecDeque<Io>,
    pub(super) applied: Vec<Entry>,
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

pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<NodeId, TestNode>,
    pub(super) wire: Vec<Flight>,
    /// Connection of each directed pair; cut when absent.
    epochs: BTreeMap<(NodeId, NodeId), Epoch>,
    next_epoch: Epoch,
    seed: u64,
    /// One entry in each append and few under way: what usually arrives together arrives in parts.
    narrow: bool,
}

pub(super) fn id(number: u64) -> NodeId {
    NodeId(number)
}

impl Cluster {
    pub(super) fn new(voters: u64, seed: u64) -> Cluster {
        Cluster::build(voters, seed, false)
    }

    /// A cluster that sends one entry at a time, so that a follower often holds a part of what its leader has.
    pub(super) fn narrow(voters: u64, seed: u64) -> Cluster {
        Cluster::build(voters, seed, true)
    }

    fn build(voters: u64, seed: u64, narrow: bool) -> Cluster {
        let mut cluster = Cluster {
            nodes: BTreeMap::new(),
            wire: Vec::new(),
            epochs: BTreeMap::new(),
            next_epoch: 1,
            seed,
            narrow,
        };
        for number in 1..=voters {
            cluster.boot(id(number), voters as usize, Recovered::default());
        }
        for from in 1..=voters {
            for to in (1..=voters).filter(|to| *to != from) {
                cluster.connect(id(from), id(to));
            }
        }
        cluster
    }

    fn boot(&mut self, node: NodeId, voters: usize, disk: Recovered) {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(node.0);
        let mut config = Config::new(node, voters, self.seed);
        if self.narrow {
            config.append_bytes_max = 1;
            config.append_messages_max = 3;
        }
        let core = Core::new(config, disk.clone());
        let fresh = TestNode {
            core,
            disk,
            unsynced: VecDeque::new(),
            applied: Vec::new(),
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
        let epoch = self.next_epoch;
        self.next_epoch += 1;
        self.epochs.insert((from, to), epoch);
        self.nodes.get_mut(&from).unwrap().core.peer_up(to, epoch);
        self.poll(from);
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
        let voters = self.nodes.len();
        let disk = self.nodes.remove(&node).unwrap().disk;
        self.boot(node, voters, disk);
        self.rejoin(node);
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
            core.receive_request(flight.from, flight.message);
        }
        self.poll(flight.to);
    }

    /// Hands a request from `from` to `to` that is not on the wire.
    pub(super) fn request(&mut self, from: u64, to: u64, message: Message) {
        self.node(to).core.receive_request(id(from), message);
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
            disk.snapshot.last == position,
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
