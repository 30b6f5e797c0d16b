//! Records made by hand, in which every optional field is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use loadgen::export::hlog::LogWriter;
use reports::record::*;
use serde_json::json;

/// A name that means something in every format it gets into.
pub const HOSTILE: &str = "a,\"b\"\n\\ <c>{}\u{1b}[2J é";

/// What was measured, in nanoseconds: 100 values, the i-th is i times `unit`.
pub fn values(unit: u64) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap();
    (1..=100).for_each(|i| histogram.record(i * unit).unwrap());
    histogram
}

fn percentiles(unit: u64) -> Percentiles {
    Percentiles {
        count: 100,
        min: Some(unit),
        mean: Some(50.5 * unit as f64),
        p50: Some(50 * unit),
        p90: Some(90 * unit),
        p99: None,
        p999: None,
        p9999: None,
        max: Some(100 * unit),
        never: Vec::new(),
        confidence: Some(Box::new(Confidence {
            effective_count: 80.5,
            p50: Some((40 * unit, 60 * unit)),
            p90: Some((83 * unit, 96 * unit)),
            p99: None,
            p999: None,
        })),
    }
}

fn counts(ok: u64, unknown: u64) -> Counts {
    Counts {
        ok,
        failed: 0,
        unknown,
        unsent: 1,
    }
}

fn operation(unit: u64, unknown: u64) -> OperationLoad {
    let timed_out = OutcomeLoad {
        count: unknown,
        latency: Percentiles {
            count: unknown,
            max: Some(2_000_000_000),
            ..Percentiles::default()
        },
    };
    let ok = OutcomeLoad {
        count: 100,
        latency: percentiles(unit),
    };
    OperationLoad {
        counts: counts(100, unknown),
        response: Some(percentiles(unit)),
        service: Some(percentiles(unit / 2)),
        attempt: Some(percentiles(unit / 2)),
        scheduled: Some(Percentiles {
            max: None,
            mean: None,
            confidence: None,
            ..percentiles(unit)
        }),
        errors: BTreeMap::from([("no answer within 2 s, \"really\"".to_owned(), unknown)]),
        outcomes: BTreeMap::from([(OutcomeKind::Ok, ok), (OutcomeKind::TimeoutClient, timed_out)]),
        parts: BTreeMap::new(),
    }
}

/// Two seconds, two operations.
pub fn load() -> Load {
    let interval = |start: u64, unknown| Interval {
        start: start * 1_000_000_000 + 2_875_897,
        end: (start + 1) * 1_000_000_000 + 2_875_897,
        planned: 103,
        counts: counts(100, unknown),
        latency: percentiles(1_000_000),
    };
    Load {
        kind: LoopKind::Poisson,
        rate: Some(100.0),
        planned: 206,
        counts: Counts {
            ok: 200,
            failed: 0,
            unknown: 4,
            unsent: 2,
        },
        ok_in_time: Some(199),
        operations: BTreeMap::from([
            (Operation::Get, operation(1_000_000, 1)),
            (Operation::Put, operation(2_000_000, 3)),
        ]),
        total: Some(OperationLoad {
            outcomes: BTreeMap::new(),
            errors: BTreeMap::new(),
            ..operation(1_500_000, 4)
        }),
        lag: Some(Lag {
            total: percentiles(1000),
            pacer: percentiles(600),
            queue: percentiles(400),
        }),
        intervals: vec![interval(0, 1), interval(1, 3)],
        verdict: LoadVerdict::Noisy("two halves differ".into()),
        thresholds: Vec::new(),
        write_gaps: vec![(1_000, 200_000_000)],
        redirects: 5,
        retries: 2,
        attempts: 211,
        endpoints: vec![EndpointLoad {
            endpoint: "127.0.0.1:50051".into(),
            node: Some("n\"1".into()),
            attempts: 211,
            ok: 200,
            redirects: 5,
            retries: 2,
            redirected_away: 5,
        }],
        terms: vec![TermLoad {
            term: 3,
            ok: 200,
            redirected: 5,
            retried: 2,
            first: 3_000_000,
            last: 2_000_000_000,
        }],
        phases: vec![LoadPhase {
            name: "steady".into(),
            start: 0,
            end: 2_000_000_000,
        }],
        client_cpu: Some(240_000_000),
        longest_write_gap: Some((72_090_425, 625_000_000)),
        write_gap_at_most: None,
        own_backoff_in_gap: Some(1_000_000),
        integrity_errors: 0,
    }
}

pub fn manifest(name: &str) -> Manifest {
    Manifest {
        schema: SCHEMA_VERSION,
        kind: RunKind::Load,
        name: name.into(),
        about: String::new(),
        started_at: "2026-01-02T03:04:05Z".into(),
        duration: 2_000_000_000,
        seed: 11,
        command: vec!["loadgen".into(), "run".into()],
        tool_version: "0.1.0".into(),
        commit: Some("3f1c2a9".into()),
        binary_sha256: None,
        machine: Machine {
            cores: Some(2),
            ..Machine::default()
        },
        nodes: vec![NodeInfo {
            id: "n1".into(),
            endpoint: "127.0.0.1:50051".into(),
        }],
        configuration: json!({"target": "whitewater"}),
        partial: false,
    }
}

/// Two seconds of the headline and two tags.
pub fn latency_log() -> Vec<u8> {
    let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
    let mut log = LogWriter::begin(Vec::new(), start, &["[by hand]".to_owned()]).unwrap();
    for second in 0..2 {
        let (from, length) = (second * 1_000_000_000, 1_000_000_000);
        log.interval(None, from, length, &values(1_000_000)).unwrap();
        for (tag, unit) in [
            ("get.ok.response", 1_000_000),
            ("put.timeout_client.response", 20_000_000),
        ] {
            log.interval(Some(tag), from, length, &values(unit)).unwrap();
        }
    }
    log.finish().unwrap()
}

/// A whole run in a folder.
pub fn run(folder: &Path, name: &str) -> RunFolder {
    let folder = RunFolder::create(folder).unwrap();
    folder.write_manifest(&manifest(name)).unwrap();
    folder.write_load(&load()).unwrap();
    folder.write_file(LATENCY_FILE, &latency_log()).unwrap();
    folder
}
