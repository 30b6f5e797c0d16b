//! Local clusters of every kind of store, for real: they start, answer in their own language, and leave nothing.

#![allow(
    clippy::unwrap_used,
    reason = "a failed unwrap fails the test, which is what it is for"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use loadgen::target::{Endpoints, LocalCluster, LocalError, LocalOptions};
use loadgen::{Answer, Call, Client, ClientOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Generous limit for anything that must happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_loadgen");

fn options() -> LocalOptions {
    LocalOptions {
        executable: Some(EXECUTABLE.into()),
        ..LocalOptions::default()
    }
}

async fn start(url: &str, options: &LocalOptions) -> Result<LocalCluster, LocalError> {
    let endpoints: Endpoints = url.parse().unwrap();
    assert!(endpoints.wants_local_cluster());
    LocalCluster::start(endpoints.target().clone(), options).await
}

/// A cluster of etcd; nothing, with a word about it, where that is not installed.
async fn etcd(options: &LocalOptions) -> Option<LocalCluster> {
    match start("etcd://", options).await {
        Err(error @ LocalError::NotInstalled { .. }) => {
            eprintln!("skipped: {error}");
            None
        }
        started => Some(started.unwrap()),
    }
}

fn client(cluster: &LocalCluster) -> Client {
    let target = cluster.target().clone();
    Client::of(target, &cluster.endpoints(), ClientOptions::default()).unwrap()
}

/// Executes an operation that must be answered.
async fn ask(client: &Client, call: Call) -> Answer {
    let result = client.execute(&call, Instant::now() + PATIENCE).await;
    let answer = result.answer().cloned();
    answer.unwrap_or_else(|| panic!("{call:?}: {:?}", result.outcome))
}

fn runs(pid: u32) -> bool {
    kill(Pid::from_raw(pid as i32), None).is_ok()
}

/// What must be gone when a cluster is.
struct Traces {
    pids: Vec<u32>,
    folder: PathBuf,
}

impl Traces {
    fn of(cluster: &LocalCluster) -> Traces {
        let traces = Traces {
            pids: cluster.nodes().iter().map(|node| node.pid).collect(),
            folder: cluster.folder().to_owned(),
        };
        assert!(traces.pids.iter().all(|pid| runs(*pid)));
        assert!(traces.folder.is_dir());
        traces
    }

    #[track_caller]
    fn assert_none(&self) {
        for pid in &self.pids {
            assert!(!runs(*pid), "process {pid} is left");
        }
        assert!(!self.folder.exists(), "{} is left", self.folder.display());
    }
}

fn put(key: &str, value: &str) -> Call {
    Call::Put {
        key: key.into(),
        value: value.into(),
    }
}

fn get(key: &str) -> Call {
    Call::Get { key: key.into() }
}

fn cas(key: &str, expected: Option<&str>, value: &str) -> Call {
    Call::Cas {
        key: key.into(),
        expected: expected.map(str::to_owned),
        value: value.into(),
    }
}

fn delete(key: &str) -> Call {
    Call::Delete { key: key.into() }
}

/// What every replicated store does, whatever language it speaks.
async fn works_as_a_store(cluster: &LocalCluster) {
    let client = client(cluster);
    for presence in client.presence_of_all(PATIENCE).await {
        let presence = presence.unwrap();
        assert!(
            !presence.node.is_empty() && !presence.leader.is_empty(),
            "{presence:?}"
        );
    }
    let Answer::Read { value: None, .. } = ask(&client, get("k")).await else {
        panic!("a fresh cluster is empty");
    };
    let Answer::Written { index: first } = ask(&client, put("k", "one")).await else {
        panic!("a put is answered as one");
    };
    let read = Answer::Read {
        value: Some("one".into()),
        index: first,
    };
    assert_eq!(ask(&client, get("k")).await, read);

    let mismatch = Answer::Mismatch {
        current: Some("one".into()),
        index: first,
    };
    assert_eq!(ask(&client, cas("k", Some("two"), "three")).await, mismatch);
    assert_eq!(ask(&client, cas("k", None, "three")).await, mismatch);
    let Answer::Swapped { index: second } = ask(&client, cas("k", Some("one"), "three")).await else {
        panic!("what is expected is there");
    };
    assert!(second > first);
    let Answer::Swapped { index: third } = ask(&client, cas("new", None, "")).await else {
        panic!("the key is absent");
    };
    assert!(third > second);
    // A value that is empty is not the same as none.
    let Answer::Swapped { .. } = ask(&client, cas("new", Some(""), "four")).await else {
        panic!("an empty value is there");
    };
    let Answer::Mismatch { current: None, .. } = ask(&client, cas("absent", Some(""), "x")).await else {
        panic!("nothing is there");
    };

    scans(&client).await;

    let Answer::Deleted { existed: true, index } = ask(&client, delete("k")).await else {
        panic!("the key is there");
    };
    assert!(index > third);
    let Answer::Deleted { existed: false, .. } = ask(&client, delete("k")).await else {
        panic!("the key is gone");
    };
    let Answer::Read { value: None, .. } = ask(&client, get("k")).await else {
        panic!("the key is gone");
    };
}

async fn scans(client: &Client) {
    for number in 0..5 {
        ask(client, put(&format!("s{number}"), "v")).await;
    }
    for (start, limit, expected) in [
        ("s", 3, 3),
        ("s0", 100, 5),
        ("s3", 100, 2),
        ("", 100, 7),
        ("t", 9, 0),
    ] {
        let start: std::sync::Arc<str> = start.into();
        let scan = Call::Scan {
            start: start.clone(),
            limit,
        };
        let Answer::Scanned { entries, index } = ask(client, scan).await else {
            panic!("a scan is answered as one");
        };
        assert_eq!(entries, expected, "from {start:?}, at most {limit}");
        assert!(index > 0);
    }
}

#[tokio::test]
async fn a_cluster_of_the_reference_store_works_and_leaves_nothing() {
    let cluster = start("raft://", &options()).await.unwrap();
    let traces = Traces::of(&cluster);
    assert_eq!(cluster.nodes().len(), 3);
    assert_eq!(cluster.pids()[2].0, "n3");
    let told = cluster.description().to_string();
    assert!(told.starts_with("whitewater 0."), "{told}");
    assert!(told.contains("3 nodes") && told.contains("synced"), "{told}");
    works_as_a_store(&cluster).await;
    cluster.check().await.unwrap();
    cluster.stop().await.unwrap();
    traces.assert_none();
}

#[tokio::test]
async fn a_cluster_of_etcd_works_and_leaves_nothing() {
    let Some(cluster) = etcd(&options()).await else {
        return;
    };
    let traces = Traces::of(&cluster);
    assert_eq!(cluster.nodes().len(), 3);
    let about = cluster.description();
    assert!(about.software.starts_with("etcd 3."), "{about:?}");
    assert!(about.flags.contains(&"--initial-cluster".to_owned()), "{about:?}");
    // The process is etcd itself, not something that started it: whoever measures it measures the store.
    for (name, pid) in cluster.pids() {
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert_eq!(command.trim(), "etcd", "{name}");
    }
    works_as_a_store(&cluster).await;
    cluster.check().await.unwrap();
    cluster.stop().await.unwrap();
    traces.assert_none();
}

#[tokio::test]
async fn an_echo_answers_and_leaves_nothing() {
    let cluster = start("echo", &options()).await.unwrap();
    let traces = Traces::of(&cluster);
    assert_eq!(cluster.nodes().len(), 1);
    let client = client(&cluster);
    assert_eq!(ask(&client, put("k", "v")).await, Answer::Written { index: 0 });
    let nothing = Answer::Read {
        value: None,
        index: 0,
    };
    assert_eq!(ask(&client, get("k")).await, nothing);
    cluster.stop().await.unwrap();
    traces.assert_none();
}

#[tokio::test]
async fn one_node_is_a_cluster_too() {
    let mut options = options();
    options.nodes = Some(1);
    let raft = start("raft://", &options).await.unwrap();
    let acknowledged = ask(&client(&raft), put("k", "v")).await;
    assert!(acknowledged.is_acknowledged_write());
    raft.stop().await.unwrap();
    if let Some(etcd) = etcd(&options).await {
        let acknowledged = ask(&client(&etcd), put("k", "v")).await;
        assert!(acknowledged.is_acknowledged_write());
        etcd.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_cluster_that_is_dropped_leaves_nothing() {
    let raft = start("raft://", &options()).await.unwrap();
    let traces = Traces::of(&raft);
    drop(raft);
    traces.assert_none();
    if let Some(etcd) = etcd(&options()).await {
        let traces = Traces::of(&etcd);
        drop(etcd);
        traces.assert_none();
    }
}

/// The system kills the children of a thread that ends; a cluster must not hang on the thread that happened to start it.
#[test]
fn a_cluster_outlives_the_thread_that_started_it() {
    let begin = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(etcd(&options()))
    };
    let Some(cluster) = std::thread::spawn(begin).join().unwrap() else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(async move {
        cluster.check().await.unwrap();
        ask(&client(&cluster), put("k", "v")).await;
        cluster.check().await.unwrap();
        cluster.stop().await.unwrap();
    });
}

#[tokio::test]
async fn a_node_that_ended_by_itself_is_told_and_the_others_go_too() {
    let cluster = start("raft://", &options()).await.unwrap();
    let traces = Traces::of(&cluster);
    kill(Pid::from_raw(traces.pids[1] as i32), Signal::SIGKILL).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        if let Err(error) = cluster.check().await {
            break error;
        }
        assert!(Instant::now() < deadline, "nobody noticed");
        tokio::task::yield_now().await;
    };
    let told = error.to_string();
    assert!(told.contains("node n2 ended by signal 9"), "{told}");
    let told = cluster.stop().await.unwrap_err().to_string();
    assert!(told.contains("node n2"), "{told}");
    traces.assert_none();
}

#[tokio::test]
async fn a_folder_that_was_given_keeps_data_and_logs() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options();
    options.dir = Some(folder.path().join("cluster"));
    let cluster = start("raft", &options).await.unwrap();
    cluster.stop().await.unwrap();
    for node in ["n1", "n2", "n3"] {
        let node = folder.path().join("cluster").join(node);
        assert!(node.join("log").is_file());
        assert!(std::fs::read_dir(node.join("data")).unwrap().next().is_some());
    }
    // What somebody keeps there is not written over.
    let error = start("raft", &options).await.unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_in_a_sentence() {
    let empty = tempfile::tempdir().unwrap();
    // A folder and a file that cannot be executed are no program.
    std::fs::create_dir_all(empty.path().join("a").join("etcd")).unwrap();
    std::fs::create_dir_all(empty.path().join("b")).unwrap();
    std::fs::write(empty.path().join("b").join("etcd"), "").unwrap();
    let mut options = options();
    options.search_path = Some(std::env::join_paths(["a", "b"].map(|name| empty.path().join(name))).unwrap());
    let error = start("etcd://", &options).await.unwrap_err().to_string();
    assert!(
        error.contains("etcd is not installed") && error.contains("apt-get install etcd-server"),
        "{error}"
    );

    options.nodes = Some(0);
    let error = start("raft://", &options).await.unwrap_err().to_string();
    assert!(error.contains("1 to 9 nodes, not 0"), "{error}");
    options.nodes = Some(2);
    let error = start("echo://", &options).await.unwrap_err().to_string();
    assert!(error.contains("1 to 1 nodes, not 2"), "{error}");

    let null: Endpoints = "null://".parse().unwrap();
    let refused = LocalCluster::start(null.target().clone(), &options).await;
    assert!(matches!(refused, Err(LocalError::NotLocal { scheme: "null" })));
}

#[tokio::test]
async fn a_node_that_cannot_start_is_told_with_the_end_of_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "#!/bin/sh\necho 'no such luck' >&2\nexit 7\n").unwrap();
    let mut permissions = std::fs::metadata(&broken).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&broken, permissions).unwrap();
    let options = LocalOptions {
        executable: Some(broken),
        dir: Some(folder.path().join("cluster")),
        ..LocalOptions::default()
    };
    let error = start("raft://", &options).await.unwrap_err().to_string();
    assert!(
        error.contains("exit code 7") && error.contains("no such luck"),
        "{error}"
    );
}

