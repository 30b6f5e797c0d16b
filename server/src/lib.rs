//! The reference store of Whitewater.

pub mod disk;
pub mod raft;
pub mod wal;
