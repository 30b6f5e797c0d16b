//! One key's operations in the form that the register checkers work on: numbers instead of texts.

use std::collections::HashMap;

use reports::record::{EventKind, Function, Value};

use super::History;

/// A value, by number. A key starts as [`ABSENT`].
pub(super) type ValueId = u32;

/// The value of a key that is not there.
pub(super) const ABSENT: ValueId = 0;

/// The end of an operation whose outcome is unknown: it may take effect at any later time.
pub(super) const NEVER: i64 = i64::MAX;

/// What an operation saw and did, if it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Saw this value.
    Read(ValueId),
    /// Left this value, whatever was there. A delete leaves [`ABSENT`].
    Write(ValueId),
    /// Saw the first and left the second.
    Swap(ValueId, ValueId),
}

impl Action {
    /// What it saw.
    pub(super) fn observed(self) -> Option<ValueId> {
        match self {
            Action::Read(value) | Action::Swap(value, _) => Some(value),
            Action::Write(_) => None,
        }
    }

    /// What it left.
    pub(super) fn written(self) -> Option<ValueId> {
        match self {
            Action::Write(value) | Action::Swap(_, value) => Some(value),
            Action::Read(_) => None,
        }
    }
}

/// An operation that happened, or may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Op {
    /// Number in [`History::operations`].
    pub(super) operation: usize,
    pub(super) action: Action,
    pub(super) start: i64,
    /// [`NEVER`] if the outcome is unknown.
    pub(super) end: i64,
    /// Index in the answer.
    pub(super) index: Option<u64>,
}

impl Op {
    pub(super) fn is_unknown(&self) -> bool {
        self.end == NEVER
    }
}

/// Everything about one key.
#[derive(Debug)]
pub(super) struct Register {
    /// Operations that happened or may have, in order of their beginning.
    pub(super) ops: Vec<Op>,
    /// How many different values there are, [`ABSENT`] included.
    pub(super) values: u32,
    /// Values that were to be written by an operation that failed, and that operation's number in the history.
    pub(super) failed: HashMap<ValueId, usize>,
}

/// Sorts a history's operations by key.
pub(super) fn by_key(history: &History<'_>) -> Vec<Vec<usize>> {
    let mut keys = vec![Vec::new(); history.keys().len()];
    for (number, operation) in history.operations().iter().enumerate() {
        keys[operation.key as usize].push(number);
    }
    keys
}

impl Register {
    /// Takes over one key's operations.
    ///
    /// Reads that failed or stayed unknown say nothing. A compare-and-swap that failed and reports another value than
    /// it expected has read that value; one that failed otherwise says nothing. Writes that failed are only
    /// remembered by their value.
    pub(super) fn new<'a>(history: &History<'a>, operations: &[usize]) -> Self {
        let mut numbers = Numbers {
            known: HashMap::new(),
            next: ABSENT + 1,
        };
        let mut register = Register {
            ops: Vec::new(),
            values: 0,
            failed: HashMap::new(),
        };
        for &number in operations {
            let operation = &history.operations()[number];
            let (began, ended) = (history.invocation(operation), history.completion(operation));
            let outcome = history.outcome(operation);
            let attempted = numbers.attempt(began.f, &began.value);
            let action = match (outcome, attempted, ended) {
                (EventKind::Ok, Attempt::Change(action), _) => Some(action),
                (EventKind::Ok, Attempt::Read, Some(ended)) => Some(Action::Read(numbers.one(&ended.value))),
                (EventKind::Fail, Attempt::Change(action), Some(ended)) => {
                    register.remember_failed(action, number);
                    numbers.in_the_way(action, &ended.value)
                }
                (EventKind::Info, Attempt::Change(action), _) => Some(action),
                _ => None,
            };
            let Some(action) = action else { continue };
            let end = match (outcome, ended) {
                (EventKind::Ok | EventKind::Fail, Some(ended)) => ended.time as i64,
                _ => NEVER,
            };
            let index = ended.and_then(|ended| ended.index);
            register.ops.push(Op {
                operation: number,
                action,
                start: began.time as i64,
                end,
                index,
            });
        }
        register.ops.sort_by_key(|op| (op.start, op.operation));
        register.values = numbers.next;
        register
    }

    fn remember_failed(&mut self, action: Action, operation: usize) {
        if let Some(value) = action.written().filter(|value| *value != ABSENT) {
            self.failed.entry(value).or_insert(operation);
        }
    }
}

/// What an invocation asks for.
enum Attempt {
    Read,
    Change(Action),
}

/// Gives every text a number.
struct Numbers<'a> {
    known: HashMap<&'a str, ValueId>,
    next: ValueId,
}

impl<'a> Numbers<'a> {
    fn text(&mut self, text: Option<&'a str>) -> ValueId {
        let Some(text) = text else { return ABSENT };
        *self.known.entry(text).or_insert_with(|| {
            self.next += 1;
            self.next - 1
        })
    }

    fn one(&mut self, value: &'a Value) -> ValueId {
        match value {
            Value::One(text) => self.text(Some(text)),
            Value::Absent | Value::Pair(..) => ABSENT,
        }
    }

    fn attempt(&mut self, function: Function, value: &'a Value) -> Attempt {
        match (function, value) {
            (Function::Read, _) => Attempt::Read,
            (Function::Cas, Value::Pair(from, to)) => {
                Attempt::Change(Action::Swap(self.text(from.as_deref()), self.text(to.as_deref())))
            }
            (Function::Delete, _) => Attempt::Change(Action::Write(ABSENT)),
            (_, value) => Attempt::Change(Action::Write(self.one(value))),
        }
    }

    /// What a failed compare-and-swap found, if it says so. A failure for another reason echoes the request, or
    /// says nothing; the expected value cannot have been in its own way.
    fn in_the_way(&mut self, attempted: Action, answer: &'a Value) -> Option<Action> {
        let (Action::Swap(expected, _), Value::Pair(found, _)) = (attempted, answer) else {
            return None;
        };
        let found = self.text(found.as_deref());
        (found != expected).then_some(Action::Read(found))
    }
}
