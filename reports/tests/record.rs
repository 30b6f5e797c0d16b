//! The run folder: what is written comes back, and what cannot be trusted is refused with a message that helps.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use reports::record::*;

fn folder() -> (tempfile::TempDir, RunFolder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = RunFolder::create(dir.path().join("run")).unwrap();
    (dir, folder)
}

fn manifest() -> Manifest {
    Manifest {
        schema: SCHEMA_VERSION,
        kind: RunKind::Chaos,
        name: "leader-kill".into(),
        about: "Kill the leader.".into(),
        started_at: "2026-01-02T03:04:05Z".into(),
        duration: 30_000_000_000,
        seed: u64::MAX,
        command: vec!["chaos".into(), "run".into(), "--seed".into(), "7".into()],
        tool_version: "0.1.0".into(),
        commit: Some("abc-dirty".into()),
        binary_sha256: None,
        machine: Machine {
            cores: Some(2),
            load_average: Some(0.25),
            ..Machine::default()
        },
        nodes: vec![NodeInfo {
            id: "n1".into(),
            endpoint: "127.0.0.1:1".into(),
        }],
        configuration: serde_json::json!({"cluster": {"nodes": 3}}),
        partial: false,
    }
}

fn event(process: u64, kind: EventKind, f: Function, value: Value) -> Event {
    Event {
        process,
        kind,
        f,
        key: "k".into(),
        value,
        time: 5,
        index: None,
        node: None,
        term: None,
        error: None,
    }
}

fn load() -> Load {
    let percentiles = Percentiles {
        count: 3,
        mean: Some(1.5),
        p50: Some(2),
        ..Percentiles::default()
    };
    let operation = OperationLoad {
        counts: Counts {
            ok: 1,
            failed: 2,
            unknown: 3,
            unsent: 4,
        },
        response: Some(percentiles.clone()),
        service: Some(percentiles.clone()),
        errors: BTreeMap::from([("unavailable".to_owned(), 2)]),
        ..OperationLoad::default()
    };
    Load {
        kind: LoopKind::Poisson,
        rate: Some(400.0),
        planned: 10,
        counts: operation.counts,
        operations: BTreeMap::from([(Operation::Put, operation.clone()), (Operation::Cas, operation)]),
        intervals: vec![Interval {
            start: 0,
            end: 1_000_000_000,
            planned: 10,
            counts: Counts::default(),
            latency: percentiles,
        }],
        verdict: LoadVerdict::GeneratorBound("its clock ran late".into()),
        redirects: 1,
        retries: 2,
        client_cpu: Some(3),
        longest_write_gap: Some((4, 5)),
        ..Load::default()
    }
}

fn timeline() -> Timeline {
    Timeline {
        phases: vec![Phase {
            name: "before".into(),
            start: 0,
            end: 9,
        }],
        faults: vec![FaultWindow {
            kind: "kill".into(),
            label: "kill leader n2".into(),
            targets: vec!["n2".into()],
            injecting: 1,
            injected: Some(2),
            healing: Some(3),
            healed: None,
            evidence: vec![Evidence {
                what: "process 1 is gone".into(),
                effective: true,
            }],
            recovery: Recovery {
                new_leader: Some(8),
                ..Recovery::default()
            },
        }],
        samples: vec![NodeSample {
            time: 3,
            node: "n1".into(),
            role: Role::PreCandidate,
            term: 4,
            leader: None,
            commit: 5,
            applied: 5,
            digest: Some("ff".into()),
            incarnation: None,
        }],
        final_reads_from: Some(8),
    }
}

fn verdict() -> Verdict {
    Verdict {
        outcome: Outcome::Violation,
        reason: "a write was lost".into(),
        checks: vec![Check {
            name: "lost_writes".into(),
            status: CheckStatus::Violation,
            detail: "1 of 10".into(),
            witness: Some(Witness {
                key: "k".into(),
                sentence: "it is gone".into(),
                operations: vec![(
                    event(1, EventKind::Invoke, Function::Write, Value::One("a".into())),
                    None,
                )],
            }),
        }],
    }
}

