//! What a core says back.

use super::message::Message;
use super::types::{Entry, Index, Io, NodeId};

/// Names a batch of reads while it waits; chosen by the caller.
pub type ReadToken = u64;

/// Why the core did not take a proposal or a read. Nothing of it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// This node does not lead; the one it holds for the leader, if any.
    NotLeader(Option<NodeId>),
    /// Too much waits for its commit already.
    Overloaded,
    /// This node is handing its office over.
    Transferring,
    /// This node's disk takes nothing more at present.
    Unfit,
}

/// What the caller must do, in this order: send [`Output::send`], pass [`Output::io`] on to the disk, apply
/// [`Output::apply`], answer the reads. Nothing here has to be waited for.
#[derive(Debug, Default)]
pub struct Output {
    /// Messages that may leave at once.
    pub send: Vec<(NodeId, Message)>,
    /// The next request to the disk; report it with [`Core::durable`](super::Core::durable).
    pub io: Option<Io>,
    /// Committed entries, each exactly once and in order.
    pub apply: Vec<Entry>,
    /// Reads that may be answered once everything up to the index is applied.
    pub reads: Vec<(ReadToken, Index)>,
    /// Reads that lost their leader before they were confirmed.
    pub reads_failed: Vec<ReadToken>,
    /// Peers that lack entries which only a snapshot still holds: send each the newest one and report with
    /// [`Core::snapshot_sent`](super::Core::snapshot_sent).
    pub snapshots: Vec<NodeId>,
}

impl Output {
    /// Makes room for the next [`Core::poll`](super::Core::poll).
    pub fn clear(&mut self) {
        self.send.clear();
        self.io = None;
        self.apply.clear();
        self.reads.clear();
        self.reads_failed.clear();
        self.snapshots.clear();
    }
}

/// What a node is doing, without the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleKind {
    /// Follows, or waits for somebody to follow.
    Follower,
    /// Asks whether an election would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}
