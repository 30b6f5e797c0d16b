//! Whole runs against a store that misbehaves.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::future::pending;
use std::time::{Duration, Instant};

use common::runs::*;
use common::*;
use loadgen::{Arrivals, Mix, Outputs, RunClock};
use reports::record::{Event, EventKind, Function, LoadVerdict, LoopKind, Operation, Value};

#[tokio::test]
async fn a_quiet_run_is_complete_and_names_its_conditions() {
    let stub = Stub::start(3).await;
    let outcome = run(&stub, config(constant(500), 1000)).await;
    check_books(&outcome);
    let load = &outcome.load;
    assert_eq!(
        (load.kind, load.rate, load.planned),
        (LoopKind::Constant, Some(500.0), 500)
    );
    assert_eq!((load.counts.ok, load.integrity_errors), (500, 0));
    assert!(!outcome.stopped && outcome.queued == 0);
    assert_eq!(outcome.lateness.as_ref().unwrap().count, 500);
    assert!(
        outcome
            .history
            .iter()
            .all(|event| event.kind != EventKind::Ok || event.node.is_some())
    );
    let total_latency = load
        .intervals
        .iter()
        .map(|interval| interval.latency.count)
        .sum::<u64>();
    assert_eq!(total_latency, 500);
}

#[tokio::test]
async fn trouble_of_every_kind_is_accounted_for() {
    let stub = Stub::start(3).await;
    stub.set(Mood::UnknownEvery(7));
    let mut phase = 0;
    let mut config = config(poisson(400), 2500);
    config.timeout = Duration::from_millis(300);
    let outcome = loadgen::run(
        config,
        stub.client(),
        RunClock::start(),
        Outputs::in_memory(),
        |progress| {
            let now = progress.elapsed.as_millis();
            if phase == 0 && now > 400 {
                phase = 1;
                stub.lead(100);
            } else if phase == 1 && now > 1000 {
                phase = 2;
                stub.lead(2);
            } else if phase == 2 && now > 1400 {
                phase = 3;
                stub.freeze(true);
            } else if phase == 3 && now > 1900 {
                phase = 4;
                stub.freeze(false);
            }
        },
        pending(),
    )
    .await
    .unwrap();
    check_books(&outcome);
    let load = &outcome.load;
    assert!(
        load.counts.ok > 0 && load.counts.failed > 0 && load.counts.unknown > 0,
        "{:?}",
        load.counts
    );
    assert!(load.retries > 0);
    let reads = &load.operations[&Operation::Get];
    assert_eq!(reads.counts.unknown, 0, "a read without an answer has failed");
    let texts: BTreeSet<_> = load
        .operations
        .values()
        .flat_map(|operation| operation.errors.keys())
        .collect();
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("store reports outcome unknown")),
        "{texts:?}"
    );
    let (gap, _) = load.longest_write_gap.unwrap();
    assert!(gap >= 300 * MS, "600 ms without a leader: {gap}");
}

#[tokio::test]
async fn a_stall_that_the_service_time_hides_shows_in_the_response_time() {
    let stub = Stub::start(1).await;
    let mut config = config(constant(300), 3000);
    // Two in flight: the others wait outside, where only the planned start sees them.
    config.max_in_flight = 2;
    config.timeout = PATIENCE;
    config.lateness_limit = PATIENCE;
    let stall = async {
        tokio::time::sleep(Duration::from_millis(1000)).await;
        stub.freeze(true);
        tokio::time::sleep(Duration::from_millis(1000)).await;
        stub.freeze(false);
        pending().await
    };
    let outcome = loadgen::run(
        config,
        stub.client(),
        RunClock::start(),
        Outputs::in_memory(),
        |_| {},
        stall,
    )
    .await
    .unwrap();
    check_books(&outcome);
    assert_eq!(outcome.load.counts.ok, 900);
    assert!(outcome.queued >= 200, "{}", outcome.queued);
    let told = format!("{} of 900 arrivals had to wait", outcome.queued);
    assert!(
        matches!(&outcome.load.verdict, LoadVerdict::Overloaded(reason) if reason.contains(&told)),
        "{:?}",
        outcome.load.verdict
    );
    for operation in [Operation::Get, Operation::Put] {
        let operation = &outcome.load.operations[&operation];
        let response = operation.response.as_ref().unwrap().p90.unwrap();
        let service = operation.service.as_ref().unwrap().p90.unwrap();
        // A third of the arrivals met a stall of 1 s, so a tenth waited for at least 0.7 s.
        assert!(response >= 500 * MS, "{response}");
        assert!(response >= 5 * service, "response {response}, service {service}");
    }
}

