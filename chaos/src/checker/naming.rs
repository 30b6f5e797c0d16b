//! Makes every written value of a key unique, where that can be done.
//!
//! The exact checker needs to know which write a read saw. Unique values tell. `absent` does not once somebody
//! deletes; there the indexes in the answers tell one delete from the other, and a key whose answers carry none goes
//! to the general search.
//!
//! Names that come from indexes are a proposal. If they lead to an order of all operations, that order explains the
//! answers, whatever the indexes are worth. If they do not, nothing is proved yet.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::register::{ABSENT, Action, Op, Register, ValueId};

/// Operations in which no two write the same value, and nobody writes [`ABSENT`].
#[derive(Debug)]
pub(super) struct Named {
    pub(super) ops: Vec<Op>,
    pub(super) values: u32,
    /// Whether indexes had to be believed for it.
    pub(super) by_index: bool,
}

/// Why a key's values are not unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ambiguous {
    /// A value is written more than once.
    Repeated,
    /// Answers about an absent key do not tell which delete they saw.
    Deletes,
}

pub(super) fn name(register: &Register) -> Result<Named, Ambiguous> {
    let mut written = vec![false; register.values as usize];
    for value in register.ops.iter().filter_map(|op| op.action.written()) {
        if value != ABSENT && std::mem::replace(&mut written[value as usize], true) {
            return Err(Ambiguous::Repeated);
        }
    }
    let deletes = register.ops.iter().any(|op| op.action.written() == Some(ABSENT));
    if !deletes {
        return Ok(Named {
            ops: register.ops.clone(),
            values: register.values,
            by_index: false,
        });
    }
    Tombstones::of(register)
        .and_then(|tombstones| tombstones.name(register))
        .ok_or(Ambiguous::Deletes)
}

/// A place in the order that indexes tell. An entry with index `i` stands at `2 i`; just before it, at `2 i - 1`, is
/// room for a delete whose own index nobody told.
type Position = u64;

fn position(index: u64) -> Position {
    index.saturating_mul(2)
}

/// What is known about a key's deletes.
struct Tombstones {
    /// The value that stands for the delete at this position.
    deletes: BTreeMap<Position, ValueId>,
    /// Every operation's action, with a value of its own for each delete.
    actions: Vec<Action>,
    values: u32,
    /// Values that stand for deletes of unknown outcome, by their beginning.
    unknown: Vec<ValueId>,
    /// When the first delete began: what ended before has seen the key as it was at the start.
    first_start: i64,
    /// The index of each value that some answer told.
    index_of: HashMap<ValueId, u64>,
}

impl Tombstones {
    /// Nothing if two deletes have the same index, or more deletes were seen than there are.
    fn of(register: &Register) -> Option<Self> {
        let mut tombstones = Tombstones {
            deletes: BTreeMap::new(),
            actions: Vec::with_capacity(register.ops.len()),
            values: register.values,
            unknown: Vec::new(),
            first_start: i64::MAX,
            index_of: HashMap::new(),
        };
        for op in &register.ops {
            let action = tombstones.own_value(op)?;
            tombstones.actions.push(action);
            let value = action
                .written()
                .or(action.observed())
                .filter(|value| *value != ABSENT);
            tombstones.index_of.extend(value.zip(op.index));
        }
        tombstones.place_swapped_away();
        tombstones.take_deletes_of_nothing_for_reads(register);
        let unmatched = tombstones.unmatched(register);
        if unmatched.len() > tombstones.unknown.len() {
            return None;
        }
        // Deletes of unknown outcome differ only in when they began, so the first to begin stands for the lowest.
        tombstones
            .deletes
            .extend(unmatched.into_iter().zip(tombstones.unknown.iter().copied()));
        Some(tombstones)
    }

