//! One measured run: the driver that ties plan, clients, books and history together.
//!
//! Promises: operations start when the plan says, not when the store is ready for them; every planned operation is
//! accounted for, also when the run is stopped early; when this returns, nothing of the run is left in the background.
//! Never starts an operation after it was told to stop.

mod conclude;
mod driver;
mod flights;
mod operations;
mod source;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reports::record::{Counts, Event, Interval, Load, Nanos, Operation, Percentiles};
use serde::Serialize;
use thiserror::Error;
use tokio::sync::oneshot;

use crate::client::Client;
use crate::clock::RunClock;
use crate::preload::PreloadError;
use crate::recorder::Ledger;
use crate::schedule::Arrivals;
use crate::scribe::Outputs;
use crate::verdict::LATENESS_LIMIT;
use crate::workload::{Workload, WorkloadConfig, WorkloadError};
use driver::Driver;

/// Every slice keeps histograms as long as one of its operations is open.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Longest that anything may take.
pub(crate) const LENGTH_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What a run consists of.
#[derive(Debug, Clone, Serialize)]
pub struct LoadConfig {
    /// What is done.
    pub workload: WorkloadConfig,
    /// When it is done.
    pub arrivals: Arrivals,
    /// How long operations are started, after the warm-up.
    #[serde(serialize_with = "crate::clock::humane")]
    pub duration: Duration,
    /// How long operations are started before that; they are in the history and not in the numbers.
    #[serde(serialize_with = "crate::clock::humane")]
    pub warmup: Duration,
    /// How long open operations are waited for at the end.
    #[serde(serialize_with = "crate::clock::humane")]
    pub drain: Duration,
    /// Time limit of each operation, from its first attempt.
    #[serde(serialize_with = "crate::clock::humane")]
    pub timeout: Duration,
    /// Operations in flight at most; arrivals beyond it wait, and the wait counts in their response time.
    pub max_in_flight: usize,
    /// Write the records that the workload asks for before the clock starts.
    pub preload: bool,
    /// What happens to an arrival that finds too much in flight.
    pub overflow: Overflow,
    /// How fast a backlog is worked off: starts for each arrival since it began. Infinite: at once; 1: never faster than
    /// the plan, so that it stays to the end.
    pub catch_up: f64,
    /// Length of the slices in the record.
    #[serde(serialize_with = "crate::clock::humane")]
    pub interval: Duration,
    /// Everything random follows from it.
    pub seed: u64,
    /// Cores that the client's threads may use, for the verdict's CPU rule; absent where the process does other work too.
    pub client_cores: Option<u32>,
    /// For the verdict: how late 1 % of the arrivals may be noticed, where a tenth of the median response time is not
    /// more. Raise it where the process does other work too.
    #[serde(serialize_with = "crate::clock::humane")]
    pub lateness_limit: Duration,
    /// The verdict does not mind arrivals that wait for a place, nor operations left unsent for want of one. For runs
    /// that cause outages on purpose, where waiting is part of the result; elsewhere it hides that the store was not
    /// offered what was planned.
    pub waits_are_expected: bool,
    /// Which part of the plan this generator runs, where several share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// When the plan begins, on the run's clock; absent: as soon as everything is ready. If that is past, arrivals due by
    /// then are started late, and their waiting counts.
    #[serde(skip)]
    pub begin_at: Option<Nanos>,
}

/// One part of a plan that several generators run together. The parts are disjoint, and together exactly the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Which part, from zero.
    pub index: u64,
    /// How many parts there are; above `index`.
    pub of: u64,
}

impl Default for Share {
    /// The whole.
    fn default() -> Self {
        Share { index: 0, of: 1 }
    }
}

impl Share {
    /// How many of `total` things this part gets; the parts differ by one at most.
    pub fn part_of(self, total: usize) -> usize {
        let (total, of) = (total as u64, self.of.max(1));
        (total / of + u64::from(self.index < total % of)) as usize
    }
}

