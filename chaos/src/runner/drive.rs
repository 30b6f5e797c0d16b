//! The part of a run in which things happen: load, faults, and the calm after them.

use std::time::Duration;

use loadgen::{Client, ClientOptions, LoadOutcome, RunClock, final_reads};
use reports::record::{CheckStatus, Event, FaultWindow, Nanos, NodeSample, RunFolder};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::journal::Journal;
use super::load::load_config;
use super::storm::Storm;
use super::{Failure, RunEvent, RunOptions};
use crate::checker;
use crate::cluster::Cluster;
use crate::fault::{Dice, Injector};
use crate::proxy::FaultProxy;
use crate::scenario::Scenario;
use crate::watch::{LOOK_EVERY, Watch};

/// A cluster that was just started takes a write within this time, or something is wrong with the surroundings.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// After the load every key is read within this time, or stays unread.
const FINAL_READS_TIMEOUT: Duration = Duration::from_secs(15);
/// Where no check asks for convergence, it is waited for no longer than this.
const CONVERGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The key of the first and the last write, which belong to no history.
const PROBE_KEY: &str = "whitewater-probe";

/// Everything a run has seen.
pub(super) struct Seen {
    pub(super) events: Vec<Event>,
    pub(super) load: LoadOutcome,
    pub(super) windows: Vec<FaultWindow>,
    pub(super) samples: Vec<NodeSample>,
    /// When the final reads began; absent if the run was interrupted before.
    pub(super) final_reads_from: Option<Nanos>,
    pub(super) final_integrity_errors: u64,
    /// Whether a write was acknowledged after everything.
    pub(super) last_write: Option<bool>,
    /// Nodes that ended without being told, and how.
    pub(super) died: Vec<String>,
    /// What went wrong while faults were injected or healed.
    pub(super) trouble: Vec<String>,
    pub(super) interrupted: bool,
    pub(super) still_listening: Vec<String>,
}

/// Who takes part in a run beside the cluster.
struct Scene<'a> {
    scenario: &'a Scenario,
    client: Client,
    clock: RunClock,
    watch: Watch,
    journal: Journal,
}

/// Waits until the cluster serves, then loads it, breaks it, and looks at what is left.
pub(super) async fn drive(
    scenario: &Scenario,
    options: &RunOptions,
    folder: &RunFolder,
    cluster: &mut Cluster,
    mut interrupt: watch::Receiver<bool>,
    on_event: &(dyn Fn(RunEvent) + Send + Sync),
) -> Result<Seen, Failure> {
    let proxy_api = serve_api(cluster, options).await?;
    let client_options = ClientOptions {
        timeout: scenario.workload.timeout.0,
        ..ClientOptions::default()
    };
    let client = Client::connect(cluster.client_endpoints(), client_options)?;
    tokio::select! {
        ready = write_once(&client, READY_TIMEOUT) => if !ready { return Err(Failure::NotReady(READY_TIMEOUT)) },
        _ = wait_for(&mut interrupt) => return Err(Failure::Interrupted),
    }
    on_event(RunEvent::Ready { proxy_api });

    // The run's time begins with its load.
    let clock = RunClock::start();
    let nodes: Vec<(String, String)> = cluster
        .nodes()
        .iter()
        .map(|node| (node.name().to_owned(), node.address()))
        .collect();
    let (watch, _watching) = Watch::start(&nodes, clock);
    let scene = Scene {
        scenario,
        client,
        clock,
        watch,
        journal: Journal::create(folder)?,
    };
    let mut seen = scene
        .act(options, folder, cluster, &mut interrupt, on_event)
        .await?;
    if !seen.interrupted {
        on_event(RunEvent::Settling);
        let names: Vec<String> = nodes.into_iter().map(|(name, _)| name).collect();
        let settled = tokio::select! {
            result = scene.settle(&names, &mut seen) => result.map(|()| true)?,
            _ = wait_for(&mut interrupt) => false,
        };
        seen.interrupted = !settled;
        // Nodes may die in the calm as well.
        for node in 0..cluster.nodes().len() {
            seen.died.extend(
                cluster
                    .node_mut(node)
                    .ended_by_itself()
                    .map(|crash| crash.to_string()),
            );
        }
    }
    seen.samples = scene.watch.samples();
    seen.events = scene.journal.finish()?;
    Ok(seen)
}