    fn own_value(&mut self, op: &Op) -> Option<Action> {
        let fresh = self.values;
        let action = match op.action {
            Action::Write(ABSENT) => Action::Write(fresh),
            Action::Swap(from, ABSENT) => Action::Swap(from, fresh),
            other => return Some(other),
        };
        self.values += 1;
        self.first_start = self.first_start.min(op.start);
        if op.is_unknown() {
            self.unknown
                .extend((op.action == Action::Write(ABSENT)).then_some(fresh));
        } else if let Some(index) = op.index
            && self.deletes.insert(position(index), fresh).is_some()
        {
            return None;
        }
        Some(action)
    }

    /// A store may keep nothing of a delete that found nothing: who reads later is told index 0, as if nobody had ever
    /// deleted. Such deletes, before the first change of which the index is known, are taken for reads of the beginning.
    /// In an order in which they fit as that, they change nothing.
    fn take_deletes_of_nothing_for_reads(&mut self, register: &Register) {
        let reads = || register.ops.iter().filter(|op| op.action == Action::Read(ABSENT));
        if !reads().any(|op| op.index == Some(0) && op.end >= self.first_start) {
            return;
        }
        let told: BTreeSet<u64> = reads().filter_map(|op| op.index).collect();
        let values = self
            .index_of
            .iter()
            .filter(|(value, _)| **value < register.values);
        let first_value = values.map(|(_, index)| *index).min().unwrap_or(u64::MAX);
        let first_seen = told.range(1..).next().copied().unwrap_or(u64::MAX);
        let first_change = first_value.min(first_seen);
        for (op, action) in register.ops.iter().zip(&mut self.actions) {
            if let (Action::Write(ABSENT), Some(index)) = (op.action, op.index)
                && !op.is_unknown()
                && index < first_change
            {
                if let Some(delete) = self.deletes.remove(&position(index)) {
                    self.index_of.remove(&delete);
                }
                *action = Action::Read(ABSENT);
            }
        }
    }

    /// A value of which no answer told the index, but that a swap found: nothing came between, so for what was before
    /// it the swap's own index serves as well.
    fn place_swapped_away(&mut self) {
        let swaps = self.actions.iter().filter_map(|action| match *action {
            Action::Swap(from, to) => Some((to, from)),
            _ => None,
        });
        let found_by: HashMap<ValueId, ValueId> = swaps.collect();
        for to in found_by.keys() {
            let Some(index) = self.index_of.get(to).copied() else {
                continue;
            };
            let mut value = *to;
            while let Some(from) = found_by.get(&value).filter(|from| **from != ABSENT)
                && !self.index_of.contains_key(from)
            {
                self.index_of.insert(*from, index);
                value = *from;
            }
        }
    }

    /// Where deletes must have been that did not answer: at an index that a read told, and before a swap that found
    /// the key absent although the last change known before it was no delete.
    fn unmatched(&self, register: &Register) -> BTreeSet<Position> {
        let reads = register.ops.iter().filter(|op| op.action == Action::Read(ABSENT));
        let told = reads
            .filter_map(|op| op.index)
            .filter(|index| *index > 0)
            .map(position);
        let mut unmatched: BTreeSet<Position> = told
            .filter(|position| !self.deletes.contains_key(position))
            .collect();
        let deletes: BTreeSet<Position> = self.deletes.keys().chain(&unmatched).copied().collect();
        let told = self.index_of.values().map(|index| position(*index));
        let changes: BTreeSet<Position> = told.chain(deletes.iter().copied()).collect();
        for (op, action) in register.ops.iter().zip(&self.actions) {
            if let Action::Swap(ABSENT, to) = *action
                && let Some(index) = self.index_of.get(&to).filter(|_| op.end >= self.first_start)
            {
                let last_change = changes.range(..position(*index)).next_back();
                if last_change.is_some_and(|change| !deletes.contains(change)) {
                    unmatched.insert(position(*index) - 1);
                }
            }
        }
        unmatched
    }

    fn name(self, register: &Register) -> Option<Named> {
        let mut ops = register.ops.clone();
        for (op, action) in ops.iter_mut().zip(&self.actions) {
            op.action = match *action {
                Action::Read(ABSENT) if op.action == Action::Write(ABSENT) => Action::Read(ABSENT),
                Action::Read(ABSENT) => Action::Read(self.seen_by_read(op)?),
                Action::Swap(ABSENT, to) => Action::Swap(self.seen_by_swap(op, to), to),
                other => other,
            };
        }
        Some(Named {
            ops,
            values: self.values,
            by_index: true,
        })
    }