impl Default for LoadConfig {
    fn default() -> Self {
        LoadConfig {
            workload: WorkloadConfig::default(),
            arrivals: Arrivals::Poisson {
                rate: crate::schedule::Rate::per_second(1000),
            },
            duration: Duration::from_secs(30),
            warmup: Duration::ZERO,
            drain: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            max_in_flight: 4096,
            preload: false,
            overflow: Overflow::Queue,
            catch_up: f64::INFINITY,
            interval: Duration::from_secs(1),
            seed: 0,
            client_cores: None,
            lateness_limit: LATENESS_LIMIT,
            waits_are_expected: false,
            share: None,
            begin_at: None,
        }
    }
}

/// What happens to an arrival that finds too much in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    /// It waits, and the wait counts in its response time.
    Queue,
    /// It is given up, and counts as infinitely slow.
    Shed,
    /// The run ends.
    Abort,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Since the start of the load.
    pub elapsed: Duration,
    /// Of which operations will be started, warm-up included.
    pub total: Duration,
    /// Planned operations so far, without the warm-up.
    pub planned: u64,
    /// How they ended.
    pub counts: Counts,
    /// Operations being executed.
    pub in_flight: usize,
    /// Arrivals waiting for a place.
    pub queued: u64,
    /// Answered operations a second since the last report.
    pub ok_per_second: f64,
    /// The last slice of the run whose operations have all ended.
    pub interval: Option<Interval>,
    /// Slices that have ended since the last report.
    pub closed: Vec<Interval>,
}

/// What a run came to.
#[derive(Debug)]
pub struct LoadOutcome {
    /// The numbers for the record.
    pub load: Load,
    /// What was run; knows the values written.
    pub workload: Arc<Workload>,
    /// The history, in the order of its times, if it was kept in memory.
    pub history: Vec<Event>,
    /// How the operations of the warm-up ended; they are in no other number.
    pub warmup: Counts,
    /// How late the generator noticed arrivals; absent in a closed loop.
    pub lateness: Option<Percentiles>,
    /// Response time in an open loop, service time in a closed one, of all ok operations together.
    pub latency: Percentiles,
    /// Arrivals that found `max_in_flight` reached and had to wait, without the warm-up.
    pub queued: u64,
    /// When the first operation was planned.
    pub begins: Nanos,
    /// When the last operation had ended.
    pub ended: Nanos,
    /// It was stopped before its plan was over.
    pub stopped: bool,
    /// Why it stopped itself, if it did.
    pub aborted: Option<String>,
    /// The first process identifier that the history does not use.
    pub next_process: u64,
    /// What the latencies in `load` were computed from.
    pub(crate) ledger: Ledger,
}

/// Why a run could not be made or completed.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The workload makes no sense.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// A setting makes no sense.
    #[error("{setting} must be above zero")]
    Zero {
        /// Which.
        setting: &'static str,
    },
    /// There is no such part of the plan, or nothing in it.
    #[error("part {} of {} of the plan has no {what}: use fewer agents, or more {what}", share.index, share.of)]
    EmptyShare {
        /// The part.
        share: Share,
        /// What it lacks.
        what: &'static str,
    },
    /// New keys follow each other in the order of their making, which only a single generator knows.
    #[error("a plan with inserts cannot be shared by several agents: leave `insert` out of the mix")]
    SharedInserts,
    /// A length that is no use to anybody, and too much for clocks.
    #[error("{setting} must be at most a year")]
    TooLong {
        /// Which.
        setting: &'static str,
    },
    /// Slices that would fill the memory.
    #[error("slices of {0:?} are too short: use 10ms or more")]
    ShortInterval(Duration),
    /// It was told to stop before its first operation.
    #[error("stopped before the load began; nothing was measured")]
    StoppedEarly,
    /// A backlog that would grow without any load.
    #[error("a backlog cannot be worked off {0} times as fast as the plan: use 1 or more")]
    SlowCatchUp(f64),
    /// The target lacks an operation of the mix.
    #[error("{target}:// has no {operation}: leave it out of the mix")]
    Unsupported {
        /// The scheme of the target.
        target: &'static str,
        /// What it lacks.
        operation: Operation,
    },
    /// The records that the workload asks for could not be written.
    #[error(transparent)]
    Preload(#[from] PreloadError),
    /// The system refused a thread.
    #[error("cannot start the {what} thread; the limit on threads or memory may be reached")]
    Thread {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// History or histogram log cannot be written.
    #[error("cannot write the history or the histogram log; look at the disk that holds the run folder")]
    Output(#[source] io::Error),
    /// The disk does not keep up.
    #[error(
        "history and histogram log cannot be written as fast as they grow; use a faster disk or a lower rate"
    )]
    OutputBehind,
}

