//! Violations in words: at most four operations, and a sentence that says what is wrong with them.

use reports::record::{Event, Nanos, Value, Witness};

use super::history::History;
use super::register::{Action, Op};
use super::zones::{Fault, Zone};

/// No witness has more operations than this.
const OPERATIONS_MAX: usize = 4;
/// Longer values are cut in sentences; the operations hold them whole.
const VALUE_CHARS_MAX: usize = 40;

/// `14.0 s`, with as many decimals as are needed to tell microseconds apart.
pub(super) fn seconds(time: Nanos) -> String {
    let text = format!("{}.{:06}", time / 1_000_000_000, time % 1_000_000_000 / 1000);
    let cut = text.trim_end_matches('0');
    if cut.ends_with('.') {
        format!("{cut}0 s")
    } else {
        format!("{cut} s")
    }
}

/// A value in a sentence.
pub(super) fn shown(value: Option<&str>) -> String {
    match value {
        None => String::from("absent"),
        Some("") => String::from("\"\""),
        Some(text) if text.chars().count() > VALUE_CHARS_MAX => {
            let start: String = text.chars().take(VALUE_CHARS_MAX).collect();
            format!("{start}…")
        }
        Some(text) => text.to_owned(),
    }
}

/// Tells what is wrong on one key.
pub(super) struct Teller<'a> {
    pub(super) history: &'a History<'a>,
    pub(super) key: &'a str,
    /// The key's operations; faults refer to them by number.
    pub(super) ops: &'a [Op],
}

impl<'a> Teller<'a> {
    /// A fault that the zone checker found.
    pub(super) fn fault(&self, fault: &Fault) -> Witness {
        match fault {
            Fault::Garbage { seen_by } => self.unwritten(*seen_by, None),
            Fault::LostUpdate { swaps } => self.lost_update(*swaps),
            Fault::OutOfOrder { earlier, later } => self.out_of_order(*earlier, *later),
            Fault::Cycle { swaps } => self.cycle(swaps),
            Fault::Crossed { older, newer } => self.crossed(older, newer),
        }
    }

    /// A value that nobody wrote, or only one who failed to.
    pub(super) fn unwritten(&self, seen_by: usize, failed: Option<usize>) -> Witness {
        let answered = self.answered(seen_by);
        let Some(failed) = failed else {
            return self.witness(format!("{answered}, a value that nobody wrote"), &[seen_by]);
        };
        let operation = &self.history.operations()[failed];
        let when = self.history.completion(operation).map_or(0, |event| event.time);
        let sentence = format!(
            "{answered}, the value of a write that had failed at {}",
            seconds(when)
        );
        let mut witness = self.witness(sentence, &[seen_by]);
        witness.operations.insert(0, self.history.both_ends(operation));
        witness
    }

    /// The operation at which the general search got stuck.
    pub(super) fn stuck(&self, number: usize) -> Witness {
        let op = &self.ops[number];
        let change = |op: &Op| op.action.written().is_some();
        let latest_before = (0..self.ops.len())
            .filter(|other| change(&self.ops[*other]) && self.ops[*other].end < op.start)
            .max_by_key(|other| self.ops[*other].end);
        let source = op.action.observed().and_then(|value| {
            (0..self.ops.len())
                .rev()
                .find(|other| *other != number && self.ops[*other].action.written() == Some(value))
        });
        let although = latest_before
            .map(|other| format!(", although {}", self.had_ended(other)))
            .unwrap_or_default();
        let sentence = format!(
            "{}{although}; no order of the operations explains it",
            self.answered(number)
        );
        let numbers: Vec<usize> = [source, latest_before, Some(number)]
            .into_iter()
            .flatten()
            .collect();
        self.witness(sentence, &numbers)
    }

    fn lost_update(&self, swaps: [usize; 2]) -> Witness {
        let [first, second] = swaps.map(|number| match self.end_event(number) {
            _ if self.ops[number].is_unknown() => {
                format!("{} (seen later)", shown(self.left(number)))
            }
            Some(event) => format!(
                "{} (acknowledged at {})",
                shown(self.left(number)),
                seconds(event.time)
            ),
            None => shown(self.left(number)),
        });
        let from = shown(self.seen(swaps[0]));
        let sentence = format!("{from} was swapped twice: for {first} and for {second}");
        let proof_of_unknown = swaps.into_iter().filter_map(|number| {
            let written = self.ops[number].action.written()?;
            let by = || {
                self.ops
                    .iter()
                    .position(|op| !op.is_unknown() && op.action.observed() == Some(written))
            };
            if self.ops[number].is_unknown() { by() } else { None }
        });
        let numbers: Vec<usize> = swaps.into_iter().chain(proof_of_unknown).collect();
        self.witness(sentence, &numbers)
    }

    /// `later` follows from `earlier`, yet ended before that began.
    fn out_of_order(&self, earlier: usize, later: usize) -> Witness {
        let sentence = match self.ops[earlier].action {
            Action::Read(_) => {
                let old = shown(self.seen(earlier));
                format!(
                    "{} although {}, which replaced {old}",
                    self.answered(earlier),
                    self.had_ended(later)
                )
            }
            Action::Write(_) | Action::Swap(..) => {
                format!("{} although {}", self.had_ended(later), self.only_began(earlier))
            }
        };
        // What joins the two, where it is a single swap.
        let link = self.ops[earlier].action.observed().and_then(|value| {
            let consumes = |op: &Op| matches!(op.action, Action::Swap(from, _) if from == value);
            self.ops.iter().position(consumes)
        });
        let numbers: Vec<usize> = [Some(later), link, Some(earlier)].into_iter().flatten().collect();
        self.witness(sentence, &numbers)
    }

