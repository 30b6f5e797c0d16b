//! What the protocol itself costs: three cores in memory, from a proposal to its commit on all of them, with a network
//! and disks that answer at once. Proposals of 256 bytes, one at a time and 64 in a turn.
//!
//! `cargo bench -p server --bench core_step`

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use server::raft::{Config, Core, Message, NodeId, Output, Recovered, RoleKind};

const PAYLOAD: Bytes = Bytes::from_static(&[0x5a; 256]);

/// The log stays in memory, so a cluster is replaced after so many entries.
const ENTRIES_MAX: u64 = 100_000;

/// Three cores; the first leads.
struct Trio {
    cores: [Core; 3],
    output: Output,
    wire: VecDeque<(usize, usize, Message)>,
    applied: u64,
}

impl Trio {
    fn elected() -> Trio {
        let core = |number: u64| Core::new(Config::new(NodeId(number), 3, number + 1), Recovered::default());
        let mut trio = Trio {
            cores: [core(0), core(1), core(2)],
            output: Output::default(),
            wire: VecDeque::new(),
            applied: 0,
        };
        for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            trio.cores[from].peer_up(NodeId(to), 1);
        }
        while trio.cores[0].role() != RoleKind::Leader {
            trio.cores[0].tick();
            trio.settle();
        }
        trio
    }

    /// Proposes so many commands in one turn and returns when nothing is left to do: the leader has applied them all, and
    /// the followers all but those whose commit they hear of with the next step.
    fn step(&mut self, proposals: u64) {
        for _ in 0..proposals {
            let position = self.cores[0].propose(PAYLOAD);
            black_box(position.expect("the first core leads and nothing waits"));
        }
        self.settle();
    }

    /// Lets every message arrive and every disk finish.
    fn settle(&mut self) {
        (0..3).for_each(|at| self.turn(at));
        while let Some((from, to, message)) = self.wire.pop_front() {
            let from = NodeId(from as u64);
            match message.is_response() {
                true => self.cores[to].receive_response(from, 1, message),
                false => self.cores[to]
                    .receive_request(from, message)
                    .expect("no core breaks the protocol"),
            }
            self.turn(to);
        }
    }

    fn turn(&mut self, at: usize) {
        loop {
            self.output.clear();
            self.cores[at].poll(&mut self.output);
            let sent = self.output.send.drain(..);
            self.wire
                .extend(sent.map(|(to, message)| (at, to.0 as usize, message)));
            self.applied += self.output.apply.len() as u64;
            match self.output.io.take() {
                Some(io) => self.cores[at].durable(io.seq),
                None => return,
            }
        }
    }

    /// A heartbeat tells the followers of the last commit.
    fn check(&mut self) {
        let expected = self.cores[0].last().index;
        while self.applied < 3 * expected {
            self.cores[0].tick();
            self.settle();
        }
        assert_eq!(self.applied, 3 * expected, "each core applies each entry once");
    }
}

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core_step");
    for batch in [1, 64] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("batch_{batch}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let rounds = left.min(ENTRIES_MAX / batch);
                    let mut trio = Trio::elected();
                    let begin = Instant::now();
                    (0..rounds).for_each(|_| trio.step(batch));
                    spent += begin.elapsed();
                    trio.check();
                    left -= rounds;
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steps);
criterion_main!(benches);
