//! What an append costs: encoding alone, and with a real write and `fdatasync`.
//!
//! Appends go the way they go in a node: handed to the log's thread, written, synced, reported back, with the next
//! segment prepared in the background. One writer waits for each group, so the time is that of one group, and nothing
//! gathers meanwhile. The disk is the one under `target/tmp`; a memory file system there would measure nothing.
//!
//! `cargo bench -p server --bench wal_append`
//!
//! Instructions of encoding one group, the first into an empty buffer; `cargo bench` prints the path of the program:
//!
//! `valgrind --tool=callgrind --toggle-collect='*FrameBuffer::push' --toggle-collect='*FrameBuffer::seal'
//! target/release/deps/wal_append-… --test wal_encode/100x`
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use server::disk::OsDisk;
use server::raft::{Entry, HardState, Io, Position};
use server::wal::frame::{FrameBuffer, Place};
use server::wal::{Wal, WalOptions, WalThread};

const ENTRY_BYTES: usize = 256;

/// A run of requests that never ends, each with `batch` entries.
struct Requests {
    batch: u64,
    seq: u64,
    payload: Bytes,
}

impl Requests {
    fn new(batch: u64) -> Requests {
        Requests {
            batch,
            seq: 0,
            payload: Bytes::from(vec![0x5A; ENTRY_BYTES]),
        }
    }

    fn next(&mut self) -> Io {
        let first = self.seq * self.batch + 1;
        self.seq += 1;
        let entry = |index| Entry {
            term: 1,
            index,
            kind: Default::default(),
            payload: self.payload.clone(),
        };
        Io {
            seq: self.seq,
            hard_state: (self.seq == 1).then_some(HardState { term: 1, vote: None }),
            truncate_from: None,
            entries: (first..first + self.batch).map(entry).collect(),
            ..Io::default()
        }
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal_encode");
    for batch in [1, 100] {
        let io = Requests::new(batch).next();
        let mut frame = FrameBuffer::default();
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("{batch}x{ENTRY_BYTES}B"), |bencher| {
            bencher.iter(|| {
                frame.clear();
                frame.push(&io);
                let (header, bytes) = frame.seal(Place {
                    segment: 1,
                    lsn: 1,
                    durable_lsn: 0,
                    prev_crc: 0,
                    end: Position {
                        term: 1,
                        index: batch,
                    },
                    hard_state: HardState::default(),
                    suspect: None,
                    align_bytes: 4096,
                });
                (header.crc, bytes.len())
            });
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut group = criterion.benchmark_group("wal_append");
    // Logs only grow: this keeps each below about a gigabyte.
    group.warm_up_time(Duration::from_secs(1));
    group.measurement_time(Duration::from_secs(3));
    for align_bytes in [4096, 512] {
        for batch in [1, 100] {
            let mut requests = Requests::new(batch);
            let (reports, reported) = channel();
            let wal = WalThread::start(fresh(root.path(), align_bytes), move |outcome| {
                reports.send(outcome).unwrap();
            });
            group.throughput(Throughput::Elements(batch));
            group.bench_function(format!("{batch}x{ENTRY_BYTES}B/align{align_bytes}"), |bencher| {
                bencher.iter_batched(
                    || requests.next(),
                    |io| {
                        wal.submit(io);
                        reported.recv().unwrap().unwrap()
                    },
                    BatchSize::PerIteration,
                );
            });
            wal.shutdown();
        }
    }
    group.finish();
}

/// An empty log in a directory of its own; the directory of the one before is removed, since logs only grow.
fn fresh(root: &Path, align_bytes: u32) -> Wal {
    let dir = root.join("wal");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    let mut options = WalOptions::new("bench");
    options.align_bytes = align_bytes;
    let (wal, _, _) = Wal::open(Arc::new(OsDisk), &dir, options, Default::default()).unwrap();
    wal
}

criterion_group!(benches, encode, append);
criterion_main!(benches);
