//! What to search for, and what it takes to tell.

use std::time::Duration;

use thiserror::Error;

use super::probe::{Limits, needed};
use crate::threshold::{Aggregation, Threshold};

/// Values beyond a percentile that a probe should be long enough for: enough that its interval is about as wide as a third of the tail.
const BEYOND_WANTED: f64 = 25.0;

/// What to search for, and how.
#[derive(Debug, Clone)]
pub struct SearchConfig {
    /// What a probe is held against.
    pub limits: Limits,
    /// Operations a second that the store may take, roughly. Only the number of probes depends on it.
    pub guess: f64,
    /// The gap between the highest rate that passed and the lowest that failed may be this part of the former at the end.
    pub precision: f64,
    /// Rates below are not tried.
    pub rate_min: f64,
    /// Rates above are not tried.
    pub rate_max: f64,
    /// Shortest probe; longer where a percentile needs more operations.
    pub length_min: Duration,
    /// Longest probe. A marginal probe is repeated at twice its length, at most at twice this.
    pub length_max: Duration,
    /// How long the store is looked at to see whether it has recovered.
    pub recovery_length: Duration,
    /// Probes at most, apart from the short ones that look for recovery and the last one, at nine tenths of the winner. When they
    /// are used up, the answer is what is known by then.
    pub probes_max: usize,
}

impl SearchConfig {
    /// The usual way to look for the highest rate within `objectives`, with a tenth of a percent of errors allowed.
    pub fn new(objectives: Vec<Threshold>) -> SearchConfig {
        SearchConfig {
            limits: Limits {
                objectives,
                errors_max: 0.001,
            },
            guess: 10_000.0,
            precision: 0.05,
            rate_min: 1.0,
            rate_max: 1e6,
            length_min: Duration::from_secs(10),
            length_max: Duration::from_secs(60),
            recovery_length: Duration::from_secs(2),
            probes_max: 40,
        }
    }

    /// Refuses what cannot lead to an answer.
    pub fn check(&self) -> Result<(), SearchConfigError> {
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let wrong = |what: &str| Err(SearchConfigError(what.into()));
        if self.limits.objectives.is_empty() {
            return wrong("there is no objective; give one such as --slo 'p99<20ms'");
        }
        if !positive(self.precision) || self.precision > 1.0 {
            return wrong("the precision must be above 0 and at most 100 %");
        }
        if !positive(self.guess) || !positive(self.rate_min) || !positive(self.rate_max) {
            return wrong("rates must be above zero");
        }
        if self.rate_min > self.rate_max {
            return wrong("the lowest rate is above the highest");
        }
        if self.length_min.is_zero() || self.length_max < self.length_min {
            return wrong("the shortest probe must be above zero and no longer than the longest");
        }
        if self.probes_max == 0 {
            return wrong("without a single probe there is no answer");
        }
        match self.hardest() {
            Some(hardest) if self.rate_max < hardest.rate => wrong(&hardest.advice(self, self.rate_max)),
            _ => Ok(()),
        }
    }

    /// What is needed to tell whether a store keeps the objective that takes most operations, if any takes a number of them.
    fn hardest(&self) -> Option<Needed> {
        let needed = self.limits.objectives.iter().filter_map(|objective| {
            let operations = needed(objective)?;
            let length = objective
                .over
                .map_or(self.length_max, |over| over.min(self.length_max));
            Some(Needed {
                objective: objective.to_string(),
                operations,
                length,
                rate: operations as f64 / length.as_secs_f64().max(1e-9),
            })
        });
        needed.max_by(|a, b| a.rate.total_cmp(&b.rate))
    }

    /// The lowest rate at which even the longest probe surely has enough operations for every objective. Arrivals are Poisson's, so
    /// their number wanders.
    pub(super) fn rate_judged(&self) -> f64 {
        self.hardest().map_or(0.0, |hardest| {
            hardest.rate * (1.0 + 4.0 / (hardest.operations as f64).sqrt())
        })
    }

    /// What is missing where probes at `rate` have too few operations.
    pub(super) fn advice(&self, rate: f64) -> String {
        match self.hardest() {
            Some(hardest) => hardest.advice(self, rate),
            None => format!("at {rate}/s nothing was measured that an objective could be held against"),
        }
    }

    /// How long a probe at `rate` is.
    pub(super) fn length(&self, rate: f64) -> Duration {
        let tail = |threshold: &Threshold| match threshold.aggregation {
            Aggregation::Percentile(percentile) => BEYOND_WANTED / (1.0 - percentile.quantile()),
            _ => 0.0,
        };
        let wanted = self.limits.objectives.iter().map(tail).fold(0.0, f64::max);
        let seconds = (wanted / rate).min(self.length_max.as_secs_f64());
        Duration::from_secs_f64(seconds).max(self.length_min)
    }
}

/// A search that cannot lead to an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SearchConfigError(String);

/// What an objective takes.
struct Needed {
    objective: String,
    operations: u64,
    /// The longest time in which they can be measured.
    length: Duration,
    /// Operations a second that make so many in it, on average.
    rate: f64,
}

impl Needed {
    fn advice(&self, config: &SearchConfig, rate: f64) -> String {
        let Needed {
            objective,
            operations,
            length,
            ..
        } = self;
        // Read out, so up to whole numbers.
        let within = length.as_secs_f64();
        let enough = config.rate_judged().ceil();
        let longer = match config.length_max == *length {
            true => format!(
                "allow probes of {:.0} s (--max-probe-length) or rates",
                (within * enough / rate).ceil()
            ),
            false => "use longer stretches than those of `over`, or allow rates".into(),
        };
        format!(
            "{objective} cannot be judged with fewer than {operations} operations, and {rate}/s make about {:.0} in {within} s: \
             {longer} from {enough}/s on (--max-rate)",
            rate * within
        )
    }
}
