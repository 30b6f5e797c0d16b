//! What a peer sent that no node does which keeps to the protocol.

use super::types::{Index, NodeId, Term};

/// A message that its sender could not have sent by the rules: somebody forged it, or two nodes disagree about the past.
/// Nothing of it was taken in. Who said it deserves no further hearing on that stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A term has one leader at most.
    #[error("node {from} claims to lead term {term}, which node {leader} leads")]
    TwoLeaders {
        /// Who claims it.
        from: NodeId,
        /// The term.
        term: Term,
        /// Who leads it, as far as this node knows.
        leader: NodeId,
    },
    /// A leader has every committed entry.
    #[error(
        "node {from} has an entry of term {found} at index {index}, where an entry of term {known} is committed"
    )]
    CommittedEntry {
        /// Whose log it is.
        from: NodeId,
        /// Where the logs differ.
        index: Index,
        /// The term here.
        known: Term,
        /// The term there.
        found: Term,
    },
    /// Neither does a snapshot contradict what is committed.
    #[error(
        "the snapshot of node {from} ends with term {found} at index {index}, where an entry of term {known} is committed"
    )]
    Snapshot {
        /// Whose snapshot it is.
        from: NodeId,
        /// Where it ends.
        index: Index,
        /// The term here.
        known: Term,
        /// The term there.
        found: Term,
    },
}