    fn cycle(&self, swaps: &[usize]) -> Witness {
        let steps: Vec<String> = swaps.iter().map(|number| shown(self.seen(*number))).collect();
        let sentence = format!(
            "the values {} were each swapped for the next, and the last for the first, but none was written first",
            steps.join(", ")
        );
        self.witness(sentence, &swaps[..swaps.len().min(OPERATIONS_MAX)])
    }

    fn crossed(&self, older: &Zone, newer: &Zone) -> Witness {
        let late = older
            .last_to_start
            .expect("the value at the start is in force from before all others");
        let acknowledged = newer
            .first_to_end
            .expect("the value at the start is not newer than another");
        let mut sentence = format!(
            "{} although {}",
            self.answered(late),
            self.had_ended(acknowledged)
        );
        if let (Some(first), Some(began)) = (older.first_to_end, newer.last_to_start) {
            sentence += &format!(
                "; before that, {}, and {}",
                self.had_ended(first),
                self.only_began(began)
            );
        }
        let all = [
            older.first_to_end,
            newer.last_to_start,
            newer.first_to_end,
            older.last_to_start,
        ];
        self.witness(sentence, &all.into_iter().flatten().collect::<Vec<_>>())
    }

    fn witness(&self, sentence: String, numbers: &[usize]) -> Witness {
        let mut operations: Vec<usize> = numbers.iter().map(|number| self.ops[*number].operation).collect();
        operations.sort_unstable();
        operations.dedup();
        operations.truncate(OPERATIONS_MAX);
        let operations = operations
            .into_iter()
            .map(|number| &self.history.operations()[number]);
        Witness {
            key: self.key.to_owned(),
            sentence,
            operations: operations
                .map(|operation| self.history.both_ends(operation))
                .collect(),
        }
    }

    fn begin_event(&self, number: usize) -> &'a Event {
        self.history
            .invocation(&self.history.operations()[self.ops[number].operation])
    }

    fn end_event(&self, number: usize) -> Option<&'a Event> {
        self.history
            .completion(&self.history.operations()[self.ops[number].operation])
    }

    /// The value that an operation found.
    fn seen(&self, number: usize) -> Option<&'a str> {
        let source = match self.ops[number].action {
            Action::Read(_) => self.end_event(number),
            _ => Some(self.begin_event(number)),
        };
        match source.map(|event| &event.value) {
            Some(Value::One(text)) => Some(text),
            Some(Value::Pair(text, _)) => text.as_deref(),
            _ => None,
        }
    }

    /// The value that an operation left.
    fn left(&self, number: usize) -> Option<&'a str> {
        match &self.begin_event(number).value {
            Value::One(text) => Some(text),
            Value::Pair(_, text) => text.as_deref(),
            Value::Absent => None,
        }
    }

    /// An operation that says something surprising.
    fn answered(&self, number: usize) -> String {
        let op = &self.ops[number];
        let began = seconds(self.begin_event(number).time);
        let end = self.end_event(number).filter(|_| !op.is_unknown());
        let who = end.and_then(|event| event.node.as_deref()).unwrap_or("the store");
        let when = match end {
            Some(event) => format!("at {} (asked at {began})", seconds(event.time)),
            None => format!("some time after {began}"),
        };
        let (seen, left) = (shown(self.seen(number)), shown(self.left(number)));
        match op.action {
            Action::Read(_) => format!("{who} answered {seen} {when}"),
            Action::Swap(..) => format!("{who} swapped {seen} for {left} {when}"),
            Action::Write(_) => format!("{who} took {left} {when}"),
        }
    }

    /// An operation that was over.
    fn had_ended(&self, number: usize) -> String {
        let when = self
            .end_event(number)
            .map_or_else(String::new, |event| format!(" at {}", seconds(event.time)));
        let (seen, left) = (self.seen(number), self.left(number));
        match self.ops[number].action {
            Action::Read(_) => format!("{} was read{when}", shown(seen)),
            Action::Swap(..) => format!(
                "the swap of {} for {} was acknowledged{when}",
                shown(seen),
                shown(left)
            ),
            Action::Write(_) if left.is_none() => format!("a delete was acknowledged{when}"),
            Action::Write(_) => format!("{} was acknowledged{when}", shown(left)),
        }
    }

    /// An operation that had not begun.
    fn only_began(&self, number: usize) -> String {
        let when = seconds(self.begin_event(number).time);
        let (seen, left) = (self.seen(number), self.left(number));
        match self.ops[number].action {
            Action::Read(_) => format!("the read of {} only began at {when}", shown(seen)),
            Action::Swap(..) => format!(
                "the swap of {} for {} only began at {when}",
                shown(seen),
                shown(left)
            ),
            Action::Write(_) if left.is_none() => format!("the delete only began at {when}"),
            Action::Write(_) => format!("the write of {} only began at {when}", shown(left)),
        }
    }
}
