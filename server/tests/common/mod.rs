//! Real nodes for tests: processes of the built binary on 127.0.0.1, with their data and logs in a temporary directory.
//!
//! Nothing outlives a test: a node is killed when its guard is dropped, and a node whose test process vanished ends
//! with its standard input. Nothing waits by sleeping for an outcome: [`eventually`] asks again until a deadline that no
//! busy machine should reach.

#![allow(
    dead_code,
    reason = "each test binary takes in this module whole and uses a part of it"
)]

pub(crate) mod calls;
pub(crate) mod ports;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use proto::metadata;
use proto::raft::key_value_service_client::KeyValueServiceClient;
use proto::raft::{GetClusterStatusRequest, GetClusterStatusResponse, GetRequest, PutRequest, Role};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

pub(crate) type Client = KeyValueServiceClient<Channel>;

/// No outcome should take so long, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// A single request is given up after this long.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Attempts to find ports that nobody takes between the choice and the start.
const PORT_ATTEMPTS: usize = 10;

/// One process of the server. Killed when dropped.
pub(crate) struct Node {
    child: Child,
    log: PathBuf,
    /// Where this process's part of the log begins: a restarted node goes on in the same file.
    log_from: usize,
    listening: PathBuf,
}

impl Node {
    /// Starts the binary with these flags and `--exit-with-stdin`; output goes to files beside `data_dir`.
    pub(crate) fn start(name: &str, data_dir: &Path, flags: &[String]) -> Node {
        Node::start_by(Command::new(env!("CARGO_BIN_EXE_server")), name, data_dir, flags)
    }

    /// The same with a file system of `bytes` bytes at `data_dir`, which is there already. It ends with the node.
    pub(crate) fn start_on_small_disk(name: &str, data_dir: &Path, flags: &[String], bytes: u64) -> Node {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c"])
            .arg("mount -t tmpfs -o size=\"$1\" small \"$2\" && shift 2 && exec \"$@\"")
            .args(["sh", &bytes.to_string()])
            .arg(data_dir)
            .arg(env!("CARGO_BIN_EXE_server"));
        Node::start_by(command, name, data_dir, flags)
    }

    fn start_by(mut command: Command, name: &str, data_dir: &Path, flags: &[String]) -> Node {
        let log = data_dir.with_extension("log");
        let listening = data_dir.with_extension("out");
        let log_from = fs::metadata(&log).map_or(0, |metadata| metadata.len() as usize);
        let errors = File::options().create(true).append(true).open(&log).unwrap();
        let child = command
            .args(["--node-id", name, "--exit-with-stdin", "--data-dir"])
            .arg(data_dir)
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(File::create(&listening).unwrap())
            .stderr(errors)
            .spawn()
            .unwrap();
        Node {
            child,
            log,
            log_from,
            listening,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this process has written to standard error so far.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap();
        String::from_utf8_lossy(&bytes[self.log_from.min(bytes.len())..]).into_owned()
    }

    /// What it has written to standard output.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(&self.listening).unwrap()
    }

    pub(crate) async fn log_contains(&mut self, text: &str) {
        let what = format!("the log to contain {text:?}");
        eventually(&what, async || {
            self.log().contains(text).then_some(()).ok_or(self.log())
        })
        .await;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// `kill -9`, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        eventually("the process to end", async || {
            self.child.try_wait().unwrap().ok_or("it runs")
        })
        .await
    }

    /// Waits for the process to end with `code`, and returns what it said.
    pub(crate) async fn refuses_with(&mut self, code: i32) -> String {
        let status = self.exit().await;
        assert_eq!(status.code(), Some(code), "{}", self.log());
        self.log()
    }

    /// The port it says it listens on.
    pub(crate) async fn port(&mut self) -> u16 {
        eventually("the line with the port", async || {
            let output = self.output();
            let port = output
                .strip_prefix("listening on 127.0.0.1:")
                .and_then(|rest| rest.strip_suffix('\n'));
            port.and_then(|port| port.parse().ok())
                .ok_or_else(|| format!("{output:?}, {}", self.log()))
        })
        .await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may be gone already; otherwise it must not survive the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let _ = writeln!(
                std::io::stderr(),
                "--- {} ---\n{}",
                self.log.display(),
                self.log()
            );
        }
    }
}

