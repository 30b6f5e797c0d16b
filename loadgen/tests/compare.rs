//! `loadgen compare` as a user meets it, on run folders written here.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reports::record::{
    Counts, Load, LoadPhase, LoadVerdict, LoopKind, Machine, Manifest, NodeInfo, OperationLoad, Percentiles,
    RunFolder, RunKind, SCHEMA_VERSION,
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
