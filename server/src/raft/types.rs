//! The nouns of the protocol: nodes, terms, positions, entries.

use std::fmt;

use bytes::Bytes;

/// A term: the reign of at most one leader. Starts at 0, when nobody has ever led.
pub type Term = u64;

/// A position in the log. The first entry has index 1; 0 stands before it.
pub type Index = u64;

/// A node, the same number everywhere in the cluster and after every restart: a stable hash of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The number of the node called `name`: FNV-1a, 64 bits. Two names of one cluster with the same number are
    /// refused at the handshake.
    pub fn of(name: &str) -> NodeId {
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        NodeId(hash)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where an entry stands: its term and its index. Ordered as logs are compared in elections (§5.4.1 of the Raft
/// paper): the later term wins, then the longer log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Term in which the entry was proposed.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

/// One entry of the log. Cloning it copies no payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Term in which it was proposed.
    pub term: Term,
    /// Its index.
    pub index: Index,
    /// What to apply; empty for the entry with which a leader opens its term.
    pub payload: Bytes,
}

impl Entry {
    /// Its term and index.
    pub fn position(&self) -> Position {
        Position {
            term: self.term,
            index: self.index,
        }
    }
}

/// What a node must never forget between two terms: in which term it is and for whom it voted there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// Who got this node's vote in that term.
    pub vote: Option<NodeId>,
}

/// Number of an [`Io`] request; they are numbered from 1 without gaps in the order in which they must reach the disk.
pub type IoSeq = u64;

/// One request to the log on disk. Requests are carried out in order: first the hard state, then the truncation,
/// then the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Io {
    /// Its number.
    pub seq: IoSeq,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Forget this index and everything after it.
    pub truncate_from: Option<Index>,
    /// Append these: contiguous, right behind what the log then holds.
    pub entries: std::sync::Arc<[Entry]>,
}

/// What was found on disk at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state written.
    pub hard_state: HardState,
    /// The log, contiguous from index 1.
    pub entries: Vec<Entry>,
}
