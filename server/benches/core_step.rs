//! What the protocol itself costs: three cores in memory, with a network and disks that answer at once.
//!
//! * `commit`: proposals of 256 bytes, 1, 64 and 1024 in a turn, from the proposal until the leader has applied them.
//! * `commit_on_all`: the same until all three have applied them, of which a heartbeat tells the followers.
//! * `read_index`: a read round, asked for on the leader or on a follower, until it is confirmed there.
//!
//! `cargo bench -p server --bench core_step`
//!
//! Instructions of one unit of the work, the first of a new leader; `cargo bench` prints the path of the program:
//!
//! `valgrind --tool=callgrind --toggle-collect='*Cluster>::work' target/release/deps/core_step-… --test 'commit/batch_64$'`

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use support::measure;
use support::trio::{Trio, Work};

fn commit(criterion: &mut Criterion, name: &str, work: impl Fn(u64) -> Work) {
    let mut group = criterion.benchmark_group(format!("core_step/{name}"));
    for batch in [1, 64, 1024] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("batch_{batch}"), |bencher| {
            measure(bencher, || Trio::elected(work(batch)));
        });
    }
    group.finish();
}

fn commits(criterion: &mut Criterion) {
    commit(criterion, "commit", Work::Propose);
    commit(criterion, "commit_on_all", Work::ProposeToAll);
}

fn read_index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core_step/read_index");
    for (name, at) in [("leader", 0), ("follower", 1)] {
        group.bench_function(name, |bencher| {
            measure(bencher, || Trio::elected(Work::Read(at)));
        });
    }
    group.finish();
}

criterion_group!(benches, commits, read_index);
criterion_main!(benches);
