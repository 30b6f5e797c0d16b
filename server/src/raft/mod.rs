//! The Raft core.

mod types;

pub use types::{Entry, HardState, Index, Io, IoSeq, NodeId, Position, Recovered, Term};
