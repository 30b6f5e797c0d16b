//! Makes every written value of a key unique, where that can be done.
//!
//! The exact checker needs to know which write a read saw. Unique values tell. `absent` does not once somebody
//! deletes, so there the index in the answer names the delete; a key whose reads cannot be named so goes to the
//! general search.

use std::collections::HashMap;

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
    /// Reads of an absent key do not tell which delete they saw.
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
    Tombstones::of(register).name(register).ok_or(Ambiguous::Deletes)
}

/// What is known about a key's deletes.
struct Tombstones {
    /// The value that stands for the delete with this index.
    by_index: HashMap<u64, ValueId>,
    /// The value that stands for the only delete of unknown outcome.
    unknown: Option<ValueId>,
    unknown_count: usize,
    /// The index that such a delete must have had, once a read told.
    unknown_index: Option<u64>,
    /// When the first delete began: what ended before has seen the key as it was at the start.
    first_start: i64,
    next: ValueId,
}

impl Tombstones {
    fn of(register: &Register) -> Self {
        let deletes = register
            .ops
            .iter()
            .filter(|op| op.action.written() == Some(ABSENT));
        Tombstones {
            by_index: HashMap::new(),
            unknown: None,
            unknown_count: deletes.clone().filter(|op| op.is_unknown()).count(),
            unknown_index: None,
            first_start: deletes.map(|op| op.start).min().unwrap_or(i64::MAX),
            next: register.values,
        }
    }

    fn name(mut self, register: &Register) -> Option<Named> {
        let mut ops = register.ops.clone();
        for op in &mut ops {
            op.action = match op.action {
                Action::Write(ABSENT) => Action::Write(self.tombstone(op)?),
                Action::Swap(from, ABSENT) => Action::Swap(from, self.tombstone(op)?),
                other => other,
            };
        }
        for op in &mut ops {
            op.action = match op.action {
                Action::Read(ABSENT) => Action::Read(self.seen(op, op.index)?),
                // Its index is that of its own entry, which says nothing about what was there before.
                Action::Swap(ABSENT, to) => Action::Swap(self.seen(op, None)?, to),
                other => other,
            };
        }
        Some(Named {
            ops,
            values: self.next,
            by_index: true,
        })
    }

    /// A value of its own for a delete; nothing if its index is another one's too.
    fn tombstone(&mut self, op: &Op) -> Option<ValueId> {
        let value = self.next;
        self.next += 1;
        if op.is_unknown() {
            self.unknown = Some(value);
        } else if let Some(index) = op.index
            && self.by_index.insert(index, value).is_some()
        {
            return None;
        }
        Some(value)
    }

    /// Which absence was seen.
    fn seen(&mut self, op: &Op, index: Option<u64>) -> Option<ValueId> {
        if op.end < self.first_start {
            return Some(ABSENT);
        }
        match index? {
            0 => Some(ABSENT),
            index => self
                .by_index
                .get(&index)
                .copied()
                .or_else(|| self.seen_unknown(index)),
        }
    }

    /// An index that no delete answered with can only belong to one that did not answer.
    fn seen_unknown(&mut self, index: u64) -> Option<ValueId> {
        let same = *self.unknown_index.get_or_insert(index) == index;
        (self.unknown_count == 1 && same)
            .then_some(self.unknown)
            .flatten()
    }
}