/// Runs a load until its plan is over and everything in flight has ended, or `stop` resolves, which ends the plan there
/// and then. Reports progress when the load begins and then about ten times a second. Times in the outcome are those of `clock`.
///
/// Cancel safe in the sense that dropping the future leaves nothing behind, though without a result.
pub async fn run(
    config: LoadConfig,
    client: Client,
    clock: RunClock,
    outputs: Outputs,
    progress: impl FnMut(&Progress) + Send,
    stop: impl Future<Output = ()> + Send,
) -> Result<LoadOutcome, LoadError> {
    check(&config)?;
    let workload = Arc::new(Workload::new(config.workload.clone(), config.seed)?);
    for operation in config.workload.mix.weights().keys() {
        if !client.target().supports(*operation) {
            return Err(LoadError::Unsupported {
                target: client.target().scheme(),
                operation: *operation,
            });
        }
    }
    tokio::pin!(stop);
    let driver = Driver::start(config, workload, client, clock, outputs, &mut stop).await?;
    driver.drive(progress, &mut stop).await
}

/// A stop for [`run()`] that somebody else sends. If that is gone, nobody can say it any more, and the work goes on to its end.
pub(crate) async fn told(stop: oneshot::Receiver<()>) {
    if stop.await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub(crate) fn check(config: &LoadConfig) -> Result<(), LoadError> {
    let zero = |setting| Err(LoadError::Zero { setting });
    if config.duration.is_zero() {
        return zero("the duration");
    }
    if config.timeout.is_zero() {
        return zero("the timeout");
    }
    if config.interval.is_zero() {
        return zero("the interval");
    }
    if config.interval < INTERVAL_MIN {
        return Err(LoadError::ShortInterval(config.interval));
    }
    for (setting, length) in [
        ("the duration", config.duration),
        ("the warm-up", config.warmup),
        ("the drain", config.drain),
        ("the timeout", config.timeout),
        ("the interval", config.interval),
    ] {
        if length > LENGTH_MAX {
            return Err(LoadError::TooLong { setting });
        }
    }
    if config.max_in_flight == 0 {
        return zero("the number of operations in flight");
    }
    if config.catch_up.is_nan() || config.catch_up < 1.0 {
        return Err(LoadError::SlowCatchUp(config.catch_up));
    }
    if let Some(share) = config.share {
        check_share(config, share)?;
    }
    match &config.arrivals {
        Arrivals::Closed { clients: 0 } => zero("the number of clients"),
        open if open.rate().is_some_and(|rate| rate.is_zero()) => zero("the rate"),
        _ => Ok(()),
    }
}

fn check_share(config: &LoadConfig, share: Share) -> Result<(), LoadError> {
    let empty = |what| Err(LoadError::EmptyShare { share, what });
    if share.index >= share.of {
        return empty("place");
    }
    if share.of > 1 && config.workload.mix.has(Operation::Insert) {
        return Err(LoadError::SharedInserts);
    }
    match config.arrivals {
        Arrivals::Closed { clients } if clients > 0 && share.part_of(clients) == 0 => empty("clients"),
        _ => Ok(()),
    }
}
