//! What belongs to the measured time of a run, and what does not.

#![allow(clippy::unwrap_used)]

mod common;

use std::future::{pending, ready};
use std::time::Duration;

use common::runs::*;
use common::*;
use loadgen::{Arrivals, LoadError, Mix, Outputs, RunClock};
use reports::record::{Load, Operation};

fn asked(load: &Load) -> (u64, u64, u64) {
    load.endpoints
        .iter()
        .fold((0, 0, 0), |(attempts, redirects, retries), endpoint| {
            (
                attempts + endpoint.attempts,
                redirects + endpoint.redirects,
                retries + endpoint.retries,
            )
        })
}

#[tokio::test]
async fn the_warm_up_is_in_no_number_of_the_endpoints() {
    let stub = Stub::start(1).await;
    let mut config = config(constant(400), 500);
    config.warmup = Duration::from_millis(500);
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    let load = &outcome.load;
    assert_eq!((load.planned, outcome.warmup.total()), (200, 200));
    let (attempts, ..) = asked(load);
    assert_eq!(load.attempts, attempts);
    assert_eq!(attempts, 200);
}

#[tokio::test]
async fn every_slice_is_reported_also_the_last() {
    let stub = Stub::start(1).await;
    let mut config = config(constant(400), 1000);
    config.interval = Duration::from_millis(300);
    let (mut planned, mut reports) = (0, 0);
    let outcome = loadgen::run(
        config,
        stub.client(),
        RunClock::start(),
        Outputs::in_memory(),
        |progress| {
            reports += 1;
            assert!(
                reports > 1 || progress.planned == 0,
                "the first comes at the beginning"
            );
            planned += progress.closed.iter().map(|slice| slice.planned).sum::<u64>();
        },
        pending(),
    )
    .await
    .unwrap();
    assert_eq!((planned, outcome.load.planned), (400, 400));
}

#[tokio::test]
async fn both_parts_of_a_read_modify_write_are_in_the_books() {
    let stub = Stub::start(1).await;
    let mut config = config(Arrivals::Closed { clients: 4 }, 300);
    config.workload.mix = Mix::new([(Operation::Rmw, 1)]).unwrap();
    stub.set(Mood::OverloadedFor(7));
    let outcome = run(&stub, config).await;
    let load = &outcome.load;
    assert_eq!(load.planned, load.counts.ok);
    let (attempts, redirects, retries) = asked(load);
    assert!(retries >= 7, "{retries}");
    assert_eq!((load.redirects, load.retries), (redirects, retries));
    assert_eq!(attempts, 2 * load.planned + redirects + retries);
    // The read that succeeded is an attempt like any other.
    let measured = load.operations[&Operation::Rmw].attempt.as_ref().unwrap();
    assert!(measured.count >= load.planned, "{measured:?}");
}

#[tokio::test]
async fn a_run_that_is_stopped_while_records_are_written_has_not_begun() {
    let stub = Stub::start(1).await;
    let client = stub.client();
    stub.freeze(true);
    let mut config = config(constant(100), 100);
    config.preload = true;
    let (clock, outputs) = (RunClock::start(), Outputs::in_memory());
    let never = |_: &loadgen::Progress| panic!("there is no load to report of");
    let stopped = loadgen::run(config, client, clock, outputs, never, ready(())).await;
    assert!(matches!(stopped, Err(LoadError::StoppedEarly)), "{stopped:?}");
}

#[tokio::test]
async fn lengths_that_no_clock_can_add_are_refused() {
    let stub = Stub::start(1).await;
    let age = Duration::from_secs(400 * 24 * 3600);
    let with = |change: fn(&mut loadgen::LoadConfig, Duration)| {
        let mut config = config(constant(100), 100);
        change(&mut config, age);
        loadgen::run(
            config,
            stub.client(),
            RunClock::start(),
            Outputs::in_memory(),
            |_| {},
            pending(),
        )
    };
    let lengths: [fn(&mut loadgen::LoadConfig, Duration); 5] = [
        |config, age| config.duration = age,
        |config, age| config.warmup = age,
        |config, age| config.drain = age,
        |config, age| config.timeout = age,
        |config, age| config.interval = age,
    ];
    for change in lengths {
        let refused = with(change).await;
        assert!(matches!(refused, Err(LoadError::TooLong { .. })), "{refused:?}");
    }
    let refused = with(|config, _| config.interval = Duration::from_millis(9)).await;
    assert!(matches!(refused, Err(LoadError::ShortInterval(_))), "{refused:?}");
}
