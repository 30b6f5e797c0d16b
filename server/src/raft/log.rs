//! The log as the core sees it: all of it that is still needed, in memory, and how much of it is safe.

use std::collections::VecDeque;
use std::sync::Arc;

use super::membership::Configuration;
use super::types::{Entry, EntryKind, Index, IoSeq, Position, Recovered, SnapshotMeta, Term};

/// The log and its marks.
///
/// Inequalities that always hold: `base ≤ handed ≤ commit ≤ last`, `durable ≤ last`, `persisted ≤ last`.
#[derive(Debug)]
pub(super) struct Log {
    /// Right before the first entry that is still here. A snapshot holds everything up to here.
    base: Position,
    /// Contiguous from `base.index + 1`, terms never decreasing.
    entries: Vec<Entry>,
    /// Every configuration in the log, oldest first, and before them the one that was in force at the snapshot.
    configurations: Vec<(Index, Arc<Configuration>)>,
    /// Highest index known to be on the disks of a majority. Only grows.
    commit: Index,
    /// Highest index given out for applying. Only grows.
    handed: Index,
    /// Highest index handed to the disk; everything above still has to be.
    persisted: Index,
    /// The log was replaced by a snapshot that ends here, which the disk does not know yet.
    reset: Option<Position>,
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
    reset: bool,
    truncated_from: Option<Index>,
    last: Index,
}

/// What the next disk request has to do with the log.
pub(super) struct LogIo {
    pub(super) reset: Option<Position>,
    pub(super) truncate_from: Option<Index>,
    pub(super) entries: Arc<[Entry]>,
}

impl Log {
    /// The log found on disk at start. Only what the snapshot holds counts as committed until a leader says more.
    pub(super) fn recovered(found: Recovered) -> Log {
        let Recovered {
            snapshot,
            base,
            entries,
            ..
        } = found;
        for (entry, index) in entries.iter().zip(base.index + 1..) {
            assert_eq!(
                entry.index, index,
                "a recovered log must be contiguous behind {base:?}"
            );
        }
        let end = entries.last().map_or(base, Entry::position);
        assert!(
            base.index <= snapshot.last.index && snapshot.last.index <= end.index,
            "a recovered log from {base:?} to {end:?} must begin and end around its snapshot {:?}",
            snapshot.last
        );
        let mut log = Log {
            base,
            entries,
            configurations: Vec::new(),
            commit: snapshot.last.index,
            handed: snapshot.last.index,
            persisted: end.index,
            reset: None,
            truncated_from: None,
            durable: end.index,
            under_way: VecDeque::new(),
        };
        log.configurations = snapshot
            .configuration
            .map(|known| (snapshot.last.index, known))
            .into_iter()
            .collect();
        let behind = (snapshot.last.index - base.index) as usize;
        let found = log.entries[behind..].iter().filter_map(configuration_in);
        log.configurations.extend(found);
        log
    }

    pub(super) fn last(&self) -> Position {
        self.entries.last().map_or(self.base, Entry::position)
    }

    /// The position right before the first entry.
    pub(super) fn base(&self) -> Position {
        self.base
    }

    pub(super) fn commit(&self) -> Index {
        self.commit
    }

    pub(super) fn durable(&self) -> Index {
        self.durable
    }

    /// The newest configuration and the index of its entry, committed or not: it counts as soon as it is here (§6).
    pub(super) fn configuration(&self) -> Option<(Index, &Arc<Configuration>)> {
        self.configurations.last().map(|(index, found)| (*index, found))
    }

    /// The configuration as of `index`.
    pub(super) fn configuration_at(&self, index: Index) -> Option<&Arc<Configuration>> {
        let count = self.configurations.partition_point(|(at, _)| *at <= index);
        Some(&self.configurations[count.checked_sub(1)?].1)
    }

    /// The first entry of every run of entries of one term.
    pub(super) fn term_runs(&self) -> Vec<Position> {
        let mut runs: Vec<Position> = Vec::new();
        let mut at = 0;
        while let Some(first) = self.entries.get(at) {
            runs.push(first.position());
            at += self.entries[at..].partition_point(|entry| entry.term == first.term);
        }
        runs
    }

