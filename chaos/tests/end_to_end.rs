//! Whole runs of the `chaos` program on real processes: what passes, what must be caught, and what is left behind.
//!
//! * a correct store passes `leader-kill`, with its leader really killed;
//! * two planted bugs do not;
//! * interrupted, killed, or driven through a toxiproxy-server's API, a run ends clean;
//! * mistakes are told apart by exit code.
//!
//! Runs take turns: each is a cluster under load, and the machine may be small.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chaos::proxy::Embedded;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reports::record::{CheckStatus, Outcome, RunFolder, Verdict};

/// One run at a time.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chaos(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chaos"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn leader_kill() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("scenarios/leader-kill.yaml")
        .display()
        .to_string()
}

/// A folder for one run, and a short scenario in it.
struct Scratch {
    folder: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Scratch {
        Scratch {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn scenario(&self, duration: &str) -> String {
        let path = self.folder.path().join("short.yaml");
        let text = format!(
            "name: short\nduration: {duration}\nworkload: {{ rate: 300/s, clients: 16 }}\nfaults:\n  - kill: {{ target: leader, \
             at: 1s, for: 500ms }}\n"
        );
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn run(&self, scenario: &str, more: &[&str]) -> Output {
        let out = self.out().display().to_string();
        let arguments = [&["run", scenario, "--out", &out], more].concat();
        chaos(&arguments).output().unwrap()
    }

    fn verdict(&self) -> Verdict {
        RunFolder::open(self.out())
            .unwrap()
            .read_verdict()
            .unwrap()
            .unwrap()
    }

    /// Processes whose command line names this folder.
    fn processes(&self) -> Vec<String> {
        let needle = self.folder.path().display().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            // A process that has ended but was not waited for has no command line any more.
            if line.contains(&needle) {
                found.push(line);
            }
        }
        found
    }

    fn wait_until_gone(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.processes().is_empty() {
            assert!(Instant::now() < deadline, "left behind: {:?}", self.processes());
            std::thread::yield_now();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits for a line on standard error that contains `needle`; goes on reading in the background, so that the program
/// never blocks on a full pipe.
fn wait_for_line(child: &mut Child, needle: &str) {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let found = lines
        .by_ref()
        .map_while(Result::ok)
        .any(|line| line.contains(needle));
    assert!(found, "the program ended without saying {needle:?}");
    std::thread::spawn(move || lines.count());
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(child.id() as i32), signal).unwrap();
}

#[test]
fn a_correct_store_survives_the_leader_being_killed_again_and_again() {
    let _turn = turn();
    let scratch = Scratch::new();
    let output = scratch.run(&leader_kill(), &["--seed", "7"]);
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let folder = RunFolder::open(scratch.out()).unwrap();
    assert_eq!(scratch.verdict().outcome, Outcome::Pass);
    let load = folder.read_load().unwrap().unwrap();
    assert!(load.counts.ok > 5000, "{:?}", load.counts);
    assert_eq!(
        load.counts.total(),
        load.planned,
        "every planned operation is accounted for"
    );
    let timeline = folder.read_timeline().unwrap().unwrap();
    let leaders_killed = timeline.faults.iter().filter(|fault| {
        fault.kind == "kill"
            && fault
                .evidence
                .iter()
                .any(|evidence| evidence.what.contains("which led"))
    });
    assert!(leaders_killed.count() >= 3, "{:#?}", timeline.faults);
    let page = fs::read_to_string(scratch.out().join("report.html")).unwrap();
    assert!(page.contains("leader-kill") && !page.contains("src=\"http"));
    scratch.wait_until_gone();
}

/// Runs `leader-kill` on a store with a planted bug; it must end as a safety violation with a witness.
fn planted(mutant: &str) {
    let _turn = turn();
    let scratch = Scratch::new();
    let output = scratch.run(
        &leader_kill(),
        &["--seed", "7", &format!("--node-arg=--mutant={mutant}")],
    );
    assert_eq!(
        output.status.code(),
        Some(1),
        "{mutant}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    let verdict = scratch.verdict();
    assert_eq!(verdict.outcome, Outcome::Violation);
    let lost = verdict
        .checks
        .iter()
        .find(|check| check.name == "lost_writes")
        .unwrap();
    let broken: Vec<&str> = verdict
        .checks
        .iter()
        .filter(|check| check.status == CheckStatus::Violation && check.witness.is_some())
        .map(|check| check.name.as_str())
        .collect();
    assert!(
        broken.contains(&"linearizable") || broken.contains(&"lost_writes"),
        "{broken:?} {}",
        lost.detail
    );
    scratch.wait_until_gone();
}

#[test]
fn acknowledging_before_the_log_is_durable_is_caught() {
    planted("ack-before-durable");
}

#[test]
fn acknowledging_before_a_majority_has_it_is_caught() {
    planted("ack-before-majority");
}

#[test]
fn an_interrupted_run_heals_writes_what_it_has_and_leaves_nothing() {
    let _turn = turn();
    let scratch = Scratch::new();
    let out = scratch.out().display().to_string();
    let scenario = scratch.scenario("60s");
    let mut child = chaos(&["run", &scenario, "--out", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, "injected: kill leader");
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    scratch.wait_until_gone();
    assert_eq!(scratch.verdict().outcome, Outcome::Interrupted);
    let folder = RunFolder::open(scratch.out()).unwrap();
    assert!(folder.read_manifest().unwrap().unwrap().partial);
    assert!(!folder.read_history().unwrap().unwrap().events.is_empty());
    assert!(scratch.out().join("report.html").is_file());
}

#[test]
fn nodes_do_not_outlive_a_run_that_was_killed() {
    let _turn = turn();
    let scratch = Scratch::new();
    let out = scratch.out().display().to_string();
    let scenario = scratch.scenario("60s");
    let mut child = chaos(&["run", &scenario, "--out", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, "the cluster is up");
    assert!(scratch.processes().len() > 3, "{:?}", scratch.processes());
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    scratch.wait_until_gone();
}

#[test]
fn a_run_can_be_driven_through_the_api_of_a_toxiproxy_server() {
    let _turn = turn();
    let scratch = Scratch::new();
    let (address_in, address) = std::sync::mpsc::channel();
    let (done, wait) = tokio::sync::oneshot::channel::<()>();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let proxies = Embedded::new(1);
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address_in.send(proxies.serve_api(listener).unwrap()).unwrap();
            let _ = wait.await;
            let left = proxies.proxies().await.unwrap();
            proxies.shutdown().await;
            left
        })
    });
    let address = address.recv().unwrap();
    let scenario = scratch.folder.path().join("links.yaml");
    let faults = "  - partition: { shape: isolate, mode: refuse, target: leader, at: 1s, for: 1s }\n  - latency: { target: all, \
                  delay: 5ms, at: 3s, for: 1s }\n";
    fs::write(
        &scenario,
        format!("name: links\nduration: 6s\nworkload: {{ rate: 200/s, clients: 16 }}\nfaults:\n{faults}"),
    )
    .unwrap();
    let output = scratch.run(
        &scenario.display().to_string(),
        &["--toxiproxy", &format!("http://{address}")],
    );
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    drop(done);
    let left = server.join().unwrap();
    assert!(
        left.is_empty(),
        "proxies left on a server that is not ours: {left:?}"
    );
    scratch.wait_until_gone();
}

#[test]
fn a_mistake_in_a_scenario_is_shown_where_it_is() {
    let scratch = Scratch::new();
    let path = scratch.folder.path().join("wrong.yaml");
    fs::write(
        &path,
        "name: wrong\nduration: 5s\nfaults:\n  - kill: { targt: leader, at: 1s, for: 1s }\n",
    )
    .unwrap();
    let output = scratch.run(&path.display().to_string(), &[]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    for told in ["wrong.yaml:4:13", "targt", "target", "^"] {
        assert!(message.contains(told), "{told:?} is missing from:\n{message}");
    }
    assert!(!scratch.out().exists(), "nothing was started");
}

#[test]
fn a_missing_toxiproxy_server_is_a_failure_of_the_surroundings() {
    let _turn = turn();
    let scratch = Scratch::new();
    let scenario = scratch.scenario("4s");
    // A port that was free a moment ago, so nobody answers.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let output = scratch.run(&scenario, &["--toxiproxy", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert_eq!(scratch.verdict().outcome, Outcome::Error);
}

#[test]
fn a_node_that_does_not_start_is_a_failure_of_the_surroundings() {
    let _turn = turn();
    let scratch = Scratch::new();
    let scenario = scratch.scenario("4s");
    let output = scratch.run(&scenario, &["--node-arg=--no-such-flag"]);
    assert_eq!(output.status.code(), Some(5));
    let verdict = scratch.verdict();
    assert!(verdict.reason.contains("--no-such-flag"), "{}", verdict.reason);
    scratch.wait_until_gone();
}

/// Runs a short scenario that kills n1, and changes the first segment of its log before it comes back. Returns the exit
/// code.
fn run_with_a_changed_log(scratch: &Scratch, change: impl FnOnce(&mut Vec<u8>)) -> Option<i32> {
    let out = scratch.out().display().to_string();
    let scenario = scratch.folder.path().join("damage.yaml");
    let fault = "  - kill: { target: n1, at: 2s, for: 2s }\nchecks: { converges: 2s, recovers_within: 3s }\n";
    fs::write(
        &scenario,
        format!("name: damage\nduration: 8s\nworkload: {{ rate: 300/s, clients: 16 }}\nfaults:\n{fault}"),
    )
    .unwrap();
    let mut child = chaos(&["run", &scenario.display().to_string(), "--out", &out])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut child, "injected: kill n1");
    let segment = scratch.out().join("nodes/n1/data/wal/wal-000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    change(&mut bytes);
    fs::write(&segment, bytes).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_node_that_does_not_come_back_is_the_stores_failure() {
    let _turn = turn();
    let scratch = Scratch::new();
    // Nobody can tell what stood in the half that is gone.
    let code = run_with_a_changed_log(&scratch, |bytes| bytes.truncate(bytes.len() / 2));
    assert_eq!(code, Some(3));
    let verdict = scratch.verdict();
    let crashes = verdict
        .checks
        .iter()
        .find(|check| check.name == "no_crashes")
        .unwrap();
    assert_eq!(crashes.status, CheckStatus::Liveness, "{}", crashes.detail);
    assert!(crashes.detail.contains("exit code 6"), "{}", crashes.detail);
    scratch.wait_until_gone();
}

#[test]
fn a_node_whose_log_was_damaged_gets_it_back_from_the_others_and_nobody_notices() {
    let _turn = turn();
    let scratch = Scratch::new();
    // In the second frame, right behind its header of 112 bytes: acknowledged long ago.
    let code = run_with_a_changed_log(&scratch, |bytes| bytes[2 * 4096 + 115] ^= 0xff);
    assert_eq!(code, Some(0));
    let logs = fs::read_dir(scratch.out().join("nodes/n1")).unwrap().flatten();
    let logs = logs.filter(|entry| entry.path().is_file());
    let log: String = logs
        .map(|entry| fs::read_to_string(entry.path()).unwrap_or_default())
        .collect();
    assert!(log.contains("acknowledged entries are damaged and gone"), "{log}");
    scratch.wait_until_gone();
}

#[test]
fn saved_histories_are_judged_by_exit_code() {
    let histories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories");
    for (folder, code) in [("ok", 0), ("bad", 1)] {
        for entry in fs::read_dir(histories.join(folder)).unwrap().flatten() {
            if entry
                .path()
                .extension()
                .is_none_or(|extension| extension != "jsonl")
            {
                continue;
            }
            let path = entry.path().display().to_string();
            let output = chaos(&["check", &path, "--json"]).output().unwrap();
            assert_eq!(
                output.status.code(),
                Some(code),
                "{path}: {}",
                text(&output.stdout)
            );
            serde_json::from_slice::<Verdict>(&output.stdout).unwrap();
        }
    }
}

#[test]
fn a_cluster_to_try_things_on_stays_until_it_is_interrupted() {
    let _turn = turn();
    let scratch = Scratch::new();
    let out = scratch.out().display().to_string();
    let mut child = chaos(&["up", "--json", "--out", &out])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let endpoints: serde_json::Value = serde_json::from_str(&line).unwrap();
    for endpoint in endpoints["endpoints"].as_array().unwrap() {
        std::net::TcpStream::connect(endpoint.as_str().unwrap()).unwrap();
    }
    signal(&child, Signal::SIGINT);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    scratch.wait_until_gone();
}
