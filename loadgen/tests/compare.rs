//! `loadgen compare` as a user meets it, on run folders written here.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reports::record::{
    Counts, Load, LoadPhase, LoadVerdict, LoopKind, Machine, Manifest, NodeInfo, OperationLoad, Percentiles,
    ProcessRole, ProcessUse, Resources, RunFolder, RunKind, SCHEMA_VERSION,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Writes a run whose latencies are `slower` times those of the usual one.
fn write_run(root: &Path, name: &str, slower: f64, value_size: u64) -> PathBuf {
    let folder = RunFolder::create(root.join(name)).unwrap();
    let nanos = |value: f64| Some((value * slower) as u64);
    let percentiles = Percentiles {
        count: 50_000,
        p50: nanos(1e6),
        p99: nanos(5e6),
        p999: nanos(9e6),
        ..Percentiles::default()
    };
    let total = OperationLoad {
        response: Some(percentiles.clone()),
        service: Some(percentiles),
        ..OperationLoad::default()
    };
    let load = Load {
        kind: LoopKind::Poisson,
        rate: Some(5000.0),
        planned: 50_000,
        counts: Counts {
            ok: 50_000,
            ..Counts::default()
        },
        total: Some(total),
        client_cpu: Some(1_000_000_000),
        phases: vec![LoadPhase {
            name: "steady".into(),
            start: 0,
            end: 10_000_000_000,
        }],
        verdict: LoadVerdict::Valid,
        ..Load::default()
    };
    let manifest = Manifest {
        schema: SCHEMA_VERSION,
        kind: RunKind::Load,
        name: name.into(),
        about: String::new(),
        started_at: "2026-01-01T00:00:00Z".into(),
        duration: 10_000_000_000,
        seed: 7,
        command: Vec::new(),
        tool_version: "0.1.0".into(),
        commit: None,
        binary_sha256: None,
        machine: Machine::default(),
        nodes: vec![NodeInfo {
            id: "n1".into(),
            endpoint: "a:1".into(),
        }],
        configuration: json!({"load": {"workload": {"keys": 1000, "value_size": value_size}}}),
        partial: false,
    };
    folder.write_manifest(&manifest).unwrap();
    folder.write_load(&load).unwrap();
    folder.path().to_owned()
}

/// Six runs that differ by up to one percent, and their list for the command line.
fn six(root: &Path, name: &str, slower: f64) -> String {
    let runs = (0..6).map(|i| {
        write_run(
            root,
            &format!("{name}{i}"),
            slower * (1.0 + f64::from(i) * 0.002),
            256,
        )
    });
    runs.map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(",")
}

fn compare(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.arg("compare").args(arguments).output().unwrap()
}

#[track_caller]
fn ends(arguments: &[&str], code: i32, words: &[&str]) -> String {
    let output = compare(arguments);
    let (said, warned) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{warned}");
    for word in words {
        assert!(
            said.contains(word) || warned.contains(word),
            "{word:?}: {said}{warned}"
        );
    }
    said
}

#[test]
fn a_regression_is_found_named_and_told_by_the_exit_code() {
    let scratch = TempDir::new().unwrap();
    let (base, same, slow) = (
        six(scratch.path(), "base", 1.0),
        six(scratch.path(), "same", 1.001),
        six(scratch.path(), "slow", 1.2),
    );
    ends(
        &["--base", &base, "--new", &same],
        0,
        &["UNCHANGED (6 and 6 runs)", "response p99"],
    );
    ends(
        &["--base", &base, "--new", &slow],
        1,
        &["REGRESSED (6 and 6 runs)", "5.03 ms", "6.03 ms", "+20 %"],
    );
    ends(&["--base", &slow, "--new", &base], 0, &["IMPROVED", "-17 %"]);
    ends(
        &["--base", &base, "--new", &slow, "--noise", "50%"],
        0,
        &["UNCHANGED"],
    );
    let document: Value =
        serde_json::from_str(&ends(&["--base", &base, "--new", &slow, "--json"], 1, &[])).unwrap();
    assert_eq!(document["comparison"]["verdict"], "regressed");
    let metrics = document["comparison"]["metrics"].as_array().unwrap();
    let p99 = metrics
        .iter()
        .find(|metric| metric["metric"] == "response p99")
        .unwrap();
    assert_eq!(p99["change"], "regressed");
    assert!((p99["ratio"].as_f64().unwrap() - 1.2).abs() < 0.01, "{p99}");
    assert!(p99["interval"]["low"].as_f64().unwrap() > 1.15, "{p99}");
}

