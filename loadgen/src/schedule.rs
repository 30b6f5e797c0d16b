//! The arrival plan: when each operation should start, decided before the first one is sent.
//!
//! Promises: the plan is a pure function of its parameters and seed; equal gaps are computed from the operation's number
//! in integers, so a long run does not drift; Poisson arrivals are the running sum of exponential gaps, exact for every
//! rate. Never looks at a clock and never at an answer: that is what makes the loop open.

use std::fmt;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1};
use reports::record::{LoopKind, Nanos};
use serde::Serialize;

use crate::clock::nanos;

/// Operations a second, in thousandths, so that plans are computed in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Rate {
    per_1000_seconds: u64,
}

impl Rate {
    /// Whole operations a second.
    pub const fn per_second(operations: u64) -> Rate {
        Rate {
            per_1000_seconds: operations * 1000,
        }
    }

    /// Operations in a thousand seconds: 2500 is 2.5 a second.
    pub const fn per_1000_seconds(operations: u64) -> Rate {
        Rate {
            per_1000_seconds: operations,
        }
    }

    /// Operations a second as a plain number.
    pub fn as_f64(self) -> f64 {
        self.per_1000_seconds as f64 / 1000.0
    }

    /// Whether nothing would ever start.
    pub fn is_zero(self) -> bool {
        self.per_1000_seconds == 0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.as_f64())
    }
}

/// Who decides when the next operation starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// A plan with equal gaps.
    Constant {
        /// Planned starts a second.
        rate: Rate,
    },
    /// A plan with exponential gaps, like independent users.
    Poisson {
        /// Planned starts a second, on average.
        rate: Rate,
    },
    /// This many clients, each starting its next operation when the previous one ended. There is no plan, so there is
    /// no response time.
    Closed {
        /// Clients, and so operations in flight.
        clients: usize,
    },
}

impl Arrivals {
    /// As the record names it.
    pub fn kind(&self) -> LoopKind {
        match self {
            Arrivals::Constant { .. } => LoopKind::Constant,
            Arrivals::Poisson { .. } => LoopKind::Poisson,
            Arrivals::Closed { .. } => LoopKind::Closed,
        }
    }

    /// Whether a plan decides.
    pub fn is_open(&self) -> bool {
        !matches!(self, Arrivals::Closed { .. })
    }

    /// The highest rate of the plan, a second.
    pub fn peak_rate(&self) -> f64 {
        self.rate().map_or(0.0, Rate::as_f64)
    }

    /// The planned rate; nothing in a closed loop.
    pub fn rate(&self) -> Option<Rate> {
        match *self {
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => Some(rate),
            Arrivals::Closed { .. } => None,
        }
    }

    /// The plan for `duration`; nothing in a closed loop. The first arrival of a constant plan is at zero, the last
    /// one of any plan strictly before `duration`.
    pub fn schedule(&self, duration: Duration, seed: u64) -> Option<Schedule> {
        let gaps = match *self {
            Arrivals::Closed { .. } => return None,
            Arrivals::Constant { rate } => Gaps::Equal { rate },
            Arrivals::Poisson { rate } => Gaps::Exponential {
                mean_ns: 1e9 / rate.as_f64(),
                sum: 0.0,
                rng: Box::new(arrival_rng(seed)),
            },
        };
        let mut schedule = Schedule {
            gaps,
            end: nanos(duration),
            next_number: 0,
            next_at: 0,
        };
        schedule.next_at = schedule.compute_next();
        Some(schedule)
    }
}

/// The stream of the seed that only arrivals draw from; workloads use stream 0.
const ARRIVAL_STREAM: u64 = 1;

fn arrival_rng(seed: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(ARRIVAL_STREAM);
    rng
}

#[derive(Debug, Clone)]
enum Gaps {
    Equal {
        rate: Rate,
    },
    Exponential {
        mean_ns: f64,
        sum: f64,
        rng: Box<ChaCha8Rng>,
    },
}

/// A cursor over a plan. Clones walk the same plan from where the original stood.
#[derive(Debug, Clone)]
pub struct Schedule {
    gaps: Gaps,
    end: Nanos,
    next_number: u64,
    next_at: Nanos,
}

/// One planned start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Number of the operation, from zero.
    pub number: u64,
    /// Nanoseconds after the start of the plan.
    pub at: Nanos,
}

impl Schedule {
    /// The next arrival, without taking it.
    pub fn peek(&self) -> Option<Arrival> {
        (self.next_at < self.end).then_some(Arrival {
            number: self.next_number,
            at: self.next_at,
        })
    }

    /// How many arrivals have been taken.
    pub fn taken(&self) -> u64 {
        self.next_number
    }

