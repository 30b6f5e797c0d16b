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

/// What an entry is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EntryKind {
    /// For the state machine.
    #[default]
    Command,
    /// Who belongs to the cluster from here on: an encoded `raft.storage.Configuration`, see [`Configuration`].
    ///
    /// [`Configuration`]: super::Configuration
    Configuration,
}

/// One entry of the log. Cloning it copies no payload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// Term in which it was proposed.
    pub term: Term,
    /// Its index.
    pub index: Index,
    /// What it is for.
    pub kind: EntryKind,
    /// What to apply; empty for the entry with which a leader opens its term. Should be memory of its own: what is applied may
    /// keep parts of it for long.
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

/// One request to the log on disk. Requests are carried out in order, and within one: first the hard state, then the
/// reset, then the truncation, then the entries, then trust.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Io {
    /// Its number.
    pub seq: IoSeq,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Forget the whole log: it is empty now and ends here, because a snapshot (durable before this is asked for) holds
    /// everything up to here.
    pub reset: Option<Position>,
    /// Forget this index and everything after it.
    pub truncate_from: Option<Index>,
    /// Append these: contiguous, right behind what the log then holds.
    pub entries: std::sync::Arc<[Entry]>,
    /// The node has got back what it lost: see [`Recovered::suspect`].
    pub trusted: bool,
}

/// What a snapshot stands for: the state after this position, and who belonged to the cluster there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotMeta {
    /// The last entry that is part of it.
    pub last: Position,
    /// The configuration as of that entry; `None` as long as the cluster had none in its log.
    pub configuration: Option<std::sync::Arc<super::Configuration>>,
}

/// What was found on disk at start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last hard state written.
    pub hard_state: HardState,
    /// The newest usable snapshot, already restored into the state machine.
    pub snapshot: SnapshotMeta,
    /// The position right before `entries`; not behind the snapshot.
    pub base: Position,
    /// The log, contiguous behind `base`.
    pub entries: Vec<Entry>,
    /// Acknowledged parts of the log were damaged and are gone: nothing after this position can have been acknowledged.
    /// Until the log reaches it again this node must not campaign, and must not vote for anybody who is behind it.
    pub suspect: Option<Position>,
}
