//! Probes of a real store: each is a load of its own through one client, without a run folder.
//!
//! Promises: nothing of a probe is in flight when it has ended; the store's own saturation never counts as the generator's, because
//! arrivals that wait for a place show as backlog. How many independent values a probe's latencies are worth is estimated from the
//! means of its slices (batch means with batches of [`SLICE`]); dependence that reaches beyond a slice is underestimated.

use std::time::Duration;

use hdrhistogram::Histogram;
use reports::record::{Load, LoadVerdict, Measure, OutcomeKind};
use thiserror::Error;

use super::probe::{Probe, Prober};
use crate::client::Client;
use crate::clock::{RunClock, nanos};
use crate::export::hlog::{HlogError, IntervalLog};
use crate::percentiles::growing;
use crate::run::{LoadConfig, LoadError, LoadOutcome, run};
use crate::schedule::{Arrivals, Rate};
use crate::scribe::{HistoryTarget, LogBuffer, Outputs};
use crate::threshold::{Measurements, Metric, Series, Stretch, count_all, schedule};

/// Length of the slices of a probe.
pub const SLICE: Duration = Duration::from_millis(100);

/// Why a probe could not be made.
#[derive(Debug, Error)]
pub enum LoadProberError {
    /// The load could not be run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Its own histograms could not be read back, which is a fault of this tool.
    #[error("the histograms of a probe cannot be read back; please report this")]
    Histograms(#[from] HlogError),
}

/// Probes a store through a client.
#[derive(Debug)]
pub struct LoadProber {
    client: Client,
    config: LoadConfig,
    probes: u64,
}

impl LoadProber {
    /// Probes with the workload, warm-up, drain, timeout and limits of `config`; arrivals and duration are each probe's own.
    /// Records are written once, before the first probe.
    pub fn new(client: Client, config: LoadConfig) -> LoadProber {
        LoadProber {
            client,
            config,
            probes: 0,
        }
    }
}

impl Prober for LoadProber {
    type Error = LoadProberError;

