//! Fault proxies: what stands between two nodes, or a client and a node, and can be told to misbehave.
//!
//! [`FaultProxy`] is one set of calls over two implementations. The embedded one runs in this process, follows
//! Toxiproxy in what its toxics do and in its HTTP API, and draws its randomness from a seed. The remote one drives a
//! running toxiproxy-server. Both promise the same: when a call that changes something returns `Ok`, the change is in
//! force, on connections that are open as well; when it returns an error, the change must be taken as not in force.
//!
//! Every directed link between nodes needs a proxy of its own, and every node one for its clients; a proxy cannot tell
//! its connections apart. Bytes inside a connection are never reordered, and lost only where a toxic says so.
//!
//! ```text
//! client ──► listener ──► connection ─┬─ upstream:   read ─► toxic ─► toxic ─► write
//!                                     └─ downstream: write ◄─ toxic ◄─ toxic ◄─ read
//! ```

mod api;
mod chain;
#[cfg(test)]
mod chain_tests;
mod connection;
mod counters;
mod cut;
mod embedded;
mod error;
mod fault_proxy;
mod gate;
#[cfg(feature = "toxiproxy")]
mod remote;
#[cfg(feature = "toxiproxy")]
mod remote_worker;
mod stage;
#[cfg(feature = "toxiproxy")]
mod target;
mod toxic;

pub use counters::{Counters, StreamCounters};
pub use cut::CutMode;
pub use embedded::Embedded;
pub use error::ProxyError;
pub use fault_proxy::FaultProxy;
#[cfg(feature = "toxiproxy")]
pub use remote::Remote;
pub use toxic::{ProxyInfo, Stream, Toxic, ToxicKind};
