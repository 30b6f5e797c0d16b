//! Whether one set of runs is faster than another, or only luckier.
//!
//! Two runs of the same thing differ, often by more than the change under test. So a comparison needs several runs a side,
//! best in turns ([`trial_order`]): for each metric it gives the ratio of Hodges and Lehmann with its 95 % interval
//! and the p value of Mann and Whitney, corrected after Holm because many metrics are looked at. A change counts if it is significant *and*
//! larger than the noise threshold ([`NOISE`] unless told otherwise). With one run a side nothing is decided: what is known about noise within
//! a run says nothing about the noise between runs.
//!
//! Promises: runs made under different conditions are refused, with every difference named ([`differences`]); single requests are
//! never taken for independent trials; a set too small to show anything is called undecided, not unchanged. Two sides that are the same
//! are told apart in fewer than 5 % of all comparisons.
//!
//! Two different targets can be compared too; their ratios can be kept in a file ([`Ratios`]) and later ones be held against
//! them ([`judge()`]).

mod conditions;
mod judge;
mod live;
mod ratios;
mod trial;

#[cfg(test)]
mod tests;

pub use conditions::{Difference, differences};
pub use judge::{
    ALPHA, Change, Comparison, ComparisonVerdict, MetricComparison, NOISE, compare, trials_needed,
};
pub use live::{Side, SideName, Trials, interleave, trial_order};
pub use ratios::{
    Judged, Judgement, Party, Quantity, Ratio, RatioVerdict, Ratios, RatiosError, RatiosVerdict, Setup,
    doubts, judge,
};
pub use trial::{Doubt, Metric, Trial, TrialError};
