//! One plan, several agents.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::future::pending;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::runs::*;
use common::*;
use loadgen::RunClock;
use loadgen::agents::{
    CoordinateError, Coordinated, Merged, PROCESSES_PER_AGENT, SharedPlan, coordinate, serve,
};
use reports::record::{EventKind, Run, RunFolder};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An agent in this process; gone when dropped.
struct Agent {
    address: String,
    task: JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn agent(clock: RunClock) -> Agent {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move { serve(listener, clock).await.unwrap() });
    Agent { address, task }
}

async fn agents(count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for _ in 0..count {
        agents.push(agent(RunClock::start()).await);
    }
    agents
}

fn addresses(agents: &[Agent]) -> Vec<String> {
    agents.iter().map(|agent| agent.address.clone()).collect()
}

fn plan(agents: Vec<String>, stub: &Stub, arguments: &str) -> SharedPlan {
    let endpoints = ["--endpoints".to_owned(), stub.endpoints().join(",")];
    let rest = arguments.split_whitespace().map(str::to_owned);
    SharedPlan {
        agents,
        arguments: endpoints.into_iter().chain(rest).collect(),
        seed: 7,
        name: "test".into(),
        history: true,
    }
}

async fn run_to_the_end(plan: &SharedPlan) -> Coordinated {
    let run = coordinate(plan, RunClock::start(), pending());
    timeout(PATIENCE, run).await.unwrap().unwrap()
}

fn merged(coordinated: Coordinated) -> Merged {
    let parts = coordinated
        .agents
        .into_iter()
        .filter_map(|(agent, _, result)| Some((agent, result?)));
    Merged::of(parts.collect(), 100 * MS, PATIENCE).unwrap()
}

/// What was asked of the store, and how often.
fn asked(merged: &Merged) -> BTreeMap<String, u64> {
    let mut asked = BTreeMap::new();
    let invocations = merged.history.iter().filter(|e| e.kind == EventKind::Invoke);
    for event in invocations {
        let what = format!("{:?} {} {:?}", event.f, event.key, event.value);
        *asked.entry(what).or_default() += 1;
    }
    asked
}

#[tokio::test]
async fn agents_together_do_exactly_the_one_plan() {
    let stub = Stub::start(3).await;
    let agents = agents(3).await;
    for loop_and_count in ["--rate 400 --arrival constant", "--rate 400"] {
        let arguments = format!(
            "{loop_and_count} -d 1s --warmup 200ms --drain 60s --timeout 30s --mix put=60,get=40 --interval 100ms"
        );
        let one = merged(run_to_the_end(&plan(addresses(&agents[..1]), &stub, &arguments)).await);
        let coordinated = run_to_the_end(&plan(addresses(&agents), &stub, &arguments)).await;
        assert_eq!(coordinated.lost, None);
        let begins = coordinated.begins;
        for (_, _, result) in &coordinated.agents {
            let first = result.as_ref().unwrap().load.intervals[0].start;
            assert_eq!(first, begins + 200 * MS, "all agents have the same slices");
        }
        let three = merged(coordinated);
        assert!(one.load.planned > 300, "{}", one.load.planned);
        assert_eq!(asked(&one), asked(&three));
        assert_eq!(one.load.planned, three.load.planned);
        assert_eq!(one.warmup.total(), three.warmup.total());
        check_history(&three.history);
        assert_eq!(three.load.planned, three.load.counts.total());
        let slices = three
            .load
            .intervals
            .iter()
            .fold((0, 0), |(planned, ended), slice| {
                (planned + slice.planned, ended + slice.counts.total())
            });
        assert_eq!(slices, (three.load.planned, three.load.planned));
        let agents_of: std::collections::BTreeSet<u64> = three
            .history
            .iter()
            .map(|event| event.process / PROCESSES_PER_AGENT)
            .collect();
        assert_eq!(agents_of.len(), 3);
    }
}

#[tokio::test]
async fn a_closed_loop_shares_its_clients_and_its_numbers() {
    let stub = Stub::start(1).await;
    let agents = agents(2).await;
    let plan = plan(
        addresses(&agents),
        &stub,
        "--closed --clients 3 -d 300ms --mix put=1 --interval 100ms",
    );
    let merged = merged(run_to_the_end(&plan).await);
    assert!(merged.load.planned > 0 && merged.load.lag.is_none());
    // Every number makes a value of its own.
    assert!(asked(&merged).values().all(|times| *times == 1));
    check_history(&merged.history);
}

#[tokio::test]
async fn records_are_written_once_before_anybody_starts() {
    let stub = Stub::start(1).await;
    let agents = agents(2).await;
    let plan = plan(
        addresses(&agents),
        &stub,
        "--rate 200 -d 300ms --mix get=1 --key-space 40 --preload --interval 100ms",
    );
    let merged = merged(run_to_the_end(&plan).await);
    let of = |f| {
        merged
            .history
            .iter()
            .filter(move |e| e.f == f && e.kind == EventKind::Ok)
    };
    assert_eq!(of(reports::record::Function::Write).count(), 40);
    assert!(
        of(reports::record::Function::Read).all(|event| event.value != reports::record::Value::Absent),
        "every record was there"
    );
    assert_eq!(
        check_history(&merged.history).get("ok").copied(),
        Some(40 + merged.load.counts.ok)
    );
}

