//! The reference store of Whitewater: a replicated key-value server on Raft, over gRPC.
//!
//! ```text
//!  clients ──► grpc ──► node ◄──► transport ◄──► other nodes
//!                        │ one task owns all three:
//!              raft ◄────┼────► kv
//!         (the protocol) │      (the replicated map)
//!                        ▼
//!                       wal ──► disk        one thread, group commit
//! ```
//!
//! * [`raft`]: the protocol as a function of events. No clock, no disk, no socket, no `async` in there.
//! * [`kv`]: the replicated map.
//! * [`wal`]: what must not be forgotten, on disk before anybody is told; [`snapshot`]: the state that takes the place of
//!   the log's beginning; [`disk`] is the little that both need of files.
//! * `transport`: the links between nodes. `grpc`: the edge towards clients. `node`: the task in the middle.
//! * [`config`], [`run`], [`cli`]: from flags to a serving node and its exit code. `ctl`: the client that manages a
//!   cluster.
//!
//! What a node promises: an acknowledged write is on the disks of a majority; every answer is linearizable unless less
//! was asked for, and then it says so; a refusal says whether the operation happened; damage on its disk is never taken
//! for the end of its log, and never changes what the cluster answers.

pub mod cli;
pub mod config;
mod ctl;
pub mod disk;
#[doc(hidden)]
pub mod fuzz;
mod grpc;
pub mod kv;
mod metrics;
mod node;
pub mod raft;
pub mod run;
pub mod snapshot;
pub mod tls;
mod token;
mod transport;
pub mod wal;

/// Largest frame that a node takes from a peer.
const FRAME_BYTES_MAX: usize = 16 << 20;