    /// The term of the entry at `index`; nothing behind the last one, nor before the base, where nobody remembers.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        match index.checked_sub(self.base.index)? {
            0 => Some(self.base.term),
            offset => self.entries.get(offset as usize - 1).map(|entry| entry.term),
        }
    }

    /// Entries from `from` on, which must be behind the base, until their payloads exceed `bytes_max`; at least one if
    /// there is any.
    pub(super) fn batch(&self, from: Index, bytes_max: usize) -> &[Entry] {
        let rest = &self.entries[self.slot(from).min(self.entries.len())..];
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

    /// The lowest index for which the entries behind it, up to `end`, weigh no more than `bytes`.
    pub(super) fn index_before_bytes(&self, end: Index, bytes: u64) -> Index {
        let mut left = bytes;
        let up_to_end = &self.entries[..self.slot(end + 1).min(self.entries.len())];
        let fit = up_to_end.iter().rev().take_while(|entry| {
            let rest = left.checked_sub(weight(entry) as u64);
            left = rest.unwrap_or(0);
            rest.is_some()
        });
        end.saturating_sub(fit.count() as u64).max(self.base.index)
    }

    /// The last position at or before `index` whose term is not above `term`: where two logs may begin to agree.
    /// Skips a whole term in one answer, so that finding the common prefix takes at most one probe per term. The very
    /// beginning if that lies before the base.
    pub(super) fn last_not_above(&self, term: Term, index: Index) -> Position {
        if index < self.base.index {
            return Position::default();
        }
        let end = ((index - self.base.index) as usize).min(self.entries.len());
        // Terms never decrease, so this is a binary search.
        let count = self.entries[..end].partition_point(|entry| entry.term <= term);
        match count.checked_sub(1) {
            Some(at) => self.entries[at].position(),
            None if self.base.term <= term => self.base,
            None => Position::default(),
        }
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
        self.configurations.extend(configuration_in(&entry));
        self.entries.push(entry);
    }

    /// A leader's entries, which follow a position that is already known to match. Entries that are here already
    /// stay; the first that differs in term cuts off everything from there (§5.3 of the Raft paper). A late, shorter
    /// append therefore never removes anything. What a snapshot holds already is passed over.
    pub(super) fn merge(&mut self, entries: &[Entry]) {
        let Some(new) = entries
            .iter()
            .position(|entry| entry.index > self.base.index && self.term_at(entry.index) != Some(entry.term))
        else {
            return;
        };
        self.truncate_from(entries[new].index);
        for entry in &entries[new..] {
            self.push(entry.clone());
        }
    }

    /// The first of a leader's entries that differs from a committed one: its index, the term here and the term there. A
    /// leader that was elected by the rules has none.
    pub(super) fn contradiction(&self, entries: &[Entry]) -> Option<(Index, Term, Term)> {
        let committed = entries.iter().take_while(|entry| entry.index <= self.commit);
        committed
            .filter_map(|entry| Some((entry.index, self.term_at(entry.index)?, entry.term)))
            .find(|(_, known, found)| known != found)
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
        self.entries.truncate(self.slot(index));
        self.configurations.retain(|(at, _)| *at < index);
        if index <= self.persisted {
            self.truncated_from = Some(self.truncated_from.map_or(index, |earlier| earlier.min(index)));
            self.persisted = index - 1;
        }
        self.durable = self.durable.min(index - 1);
    }

    /// Forgets the entries up to `index`, which a durable snapshot holds.
    pub(super) fn compact(&mut self, index: Index) {
        let Some(count) = index.checked_sub(self.base.index).filter(|count| *count > 0) else {
            return;
        };
        assert!(
            index <= self.handed,
            "entry {index} was not applied (last applied {}), so no snapshot holds it",
            self.handed
        );
        self.base = self.entries[count as usize - 1].position();
        self.entries.drain(..count as usize);
        let older = self.configurations.partition_point(|(at, _)| *at <= index);
        self.configurations.drain(..older.saturating_sub(1));
    }

    /// Replaces the whole log by a durable snapshot of a later state.
    pub(super) fn reset(&mut self, snapshot: SnapshotMeta) {
        let last = snapshot.last;
        assert!(last.index > self.commit, "a snapshot never takes a node back");
        self.base = last;
        self.entries.clear();
        self.configurations = snapshot
            .configuration
            .map(|known| (last.index, known))
            .into_iter()
            .collect();
        (self.commit, self.handed) = (last.index, last.index);
        (self.persisted, self.durable) = (last.index, last.index);
        self.truncated_from = None;
        self.reset = Some(last);
    }

    /// Whether anything must be written.
    pub(super) fn has_io(&self) -> bool {
        self.reset.is_some() || self.truncated_from.is_some() || self.persisted < self.last().index
    }

    /// What must be written, as part of disk request `seq`.
    pub(super) fn take_io(&mut self, seq: IoSeq) -> LogIo {
        let io = LogIo {
            reset: self.reset.take(),
            truncate_from: self.truncated_from.take(),
            entries: self.entries[self.slot(self.persisted + 1)..].into(),
        };
        self.persisted = self.last().index;
        self.under_way.push_back(UnderWay {
            seq,
            reset: io.reset.is_some(),
            truncated_from: io.truncate_from,
            last: self.persisted,
        });
        io
    }

    /// Every disk request up to `seq` is done.
    pub(super) fn io_done(&mut self, seq: IoSeq) {
        let mut done = None;
        while self.under_way.front().is_some_and(|io| io.seq <= seq) {
            done = self.under_way.pop_front();
        }
        let Some(done) = done else { return };
        if self.reset.is_some() || self.under_way.iter().any(|io| io.reset) {
            // What was written belongs to a log that is no more; of the new one there is the snapshot.
            return;
        }
        // An older request may finish after its entries were overwritten in memory: the overwriting ones are not
        // durable yet, so nothing from the lowest pending cut on counts.
        let cuts = self
            .under_way
            .iter()
            .filter_map(|io| io.truncated_from)
            .chain(self.truncated_from);
        let cut = cuts.min().map_or(Index::MAX, |from| from - 1);
        // Never less than the base: the snapshot behind it is durable.
        self.durable = done.last.min(cut).min(self.last().index).max(self.base.index);
    }

    /// What the entries `from..=to` weigh together.
    pub(super) fn range_weight(&self, from: Index, to: Index) -> usize {
        self.entries[self.slot(from)..self.slot(to + 1)]
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
        let range = self.slot(self.handed + 1)..self.slot(self.commit + 1);
        self.handed = self.commit;
        &self.entries[range]
    }

    /// Where the entry at `index`, which must be behind the base, stands in `entries`.
    fn slot(&self, index: Index) -> usize {
        let offset = index.checked_sub(self.base.index + 1);
        offset.expect("nobody asks for entries that a snapshot has taken the place of") as usize
    }
}

