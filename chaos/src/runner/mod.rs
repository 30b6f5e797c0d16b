//! One run: start a cluster, load it, break it, heal it, look at everything, judge, and leave nothing behind.
//!
//! Whatever happens on the way (a fault that cannot be injected, a node that dies, an interrupt), the run heals what it
//! broke, ends every process it started and writes down what it has. Raw data is on disk before anything is judged.

mod assess;
mod drive;
mod journal;
mod load;
mod manifest;
mod recovery;
mod storm;

use std::path::PathBuf;
use std::time::Duration;

use reports::record::{Nanos, Outcome, RecordError, RunFolder, Verdict};
use tokio::sync::watch;

use crate::cluster::{Cluster, ClusterError, ClusterSpec};
use crate::proxy::{FaultProxy, ProxyError};
use crate::scenario::Scenario;

/// How a scenario is run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The run folder; must not exist or be empty.
    pub folder: PathBuf,
    /// Everything random follows from it.
    pub seed: u64,
    /// The command that repeats the run.
    pub command: Vec<String>,
    /// Executable and leading arguments of a node process.
    pub node_command: Vec<String>,
    /// More arguments for every node.
    pub node_arguments: Vec<String>,
    /// A running toxiproxy-server to use instead of the embedded proxies.
    pub toxiproxy: Option<String>,
    /// Where the embedded proxies are to serve Toxiproxy's HTTP API, if at all.
    pub proxy_api: Option<std::net::SocketAddr>,
    /// Keep the data of the nodes also after a pass.
    pub keep_data: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct RunResult {
    /// Where everything about it is.
    pub folder: PathBuf,
    /// What came of it.
    pub verdict: Verdict,
}

/// What is told while a run goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// The cluster is up and has taken a write.
    Ready {
        /// The proxies' HTTP API, if it is served.
        proxy_api: Option<std::net::SocketAddr>,
    },
    /// So far.
    Progress {
        /// Of the load.
        elapsed: Duration,
        /// Of the load.
        total: Duration,
        /// Operations acknowledged.
        ok: u64,
        /// Operations a second, lately.
        ok_per_second: f64,
    },
    /// A fault is in force, or is not any more.
    Fault {
        /// When, on the run's clock.
        at: Nanos,
        /// What happened.
        what: String,
    },
    /// The load is over.
    Settling,
    /// Everything is seen.
    Judging,
}

/// Why there is no run at all. A run that began and failed has a verdict instead.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The run folder cannot be made or written.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Why a run that began could not be brought to its end: the surroundings or this tool failed, not the store.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("cannot record: {0}")]
    Record(#[from] RecordError),
    #[error("cannot load the cluster: {0}")]
    Load(#[from] loadgen::LoadError),
    #[error("cannot reach the cluster: {0}")]
    Client(#[from] loadgen::ClientError),
    #[error("the cluster took no write within {0:?} of its start; see the logs in nodes/")]
    NotReady(Duration),
    #[error("cannot serve the proxies' HTTP API on {0}: {1}")]
    Api(std::net::SocketAddr, std::io::Error),
    #[error("interrupted before the load began")]
    Interrupted,
}

/// Runs `scenario`. `interrupt` turns true when somebody wants it to end early: then the load stops, everything is
/// healed, and what there is is judged.
pub async fn run(
    scenario: &Scenario,
    options: &RunOptions,
    interrupt: watch::Receiver<bool>,
    on_event: &(dyn Fn(RunEvent) + Send + Sync),
) -> Result<RunResult, RunError> {
    let folder = RunFolder::create(&options.folder)?;
    let mut manifest = manifest::begin(scenario, options, &folder);
    folder.write_manifest(&manifest)?;
    folder.write_file("scenario.yaml", scenario.to_yaml().as_bytes())?;

    let result = start_and_drive(scenario, options, &folder, &mut manifest, interrupt, on_event).await;
    let verdict = match result {
        Ok(seen) => {
            on_event(RunEvent::Judging);
            assess::judge(scenario, &folder, &mut manifest, seen)?
        }
        Err(failure) => {
            manifest.partial = matches!(failure, Failure::Interrupted);
            let outcome = if manifest.partial {
                Outcome::Interrupted
            } else {
                Outcome::Error
            };
            Verdict {
                outcome,
                reason: failure.to_string(),
                checks: Vec::new(),
            }
        }
    };
    folder.write_manifest(&manifest)?;
    folder.write_verdict(&verdict)?;
    if verdict.outcome == Outcome::Pass && !options.keep_data {
        remove_data(&folder, &manifest);
    }
    // A page that cannot be drawn changes no verdict.
    if let Err(error) = reports::render_folder(&folder) {
        tracing::error!("cannot write the report: {error}");
    }
    Ok(RunResult {
        folder: options.folder.clone(),
        verdict,
    })
}

async fn start_and_drive(
    scenario: &Scenario,
    options: &RunOptions,
    folder: &RunFolder,
    manifest: &mut reports::record::Manifest,
    interrupt: watch::Receiver<bool>,
    on_event: &(dyn Fn(RunEvent) + Send + Sync),
) -> Result<drive::Seen, Failure> {
    let proxy = match &options.toxiproxy {
        Some(url) => FaultProxy::remote(url).await?,
        None => FaultProxy::embedded(options.seed),
    };
    let spec = ClusterSpec {
        nodes: scenario.cluster.nodes.value as usize,
        folder: folder.path().join("nodes"),
        command: options.node_command.clone(),
        node_arguments: options.node_arguments.clone(),
    };
    let mut wanted = interrupt.clone();
    let mut cluster = tokio::select! {
        cluster = Cluster::start(&spec, proxy) => cluster?,
        // What was started by then dies with the future that started it.
        _ = drive::wait_for(&mut wanted) => return Err(Failure::Interrupted),
    };
    manifest.nodes = manifest::nodes(&cluster);
    let result = drive::drive(scenario, options, folder, &mut cluster, interrupt, on_event).await;
    let addresses: Vec<String> = cluster.nodes().iter().map(|node| node.address()).collect();
    let crashed = cluster.shutdown().await;
    let mut seen = result?;
    seen.died.extend(crashed.iter().map(ToString::to_string));
    seen.still_listening = still_listening(&addresses).await;
    Ok(seen)
}

/// Addresses on which somebody listens although everything was ended.
async fn still_listening(addresses: &[String]) -> Vec<String> {
    let mut listening = Vec::new();
    for address in addresses {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            listening.push(address.clone());
        }
    }
    listening
}

/// After a pass nobody needs the nodes' data, and each run would leave tens of megabytes. Their logs stay.
fn remove_data(folder: &RunFolder, manifest: &reports::record::Manifest) {
    for node in &manifest.nodes {
        let data = folder.node_dir(&node.id).join("data");
        if let Err(error) = std::fs::remove_dir_all(&data) {
            tracing::warn!("cannot remove {}: {error}", data.display());
        }
    }
}
