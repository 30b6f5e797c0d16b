//! Our core against the `raft` crate, TiKV's, on the same work: entries of 256 bytes, 1 and 64 at a time, proposed to the
//! leader of three nodes in one thread, in memory, with a network and disks that answer at once.
//!
//! * `commit_on_leader`: until the leader has applied them. The followers hear of it with what they are sent next (theirs
//!   with `skip_bcast_commit`, ours always).
//! * `commit_on_all`: until all three have applied them. The followers are told at once, each side's way: theirs sends
//!   empty appends, ours a heartbeat.
//! * `read_index`: a read round of the leader.
//!
//! Same rules for both: pre-vote and check-quorum on, appends of 256 KiB at most, 64 of them under way, payloads that are
//! cloned without a copy, and a node with messages takes all of them before it is asked what to do. Theirs goes the way
//! its documentation says: `step` what came in, then handle each `Ready` (send, apply, append, hard state, the rest of the
//! messages, `advance`, the `LightReady`), with its `MemStorage` and a logger that drops everything. A batch goes in as one
//! `MsgPropose`, which spares it an append per entry. What is not the same: our core keeps its log itself, so handing
//! entries to the disk costs nothing here, where theirs has them copied to the storage; that is how each is used.
//!
//! `cargo bench -p server --bench against_raft_rs`
//!
//! Instructions of one unit of the work, the first of a new leader; `cargo bench` prints the path of the program:
//!
//! `valgrind --tool=callgrind --toggle-collect='*Cluster>::work' target/release/deps/against_raft_rs-… --test read_index/ours`

mod support;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use raft::eraftpb::{Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole};
use support::trio::{PAYLOAD, Trio, Work};
use support::{Cluster, measure};

/// Three nodes of the other side, numbered from 1; the first leads.
struct Theirs {
    work: Work,
    nodes: [RawNode<MemStorage>; 3],
    inboxes: [Vec<Message>; 3],
    applied: u64,
    reads_asked: u64,
    reads_confirmed: u64,
}

impl Theirs {
    fn elected(work: Work) -> Theirs {
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = |id| {
            let config = Config {
                id,
                election_tick: 15,
                heartbeat_tick: 1,
                max_size_per_msg: 256 << 10,
                max_inflight_msgs: 64,
                check_quorum: true,
                pre_vote: true,
                skip_bcast_commit: matches!(work, Work::Propose(_)),
                ..Config::default()
            };
            let storage = MemStorage::new_with_conf_state((vec![1, 2, 3], vec![]));
            RawNode::new(&config, storage, &logger).expect("the configuration is sensible")
        };
        let mut theirs = Theirs {
            work,
            nodes: [node(1), node(2), node(3)],
            inboxes: Default::default(),
            applied: 0,
            reads_asked: 0,
            reads_confirmed: 0,
        };
        theirs.nodes[0].campaign().expect("a follower may campaign");
        theirs.settle();
        assert_eq!(theirs.nodes[0].raft.state, StateRole::Leader);
        theirs.heartbeat();
        theirs
    }

    fn propose(&mut self, proposals: u64) {
        let entry = || Entry {
            data: PAYLOAD,
            ..Entry::default()
        };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = 1;
        message.entries = (0..proposals).map(|_| entry()).collect::<Vec<_>>().into();
        self.nodes[0].step(message).expect("the first node leads");
        self.settle();
    }

    fn read(&mut self) {
        self.reads_asked += 1;
        self.nodes[0].read_index(self.reads_asked.to_be_bytes().to_vec());
        self.settle();
    }

    fn heartbeat(&mut self) {
        self.nodes[0].ping();
        self.settle();
    }

    /// Something happened to the first one: lets every message arrive and every disk finish.
    fn settle(&mut self) {
        self.turn(0);
        while let Some(to) = self.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            let mut arrived = std::mem::take(&mut self.inboxes[to]);
            for message in arrived.drain(..) {
                self.nodes[to].step(message).expect("no node breaks the protocol");
            }
            self.inboxes[to] = arrived;
            self.turn(to);
        }
    }

    fn turn(&mut self, at: usize) {
        while self.nodes[at].has_ready() {
            let mut ready = self.nodes[at].ready();
            self.send(ready.take_messages());
            self.apply(ready.take_committed_entries());
            self.reads_confirmed += black_box(ready.take_read_states()).len() as u64;
            let mut storage = self.nodes[at].store().wl();
            if !ready.entries().is_empty() {
                storage
                    .append(ready.entries())
                    .expect("the entries join what is there");
            }
            if let Some(state) = ready.hs() {
                storage.set_hardstate(state.clone());
            }
            drop(storage);
            self.send(ready.take_persisted_messages());
            let mut light = self.nodes[at].advance(ready);
            if let Some(commit) = light.commit_index() {
                self.nodes[at].store().wl().mut_hard_state().commit = commit;
            }
            self.send(light.take_messages());
            self.apply(light.take_committed_entries());
            self.nodes[at].advance_apply();
        }
    }

    fn send(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.inboxes[message.to as usize - 1].push(message);
        }
    }

    fn apply(&mut self, entries: Vec<Entry>) {
        self.applied += black_box(entries).len() as u64;
    }
}

impl Cluster for Theirs {
    fn entries(&self) -> u64 {
        self.work.entries()
    }

    #[inline(never)]
    fn work(&mut self) {
        match self.work {
            Work::Propose(batch) | Work::ProposeToAll(batch) => self.propose(batch),
            Work::Read(at) => {
                assert_eq!(at, 0, "the leader is asked");
                self.read();
            }
        }
    }

    fn check(&mut self) {
        let expected = 3 * self.nodes[0].raft.raft_log.last_index();
        if let Work::Propose(_) = self.work {
            self.heartbeat();
        }
        assert_eq!(self.applied, expected, "each node applies each entry once");
        assert_eq!(self.reads_confirmed, self.reads_asked, "every read is confirmed");
    }
}

fn against(criterion: &mut Criterion, name: &str, work: Work) {
    let mut group = criterion.benchmark_group(format!("against_raft_rs/{name}"));
    group.throughput(Throughput::Elements(work.entries().max(1)));
    group.bench_function("ours", |bencher| measure(bencher, || Trio::elected(work)));
    group.bench_function("raft_rs", |bencher| measure(bencher, || Theirs::elected(work)));
    group.finish();
}

fn both(criterion: &mut Criterion) {
    for batch in [1, 64] {
        against(
            criterion,
            &format!("commit_on_leader_{batch}"),
            Work::Propose(batch),
        );
        against(
            criterion,
            &format!("commit_on_all_{batch}"),
            Work::ProposeToAll(batch),
        );
    }
    against(criterion, "read_index", Work::Read(0));
}

criterion_group!(benches, both);
criterion_main!(benches);
