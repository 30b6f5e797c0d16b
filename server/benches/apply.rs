//! What the state machine costs: puts of committed entries, values of 256 bytes, and gets, on keys drawn at random out of
//! 1,000 and out of 1,000,000 that are all there.
//!
//! `cargo bench -p server --bench apply`
//!
//! Instructions of one put (of one get: `'*Store::get'`); `cargo bench` prints the path of the program:
//!
//! `valgrind --tool=callgrind --toggle-collect='*Store::apply' target/release/deps/apply-… --test put/1000_keys`

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use proto::storage::{Command, Put, command::Kind};
use server::kv::{Store, Versioned};
use server::raft::Entry;

// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE: &[u8] = &[0x5a; 256];

/// So many operations are prepared at a time, outside of what is measured.
const PREPARED: u64 = 1000;

struct Load {
    store: Store,
    keys: u64,
    drawn: u64,
}

impl Load {
    fn new(keys: u64) -> Load {
        let version = |index| Versioned {
            value: Some(Bytes::copy_from_slice(VALUE)),
            index,
        };
        let filled = (0..keys).map(|number| (name(number), version(number + 1)));
        Load {
            store: Store::restore(keys, filled, []),
            keys,
            drawn: 0,
        }
    }

    /// A key at random, the same sequence every time: the steps of SplitMix64.
    fn key(&mut self) -> String {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut drawn = self.drawn;
        drawn = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        drawn = (drawn ^ (drawn >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        name((drawn ^ (drawn >> 31)) % self.keys)
    }

    fn put(&mut self, index: u64) -> Entry {
        let put = Put {
            key: self.key(),
            value: Bytes::from_static(VALUE),
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

    fn puts(&mut self, count: u64) -> Duration {
        let first = self.store.applied() + 1;
        let entries: Vec<Entry> = (first..first + count).map(|index| self.put(index)).collect();
        let begin = Instant::now();
        for entry in &entries {
            black_box(self.store.apply(black_box(entry)));
        }
        begin.elapsed()
    }

    fn gets(&mut self, count: u64) -> Duration {
        let keys: Vec<String> = (0..count).map(|_| self.key()).collect();
        let begin = Instant::now();
        for key in &keys {
            black_box(self.store.get(black_box(key)));
        }
        begin.elapsed()
    }

    /// Carries out so many operations, prepared some at a time.
    fn carry_out(&mut self, mut count: u64, some: impl Fn(&mut Load, u64) -> Duration) -> Duration {
        let mut spent = Duration::ZERO;
        while count > 0 {
            let now = count.min(PREPARED);
            spent += some(self, now);
            count -= now;
        }
        spent
    }
}

fn name(number: u64) -> String {
    format!("user/{number:016}")
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    group.throughput(Throughput::Elements(1));
    for keys in [1_000, 1_000_000] {
        let mut load = Load::new(keys);
        group.bench_function(format!("put/{keys}_keys"), |bencher| {
            bencher.iter_custom(|count| load.carry_out(count, Load::puts));
        });
        group.bench_function(format!("get/{keys}_keys"), |bencher| {
            bencher.iter_custom(|count| load.carry_out(count, Load::gets));
        });
        assert_eq!(load.store.keys(), keys, "the puts hit keys that were there");
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
