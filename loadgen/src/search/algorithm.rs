//! The search for the highest rate within an objective.

use std::time::Duration;

use serde::Serialize;
use thiserror::Error;

use super::probe::{Limits, ProbeRecord, ProbeVerdict, Prober, Purpose};
use crate::threshold::{Aggregation, Threshold};

/// Runs that the winner has to go through again; more than half must pass.
pub const CONFIRMATIONS: usize = 3;

/// Probes at the baseline's rate after one that failed; if the store has not recovered by then, the search goes on and says so.
pub const RECOVERY_TRIES_MAX: usize = 10;

/// How often a rate that failed may pass after all and the search go on above it.
pub const REOPENINGS_MAX: usize = 3;

/// The first probe's part of the guess.
const BASELINE_SHARE: f64 = 0.05;

/// What is quoted as sustained, as a part of the winner.
const SUSTAINED_SHARE: f64 = 0.9;

/// Values beyond a percentile that a probe should be long enough for: enough that its interval is about as wide as a third of the tail.
const BEYOND_WANTED: f64 = 25.0;

/// How much slower than the baseline a store may still be and count as recovered.
const RECOVERED: f64 = 1.1;

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
    /// Probes at most, apart from those that look for recovery. When they are used up, the answer is what is known by then.
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
        let wrong = |what| Err(SearchConfigError(what));
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
        Ok(())
    }

    /// How long a probe at `rate` is.
    fn length(&self, rate: f64) -> Duration {
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct SearchConfigError(&'static str);

/// What the search came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Capacity {
    /// `= rate`: it passed again and again, and `fails_at`, within the precision above it, failed twice.
    Exactly {
        /// Operations a second.
        rate: f64,
        /// The lowest rate that failed.
        fails_at: f64,
    },
    /// `>= rate`: it passed, and again and again unless the probes were used up; what is above it is not known.
    AtLeast {
        /// Operations a second.
        rate: f64,
        /// Why not.
        because: Unknown,
    },
    /// Even this failed, and nothing below it was to be tried.
    Below {
        /// Operations a second.
        rate: f64,
    },
    /// No probe said anything about the store.
    Unknown {
        /// Why not.
        because: Unknown,
    },
}

/// Why a search does not know more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unknown {
    /// The generator was the limit.
    GeneratorBound,
    /// [`SearchConfig::rate_max`] was reached.
    RateMax,
    /// [`SearchConfig::probes_max`] was reached.
    ProbesUsed,
}

/// Everything that a search found out.
#[derive(Debug, Clone, Serialize)]
pub struct SearchResult {
    /// The answer.
    pub capacity: Capacity,
    /// The run at nine tenths of it, if there is one.
    pub sustained: Option<ProbeRecord>,
    /// Every probe, in its order.
    pub probes: Vec<ProbeRecord>,
    /// What a reader has to know, a sentence each.
    pub notes: Vec<String>,
}

/// How a search stands, for whoever shows it.
#[derive(Debug)]
pub enum Step<'a> {
    /// A probe begins.
    Begins {
        /// What for.
        purpose: Purpose,
        /// Operations a second.
        rate: f64,
        /// Measured time.
        length: Duration,
    },
    /// It has ended.
    Ended(&'a ProbeRecord),
}

