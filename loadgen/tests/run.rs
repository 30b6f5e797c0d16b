//! Whole runs against a store that misbehaves.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::future::pending;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use loadgen::{
    Arrivals, Client, ClientOptions, HistoryTarget, LoadConfig, LoadError, LoadOutcome, Mix, Outputs, Rate,
    RunClock, WorkloadConfig, final_reads,
};
use reports::record::{Event, EventKind, Function, LoadVerdict, LoopKind, Value};

const MS: u64 = 1_000_000;

/// The seed of a randomised test: printed, and taken back from `LOADGEN_TEST_SEED`.
fn seed() -> u64 {
    let given = std::env::var("LOADGEN_TEST_SEED")
        .ok()
        .map(|text| text.parse().unwrap());
    let seed =
        given.unwrap_or_else(|| Instant::now().elapsed().as_nanos() as u64 ^ u64::from(std::process::id()));
    println!("LOADGEN_TEST_SEED={seed}");
    seed
}

fn everything() -> Mix {
    Mix::new([
        (Function::Write, 40),
        (Function::Read, 40),
        (Function::Cas, 15),
        (Function::Delete, 5),
    ])
    .unwrap()
}

fn config(arrivals: Arrivals, duration_ms: u64) -> LoadConfig {
    LoadConfig {
        workload: WorkloadConfig {
            mix: everything(),
            keys: 8,
            value_size: 64,
            ..WorkloadConfig::default()
        },
        arrivals,
        duration: Duration::from_millis(duration_ms),
        drain: PATIENCE,
        seed: seed(),
        ..LoadConfig::default()
    }
}

fn constant(rate: u64) -> Arrivals {
    Arrivals::Constant {
        rate: Rate::per_second(rate),
    }
}

fn poisson(rate: u64) -> Arrivals {
    Arrivals::Poisson {
        rate: Rate::per_second(rate),
    }
}

async fn run(stub: &Stub, config: LoadConfig) -> LoadOutcome {
    let (clock, outputs) = (RunClock::start(), Outputs::in_memory());
    loadgen::run(config, stub.client(), clock, outputs, |_| {}, pending())
        .await
        .unwrap()
}

/// Asserts that every operation of the plan is somewhere, and that numbers and history agree.
fn check_books(outcome: &LoadOutcome) {
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
    let reads = &load.operations[&Function::Read];
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
    for operation in [Function::Read, Function::Write] {
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
    let reads = outcome.load.operations[&Function::Read].counts.ok;
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

/// Collects what is written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_histogram_log_holds_every_ok_operation_once_for_each_measure() {
    let stub = Stub::start(1).await;
    let log = Shared::default();
    let streamed = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&streamed);
    let outputs = Outputs {
        history: HistoryTarget::Stream(Box::new(move |event| {
            sink.lock().unwrap().push(event.clone());
            Ok(())
        })),
        latency_log: Some(Box::new(log.clone())),
    };
    let mut config = config(constant(300), 1000);
    config.interval = Duration::from_millis(200);
    let outcome = loadgen::run(
        config,
        stub.client(),
        RunClock::start(),
        outputs,
        |_| {},
        pending(),
    )
    .await
    .unwrap();
    assert!(outcome.history.is_empty());
    assert_eq!(streamed.lock().unwrap().len(), 600);
    let text = log.0.lock().unwrap().clone();
    assert!(text.starts_with(b"#[Histogram log format version 1.3]\n"));
    let mut by_tag = std::collections::BTreeMap::<String, u64>::new();
    let mut last_start = Duration::ZERO;
    for entry in IntervalLogIterator::new(&text) {
        let LogEntry::Interval(interval) = entry.unwrap() else {
            continue;
        };
        assert!(interval.start_timestamp() >= last_start);
        last_start = interval.start_timestamp();
        let histogram: Histogram<u64> = decode(interval.encoded_histogram());
        let tag = interval.tag().map_or("", |tag| tag.as_str()).to_owned();
        *by_tag.entry(tag).or_default() += histogram.len();
    }
    let ok = outcome.load.counts.ok;
    assert_eq!(by_tag[""], ok);
    for measure in ["response", "service", "lag"] {
        let of_measure = by_tag
            .iter()
            .filter(|(tag, _)| tag.starts_with(measure))
            .map(|(_, n)| n)
            .sum::<u64>();
        assert_eq!(of_measure, ok, "{measure}: {by_tag:?}");
    }
    assert_eq!(
        by_tag["response.write"],
        outcome.load.operations[&Function::Write].counts.ok
    );
}

