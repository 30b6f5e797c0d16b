//! Thresholds: what a run must have kept for its exit code to say so.
//!
//! ```text
//! threshold  = selector ":" aggregation operator value { clause }
//! selector   = metric [ "{" tag "=" text { "," tag "=" text } "}" ]
//! metric     = response | service | attempt | lag | scheduled       latencies
//!            | errors | throughput | goodput | retries | redirects  counts
//!            | unavailable                                          outages
//! tag        = op | outcome | phase | endpoint
//! aggregation = pN (p50, p99.9) | max | mean | min | rate | count | longest
//! operator   = "<" | "<=" | ">" | ">="
//! value      = number [ us | ms | s | % | [k|m] [/s] ]
//! clause     = "over" duration | "abort" [ "after" duration ] | "allow-empty"
//! ```
//!
//! After the grammar of k6, with its holes closed: values have units; a threshold for which nothing was measured fails
//! instead of passing (unless `allow-empty` says that this is fine); a percentile that the sample cannot support fails and
//! says how large a sample it needs; what was measured on the wrong side of the limit fails, however unsure it is; on the right
//! side of a limit that lies within the uncertainty of what was measured it is *inconclusive*, which fails the run only for
//! those who ask to be strict.
//!
//! `over 10s` asks for each ten seconds by themselves, one after the other; what is left at the end is asked for too if it is at
//! least five seconds, as a shorter stretch (except for a count that must be reached).
//!
//! `response{op=put,phase=after}:p99<20ms`, `unavailable:longest<3s`, `errors{phase=stage-2}:rate<0.1%`,
//! `scheduled:p99<50ms`, where everything that did not end ok counts as infinitely slow.
//!
//! Promises: an expression is refused with the place and what would be right there; what is accepted prints back into the same
//! threshold. Never looks at a run itself: what was measured comes in as [`Evidence`].

mod error;
mod evaluate;
mod evidence;
mod expression;
mod foresight;
mod live;
mod measurements;
mod parse;
mod quantity;
mod recorded;

#[cfg(test)]
mod tests;

pub use error::ThresholdError;
pub use evaluate::{BEYOND_MIN, WINDOWS_MAX, aborting, evaluate, gate};
pub use evidence::{Evidence, Missing, Outages, Query, Sample, Stretch, Tally};
pub use expression::{
    Abort, Aggregation, Comparison, Limit, Metric, MetricKind, Percentile, Selector, Tag, Threshold, Unit,
};
pub use foresight::Foresight;
pub(crate) use live::SoFar;
pub use measurements::{Measurements, Series, Slice};
pub use quantity::quantity;
pub(crate) use recorded::{count_all, schedule};
pub use recorded::{evidence, evidence_for};
