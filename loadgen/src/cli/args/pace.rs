//! Who decides when the next operation starts.

use clap::Args;

use super::super::units;
use super::super::with_causes;
use crate::schedule::{Arrivals, Rate, Spacing, Stages, parse_arrival, parse_stages};

/// Said to whoever chose neither loop.
const CHOOSE_A_LOOP: &str = "\
choose who decides when the next operation starts:
  --rate 5000            open loop: arrivals follow a plan, as those of independent users do. If the store stalls, they
                         keep arriving, and their waiting shows in the response time. Use it to measure latency.
  --closed --clients 64  closed loop: each client waits for its answer before it asks again. If the store stalls, so does
                         the load, which hides the stall from the percentiles. Use it to find the highest throughput.";

/// Each operation in flight has its request in memory.
pub(in super::super) const IN_FLIGHT_MAX: u64 = 1_000_000;

#[derive(Debug, Args)]
#[command(next_help_heading = "Pace")]
pub(in super::super) struct PaceArgs {
    /// Open loop: operations started a second, whatever the store does (5000, 5k, 2.5/s).
    #[arg(short, long, value_parser = units::rate, value_name = "RATE", visible_alias = "rps", alias = "qps")]
    #[arg(conflicts_with = "closed")]
    pub(in super::super) rate: Option<Rate>,
    /// Open loop whose rate changes: `10s@1k` is ten seconds at 1000 a second, `10s@1k..5k` a ramp between two rates,
    /// `10s->8k` a ramp from the rate before it; separated by commas.
    #[arg(long, value_parser = stages, value_name = "STAGES", conflicts_with_all = ["closed", "rate"])]
    pub(in super::super) stages: Option<Stages>,
    /// How arrivals are spaced: `poisson` (exponential gaps, like independent users) or `constant` (equal gaps). Or a plan
    /// of its own, without a rate: `burst:100@1s` (so many at once, every so often) or `replay:FILE` (a time in nanoseconds
    /// a line) [default: poisson]
    #[arg(long, conflicts_with = "closed", value_name = "ARRIVAL")]
    pub(in super::super) arrival: Option<String>,
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
        if let Some(stages) = &self.stages {
            let spacing = match self.arrival.as_deref() {
                None | Some("poisson") => Spacing::Poisson,
                Some("constant") => Spacing::Constant,
                Some(other) => {
                    return Err(format!(
                        "`{other}` is no spacing of stages: use poisson or constant"
                    ));
                }
            };
            let stages = stages.clone();
            return Ok(Arrivals::Stages { stages, spacing });
        }
        match (self.rate, self.closed, &self.arrival) {
            (None, true, _) => Ok(Arrivals::Closed {
                clients: limited(self.clients, "clients")?,
            }),
            (None, false, None) => Err(CHOOSE_A_LOOP.into()),
            (rate, _, arrival) => {
                let arrival = arrival.as_deref().unwrap_or("poisson");
                parse_arrival(arrival, rate).map_err(|error| with_causes(&error))
            }
        }
    }
}

fn stages(text: &str) -> Result<Stages, String> {
    parse_stages(text).map_err(|error| with_causes(&error))
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
