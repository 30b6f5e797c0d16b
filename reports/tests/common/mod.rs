//! Runs made up for tests and benches.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use reports::record::*;

pub const SECOND: Nanos = 1_000_000_000;

/// A small run that was saved by an earlier version.
pub fn fixture(name: &str) -> RunFolder {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name);
    RunFolder::open(path).unwrap()
}

pub fn event(process: u64, kind: EventKind, f: Function, value: Value, time: Nanos) -> Event {
    Event {
        process,
        kind,
        f,
        key: "k".into(),
        value,
        time,
        index: None,
        node: None,
        term: None,
        error: None,
    }
}

pub fn fault(kind: &str, from: Nanos, healed: Option<Nanos>) -> FaultWindow {
    FaultWindow {
        kind: kind.into(),
        label: format!("{kind} leader n1"),
        targets: vec!["n1".into()],
        injecting: from,
        injected: Some(from.saturating_add(SECOND / 20)),
        healing: healed.map(|h| h.saturating_sub(SECOND / 20)),
        healed,
        evidence: vec![Evidence {
            what: "the old process is gone".into(),
            effective: true,
        }],
        recovery: Recovery {
            first_write: Some(SECOND / 2),
            ..Recovery::default()
        },
    }
}

pub fn sample(time: Nanos, node: &str, role: Role, term: u64) -> NodeSample {
    NodeSample {
        time,
        node: node.into(),
        role,
        term,
        leader: None,
        commit: 0,
        applied: 0,
        digest: None,
        incarnation: Some("aa".into()),
    }
}

pub fn manifest(seconds: u64) -> Manifest {
    Manifest {
        schema: SCHEMA_VERSION,
        kind: RunKind::Chaos,
        name: "made-up".into(),
        about: "Made up for a test.".into(),
        started_at: "2026-01-02T03:04:05Z".into(),
        duration: seconds * SECOND,
        seed: 7,
        command: vec!["chaos".into(), "run".into()],
        tool_version: "0.1.0".into(),
        commit: None,
        binary_sha256: None,
        machine: Machine::default(),
        nodes: vec![NodeInfo {
            id: "n1".into(),
            endpoint: "127.0.0.1:50051".into(),
        }],
        configuration: serde_json::Value::Null,
        partial: false,
    }
}

/// Ten minutes, 100,000 operations, a fault every ten seconds, five nodes asked twice a second.
pub fn ten_minutes() -> Run {
    let seconds = 600;
    let percentiles = |n: u64, count| Percentiles {
        count,
        min: Some(200_000 + n),
        mean: Some(1.1e6),
        p50: Some(900_000 + n * 1_003 % 70_000),
        p90: Some(1_900_000 + n * 7_001 % 900_000),
        p99: Some(4_000_000 + n * 90_001 % 9_000_000),
        p999: Some(30_000_000),
        max: Some(40_000_000 + n * 1_000_003 % 900_000_000),
        ..Percentiles::default()
    };
    let intervals = (0..seconds).map(|n| Interval {
        start: n * SECOND,
        end: (n + 1) * SECOND,
        planned: 167,
        counts: Counts {
            ok: 160 + n % 7,
            failed: n % 3,
            unknown: u64::from(n % 10 == 0),
            unsent: 0,
        },
        latency: percentiles(n, 160),
    });
    let intervals: Vec<Interval> = intervals.collect();
    let counts = intervals.iter().fold(Counts::default(), |c, i| Counts {
        ok: c.ok + i.counts.ok,
        failed: c.failed + i.counts.failed,
        unknown: c.unknown + i.counts.unknown,
        unsent: 0,
    });
    let operation = OperationLoad {
        counts,
        response: Some(percentiles(0, counts.ok)),
        service: Some(percentiles(0, counts.ok)),
        scheduled: Some(percentiles(0, counts.total())),
        errors: (0..80).map(|n| (format!("unavailable: node {n}"), n)).collect(),
        ..OperationLoad::default()
    };
    let roles = [
        Role::Leader,
        Role::Follower,
        Role::Candidate,
        Role::Down,
        Role::Unreachable,
    ];
    let samples = (0..seconds * 2).flat_map(|n| {
        (0..5u64).map(move |node| {
            let role = roles[((n / 4 + node) % 5) as usize];
            sample(n * SECOND / 2 + node, &format!("n{node}"), role, n / 4)
        })
    });
    Run {
        folder: "made-up".into(),
        manifest: Some(manifest(seconds)),
        load: Some(Load {
            kind: LoopKind::Constant,
            rate: Some(167.0),
            planned: counts.total(),
            counts,
            operations: BTreeMap::from([(Operation::Get, operation.clone()), (Operation::Put, operation)]),
            intervals,
            verdict: LoadVerdict::Valid,
            longest_write_gap: Some((SECOND, SECOND)),
            ..Load::default()
        }),
        timeline: Some(Timeline {
            phases: vec![Phase {
                name: "during".into(),
                start: 0,
                end: seconds * SECOND,
            }],
            faults: (0..60)
                .map(|n| fault("kill", n * 10 * SECOND, Some((n * 10 + 4) * SECOND)))
                .collect(),
            samples: samples.collect(),
            final_reads_from: Some(seconds * SECOND),
        }),
        verdict: Some(Verdict {
            outcome: Outcome::Pass,
            reason: "All held.".into(),
            checks: vec![],
        }),
        history: None,
        notes: vec![],
    }
}
