//! Chains of toxics on a clock that only the test moves.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::chain::{Chain, Ready};
use super::stage::{Ending, LATENCY_CHUNKS_MAX, Origin, Placed, What};
use super::{Stream, Toxic, ToxicKind};

const LATENCY_100: ToxicKind = ToxicKind::Latency {
    latency_ms: 100,
    jitter_ms: 0,
};
const SILENCE: ToxicKind = ToxicKind::Timeout { timeout_ms: 0 };

/// What came out at one moment, in milliseconds since the start.
#[derive(Debug, PartialEq, Eq)]
enum Out {
    Bytes(u64, Vec<u8>),
    End(u64, Ending),
}

struct Bench {
    start: Instant,
    chain: Chain,
    placed: Vec<Arc<Placed>>,
    ids: u64,
    out: Vec<Out>,
}

impl Bench {
    fn new(kinds: &[ToxicKind]) -> Self {
        Self::seeded(kinds, 1.0, 1, 0)
    }

    fn seeded(kinds: &[ToxicKind], toxicity: f32, seed: u64, connection: u64) -> Self {
        let chain = Chain::new(Origin {
            seed,
            proxy: 7,
            connection,
        });
        let mut bench = Self {
            start: Instant::now(),
            chain,
            placed: Vec::new(),
            ids: 0,
            out: Vec::new(),
        };
        for kind in kinds {
            bench.add(*kind, toxicity);
        }
        bench.apply(0);
        bench
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn add(&mut self, kind: ToxicKind, toxicity: f32) {
        self.ids += 1;
        let name = format!("t{}", self.ids);
        let toxic = Toxic::new(Stream::Upstream, kind)
            .named(name)
            .with_toxicity(toxicity);
        self.placed.push(Arc::new(Placed {
            toxic,
            lineage: self.ids,
            generation: self.ids,
        }));
    }

    fn change(&mut self, index: usize, kind: ToxicKind, ms: u64) {
        self.ids += 1;
        let old = &self.placed[index];
        let toxic = Toxic {
            kind,
            ..old.toxic.clone()
        };
        self.placed[index] = Arc::new(Placed {
            toxic,
            lineage: old.lineage,
            generation: self.ids,
        });
        self.apply(ms);
    }

    fn remove(&mut self, index: usize, ms: u64) {
        self.placed.remove(index);
        self.apply(ms);
    }

    fn apply(&mut self, ms: u64) {
        let now = self.at(ms);
        self.chain.apply(self.placed.iter(), now);
        self.take(ms);
    }

    fn data(&mut self, ms: u64, bytes: &[u8]) {
        self.chain.push(What::Data(bytes.to_vec()), self.at(ms));
        self.take(ms);
    }

    fn end(&mut self, ms: u64) {
        self.chain.push(What::End(Ending::Eof), self.at(ms));
        self.take(ms);
    }

    /// Writes out all that is ready at that moment; returns the next one, in milliseconds rounded up.
    fn take(&mut self, ms: u64) -> Option<u64> {
        loop {
            let wake = self.chain.step(self.at(ms));
            let len = match self.chain.ready() {
                Some(Ready::Bytes(bytes)) => {
                    self.out.push(Out::Bytes(ms, bytes.to_vec()));
                    bytes.len()
                }
                Some(Ready::End(ending)) => {
                    self.out.push(Out::End(ms, ending));
                    return None;
                }
                None => {
                    return wake.map(|at| (at - self.start).as_micros().div_ceil(1000) as u64);
                }
            };
            self.chain.written(len);
        }
    }

    /// Lets time pass until nothing more happens by itself, or an end has come out.
    fn run(&mut self, from_ms: u64) -> u64 {
        let mut now = from_ms;
        while let Some(next) = self.take(now) {
            assert!(next > now, "a chain must not ask to be woken in the past");
            now = next;
        }
        now
    }

    fn bytes(&self) -> Vec<u8> {
        let bytes = self.out.iter().filter_map(|out| match out {
            Out::Bytes(_, bytes) => Some(bytes.as_slice()),
            Out::End(..) => None,
        });
        bytes.collect::<Vec<_>>().concat()
    }

    fn moments(&self) -> Vec<u64> {
        self.out
            .iter()
            .map(|out| match out {
                Out::Bytes(ms, _) | Out::End(ms, _) => *ms,
            })
            .collect()
    }
}

#[test]
fn without_toxics_bytes_may_bypass_the_chain() {
    let mut bench = Bench::new(&[]);
    assert!(bench.chain.is_plain());
    bench.data(3, b"x");
    bench.end(4);
    assert_eq!(
        bench.out,
        [Out::Bytes(3, b"x".to_vec()), Out::End(4, Ending::Eof)]
    );
}

#[test]
fn latency_delays_by_age_and_keeps_what_is_in_flight() {
    let mut bench = Bench::new(&[LATENCY_100]);
    for ms in 0..20 {
        bench.data(ms * 5, &[ms as u8]);
    }
    bench.end(99);
    bench.run(99);
    let expected: Vec<_> = (0..20).map(|ms| 100 + ms * 5).chain([199]).collect();
    assert_eq!(
        bench.moments(),
        expected,
        "each chunk takes 100 ms, also when twenty are under way"
    );
}

#[test]
fn two_latencies_add_up() {
    let mut bench = Bench::new(&[LATENCY_100, LATENCY_100]);
    bench.data(0, b"x");
    bench.run(0);
    assert_eq!(bench.moments(), [200]);
}

#[test]
fn jitter_stays_in_its_range_keeps_the_order_and_comes_from_the_seed() {
    let moments = |seed, connection| {
        let kind = ToxicKind::Latency {
            latency_ms: 50,
            jitter_ms: 20,
        };
        let mut bench = Bench::seeded(&[kind], 1.0, seed, connection);
        for at in 0..50_u64 {
            let ms = at * 1000;
            bench.data(ms, &[at as u8]);
            bench.run(ms);
        }
        assert_eq!(bench.bytes(), (0..50).collect::<Vec<u8>>());
        bench.moments()
    };
    let first = moments(1, 0);
    assert!(
        first.iter().all(|ms| (30..=70).contains(&(ms % 1000))),
        "{first:?}"
    );
    assert_eq!(first, moments(1, 0), "the same seed draws the same");
    assert_ne!(first, moments(2, 0), "another seed draws differently");
    assert_ne!(first, moments(1, 1), "and so does another connection");
}

#[test]
fn jitter_above_the_latency_never_goes_back_in_time() {
    let mut bench = Bench::new(&[ToxicKind::Latency {
        latency_ms: 1,
        jitter_ms: 10,
    }]);
    for at in 0..100 {
        bench.data(at * 100, b"x");
        bench.run(at * 100);
    }
    assert!(bench.moments().iter().all(|ms| ms % 100 <= 11));
}

#[test]
fn a_jam_holds_everything_and_bursts_in_order_when_it_is_removed() {
    let mut bench = Bench::new(&[ToxicKind::Latency {
        latency_ms: 3_600_000,
        jitter_ms: 0,
    }]);
    bench.data(0, b"ab");
    bench.data(10, b"c");
    bench.end(20);
    assert_eq!(bench.out, []);
    assert_eq!(bench.chain.held_bytes(), 3);
    bench.remove(0, 5000);
    assert_eq!(
        bench.out,
        [
            Out::Bytes(5000, b"ab".to_vec()),
            Out::Bytes(5000, b"c".to_vec()),
            Out::End(5000, Ending::Eof)
        ]
    );
    assert_eq!((bench.chain.held_bytes(), bench.chain.dropped_bytes()), (0, 0));
}

#[test]
fn a_full_jam_stops_reading() {
    let mut bench = Bench::new(&[ToxicKind::Latency {
        latency_ms: 3_600_000,
        jitter_ms: 0,
    }]);
    for _ in 0..LATENCY_CHUNKS_MAX {
        assert!(bench.chain.has_room());
        bench.data(0, b"x");
    }
    assert!(!bench.chain.has_room());
}

#[test]
fn a_changed_latency_sends_the_chunk_in_hand_and_delays_the_rest_anew() {
    let mut bench = Bench::new(&[ToxicKind::Latency {
        latency_ms: 3_600_000,
        jitter_ms: 0,
    }]);
    bench.data(0, b"a");
    bench.data(0, b"b");
    bench.change(0, LATENCY_100, 50);
    bench.run(50);
    assert_eq!(
        bench.out,
        [Out::Bytes(50, b"a".to_vec()), Out::Bytes(100, b"b".to_vec())]
    );
}

#[test]
fn bandwidth_takes_the_time_its_rate_says() {
    let mut bench = Bench::new(&[ToxicKind::Bandwidth { rate_kb_per_s: 10 }]);
    bench.data(0, &[1; 8000]);
    bench.end(0);
    let done = bench.run(0);
    assert!(
        (800..=801).contains(&done),
        "8000 bytes at 10 KB/s took {done} ms"
    );
    assert_eq!(
        bench.moments()[..3],
        [100, 200, 300],
        "a big chunk trickles in slices of 100 ms"
    );
    assert_eq!(bench.bytes().len(), 8000);
}

#[test]
fn bandwidth_carries_the_clocks_error_over() {
    let mut bench = Bench::new(&[ToxicKind::Bandwidth { rate_kb_per_s: 100 }]);
    let mut now = 0;
    // Each chunk owes 10 ms and the clock is always 3 ms late.
    for _ in 0..100 {
        bench.data(now, &[0; 1000]);
        while let Some(next) = bench.take(now) {
            now = next + 3;
        }
    }
    assert!((997..=1010).contains(&now), "100 kB at 100 KB/s took {now} ms");
}

#[test]
fn bandwidth_of_nothing_blocks_without_losing() {
    let mut bench = Bench::new(&[ToxicKind::Bandwidth { rate_kb_per_s: 0 }]);
    bench.data(0, b"abc");
    assert_eq!(bench.take(1_000_000), None);
    assert_eq!(bench.chain.held_bytes(), 3);
    bench.remove(0, 1_000_001);
    assert_eq!(bench.bytes(), b"abc");
}

#[test]
fn slow_close_delays_only_the_end() {
    let mut bench = Bench::new(&[ToxicKind::SlowClose { delay_ms: 300 }]);
    bench.data(0, b"x");
    bench.end(10);
    bench.run(10);
    assert_eq!(
        bench.out,
        [Out::Bytes(0, b"x".to_vec()), Out::End(310, Ending::Eof)]
    );
}

#[test]
fn timeout_drops_everything_and_then_closes() {
    let mut bench = Bench::new(&[ToxicKind::Timeout { timeout_ms: 250 }]);
    bench.data(0, b"lost");
    bench.data(200, b"too");
    bench.run(200);
    assert_eq!(
        bench.out,
        [Out::End(250, Ending::Close)],
        "data does not put the close off"
    );
    assert_eq!((bench.chain.held_bytes(), bench.chain.dropped_bytes()), (0, 7));
}

#[test]
fn silence_hides_the_end_and_closes_when_it_is_removed() {
    let mut bench = Bench::new(&[SILENCE]);
    bench.data(0, b"lost");
    bench.end(10);
    assert_eq!(bench.take(3_600_000), None);
    assert_eq!(bench.out, []);
    bench.remove(0, 3_600_001);
    assert_eq!(bench.out, [Out::End(3_600_001, Ending::Close)]);
}

#[test]
fn reset_waits_for_bytes_and_then_for_its_time() {
    let mut bench = Bench::new(&[ToxicKind::ResetPeer { timeout_ms: 40 }]);
    assert_eq!(bench.take(1000), None);
    bench.data(2000, b"lost");
    bench.run(2000);
    assert_eq!(bench.out, [Out::End(2040, Ending::Reset)]);
    assert_eq!(bench.chain.dropped_bytes(), 4);
}

#[test]
fn slicer_keeps_every_byte_and_its_sizes() {
    for (average, variation, len) in [
        (10, 3, 1000),
        (1, 0, 77),
        (0, 0, 5),
        (100, 200, 5000),
        (5, 1000, 4),
    ] {
        let kind = ToxicKind::Slicer {
            average_size_bytes: average,
            size_variation_bytes: variation,
            delay_us: 0,
        };
        let mut bench = Bench::new(&[kind]);
        let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
        bench.data(0, &bytes);
        bench.run(0);
        assert_eq!(bench.bytes(), bytes);
        let most = average.max(1) + variation;
        let size = |out: &Out| match out {
            Out::Bytes(_, bytes) => bytes.len(),
            Out::End(..) => 0,
        };
        let sizes: Vec<_> = bench.out.iter().map(size).collect();
        assert!(
            sizes.iter().all(|size| (1..=most as usize).contains(size)),
            "{average} ± {variation}: {sizes:?}"
        );
    }
}

#[test]
fn slicer_pauses_between_pieces() {
    let kind = ToxicKind::Slicer {
        average_size_bytes: 1,
        size_variation_bytes: 0,
        delay_us: 10_000,
    };
    let mut bench = Bench::new(&[kind]);
    bench.data(0, b"abcd");
    bench.run(0);
    assert_eq!(bench.moments(), [0, 10, 20, 30]);
}

#[test]
fn limit_data_lets_exactly_so_many_bytes_through_across_changes() {
    let mut bench = Bench::new(&[ToxicKind::LimitData { bytes: 10 }]);
    bench.data(0, b"123456");
    bench.change(0, ToxicKind::LimitData { bytes: 9 }, 1);
    bench.data(2, b"789abc");
    assert_eq!(bench.bytes(), b"123456789");
    assert_eq!(bench.out.last(), Some(&Out::End(2, Ending::Close)));
    assert_eq!((bench.chain.held_bytes(), bench.chain.dropped_bytes()), (0, 3));
}

#[test]
fn limit_of_zero_closes_at_the_first_byte() {
    let mut bench = Bench::new(&[ToxicKind::LimitData { bytes: 0 }]);
    assert_eq!(bench.out, []);
    bench.data(5, b"x");
    assert_eq!(bench.out, [Out::End(5, Ending::Close)]);
}

#[test]
fn what_a_limit_closes_still_passes_the_latency_behind_it() {
    let mut bench = Bench::new(&[ToxicKind::LimitData { bytes: 2 }, LATENCY_100]);
    bench.data(0, b"abc");
    bench.run(0);
    assert_eq!(
        bench.out,
        [Out::Bytes(100, b"ab".to_vec()), Out::End(100, Ending::Close)]
    );
}

#[test]
fn toxicity_takes_about_its_share_of_connections_whole_and_repeats() {
    let affected = |seed| -> Vec<bool> {
        let lost = |connection| {
            let mut bench = Bench::seeded(&[SILENCE], 0.3, seed, connection);
            bench.data(0, b"a");
            bench.data(1, b"b");
            assert!(
                matches!(bench.bytes().as_slice(), b"" | b"ab"),
                "a connection is affected whole or not at all"
            );
            bench.bytes().is_empty()
        };
        (0..1000).map(lost).collect()
    };
    let first = affected(5);
    let share = first.iter().filter(|lost| **lost).count();
    assert!(
        (230..=370).contains(&share),
        "{share} of 1000 connections at a toxicity of 0.3"
    );
    assert_eq!(first, affected(5));
    assert_ne!(first, affected(6));
}

#[test]
fn removing_from_the_middle_keeps_the_order() {
    let jam = ToxicKind::Latency {
        latency_ms: 3_600_000,
        jitter_ms: 0,
    };
    let mut bench = Bench::new(&[LATENCY_100, jam, LATENCY_100]);
    bench.data(0, b"a");
    bench.take(100);
    bench.data(3_500_000, b"b");
    assert_eq!(bench.chain.held_bytes(), 2);
    bench.remove(1, 3_500_001);
    bench.run(3_500_001);
    assert_eq!(bench.bytes(), b"ab");
    assert_eq!(bench.moments(), [3_500_001, 3_500_200]);
}
