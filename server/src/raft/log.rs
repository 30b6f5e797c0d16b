//! The log as the core sees it: all of it in memory, and how much of it is safe.

use std::collections::VecDeque;
use std::sync::Arc;

use super::types::{Entry, Index, IoSeq, Position, Term};

/// The log and its three marks.
///
/// Inequalities that always hold: `handed ≤ commit ≤ last`, `durable ≤ last`, `persisted ≤ last`.
#[derive(Debug)]
pub(super) struct Log {
    /// Entry `i` stands at `entries[i - 1]`: contiguous from index 1, terms never decreasing.
    entries: Vec<Entry>,
    /// Highest index known to be on the disks of a majority. Only grows.
    commit: Index,
    /// Highest index given out for applying. Only grows.
    handed: Index,
    /// Highest index handed to the disk; everything above still has to be.
    persisted: Index,
    /// Lowest index that was cut off since the last [`Log::take_io`].
    truncated_from: Option<Index>,
    /// Highest index known to be on this node's disk and not overwritten by a request still under way.
    durable: Index,
    /// What each unfinished disk request will have made true.
    under_way: VecDeque<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    seq: IoSeq,
    truncated_from: Option<Index>,
    last: Index,
}

impl Log {
    /// The log found on disk at start. Nothing of it counts as committed until a leader says so.
    pub(super) fn recovered(entries: Vec<Entry>) -> Log {
        for (position, entry) in entries.iter().enumerate() {
            assert_eq!(
                entry.index,
                position as Index + 1,
                "a recovered log must be contiguous from 1"
            );
        }
        let last = entries.len() as Index;
        Log {
            entries,
            commit: 0,
            handed: 0,
            persisted: last,
            truncated_from: None,
            durable: last,
            under_way: VecDeque::new(),
        }
    }

    pub(super) fn last(&self) -> Position {
        self.entries.last().map(Entry::position).unwrap_or_default()
    }

    pub(super) fn commit(&self) -> Index {
        self.commit
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// The term of the entry at `index`; 0 before the first, nothing behind the last.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        match index {
            0 => Some(0),
            _ => self.entries.get(index as usize - 1).map(|entry| entry.term),
        }
    }

    /// Entries from `from` on, until their payloads exceed `bytes_max`; at least one if there is any.
    pub(super) fn batch(&self, from: Index, bytes_max: usize) -> &[Entry] {
        let rest = &self.entries[(from as usize - 1).min(self.entries.len())..];
        let mut bytes = 0;
        let count = rest
            .iter()
            .take_while(|entry| {
                let fits = bytes == 0 || bytes + weight(entry) <= bytes_max;
                bytes += weight(entry);
                fits
            })
            .count();
        &rest[..count]
    }

    /// The last position at or before `index` whose term is not above `term`: where two logs may begin to agree.
    /// Skips a whole term in one answer, so that finding the common prefix takes at most one probe per term.
    pub(super) fn last_not_above(&self, term: Term, index: Index) -> Position {
        let end = (index as usize).min(self.entries.len());
        // Terms never decrease, so this is a binary search.
        let count = self.entries[..end].partition_point(|entry| entry.term <= term);
        count
            .checked_sub(1)
            .map(|at| self.entries[at].position())
            .unwrap_or_default()
    }

    /// A leader's own addition.
    pub(super) fn push(&mut self, entry: Entry) {
        assert_eq!(
            entry.index,
            self.last().index + 1,
            "entries are appended without gaps"
        );
        assert!(
            entry.term >= self.last().term,
            "terms never decrease along the log"
        );
        self.entries.push(entry);
    }

    /// A leader's entries, which follow a position that is already known to match. Entries that are here already
    /// stay; the first that differs in term cuts off everything from there (§5.3 of the Raft paper). A late, shorter
    /// append therefore never removes anything.
    pub(super) fn merge(&mut self, entries: &[Entry]) {
        let Some(new) = entries
            .iter()
            .position(|entry| self.term_at(entry.index) != Some(entry.term))
        else {
            return;
        };
        self.truncate_from(entries[new].index);
        for entry in &entries[new..] {
            self.push(entry.clone());
        }
    }

    fn truncate_from(&mut self, index: Index) {
        if index > self.last().index {
            return;
        }
        assert!(
            index > self.commit,
            "asked to cut committed entry {index} (commit {}): two leaders disagree about the past",
            self.commit
        );
        self.entries.truncate(index as usize - 1);
        if index <= self.persisted {
            self.truncated_from = Some(self.truncated_from.map_or(index, |earlier| earlier.min(index)));
            self.persisted = index - 1;
        }
        self.durable = self.durable.min(index - 1);
    }

    /// What the disk does not know yet: where to cut, and what to append. `None` if it knows everything.
    pub(super) fn take_io(&mut self, seq: IoSeq) -> (Option<Index>, Arc<[Entry]>) {
        let truncated_from = self.truncated_from.take();
        let entries: Arc<[Entry]> = self.entries[self.persisted as usize..].into();
        self.persisted = self.last().index;
        self.under_way.push_back(UnderWay {
            seq,
            truncated_from,
            last: self.persisted,
        });
        (truncated_from, entries)
    }

    pub(super) fn has_io(&self) -> bool {
        self.truncated_from.is_some() || self.persisted < self.last().index
    }

    /// Every disk request up to `seq` is done.
    pub(super) fn io_done(&mut self, seq: IoSeq) {
        let mut done = None;
        while self.under_way.front().is_some_and(|io| io.seq <= seq) {
            done = self.under_way.pop_front();
        }
        let Some(done) = done else { return };
        // An older request may finish after its entries were overwritten in memory: the overwriting ones are not
        // durable yet, so nothing from the lowest pending cut on counts.
        let cuts = self
            .under_way
            .iter()
            .filter_map(|io| io.truncated_from)
            .chain(self.truncated_from);
        let cut = cuts.min().map_or(Index::MAX, |from| from - 1);
        self.durable = done.last.min(cut).min(self.last().index);
    }

    /// What the entries `from..=to` weigh together.
    pub(super) fn range_weight(&self, from: Index, to: Index) -> usize {
        self.entries[from as usize - 1..to as usize]
            .iter()
            .map(weight)
            .sum()
    }

    /// Moves the commit mark forward; never backward, never past the end.
    pub(super) fn commit_to(&mut self, index: Index) {
        assert!(
            index <= self.last().index,
            "commit {index} is past the last entry {}",
            self.last().index
        );
        self.commit = self.commit.max(index);
    }

    /// Committed entries that were not given out yet, each exactly once and in order.
    pub(super) fn take_committed(&mut self) -> &[Entry] {
        let from = self.handed as usize;
        self.handed = self.commit;
        &self.entries[from..self.commit as usize]
    }
}

