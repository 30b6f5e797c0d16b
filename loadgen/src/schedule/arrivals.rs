//! Who decides when the next operation starts, and what is known about it before the run.
//!
//! Never holds a position: walking a plan is the [`Schedule`]'s part.

use std::time::Duration;

use reports::record::{LoopKind, Nanos};
use serde::Serialize;

use super::curve::Curve;
use super::{Rate, Replay, Schedule, Spacing, Stages};
use crate::clock::nanos;

/// Who decides when the next operation starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
    /// A plan whose rate changes.
    Stages {
        /// The rate over time, from the start of the plan.
        stages: Stages,
        /// How operations are spaced at that rate.
        spacing: Spacing,
    },
    /// A plan in which many start at once, again and again, the first ones at zero.
    Burst {
        /// Starts at once; above zero.
        size: u64,
        /// From one burst to the next; above zero.
        #[serde(serialize_with = "crate::clock::humane")]
        every: Duration,
    },
    /// A plan that was read from a file.
    Replay(Replay),
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
            Arrivals::Stages { .. } => LoopKind::Stages,
            Arrivals::Burst { .. } => LoopKind::Burst,
            Arrivals::Replay(_) => LoopKind::Replay,
            Arrivals::Closed { .. } => LoopKind::Closed,
        }
    }

    /// Whether there is a plan.
    pub fn is_open(&self) -> bool {
        !matches!(self, Arrivals::Closed { .. })
    }

    /// The planned rate, the mean over the whole plan where it changes; nothing in a closed loop. A plan that cannot
    /// start anything, such as bursts without time between them, has rate zero.
    pub fn rate(&self) -> Option<Rate> {
        match self {
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => Some(*rate),
            Arrivals::Stages { stages, .. } => Some(stages.mean_rate()),
            Arrivals::Burst { size, every } => {
                let thousandths = u128::from(*size) * 1_000_000_000_000;
                let thousandths = thousandths.checked_div(every.as_nanos()).unwrap_or(0);
                Some(Rate::per_1000_seconds(
                    u64::try_from(thousandths).unwrap_or(u64::MAX),
                ))
            }
            Arrivals::Replay(replay) => Some(replay.mean_rate()),
            Arrivals::Closed { .. } => None,
        }
    }

    /// How long the plan is, if it says so itself: all stages, or up to just after the last arrival of a file.
    pub fn length(&self) -> Option<Duration> {
        match self {
            Arrivals::Stages { stages, .. } => Some(stages.length()),
            Arrivals::Replay(replay) => Some(replay.length()),
            Arrivals::Constant { .. }
            | Arrivals::Poisson { .. }
            | Arrivals::Burst { .. }
            | Arrivals::Closed { .. } => None,
        }
    }

    /// Named stretches of the first `duration` of the plan: `stage-1`, `stage-2` and so on where there are stages, else
    /// one called `steady`. Each with start and end in nanoseconds after the start of the plan.
    pub fn phases(&self, duration: Duration) -> Vec<(String, Nanos, Nanos)> {
        match self {
            Arrivals::Stages { stages, .. } => stages.phases(nanos(duration)),
            _ => vec![("steady".into(), 0, nanos(duration))],
        }
    }

    /// The plan for `duration`, or for its own length where that is shorter; nothing in a closed loop. The first
    /// arrival of a constant plan is at zero, the last one of any plan strictly before `duration`. Burst plans of size
    /// zero or without time between them are empty.
    pub fn schedule(&self, duration: Duration, seed: u64) -> Option<Schedule> {
        let end = nanos(self.length().map_or(duration, |length| length.min(duration)));
        let flat = |rate: &Rate| Curve::new([(Nanos::MAX, *rate, *rate)]);
        Some(match self {
            Arrivals::Closed { .. } => return None,
            Arrivals::Constant { rate } => Schedule::equal(flat(rate), end),
            Arrivals::Poisson { rate } => Schedule::poisson(flat(rate), end, seed),
            Arrivals::Stages { stages, spacing } => match spacing {
                Spacing::Constant => Schedule::equal(stages.curve(), end),
                Spacing::Poisson => Schedule::poisson(stages.curve(), end, seed),
            },
            Arrivals::Burst { size, every } => Schedule::burst(*size, nanos(*every), end),
            Arrivals::Replay(replay) => Schedule::replay(replay.offsets().clone(), end),
        })
    }
}
