//! The command as a user meets it.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::record::{LATENCY_FILE, REPORT_FILE, RunFolder, RunKind};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn output(arguments: &[&str]) -> Output {
    timeout(PATIENCE, loadgen(arguments).output())
        .await
        .unwrap()
        .unwrap()
}

/// Runs it, and asserts how it ended and what it said on standard error.
async fn fails(arguments: &[&str], code: i32, words: &[&str]) {
    let output = output(arguments).await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    assert!(output.stdout.is_empty(), "{arguments:?}");
    for word in words {
        assert!(said.contains(word), "{arguments:?} should say {word:?}: {said}");
    }
}

#[tokio::test]
async fn wrong_usage_says_what_is_wrong_and_exits_with_2() {
    let to = ["run", "--endpoints", "127.0.0.1:1"];
    let with = |rest: &[&'static str]| [&to, rest].concat();
    fails(
        &to,
        2,
        &[
            "--rate 5000",
            "open loop",
            "--closed --clients 64",
            "hides the stall",
        ],
    )
    .await;
    fails(&with(&["--rate", "5", "--closed"]), 2, &["cannot be used with"]).await;
    fails(&with(&["--rate", "fast"]), 2, &["not a number"]).await;
    fails(&with(&["--rate", "0"]), 2, &["above zero"]).await;
    fails(&with(&["--rate", "5", "--duration", "30"]), 2, &["30s"]).await;
    fails(
        &with(&["--rate", "5", "--mix", "swap=1"]),
        2,
        &["no operation `swap`"],
    )
    .await;
    fails(
        &with(&["--rate", "5", "--value-size", "8"]),
        2,
        &["at least", "checksum"],
    )
    .await;
    fails(
        &with(&["--rate", "5", "--clients", "3"]),
        2,
        &["cannot be used with"],
    )
    .await;
    fails(
        &with(&["--closed", "--clients", "5m"]),
        2,
        &["more than this tool takes on"],
    )
    .await;
    fails(
        &with(&["--rate", "5", "--timeout", "0s"]),
        2,
        &["timeout must be above zero"],
    )
    .await;
    fails(&["run", "--rate", "5"], 2, &["--endpoints", "--target"]).await;
    let unread = output(&with(&["--arrival", "replay:/nowhere/plan"])).await;
    let said = String::from_utf8_lossy(&unread.stderr);
    assert_eq!(said.matches("No such file").count(), 1, "{said}");
    for (threshold, words) in [
        (
            "unavailable:longest<3s abort",
            "known only when the run is over, so that it cannot `abort`",
        ),
        (
            "response{phase=stage-2}:p99<1s",
            "no phase `stage-2`; it has steady",
        ),
        (
            "response:p99<1s over 100ms",
            "shorter than the slices that are recorded, which take 1s",
        ),
    ] {
        fails(&with(&["--rate", "5", "--threshold", threshold]), 2, &[words]).await;
    }
    fails(
        &["run", "--endpoints", "nowhere", "--rate", "5"],
        2,
        &["`nowhere` names no target", "host:port"],
    )
    .await;
    fails(&[], 2, &["Usage"]).await;
}

#[tokio::test]
async fn a_folder_that_holds_something_is_left_alone() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("precious"), "x").unwrap();
    let out = folder.path().to_str().unwrap();
    let arguments = ["run", "--endpoints", "127.0.0.1:1", "--rate", "5", "--out", out];
    fails(&arguments, 2, &["is not empty"]).await;
    assert_eq!(
        std::fs::read_to_string(folder.path().join("precious")).unwrap(),
        "x"
    );
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_named_and_nothing_is_left_behind() {
    let (_socket, refusing) = refusing_address();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let out = out.to_str().unwrap();
    fails(
        &["run", "--endpoints", &refusing, "--rate", "5", "--out", out],
        5,
        &[&format!("endpoint {refusing} does not answer"), "start the node"],
    )
    .await;
    assert!(!Path::new(out).exists());

    let stub = Stub::start(1).await;
    let both = format!("{},{refusing}", stub.endpoints()[0]);
    let base = [
        "run",
        "--endpoints",
        &both,
        "--rate",
        "100",
        "--duration",
        "300ms",
        "--out",
        out,
    ];
    fails(&base, 5, &[&refusing, "--allow-unreachable"]).await;
    let allowed = output(&[&base[..], &["--allow-unreachable"]].concat()).await;
    assert_eq!(allowed.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&allowed.stderr).contains("warning: endpoint"));
}

