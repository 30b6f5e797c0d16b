//! The commands that look back at a run, as a user meets them.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::records::{self, HOSTILE};
use loadgen::export::hgrm;
use loadgen::export::hlog::IntervalLog;
use reports::record::{
    Bottleneck, BottleneckKind, LATENCY_FILE, LOAD_FILE, Load, MANIFEST_FILE, ProcessRole, ProcessUse,
    Resources, RunFolder, ThresholdResult, ThresholdUnit, ThresholdVerdict,
};
use serde_json::Value;
use tempfile::TempDir;

fn output(here: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .current_dir(here)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What it prints, when all is well.
fn prints(here: &Path, arguments: &[&str]) -> String {
    let output = output(here, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it, and asserts how it ended and what it said on standard error.
fn fails(here: &Path, arguments: &[&str], code: i32, words: &[&str]) {
    let output = output(here, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} should say {word:?}: {said}");
    }
}

/// A folder with a run called `one` in it.
fn with_run() -> (TempDir, RunFolder) {
    let here = tempfile::tempdir().unwrap();
    let folder = records::run(&here.path().join("one"), "by-hand");
    (here, folder)
}

#[test]
fn show_tells_the_story_of_a_run() {
    let (here, _) = with_run();
    let text = prints(here.path(), &["show", "one"]);
    assert!(text.starts_with("NOISY"), "{text}");
    assert!(
        text.contains("load run by-hand") && text.contains("record: one"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&prints(here.path(), &["show", "one", "--json"])).unwrap();
    assert_eq!(json["folder"], "one");
    fails(
        here.path(),
        &["show", "absent"],
        2,
        &["absent is not a run", "loadgen show --help"],
    );
}

/// What was watched beside a run.
fn resources() -> Resources {
    let process = |role, cost| ProcessUse {
        role,
        cpu_us_per_ok: Some(cost),
        ..ProcessUse::default()
    };
    Resources {
        processes: vec![
            process(ProcessRole::Client, 12.5),
            process(ProcessRole::Server, 30.0),
        ],
        bottleneck: Some(Bottleneck {
            kind: BottleneckKind::Cpu,
            sentence: "the cores of n1".into(),
        }),
        ..Resources::default()
    }
}

#[test]
fn show_says_what_run_said_at_its_end() {
    let (here, folder) = with_run();
    let load = Load {
        thresholds: vec![ThresholdResult {
            expression: "response:p99<20ms".into(),
            verdict: ThresholdVerdict::Fail,
            measured: Some(30e6),
            interval: None,
            limit: 20e6,
            unit: ThresholdUnit::Nanoseconds,
            reason: "p99 of response was 30 ms".into(),
        }],
        ..records::load()
    };
    folder.write_load(&load).unwrap();
    folder.write_resources(&resources()).unwrap();
    let text = prints(here.path(), &["show", "one"]);
    for words in [
        "threshold response:p99<20ms: FAIL: p99 of response was 30 ms",
        "started late by p50",
        "generator: 12 % of a core; 5 redirects, 2 retries",
        "CPU time per ok operation: generator 12.5 µs, servers together 30.0 µs",
        "bottleneck: the cores of n1",
        "requests: n\"1 211 (200 ok, 5 redirected to it, 2 retries)",
        "the generator's own pauses",
    ] {
        assert!(text.contains(words), "{words:?}: {text}");
    }
    let json: Value = serde_json::from_str(&prints(here.path(), &["show", "one", "--json"])).unwrap();
    assert_eq!(json["thresholds"][0]["verdict"], "fail");
    assert_eq!(json["cpu_us_per_ok"]["servers"], 30.0);
    let export = prints(here.path(), &["export", "one", "-f", "json"]);
    let export: Value = serde_json::from_str(&export).unwrap();
    assert_eq!(export["resources"]["processes"][0]["cpu_us_per_ok"], 12.5);
}

#[test]
fn latest_and_names_are_found_in_the_default_root() {
    let here = tempfile::tempdir().unwrap();
    let root = here.path().join("target/runs");
    records::run(&root.join("first"), "the-first");
    records::run(&root.join("second"), "the-second")
        .mark_latest()
        .unwrap();
    assert!(prints(here.path(), &["show"]).contains("load run the-second"));
    assert!(prints(here.path(), &["show", "latest"]).contains("load run the-second"));
    assert!(prints(here.path(), &["show", "first"]).contains("load run the-first"));
    let list = prints(here.path(), &["list"]);
    assert_eq!(list.lines().count(), 3, "the link is no third run: {list}");
}

#[test]
fn list_has_a_row_for_every_run_and_names_what_it_leaves_out() {
    let here = tempfile::tempdir().unwrap();
    assert_eq!(prints(here.path(), &["list"]), "no runs in target/runs\n");
    fails(here.path(), &["list", "absent"], 5, &["cannot list absent"]);
    records::run(&here.path().join("a"), "older");
    let newer = records::run(&here.path().join("b"), HOSTILE);
    let mut manifest = records::manifest(HOSTILE);
    manifest.started_at = "2026-02-02T03:04:05Z".into();
    newer.write_manifest(&manifest).unwrap();
    let interrupted = here.path().join("c");
    fs::create_dir(&interrupted).unwrap();
    fs::write(interrupted.join("history.jsonl"), "").unwrap();
    fs::create_dir(here.path().join("not-a-run")).unwrap();
    let future = here.path().join("future");
    fs::create_dir(&future).unwrap();
    fs::write(future.join(MANIFEST_FILE), r#"{"schema": 99}"#).unwrap();
    let output = output(here.path(), &["list", "."]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("left out") && said.contains("99"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(
        lines[0].starts_with("time") && lines[0].ends_with("verdict"),
        "{text}"
    );
    // Newest first; no control character of a name reaches the terminal.
    assert!(
        lines[1].starts_with("2026-02-02") && lines[1].contains("<c>"),
        "{text}"
    );
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    for cell in [
        "2026-01-02T03:04:05Z",
        "older",
        "load",
        "whitewater",
        "100",
        "75.0 ms",
        "noisy",
    ] {
        assert!(
            lines[2].split("  ").any(|found| found.trim() == cell),
            "{cell}: {text}"
        );
    }
    assert!(
        lines[3].starts_with('-') && lines[3].ends_with("partial"),
        "{text}"
    );
    let json: Value = serde_json::from_str(&prints(here.path(), &["list", ".", "--json"])).unwrap();
    assert_eq!(json[0]["name"], HOSTILE);
    assert_eq!(json[1]["p50"], 75_000_000);
    assert_eq!(json[1]["ok_per_second"], 100.0);
    assert_eq!(json[2]["started_at"], Value::Null);
}

#[test]
fn export_writes_every_format() {
    let (here, folder) = with_run();
    let export = |format: &str, more: &[&str]| {
        prints(
            here.path(),
            &[&["export", "one", "--format", format], more].concat(),
        )
    };
    let totals = export("csv", &[]);
    assert!(totals.contains("\nput,timeout_client,response,3,"), "{totals}");
    assert_eq!(export("csv-intervals", &[]).lines().count(), 3);
    assert!(export("bmf", &[]).contains("by-hand/get/response/p90"));
    let page = export("prometheus", &[]);
    assert!(
        page.contains("outcome=\"timeout_client\"") && page.contains("run=\"by-hand\""),
        "{page}"
    );
    let document: Value = serde_json::from_str(&export("json", &[])).unwrap();
    assert_eq!(document["load"], serde_json::json!(records::load()));
    assert_eq!(document["manifest"]["name"], "by-hand");
    let log = IntervalLog::read(export("hlog", &[]).as_bytes()).unwrap();
    assert_eq!(log, IntervalLog::open(&folder.file(LATENCY_FILE)).unwrap());
}

#[test]
fn a_tag_and_a_range_choose_histograms() {
    let (here, _) = with_run();
    let count = |more: &[&str]| {
        let text = prints(here.path(), &[&["export", "one", "-f", "hgrm"], more].concat());
        let read = hgrm::read(&text).unwrap();
        (read.total_count, read.max.round() as u64)
    };
    assert_eq!(count(&[]), (200, 100));
    assert_eq!(count(&["--tag", "put.timeout_client.response"]), (200, 2001));
    assert_eq!(count(&["--from", "1s"]), (100, 100));
    assert_eq!(count(&["--to", "1s", "--tag", "get.ok.response"]), (100, 100));
    let log = prints(
        here.path(),
        &["export", "one", "-f", "hlog", "--tag", "get.ok.response"],
    );
    let log = IntervalLog::read(log.as_bytes()).unwrap();
    assert_eq!((log.entries.len(), log.tags().len()), (2, 1));
    fails(
        here.path(),
        &["export", "one", "-f", "hgrm", "--tag", "put.ok"],
        2,
        &["`put.ok`", "get.ok.response, put.timeout_client.response"],
    );
    fails(
        here.path(),
        &["export", "one", "-f", "hgrm", "--from", "1h"],
        2,
        &["no interval begins"],
    );
    fails(
        here.path(),
        &["export", "one", "-f", "csv", "--tag", "a"],
        2,
        &["hgrm, hlog or prometheus"],
    );
}

#[test]
fn a_file_is_written_whole_or_not_at_all() {
    let (here, _) = with_run();
    let target = here.path().join("out.csv");
    fs::write(&target, "before").unwrap();
    let printed = prints(here.path(), &["export", "one", "-f", "csv", "-o", "out.csv"]);
    assert_eq!(printed, "");
    assert_eq!(
        fs::read_to_string(&target).unwrap(),
        prints(here.path(), &["export", "one", "-f", "csv"])
    );
    fails(
        here.path(),
        &["export", "one", "-f", "csv", "-o", "absent/out.csv"],
        5,
        &["cannot write absent/out.csv"],
    );
    fails(
        here.path(),
        &["export", "one", "-f", "csv", "-o", "one"],
        5,
        &["cannot write one"],
    );
    let left: Vec<_> = fs::read_dir(here.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn damage_is_named_by_file_and_line() {
    let (here, folder) = with_run();
    let path = folder.file(LATENCY_FILE);
    let whole = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    let mut broken = lines.clone();
    broken[7] = "Tag=put.ok.response,0.000,1.000,what,HISTFAAA";
    fs::write(&path, broken.join("\n") + "\n").unwrap();
    fails(
        here.path(),
        &["export", "one", "-f", "hgrm"],
        5,
        &["latency.hlog: line 8", "`what` is not a number"],
    );
    // Cut short by a stop: what is whole is used, and said.
    fs::write(&path, &whole[..whole.len() - 20]).unwrap();
    let output = output(here.path(), &["export", "one", "-f", "hgrm"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&format!("cut short inside line {}", lines.len())),
        "{said}"
    );
    fs::remove_file(&path).unwrap();
    fails(
        here.path(),
        &["export", "one", "-f", "hlog"],
        5,
        &["has no latency.hlog"],
    );
    fs::write(folder.file(LOAD_FILE), "{").unwrap();
    fails(
        here.path(),
        &["export", "one", "-f", "csv"],
        5,
        &["load.json is damaged"],
    );
    fs::remove_file(folder.file(LOAD_FILE)).unwrap();
    fails(
        here.path(),
        &["export", "one", "-f", "csv"],
        5,
        &["has no load.json"],
    );
}

#[test]
fn schema_prints_what_the_tests_hold_records_against() {
    let here = tempfile::tempdir().unwrap();
    for (arguments, id) in [
        (&["schema"][..], "urn:whitewater:schema:load:1"),
        (&["schema", "load"], "urn:whitewater:schema:load:1"),
        (&["schema", "manifest"], "urn:whitewater:schema:manifest:1"),
        (&["schema", "stream"], "urn:whitewater:schema:stream:1"),
    ] {
        let schema: Value = serde_json::from_str(&prints(here.path(), arguments)).unwrap();
        assert_eq!(schema["$id"], id);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
    fails(here.path(), &["schema", "house"], 2, &["manifest"]);
}