/// Searches for the highest rate at which a probe passes. Tells every step to `watch`. The configuration must have passed
/// [`SearchConfig::check`].
pub async fn search<P: Prober>(
    prober: &mut P,
    config: &SearchConfig,
    watch: impl FnMut(Step<'_>),
) -> Result<SearchResult, P::Error> {
    let mut search = Search {
        prober,
        config,
        watch,
        probes: Vec::new(),
        notes: Vec::new(),
        spent: 0,
        baseline: None,
        disturbed: false,
        passed: Vec::new(),
        failed: Vec::new(),
        confirmed: None,
        failed_again: None,
        reopenings: 0,
    };
    let capacity = loop {
        match search.next() {
            Next::Try(purpose, rate) => search.try_rate(purpose, rate).await?,
            Next::Confirm(rate) => search.confirm(rate).await?,
            Next::ConfirmLimit(rate) => search.confirm_limit(rate).await?,
            Next::Done(capacity) => break capacity,
        }
    };
    let sustained = match capacity {
        Capacity::Exactly { rate, .. } | Capacity::AtLeast { rate, .. } => {
            search.recover().await?;
            Some(
                search
                    .probe(Purpose::Sustained, tidy(rate * SUSTAINED_SHARE), 1)
                    .await?,
            )
        }
        Capacity::Below { .. } | Capacity::Unknown { .. } => None,
    };
    Ok(SearchResult {
        capacity,
        sustained,
        probes: search.probes,
        notes: search.notes,
    })
}

/// What to do next.
enum Next {
    Try(Purpose, f64),
    Confirm(f64),
    ConfirmLimit(f64),
    Done(Capacity),
}

/// A rate that did not pass.
#[derive(Debug, Clone, Copy)]
struct Failure {
    rate: f64,
    generator_bound: bool,
}

struct Search<'a, P, W> {
    prober: &'a mut P,
    config: &'a SearchConfig,
    watch: W,
    probes: Vec<ProbeRecord>,
    notes: Vec<String>,
    /// Probes made, without those that look for recovery.
    spent: usize,
    /// Rate and median of the first probe that passed.
    baseline: Option<(f64, u64)>,
    /// The last probe did not pass, and nobody has looked whether the store has recovered.
    disturbed: bool,
    /// Rates that passed, rising. All below every one of `failed`.
    passed: Vec<f64>,
    /// Rates that did not, falling.
    failed: Vec<Failure>,
    confirmed: Option<f64>,
    failed_again: Option<f64>,
    reopenings: usize,
}