#[tokio::test]
async fn a_run_leaves_a_complete_record() {
    let stub = Stub::start(3).await;
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("run");
    let endpoints = stub.endpoints().join(",");
    let output = output(&[
        "run",
        "--endpoints",
        &endpoints,
        "--rate",
        "400",
        "--arrival",
        "constant",
        "--duration",
        "1s",
        "--mix",
        "put=40,get=40,cas=10,delete=10",
        "--key-space",
        "10",
        "--name",
        "first",
        "--out",
        out.to_str().unwrap(),
    ])
    .await;
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("400 ok") && said.contains("generator:"), "{said}");
    assert!(said.contains(out.to_str().unwrap()));

    let folder = RunFolder::open(&out).unwrap();
    let manifest = folder.read_manifest().unwrap().unwrap();
    assert_eq!(
        (manifest.kind, manifest.name.as_str(), manifest.partial),
        (RunKind::Load, "first", false)
    );
    assert!(manifest.duration >= 990_000_000 && manifest.binary_sha256.is_some());
    let nodes: Vec<_> = manifest.nodes.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(nodes, ["n0", "n1", "n2"]);
    let seed = manifest.seed.to_string();
    assert!(
        manifest.command.ends_with(&["--seed".to_owned(), seed]),
        "{:?}",
        manifest.command
    );
    assert!(!manifest.command.iter().any(|argument| argument == "--out"));
    assert_eq!(manifest.configuration["load"]["timeout"], "2s");

    let load = folder.read_load().unwrap().unwrap();
    assert_eq!(
        (load.planned, load.counts.ok, load.integrity_errors),
        (400, 400, 0)
    );
    let history = folder.read_history().unwrap().unwrap();
    assert_eq!(check_history(&history.events).values().sum::<u64>(), 400);
    assert!(
        std::fs::read_to_string(out.join(LATENCY_FILE))
            .unwrap()
            .contains("Tag=put.ok.response")
    );
    assert!(out.join(REPORT_FILE).is_file());
}

#[tokio::test]
async fn thresholds_decide_the_exit_code_and_may_end_the_run() {
    let stub = Stub::start(1).await;
    let parent = TempDir::new().unwrap();
    let endpoints = stub.endpoints();
    let run = |name: &str, duration: &'static str, threshold: &'static str| {
        let out = parent.path().join(name);
        let mut command = loadgen(&["run", "--rate", "400", "--interval", "50ms", "--mix", "put=1"]);
        command.args(["--endpoints", &endpoints[0], "--duration", duration]);
        command.args(["--no-report", "--no-history", "--quiet", "--threshold", threshold]);
        command.arg("--out").arg(&out);
        async move {
            let output = timeout(PATIENCE, command.output()).await.unwrap().unwrap();
            let load = RunFolder::open(&out).unwrap().read_load().unwrap().unwrap();
            (output.status.code(), load.thresholds[0].reason.clone())
        }
    };
    for (name, duration, threshold, code) in [
        ("ended", "1h", "service{op=put}:max<1us abort", 97),
        ("late", "1h", "scheduled{phase=steady}:p50<1us abort", 97),
        ("clean", "300ms", "errors{op=put,outcome=transport}:rate<=0%", 0),
        ("broken", "300ms", "response:max<1us", 99),
    ] {
        let (exit, reason) = run(name, duration, threshold).await;
        assert_eq!(exit, Some(code), "{threshold}: {reason}");
    }
}

#[tokio::test]
async fn json_is_one_document_and_nothing_else() {
    let stub = Stub::start(1).await;
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("run");
    let output = output(&[
        "run",
        "--endpoints",
        &stub.endpoints()[0],
        "--closed",
        "--clients",
        "2",
        "--duration",
        "300ms",
        "--seed",
        "7",
        "--json",
        "--no-report",
        "--no-history",
        "--out",
        out.to_str().unwrap(),
    ])
    .await;
    assert_eq!(output.status.code(), Some(0));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["seed"], 7);
    assert_eq!(document["load"]["counts"]["failed"], 0, "{document:#}");
    assert!(
        document["generator"]["lateness"].is_null(),
        "there is no plan to be late for"
    );
    assert!(!out.join(REPORT_FILE).exists() && !out.join("history.jsonl").exists());
}