/// Nodes that know each other by address only. Index `i` is the node called `node{i+1}`.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) ports: Vec<u16>,
    clients: Vec<Client>,
    flags: Vec<String>,
    // Last: the directory goes when the processes are gone.
    dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start(count: usize) -> Cluster {
        Cluster::start_with(count, &[]).await
    }

    /// Starts a cluster whose nodes all get these further flags.
    pub(crate) async fn start_with(count: usize, flags: &[&str]) -> Cluster {
        for _ in 0..PORT_ATTEMPTS {
            let ports = ports::take(count);
            let clients = ports.iter().map(|port| client(*port)).collect();
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let mut cluster = Cluster {
                nodes: (0..count).map(|_| None).collect(),
                ports,
                clients,
                flags,
                dir: tempfile::tempdir().unwrap(),
            };
            (0..count).for_each(|at| cluster.launch(at));
            if cluster.all_listen().await {
                return cluster;
            }
        }
        panic!("no free ports after {PORT_ATTEMPTS} attempts");
    }

    /// Starts the process of a node without waiting for anything.
    pub(crate) fn launch(&mut self, at: usize) {
        let flags = self.flags.clone();
        self.launch_with(at, &flags);
    }

    /// The same with other flags than those of the cluster.
    pub(crate) fn launch_with(&mut self, at: usize, further: &[String]) {
        let peers = self.ports.iter().enumerate().filter(|(other, _)| *other != at);
        let peers: Vec<String> = peers.map(|(_, port)| format!("localhost:{port}")).collect();
        let mut flags = vec!["--port".to_owned(), self.ports[at].to_string()];
        match peers.is_empty() {
            true => flags.push("--single-node".to_owned()),
            false => flags.extend(["--peers".to_owned(), peers.join(",")]),
        }
        flags.extend(further.iter().cloned());
        let name = format!("node{}", at + 1);
        self.nodes[at] = Some(Node::start(&name, &self.data_dir(at), &flags));
    }

    /// Waits until every node listens; false if somebody else has one of the ports.
    async fn all_listen(&mut self) -> bool {
        for node in self.nodes.iter_mut().flatten() {
            let listens = eventually("a node to listen or to end", async || {
                match node.child.try_wait().unwrap() {
                    Some(_) if node.log().contains("is in use") => Ok(false),
                    Some(status) => panic!("ended with {status}: {}", node.log()),
                    None if node.output().ends_with('\n') => Ok(true),
                    None => Err(()),
                }
            });
            if !listens.await {
                return false;
            }
        }
        true
    }

    pub(crate) fn data_dir(&self, at: usize) -> PathBuf {
        self.dir.path().join(format!("node{}", at + 1))
    }

    pub(crate) fn name(&self, at: usize) -> String {
        format!("node{}", at + 1)
    }

    pub(crate) fn address(&self, at: usize) -> String {
        format!("localhost:{}", self.ports[at])
    }

    /// A connection to one node, shared by everybody who asks for it.
    pub(crate) fn client(&self, at: usize) -> Client {
        self.clients[at].clone()
    }

    /// Connections to all nodes, for tasks that outlive the borrow of the cluster.
    pub(crate) fn everybody(&self) -> Everybody {
        Everybody {
            clients: self.clients.clone(),
            leader: 0,
        }
    }

    pub(crate) fn node(&mut self, at: usize) -> &mut Node {
        self.nodes[at].as_mut().unwrap()
    }

    pub(crate) fn kill(&mut self, at: usize) {
        self.node(at).kill();
        self.nodes[at] = None;
    }

    /// `kill -9` for every running node at once.
    pub(crate) fn kill_all(&mut self) {
        let running = self.nodes.iter().flatten();
        running.for_each(|node| node.signal(Signal::SIGKILL));
        self.nodes.iter_mut().for_each(|node| drop(node.take()));
    }

    pub(crate) async fn status(&self, at: usize) -> Result<GetClusterStatusResponse, Status> {
        let request = timed(GetClusterStatusRequest {});
        Ok(self.client(at).get_cluster_status(request).await?.into_inner())
    }

    /// Waits for a node that leads and that all running nodes follow.
    pub(crate) async fn leader(&self) -> usize {
        eventually("all nodes to follow one leader", async || {
            let mut views = Vec::new();
            for at in (0..self.nodes.len()).filter(|at| self.nodes[*at].is_some()) {
                let status = self.status(at).await.map_err(|status| status.to_string())?;
                let term = status.header.unwrap_or_default().term;
                views.push((term, status.leader_id));
            }
            let agreed = views.windows(2).all(|pair| pair[0] == pair[1]);
            let leader = (0..self.nodes.len()).find(|at| self.name(*at) == views[0].1);
            leader.filter(|_| agreed).ok_or_else(|| format!("{views:?}"))
        })
        .await
    }

    /// Waits until every running node has met all others, and so knows their stores.
    pub(crate) async fn all_have_met(&self) {
        eventually("everybody to have met everybody", async || {
            for at in 0..self.nodes.len() {
                let status = self.status(at).await.map_err(|status| status.to_string())?;
                if !status.peers.iter().all(|peer| peer.connected) {
                    return Err(format!("{:?}", status.peers));
                }
            }
            Ok(())
        })
        .await;
    }

    /// Waits until all nodes have applied the same index and compares their digests there.
    pub(crate) async fn converge(&self) {
        eventually("equal applied indexes on all nodes", async || {
            let mut views = Vec::new();
            for at in 0..self.nodes.len() {
                let status = self.status(at).await.map_err(|status| status.to_string())?;
                views.push((status.applied_index, status.state_digest));
            }
            let (applied, digest) = views[0];
            if views.iter().any(|(index, _)| *index != applied) {
                return Err(format!("{views:?}"));
            }
            assert!(applied > 0, "nothing was applied");
            assert!(
                views.iter().all(|(_, other)| *other == digest),
                "diverged: {views:x?}"
            );
            Ok(())
        })
        .await;
    }
}

