//! Does the order that the store itself reports agree with what clients saw?
//!
//! Answers carry the Raft index of the key's last change. Put in that order, operations must agree with real time and
//! with each other. This takes constant time for each operation, so it can run while the load does. It is no
//! replacement for the exact check, which does not believe the store's indexes.

use std::collections::HashMap;

use reports::record::{Check, CheckStatus, Event, EventKind, Function, Nanos, Value, Witness};

use super::history::History;
use super::witness::{seconds, shown};

/// Follows a history in order of time.
///
/// Every operation goes by a handle of the caller's choice, different for each: with it a fault names the operations.
#[derive(Debug, Default)]
pub struct IndexOrder {
    keys: HashMap<String, Key>,
    open: HashMap<usize, Open>,
    /// Answers that carried an index and were checked.
    pub checked: u64,
    /// Answers that carried none.
    pub unchecked: u64,
}

/// What contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexFault {
    /// What is wrong, in a sentence.
    pub sentence: String,
    /// Handles of the operations that show it, at most two.
    pub operations: Vec<usize>,
}

#[derive(Debug)]
struct Open {
    /// Highest index answered on the key before this operation began.
    floor: Option<Mark>,
    /// Number of the value to be written; 0 for a delete.
    writes: Option<usize>,
}

#[derive(Debug, Default)]
struct Key {
    highest: Option<Mark>,
    at: HashMap<u64, Mark>,
    /// Number of each value that somebody began to write, from 1; 0 is absent.
    values: HashMap<String, usize>,
    /// What is known of each value, by number minus one.
    known: Vec<Known>,
    deletes: bool,
}

#[derive(Debug, Default)]
struct Known {
    writers: u32,
    index: Option<Mark>,
}

/// An answer that carried an index.
#[derive(Debug, Clone, Copy)]
struct Mark {
    index: u64,
    value: usize,
    written: bool,
    handle: usize,
    time: Nanos,
}

impl IndexOrder {
    /// An operation begins. Beginnings go before ends of the same time.
    pub fn invoke(&mut self, handle: usize, event: &Event) {
        let key = match self.keys.get_mut(&event.key) {
            Some(key) => key,
            None => self.keys.entry(event.key.clone()).or_default(),
        };
        let writes = match (event.f, &event.value) {
            (Function::Read, _) => None,
            (Function::Write, Value::One(text)) => Some(key.begin_write(Some(text))),
            (Function::Cas, Value::Pair(_, to)) => Some(key.begin_write(to.as_deref())),
            _ => Some(key.begin_write(None)),
        };
        self.open.insert(
            handle,
            Open {
                floor: key.highest,
                writes,
            },
        );
    }

    /// An operation ends.
    pub fn complete(&mut self, handle: usize, event: &Event) -> Result<(), IndexFault> {
        let Some(open) = self.open.remove(&handle) else {
            return Ok(());
        };
        let Some(key) = self.keys.get_mut(&event.key) else {
            return Ok(());
        };
        let seen = match (event.kind, event.f, &event.value) {
            (EventKind::Ok, Function::Read, Value::One(text)) => Some(Some(text.as_str())),
            (EventKind::Ok, Function::Read, _) => Some(None),
            // What stood in the way of a compare-and-swap; `None` where it failed for another reason.
            (EventKind::Fail, Function::Cas, Value::Pair(found, _)) if event.index.is_some() => {
                Some(found.as_deref())
            }
            (EventKind::Ok, ..) => None,
            _ => return Ok(()),
        };
        let Some(index) = event.index else {
            self.unchecked += 1;
            return Ok(());
        };
        self.checked += 1;
        let answer = Answer {
            event,
            handle,
            index,
            floor: open.floor,
        };
        match (seen, open.writes) {
            (Some(value), _) => key.read(&answer, value),
            (None, Some(value)) => key.wrote(&answer, value),
            (None, None) => Ok(()),
        }
    }
}

struct Answer<'a> {
    event: &'a Event,
    handle: usize,
    index: u64,
    floor: Option<Mark>,
}

impl Answer<'_> {
    fn who(&self) -> String {
        let who = self.event.node.as_deref().unwrap_or("the store");
        format!(
            "{who} answered with index {} at {}",
            self.index,
            seconds(self.event.time)
        )
    }

    fn fault(&self, sentence: String, other: Option<Mark>) -> IndexFault {
        let operations = other
            .map(|mark| mark.handle)
            .into_iter()
            .chain([self.handle])
            .collect();
        IndexFault { sentence, operations }
    }

    fn mark(&self, value: usize, written: bool) -> Mark {
        Mark {
            index: self.index,
            value,
            written,
            handle: self.handle,
            time: self.event.time,
        }
    }
}

impl Key {
    fn begin_write(&mut self, value: Option<&str>) -> usize {
        let Some(text) = value else {
            self.deletes = true;
            return 0;
        };
        let number = match self.values.get(text) {
            Some(number) => *number,
            None => {
                self.known.push(Known::default());
                self.values.insert(text.to_owned(), self.known.len());
                self.known.len()
            }
        };
        self.known[number - 1].writers += 1;
        number
    }

