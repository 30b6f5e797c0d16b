//! The rules that a log obeys, checked where it is written and again where it is read.

use crate::raft::{HardState, Index, NodeId, Position, Term};

/// A rule of the log, broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A hard state of the past.
    #[error("the current term would go back from {from} to {to}")]
    TermBack {
        /// The term so far.
        from: Term,
        /// The new one.
        to: Term,
    },
    /// A second vote in one term, or a vote taken back.
    #[error("the vote in term {term} would change from {from} to {to:?}")]
    VoteChanged {
        /// The term.
        term: Term,
        /// Who had the vote.
        from: NodeId,
        /// Who would have it.
        to: Option<NodeId>,
    },
    /// A truncation of what was never there.
    #[error("cannot truncate from index {from}: the log ends at {end}")]
    TruncateOutside {
        /// Where it should begin.
        from: Index,
        /// The last index of the log.
        end: Index,
    },
    /// An entry that does not follow the last one.
    #[error("entry {found} cannot follow the log's end {end}")]
    Gap {
        /// Its index.
        found: Index,
        /// The last index of the log.
        end: Index,
    },
    /// An entry older than the one before it.
    #[error("entry {index} of term {term} cannot follow an entry of term {end}")]
    EntryTermBack {
        /// Its index.
        index: Index,
        /// Its term.
        term: Term,
        /// The term of the log's end.
        end: Term,
    },
    /// An entry of a term that this node has not heard of: the hard state must be written first.
    #[error("entry {index} is of term {term}, but the current term on disk is {current}")]
    EntryTermAhead {
        /// Its index.
        index: Index,
        /// Its term.
        term: Term,
        /// The term of the last hard state.
        current: Term,
    },
    /// Requests are numbered without gaps.
    #[error("it should have been request {expected}")]
    SeqGap {
        /// The number that was due.
        expected: u64,
    },
    /// More than one frame can hold.
    #[error("{bytes} bytes do not fit into one frame, whose limit is 4 GiB")]
    TooLarge {
        /// Size of the request and of what is staged already.
        bytes: u64,
    },
}

/// What has to be known of a log to tell whether a step is allowed: a few numbers per change of term, none per entry.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    hard_state: HardState,
    end: Position,
    /// The first entry of every run of entries with the same term, in order. Empty exactly when the log is.
    runs: Vec<Position>,
}

impl Shape {
    /// The position of the last entry.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// The hard state becomes `next`.
    pub(super) fn set_hard_state(&mut self, next: HardState) -> Result<(), Violation> {
        let now = self.hard_state;
        if next.term < now.term {
            return Err(Violation::TermBack {
                from: now.term,
                to: next.term,
            });
        }
        match now.vote {
            Some(from) if next.term == now.term && next.vote != Some(from) => {
                return Err(Violation::VoteChanged {
                    term: now.term,
                    from,
                    to: next.vote,
                });
            }
            _ => {}
        }
        self.hard_state = next;
        Ok(())
    }

    /// The log loses `from` and everything after it. Beginning right behind the end is allowed and does nothing.
    pub(super) fn truncate(&mut self, from: Index) -> Result<(), Violation> {
        let end = self.end.index;
        if from == 0 || from > end + 1 {
            return Err(Violation::TruncateOutside { from, end });
        }
        while self.runs.last().is_some_and(|run| run.index >= from) {
            self.runs.pop();
        }
        self.end = match self.runs.last() {
            Some(run) => Position {
                term: run.term,
                index: from - 1,
            },
            None => Position::default(),
        };
        Ok(())
    }

    /// The log gains an entry.
    pub(super) fn append(&mut self, entry: Position) -> Result<(), Violation> {
        let Position { term, index } = entry;
        if index != self.end.index + 1 {
            return Err(Violation::Gap {
                found: index,
                end: self.end.index,
            });
        }
        if term < self.end.term {
            return Err(Violation::EntryTermBack {
                index,
                term,
                end: self.end.term,
            });
        }
        if term > self.hard_state.term {
            return Err(Violation::EntryTermAhead {
                index,
                term,
                current: self.hard_state.term,
            });
        }
        if self.runs.last().is_none_or(|run| run.term != term) {
            self.runs.push(entry);
        }
        self.end = entry;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(term: Term, index: Index) -> Position {
        Position { term, index }
    }

    fn shape(term: Term, entries: &[Position]) -> Shape {
        let mut shape = Shape::default();
        shape.set_hard_state(HardState { term, vote: None }).unwrap();
        for entry in entries {
            shape.append(*entry).unwrap();
        }
        shape
    }

    #[test]
    fn truncating_into_an_older_run_brings_its_term_back() {
        let mut log = shape(5, &[at(1, 1), at(1, 2), at(4, 3), at(4, 4)]);
        log.truncate(5).unwrap();
        assert_eq!(log.end(), at(4, 4));
        log.truncate(4).unwrap();
        assert_eq!(log.end(), at(4, 3));
        log.truncate(2).unwrap();
        assert_eq!(log.end(), at(1, 1));
        log.append(at(1, 2)).unwrap();
        log.truncate(1).unwrap();
        assert_eq!(log.end(), Position::default());
        log.append(at(5, 1)).unwrap();
    }

    #[test]
    fn every_forbidden_step_is_named() {
        let mut log = shape(3, &[at(2, 1)]);
        let end = 1;
        assert_eq!(log.truncate(0), Err(Violation::TruncateOutside { from: 0, end }));
        assert_eq!(log.truncate(3), Err(Violation::TruncateOutside { from: 3, end }));
        assert_eq!(log.append(at(2, 3)), Err(Violation::Gap { found: 3, end }));
        assert!(matches!(
            log.append(at(1, 2)),
            Err(Violation::EntryTermBack { end: 2, .. })
        ));
        assert!(matches!(
            log.append(at(4, 2)),
            Err(Violation::EntryTermAhead { current: 3, .. })
        ));
        let voted = |term, node| HardState {
            term,
            vote: Some(NodeId(node)),
        };
        log.set_hard_state(voted(3, 7)).unwrap();
        log.set_hard_state(voted(3, 7)).unwrap();
        assert!(matches!(
            log.set_hard_state(voted(3, 8)),
            Err(Violation::VoteChanged { term: 3, .. })
        ));
        assert!(matches!(
            log.set_hard_state(HardState { term: 3, vote: None }),
            Err(Violation::VoteChanged { to: None, .. })
        ));
        assert_eq!(
            log.set_hard_state(voted(2, 7)),
            Err(Violation::TermBack { from: 3, to: 2 })
        );
        log.set_hard_state(voted(4, 8)).unwrap();
    }
}