fn decode(text: &str) -> Histogram<u64> {
    let mut bits = 0_u32;
    let mut held = 0;
    let mut bytes = Vec::new();
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("not base64: {other}"),
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap()
}

#[tokio::test]
async fn a_history_that_cannot_be_written_ends_the_run_with_an_error() {
    let stub = Stub::start(1).await;
    let outputs = Outputs {
        history: HistoryTarget::Stream(Box::new(|_| Err(io::Error::other("the disk is full")))),
        latency_log: None,
    };
    let long = config(constant(100), 3_600_000);
    let error = loadgen::run(long, stub.client(), RunClock::start(), outputs, |_| {}, pending())
        .await
        .unwrap_err();
    assert!(
        matches!(&error, LoadError::Output(cause) if cause.to_string() == "the disk is full"),
        "{error:?}"
    );
}

#[tokio::test]
async fn final_reads_find_every_key_also_when_the_store_comes_back_late() {
    let stub = Stub::start(1).await;
    let clock = RunClock::start();
    let outputs = Outputs::in_memory();
    let config = config(constant(200), 500);
    let outcome = loadgen::run(config, stub.client(), clock, outputs, |_| {}, pending())
        .await
        .unwrap();
    stub.lead(100);
    let refused = stub.cluster.refused.load(Ordering::SeqCst);
    let recover = async {
        until(|| stub.cluster.refused.load(Ordering::SeqCst) > refused).await;
        stub.lead(0);
    };
    let client = stub.client();
    let deadline = Instant::now() + PATIENCE;
    let reads = final_reads(&client, &outcome.workload, clock, outcome.next_process, deadline);
    let (reads, ()) = tokio::join!(reads, recover);
    assert_eq!((reads.unread.len(), reads.integrity_errors), (0, 0));
    let mut history = outcome.history;
    history.extend(reads.events);
    check_history(&history);
    for (number, key) in outcome.workload.keys().iter().enumerate() {
        let last = history
            .iter()
            .rfind(|event| *event.key == **key && event.kind == EventKind::Ok && event.f == Function::Read)
            .unwrap();
        let stored = stub.value(key);
        match (&last.value, stored) {
            (Value::Absent, None) => {}
            (Value::One(name), Some(stored)) => assert!(stored.starts_with(&format!("{name}:")), "{number}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn final_reads_name_the_keys_that_nobody_answered_for() {
    let (_socket, refusing) = refusing_address();
    let client = Client::connect(&[refusing], ClientOptions::default()).unwrap();
    let workload = loadgen::Workload::new(
        WorkloadConfig {
            keys: 20,
            ..WorkloadConfig::default()
        },
        0,
    )
    .unwrap();
    let deadline = Instant::now() + Duration::from_millis(200);
    let reads = final_reads(&client, &Arc::new(workload), RunClock::start(), 5, deadline).await;
    assert_eq!(reads.unread.len(), 20);
    check_history(&reads.events);
    assert!(reads.events.iter().all(|event| event.process >= 5));
}

#[tokio::test]
async fn settings_that_make_no_sense_are_refused() {
    let stub = Stub::start(1).await;
    let base = config(constant(100), 100);
    let cases = [
        (
            LoadConfig {
                duration: Duration::ZERO,
                ..base.clone()
            },
            "duration",
        ),
        (
            LoadConfig {
                timeout: Duration::ZERO,
                ..base.clone()
            },
            "timeout",
        ),
        (
            LoadConfig {
                max_in_flight: 0,
                ..base.clone()
            },
            "in flight",
        ),
        (
            LoadConfig {
                arrivals: constant(0),
                ..base.clone()
            },
            "rate",
        ),
        (
            LoadConfig {
                arrivals: Arrivals::Closed { clients: 0 },
                ..base.clone()
            },
            "clients",
        ),
        (
            LoadConfig {
                interval: Duration::ZERO,
                ..base
            },
            "interval",
        ),
    ];
    for (config, word) in cases {
        let (clock, outputs) = (RunClock::start(), Outputs::in_memory());
        let error = loadgen::run(config, stub.client(), clock, outputs, |_| {}, pending())
            .await
            .unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}