impl<P: Prober, W: FnMut(Step<'_>)> Search<'_, P, W> {
    fn next(&self) -> Next {
        let (passed, failed) = (self.passed.last().copied(), self.failed.last().copied());
        if self.spent >= self.config.probes_max {
            return Next::Done(known(passed, Unknown::ProbesUsed));
        }
        let rate_max = self.config.rate_max;
        match (passed, failed) {
            (None, None) => {
                let baseline = self.config.guess * BASELINE_SHARE;
                Next::Try(
                    Purpose::Baseline,
                    tidy(baseline.clamp(self.config.rate_min, rate_max)),
                )
            }
            (None, Some(failure)) if tidy(failure.rate / 2.0) < self.config.rate_min => {
                Next::Done(match failure.generator_bound {
                    true => Capacity::Unknown {
                        because: Unknown::GeneratorBound,
                    },
                    false => Capacity::Below { rate: failure.rate },
                })
            }
            (None, Some(failure)) => Next::Try(Purpose::Descend, tidy(failure.rate / 2.0)),
            (Some(rate), None) if rate >= rate_max => self.conclude(
                rate,
                Capacity::AtLeast {
                    rate,
                    because: Unknown::RateMax,
                },
            ),
            (Some(rate), None) => Next::Try(Purpose::Climb, tidy(rate * 2.0).min(rate_max)),
            (Some(rate), Some(failure)) => {
                let middle = tidy((rate * failure.rate).sqrt());
                let apart = failure.rate > rate * (1.0 + self.config.precision);
                if apart && rate < middle && middle < failure.rate {
                    Next::Try(Purpose::Bisect, middle)
                } else if failure.generator_bound {
                    self.conclude(
                        rate,
                        Capacity::AtLeast {
                            rate,
                            because: Unknown::GeneratorBound,
                        },
                    )
                } else if self.confirmed != Some(rate) {
                    Next::Confirm(rate)
                } else if self.failed_again != Some(failure.rate) && self.reopenings < REOPENINGS_MAX {
                    Next::ConfirmLimit(failure.rate)
                } else {
                    Next::Done(Capacity::Exactly {
                        rate,
                        fails_at: failure.rate,
                    })
                }
            }
        }
    }

    fn conclude(&self, rate: f64, capacity: Capacity) -> Next {
        match self.confirmed == Some(rate) {
            true => Next::Done(capacity),
            false => Next::Confirm(rate),
        }
    }

    /// Probes a rate; once more and longer if only uncertainty or the generator speaks against it.
    async fn try_rate(&mut self, purpose: Purpose, rate: f64) -> Result<(), P::Error> {
        self.recover().await?;
        let mut record = self.probe(purpose, rate, 1).await?;
        if matches!(
            record.verdict,
            ProbeVerdict::Marginal | ProbeVerdict::GeneratorBound
        ) {
            self.recover().await?;
            record = self.probe(Purpose::Repeat, rate, 2).await?;
        }
        match record.verdict {
            ProbeVerdict::Passed => self.passed.push(rate),
            verdict => self.failed.push(Failure {
                rate,
                generator_bound: verdict == ProbeVerdict::GeneratorBound,
            }),
        }
        Ok(())
    }

    /// Runs the winner again; if it does not win more often than not, it counts as a rate that failed.
    async fn confirm(&mut self, rate: f64) -> Result<(), P::Error> {
        let (mut passed, mut bound) = (0, 0);
        for _ in 0..CONFIRMATIONS {
            self.recover().await?;
            match self.probe(Purpose::Confirm, rate, 1).await?.verdict {
                ProbeVerdict::Passed => passed += 1,
                ProbeVerdict::GeneratorBound => bound += 1,
                ProbeVerdict::Failed | ProbeVerdict::Marginal => {}
            }
        }
        if 2 * passed > CONFIRMATIONS {
            self.confirmed = Some(rate);
        } else {
            self.notes.push(format!(
                "{rate} a second passed once, and then {passed} times of {CONFIRMATIONS}"
            ));
            self.passed.pop();
            self.failed.push(Failure {
                rate,
                generator_bound: 2 * bound > CONFIRMATIONS,
            });
        }
        Ok(())
    }

    /// Runs the rate above the winner again; if it passes, the search goes on above it.
    async fn confirm_limit(&mut self, rate: f64) -> Result<(), P::Error> {
        self.recover().await?;
        match self.probe(Purpose::ConfirmLimit, rate, 1).await?.verdict {
            ProbeVerdict::Passed => {
                self.notes
                    .push(format!("{rate} a second failed once and then passed"));
                self.reopenings += 1;
                self.failed.pop();
                self.passed.push(rate);
            }
            ProbeVerdict::Failed | ProbeVerdict::Marginal | ProbeVerdict::GeneratorBound => {
                self.failed_again = Some(rate)
            }
        }
        Ok(())
    }

    /// After a probe that did not pass: waits until the store is as fast at the baseline's rate as it was.
    async fn recover(&mut self) -> Result<(), P::Error> {
        let Some((rate, median)) = self.baseline.filter(|_| self.disturbed) else {
            return Ok(());
        };
        self.disturbed = false;
        for _ in 0..RECOVERY_TRIES_MAX {
            let record = self
                .run(Purpose::Recovery, rate, self.config.recovery_length)
                .await?;
            if record
                .latency
                .p50
                .is_some_and(|p50| p50 as f64 <= median as f64 * RECOVERED)
            {
                return Ok(());
            }
        }
        self.notes.push(format!(
            "after probe {} the store did not become as fast as it had been at {rate} a second within {RECOVERY_TRIES_MAX} looks: \
             what follows may be too low",
            self.probes.len() - RECOVERY_TRIES_MAX
        ));
        Ok(())
    }

    async fn probe(&mut self, purpose: Purpose, rate: f64, times: u32) -> Result<ProbeRecord, P::Error> {
        self.spent += 1;
        let record = self.run(purpose, rate, self.config.length(rate) * times).await?;
        let passed = record.verdict == ProbeVerdict::Passed;
        self.disturbed |= !passed;
        if self.baseline.is_none() && passed {
            self.baseline = record.latency.p50.map(|p50| (rate, p50));
        }
        Ok(record)
    }

    async fn run(&mut self, purpose: Purpose, rate: f64, length: Duration) -> Result<ProbeRecord, P::Error> {
        (self.watch)(Step::Begins {
            purpose,
            rate,
            length,
        });
        let probe = self.prober.probe(rate, length).await?;
        let record = ProbeRecord::new(purpose, rate, probe, &self.config.limits);
        (self.watch)(Step::Ended(&record));
        self.probes.push(record.clone());
        Ok(record)
    }
}

fn known(passed: Option<f64>, because: Unknown) -> Capacity {
    match passed {
        Some(rate) => Capacity::AtLeast { rate, because },
        None => Capacity::Unknown { because },
    }
}

/// A rate that can be read out: four digits.
fn tidy(rate: f64) -> f64 {
    let digits = 3 - rate.log10().floor() as i32;
    // Dividing, so that tenths stay exact.
    match digits {
        0.. => (rate * 10_f64.powi(digits)).round() / 10_f64.powi(digits),
        _ => (rate / 10_f64.powi(-digits)).round() * 10_f64.powi(-digits),
    }
}

#[cfg(test)]
#[test]
fn rates_have_four_digits() {
    for (rate, tidied) in [
        (14_873.2, 14_870.0),
        (1234.56, 1235.0),
        (0.123_456, 0.1235),
        (99_999.0, 100_000.0),
        (50.0, 50.0),
    ] {
        assert_eq!(tidy(rate), tidied);
    }
}
