//! Who decides when the next operation starts.

use clap::Args;

use super::super::units;
use crate::schedule::{Arrivals, Rate};

/// Said to whoever chose neither loop.
const CHOOSE_A_LOOP: &str = "\
choose who decides when the next operation starts:
  --rate 5000            open loop: arrivals follow a plan, as those of independent users do. If the store stalls, they
                         keep arriving, and their waiting shows in the response time. Use it to measure latency.
  --closed --clients 64  closed loop: each client waits for its answer before it asks again. If the store stalls, so does
                         the load, which hides the stall from the percentiles. Use it to find the highest throughput.";

/// Each operation in flight has its request in memory.
const IN_FLIGHT_MAX: u64 = 1_000_000;

#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(in super::super) struct PaceArgs {
    /// Open loop: operations started a second, whatever the store does (5000, 5k, 2.5/s).
    #[arg(short, long, value_parser = units::rate, value_name = "RATE", visible_alias = "rps", alias = "qps")]
    #[arg(conflicts_with = "closed")]
    pub(in super::super) rate: Option<Rate>,
    /// How the arrivals of an open loop are spaced: `poisson` (exponential gaps, like independent users) or `constant`
    /// (equal gaps).
    #[arg(
        long,
        default_value = "poisson",
        conflicts_with = "closed",
        value_name = "SPACING"
    )]
    pub(in super::super) arrival: String,
    /// Closed loop: each client starts its next operation when the previous one ended.
    #[arg(long)]
    pub(in super::super) closed: bool,
    /// Clients of a closed loop.
    #[arg(short, long, value_parser = units::count, default_value = "64", value_name = "N", alias = "concurrency")]
    #[arg(conflicts_with = "rate")]
    pub(in super::super) clients: u64,
}

impl PaceArgs {
    pub(in super::super) fn arrivals(&self) -> Result<Arrivals, String> {
        match (self.rate, self.closed) {
            (Some(rate), _) => match self.arrival.as_str() {
                "constant" => Ok(Arrivals::Constant { rate }),
                "poisson" => Ok(Arrivals::Poisson { rate }),
                other => Err(format!(
                    "`{other}` is no spacing of arrivals: use poisson or constant"
                )),
            },
            (None, true) => Ok(Arrivals::Closed {
                clients: limited(self.clients, "clients")?,
            }),
            (None, false) => Err(CHOOSE_A_LOOP.into()),
        }
    }
}

/// A number of operations in flight that fits into memory.
pub(super) fn limited(number: u64, what: &str) -> Result<usize, String> {
    match usize::try_from(number) {
        Ok(fits) if number <= IN_FLIGHT_MAX => Ok(fits),
        _ => Err(format!(
            "{number} {what} are more than this tool takes on ({IN_FLIGHT_MAX})"
        )),
    }
}