#[test]
fn every_document_comes_back_as_it_was_written() {
    let (_dir, folder) = folder();
    folder.write_manifest(&manifest()).unwrap();
    folder.write_load(&load()).unwrap();
    folder.write_timeline(&timeline()).unwrap();
    folder.write_verdict(&verdict()).unwrap();
    let again = RunFolder::open(folder.path()).unwrap();
    assert_eq!(again.read_manifest().unwrap().unwrap(), manifest());
    assert_eq!(again.read_load().unwrap().unwrap(), load());
    assert_eq!(again.read_timeline().unwrap().unwrap(), timeline());
    assert_eq!(again.read_verdict().unwrap().unwrap(), verdict());
    // Documents replace each other whole, and no temporary file stays.
    folder
        .write_manifest(&Manifest {
            partial: true,
            ..manifest()
        })
        .unwrap();
    assert!(folder.read_manifest().unwrap().unwrap().partial);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
}

#[test]
fn what_is_not_there_is_none() {
    let (_dir, folder) = folder();
    assert_eq!(folder.read_manifest().unwrap(), None);
    assert_eq!(folder.read_load().unwrap(), None);
    assert_eq!(folder.read_timeline().unwrap(), None);
    assert_eq!(folder.read_verdict().unwrap(), None);
    assert!(folder.read_history().unwrap().is_none());
}

#[test]
fn a_run_never_writes_over_another() {
    let (_dir, folder) = folder();
    assert_eq!(
        RunFolder::create(folder.path()).unwrap(),
        folder,
        "an empty folder is fine"
    );
    folder.write_manifest(&manifest()).unwrap();
    let error = RunFolder::create(folder.path()).unwrap_err();
    assert!(matches!(error, RecordError::NotEmpty { .. }));
    assert!(error.to_string().contains("is not empty"), "{error}");
}

#[test]
fn a_folder_without_run_files_is_not_a_run() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes.txt"), "x").unwrap();
    for path in [
        dir.path().to_owned(),
        dir.path().join("absent"),
        dir.path().join("notes.txt"),
    ] {
        let error = RunFolder::open(&path).unwrap_err();
        assert!(matches!(error, RecordError::NotARun { .. }), "{error:?}");
        assert!(error.is_not_a_run());
    }
}

#[test]
fn a_newer_schema_is_refused_by_name_before_it_is_parsed() {
    let (_dir, folder) = folder();
    let newer = r#"{"schema": 9, "tool_version": "3.1.0", "kind": "chaos", "machine": "now a string"}"#;
    fs::write(folder.file(MANIFEST_FILE), newer).unwrap();
    for error in [
        RunFolder::open(folder.path()).unwrap_err(),
        folder.read_manifest().unwrap_err(),
    ] {
        assert!(
            matches!(error, RecordError::FutureSchema { found: 9, .. }),
            "{error:?}"
        );
        let message = error.to_string();
        for part in ["schema version 9", "up to 1", "`reports`", "3.1.0"] {
            assert!(message.contains(part), "{part} is missing in: {message}");
        }
    }
}

#[test]
fn unknown_fields_are_ignored() {
    let (_dir, folder) = folder();
    let mut value = serde_json::to_value(manifest()).unwrap();
    value["from_the_future"] = serde_json::json!([1, 2]);
    value["machine"]["sockets"] = serde_json::json!(2);
    fs::write(folder.file(MANIFEST_FILE), value.to_string()).unwrap();
    assert_eq!(folder.read_manifest().unwrap().unwrap(), manifest());
}

#[test]
fn a_damaged_document_is_named() {
    let (_dir, folder) = folder();
    fs::write(folder.file(LOAD_FILE), "{\"kind\": \"constant\"").unwrap();
    let error = folder.read_load().unwrap_err();
    assert!(error.to_string().contains("load.json"), "{error}");
    assert!(matches!(error, RecordError::Malformed { .. }));
}

