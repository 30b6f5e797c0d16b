//! What a node was, is and becomes: every change of role, term, vote or leader, numbered, the latest of them kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::raft::{NodeId, RoleKind, Term};

/// So many changes are kept for those who have not read them yet.
const CHANGES_MAX: usize = 4096;

/// What a node is from some moment on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoleChange {
    /// Counts from 1.
    pub(crate) sequence: u64,
    /// On the machine's monotonic clock.
    pub(crate) time_ns: u64,
    pub(crate) term: Term,
    pub(crate) role: RoleKind,
    pub(crate) vote: Option<NodeId>,
    pub(crate) leader: Option<NodeId>,
}

type Changes = Arc<Mutex<VecDeque<RoleChange>>>;

/// The changes, for the one who makes them. When it is gone, those who read them are told that no more will come.
pub(crate) struct Roles {
    changes: Changes,
    latest: watch::Sender<u64>,
}

/// The changes, for those who read them.
#[derive(Clone)]
pub(crate) struct RolesReader {
    changes: Changes,
    latest: watch::Receiver<u64>,
}

impl Roles {
    pub(crate) fn new() -> Roles {
        Roles {
            changes: Arc::default(),
            latest: watch::Sender::new(0),
        }
    }

    pub(crate) fn reader(&self) -> RolesReader {
        RolesReader {
            changes: self.changes.clone(),
            latest: self.latest.subscribe(),
        }
    }

    /// Notes what the node is now, if that is news.
    pub(super) fn note(&self, term: Term, role: RoleKind, vote: Option<NodeId>, leader: Option<NodeId>) {
        let mut changes = self
            .changes
            .lock()
            .expect("nobody panics while holding the changes");
        let last = changes.back();
        if last
            .is_some_and(|last| (last.term, last.role, last.vote, last.leader) == (term, role, vote, leader))
        {
            return;
        }
        let sequence = last.map_or(0, |last| last.sequence) + 1;
        changes.push_back(RoleChange {
            sequence,
            time_ns: super::status::monotonic_ns(),
            term,
            role,
            vote,
            leader,
        });
        if changes.len() > CHANGES_MAX {
            changes.pop_front();
        }
        drop(changes);
        self.latest.send_replace(sequence);
    }
}

impl RolesReader {
    /// Wakes up whenever there is a change behind the one seen last, and when no more will come.
    pub(crate) fn latest(&self) -> watch::Receiver<u64> {
        self.latest.clone()
    }

    /// The changes behind `sequence`; `None` if some of them are no longer kept. 0: only the present state.
    pub(crate) fn behind(&self, sequence: u64) -> Option<Vec<RoleChange>> {
        let changes = self
            .changes
            .lock()
            .expect("nobody panics while holding the changes");
        if sequence == 0 {
            return Some(changes.back().cloned().into_iter().collect());
        }
        let first = changes.front().map_or(1, |first| first.sequence);
        (first <= sequence + 1).then(|| {
            changes
                .iter()
                .filter(|change| change.sequence > sequence)
                .cloned()
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_change_is_numbered_once_and_a_reader_that_fell_behind_is_told() {
        let roles = Roles::new();
        let reader = roles.reader();
        roles.note(1, RoleKind::Follower, None, None);
        roles.note(1, RoleKind::Follower, None, None);
        roles.note(1, RoleKind::Follower, None, Some(NodeId(2)));
        let sequences = |behind| -> Vec<u64> {
            let changes: Option<Vec<RoleChange>> = reader.behind(behind);
            changes.unwrap().iter().map(|change| change.sequence).collect()
        };
        assert_eq!(sequences(0), [2], "a new reader begins with the present");
        assert_eq!(sequences(1), [2]);
        assert!(sequences(2).is_empty());
        (2..6000).for_each(|term| roles.note(term, RoleKind::Leader, None, None));
        assert_eq!(reader.behind(5), None);
        assert_eq!(*reader.latest().borrow(), 6000);
        drop(roles);
        assert!(reader.latest().has_changed().is_err(), "no more will come");
    }
}