#[test]
fn one_run_a_side_decides_nothing() {
    let scratch = TempDir::new().unwrap();
    let base = write_run(scratch.path(), "base", 1.0, 256).display().to_string();
    let slow = write_run(scratch.path(), "slow", 3.0, 256).display().to_string();
    ends(
        &[&base, &slow],
        0,
        &[
            "UNDECIDED",
            "within-run only: cannot see run-to-run noise",
            "3.00 x",
            "6 runs a side",
        ],
    );
}

#[test]
fn runs_under_different_conditions_are_refused_unless_forced() {
    let scratch = TempDir::new().unwrap();
    let base = write_run(scratch.path(), "base", 1.0, 256).display().to_string();
    let other = write_run(scratch.path(), "other", 1.0, 1024)
        .display()
        .to_string();
    let said = ends(
        &[&base, &other],
        2,
        &["same conditions", "value_size: 256 and 1024", "--force"],
    );
    assert!(said.is_empty(), "{said}");
    ends(
        &[&base, &other, "--force"],
        0,
        &["FORCED, not the same: value_size: 256 and 1024"],
    );
    let document: Value = serde_json::from_str(&ends(&[&base, &other, "--json"], 2, &[])).unwrap();
    assert_eq!(document["comparison"]["verdict"], "not-comparable");
    assert_eq!(document["differences"][0]["difference"]["what"], "value_size");
}

#[test]
fn wrong_usage_says_what_is_wrong() {
    let scratch = TempDir::new().unwrap();
    let base = write_run(scratch.path(), "base", 1.0, 256).display().to_string();
    let nowhere = scratch.path().join("nowhere").display().to_string();
    ends(&[], 2, &["compare BASE NEW"]);
    ends(&[&base], 2, &["NEW"]);
    ends(&["--base", &base], 2, &["--new"]);
    ends(&[&base, &nowhere], 2, &["nowhere"]);
    ends(&[&base, &base], 2, &["given twice"]);
    ends(&[&base, &nowhere, "--noise", "3"], 2, &["percentage"]);
}

/// Writes two runs of a target, in which everything takes `slower` times as long, and gives their list.
fn two(
    root: &Path,
    name: &str,
    target: &str,
    slower: f64,
    change: impl Fn(&mut Manifest, &mut Load),
) -> String {
    let runs = (0..2).map(|i| {
        let slower = slower * (1.0 + f64::from(i) * 0.002);
        let path = write_run(root, &format!("{name}{i}"), slower, 256);
        let folder = RunFolder::open(&path).unwrap();
        let (mut manifest, mut load) = (
            folder.read_manifest().unwrap().unwrap(),
            folder.read_load().unwrap().unwrap(),
        );
        manifest.configuration["target"] = json!(target);
        load.counts.ok = (load.counts.ok as f64 / slower) as u64;
        change(&mut manifest, &mut load);
        folder.write_manifest(&manifest).unwrap();
        folder.write_load(&load).unwrap();
        let server = ProcessUse {
            role: ProcessRole::Server,
            cpu_us_per_ok: Some(20.0 * slower),
            ..ProcessUse::default()
        };
        let resources = Resources {
            processes: vec![server],
            ..Resources::default()
        };
        folder.write_resources(&resources).unwrap();
        path.display().to_string()
    });
    runs.collect::<Vec<_>>().join(",")
}

