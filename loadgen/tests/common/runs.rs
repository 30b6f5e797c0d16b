//! How the tests of whole runs make and check one.

use std::collections::BTreeSet;
use std::future::pending;

use super::*;
use loadgen::{Arrivals, LoadConfig, LoadOutcome, Mix, Outputs, Rate, RunClock, WorkloadConfig};

/// A millisecond in nanoseconds.
pub const MS: u64 = 1_000_000;

/// The seed of a randomised test: printed, and taken back from `WHITEWATER_SEED`.
pub fn seed() -> u64 {
    let given = std::env::var("WHITEWATER_SEED")
        .ok()
        .map(|text| text.parse().unwrap());
    let seed =
        given.unwrap_or_else(|| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()));
    println!("WHITEWATER_SEED={seed}");
    seed
}

pub fn everything() -> Mix {
    Mix::new([
        (Function::Write, 40),
        (Function::Read, 40),
        (Function::Cas, 15),
        (Function::Delete, 5),
    ])
    .unwrap()
}

pub fn config(arrivals: Arrivals, duration_ms: u64) -> LoadConfig {
    LoadConfig {
        workload: WorkloadConfig {
            mix: everything(),
            keys: 8,
            value_size: 64.into(),
            ..WorkloadConfig::default()
        },
        arrivals,
        duration: Duration::from_millis(duration_ms),
        drain: PATIENCE,
        seed: seed(),
        ..LoadConfig::default()
    }
}

pub fn constant(rate: u64) -> Arrivals {
    Arrivals::Constant {
        rate: Rate::per_second(rate),
    }
}

pub fn poisson(rate: u64) -> Arrivals {
    Arrivals::Poisson {
        rate: Rate::per_second(rate),
    }
}

pub async fn run(stub: &Stub, config: LoadConfig) -> LoadOutcome {
    let (clock, outputs) = (RunClock::start(), Outputs::in_memory());
    loadgen::run(config, stub.client(), clock, outputs, |_| {}, pending())
        .await
        .unwrap()
}

/// Asserts that every operation of the plan is somewhere, and that numbers and history agree.
pub fn check_books(outcome: &LoadOutcome) {
    let load = &outcome.load;
    let counts = load.counts;
    assert_eq!(load.planned, counts.total(), "{counts:?}");
    let by_operation: u64 = load
        .operations
        .values()
        .map(|operation| operation.counts.total())
        .sum();
    assert_eq!(load.planned, by_operation);
    let (planned, ended) = load.intervals.iter().fold((0, 0), |(planned, ended), interval| {
        (planned + interval.planned, ended + interval.counts.total())
    });
    assert_eq!((planned, ended), (load.planned, load.planned));
    assert!(load.intervals.windows(2).all(|pair| pair[0].end == pair[1].start));
    for operation in load.operations.values() {
        let errors: u64 = operation.errors.values().sum();
        assert_eq!(errors, operation.counts.failed + operation.counts.unknown);
        if let Some(scheduled) = &operation.scheduled {
            assert_eq!(scheduled.count, operation.counts.total());
        }
    }
    let ended = check_history(&outcome.history);
    let of = |how: &str| ended.get(how).copied().unwrap_or(0);
    let warmup = outcome.warmup;
    assert_eq!(of("ok") + of("mismatch"), counts.ok + warmup.ok);
    assert_eq!(of("fail"), counts.failed + warmup.failed);
    assert_eq!(of("info"), counts.unknown + warmup.unknown);
    let used: BTreeSet<_> = outcome.history.iter().map(|event| event.process).collect();
    assert!(used.iter().all(|process| *process < outcome.next_process));
}
