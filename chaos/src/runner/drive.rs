//! The part of a run in which things happen: load, faults, and the calm after them.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use loadgen::{
    Arrivals, Client, ClientOptions, HistoryTarget, LoadConfig, LoadOutcome, Mix, Outputs, Rate, RunClock,
};
use loadgen::{WorkloadConfig, final_reads};
use reports::record::{
    Event, FaultWindow, Function, HistoryWriter, Nanos, NodeSample, RecordError, RunFolder,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Failure, RunEvent, RunOptions};
use crate::checker;
use crate::cluster::{Cluster, ClusterError};
use crate::fault::{Dice, Injector};
use crate::proxy::FaultProxy;
use crate::scenario::{Pace, PlannedFault, Scenario};
use crate::watch::{LOOK_EVERY, Watch, Watching};

/// A cluster that was just started takes a write within this time, or something is wrong with the surroundings.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// After the load every key is read within this time, or stays unread.
const FINAL_READS_TIMEOUT: Duration = Duration::from_secs(15);
/// Where no check asks for convergence, it is waited for no longer than this.
const CONVERGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The key of the first and the last write, which belong to no history.
const PROBE_KEY: &str = "whitewater-probe";
/// Lateness of the load itself up to this is small against what a fault does.
const LATENESS_LIMIT: Duration = Duration::from_millis(20);
/// So often it is looked whether a node has died by itself.
const PATROL_EVERY: Duration = Duration::from_millis(100);

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
    let (watch, watching) = Watch::start(&nodes, clock);
    let journal = Journal::create(folder)?;
    let outputs = journal.outputs(folder)?;
    let begin = Instant::now();
    let mut stop = interrupt.clone();
    let progress = |progress: &loadgen::Progress| {
        on_event(RunEvent::Progress {
            elapsed: progress.elapsed,
            total: progress.total,
            ok: progress.counts.ok,
            ok_per_second: progress.ok_per_second,
        });
    };
    let load = loadgen::run(
        load_config(scenario, options.seed),
        client.clone(),
        clock,
        outputs,
        progress,
        async move {
            wait_for(&mut stop).await;
        },
    );
    let mut storm = Storm {
        injector: Injector::new(watch.clone(), clock, Dice::new(options.seed)),
        watch: &watch,
        died: Vec::new(),
        trouble: Vec::new(),
    };
    let plan = scenario.expand();
    let (load, ()) = tokio::join!(
        load,
        storm.rage(cluster, &plan, begin, &mut interrupt, clock, on_event)
    );
    storm.calm(cluster).await;
    let Storm {
        injector,
        died,
        trouble,
        ..
    } = storm;
    let load = load?;
    let interrupted = *interrupt.borrow();
    let windows = injector.into_windows();
    let mut seen = Seen {
        events: Vec::new(),
        load,
        windows,
        samples: Vec::new(),
        final_reads_from: None,
        final_integrity_errors: 0,
        last_write: None,
        died,
        trouble,
        interrupted,
        still_listening: Vec::new(),
    };
    if !interrupted {
        on_event(RunEvent::Settling);
        let mut interrupted = interrupt.clone();
        tokio::select! {
            result = settle(scenario, &client, clock, &watch, &nodes, &journal, &mut seen)=> result?,
            _ = wait_for(&mut interrupted) => seen.interrupted = true,
        }
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
    seen.samples = watch.samples();
    drop::<Watching>(watching);
    seen.events = journal.finish()?;
    Ok(seen)
}

async fn serve_api(cluster: &Cluster, options: &RunOptions) -> Result<Option<std::net::SocketAddr>, Failure> {
    let (Some(address), FaultProxy::Embedded(embedded)) = (options.proxy_api, cluster.proxy()) else {
        return Ok(None);
    };
    let failed = |error| Failure::Api(address, error);
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    embedded.serve_api(listener).map(Some).map_err(failed)
}

