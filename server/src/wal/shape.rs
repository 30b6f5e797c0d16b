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
    /// What this node acknowledged up to here may be missing; see [`Recovered::suspect`](crate::raft::Recovered::suspect).
    suspect: Option<Position>,
    /// A snapshot holds everything up to here; nothing before it matters any more.
    base: Position,
    end: Position,
    /// The first entry of every run of entries with the same term behind the base, in order. Empty exactly when there is
    /// nothing behind the base.
    runs: Vec<Position>,
}

impl Shape {
    /// The position of the last entry.
    pub(super) fn end(&self) -> Position {
        self.end
    }

    /// Term and vote.
    pub(super) fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Up to where entries may be missing.
    pub(super) fn suspect(&self) -> Option<Position> {
        self.suspect
    }

    /// The position behind which entries matter.
    pub(super) fn base(&self) -> Position {
        self.base
    }

    /// Where terms begin, behind the base.
    pub(super) fn runs(&self) -> &[Position] {
        &self.runs
    }

    /// A shape out of its parts; `None` if they contradict each other.
    pub(super) fn restore(
        hard_state: HardState,
        suspect: Option<Position>,
        base: Position,
        end: Position,
        runs: Vec<Position>,
    ) -> Option<Shape> {
        let first = runs
            .first()
            .map_or(end.index == base.index, |run| run.index == base.index + 1);
        let ordered = runs.is_sorted_by(|a, b| a.index < b.index && a.term < b.term);
        let last = runs.last().map_or(base.term, |run| run.term) == end.term;
        let inside = runs.last().is_none_or(|run| run.index <= end.index) && base.index <= end.index;
        let shape = Shape {
            hard_state,
            suspect,
            base,
            end,
            runs,
        };
        (first && ordered && last && inside).then_some(shape)
    }

    /// The term at `index`; `None` before the base and behind the end.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index < self.base.index || index > self.end.index {
            return None;
        }
        let runs = self.runs.partition_point(|run| run.index <= index);
        Some(
            runs.checked_sub(1)
                .map_or(self.base.term, |at| self.runs[at].term),
        )
    }

    /// Nothing up to `index` matters any more: a durable snapshot holds it.
    pub(super) fn release(&mut self, index: Index) {
        let Some(term) = self.term_at(index) else { return };
        let next = self.term_at(index + 1);
        let gone = self.runs.partition_point(|run| run.index <= index + 1);
        self.runs.drain(..gone);
        self.runs.splice(
            ..0,
            next.map(|term| Position {
                term,
                index: index + 1,
            }),
        );
        self.base = Position { term, index };
    }

    /// The log is empty and ends at `position`: a durable snapshot holds everything up to there.
    pub(super) fn reset(&mut self, position: Position) {
        self.base = position;
        self.end = position;
        self.runs.clear();
    }

    /// What was acknowledged up to `position` may be missing.
    pub(super) fn distrust(&mut self, position: Position) {
        self.suspect = Some(self.suspect.unwrap_or_default().max(position));
    }

    /// Nothing is missing any more.
    pub(super) fn trust(&mut self) {
        self.suspect = None;
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
        if from <= self.base.index || from > end + 1 {
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
            None => self.base,
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
    fn what_is_released_matters_no_more_and_the_rest_keeps_its_terms() {
        let all = [at(1, 1), at(1, 2), at(4, 3), at(4, 4), at(5, 5)];
        for released in 0..=5 {
            let mut log = shape(5, &all);
            log.release(released);
            let terms: Vec<_> = (released..=5).map(|index| log.term_at(index)).collect();
            let expected: Vec<_> = [0, 1, 1, 4, 4, 5][released as usize..]
                .iter()
                .map(|term| Some(*term))
                .collect();
            assert_eq!(terms, expected, "after {released}");
            assert_eq!(log.term_at(released.wrapping_sub(1)), None);
            let again = Shape::restore(log.hard_state(), None, log.base(), log.end(), log.runs().to_vec());
            assert_eq!(again.unwrap().runs(), log.runs());
            assert!(
                log.truncate(released).is_err(),
                "what a snapshot holds is never cut"
            );
            log.truncate(released + 1).unwrap();
            assert_eq!(log.end(), log.base());
            log.append(at(5, released + 1)).unwrap();
        }
    }

    #[test]
    fn parts_that_contradict_each_other_make_no_shape() {
        let state = HardState { term: 9, vote: None };
        let restore =
            |base, end, runs: &[Position]| Shape::restore(state, None, base, end, runs.to_vec()).is_some();
        assert!(restore(at(1, 3), at(2, 5), &[at(2, 4)]));
        assert!(!restore(at(1, 3), at(2, 5), &[at(2, 5)]), "a gap behind the base");
        assert!(
            !restore(at(1, 3), at(3, 5), &[at(2, 4)]),
            "an end of another term"
        );
        assert!(
            !restore(at(1, 3), at(2, 4), &[at(2, 4), at(2, 5)]),
            "runs that are one"
        );
        assert!(!restore(at(1, 3), at(2, 2), &[]), "an end before the base");
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