#[tokio::test]
async fn a_stall_past_the_end_leaves_unknown_and_unsent_operations() {
    let stub = Stub::start(1).await;
    stub.freeze(true);
    let mut config = config(constant(200), 500);
    config.max_in_flight = 10;
    config.timeout = PATIENCE;
    config.drain = Duration::from_millis(100);
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    let counts = outcome.load.counts;
    assert_eq!((counts.ok, counts.unknown, counts.unsent), (0, 10, 90));
    assert!(matches!(outcome.load.verdict, LoadVerdict::TooThin(_)));
    let texts: Vec<_> = outcome
        .load
        .operations
        .values()
        .flat_map(|operation| operation.errors.keys())
        .collect();
    assert!(texts.iter().all(|text| *text == "run ended first"), "{texts:?}");
    let info = outcome
        .history
        .iter()
        .find(|event| event.kind == EventKind::Info)
        .unwrap();
    assert!(info.error.as_ref().unwrap().contains("open for"), "{info:?}");
}

#[tokio::test]
async fn an_overrun_is_told_unless_waits_are_expected() {
    let mut config = config(constant(400), 2000);
    config.max_in_flight = 10;
    config.timeout = PATIENCE;
    config.drain = Duration::from_millis(100);
    config.lateness_limit = PATIENCE;
    for expected in [false, true] {
        let stub = Stub::start(1).await;
        config.waits_are_expected = expected;
        // Frozen once the answers suffice for a verdict.
        let mut frozen = false;
        let outcome = loadgen::run(
            config.clone(),
            stub.client(),
            RunClock::start(),
            Outputs::in_memory(),
            |progress| {
                if !frozen && progress.counts.ok >= 100 {
                    frozen = true;
                    stub.freeze(true);
                }
            },
            pending(),
        )
        .await
        .unwrap();
        check_books(&outcome);
        let (unsent, waited) = (outcome.load.counts.unsent, outcome.queued);
        assert!(unsent > 0 && waited >= unsent, "{unsent} unsent, {waited} waited");
        let told = format!("{unsent} of 800 operations were never sent, and {waited} arrivals");
        match outcome.load.verdict {
            LoadVerdict::Overloaded(reason) => assert!(!expected && reason.contains(&told), "{reason}"),
            verdict => assert_eq!((expected, verdict), (true, LoadVerdict::Valid)),
        }
    }
}

/// A store that is dead most of the time is no valid measurement, whoever decides when operations start.
#[tokio::test]
async fn a_store_that_falls_silent_is_told_also_without_an_even_rate() {
    let bursts = Arrivals::Burst {
        size: 60,
        every: Duration::from_millis(200),
    };
    for arrivals in [Arrivals::Closed { clients: 4 }, bursts] {
        let stub = Stub::start(1).await;
        let mut config = config(arrivals, 2500);
        config.timeout = PATIENCE;
        config.drain = Duration::from_millis(100);
        config.lateness_limit = PATIENCE;
        let mut frozen = false;
        let outcome = loadgen::run(
            config,
            stub.client(),
            RunClock::start(),
            Outputs::in_memory(),
            |progress| {
                if !frozen && progress.counts.ok >= 100 {
                    frozen = true;
                    stub.freeze(true);
                }
            },
            pending(),
        )
        .await
        .unwrap();
        check_books(&outcome);
        let verdict = &outcome.load.verdict;
        assert!(
            matches!(verdict, LoadVerdict::Noisy(reason) if reason.contains("no operation was answered for")),
            "{verdict:?}"
        );
        assert_eq!(outcome.load.ok_in_time, Some(outcome.load.counts.ok));
    }
}

#[tokio::test]
async fn a_stopped_run_is_drained_and_complete() {
    let stub = Stub::start(1).await;
    let stop = async { until(|| stub.executed() >= 50).await };
    let long = config(poisson(300), 3_600_000);
    let outcome = loadgen::run(
        long,
        stub.client(),
        RunClock::start(),
        Outputs::in_memory(),
        |_| {},
        stop,
    )
    .await
    .unwrap();
    check_books(&outcome);
    assert!(outcome.stopped);
    assert!(outcome.load.counts.ok >= 50);
    // What fell due in the very last moment is not sent any more; what was sent has been waited for.
    assert_eq!((outcome.load.counts.failed, outcome.load.counts.unknown), (0, 0));
}

#[tokio::test]
async fn a_closed_loop_keeps_its_clients_busy_and_claims_no_response_time() {
    let stub = Stub::start(1).await;
    let outcome = run(&stub, config(Arrivals::Closed { clients: 4 }, 500)).await;
    check_books(&outcome);
    let load = &outcome.load;
    assert_eq!(
        (load.kind, load.rate, outcome.lateness.is_none()),
        (LoopKind::Closed, None, true)
    );
    assert!(load.counts.ok > 4);
    assert!(
        load.operations
            .values()
            .all(|operation| operation.response.is_none())
    );
    assert_eq!(outcome.next_process, 4);
}