#[tokio::test]
async fn a_clock_that_shows_another_time_is_found_out() {
    let stub = Stub::start(1).await;
    let clock = RunClock::start();
    // One agent was started after the coordinator, so that its clock is behind; the other long before.
    let origins = [Instant::now(), Instant::now() - Duration::from_secs(5)];
    let mut agents = Vec::new();
    for origin in origins {
        agents.push(agent(RunClock::at(origin)).await);
    }
    let plan = plan(addresses(&agents), &stub, "--rate 100 -d 200ms --interval 100ms");
    let coordinated = timeout(PATIENCE, coordinate(&plan, clock, pending()))
        .await
        .unwrap()
        .unwrap();
    for ((_, found, result), origin) in coordinated.agents.iter().zip(origins) {
        let behind = origin.saturating_duration_since(clock.origin()).as_nanos() as i64;
        let truth = clock.origin().saturating_duration_since(origin).as_nanos() as i64 - behind;
        assert!(
            found.offset.abs_diff(truth) <= found.error,
            "{found:?} instead of {truth}"
        );
        let ended = result.as_ref().unwrap().ended;
        assert!(ended >= coordinated.begins && ended <= clock.now() + found.error);
    }
}

#[tokio::test]
async fn a_lost_agent_ends_the_run_of_the_others_and_is_named() {
    let stub = Stub::start(1).await;
    let agents = agents(2).await;
    let proxy = Proxy::start(&agents[1].address).await;
    let plan = plan(
        vec![agents[0].address.clone(), proxy.address.clone()],
        &stub,
        "--rate 200 -d 1h --interval 100ms",
    );
    let (coordinated, ()) = tokio::join!(run_to_the_end(&plan), async {
        load_arrives(&stub).await;
        proxy.cut(true);
    });
    let lost = coordinated.lost.as_ref().unwrap();
    assert_eq!(lost.agent, proxy.address);
    assert!(lost.to_string().contains(&proxy.address), "{lost}");
    let results: Vec<bool> = coordinated
        .agents
        .iter()
        .map(|(_, _, result)| result.is_some())
        .collect();
    assert_eq!(results, [true, false]);
    let rest = merged(coordinated);
    assert!(rest.stopped && rest.load.planned > 0);
    // The agent that was cut off ended its run too: it takes another one.
    free_again(&agents[1].address, &stub).await;
}

async fn load_arrives(stub: &Stub) {
    let arrives = async {
        while stub.cluster.arrived.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, arrives).await.unwrap();
}

