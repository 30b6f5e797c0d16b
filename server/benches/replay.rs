//! What a node does with its log before it can serve: reading it back, and applying it.
//!
//! A log of 200,000 puts with values of 256 bytes, 64 to a frame, laid out as a node's is, on the disk under `target/tmp`;
//! the keys are drawn at random out of 100,000.
//!
//! * `open`: `Wal::open`, which reads every byte, checks it and decodes the entries;
//! * `open_and_apply`: the same, and every entry applied to an empty key-value store.
//!
//! The elements a second that it prints are entries. Giving the memory back is not measured. The files are in the page
//! cache, but for the last two segments of 16 MiB: opening syncs these and asks the system to read them from the device, as
//! it does at every start. The allocator is the server's.
//!
//! `cargo bench -p server --bench replay`; with `-- --test` the log is a small one.
//!
//! Instructions of one open of the small log; `cargo bench` prints the path of the program:
//!
//! `valgrind --tool=callgrind --toggle-collect='*Wal::open' target/release/deps/replay-… --test replay/open$`
#![allow(missing_docs, reason = "criterion's macros write undocumented functions")]
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use proto::storage::{Command, Put, command::Kind};
use server::disk::OsDisk;
use server::kv::Store;
use server::raft::{Entry, HardState, Io, Recovered};
use server::wal::{Wal, WalOptions};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ENTRIES: u64 = 200_000;
/// In test mode, where it only has to work.
const ENTRIES_TESTED: u64 = 2_000;
const ENTRIES_PER_FRAME: u64 = 64;
const KEYS: u64 = 100_000;
const VALUE: &[u8] = &[0x5a; 256];

/// The put with this index. Its key is drawn by the steps of SplitMix64: the same every time.
fn put(index: u64) -> Entry {
    let mut drawn = index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let put = Put {
        key: format!("user/{:016}", (drawn ^ (drawn >> 31)) % KEYS),
        value: VALUE.into(),
    };
    let command = Command {
        kind: Some(Kind::Put(put)),
        stamp: None,
    };
    Entry {
        term: 1,
        index,
        payload: command.encode_to_vec().into(),
        ..Entry::default()
    }
}

fn open(dir: &Path) -> (Wal, Recovered) {
    let options = WalOptions::new("bench");
    let (wal, recovered, info) = Wal::open(Arc::new(OsDisk), dir, options, Default::default()).unwrap();
    assert!(info.cut.is_none() && info.damage.is_none(), "{info:?}");
    (wal, recovered)
}

/// Writes the log, every frame synced as in a node.
fn write(dir: &Path, entries: u64) {
    let (mut wal, _) = open(dir);
    let firsts = (1..=entries).step_by(ENTRIES_PER_FRAME as usize);
    for (seq, first) in (1..).zip(firsts) {
        let behind = (first + ENTRIES_PER_FRAME).min(entries + 1);
        let io = Io {
            seq,
            hard_state: (seq == 1).then_some(HardState { term: 1, vote: None }),
            entries: (first..behind).map(put).collect(),
            ..Io::default()
        };
        wal.stage(&io).unwrap();
        wal.commit().unwrap();
    }
}

/// The time of so many rounds of `work`, without that of dropping what it returns.
fn timed<T>(rounds: u64, mut work: impl FnMut() -> T) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let began = Instant::now();
        let kept = work();
        spent += began.elapsed();
        drop(kept);
    }
    spent
}

fn replay(criterion: &mut Criterion) {
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let dir = root.path().join("wal");
    let entries = match std::env::args().any(|argument| argument == "--test") {
        true => ENTRIES_TESTED,
        false => ENTRIES,
    };
    write(&dir, entries);
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(20);
    group.throughput(Throughput::Elements(entries));
    group.bench_function("open", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(rounds, || {
                let (wal, recovered) = open(&dir);
                assert_eq!(recovered.entries.len() as u64, entries);
                (wal, recovered)
            })
        });
    });
    group.bench_function("open_and_apply", |bencher| {
        bencher.iter_custom(|rounds| {
            timed(rounds, || {
                let (wal, recovered) = open(&dir);
                let mut store = Store::default();
                for entry in &recovered.entries {
                    store.apply(entry);
                }
                assert_eq!(store.applied(), entries);
                (wal, recovered, store)
            })
        });
    });
    group.finish();
}

criterion_group!(benches, replay);
criterion_main!(benches);