    /// A read answers with the index of what it saw; 0 if there never was anything.
    fn seen_by_read(&self, op: &Op) -> Option<ValueId> {
        if op.end < self.first_start {
            return Some(ABSENT);
        }
        match op.index? {
            0 => Some(ABSENT),
            index => self.deletes.get(&position(index)).copied(),
        }
    }

    /// A swap has an index of its own; what it saw is the last delete before that. One whose index nobody told is
    /// seen by nobody who could tell, or else the search will have to.
    fn seen_by_swap(&self, op: &Op, to: ValueId) -> ValueId {
        if op.end < self.first_start {
            return ABSENT;
        }
        let index = op.index.or_else(|| self.index_of.get(&to).copied());
        let before = index.and_then(|index| self.deletes.range(..position(index)).next_back());
        before.map_or(ABSENT, |(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::checker::register::NEVER;
    use crate::checker::zones;

    fn register(ops: &[(Action, u64)]) -> Register {
        let ops = ops.iter().zip(0..).map(|((action, index), time)| Op {
            operation: time as usize,
            action: *action,
            start: 10 * time,
            end: 10 * time + 5,
            index: Some(*index),
        });
        Register {
            ops: ops.collect(),
            values: 3,
            failed: HashMap::new(),
        }
    }

    #[test]
    fn a_delete_that_found_nothing_and_left_nothing_needs_no_search() {
        let clean = [
            (Action::Write(ABSENT), 3),
            (Action::Read(ABSENT), 0),
            (Action::Write(1), 5),
            (Action::Read(1), 5),
            (Action::Write(ABSENT), 7),
            (Action::Read(ABSENT), 7),
        ];
        assert!(zones::check(&name(&register(&clean)).unwrap()).is_ok());
        // The same, but the last read is told that nobody ever wrote the key, although somebody had.
        let mut stale = clean;
        stale[4] = (Action::Write(2), 7);
        stale[5] = (Action::Read(ABSENT), 0);
        assert!(zones::check(&name(&register(&stale)).unwrap()).is_err());
    }

    #[test]
    fn a_store_that_remembers_deletes_of_nothing_needs_no_search() {
        // The first read is answered from before the delete that it is concurrent with.
        let at = |start, end, action, index| Op {
            operation: 0,
            action,
            start,
            end,
            index: Some(index),
        };
        let decided = |ops: Vec<Op>| {
            let register = Register {
                ops,
                values: 3,
                failed: HashMap::new(),
            };
            zones::check(&name(&register).unwrap()).is_ok()
        };
        // A delete that is seen, and one after it that found nothing and that nobody saw.
        assert!(decided(vec![
            at(0, 20, Action::Read(ABSENT), 0),
            at(10, 15, Action::Write(ABSENT), 3),
            at(25, 30, Action::Read(ABSENT), 3),
            at(35, 40, Action::Write(ABSENT), 5),
            at(45, 50, Action::Write(1), 7),
        ]));
        // A swap saw what the delete left, and no other delete is made up for it.
        assert!(decided(vec![
            at(0, 20, Action::Read(ABSENT), 0),
            at(10, 15, Action::Write(ABSENT), 3),
            at(25, 30, Action::Swap(ABSENT, 1), 5),
            at(35, 40, Action::Write(ABSENT), 7),
        ]));
        let unknown_delete = Op {
            end: NEVER,
            index: None,
            ..at(60, 0, Action::Write(ABSENT), 0)
        };
        assert!(decided(vec![
            at(0, 20, Action::Read(ABSENT), 0),
            at(10, 15, Action::Write(ABSENT), 3),
            at(25, 30, Action::Swap(ABSENT, 1), 5),
            unknown_delete,
        ]));
    }
}
