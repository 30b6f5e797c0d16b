//! Servers in virtual time whose capacity is known: one queue, one server, first come first served (Lindley's recursion).

use std::convert::Infallible;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rand_distr::{Distribution, Exp1};

use super::probe::{Probe, Prober};
use crate::percentiles::Latencies;
use crate::statistics::EffectiveSize;
use crate::threshold::{Measurements, Metric, Series, Stretch};

/// A server and what is odd about it.
pub(super) struct Server {
    /// Operations a second that it can do.
    pub(super) capacity: f64,
    /// Exponential service times (M/M/1), else all alike (M/D/1).
    pub(super) exponential: bool,
    /// Part of the capacity by which each probe's own may differ, either way.
    pub(super) noise: f64,
    /// Above this rate it does only half as much.
    pub(super) cliff: Option<f64>,
    /// One in so many operations is of the kind that an objective is about.
    pub(super) one_in: u64,
    /// Above this rate the generator is the limit.
    pub(super) generator_limit: Option<f64>,
    /// Once overloaded, the generator is the limit in every later probe.
    pub(super) generator_tires: bool,
    /// Part of the operations that fail above a rate.
    pub(super) errors_above: Option<(f64, f64)>,
    /// Probes, counted from zero, that a neighbour spoils by halving the capacity.
    pub(super) spoilt: Vec<usize>,
    /// Once overloaded, it stays slow for this many probes.
    pub(super) hangover: usize,
    hung_over: usize,
    overloaded: bool,
    random: ChaCha8Rng,
    pub(super) probes: usize,
}

impl Server {
    pub(super) fn new(capacity: f64, exponential: bool, seed: u64) -> Server {
        Server {
            capacity,
            exponential,
            noise: 0.0,
            cliff: None,
            one_in: 1,
            generator_limit: None,
            generator_tires: false,
            errors_above: None,
            spoilt: Vec::new(),
            hangover: 0,
            hung_over: 0,
            overloaded: false,
            random: ChaCha8Rng::seed_from_u64(seed),
            probes: 0,
        }
    }

    fn exponential(&mut self) -> f64 {
        Exp1.sample(&mut self.random)
    }

    fn uniform(&mut self) -> f64 {
        (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn capacity_now(&mut self, rate: f64) -> f64 {
        let wobble = 1.0 + self.noise * (2.0 * self.uniform() - 1.0);
        let spoilt = self.spoilt.contains(&self.probes);
        let fallen = self.cliff.is_some_and(|cliff| rate > cliff);
        let halved = [spoilt, fallen, self.hung_over > 0]
            .into_iter()
            .filter(|halved| *halved)
            .count();
        self.capacity * wobble / 2_f64.powi(halved as i32)
    }
}

impl Prober for Server {
    type Error = Infallible;

    async fn probe(&mut self, rate: f64, length: Duration) -> Result<Probe, Infallible> {
        let capacity = self.capacity_now(rate);
        let tired = self.generator_tires && self.overloaded;
        self.overloaded |= capacity < rate;
        self.probes += 1;
        self.hung_over = match capacity < rate {
            true => self.hangover,
            false => self.hung_over.saturating_sub(1),
        };
        let (warmup, seconds) = (length.as_secs_f64() / 10.0, length.as_secs_f64());
        let (mut arrival, mut free) = (0.0, 0.0);
        let (mut latencies, mut size) = (Latencies::default(), EffectiveSize::default());
        let (mut planned, mut answered) = (0, 0);
        let mut balance = [0_i64; 200];
        let slot = |time: f64| ((time - warmup) / seconds * 200.0).clamp(0.0, 199.0) as usize;
        while arrival < warmup + seconds {
            arrival += self.exponential() / rate;
            let work = if self.exponential { self.exponential() } else { 1.0 };
            free = f64::max(arrival, free) + work / capacity;
            if arrival < warmup + seconds {
                balance[slot(arrival)] += 1;
                if free < warmup + seconds {
                    balance[slot(free)] -= 1;
                }
            }
            if (warmup..warmup + seconds).contains(&free) {
                answered += 1;
            }
            if (warmup..warmup + seconds).contains(&arrival) {
                planned += 1;
                if planned % self.one_in == 0 {
                    latencies.record(((free - arrival) * 1e9) as u64);
                    size.record(free - arrival);
                }
            }
        }
        let errors = self.errors_above.filter(|(above, _)| rate > *above);
        let errors = errors.map_or(0, |(_, share)| (planned as f64 * share) as u64);
        let mut evidence = Measurements::empty(Stretch {
            start: 0,
            end: (seconds * 1e9) as u64,
        });
        let response = Series::total(Metric::Response);
        let independence = size.effective_count() / (planned / self.one_in).max(1) as f64;
        evidence.independence.insert(response.clone(), independence);
        let latency = latencies.percentiles();
        evidence
            .whole
            .latencies
            .insert(response, (latencies.into_histogram(), 0));
        let backlog = balance.iter().enumerate().scan(0, |open, (i, change)| {
            *open += change;
            Some((i as f64 * seconds / 200.0, *open as f64))
        });
        Ok(Probe {
            planned,
            answered,
            errors,
            length,
            latency,
            backlog: backlog.collect(),
            generator_bound: (tired || self.generator_limit.is_some_and(|limit| rate > limit))
                .then(|| "the generator was late".into()),
            evidence: Box::new(evidence),
            folder: None,
        })
    }
}

/// The highest rate at which the 99th percentile of an M/M/1 queue's response time is within `seconds`: response times are
/// exponential with rate capacity - rate.
pub(super) fn mm1_limit(capacity: f64, seconds: f64) -> f64 {
    capacity - 100_f64.ln() / seconds
}