    async fn probe(&mut self, rate: f64, length: Duration) -> Result<Probe, LoadProberError> {
        let config = LoadConfig {
            arrivals: Arrivals::Poisson {
                rate: Rate::per_1000_seconds((rate * 1000.0).round().max(1.0) as u64),
            },
            duration: length,
            interval: SLICE,
            // Another plan each time, so that no probe repeats the luck of the one before.
            seed: self.config.seed.wrapping_add(self.probes),
            preload: self.config.preload && self.probes == 0,
            waits_are_expected: true,
            ..self.config.clone()
        };
        self.probes += 1;
        let log = LogBuffer::default();
        let outputs = Outputs {
            history: HistoryTarget::Discard,
            latency_log: Some(Box::new(log.clone())),
            intervals: None,
        };
        let mut backlog = Vec::new();
        let warmup = config.warmup;
        let note = |progress: &crate::run::Progress| {
            if let Some(measured) = progress
                .elapsed
                .checked_sub(warmup)
                .filter(|measured| *measured <= length)
            {
                let open = progress.in_flight as f64 + progress.queued as f64;
                backlog.push((measured.as_secs_f64(), open));
            }
        };
        let never = std::future::pending();
        let outcome = run(
            config,
            self.client.clone(),
            RunClock::start(),
            outputs,
            note,
            never,
        )
        .await?;
        let log = IntervalLog::read(log.take().as_slice())?;
        Ok(probe(&outcome, &log, length, warmup, backlog))
    }
}

fn probe(
    outcome: &LoadOutcome,
    log: &IntervalLog,
    length: Duration,
    warmup: Duration,
    backlog: Vec<(f64, f64)>,
) -> Probe {
    let load = &outcome.load;
    let start = outcome.begins + nanos(warmup);
    let measured = Stretch {
        start,
        end: start + nanos(length),
    };
    // A slice may begin a moment before the stretch does.
    let slack = nanos(SLICE) / 2;
    let within = load
        .intervals
        .iter()
        .filter(|interval| interval.end <= measured.end + slack);
    Probe {
        planned: load.planned,
        answered: within.map(|interval| interval.counts.ok).sum(),
        errors: load.counts.total() - load.counts.ok,
        length,
        latency: outcome.latency.clone(),
        backlog,
        generator_bound: match &load.verdict {
            LoadVerdict::GeneratorBound(because) => Some(because.clone()),
            _ => None,
        },
        evidence: Box::new(evidence(load, log, measured)),
        folder: None,
    }
}

fn evidence(load: &Load, log: &IntervalLog, measured: Stretch) -> Measurements {
    let mut evidence = Measurements::empty(measured);
    let good: Vec<OutcomeKind> = OutcomeKind::ALL
        .into_iter()
        .filter(|outcome| outcome.is_good())
        .collect();
    for (metric, measure, outcomes) in [
        (Metric::Response, Measure::Response, good.as_slice()),
        (Metric::Service, Measure::Service, good.as_slice()),
        (Metric::Attempt, Measure::Attempt, good.as_slice()),
        (Metric::Lag, Measure::Lag, OutcomeKind::ALL.as_slice()),
    ] {
        let mut total = growing();
        for operation in load.operations.keys() {
            let mut one = growing();
            for outcome in outcomes {
                add(
                    &mut one,
                    log.total(Some(&format!("{operation}.{outcome}.{}", measure.as_str())))
                        .as_ref(),
                );
            }
            add(&mut total, Some(&one));
            evidence
                .whole
                .latencies
                .insert(Series::of(metric, *operation), (one, 0));
        }
        evidence.whole.latencies.insert(Series::total(metric), (total, 0));
    }
    let independence = independence(log);
    schedule(&mut evidence.whole, load.planned);
    let series = evidence.whole.latencies.keys();
    evidence.independence = series.map(|series| (series.clone(), independence)).collect();
    count_all(&mut evidence.whole, load);
    evidence
}

fn add(into: &mut Histogram<u64>, more: Option<&Histogram<u64>>) {
    if let Some(more) = more {
        into.add(more)
            .expect("a histogram that grows takes every value of another");
    }
}

/// What part of their number the latencies are worth: variance of the values over that of the slices' means times their length.
fn independence(log: &IntervalLog) -> f64 {
    let slices: Vec<Histogram<u64>> = log.tagged(None).map(|entry| entry.histogram()).collect();
    let (Some(total), Some(average)) = (
        log.total(None),
        log.total(None).map(|all| all.len() as f64 / slices.len() as f64),
    ) else {
        return 1.0;
    };
    let (mean, variance) = (total.mean(), total.stdev().powi(2));
    let degrees = slices.len() as f64 - 1.0;
    if variance <= 0.0 || degrees < 1.0 {
        return 1.0;
    }
    // Slices weigh as much as they hold: an almost empty one says little.
    let between: f64 = slices
        .iter()
        .map(|slice| slice.len() as f64 / average * (slice.mean() - mean).powi(2))
        .sum();
    let tau = average * (between / degrees) / variance;
    1.0 / tau.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::hlog::Entry;
    use crate::percentiles::record;

    /// A log of slices, each with the values of one.
    fn log(slices: &[Vec<u64>]) -> IntervalLog {
        let mut log = IntervalLog::empty(std::time::UNIX_EPOCH);
        for (number, values) in slices.iter().enumerate() {
            let mut histogram = growing();
            values.iter().for_each(|value| record(&mut histogram, *value));
            log.entries.push(Entry::new(None, number as i64, 1, &histogram));
        }
        log
    }

    #[test]
    fn slices_that_differ_as_whole_are_worth_one_value_each() {
        let alike: Vec<Vec<u64>> = (0..50).map(|_| (1..=100).collect()).collect();
        assert_eq!(independence(&log(&alike)), 1.0);
        let apart: Vec<Vec<u64>> = (0..50)
            .map(|slice| vec![1000 + 17 * (slice * 7 % 50); 100])
            .collect();
        let worth = independence(&log(&apart));
        assert!((0.009..0.011).contains(&worth), "{worth}");
        assert_eq!(independence(&log(&[])), 1.0);
        assert_eq!(independence(&log(&[vec![5, 5]])), 1.0);
    }
}
