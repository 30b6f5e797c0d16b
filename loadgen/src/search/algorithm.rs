//! The search for the highest rate within an objective.

use std::time::Duration;

use serde::Serialize;

use super::config::SearchConfig;
use super::probe::{ProbeRecord, ProbeVerdict, Prober, Purpose};

/// Runs that the winner has to go through again; more than half must pass.
pub const CONFIRMATIONS: usize = 3;

/// Probes at the baseline's rate after one that failed; if the store has not recovered by then, the search goes on and says so.
pub const RECOVERY_TRIES_MAX: usize = 10;

/// Looks for recovery in which the generator was the limit, after which nothing more is expected of looking.
pub const BLIND_LOOKS_MAX: usize = 2;

/// How often a rate that failed may pass after all and the search go on above it.
pub const REOPENINGS_MAX: usize = 3;

/// The first probe's part of the guess.
const BASELINE_SHARE: f64 = 0.05;

/// What is quoted as sustained, as a part of the winner.
const SUSTAINED_SHARE: f64 = 0.9;

/// Values that a look for recovery should have, on average, so that it has a median.
const RECOVERY_VALUES: f64 = 50.0;

/// How much slower than the baseline a store may still be and count as recovered.
const RECOVERED: f64 = 1.1;

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
    /// Even the longest probe had too few operations to tell.
    TooThin,
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
        thin: None,
        always_long: false,
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
            Next::UsedUp => {
                search.notes.push(
                    "the probes were used up (--max-probes) before the answer was as narrow and as often confirmed as asked for"
                        .into(),
                );
                break search.known();
            }
        }
    };
    search.notes.extend(search.too_thin(capacity));
    let sustained = match capacity {
        Capacity::Exactly { rate, .. } | Capacity::AtLeast { rate, .. } => {
            search.recover().await?;
            let rate = tidy(rate * SUSTAINED_SHARE);
            let length = search.length(rate);
            Some(search.probe(Purpose::Sustained, rate, length).await?)
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
    /// There would be more to do, and no probes to do it with.
    UsedUp,
}

/// A rate that did not pass.
#[derive(Debug, Clone, Copy)]
struct Failure {
    rate: f64,
    because: Because,
}

/// What was the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    Store,
    Generator,
    /// There were too few operations to tell.
    Thin,
}

impl Because {
    fn of(verdict: ProbeVerdict) -> Because {
        match verdict {
            ProbeVerdict::GeneratorBound => Because::Generator,
            ProbeVerdict::TooThin => Because::Thin,
            ProbeVerdict::Passed | ProbeVerdict::Failed | ProbeVerdict::Marginal => Because::Store,
        }
    }

    /// Why nothing more is known, if that is not the store's answer.
    fn unknown(self) -> Option<Unknown> {
        match self {
            Because::Store => None,
            Because::Generator => Some(Unknown::GeneratorBound),
            Because::Thin => Some(Unknown::TooThin),
        }
    }
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
    /// The highest rate below all that passed at which there were too few operations to tell.
    thin: Option<f64>,
    /// A probe of the usual length had too few operations, so that all are as long as they may be.
    always_long: bool,
    confirmed: Option<f64>,
    failed_again: Option<f64>,
    reopenings: usize,
}

