//! How much a store takes: the highest rate within an objective ([`search()`]), and latency over rate ([`sweep()`]).
//!
//! A *probe* is one run at one rate. It passes only if what was asked of the store was really asked of it and really
//! done: see [`judge`]. The search begins far below, doubles the rate until a probe fails, halves the gap on a
//! logarithmic scale until it is within the precision asked for, and then doubts itself: the winner is run three
//! times more, the rate that failed above it once more. Where the generator was the limit, the answer is *at least* so
//! much, never *so much*. A probe with too few operations to hold an objective against says nothing of the store: it is made
//! longer, and if it may not become longer the search goes up, where operations are more.
//!
//! Prior art: mutilate's `--search`, CockroachDB's `kvbench`, OpenSearch's `--redline-test`, the crate `cliff`; the shuffled
//! order of a sweep is rpc-perf's.
//!
//! Promises: every probe that was made is in the result; the number of probes is bounded ([`SearchConfig::probes_max`], and
//! [`RECOVERY_TRIES_MAX`] after each that failed), whatever the store does; the same answers lead to the same search. Never starts
//! anything itself: who runs the probes is a [`Prober`], for a real store [`LoadProber`].

mod algorithm;
mod config;
mod live;
mod probe;
mod sweep;

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;

pub use algorithm::{
    BLIND_LOOKS_MAX, CONFIRMATIONS, Capacity, RECOVERY_TRIES_MAX, REOPENINGS_MAX, SearchResult, Step,
    Unknown, search,
};
pub use config::{SearchConfig, SearchConfigError};
pub use live::{LoadProber, LoadProberError, SLICE};
pub use probe::{
    ACHIEVED_SHARE_MIN, GROWTH_SHARE_MAX, Judgement, Limits, Probe, ProbeRecord, ProbeVerdict, Prober,
    Purpose, backlog_growth, judge,
};
pub use sweep::{RATES_MAX, Sweep, SweepPoint, geometric, knee, order, sweep};
