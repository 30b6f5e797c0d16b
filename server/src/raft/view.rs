//! What can be asked of a core.

use super::core::{Core, Role};
use super::output::RoleKind;
use super::types::{Index, NodeId, Position, Term};

impl Core {
    /// What this node is doing.
    pub fn role(&self) -> RoleKind {
        match self.role {
            Role::Follower => RoleKind::Follower,
            Role::PreCandidate { .. } => RoleKind::PreCandidate,
            Role::Candidate { .. } => RoleKind::Candidate,
            Role::Leader(_) => RoleKind::Leader,
        }
    }

    /// The current term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Who leads this term, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Highest index known to be committed.
    pub fn commit(&self) -> Index {
        self.log.commit()
    }

    /// End of this node's log.
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// The position right before the first entry that is still in the log.
    pub fn base(&self) -> Position {
        self.log.base()
    }

    /// The lowest index for which the entries of the log behind it, up to `end`, take no more than `bytes` in memory.
    pub fn index_before_bytes(&self, end: Index, bytes: u64) -> Index {
        self.log.index_before_bytes(end, bytes)
    }

    /// The first entry of every run of entries of one term, behind the base.
    pub fn term_runs(&self) -> Vec<Position> {
        self.log.term_runs()
    }

    /// The term of the entry at `index`, if it is still in the log, or right before it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term_at(index)
    }

    /// Highest index of its log that is on its disk.
    pub fn durable_index(&self) -> Index {
        self.log.durable()
    }

    /// Leader only: how far a follower's disk has come.
    pub fn matched(&self, peer: NodeId) -> Index {
        self.progress_of(peer).map_or(0, |progress| progress.matched)
    }

    /// Leader only: whether a follower waits for a snapshot.
    pub fn receives_snapshot(&self, peer: NodeId) -> bool {
        self.progress_of(peer)
            .is_some_and(|progress| progress.receives_snapshot())
    }

    /// How many voters this node was told of, for as long as the log does not say who they are.
    pub fn voters_told(&self) -> usize {
        self.config.voters
    }

    /// Who has this node's vote in the current term.
    pub fn vote(&self) -> Option<NodeId> {
        self.hard_state.vote
    }

    /// Whether this node is handing its office over.
    pub fn is_transferring(&self) -> bool {
        matches!(&self.role, Role::Leader(leadership) if leadership.transfer.is_some())
    }

    /// Whether this node should not lead: the caller says so, or its disk does not answer.
    pub fn is_unfit(&self) -> bool {
        self.unfit || self.disk_is_stalled()
    }

    /// Until the log reaches this position again, what this node acknowledged may be missing from it.
    pub fn suspect(&self) -> Option<Position> {
        self.suspect
    }

    fn progress_of(&self, peer: NodeId) -> Option<&super::progress::Progress> {
        match &self.role {
            Role::Leader(leadership) => leadership.progress.get(&peer),
            _ => None,
        }
    }
}