/// The calm after the load: the last look at every key, a last write, and the wait for all nodes to agree.
async fn settle(
    scenario: &Scenario,
    client: &Client,
    clock: RunClock,
    watch: &Watch,
    nodes: &[(String, String)],
    journal: &Journal,
    seen: &mut Seen,
) -> Result<(), Failure> {
    let from = clock.now();
    seen.final_reads_from = Some(from);
    let deadline = Instant::now() + FINAL_READS_TIMEOUT;
    let reads = final_reads(
        client,
        &seen.load.workload,
        clock,
        seen.load.next_process,
        deadline.into(),
    )
    .await;
    seen.final_integrity_errors = reads.integrity_errors;
    for event in reads.events {
        journal.append(&event)?;
    }
    seen.last_write = Some(write_once(client, FINAL_READS_TIMEOUT).await);
    let within = scenario.checks.converges.deadline().unwrap_or(CONVERGE_TIMEOUT);
    let names: Vec<String> = nodes.iter().map(|(name, _)| name.clone()).collect();
    let deadline = clock.instant_of(from) + within + 2 * LOOK_EVERY;
    loop {
        let check = checker::converges(&watch.samples(), &names, from, within.as_nanos() as Nanos);
        if check.status == reports::record::CheckStatus::Pass || std::time::Instant::now() > deadline {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
}

/// When, whether to inject or to heal, and which fault of the plan. In this order: where one fault ends as another begins,
/// the end comes first.
type Step = (Duration, bool, usize);

/// The faults of a run and what comes of them.
struct Storm<'a> {
    injector: Injector,
    watch: &'a Watch,
    died: Vec<String>,
    trouble: Vec<String>,
}

impl Storm<'_> {
    /// Injects and heals everything in the plan, each at its time after `begin`.
    async fn rage(
        &mut self,
        cluster: &mut Cluster,
        plan: &[PlannedFault],
        begin: Instant,
        interrupt: &mut watch::Receiver<bool>,
        clock: RunClock,
        on_event: &(dyn Fn(RunEvent) + Send + Sync),
    ) {
        let mut steps: BTreeSet<Step> = plan
            .iter()
            .enumerate()
            .map(|(number, fault)| (fault.at, true, number))
            .collect();
        while let Some((at, inject, number)) = steps.pop_first() {
            if !self.wait_until(begin + at, cluster, interrupt).await {
                return;
            }
            let fault = &plan[number];
            let mut when = clock.now();
            let (done, result) = if inject {
                let result = self.injector.inject(cluster, number, fault).await;
                when = self.injector.injected_at(number).unwrap_or(when);
                // An injection may have had to wait for a leader, or for its proof: the fault still lasts as long as asked.
                let injected = self
                    .injector
                    .injected_at(number)
                    .map_or(begin, |at| clock.instant_of(at).into());
                let end = (injected + fault.length)
                    .saturating_duration_since(begin)
                    .max(fault.end());
                steps.insert((end, false, number));
                ("injected", result.map(Some))
            } else {
                ("healed", self.injector.heal(cluster, number).await)
            };
            let what = match result {
                Ok(Some(label)) => format!("{done}: {label}"),
                Ok(None) => continue,
                Err(error) => {
                    let what = format!("could not be {done}: {fault}: {error}");
                    self.file(error, &what);
                    what
                }
            };
            on_event(RunEvent::Fault { at: when, what });
        }
    }

    /// Waits, and looks after the nodes meanwhile. False if somebody wants the run to end.
    async fn wait_until(
        &mut self,
        time: Instant,
        cluster: &mut Cluster,
        interrupt: &mut watch::Receiver<bool>,
    ) -> bool {
        loop {
            let patrol = Instant::now() + PATROL_EVERY;
            tokio::select! {
                () = sleep_until(time.min(patrol)) => {}
                _ = wait_for(interrupt) => return false,
            }
            self.patrol(cluster);
            if Instant::now() >= time {
                return true;
            }
        }
    }

    /// Tells a node that failed its users from surroundings that failed the run.
    fn file(&mut self, error: ClusterError, what: &str) {
        match error.is_crash() {
            true => self.died.push(error.to_string()),
            false => self.trouble.push(what.to_owned()),
        }
    }

    /// Notices nodes that have ended without being told.
    fn patrol(&mut self, cluster: &mut Cluster) {
        for node in 0..cluster.nodes().len() {
            if let Some(crash) = cluster.node_mut(node).ended_by_itself() {
                self.watch.set_down(node, true);
                self.died.push(crash.to_string());
            }
        }
    }

    /// Heals whatever is still in force.
    async fn calm(&mut self, cluster: &mut Cluster) {
        if let Err(error) = self.injector.heal_all(cluster).await {
            self.trouble
                .push(format!("not everything could be healed: {error}"));
        }
        if let Err(error) = cluster.proxy().reset_links(cluster.links()).await {
            self.trouble
                .push(format!("the links could not be reset: {error}"));
        }
        self.patrol(cluster);
    }
}

