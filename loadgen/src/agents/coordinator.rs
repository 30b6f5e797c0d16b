//! The coordinator's side of the wire: tells agents what to do, and collects what came of it.
//!
//! Promises that agents start together or not at all, and that all of them are done or stopped when it returns. Never goes on
//! with fewer agents than were asked for.

use std::future::Future;
use std::time::Duration;

use proto::agent::agent_service_client::AgentServiceClient;
use proto::agent::{ClockRequest, Order, Prepare, Report, Start, Stop, order, report};
use reports::record::Nanos;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use super::parcel::Pieces;
use super::{AGENTS_MAX, AgentResult, ClockOffset, Exchange};
use crate::clock::{RunClock, nanos};

/// How long an agent may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent agent is asked whether it is there, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Questions for the time, of which the one with the shortest round trip counts.
const CLOCK_ROUNDS: usize = 32;
/// From the order to start to the start, and as much again as the slowest question for the time took.
const START_DELAY: Duration = Duration::from_millis(500);
/// Orders that may wait for an agent to take them: prepare, start, stop.
const ORDERS_WAITING: usize = 4;

/// One run for several agents.
#[derive(Debug, Clone)]
pub struct SharedPlan {
    /// Their addresses, as host:port.
    pub agents: Vec<String>,
    /// What follows `loadgen run`, without anything about output.
    pub arguments: Vec<String>,
    /// Everything random follows from it.
    pub seed: u64,
    /// What keys and values begin with, unless the arguments say otherwise.
    pub name: String,
    /// Whether agents record single operations.
    pub history: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Coordinated {
    /// What each agent sent, in the order of the plan; nothing from one that was lost.
    pub agents: Vec<(String, ClockOffset, Option<AgentResult>)>,
    /// When the plan began, on the run's clock.
    pub begins: Nanos,
    /// The agent without which the result is not the plan.
    pub lost: Option<LostAgent>,
}

/// An agent whose part of the plan is missing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("agent {agent} was lost during the run: {reason}")]
pub struct LostAgent {
    /// Its address.
    pub agent: String,
    /// What happened.
    pub reason: String,
}

/// Why nothing was started.
#[derive(Debug, Error)]
pub enum CoordinateError {
    /// No agents, too many, or the same twice.
    #[error("{0}")]
    Agents(String),
    /// It is not there.
    #[error("agent {agent} does not answer ({reason}); start it with `loadgen agent`, or correct --agents")]
    Unreachable {
        /// Its address.
        agent: String,
        /// What happened.
        reason: String,
    },
    /// It does not do what it was told.
    #[error("agent {agent} refuses: {reason}")]
    Refused {
        /// Its address.
        agent: String,
        /// Why.
        reason: String,
        /// What it was told makes no sense, so that trying again would not help.
        wrong_order: bool,
    },
    /// It was told to stop before the start.
    #[error("interrupted before the agents had started")]
    Interrupted,
}

/// An agent that has been spoken to.
struct Link {
    agent: String,
    offset: ClockOffset,
    orders: mpsc::Sender<Order>,
}

/// Makes the run on all agents. `clock` is the run's clock; `stop` ends the plan early. Dropping the future ends the run.
pub async fn coordinate(
    plan: &SharedPlan,
    clock: RunClock,
    stop: impl Future<Output = ()> + Send,
) -> Result<Coordinated, CoordinateError> {
    check(&plan.agents)?;
    tokio::pin!(stop);
    let (links, streams) = tokio::select! {
        ready = prepare(plan, clock) => ready?,
        () = &mut stop => return Err(CoordinateError::Interrupted),
    };
    let slowest = links.iter().map(|link| link.offset.error * 2).max().unwrap_or(0);
    let soon = clock.now() + nanos(START_DELAY) + slowest;
    // A whole millisecond, which is what the interval log can say exactly.
    let begins = soon.next_multiple_of(1_000_000);
    tell(&links, &order::Order::Start(Start { at: begins })).await;

    let mut parts = JoinSet::new();
    for (number, mut stream) in streams.into_iter().enumerate() {
        parts.spawn(async move { (number, collect(&mut stream).await) });
    }
    let mut results: Vec<Option<AgentResult>> = links.iter().map(|_| None).collect();
    let mut lost = None;
    let mut stopped = false;
    loop {
        let joined = tokio::select! {
            joined = parts.join_next() => joined,
            () = &mut stop, if !stopped => {
                stopped = true;
                tell(&links, &order::Order::Stop(Stop {})).await;
                continue;
            }
        };
        match joined {
            None => break,
            Some(Ok((number, Ok(result)))) => results[number] = Some(result),
            Some(Ok((number, Err(reason)))) => {
                let agent = links[number].agent.clone();
                lost.get_or_insert(LostAgent { agent, reason });
                // Without it the others' parts are not the plan.
                tell(&links, &order::Order::Stop(Stop {})).await;
            }
            Some(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => continue,
            },
        }
    }
    let agents = links.into_iter().zip(results);
    Ok(Coordinated {
        agents: agents
            .map(|(link, result)| (link.agent, link.offset, result))
            .collect(),
        begins,
        lost,
    })
}

fn check(agents: &[String]) -> Result<(), CoordinateError> {
    let wrong = |text: String| Err(CoordinateError::Agents(text));
    if agents.is_empty() || agents.len() > AGENTS_MAX {
        return wrong(format!(
            "{} agents: a run needs 1 to {AGENTS_MAX} of them",
            agents.len()
        ));
    }
    for (number, agent) in agents.iter().enumerate() {
        if agents[..number].contains(agent) {
            return wrong(format!(
                "agent {agent} is given twice; each can make one part of the run"
            ));
        }
    }
    Ok(())
}

/// Brings all agents to where they only wait for the start.
async fn prepare(
    plan: &SharedPlan,
    clock: RunClock,
) -> Result<(Vec<Link>, Vec<Streaming<Report>>), CoordinateError> {
    let mut links = Vec::new();
    let mut waiting = JoinSet::new();
    for (index, agent) in plan.agents.iter().enumerate() {
        let mut client = connect(agent).await?;
        let offset = offset(&mut client, agent, clock).await?;
        let (orders, stream) = mpsc::channel(ORDERS_WAITING);
        let prepare = order::Order::Prepare(Prepare {
            version: env!("CARGO_PKG_VERSION").into(),
            arguments: plan.arguments.clone(),
            seed: plan.seed,
            name: plan.name.clone(),
            index: index as u64,
            of: plan.agents.len() as u64,
            origin: offset.offset,
            history: plan.history,
        });
        let link = Link {
            agent: agent.clone(),
            offset,
            orders,
        };
        tell(std::slice::from_ref(&link), &prepare).await;
        let response = client.run(ReceiverStream::new(stream)).await;
        let mut reports = response.map_err(|status| refused(agent, &status))?.into_inner();
        links.push(link);
        let agent = agent.clone();
        waiting.spawn(async move {
            match reports.message().await {
                Ok(Some(Report {
                    report: Some(report::Report::Ready(_)),
                })) => Ok((index, reports)),
                Ok(_) => Err(refused(&agent, &Status::unknown("it ended without being ready"))),
                Err(status) => Err(refused(&agent, &status)),
            }
        });
    }
    let mut streams = Vec::new();
    while let Some(ready) = waiting.join_next().await {
        match ready {
            Ok(ready) => streams.push(ready?),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => continue,
            },
        }
    }
    streams.sort_by_key(|(index, _)| *index);
    Ok((links, streams.into_iter().map(|(_, stream)| stream).collect()))
}

