//! The load generator of Whitewater.
//!
//! It answers two questions about a replicated store: how long do its users wait, and did it keep what it promised?
//!
//! Promises:
//! - The clock of an operation starts at its *planned* moment ([`schedule`]), so a store that stands still cannot hide
//!   the users who arrived meanwhile. The time from the first attempt and of single attempts, and how late the generator
//!   itself was, are recorded beside it, never instead of it.
//! - Every planned operation is accounted for ([`recorder`]): in one of four counts and one of seventeen outcomes, each with
//!   its latency. Nothing is dropped, and what did not end well counts as infinitely slow.
//! - Only what certainly did not happen is tried again ([`outcome`], [`client`]); the history ([`history`]) says
//!   *unknown* wherever that is the truth, so that a checker can rely on it.
//! - Every value read is checked against its own text ([`workload`]).
//! - If the generator itself was the limit, or a repetition would not agree, the verdict says so ([`verdict`]); what limited
//!   the run is told from samples of both sides ([`sampling`]).
//! - The same seed gives the same plan and the same operations, also when several agents share them ([`agents`]).
//!
//! How it hangs together: [`run()`] drives a plan through a [`client`], which speaks the dialect of a [`target`] over
//! [`wire`]. [`search`], [`compare`] and [`threshold`] ask questions of runs with the methods of [`statistics`];
//! [`export`] writes and reads them in the formats of other tools; [`screen`] shows them live.
//!
//! It never knows what is being done to the cluster: faults belong to `chaos`, which drives [`run()`] in-process on a
//! shared [`RunClock`].

pub mod agents;
pub mod cli;
pub mod client;
mod clock;
pub mod compare;
mod cpu;
pub mod export;
pub mod history;
pub mod outcome;
pub mod pacer;
pub mod percentiles;
mod preload;
pub mod recorder;
mod run;
pub mod sampling;
pub mod schedule;
pub mod screen;
mod scribe;
pub mod search;
pub mod statistics;
pub mod target;
pub mod threshold;
pub mod verdict;
pub mod wire;
pub mod workload;

pub use client::{Call, Client, ClientError, ClientOptions, Route};
pub use clock::RunClock;
pub use history::{FinalReads, final_reads};
pub use outcome::{Answer, Failure, OperationResult, Outcome};
pub use preload::PreloadError;
pub use run::{LoadConfig, LoadError, LoadOutcome, Overflow, Progress, Share, run};
pub use schedule::{Arrivals, Rate, Schedule};
pub use scribe::{EventSink, HistoryTarget, IntervalHistograms, IntervalSink, Outputs, Tag};
pub use workload::{
    Inserts, KeyChoice, Mix, Planned, Preset, ValueSize, Workload, WorkloadConfig, WorkloadError,
};
