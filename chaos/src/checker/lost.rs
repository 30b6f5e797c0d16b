//! Is every acknowledged write either there at the end, or overwritten by a later one?
//!
//! Looks only at acknowledged writes and at the last successful read of each key. It believes nothing else, so it also
//! speaks where so much is unknown that the order of operations says little.

use reports::record::{Check, CheckStatus, Event, EventKind, Nanos, Value, Witness};

use super::history::History;
use super::register::{ABSENT, Action, Op, Register, ValueId, by_key};
use super::witness::{seconds, shown};

/// Lost writes and unread keys that are told one by one; the rest is counted.
const TOLD_MAX: usize = 5;

/// What became of the acknowledged writes of a history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LostWrites {
    /// Writes (deletes and swaps too) that were acknowledged before the last read of their key, and so were judged.
    pub judged: usize,
    /// Those that are lost, by key and time.
    pub lost: Vec<Witness>,
    /// Keys with acknowledged writes, but without a successful read at the end.
    pub unread: Vec<String>,
}

/// Looks for lost writes. Reads that begin at `final_reads_from` or later are the last look at their key.
pub fn lost_writes(history: &History<'_>, final_reads_from: Nanos) -> LostWrites {
    let mut found = LostWrites::default();
    for (key, operations) in by_key(history).into_iter().enumerate() {
        let register = Register::new(history, &operations);
        Key {
            history,
            key: history.keys()[key],
            ops: &register.ops,
        }
        .judge(final_reads_from, &mut found);
    }
    found
        .lost
        .sort_by_key(|witness| (witness.key.clone(), acknowledged_at(witness)));
    found.unread.sort();
    found
}

fn acknowledged_at(witness: &Witness) -> Nanos {
    witness
        .operations
        .first()
        .and_then(|(_, ended)| ended.as_ref())
        .map_or(0, |ended| ended.time)
}

/// The check `lost_writes`.
pub(super) fn check(history: &History<'_>, final_reads_from: Nanos) -> Check {
    let found = lost_writes(history, final_reads_from);
    let (status, detail) = if !found.lost.is_empty() {
        let told: Vec<&str> = found
            .lost
            .iter()
            .take(TOLD_MAX)
            .map(|one| one.sentence.as_str())
            .collect();
        let more = match found.lost.len().saturating_sub(TOLD_MAX) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let detail = format!(
            "{} of {} acknowledged writes are lost: {}{more}",
            found.lost.len(),
            found.judged,
            told.join("; ")
        );
        (CheckStatus::Violation, detail)
    } else if !found.unread.is_empty() {
        let told = found
            .unread
            .iter()
            .take(TOLD_MAX)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = match found.unread.len().saturating_sub(TOLD_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (
            CheckStatus::Inconclusive,
            format!("not decided for want of a successful read at the end: {told}{more}"),
        )
    } else if found.judged == 0 {
        (
            CheckStatus::Inconclusive,
            String::from("no write was acknowledged, so none could be lost"),
        )
    } else {
        let detail = format!(
            "{} acknowledged writes: each is there at the end, or overwritten",
            found.judged
        );
        (CheckStatus::Pass, detail)
    };
    Check {
        name: "lost_writes".into(),
        status,
        detail,
        witness: found.lost.into_iter().next(),
    }
}

struct Key<'a> {
    history: &'a History<'a>,
    key: &'a str,
    ops: &'a [Op],
}

impl Key<'_> {
    fn judge(&self, final_reads_from: Nanos, found: &mut LostWrites) {
        let from = i64::try_from(final_reads_from).unwrap_or(i64::MAX);
        let acknowledged = || {
            self.ops
                .iter()
                .filter(|op| op.action.written().is_some() && !op.is_unknown())
        };
        let reads = self
            .ops
            .iter()
            .filter(|op| matches!(op.action, Action::Read(_)) && op.start >= from);
        // A compare-and-swap that found something else is no read that anybody asked for at the end.
        let reads = reads
            .filter(|op| self.history.outcome(&self.history.operations()[op.operation]) == EventKind::Ok);
        let Some(last) = reads.max_by_key(|op| (op.end, op.operation)) else {
            if acknowledged().next().is_some() {
                found.unread.push(self.key.to_owned());
            }
            return;
        };
        let Some(value) = last.action.observed() else {
            return;
        };
        let sources: Vec<&Op> = self
            .ops
            .iter()
            .filter(|op| op.action.written() == Some(value) && names(op, last, value))
            .collect();
        for op in acknowledged().filter(|op| op.end < last.start) {
            found.judged += 1;
            if !sources.iter().any(|source| may_follow(op, source)) {
                found.lost.push(self.lost(op, last, &sources));
            }
        }
    }

    fn lost(&self, write: &Op, last: &Op, sources: &[&Op]) -> Witness {
        let (began, ended) = self.both_ends(write);
        let (_, read) = self.both_ends(last);
        let left = match &began.value {
            Value::One(text) => Some(text.as_str()),
            Value::Pair(_, text) => text.as_deref(),
            Value::Absent => None,
        };
        let what = match left {
            Some(_) => shown(left),
            None => format!("the delete of {}", self.key),
        };
        let acknowledged = ended.as_ref().map_or(0, |ended| ended.time);
        let (answer, when, who) = match &read {
            Some(read) => {
                let answer = match &read.value {
                    Value::One(text) => shown(Some(text)),
                    _ => String::from("absent"),
                };
                (answer, read.time, read.node.as_deref().unwrap_or("the store"))
            }
            None => (String::from("absent"), 0, "the store"),
        };
        let why = match sources {
            [] if last.action.observed() == Some(ABSENT) => ", as if nothing had been written",
            [] => ", which nobody wrote",
            _ => ", which is older",
        };
        let sentence = format!(
            "{what} was acknowledged at {}, but at the end {who} answered {answer} at {}{why}",
            seconds(acknowledged),
            seconds(when)
        );
        let source = sources.first().map(|source| self.both_ends(source));
        let operations = [Some((began, ended)), source, Some(self.both_ends(last))];
        Witness {
            key: self.key.to_owned(),
            sentence,
            operations: operations.into_iter().flatten().collect(),
        }
    }

    fn both_ends(&self, op: &Op) -> (Event, Option<Event>) {
        self.history.both_ends(&self.history.operations()[op.operation])
    }
}

/// Whether a read can have seen this write's value: of several deletes the index may tell which.
fn names(write: &Op, read: &Op, value: ValueId) -> bool {
    match (write.index, read.index) {
        (Some(written), Some(seen)) if value == ABSENT && seen != 0 => written == seen,
        _ => true,
    }
}

/// Whether `source`, which wrote what was there at the end, may be this write or have come after it: by index where
/// both answered with one, else as far as time tells.
fn may_follow(write: &Op, source: &Op) -> bool {
    if source.operation == write.operation {
        return true;
    }
    if source.end < write.start {
        return false;
    }
    match (source.index, write.index) {
        (Some(source), Some(write)) => source > write,
        _ => true,
    }
}