/// Whether a cluster is tried again on other ports hangs on these words.
#[test]
fn a_port_that_is_taken_is_called_so() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().display().to_string();
    let node = ["node", "--node-id", "n1", "--port", &port, "--data-dir", &data];
    let node = [&node[..], &["--single-node"]].concat();
    let echo = vec!["node-echo", "--port", &port];
    for (arguments, words) in [
        (node, "is in use; stop that process"),
        (echo, "address already in use"),
    ] {
        // It stays open, so that the node does not end for another reason.
        let (input, _held) = std::io::pipe().unwrap();
        let output = Command::new(EXECUTABLE)
            .args(&arguments)
            .stdin(input)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(told.contains(words), "{arguments:?}: {told}");
        assert_eq!(output.status.code(), Some(5), "{arguments:?}: {told}");
    }
}

/// A process that is killed if the test fails.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nodes_of_our_own_end_with_their_standard_input() {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().display().to_string();
    let node = ["node", "--node-id", "n1", "--port", "0", "--data-dir", &data];
    for arguments in [
        &[&node[..], &["--single-node", "--exit-with-stdin"]].concat(),
        &vec!["node-echo", "--port", "0"],
    ] {
        let child = Command::new(EXECUTABLE)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = Guarded(child.unwrap());
        let mut line = String::new();
        let stdout = child.0.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
        drop(child.0.stdin.take());
        child.0.wait().unwrap();
    }
}

/// The program waits on the pipe that this test holds open, so only a signal ends it; its end closes its standard error.
#[test]
fn other_stores_end_when_their_parent_is_killed() {
    let script = r#"exec 3<&0
        "$0" node-exec --parent $$ -- sh -c 'echo started >&2; read never' <&3 &
        read never"#;
    let shell = Command::new("sh")
        .args(["-c", script, EXECUTABLE])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut shell = Guarded(shell.unwrap());
    let mut stderr = BufReader::new(shell.0.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    let (gone, noticed) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut more = String::new();
        let _ = stderr.read_to_string(&mut more);
        let _ = gone.send(more);
    });
    shell.0.kill().unwrap();
    let more = noticed
        .recv_timeout(PATIENCE)
        .expect("the program does not outlive its parent");
    assert_eq!(more, "");
    reader.join().unwrap();
}

#[test]
fn a_program_is_not_started_for_a_parent_that_is_gone() {
    let output = Command::new(EXECUTABLE)
        .args(["node-exec", "--parent", "1", "--", "echo", "started"])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("process 1 is not the parent of this one"), "{told}");
    assert!(output.stdout.is_empty());
    assert_eq!(output.status.code(), Some(5));
}
