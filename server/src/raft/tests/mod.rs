//! Tests of the core alone: by situation, and by thousands of random schedules.

#![allow(clippy::unwrap_used)]

mod checklist;
mod cluster;
mod distrust;
mod elections;
mod membership;
mod offices;
mod paper;
mod purity;
mod random;
mod reads;
mod replication;
mod script;
mod snapshots;
mod stale;
mod transfer;
mod violations;
