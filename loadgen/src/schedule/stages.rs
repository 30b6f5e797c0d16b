//! Plans whose rate changes: constant stretches and linear ramps, one after another.
//!
//! Promises that stages that exist make sense: some length, some operation, no rate above [`RATE_MAX`]. Never decides
//! how operations are spaced within a stage; that is the [`Spacing`].

use std::time::Duration;

use reports::record::Nanos;
use serde::Serialize;

use super::curve::{AREA_OF_ONE, Curve};
use super::rate::RATE_MAX;
use super::{PlanError, Rate};
use crate::clock::nanos;

/// How many stages a plan may have at most; more are refused.
pub const STAGES_MAX: usize = 1000;

/// How long a staged plan may be at most, a year; more is refused.
pub const STAGES_LENGTH_MAX: Duration = Duration::from_secs(365 * 86_400);

/// A stretch of a plan. Equal rates are a constant, different ones a linear ramp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// How long it takes.
    #[serde(serialize_with = "crate::clock::humane")]
    pub length: Duration,
    /// The rate at its start.
    pub from: Rate,
    /// The rate at its end.
    pub to: Rate,
}

/// How operations are spaced where a rate is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// Equally, counted in operations.
    Constant,
    /// By a Poisson process, like independent users.
    #[default]
    Poisson,
}

/// Stages that were checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Stages {
    stages: Vec<Stage>,
}

impl Stages {
    /// Checks stages. Refuses none at all or more than [`STAGES_MAX`], a stage without length, a plan longer than
    /// [`STAGES_LENGTH_MAX`] or without any operation, and rates above [`RATE_MAX`].
    pub fn new(stages: Vec<Stage>) -> Result<Stages, PlanError> {
        if stages.is_empty() || stages.len() > STAGES_MAX {
            let reason = format!("is the number of stages; there must be 1 to {STAGES_MAX}");
            return Err(PlanError::text(&stages.len().to_string(), reason));
        }
        let mut total = Duration::ZERO;
        for (index, stage) in stages.iter().enumerate() {
            let refuse = |text: String, reason: &str| PlanError::Stage {
                number: index + 1,
                source: Box::new(PlanError::text(&text, reason)),
            };
            let length = humantime::format_duration(stage.length).to_string();
            if stage.length.is_zero() {
                return Err(refuse(length, "is no length; a stage must take some time"));
            }
            let highest = stage.from.max(stage.to);
            if highest > RATE_MAX {
                return Err(refuse(
                    highest.to_string(),
                    "is above the highest rate, one operation a nanosecond",
                ));
            }
            total = total.saturating_add(stage.length);
            if total > STAGES_LENGTH_MAX {
                return Err(refuse(length, "makes the plan longer than a year"));
            }
        }
        let stages = Stages { stages };
        if stages.curve().area() == 0 {
            return Err(PlanError::text(
                "0/s",
                "is the rate of every stage; at least one must be above zero",
            ));
        }
        Ok(stages)
    }

    /// In their order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// All of them together.
    pub fn length(&self) -> Duration {
        self.stages.iter().map(|stage| stage.length).sum()
    }

    /// The mean rate over the whole plan, rounded to a thousandth.
    pub fn mean_rate(&self) -> Rate {
        let length = u128::from(nanos(self.length()));
        let thousandths = (self.curve().area() + length) / (2 * length);
        // Not more than the highest rate, which fits.
        Rate::per_1000_seconds(u64::try_from(thousandths).unwrap_or(u64::MAX))
    }

    /// How many operations an equally spaced plan has.
    pub fn operations(&self) -> u64 {
        u64::try_from(self.curve().area().div_ceil(AREA_OF_ONE)).unwrap_or(u64::MAX)
    }

    /// Name, start and end of each, as far as it starts before `end`.
    pub(super) fn phases(&self, end: Nanos) -> Vec<(String, Nanos, Nanos)> {
        let mut starts = 0;
        let mut phases = Vec::new();
        for (index, stage) in self.stages.iter().enumerate() {
            if starts >= end {
                break;
            }
            let ends = starts + nanos(stage.length);
            phases.push((format!("stage-{}", index + 1), starts, ends.min(end)));
            starts = ends;
        }
        phases
    }

    pub(super) fn curve(&self) -> Curve {
        Curve::new(
            self.stages
                .iter()
                .map(|stage| (nanos(stage.length), stage.from, stage.to)),
        )
    }
}