#[tokio::test]
async fn damaged_values_end_with_1() {
    let stub = Stub::start(1).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    assert!(stub.client().put("k0", "not ours", deadline).await.is_ok());
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("run");
    let output = output(&[
        "run",
        "--endpoints",
        &stub.endpoints()[0],
        "--rate",
        "100",
        "--duration",
        "300ms",
        "--mix",
        "get=1",
        "--key-space",
        "1",
        "--key-prefix",
        "k",
        "--out",
        out.to_str().unwrap(),
    ])
    .await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("DAMAGED"));
}

#[tokio::test]
async fn each_run_has_keys_of_its_own_unless_told_otherwise() {
    let stub = Stub::start(1).await;
    let parent = TempDir::new().unwrap();
    let endpoint = stub.endpoints()[0].clone();
    let mut prefixes = Vec::new();
    for (name, asked) in [("first", None), ("second", None), ("third", Some("mine-"))] {
        let out = parent.path().join(name);
        let mut arguments = vec!["run", "--endpoints", &endpoint, "--rate", "200"];
        arguments.extend(["--duration", "200ms", "--key-space", "3", "--no-report"]);
        arguments.extend(["--out", out.to_str().unwrap()]);
        arguments.extend(asked.iter().flat_map(|prefix| ["--key-prefix", prefix]));
        let output = output(&arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let folder = RunFolder::open(&out).unwrap();
        let manifest = folder.read_manifest().unwrap().unwrap();
        let prefix = manifest.configuration["load"]["workload"]["key_prefix"].clone();
        let prefix = prefix.as_str().unwrap().to_owned();
        let history = folder.read_history().unwrap().unwrap();
        assert!(!history.events.is_empty());
        assert!(history.events.iter().all(|event| event.key.starts_with(&prefix)));
        prefixes.push(prefix);
    }
    assert_ne!(prefixes[0], prefixes[1]);
    assert!(prefixes[0].starts_with('k') && prefixes[0].ends_with('-'));
    assert_eq!(prefixes[2], "mine-");

    let help = output(&["run", "--help"]).await;
    let help = String::from_utf8_lossy(&help.stdout);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("[default: unique per run]"), "{help}");
    assert!(
        help.contains("held values before the run cannot be checked"),
        "{help}"
    );
}

#[tokio::test]
async fn an_interrupted_run_is_recorded_as_far_as_it_came() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let stub = Stub::start(1).await;
        let parent = TempDir::new().unwrap();
        let out = parent.path().join("run");
        let child = loadgen(&[
            "run",
            "--endpoints",
            &stub.endpoints()[0],
            "--rate",
            "200",
            "--duration",
            "1h",
            "--out",
            out.to_str().unwrap(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
        until(|| stub.executed() >= 60).await;
        kill(Pid::from_raw(child.id().unwrap() as i32), signal).unwrap();
        let output = timeout(PATIENCE, child.wait_with_output())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(output.status.code(), Some(130));
        let folder = RunFolder::open(&out).unwrap();
        let manifest = folder.read_manifest().unwrap().unwrap();
        assert!(manifest.partial && manifest.duration > 0);
        let load = folder.read_load().unwrap().unwrap();
        assert!(load.counts.ok >= 60 && load.planned == load.counts.total());
        let history = folder.read_history().unwrap().unwrap();
        assert_eq!(
            check_history(&history.events).values().sum::<u64>(),
            load.counts.total() - load.counts.unsent
        );
        assert!(out.join(REPORT_FILE).is_file());
    }
}

#[tokio::test]
async fn plain_progress_appears_where_there_is_no_terminal() {
    let stub = Stub::start(1).await;
    let parent = TempDir::new().unwrap();
    let out = parent.path().join("run");
    let mut child = loadgen(&[
        "run",
        "--endpoints",
        &stub.endpoints()[0],
        "--rate",
        "50",
        "--duration",
        "1h",
        "--out",
        out.to_str().unwrap(),
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = {
        use tokio::io::AsyncBufReadExt;
        tokio::io::BufReader::new(child.stderr.take().unwrap()).lines()
    };
    let line = timeout(PATIENCE + Duration::from_secs(10), lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(line.contains("ok/s") && line.contains("/3600s"), "{line}");
    child.kill().await.unwrap();
}