#[tokio::test]
async fn an_unknown_outcome_retires_its_process_and_another_takes_over() {
    let stub = Stub::start(1).await;
    stub.set(Mood::UnknownEvery(2));
    let mut config = config(Arrivals::Closed { clients: 1 }, 300);
    config.workload.mix = Mix::new([(Function::Write, 1)]).unwrap();
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    let unknown = outcome.load.counts.unknown;
    assert!(unknown > 2);
    let used: BTreeSet<_> = outcome.history.iter().map(|event| event.process).collect();
    assert!(used.len() as u64 >= unknown && used.len() as u64 <= unknown + 1);
}

#[tokio::test]
async fn the_same_seed_asks_for_the_same_operations() {
    let mut asked = Vec::new();
    let config = config(constant(200), 500);
    for _ in 0..2 {
        let stub = Stub::start(1).await;
        let outcome = run(&stub, config.clone()).await;
        // By the number of the operation, where a value carries it; else by order among equals.
        let mut invoked: Vec<_> = outcome
            .history
            .iter()
            .filter(|event| event.kind == EventKind::Invoke)
            .map(|event| match &event.value {
                Value::Pair(_, new) => (event.f, event.key.clone(), new.clone()),
                Value::One(new) => (event.f, event.key.clone(), Some(new.clone())),
                Value::Absent => (event.f, event.key.clone(), None),
            })
            .collect();
        invoked.sort();
        asked.push(invoked);
    }
    assert_eq!(asked[0].len(), 100);
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn a_value_of_another_key_is_an_integrity_error_and_stays_in_the_history() {
    let stub = Stub::start(1).await;
    for n in 0..8 {
        assert!(
            stub.client()
                .put(&format!("k{n}"), "planted", Instant::now() + PATIENCE)
                .await
                .is_ok()
        );
    }
    stub.set(Mood::WrongKey);
    let mut config = config(constant(200), 500);
    config.workload.mix = Mix::new([(Function::Write, 1), (Function::Read, 1)]).unwrap();
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    let reads = outcome.load.operations[&Operation::Get].counts.ok;
    assert!(reads > 0);
    assert_eq!(outcome.load.integrity_errors, reads);
    let read = |event: &&Event| event.f == Function::Read && event.kind == EventKind::Ok;
    for event in outcome.history.iter().filter(read) {
        let Value::One(value) = &event.value else {
            panic!("{event:?}")
        };
        assert!(
            value == "planted" || value.len() == 64,
            "the whole text, which no write has: {value}"
        );
    }
}

#[tokio::test]
async fn the_warm_up_is_in_the_history_and_not_in_the_numbers() {
    let stub = Stub::start(1).await;
    let mut config = config(constant(200), 500);
    config.warmup = Duration::from_millis(250);
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    assert_eq!((outcome.warmup.ok, outcome.load.planned), (50, 100));
    assert_eq!(outcome.load.intervals[0].start, outcome.begins + 250 * MS);
}

#[tokio::test]
async fn compare_and_swap_expects_what_was_last_seen_and_so_succeeds_now_and_then() {
    let stub = Stub::start(1).await;
    let mut config = config(Arrivals::Closed { clients: 2 }, 400);
    config.workload.mix = Mix::new([(Function::Cas, 1)]).unwrap();
    config.workload.keys = 1;
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    let ended = check_history(&outcome.history);
    assert!(ended["ok"] > 2, "{ended:?}");
    assert!(outcome.load.longest_write_gap.is_some());
}

/// A target that answers at once leaves the driver always with something to start: it must report, and hear that it is to
/// stop, all the same.
#[tokio::test]
async fn a_target_that_answers_at_once_does_not_keep_the_driver_from_reporting_and_stopping() {
    let none: [&str; 0] = [];
    let target = std::sync::Arc::new(loadgen::target::Null);
    let client = loadgen::Client::of(target, &none, loadgen::ClientOptions::default()).unwrap();
    let mut config = config(Arrivals::Closed { clients: 64 }, 3_600_000);
    config.workload.mix = Mix::new([(Operation::Put, 1)]).unwrap();
    let outputs = Outputs {
        history: loadgen::HistoryTarget::Discard,
        latency_log: None,
        intervals: None,
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let mut stop = Some(stop);
    let mut reports = 0;
    let note = |_: &loadgen::Progress| {
        reports += 1;
        if reports == 3 {
            let _ = stop.take().unwrap().send(());
        }
    };
    let stopping = async {
        let _ = stopped.await;
    };
    let outcome = loadgen::run(config, client, RunClock::start(), outputs, note, stopping)
        .await
        .unwrap();
    assert!(outcome.stopped && outcome.load.counts.ok > 0);
    assert_eq!(outcome.load.planned, outcome.load.counts.total());
    assert!(reports >= 3);
}