/// What an entry weighs in a message or in memory, roughly: its payload and some overhead.
pub(super) fn weight(entry: &Entry) -> usize {
    entry.payload.len() + 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn entry(term: Term, index: Index) -> Entry {
        Entry {
            term,
            index,
            kind: Default::default(),
            payload: Bytes::from(format!("{term}.{index}")),
        }
    }

    fn log(terms: &[Term]) -> Log {
        Log::recovered(
            terms
                .iter()
                .zip(1..)
                .map(|(&term, index)| entry(term, index))
                .collect(),
        )
    }

    fn terms(log: &Log) -> Vec<Term> {
        log.entries.iter().map(|entry| entry.term).collect()
    }

    #[test]
    fn a_late_shorter_append_removes_nothing() {
        let mut log = log(&[1, 1, 2, 2]);
        log.merge(&[entry(1, 2)]);
        assert_eq!(terms(&log), [1, 1, 2, 2]);
        assert!(!log.has_io());
    }

    #[test]
    fn a_conflict_cuts_from_the_first_difference() {
        let mut log = log(&[1, 1, 2, 2]);
        log.merge(&[entry(1, 2), entry(3, 3)]);
        assert_eq!(terms(&log), [1, 1, 3]);
        let (cut, entries) = log.take_io(1);
        assert_eq!((cut, entries.len()), (Some(3), 1));
    }

    #[test]
    #[should_panic(expected = "committed entry 2")]
    fn a_committed_entry_is_never_cut() {
        let mut log = log(&[1, 1]);
        log.commit_to(2);
        log.merge(&[entry(2, 2)]);
    }

    #[test]
    fn completion_of_an_overwritten_append_does_not_make_the_new_one_durable() {
        let mut log = log(&[1]);
        log.push(entry(1, 2));
        log.push(entry(1, 3));
        log.take_io(1);
        log.merge(&[entry(2, 2), entry(2, 3)]);
        log.take_io(2);
        log.io_done(1);
        assert_eq!(log.durable(), 1, "entries 2 and 3 of term 2 are still under way");
        log.io_done(2);
        assert_eq!(log.durable(), 3);
    }

    #[test]
    fn entries_cut_before_they_reached_the_disk_need_no_cut_there() {
        let mut log = log(&[1]);
        log.push(entry(1, 2));
        log.merge(&[entry(2, 2)]);
        let (cut, entries) = log.take_io(1);
        assert_eq!((cut, entries[0].term), (None, 2));
    }

    #[test]
    fn the_hint_skips_a_whole_term() {
        let log = log(&[1, 1, 4, 4, 4]);
        assert_eq!(log.last_not_above(3, 5), Position { term: 1, index: 2 });
        assert_eq!(log.last_not_above(4, 4), Position { term: 4, index: 4 });
        assert_eq!(log.last_not_above(0, 4), Position::default());
        assert_eq!(log.last_not_above(9, 99), Position { term: 4, index: 5 });
    }

    #[test]
    fn a_batch_holds_at_least_one_entry_and_respects_its_limit() {
        let log = log(&[1, 1, 1]);
        assert_eq!(log.batch(1, 0).len(), 1);
        assert_eq!(log.batch(1, 1000).len(), 3);
        assert_eq!(log.batch(2, 2 * 35).len(), 2);
        assert_eq!(log.batch(4, 1000).len(), 0);
    }

    #[test]
    fn committed_entries_are_handed_out_once_and_in_order() {
        let mut log = log(&[1, 1, 1]);
        log.commit_to(2);
        let indexes: Vec<_> = log.take_committed().iter().map(|entry| entry.index).collect();
        assert_eq!(indexes, [1, 2]);
        assert!(log.take_committed().is_empty());
        log.commit_to(1);
        assert_eq!(log.commit(), 2, "never backward");
    }
}