fn as_it_is(_: &mut Manifest, _: &mut Load) {}

#[test]
fn ratios_of_two_targets_are_recorded_and_a_later_regression_is_told() {
    let scratch = TempDir::new().unwrap();
    let root = scratch.path();
    let file = root.join("ratios/puts.json").display().to_string();
    let raft = two(root, "raft", "raft://: 1 node, data on ext4", 2.0, as_it_is);
    let echo = two(root, "echo", "echo://far.example:1", 1.0, as_it_is);
    ends(
        &["--base", &raft, "--new", &echo, "--record", &file],
        0,
        &["RECORDED: raft / echo", "response p50", "2.00"],
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["schema"], "whitewater-ratios");
    assert_eq!(document["first"], json!({"target": "raft", "nodes": 1}));
    assert_eq!(document["ratios"][0]["ratio"], 0.5);
    assert_eq!(document["ratios"].as_array().unwrap().len(), 4);
    assert!(!text.contains("far.example") && !text.contains("ext4"), "{text}");

    // Everything twice as slow on another machine, so that the ratios are the same.
    let (raft, echo) = (
        two(root, "raft-later", "raft://", 4.0, as_it_is),
        two(root, "echo-later", "echo://", 2.0, as_it_is),
    );
    let held = ["--new", &echo, "--recorded", &file, "--base"];
    let with = |base, more: &[&'static str]| -> Vec<String> {
        let all = held.iter().chain([&base]).chain(more);
        all.map(|word| (*word).to_owned()).collect()
    };
    let ends = |arguments: &[String], code, words: &[&str]| {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        ends(&arguments, code, words)
    };
    let said = ends(&with(&raft, &[]), 0, &["OK: raft / echo", "(tolerance 25%)"]);
    // The two are no rivals.
    assert!(said.starts_with("OK: ") && !said.contains("UNDECIDED"), "{said}");
    assert_eq!(said.matches(" ok").count(), 4, "{said}");
    assert!(said.contains("ok (only shown)"), "{said}");

    let slow = two(root, "raft-slow", "raft://", 5.4, as_it_is);
    let said = ends(&with(&slow, &[]), 1, &["REGRESSION: raft / echo"]);
    assert_eq!(said.matches(" regression").count(), 4, "{said}");
    ends(&with(&slow, &["--tolerance", "40%"]), 0, &["OK: raft / echo"]);
    let document: Value = serde_json::from_str(&ends(&with(&slow, &["--json"]), 1, &[])).unwrap();
    assert!(document.get("comparison").is_none(), "{document}");
    let judgement = &document["ratios"]["judgement"];
    assert_eq!(judgement["verdict"], "regression");
    assert_eq!(judgement["ratios"][0]["quantity"], "throughput");
    assert_eq!(judgement["ratios"][0]["verdict"], "regression");
    assert_eq!(judgement["ratios"][2]["decides"], false);
    let fast = two(root, "raft-fast", "raft://", 2.0, as_it_is);
    ends(&with(&fast, &[]), 0, &["OK", "better"]);

    // Only the tail is worse.
    let tail = two(root, "raft-tail", "raft://", 4.0, |_, load| {
        let response = load.total.as_mut().unwrap().response.as_mut().unwrap();
        response.p99 = response.p99.map(|p99| p99 * 3);
    });
    ends(&with(&tail, &[]), 0, &["OK", "regression (only shown)"]);
    ends(&with(&tail, &["--gate", "p99"]), 1, &["REGRESSION"]);
}

/// A file with the ratios of raft and echo, and their trials.
fn recorded(root: &Path) -> (String, String, String) {
    let file = root.join("puts.json").display().to_string();
    let raft = two(root, "raft", "raft://", 2.0, as_it_is);
    let echo = two(root, "echo", "echo://", 1.0, as_it_is);
    ends(&["--base", &raft, "--new", &echo, "--record", &file], 0, &[]);
    (file, raft, echo)
}

