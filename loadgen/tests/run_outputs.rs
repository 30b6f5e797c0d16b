//! What a run leaves behind: the histogram log, the history, and the last look at every key.

#![allow(clippy::unwrap_used)]

mod common;

use std::future::pending;
use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::runs::*;
use common::*;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use loadgen::{
    Arrivals, Client, ClientOptions, HistoryTarget, LoadConfig, LoadError, Outputs, RunClock, WorkloadConfig,
    final_reads,
};
use reports::record::{EventKind, Function, Operation, Value};

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
        intervals: None,
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
            .filter(|(tag, _)| tag.ends_with(&format!(".{measure}")))
            .map(|(_, n)| n)
            .sum::<u64>();
        assert_eq!(of_measure, ok, "{measure}: {by_tag:?}");
    }
    assert_eq!(
        by_tag["put.ok.response"],
        outcome.load.operations[&Operation::Put].counts.ok
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
        intervals: None,
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
    for (number, key) in outcome.workload.keys().enumerate() {
        let last = history
            .iter()
            .rfind(|event| *event.key == *key && event.kind == EventKind::Ok && event.f == Function::Read)
            .unwrap();
        let stored = stub.value(&key);
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