impl FaultProxy {
    /// Makes every link whole again, whatever was done to it.
    async fn reset_links(&self, links: &[crate::cluster::Link]) -> Result<(), crate::proxy::ProxyError> {
        for link in links {
            self.reset(&link.name).await?;
        }
        Ok(())
    }
}

/// The history, on disk as it comes and in memory for the checkers.
#[derive(Clone)]
struct Journal(Arc<Mutex<(HistoryWriter, Vec<Event>)>>);

impl Journal {
    fn create(folder: &RunFolder) -> Result<Journal, RecordError> {
        Ok(Journal(Arc::new(Mutex::new((
            folder.history_writer()?,
            Vec::new(),
        )))))
    }

    fn outputs(&self, folder: &RunFolder) -> Result<Outputs, Failure> {
        let journal = self.clone();
        let path = folder.file("latency.hlog");
        let log = File::create(&path).map_err(|source| ClusterError::Folder { path, source })?;
        Ok(Outputs {
            history: HistoryTarget::Stream(Box::new(move |event| {
                journal.append(event).map_err(std::io::Error::other)
            })),
            latency_log: Some(Box::new(log)),
        })
    }

    fn append(&self, event: &Event) -> Result<(), RecordError> {
        let mut journal = self.0.lock().expect("nobody panics while holding the journal");
        journal.0.append(event)?;
        journal.1.push(event.clone());
        Ok(())
    }

    /// Everything, in the order of time, with the file complete.
    fn finish(self) -> Result<Vec<Event>, RecordError> {
        let mut journal = self.0.lock().expect("nobody panics while holding the journal");
        journal.0.flush()?;
        Ok(std::mem::take(&mut journal.1))
    }
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

fn load_config(scenario: &Scenario, seed: u64) -> LoadConfig {
    let workload = &scenario.workload;
    let mix = workload.mix.value;
    let weights = [
        (Function::Write, mix.put),
        (Function::Read, mix.get),
        (Function::Cas, mix.cas),
        (Function::Delete, mix.delete),
    ];
    let clients = workload.clients.value as usize;
    let arrivals = match workload.pace() {
        Pace::Open(rate) => Arrivals::Poisson {
            rate: Rate::per_1000_seconds((rate * 1000.0) as u64),
        },
        Pace::Closed => Arrivals::Closed { clients },
    };
    LoadConfig {
        workload: WorkloadConfig {
            mix: Mix::new(weights).expect("a scenario with an empty mix was refused"),
            keys: u64::from(workload.keys.value),
            value_size: workload.value_size.value as usize,
            ..WorkloadConfig::default()
        },
        arrivals,
        duration: scenario.duration.0,
        timeout: workload.timeout.0,
        max_in_flight: clients.max(1),
        // A run takes turns with proxies and observers on its thread, and what it measures are outages of hundreds of
        // milliseconds, in which arrivals pile up because they are meant to.
        lateness_limit: LATENESS_LIMIT,
        waits_are_expected: true,
        seed,
        ..LoadConfig::default()
    }
}
