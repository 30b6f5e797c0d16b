//! The fault suite of Whitewater: loads a cluster, breaks it, and decides from the outside whether it kept its promises.
//!
//! ```text
//!  scenario ──► runner ──┬─► cluster   real processes, a proxy on every link
//!  (YAML)                ├─► fault     inject, prove, heal
//!                        ├─► watch     what the nodes say of themselves
//!                        ├─► loadgen   what clients saw: the history
//!                        └─► checker   history and samples ──► checks ──► verdict
//! ```
//!
//! * [`scenario`]: what a YAML file may say, and what it means.
//! * [`proxy`]: fault proxies, embedded or a running toxiproxy-server.
//! * [`cluster`], [`fault`], [`watch`]: the parts of a run that touch processes and links.
//! * [`checker`]: pure functions from what was seen to what it proves.
//! * [`runner`]: one run from start to verdict, with everything healed and gone at the end.
//!
//! Nodes are processes and a wire to this crate. Nothing a node says of itself can make a run pass: its word is used to
//! find targets and to accuse it, never to excuse it.

pub mod checker;
pub mod cli;
pub mod cluster;
pub mod fault;
pub mod proxy;
pub mod runner;
pub mod scenario;
pub mod watch;