impl Scene<'_> {
    /// The load, and the faults in it.
    async fn act(
        &self,
        options: &RunOptions,
        folder: &RunFolder,
        cluster: &mut Cluster,
        interrupt: &mut watch::Receiver<bool>,
        on_event: &(dyn Fn(RunEvent) + Send + Sync),
    ) -> Result<Seen, Failure> {
        let outputs = self.journal.outputs(folder)?;
        let progress = |progress: &loadgen::Progress| {
            on_event(RunEvent::Progress {
                elapsed: progress.elapsed,
                total: progress.total,
                ok: progress.counts.ok,
                ok_per_second: progress.ok_per_second,
            });
        };
        let mut wanted = interrupt.clone();
        let stop = async move { wait_for(&mut wanted).await };
        let config = load_config(self.scenario, options.seed);
        let begin = Instant::now();
        let load = loadgen::run(config, self.client.clone(), self.clock, outputs, progress, stop);
        let injector = Injector::new(self.watch.clone(), self.clock, Dice::new(options.seed));
        let mut storm = Storm::new(injector, &self.watch);
        let plan = self.scenario.expand();
        let (load, ()) = tokio::join!(
            load,
            storm.rage(cluster, &plan, begin, interrupt, self.clock, on_event)
        );
        storm.calm(cluster).await;
        Ok(Seen {
            events: Vec::new(),
            load: load?,
            windows: storm.injector.into_windows(),
            samples: Vec::new(),
            final_reads_from: None,
            final_integrity_errors: 0,
            last_write: None,
            died: storm.died,
            trouble: storm.trouble,
            interrupted: *interrupt.borrow(),
            still_listening: Vec::new(),
        })
    }

    /// The calm after the load: the last look at every key, a last write, and the wait for all nodes to agree.
    async fn settle(&self, names: &[String], seen: &mut Seen) -> Result<(), Failure> {
        let from = self.clock.now();
        seen.final_reads_from = Some(from);
        let deadline = Instant::now() + FINAL_READS_TIMEOUT;
        let (workload, process) = (&seen.load.workload, seen.load.next_process);
        let reads = final_reads(&self.client, workload, self.clock, process, deadline.into()).await;
        seen.final_integrity_errors = reads.integrity_errors;
        for event in reads.events {
            self.journal.append(&event)?;
        }
        seen.last_write = Some(write_once(&self.client, FINAL_READS_TIMEOUT).await);
        let within = self
            .scenario
            .checks
            .converges
            .deadline()
            .unwrap_or(CONVERGE_TIMEOUT);
        let deadline = self.clock.instant_of(from) + within + 2 * LOOK_EVERY;
        loop {
            let check = checker::converges(&self.watch.samples(), names, from, within.as_nanos() as Nanos);
            if check.status == CheckStatus::Pass || std::time::Instant::now() > deadline {
                return Ok(());
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

async fn serve_api(cluster: &Cluster, options: &RunOptions) -> Result<Option<std::net::SocketAddr>, Failure> {
    let (Some(address), FaultProxy::Embedded(embedded)) = (options.proxy_api, cluster.proxy()) else {
        return Ok(None);
    };
    let failed = |error| Failure::Api(address, error);
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    embedded.serve_api(listener).map(Some).map_err(failed)
}

/// Writes the probe key until it is acknowledged.
async fn write_once(client: &Client, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let attempt = async {
        loop {
            let until = Instant::now() + Duration::from_secs(1);
            if client.put(PROBE_KEY, "probe", until.into()).await.is_ok() {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(deadline - Instant::now(), attempt).await.is_ok()
}

/// Waits until somebody wants the run to end; for ever if nobody can any more.
pub(super) async fn wait_for(interrupt: &mut watch::Receiver<bool>) {
    if interrupt.wait_for(|wanted| *wanted).await.is_err() {
        std::future::pending::<()>().await;
    }
}
