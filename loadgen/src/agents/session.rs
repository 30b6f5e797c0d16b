//! One run on an agent, from the order to prepare to the last piece of its result.
//!
//! Promises: nothing is sent to the store before the arguments made sense; the run ends when the coordinator is gone, and then
//! leaves nothing behind. Never starts before it was told to.

use std::sync::Arc;
use std::time::Duration;

use proto::agent::{Order, Prepare, Ready, Report, order, report};
use reports::record::{Event, Nanos};
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tonic::{Status, Streaming};

use super::{AGENTS_MAX, parcel};
use crate::cli::SharedRun;
use crate::client::Client;
use crate::clock::RunClock;
use crate::history::HistoryLog;
use crate::preload::preload;
use crate::run::{self, Share, told};
use crate::scribe::{HistoryTarget, LogBuffer, Outputs};
use crate::workload::Workload;

/// Processes of the history that wrote the records are numbered from here on; those of the run from zero on.
const PRELOAD_PROCESSES: u64 = 1 << 31;

pub(super) struct Session {
    pub(super) clock: RunClock,
    pub(super) orders: Streaming<Order>,
    pub(super) reports: mpsc::Sender<Result<Report, Status>>,
}

/// A run that can start.
struct Prepared {
    run: SharedRun,
    client: Client,
    clock: RunClock,
    /// The writing of the records.
    history: Vec<Event>,
    keep_history: bool,
}

impl Session {
    /// Serves one run. Others are taken again as soon as `busy` is dropped.
    pub(super) async fn serve(mut self, busy: OwnedMutexGuard<()>) -> Result<(), Status> {
        let Some(order::Order::Prepare(order)) = self.next().await? else {
            return Err(Status::invalid_argument("the first order must be to prepare"));
        };
        let prepared = tokio::select! {
            prepared = prepare(&order, self.clock) => prepared?,
            // Nothing but the end can come before this agent said that it is ready.
            next = next(&mut self.orders) => return Err(unexpected(next?.as_ref())),
        };
        parcel::say(report::Report::Ready(Ready {}), &self.reports).await?;
        let at = match self.next().await? {
            Some(order::Order::Start(start)) => start.at,
            other => return Err(unexpected(other.as_ref())),
        };
        let (outcome, log, history) = measure(prepared, at, &mut self.orders).await?;
        drop(busy);
        parcel::send(&outcome, &log, &history, &self.reports).await
    }

    async fn next(&mut self) -> Result<Option<order::Order>, Status> {
        next(&mut self.orders).await
    }
}

async fn next(orders: &mut Streaming<Order>) -> Result<Option<order::Order>, Status> {
    Ok(orders.message().await?.and_then(|order| order.order))
}

fn unexpected(order: Option<&order::Order>) -> Status {
    match order {
        None => Status::cancelled("the coordinator is gone"),
        Some(order::Order::Stop(_)) => Status::cancelled("stopped before the start"),
        Some(_) => {
            Status::invalid_argument("an order that does not belong here: expected are prepare, start, stop")
        }
    }
}

async fn prepare(order: &Prepare, clock: RunClock) -> Result<Prepared, Status> {
    let own = env!("CARGO_PKG_VERSION");
    if order.version != own {
        return Err(Status::failed_precondition(format!(
            "this agent has version {own} and the coordinator {}: use the same, or the parts may not be of one plan",
            order.version
        )));
    }
    let share = Share {
        index: order.index,
        of: order.of,
    };
    if order.of == 0 || order.of > AGENTS_MAX as u64 {
        return Err(Status::invalid_argument(format!(
            "a plan of {} parts: 1 to {AGENTS_MAX} are possible",
            order.of
        )));
    }
    let mut run =
        SharedRun::parse(&order.arguments, &order.name, order.seed).map_err(Status::invalid_argument)?;
    run.take_share(share).map_err(Status::invalid_argument)?;
    let clock = translated(clock, order.origin)
        .ok_or_else(|| Status::invalid_argument("the zero of the run's clock is out of reach"))?;
    let client = run.connect().await.map_err(Status::failed_precondition)?;
    // One of the agents writes the records, before the others are told to start.
    let mut history = Vec::new();
    if std::mem::take(&mut run.config.preload) && order.index == 0 {
        let workload = Workload::new(run.config.workload.clone(), run.config.seed);
        let workload = Arc::new(workload.map_err(|error| Status::invalid_argument(error.to_string()))?);
        let log = Arc::new(HistoryLog::new(clock, order.history));
        let written = preload(&client, &workload, &log, PRELOAD_PROCESSES, |_| {}).await;
        written.map_err(|error| Status::failed_precondition(error.to_string()))?;
        history = log.take();
    }
    Ok(Prepared {
        run,
        client,
        clock,
        history,
        keep_history: order.history,
    })
}

/// The clock whose zero is where `clock` shows `origin`.
fn translated(clock: RunClock, origin: i64) -> Option<RunClock> {
    let away = Duration::from_nanos(origin.unsigned_abs());
    let zero = match origin < 0 {
        true => clock.origin().checked_sub(away),
        false => clock.origin().checked_add(away),
    };
    zero.map(RunClock::at)
}

/// Makes the run. What it came to, its interval log, and its history.
async fn measure(
    prepared: Prepared,
    at: Nanos,
    orders: &mut Streaming<Order>,
) -> Result<(run::LoadOutcome, Vec<u8>, Vec<Event>), Status> {
    let Prepared {
        run: SharedRun { mut config, .. },
        client,
        clock,
        mut history,
        keep_history,
    } = prepared;
    config.begin_at = Some(at);
    let log = LogBuffer::default();
    let outputs = Outputs {
        intervals: None,
        history: match keep_history {
            true => HistoryTarget::Memory,
            false => HistoryTarget::Discard,
        },
        latency_log: Some(Box::new(log.clone())),
    };
    let (tell_stop, stop) = oneshot::channel();
    let mut outcome = tokio::select! {
        outcome = run::run(config, client, clock, outputs, |_| {}, told(stop)) => {
            outcome.map_err(|error| Status::aborted(error.to_string()))?
        }
        () = watch(orders, tell_stop) => return Err(Status::cancelled("the coordinator is gone")),
    };
    history.append(&mut outcome.history);
    Ok((outcome, log.take(), history))
}

/// Passes the order to stop on. Returns when no order can come any more.
async fn watch(orders: &mut Streaming<Order>, tell_stop: oneshot::Sender<()>) {
    let mut tell_stop = Some(tell_stop);
    while let Ok(Some(order)) = orders.message().await {
        if let (Some(order::Order::Stop(_)), Some(tell)) = (order.order, tell_stop.take()) {
            // Nobody listens any more if the run has just ended by itself.
            let _ = tell.send(());
        }
    }
}