#[test]
fn a_ratio_that_is_worse_only_by_its_estimate_is_unsure_and_no_pass() {
    let scratch = TempDir::new().unwrap();
    let root = scratch.path();
    let (file, raft, echo) = recorded(root);
    // One trial as recorded, one that takes twice as long.
    let slow = two(root, "slow", "raft://", 4.0, as_it_is);
    let first = |runs: &str| runs.split(',').next().unwrap().to_owned();
    let mixed = format!("{},{}", first(&raft), first(&slow));
    let held = ["--base", &mixed, "--new", &echo, "--recorded", &file];
    let said = ends(
        &held,
        98,
        &["NO CONCLUSION: raft / echo", "because: throughput looks worse"],
    );
    assert!(said.contains("unsure: more trials would tell\n"), "{said}");
    let json: Vec<&str> = held.iter().copied().chain(["--json"]).collect();
    let document: Value = serde_json::from_str(&ends(&json, 98, &[])).unwrap();
    let judgement = &document["ratios"]["judgement"];
    assert_eq!(judgement["verdict"], "no-conclusion");
    assert_eq!(judgement["ratios"][0]["verdict"], "unsure");
}

#[test]
fn what_is_not_measured_is_warned_of_and_cannot_be_made_to_decide() {
    let scratch = TempDir::new().unwrap();
    let root = scratch.path();
    let file = root.join("puts.json").display().to_string();
    let without = |_: &mut Manifest, load: &mut Load| {
        let total = load.total.as_mut().unwrap();
        for percentiles in [&mut total.response, &mut total.service] {
            percentiles.as_mut().unwrap().p99 = None;
            percentiles.as_mut().unwrap().p50 = None;
        }
    };
    let raft = two(root, "raft", "raft://", 2.0, without);
    let echo = two(root, "echo", "echo://", 1.0, as_it_is);
    ends(
        &["--base", &raft, "--new", &echo, "--record", &file],
        0,
        &["RECORDED", "warning: no p50 was measured in all trials"],
    );
    let held = ["--base", &raft, "--new", &echo, "--recorded", &file];
    ends(&held, 0, &["OK", "note: no p50 is recorded"]);
    let gated: Vec<&str> = held.iter().copied().chain(["--gate", "p99"]).collect();
    let said = ends(&gated, 2, &["puts.json holds no ratio of p99", "--gate"]);
    assert!(said.is_empty(), "{said}");
    for alone in [["--tolerance", "10%"], ["--gate", "p99"]] {
        let arguments: Vec<&str> = ["--base", &raft, "--new", &echo]
            .into_iter()
            .chain(alone)
            .collect();
        ends(&arguments, 2, &["--recorded"]);
    }
}

#[test]
fn trials_that_cannot_be_believed_are_neither_a_pass_nor_recorded() {
    let scratch = TempDir::new().unwrap();
    let root = scratch.path();
    let file = root.join("puts.json").display().to_string();
    let raft = two(root, "raft", "raft://", 2.0, as_it_is);
    let echo = two(root, "echo", "echo://", 1.0, as_it_is);
    let thin = two(root, "thin", "raft://", 2.0, |_, load| {
        load.verdict = LoadVerdict::TooThin("3 operations".into());
    });
    let bound = two(root, "bound", "echo://", 1.0, |_, load| {
        load.verdict = LoadVerdict::GeneratorBound("busy".into());
    });
    let damaged = two(root, "damaged", "raft://", 2.0, |_, load| {
        load.integrity_errors = 2
    });
    let not = ["NOT RECORDED: raft / echo", "too thin: 3 operations"];
    ends(&["--base", &thin, "--new", &echo, "--record", &file], 98, &not);
    assert!(!Path::new(&file).exists());
    ends(&["--base", &raft, "--new", &echo, "--record", &file], 0, &[]);
    let held = |base: &str, new: &str, code, words: &[&str]| {
        ends(&["--base", base, "--new", new, "--recorded", &file], code, words)
    };
    held(
        &thin,
        &echo,
        98,
        &["NO CONCLUSION", "because: ", "too thin: 3 operations"],
    );
    held(
        &raft,
        &bound,
        98,
        &["NO CONCLUSION", "limited by the generator: busy"],
    );
    held(
        &damaged,
        &echo,
        1,
        &["DAMAGED VALUES", "returned 2 damaged values"],
    );
    // If the generator is always the limit of one of them, the file says so.
    ends(
        &["--base", &raft, "--new", &bound, "--record", &file],
        0,
        &["RECORDED", "the file says so"],
    );
    held(&raft, &bound, 0, &["OK", "as when it was recorded"]);
}

