//! The reference store of Whitewater.

pub mod raft;
