//! What is done: which operation on which key with which value.
//!
//! [`WorkloadConfig`] (or a [`Preset`] that fills it) says what a workload consists of; [`Workload`] answers by number:
//! operation `n`, the value it writes, the length of its scan. Keys follow a [`KeyChoice`], values a [`ValueSize`], and
//! [`Inserts`] is the caller's ledger of keys that the run itself adds.
//!
//! Promises: operation `n` is a pure function of the seed and `n`, and for the two choices that go back from the newest
//! key also of how many keys are known to exist; no value is written twice in a run; every value says for itself which
//! key it belongs to and whether it is intact. Never looks at answers: the value that a compare-and-swap expects and the
//! keys that are known to exist are the caller's to supply.

mod config;
mod inserts;
mod keys;
mod mix;
mod names;
mod plan;
mod preset;
mod random;
mod sampler;
mod scramble;
mod sizes;
mod text;
mod ycsb;
mod zipf;

#[cfg(test)]
mod statistics;

pub use config::{WorkloadConfig, WorkloadError};
pub use inserts::Inserts;
pub use keys::KeyChoice;
pub use mix::Mix;
pub use plan::{Inspected, Planned, Workload};
pub use preset::Preset;
pub(crate) use random::mix_bits;
pub use sizes::ValueSize;