async fn connect(agent: &str) -> Result<AgentServiceClient<Channel>, CoordinateError> {
    let unreachable = |error: tonic::transport::Error| CoordinateError::Unreachable {
        agent: agent.to_owned(),
        reason: crate::cli::with_causes(&error),
    };
    let endpoint = Endpoint::from_shared(format!("http://{agent}")).map_err(unreachable)?;
    let channel = endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(unreachable)?;
    Ok(AgentServiceClient::new(channel))
}

/// Asks for the time, several times.
async fn offset(
    client: &mut AgentServiceClient<Channel>,
    agent: &str,
    clock: RunClock,
) -> Result<ClockOffset, CoordinateError> {
    let mut exchanges = Vec::with_capacity(CLOCK_ROUNDS);
    for _ in 0..CLOCK_ROUNDS {
        let asked = clock.now();
        let answer = client.clock(ClockRequest {}).await;
        let answered = clock.now();
        let answer = answer.map_err(|status| refused(agent, &status))?.into_inner();
        exchanges.push(Exchange {
            asked,
            received: answer.received,
            sent: answer.sent,
            answered,
        });
    }
    Ok(ClockOffset::estimate(&exchanges).expect("there was at least one round"))
}

fn refused(agent: &str, status: &Status) -> CoordinateError {
    CoordinateError::Refused {
        agent: agent.to_owned(),
        reason: status.message().to_owned(),
        wrong_order: status.code() == Code::InvalidArgument,
    }
}

/// Tells all of them. One that is gone is noticed where its reports end.
async fn tell(links: &[Link], order: &order::Order) {
    for link in links {
        let order = Order {
            order: Some(order.clone()),
        };
        let _ = link.orders.send(order).await;
    }
}

/// One agent's result, or what happened to it.
async fn collect(stream: &mut Streaming<Report>) -> Result<AgentResult, String> {
    let mut pieces = Pieces::default();
    loop {
        let report = stream.message().await.map_err(|status| {
            let message = status.message();
            format!("{:?}: {message}", status.code())
        })?;
        match report.and_then(|report| report.report) {
            Some(report::Report::Chunk(chunk)) => pieces.chunk(&chunk)?,
            Some(report::Report::Series(series)) => pieces.series(series)?,
            Some(report::Report::Finished(finished)) => return pieces.finish(&finished),
            Some(report::Report::Ready(_)) => return Err("it said twice that it is ready".into()),
            None => return Err("its reports ended before its result was whole".into()),
        }
    }
}