#[test]
fn ratios_are_only_held_against_those_of_the_same_trials() {
    let scratch = TempDir::new().unwrap();
    let root = scratch.path();
    let (file, raft, echo) = recorded(root);
    let larger = |manifest: &mut Manifest, _: &mut Load| {
        manifest.configuration["load"]["workload"]["value_size"] = json!(1024);
    };
    let other = (
        two(root, "raft-1k", "raft://", 2.0, larger),
        two(root, "echo-1k", "echo://", 1.0, larger),
    );
    let held = |base: &str, new: &str, words: &[&str]| {
        let said = ends(&["--base", base, "--new", new, "--recorded", &file], 2, words);
        assert!(said.is_empty(), "{said}");
    };
    held(
        &other.0,
        &other.1,
        &["puts.json", "value_size: 256 recorded, 1024 now"],
    );
    held(&echo, &raft, &["first target: raft recorded, echo now"]);
    held(&raft, &other.1, &["same conditions", "value_size: 256 and 1024"]);
    let one = |runs: &str| runs.split(',').next().unwrap().to_owned();
    held(&one(&raft), &one(&echo), &["at least 2 trials a side"]);
    ends(
        &[
            "--base",
            &raft,
            "--new",
            &echo,
            "--recorded",
            &file,
            "--record",
            &file,
        ],
        2,
        &["cannot be used with"],
    );
    std::fs::write(&file, "{\"schema\": \"other\"}").unwrap();
    held(
        &raft,
        &echo,
        &["puts.json does not hold recorded ratios: its schema is `other`"],
    );
    std::fs::remove_file(&file).unwrap();
    held(&raft, &echo, &["cannot read", "puts.json"]);
}

/// Nothing is started before it is clear that its ratios could be used.
#[test]
fn live_trials_that_were_recorded_otherwise_are_refused_before_they_are_made() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("puts.json").display().to_string();
    let raft = two(scratch.path(), "raft", "raft://", 2.0, as_it_is);
    let echo = two(scratch.path(), "echo", "echo://", 1.0, as_it_is);
    ends(&["--base", &raft, "--new", &echo, "--record", &file], 0, &[]);
    let live = |more: &[&str], words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
        command.args(["compare", "--target", "raft", "--target", "echo"]);
        let output = command.args(more).current_dir(scratch.path()).output().unwrap();
        let warned = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{warned}");
        assert!(!warned.contains("trial 1 of"), "{warned}");
        assert!(!scratch.path().join("target").exists(), "no folder for no run");
        for word in words {
            assert!(warned.contains(word), "{word:?}: {warned}");
        }
    };
    let clients = "arrivals.closed.clients: not given recorded, 256 now";
    live(&["--recorded", &file], &[clients, "record anew with --record"]);
    live(
        &["--recorded", &file, "--trials", "1"],
        &["at least 2 trials a side"],
    );
    // What cannot be written is known before, too, and nobody's file is written over.
    let manifest = scratch.path().join("Cargo.toml");
    std::fs::write(&manifest, "[package]\n").unwrap();
    let inside = manifest.join("puts.json").display().to_string();
    live(&["--record", "."], &["is not written over: it is a folder"]);
    live(&["--record", "Cargo.toml"], &["Cargo.toml is not written over"]);
    live(&["--record", &inside], &["cannot write", "puts.json"]);
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), "[package]\n");
}
