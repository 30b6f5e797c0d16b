//! Which store, and how its nodes are talked to.

use std::fmt;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::super::units;
use crate::client::{ClientOptions, Route};
use crate::target::{Endpoints, InvalidEndpoints};

/// Where an operation is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct RouteArg(pub(in super::super) Route);

#[derive(Debug, Args)]
#[command(next_help_heading = "Target")]
#[command(group(ArgGroup::new("store").required(true).args(["endpoints", "target"])))]
pub(in super::super) struct TargetArgs {
    /// The nodes of a cluster of the reference store, as host:port, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,…")]
    endpoints: Vec<String>,
    /// What to measure, as a URL: raft://HOST:PORT,…, etcd://HOST:PORT,…, echo://HOST:PORT (a bare gRPC echo), null://
    /// (nothing, inside this process). Without nodes, as in etcd://, a fresh cluster of it is started on this machine and
    /// stopped at the end.
    #[arg(long, value_name = "URL")]
    target: Option<Endpoints>,
    /// Connections to each node.
    #[arg(short = 'C', long, value_parser = units::count, default_value = "2", value_name = "N")]
    pub(in super::super) connections: u64,
    /// Where an operation is tried first: at the `leader`, at all endpoints in turn (`round-robin`), or at `endpoint=N`,
    /// counted from zero.
    #[arg(long, value_parser = route, default_value = "leader", value_name = "ROUTE")]
    pub(in super::super) route: RouteArg,
    /// Attempts after refusals that are no redirects; without it, as many as fit before the timeout.
    #[arg(long, value_name = "N")]
    pub(in super::super) retries: Option<u32>,
    /// First and widest range that pauses before a retry are drawn from; each is twice as wide as the one before.
    #[arg(long, value_parser = delays, default_value = "10ms,200ms", value_name = "MIN,MAX")]
    pub(in super::super) retry_delay: Delays,
    /// Do not ask the node that a refusal points to; ask the next one after a pause.
    #[arg(long)]
    pub(in super::super) no_redirects: bool,
    /// Follow a leader hint to an address that is not among the endpoints.
    #[arg(long)]
    pub(in super::super) dial_hints: bool,
    /// Begin although a node does not answer, as long as one does.
    #[arg(long)]
    pub(in super::super) allow_unreachable: bool,
}

/// The range of pauses between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Delays {
    first: Duration,
    max: Duration,
}

impl fmt::Display for RouteArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Route::Leader => f.write_str("leader"),
            Route::RoundRobin => f.write_str("round-robin"),
            Route::Endpoint(number) => write!(f, "endpoint={number}"),
        }
    }
}

impl TargetArgs {
    /// Which store, and where.
    pub(in super::super) fn endpoints(&self) -> Result<Endpoints, InvalidEndpoints> {
        match &self.target {
            Some(target) => Ok(target.clone()),
            None => self.endpoints.join(",").parse(),
        }
    }

    /// For a client whose operations have this time limit.
    pub(in super::super) fn client_options(&self, timeout: Duration) -> ClientOptions {
        ClientOptions {
            connections: usize::try_from(self.connections)
                .unwrap_or(usize::MAX)
                .clamp(1, 1024),
            timeout,
            route: self.route.0,
            retries: self.retries,
            pause_first: self.retry_delay.first,
            pause_max: self.retry_delay.max,
            follow_redirects: !self.no_redirects,
            dial_hints: self.dial_hints,
        }
    }
}

fn route(text: &str) -> Result<RouteArg, String> {
    let route = match text {
        "leader" => Route::Leader,
        "round-robin" => Route::RoundRobin,
        _ => match text.strip_prefix("endpoint=").map(str::parse) {
            Some(Ok(number)) => Route::Endpoint(number),
            _ => {
                return Err(format!(
                    "`{text}` is no route: use leader, round-robin or endpoint=N"
                ));
            }
        },
    };
    Ok(RouteArg(route))
}

fn delays(text: &str) -> Result<Delays, String> {
    let (first, max) = text.split_once(',').unwrap_or((text, text));
    let (first, max) = (units::duration(first)?, units::duration(max)?);
    if first > max || max.is_zero() {
        return Err(format!(
            "`{text}` is no range of pauses: write the shorter one first, as in 10ms,200ms"
        ));
    }
    Ok(Delays { first, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_delays_are_understood_or_refused_with_an_example() {
        assert_eq!(route("endpoint=2"), Ok(RouteArg(Route::Endpoint(2))));
        assert!(route("nearest").is_err_and(|why| why.contains("round-robin")));
        assert!(route("endpoint=x").is_err());
        let both = |first, max| Delays {
            first: Duration::from_millis(first),
            max: Duration::from_millis(max),
        };
        assert_eq!(delays("10ms,200ms"), Ok(both(10, 200)));
        assert_eq!(delays("50ms"), Ok(both(50, 50)));
        assert!(delays("200ms,10ms").is_err_and(|why| why.contains("shorter one first")));
    }
}