#[test]
fn history_comes_back_event_by_event() {
    let (_dir, folder) = folder();
    let events = vec![
        event(
            1,
            EventKind::Invoke,
            Function::Write,
            Value::One("c1-\"quoted\"\n".into()),
        ),
        event(2, EventKind::Invoke, Function::Read, Value::Absent),
        event(
            3,
            EventKind::Invoke,
            Function::Cas,
            Value::Pair(None, Some("b".into())),
        ),
        event(4, EventKind::Invoke, Function::Delete, Value::Absent),
        Event {
            index: Some(912),
            node: Some("n1".into()),
            term: Some(3),
            ..event(1, EventKind::Ok, Function::Write, Value::One("x".into()))
        },
        Event {
            error: Some("deadline".into()),
            ..event(
                3,
                EventKind::Info,
                Function::Cas,
                Value::Pair(Some("a".into()), None),
            )
        },
    ];
    let mut writer = folder.history_writer().unwrap();
    for event in &events {
        writer.append(event).unwrap();
    }
    writer.finish().unwrap();
    let history = folder.read_history().unwrap().unwrap();
    assert_eq!(history.events, events);
    assert_eq!(history.torn, None);
    assert!(
        folder.history_writer().is_err(),
        "a second writer would mix two runs"
    );
}

#[test]
fn history_has_the_documented_form() {
    let (_dir, folder) = folder();
    let line =
        r#"{"process":3,"type":"ok","f":"write","key":"k7","value":"c3-41","time":1236567890,"index":912}"#;
    fs::write(folder.file(HISTORY_FILE), format!("{line}\n")).unwrap();
    let events = folder.read_history().unwrap().unwrap().events;
    assert_eq!(serde_json::to_string(&events[0]).unwrap(), line);
}

#[test]
fn a_torn_last_line_is_told_and_not_fatal() {
    let (_dir, folder) = folder();
    let mut writer = folder.history_writer().unwrap();
    writer
        .append(&event(1, EventKind::Invoke, Function::Read, Value::Absent))
        .unwrap();
    writer.finish().unwrap();
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(folder.file(HISTORY_FILE))
        .unwrap();
    file.write_all(b"{\"process\":2,\"ty").unwrap();
    let history = folder.read_history().unwrap().unwrap();
    assert_eq!(history.events.len(), 1);
    assert_eq!(history.torn, Some(TornLine { line: 2, bytes: 16 }));
    // The same bytes inside the file are damage, not a crash.
    file.write_all(b"\n").unwrap();
    let error = folder.read_history().unwrap_err();
    assert!(
        matches!(error, RecordError::HistoryLine { line: 2, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("line 2"), "{error}");
}

#[test]
fn default_paths_are_unique_within_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("target/runs");
    let name = |path: std::path::PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    // 2026-01-02T03:04:05.678Z
    let time = 1_767_323_045_678;
    let first = default_run_path(&root, "leader kill/../x", time).unwrap();
    assert_eq!(first.parent().unwrap(), root);
    assert_eq!(name(first.clone()), "leader-kill-..-x-20260102T030405");
    assert_eq!(
        name(default_run_path(&root, "leader kill/../x", time).unwrap()),
        "leader-kill-..-x-20260102T030405-2"
    );
    assert_eq!(
        name(default_run_path(&root, "..", time).unwrap()),
        "run-20260102T030405"
    );
    assert_eq!(rfc3339(time), "2026-01-02T03:04:05Z");
    let folder = RunFolder::create(first).unwrap();
    folder.mark_latest().unwrap();
    folder.mark_latest().unwrap();
    folder.write_manifest(&manifest()).unwrap();
    assert!(
        RunFolder::open(root.join("latest"))
            .unwrap()
            .read_manifest()
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_node_folder_stays_inside_the_run() {
    let (_dir, folder) = folder();
    assert_eq!(folder.node_dir("n1"), folder.path().join("nodes/n1"));
    assert_eq!(folder.node_dir("../../etc"), folder.path().join("nodes/etc"));
    assert_eq!(
        folder.node_dir("localhost:50051"),
        folder.path().join("nodes/localhost-50051")
    );
}