/// The configuration that an entry brings, if it does.
fn configuration_in(entry: &Entry) -> Option<(Index, Arc<Configuration>)> {
    if entry.kind != EntryKind::Configuration {
        return None;
    }
    let found = Configuration::decode(entry.payload.clone());
    let found = found.expect("configurations are checked before they reach the log");
    Some((entry.index, Arc::new(found)))
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
        let entries = terms.iter().zip(1..).map(|(&term, index)| entry(term, index));
        Log::recovered(Recovered {
            entries: entries.collect(),
            ..Recovered::default()
        })
    }

    fn terms(log: &Log) -> Vec<Term> {
        log.entries.iter().map(|entry| entry.term).collect()
    }

    #[test]
    fn entries_are_weighed_from_their_end_back_to_the_base() {
        // Each weighs 35 bytes.
        let mut log = log(&[1, 1, 1, 1]);
        log.commit_to(4);
        log.take_committed();
        assert_eq!(log.index_before_bytes(4, 69), 3);
        assert_eq!(log.index_before_bytes(4, 70), 2);
        assert_eq!(log.index_before_bytes(3, 70), 1);
        assert_eq!(log.index_before_bytes(4, 0), 4);
        log.compact(2);
        assert_eq!(log.index_before_bytes(4, 1000), 2, "nothing is kept that is gone");
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
        let io = log.take_io(1);
        assert_eq!((io.truncate_from, io.entries.len()), (Some(3), 1));
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
        let io = log.take_io(1);
        assert_eq!((io.truncate_from, io.entries[0].term), (None, 2));
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

    fn snapshot(term: Term, index: Index) -> SnapshotMeta {
        SnapshotMeta {
            last: Position { term, index },
            configuration: None,
        }
    }

    #[test]
    fn what_a_snapshot_holds_is_forgotten_and_the_rest_keeps_its_numbers() {
        let mut log = log(&[1, 1, 2, 2]);
        log.commit_to(3);
        log.take_committed();
        log.compact(2);
        assert_eq!(log.base(), Position { term: 1, index: 2 });
        assert_eq!(
            (log.term_at(1), log.term_at(2), log.term_at(3)),
            (None, Some(1), Some(2))
        );
        assert_eq!(log.batch(3, 1000).len(), 2);
        assert_eq!(log.last_not_above(1, 4), Position { term: 1, index: 2 });
        assert_eq!(
            log.last_not_above(0, 4),
            Position::default(),
            "before the base nothing is known"
        );
        log.compact(1);
        assert_eq!(log.base().index, 2, "compacting never goes back");
        // An append that begins before the base, repeated late.
        log.merge(&[entry(1, 2), entry(2, 3), entry(2, 4), entry(2, 5)]);
        assert_eq!(log.last(), Position { term: 2, index: 5 });
    }

    #[test]
    #[should_panic(expected = "was not applied")]
    fn nothing_is_forgotten_before_it_was_applied() {
        let mut log = log(&[1, 1]);
        log.commit_to(2);
        log.compact(1);
    }

    #[test]
    fn a_write_to_the_old_log_that_ends_after_a_reset_makes_nothing_of_the_new_one_durable() {
        let mut log = log(&[1]);
        (2..9).for_each(|index| log.push(entry(1, index)));
        log.take_io(1);
        log.reset(snapshot(2, 5));
        log.push(entry(2, 6));
        log.io_done(1);
        assert_eq!(log.durable(), 5, "the snapshot is on disk, entry 6 is not");
        let io = log.take_io(2);
        assert_eq!(
            (io.reset, io.entries.len()),
            (Some(Position { term: 2, index: 5 }), 1)
        );
        log.io_done(2);
        assert_eq!(log.durable(), 6);
        assert!(
            log.take_committed().is_empty(),
            "what the snapshot holds is not applied again"
        );
    }

    #[test]
    fn a_configuration_counts_when_it_is_appended_and_no_more_when_it_is_cut() {
        let configuration = |name: &str| {
            let member = super::super::Member {
                name: name.into(),
                address: "".into(),
                voter: true,
                outgoing_voter: false,
            };
            let members = [(crate::raft::NodeId::of(name), member)].into_iter().collect();
            Configuration {
                members,
                ..Configuration::default()
            }
        };
        let change = |term, index, name| Entry {
            kind: EntryKind::Configuration,
            payload: configuration(name).encode(),
            ..entry(term, index)
        };
        let mut log = log(&[1]);
        assert!(log.configuration().is_none());
        log.push(change(1, 2, "a"));
        log.push(change(1, 3, "b"));
        assert_eq!(log.configuration().map(|(index, _)| index), Some(3));
        log.merge(&[entry(2, 3)]);
        assert_eq!(
            log.configuration()
                .map(|(index, found)| (index, (**found).clone())),
            Some((2, configuration("a")))
        );
        log.commit_to(3);
        log.take_committed();
        log.compact(3);
        assert_eq!(
            log.configuration_at(3).map(|found| (**found).clone()),
            Some(configuration("a")),
            "kept for the snapshot"
        );
        assert_eq!(log.configuration_at(1), None);
    }
}