    /// Takes the next arrival if it is due at `elapsed`.
    pub fn pop_due(&mut self, elapsed: Nanos) -> Option<Arrival> {
        if self.next_at <= elapsed {
            self.next()
        } else {
            None
        }
    }

    /// Ends the plan early: what would start at `at` or later is no longer planned.
    pub fn cut(&mut self, at: Nanos) {
        self.end = self.end.min(at);
    }

    fn compute_next(&mut self) -> Nanos {
        match &mut self.gaps {
            Gaps::Equal { rate } => {
                let at = u128::from(self.next_number) * 1_000_000_000_000
                    / u128::from(rate.per_1000_seconds.max(1));
                u64::try_from(at).unwrap_or(u64::MAX)
            }
            Gaps::Exponential { mean_ns, sum, rng } => {
                let gap: f64 = Exp1.sample(rng.as_mut());
                *sum += gap;
                // Saturates, as a float-to-integer cast does.
                (*sum * *mean_ns) as u64
            }
        }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let arrival = self.peek()?;
        self.next_number += 1;
        self.next_at = self.compute_next();
        Some(arrival)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn plan(arrivals: Arrivals, seconds: u64, seed: u64) -> Vec<Arrival> {
        arrivals
            .schedule(Duration::from_secs(seconds), seed)
            .unwrap()
            .collect()
    }

    #[test]
    fn equal_gaps_do_not_drift_even_after_ten_days() {
        // 3 a second does not divide a second into whole nanoseconds.
        let rate = Rate::per_second(3);
        let mut schedule = Arrivals::Constant { rate }.schedule(Duration::MAX, 0).unwrap();
        schedule.next_number = 3 * 864_000;
        assert_eq!(schedule.compute_next(), 864_000_000_000_000);
        schedule.next_number += 1;
        assert_eq!(schedule.compute_next(), 864_000_333_333_333);
    }

    #[test]
    fn a_constant_plan_has_exactly_rate_times_duration_arrivals() {
        for rate in [1, 7, 400, 5000] {
            let arrivals = plan(
                Arrivals::Constant {
                    rate: Rate::per_second(rate),
                },
                3,
                0,
            );
            assert_eq!(arrivals.len() as u64, rate * 3);
            assert_eq!(arrivals[0], Arrival { number: 0, at: 0 });
        }
        let half = plan(
            Arrivals::Constant {
                rate: Rate::per_1000_seconds(500),
            },
            10,
            0,
        );
        assert_eq!(half.len(), 5);
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
        let poisson = Arrivals::Poisson {
            rate: Rate::per_second(1000),
        };
        assert_eq!(plan(poisson, 2, 7), plan(poisson, 2, 7));
        assert_ne!(plan(poisson, 2, 7), plan(poisson, 2, 8));
    }

    #[test]
    fn exponential_gaps_have_the_right_mean_and_distribution() {
        let arrivals = plan(
            Arrivals::Poisson {
                rate: Rate::per_second(10_000),
            },
            20,
            42,
        );
        // 200,000 expected, standard deviation 447: five of them either way.
        assert!(
            (197_700..=202_300).contains(&arrivals.len()),
            "{}",
            arrivals.len()
        );
        // Kolmogorov-Smirnov distance of the gaps from the exponential distribution.
        let mut gaps: Vec<f64> = arrivals
            .windows(2)
            .map(|w| (w[1].at - w[0].at) as f64 / 1e5)
            .collect();
        gaps.sort_by(f64::total_cmp);
        let n = gaps.len() as f64;
        let distance = gaps
            .iter()
            .enumerate()
            .map(|(i, gap)| ((i as f64 + 0.5) / n - (1.0 - (-gap).exp())).abs())
            .fold(0.0, f64::max);
        assert!(distance < 2.0 / n.sqrt(), "distance {distance}");
    }

    #[test]
    fn only_what_is_due_is_handed_out_and_a_cut_plan_ends() {
        let mut schedule = Arrivals::Constant {
            rate: Rate::per_second(1000),
        }
        .schedule(Duration::from_secs(1), 0)
        .unwrap();
        assert_eq!(schedule.pop_due(0).unwrap().number, 0);
        assert_eq!(schedule.pop_due(999_999), None);
        assert_eq!(schedule.pop_due(1_000_000).unwrap().number, 1);
        schedule.cut(3_000_000);
        assert_eq!(schedule.by_ref().count(), 1);
        assert_eq!(schedule.peek(), None);
        assert!(
            Arrivals::Closed { clients: 3 }
                .schedule(Duration::from_secs(1), 0)
                .is_none()
        );
    }
}
