//! Tests of the core alone: by situation, and by thousands of random schedules.

#![allow(clippy::unwrap_used)]

mod cluster;
mod elections;
mod purity;
mod random;
mod replication;
mod stale;