/// Returns when the agent takes a run.
async fn free_again(agent: &str, stub: &Stub) {
    let plan = plan(
        vec![agent.to_owned()],
        stub,
        "--rate 100 -d 100ms --interval 100ms",
    );
    let attempts = async {
        while coordinate(&plan, RunClock::start(), pending()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, attempts).await.unwrap();
}

#[tokio::test]
async fn a_second_coordinator_is_refused_and_the_end_of_the_first_makes_room() {
    let stub = Stub::start(1).await;
    let agents = agents(1).await;
    let long = plan(addresses(&agents), &stub, "--rate 100 -d 1h");
    let first = tokio::spawn(async move {
        let _ = coordinate(&long, RunClock::start(), pending()).await;
    });
    load_arrives(&stub).await;
    let plan = plan(addresses(&agents), &stub, "--rate 100 -d 100ms");
    let second = coordinate(&plan, RunClock::start(), pending()).await;
    match second {
        Err(CoordinateError::Refused {
            agent,
            reason,
            wrong_order,
        }) => {
            assert_eq!((agent, wrong_order), (agents[0].address.clone(), false));
            assert!(reason.contains("busy"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    first.abort();
    free_again(&agents[0].address, &stub).await;
}

#[tokio::test]
async fn a_stop_ends_the_plan_of_all() {
    let stub = Stub::start(1).await;
    let agents = agents(2).await;
    let plan = plan(addresses(&agents), &stub, "--rate 200 -d 1h --interval 100ms");
    let run = coordinate(&plan, RunClock::start(), load_arrives(&stub));
    let coordinated = timeout(PATIENCE, run).await.unwrap().unwrap();
    assert_eq!(coordinated.lost, None);
    let merged = merged(coordinated);
    assert!(merged.stopped);
    assert_eq!(merged.load.planned, merged.load.counts.total());
}

#[tokio::test]
async fn orders_that_make_no_sense_are_refused_by_name() {
    let stub = Stub::start(1).await;
    let agents = agents(2).await;
    for (arguments, word) in [
        ("--rate 5 --out x", "--out"),
        ("--rate 5 --json", "--json"),
        ("--rate 5 --speed 3", "--speed"),
        ("--rate 5 -d 0s", "duration"),
        ("--closed --clients 1", "clients"),
        ("--rate 5 --max-in-flight 1", "--max-in-flight"),
        ("--rate 5 --mix insert=1", "insert"),
    ] {
        let plan = plan(addresses(&agents), &stub, arguments);
        let result = coordinate(&plan, RunClock::start(), pending()).await;
        match result {
            Err(CoordinateError::Refused {
                reason, wrong_order, ..
            }) => {
                assert!(wrong_order && reason.contains(word), "{arguments}: {reason}");
            }
            other => panic!("{arguments}: {other:?}"),
        }
        free_again(&agents[0].address, &stub).await;
        free_again(&agents[1].address, &stub).await;
    }
    let twice = vec![agents[0].address.clone(); 2];
    let result = coordinate(&plan(twice, &stub, "--rate 5"), RunClock::start(), pending()).await;
    assert!(result.unwrap_err().to_string().contains("twice"));
    let (_socket, refusing) = refusing_address();
    let result = coordinate(
        &plan(vec![refusing.clone()], &stub, "--rate 5"),
        RunClock::start(),
        pending(),
    )
    .await;
    assert!(result.unwrap_err().to_string().contains(&refusing));
}

fn loadgen(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// An agent as a process of its own, and its address.
async fn process() -> (Child, String) {
    let mut child = loadgen(&["agent", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    timeout(PATIENCE, out.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let address = line.trim().strip_prefix("agent on ").unwrap().to_owned();
    (child, address)
}

#[tokio::test]
async fn the_command_writes_one_record_and_a_line_for_each_agent() {
    let stub = Stub::start(1).await;
    let ((_one, first), (_two, second)) = (process().await, process().await);
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let (both, endpoints) = (format!("{first},{second}"), stub.endpoints().join(","));
    let command = |rest: &[&str]| {
        let fixed = [
            "coordinate",
            "--agents",
            &both,
            "--out",
            out.to_str().unwrap(),
            "--",
        ];
        loadgen(&[&fixed, rest].concat())
    };
    let wrong = command(&["run", "--endpoints", &endpoints, "--rate", "5", "--json"]);
    let wrong = timeout(PATIENCE, { wrong }.output()).await.unwrap().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--json is not for agents"));

    for output in [
        &["--stream"][..],
        &["--prometheus", ":0"],
        &["--threshold", "errors:rate<1% abort"],
    ] {
        let fixed = ["coordinate", "--agents", &both, "--quiet"];
        let rest = ["--", "run", "--endpoints", &endpoints, "--rate", "5"];
        let mut refused = loadgen(&[&fixed, output, &rest].concat());
        let refused = timeout(PATIENCE, refused.output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("while the run goes on"), "{said}");
    }

    let mut run = command(&["run", "--endpoints", &endpoints, "--rate", "500", "-d", "1s"]);
    let output = timeout(PATIENCE, run.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for agent in [&first, &second] {
        assert!(said.contains(&format!("agent {agent}: clock ")), "{said}");
    }
    let run = Run::read(&RunFolder::open(&out).unwrap()).unwrap();
    let (load, manifest) = (run.load.unwrap(), run.manifest.unwrap());
    assert!(
        load.planned > 300 && load.planned == load.counts.ok,
        "{:?}",
        load.counts
    );
    assert!(!manifest.partial && !out.join("history.jsonl").exists());
    let agents = &manifest.configuration["agents"]["each"];
    assert_eq!(agents[1]["address"], second.as_str());
    assert!(out.join("latency.hlog").exists() && out.join("report.html").exists());
}

#[tokio::test]
async fn an_agent_that_is_killed_is_named_and_the_record_is_partial() {
    let stub = Stub::start(1).await;
    let ((_one, first), (mut doomed, second)) = (process().await, process().await);
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("run");
    let (both, endpoints) = (format!("{first},{second}"), stub.endpoints().join(","));
    let mut command = loadgen(&["coordinate", "--agents", &both, "--out", out.to_str().unwrap()]);
    command.args([
        "--",
        "run",
        "--endpoints",
        &endpoints,
        "--rate",
        "200",
        "-d",
        "1h",
    ]);
    let (output, ()) = tokio::join!(timeout(PATIENCE, command.output()), async {
        load_arrives(&stub).await;
        doomed.kill().await.unwrap();
    });
    let output = output.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains(&format!("agent {second} was lost")), "{said}");
    let run = Run::read(&RunFolder::open(&out).unwrap()).unwrap();
    let (load, manifest) = (run.load.unwrap(), run.manifest.unwrap());
    assert!(manifest.partial && load.planned == load.counts.total());
    let each = &manifest.configuration["agents"]["each"];
    assert_eq!(
        (&each[0]["lost"], &each[1]["lost"]),
        (&false.into(), &true.into())
    );
}

#[tokio::test]
async fn an_agent_that_others_could_reach_must_be_wanted() {
    let run = |arguments: &'static [&'static str]| async move {
        timeout(PATIENCE, loadgen(arguments).output())
            .await
            .unwrap()
            .unwrap()
    };
    let output = run(&["agent", "--listen", "0.0.0.0:0"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--allow-remote"));
}