    fn wrote(&mut self, answer: &Answer<'_>, value: usize) -> Result<(), IndexFault> {
        if let Some(floor) = answer.floor.filter(|floor| answer.index <= floor.index) {
            let sentence = format!(
                "{} to a write that began after index {} had been answered at {}",
                answer.who(),
                floor.index,
                seconds(floor.time)
            );
            return Err(answer.fault(sentence, Some(floor)));
        }
        if let Some(other) = self.at.get(&answer.index).filter(|other| other.written) {
            let sentence = format!(
                "{}, which another write had been given at {}",
                answer.who(),
                seconds(other.time)
            );
            return Err(answer.fault(sentence, Some(*other)));
        }
        self.place(answer, value, true)
    }

    fn read(&mut self, answer: &Answer<'_>, value: Option<&str>) -> Result<(), IndexFault> {
        let number = match value {
            None => 0,
            Some(text) => match self.values.get(text) {
                Some(number) => *number,
                None => {
                    let sentence = format!(
                        "{} and {}, which nobody had begun to write",
                        answer.who(),
                        shown(Some(text))
                    );
                    return Err(answer.fault(sentence, None));
                }
            },
        };
        if let Some(floor) = answer.floor.filter(|floor| answer.index < floor.index) {
            // Deleting what is not there may leave the key's index alone, and a store without tombstones has no index
            // for a key that is gone.
            let forgotten = number == 0 && (floor.value == 0 || (answer.index == 0 && self.deletes));
            if forgotten {
                return Ok(());
            }
            let sentence = format!(
                "{} and {}, to a read that began after index {} had been answered at {}",
                answer.who(),
                shown(value),
                floor.index,
                seconds(floor.time)
            );
            return Err(answer.fault(sentence, Some(floor)));
        }
        if answer.index == 0 {
            return Ok(());
        }
        self.place(answer, number, false)
    }

    /// One index holds one value, and a value written once has one index.
    fn place(&mut self, answer: &Answer<'_>, value: usize, written: bool) -> Result<(), IndexFault> {
        let mark = answer.mark(value, written);
        if let Some(other) = self.at.get(&answer.index).filter(|other| other.value != value) {
            let sentence = format!(
                "{}, at which another value had been answered at {}",
                answer.who(),
                seconds(other.time)
            );
            return Err(answer.fault(sentence, Some(*other)));
        }
        if let Some(known) = value.checked_sub(1).map(|number| &mut self.known[number]) {
            let first = *known.index.get_or_insert(mark);
            if known.writers == 1 && first.index != answer.index {
                let sentence = format!(
                    "{}, and the same value had been answered with index {} at {}",
                    answer.who(),
                    first.index,
                    seconds(first.time)
                );
                return Err(answer.fault(sentence, Some(first)));
            }
        }
        let entry = self.at.entry(answer.index).or_insert(mark);
        entry.written |= written;
        if self.highest.is_none_or(|highest| highest.index < answer.index) {
            self.highest = Some(mark);
        }
        Ok(())
    }
}

/// The check `index_order`; absent if no answer carries an index.
pub(super) fn check(history: &History<'_>) -> Option<Check> {
    let mut moments: Vec<(Nanos, bool, usize)> = Vec::with_capacity(history.operations().len() * 2);
    for (handle, operation) in history.operations().iter().enumerate() {
        moments.push((history.invocation(operation).time, false, handle));
        moments.extend(
            history
                .completion(operation)
                .map(|event| (event.time, true, handle)),
        );
    }
    moments.sort_unstable();
    let mut order = IndexOrder::default();
    let mut faults = Vec::new();
    for (_, is_end, handle) in moments {
        let operation = &history.operations()[handle];
        match history.completion(operation) {
            Some(event) if is_end => faults.extend(order.complete(handle, event).err()),
            _ => order.invoke(handle, history.invocation(operation)),
        }
    }
    if order.checked == 0 {
        return None;
    }
    let looked_at = format!(
        "{} of {} answers carried an index",
        order.checked,
        order.checked + order.unchecked
    );
    let (status, detail, witness) = match faults.first() {
        None => (
            CheckStatus::Pass,
            format!("{looked_at}, and in that order everything fits"),
            None,
        ),
        Some(first) => {
            let operations = first
                .operations
                .iter()
                .map(|handle| &history.operations()[*handle]);
            let key = operations
                .clone()
                .next_back()
                .map_or("", |operation| history.keys()[operation.key as usize]);
            let witness = Witness {
                key: key.to_owned(),
                sentence: first.sentence.clone(),
                operations: operations.map(|operation| history.both_ends(operation)).collect(),
            };
            let detail = format!(
                "{looked_at}, {} contradict; first on {key}: {}",
                faults.len(),
                first.sentence
            );
            (CheckStatus::Violation, detail, Some(witness))
        }
    };
    Some(Check {
        name: "index_order".into(),
        status,
        detail,
        witness,
    })
}
