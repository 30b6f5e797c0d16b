//! What became of the thresholds that a run was given.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One threshold, and how the run stood against it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ThresholdResult {
    /// The threshold, in the form in which it can be given again.
    pub expression: String,
    /// How the run stood.
    pub verdict: ThresholdVerdict,
    /// What was measured, in `unit`; absent where there was nothing to measure, or where it is infinite because that many
    /// operations never ended ok.
    pub measured: Option<f64>,
    /// 95 % confidence interval of `measured`, where one can be told; an absent upper end is infinite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, Option<f64>)>,
    /// What it was held against, in `unit`.
    pub limit: f64,
    /// Unit of the numbers.
    pub unit: ThresholdUnit,
    /// Why, in one sentence with the numbers.
    pub reason: String,
}

/// How a run stood against a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdVerdict {
    /// It holds.
    Pass,
    /// It holds, but the limit lies within the uncertainty of what was measured.
    Inconclusive,
    /// It does not hold, or nothing shows that it does.
    Fail,
}

impl ThresholdVerdict {
    /// Whether it makes the run fail; what could not be decided does so only if the user asked to be strict.
    pub fn counts_as_failure(self, strict: bool) -> bool {
        match self {
            ThresholdVerdict::Pass => false,
            ThresholdVerdict::Inconclusive => strict,
            ThresholdVerdict::Fail => true,
        }
    }
}

/// What the numbers of a threshold are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ThresholdUnit {
    /// A time.
    Nanoseconds,
    /// A part of the operations, between 0 and 1 (more for what an operation can do several times).
    Share,
    /// How often in a second.
    PerSecond,
    /// How many.
    Count,
}
