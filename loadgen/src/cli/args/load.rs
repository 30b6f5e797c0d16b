//! How long, and what happens at the limits.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::super::units;
use super::pace::limited;
use crate::run::Overflow;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum OverflowArg {
    /// They wait, and the wait counts.
    Queue,
    /// They are given up, and count as infinitely slow.
    Shed,
    /// The run ends.
    Abort,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Load")]
pub(in super::super) struct LoadArgs {
    /// How long operations are started.
    /// [default: 30s, or as long as the stages or the file of the plan]
    #[arg(short, long, value_parser = units::duration, value_name = "DURATION")]
    duration: Option<Duration>,
    /// How long operations are started before that, to be left out of the numbers.
    #[arg(long, value_parser = units::duration, default_value = "0s", value_name = "DURATION")]
    pub(in super::super) warmup: Duration,
    /// How long open operations are waited for at the end.
    #[arg(long, value_parser = units::duration, default_value = "5s", value_name = "DURATION")]
    pub(in super::super) drain: Duration,
    /// Time limit of each operation, redirects and retries included.
    #[arg(long, value_parser = units::duration, default_value = "2s", value_name = "DURATION")]
    pub(in super::super) timeout: Duration,
    /// Operations in flight at most.
    #[arg(long, value_parser = units::count, default_value = "4096", value_name = "N")]
    pub(in super::super) max_in_flight: u64,
    /// What happens to arrivals that find so many in flight.
    #[arg(long, value_enum, default_value = "queue")]
    pub(in super::super) overflow: OverflowArg,
    /// How fast waiting arrivals are worked off: `unlimited`, so many times as fast as the plan (`2x`), or `none`: never
    /// faster than the plan.
    #[arg(long, value_parser = catch_up, default_value = "unlimited", value_name = "PACE")]
    pub(in super::super) catch_up: f64,
    /// Everything random follows from it [default: drawn, and recorded]
    #[arg(long, value_name = "N")]
    pub(in super::super) seed: Option<u64>,
    /// Length of the slices in the record.
    #[arg(long, value_parser = units::duration, default_value = "1s", value_name = "DURATION")]
    pub(in super::super) interval: Duration,
}

/// How long a run is that does not say so.
const DURATION_DEFAULT: Duration = Duration::from_secs(30);

impl LoadArgs {
    /// For a plan that is this long, if it says so itself.
    pub(in super::super) fn duration(&self, plan: Option<Duration>) -> Duration {
        let warmup = self.warmup;
        self.duration
            .or(plan.map(|plan| plan.saturating_sub(warmup)))
            .unwrap_or(DURATION_DEFAULT)
    }

    pub(in super::super) fn in_flight(&self) -> Result<usize, String> {
        limited(self.max_in_flight, "operations in flight")
    }

    pub(in super::super) fn overflow(&self) -> Overflow {
        match self.overflow {
            OverflowArg::Queue => Overflow::Queue,
            OverflowArg::Shed => Overflow::Shed,
            OverflowArg::Abort => Overflow::Abort,
        }
    }
}

fn catch_up(text: &str) -> Result<f64, String> {
    match text {
        "unlimited" => Ok(f64::INFINITY),
        "none" => Ok(1.0),
        _ => match text.strip_suffix('x').map(str::parse) {
            Some(Ok(factor)) if factor >= 1.0 => Ok(factor),
            _ => Err(format!(
                "`{text}` is no pace: use unlimited, none, or a factor of at least 1 such as 2x"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces_of_catching_up_are_words_or_factors() {
        assert_eq!(catch_up("unlimited"), Ok(f64::INFINITY));
        assert_eq!(catch_up("none"), Ok(1.0));
        assert_eq!(catch_up("2.5x"), Ok(2.5));
        for wrong in ["2", "0.5x", "x", "NaNx", ""] {
            assert!(catch_up(wrong).is_err(), "{wrong}");
        }
    }
}