/// A client of the whole cluster: asks on until somebody answers.
#[derive(Clone)]
pub(crate) struct Everybody {
    clients: Vec<Client>,
    leader: usize,
}

impl Everybody {
    /// One write, no second attempt once it may have happened. `None` if nobody can say whether it did.
    pub(crate) async fn put_once(&mut self, key: &str, value: &str) -> Option<u64> {
        let waiting = Waiting::new();
        loop {
            let request = timed(PutRequest {
                key: key.to_owned(),
                value: value.to_owned(),
                ..Default::default()
            });
            match self.clients[self.leader].put(request).await {
                Ok(response) => return Some(response.into_inner().index),
                Err(status) => {
                    self.leader = (self.leader + 1) % self.clients.len();
                    if outcome(&status) != Some(metadata::NOT_EXECUTED) {
                        return None;
                    }
                    waiting
                        .again(&format!("an outcome of writing {key}"), &status)
                        .await;
                }
            }
        }
    }

    /// Writes until it is acknowledged.
    pub(crate) async fn put(&mut self, key: &str, value: &str) -> u64 {
        loop {
            if let Some(index) = self.put_once(key, value).await {
                return index;
            }
        }
    }

    /// Reads until somebody answers.
    pub(crate) async fn get(&mut self, key: &str) -> Option<String> {
        let waiting = Waiting::new();
        loop {
            let request = timed(GetRequest {
                key: key.to_owned(),
                ..Default::default()
            });
            match self.clients[self.leader].get(request).await {
                Ok(response) => {
                    let response = response.into_inner();
                    return response.found.then_some(response.value);
                }
                Err(status) => {
                    self.leader = (self.leader + 1) % self.clients.len();
                    waiting
                        .again(&format!("an answer to reading {key}"), &status)
                        .await;
                }
            }
        }
    }
}

/// A lone node on a port of the system's choice, for tests that need no peers.
pub(crate) async fn lone_node(dir: &TempDir) -> (Node, u16) {
    let flags = ["--port", "0", "--single-node"].map(str::to_owned);
    let mut node = Node::start("node1", &dir.path().join("node1"), &flags);
    let port = node.port().await;
    (node, port)
}

pub(crate) fn channel(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
    endpoint.connect_timeout(REQUEST_TIMEOUT).connect_lazy()
}

pub(crate) fn client(port: u16) -> Client {
    Client::new(channel(port))
}

/// A request that does not wait for ever.
pub(crate) fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(REQUEST_TIMEOUT);
    request
}

/// What an error says about whether the operation happened.
pub(crate) fn outcome(status: &Status) -> Option<&str> {
    status.metadata().get(metadata::OUTCOME)?.to_str().ok()
}

pub(crate) fn leads(status: &GetClusterStatusResponse) -> bool {
    status.role() == Role::Leader
}

/// Asks again and again until the answer is `Ok`, and then returns it. Panics after [`PATIENCE`] with the last `Err`.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let waiting = Waiting::new();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => waiting.again(what, &error).await,
        }
    }
}

/// The patience of one wait.
struct Waiting {
    deadline: Instant,
}

impl Waiting {
    fn new() -> Waiting {
        Waiting {
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// Makes room for the others before the next attempt, unless there is none.
    async fn again(&self, what: &str, last: &impl std::fmt::Debug) {
        assert!(
            Instant::now() < self.deadline,
            "waited {PATIENCE:?} for {what} in vain; last seen: {last:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