impl<P: Prober, W: FnMut(Step<'_>)> Search<'_, P, W> {
    fn next(&self) -> Next {
        match self.wanted() {
            Next::Done(capacity) => Next::Done(capacity),
            _ if self.spent >= self.config.probes_max => Next::UsedUp,
            next => next,
        }
    }

    /// What would be next if there were no end of probes.
    fn wanted(&self) -> Next {
        let rate_max = self.config.rate_max;
        match (self.passed.last().copied(), self.failed.last().copied()) {
            (None, None) => match self.thin {
                None => Next::Try(Purpose::Baseline, self.first()),
                Some(thin) if thin >= rate_max => Next::Done(Capacity::Unknown {
                    because: Unknown::TooThin,
                }),
                Some(thin) => Next::Try(Purpose::Climb, tidy(thin * 2.0).min(rate_max)),
            },
            (None, Some(failure)) => match (self.lower(failure.rate), failure.because.unknown()) {
                (Some(rate), None | Some(Unknown::GeneratorBound)) => Next::Try(Purpose::Descend, rate),
                (_, Some(because)) => Next::Done(Capacity::Unknown { because }),
                (None, None) => Next::Done(Capacity::Below { rate: failure.rate }),
            },
            (Some(rate), None) if rate >= rate_max => self.conclude(
                rate,
                Capacity::AtLeast {
                    rate,
                    because: Unknown::RateMax,
                },
            ),
            (Some(rate), None) => Next::Try(Purpose::Climb, tidy(rate * 2.0).min(rate_max)),
            (Some(rate), Some(failure)) => self.between(rate, failure),
        }
    }

    /// The first rate: far below the guess, but not so low that nothing could be told.
    fn first(&self) -> f64 {
        let rate_min = self.config.rate_min.max(self.config.rate_judged().ceil());
        let rate_max = self.config.rate_max;
        tidy((self.config.guess * BASELINE_SHARE).clamp(rate_min.min(rate_max), rate_max))
    }

    /// The next lower rate to try, if it may be tried and would have enough operations to tell.
    fn lower(&self, rate: f64) -> Option<f64> {
        let half = tidy(rate / 2.0).max(self.config.rate_judged().ceil());
        let told = self.thin.is_none_or(|thin| half > thin);
        (half >= self.config.rate_min && half < rate && told).then_some(half)
    }

    /// What to do between a rate that passed and one that did not.
    fn between(&self, rate: f64, failure: Failure) -> Next {
        let middle = tidy((rate * failure.rate).sqrt());
        let apart = failure.rate > rate * (1.0 + self.config.precision);
        if apart && rate < middle && middle < failure.rate {
            Next::Try(Purpose::Bisect, middle)
        } else if let Some(because) = failure.because.unknown() {
            self.conclude(rate, Capacity::AtLeast { rate, because })
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

    /// The answer with what is known so far.
    fn known(&self) -> Capacity {
        let passed = self.passed.last().copied();
        let because = match self.failed.last() {
            Some(failure) => failure.because.unknown(),
            None if passed.is_some_and(|rate| rate >= self.config.rate_max) => Some(Unknown::RateMax),
            None if passed.is_none() && self.thin.is_some() => Some(Unknown::TooThin),
            None => None,
        };
        let because = because.unwrap_or(Unknown::ProbesUsed);
        match passed {
            Some(rate) => Capacity::AtLeast { rate, because },
            None => Capacity::Unknown { because },
        }
    }

    /// A sentence if the answer would be another with longer probes.
    fn too_thin(&self, capacity: Capacity) -> Option<String> {
        let rate = match capacity {
            Capacity::AtLeast { because, .. } | Capacity::Unknown { because }
                if because == Unknown::TooThin =>
            {
                let thin = self.failed.last().map(|failure| failure.rate).or(self.thin);
                thin.unwrap_or(self.config.rate_max)
            }
            Capacity::Below { rate } if tidy(rate / 2.0) >= self.config.rate_min => {
                let half = tidy(rate / 2.0);
                return Some(format!(
                    "rates below {rate}/s were not tried: {}",
                    self.config.advice(half)
                ));
            }
            _ => return None,
        };
        Some(self.config.advice(rate))
    }

    fn conclude(&self, rate: f64, capacity: Capacity) -> Next {
        match self.confirmed == Some(rate) {
            true => Next::Done(capacity),
            false => Next::Confirm(rate),
        }
    }

    /// Probes a rate; once more and longer if only uncertainty, the generator or too few operations speak against it.
    async fn try_rate(&mut self, purpose: Purpose, rate: f64) -> Result<(), P::Error> {
        self.recover().await?;
        let length = self.length(rate);
        let record = self.probe(purpose, rate, length).await?;
        let longer = match record.verdict {
            ProbeVerdict::Marginal | ProbeVerdict::GeneratorBound => Some(length * 2),
            ProbeVerdict::TooThin => {
                self.always_long = true;
                Some(self.config.length_max).filter(|longest| *longest > length)
            }
            ProbeVerdict::Passed | ProbeVerdict::Failed => None,
        };
        let mut verdict = record.verdict;
        if let Some(longer) = longer.filter(|_| self.spent < self.config.probes_max) {
            self.recover().await?;
            verdict = self.probe(Purpose::Repeat, rate, longer).await?.verdict;
        }
        match verdict {
            ProbeVerdict::Passed => self.passed.push(rate),
            ProbeVerdict::TooThin if self.passed.is_empty() => self.thin = Some(rate),
            verdict => self.failed.push(Failure {
                rate,
                because: Because::of(verdict),
            }),
        }
        Ok(())
    }

    /// Runs the winner again; if it does not win more often than not, it counts as a rate that failed. Ends undecided if the probes
    /// are used up.
    async fn confirm(&mut self, rate: f64) -> Result<(), P::Error> {
        let mut verdicts = Vec::new();
        let left = self.config.probes_max.saturating_sub(self.spent);
        for _ in 0..CONFIRMATIONS.min(left) {
            self.recover().await?;
            let length = self.length(rate);
            verdicts.push(self.probe(Purpose::Confirm, rate, length).await?.verdict);
        }
        let most = |wanted: ProbeVerdict| {
            2 * verdicts.iter().filter(|verdict| **verdict == wanted).count() > CONFIRMATIONS
        };
        let passed = verdicts.iter().filter(|v| **v == ProbeVerdict::Passed).count();
        if most(ProbeVerdict::Passed) {
            self.confirmed = Some(rate);
        } else if 2 * (passed + CONFIRMATIONS - verdicts.len()) <= CONFIRMATIONS {
            self.notes.push(format!(
                "{rate} a second passed once, and then {passed} times of {}",
                verdicts.len()
            ));
            self.passed.pop();
            let others = [ProbeVerdict::GeneratorBound, ProbeVerdict::TooThin];
            let because = others.into_iter().find(|verdict| most(*verdict));
            self.failed.push(Failure {
                rate,
                because: because.map_or(Because::Store, Because::of),
            });
        }
        Ok(())
    }

    /// Runs the rate above the winner again; if it passes, the search goes on above it.
    async fn confirm_limit(&mut self, rate: f64) -> Result<(), P::Error> {
        self.recover().await?;
        let length = self.length(rate);
        match self.probe(Purpose::ConfirmLimit, rate, length).await?.verdict {
            ProbeVerdict::Passed => {
                self.notes
                    .push(format!("{rate} a second failed once and then passed"));
                self.reopenings += 1;
                self.failed.pop();
                self.passed.push(rate);
            }
            _ => self.failed_again = Some(rate),
        }
        Ok(())
    }

    /// After a probe that did not pass: waits until the store is as fast at the baseline's rate as it was.
    async fn recover(&mut self) -> Result<(), P::Error> {
        let Some((rate, median)) = self.baseline.filter(|_| self.disturbed) else {
            return Ok(());
        };
        self.disturbed = false;
        let after = self.probes.len();
        let (mut looks, mut blind) = (0, 0);
        while looks < RECOVERY_TRIES_MAX && blind < BLIND_LOOKS_MAX {
            let length = Duration::from_secs_f64(RECOVERY_VALUES / rate).max(self.config.recovery_length);
            let record = self.run(Purpose::Recovery, rate, length).await?;
            let recovered = |p50: u64| p50 as f64 <= median as f64 * RECOVERED;
            if record.latency.p50.is_some_and(recovered) {
                return Ok(());
            }
            looks += 1;
            blind += usize::from(record.verdict == ProbeVerdict::GeneratorBound);
        }
        self.notes.push(match blind < BLIND_LOOKS_MAX {
            true => format!(
                "after probe {after} the store did not become as fast as it had been at {rate} a second within \
                 {RECOVERY_TRIES_MAX} looks: what follows may be too low"
            ),
            false => format!(
                "after probe {after} the generator was too late itself to see whether the store became as fast again as it \
                 had been at {rate} a second: what follows may be too low"
            ),
        });
        Ok(())
    }

    fn length(&self, rate: f64) -> Duration {
        match self.always_long {
            true => self.config.length_max,
            false => self.config.length(rate),
        }
    }

    async fn probe(
        &mut self,
        purpose: Purpose,
        rate: f64,
        length: Duration,
    ) -> Result<ProbeRecord, P::Error> {
        self.spent += 1;
        let record = self.run(purpose, rate, length).await?;
        let passed = record.verdict == ProbeVerdict::Passed;
        // Too few operations are no burden.
        self.disturbed |= !passed && record.verdict != ProbeVerdict::TooThin;
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
