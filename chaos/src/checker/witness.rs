//! Violations in words: at most four operations, and a sentence that says what is wrong with them.

use reports::record::{Event, Nanos, Value, Witness};

use super::history::History;
use super::register::{Action, Op, Register};
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

/// `1 key`, `2 keys`.
pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
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
    pub(super) register: &'a Register,
}

impl<'a> Teller<'a> {
    /// A fault that the zone checker found.
    pub(super) fn fault(&self, fault: &Fault) -> Witness {
        match fault {
            Fault::Garbage { seen_by } => self.unwritten(*seen_by),
            Fault::LostUpdate { swaps } => self.lost_update(*swaps),
            Fault::OutOfOrder { earlier, later } => self.out_of_order(*earlier, *later),
            Fault::Cycle { swaps } => self.cycle(swaps),
            Fault::Crossed { older, newer } => self.crossed(older, newer),
        }
    }

    /// A value that nobody wrote, or only one who failed to.
    pub(super) fn unwritten(&self, seen_by: usize) -> Witness {
        let answered = self.answered(seen_by);
        let value = self.register.ops[seen_by].action.observed();
        let Some(failed) = value.and_then(|value| self.register.failed.get(&value)) else {
            return self.witness(format!("{answered}, a value that nobody wrote"), &[seen_by]);
        };
        let operation = &self.history.operations()[*failed];
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
        let op = &self.register.ops[number];
        let change = |op: &Op| op.action.written().is_some();
        let latest_before = (0..self.register.ops.len())
            .filter(|other| change(&self.register.ops[*other]) && self.register.ops[*other].end < op.start)
            .max_by_key(|other| self.register.ops[*other].end);
        let source = op.action.observed().and_then(|value| {
            (0..self.register.ops.len())
                .rev()
                .find(|other| *other != number && self.register.ops[*other].action.written() == Some(value))
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
            _ if self.register.ops[number].is_unknown() => {
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
        self.witness(sentence, &swaps)
    }

    /// `later` follows from `earlier`, yet ended before that began.
    fn out_of_order(&self, earlier: usize, later: usize) -> Witness {
        let sentence = match self.register.ops[earlier].action {
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
        // What joins the two, if that is a single swap.
        let value = self.register.ops[earlier].action.observed();
        let consumes = |number: &usize| match self.register.ops[*number].action {
            Action::Swap(from, _) => Some(from) == value,
            _ => false,
        };
        let mut links = (0..self.register.ops.len()).filter(consumes);
        let link = links.next().filter(|_| links.next().is_none());
        let numbers: Vec<usize> = [Some(later), Some(earlier), link].into_iter().flatten().collect();
        self.witness(sentence, &numbers)
    }

    fn cycle(&self, swaps: &[usize]) -> Witness {
        let steps: Vec<String> = swaps.iter().map(|number| shown(self.seen(*number))).collect();
        let sentence = format!(
            "the values {} were each swapped for the next, and the last for the first, but none was written first",
            steps.join(", ")
        );
        self.witness(sentence, swaps)
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

    /// The operations, most important first. Of one whose outcome is unknown somebody must have seen that it
    /// happened; where there is no room for both, the one who saw it is the proof.
    fn witness(&self, sentence: String, numbers: &[usize]) -> Witness {
        let is_unknown = |number: &usize| self.register.ops[*number].is_unknown();
        let proofs = numbers
            .iter()
            .filter_map(|number| self.proof(*number, &mut Vec::new()));
        let mut chosen: Vec<usize> = Vec::new();
        for number in proofs.chain(numbers.iter().copied().filter(is_unknown)) {
            if !chosen.contains(&number) && chosen.len() < OPERATIONS_MAX {
                chosen.push(number);
            }
        }
        let mut operations: Vec<usize> = chosen
            .into_iter()
            .map(|number| self.register.ops[number].operation)
            .collect();
        operations.sort_unstable();
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

    /// An operation that ended well and shows that this one took effect: itself, or one that saw what it left, or
    /// saw what was made of that.
    fn proof(&self, number: usize, tried: &mut Vec<usize>) -> Option<usize> {
        let op = &self.register.ops[number];
        if !op.is_unknown() {
            return Some(number);
        }
        tried.push(number);
        let left = op.action.written()?;
        let saw = |number: &usize| self.register.ops[*number].action.observed() == Some(left);
        let observers: Vec<usize> = (0..self.register.ops.len()).filter(saw).collect();
        let known = observers
            .iter()
            .copied()
            .find(|number| !self.register.ops[*number].is_unknown());
        known.or_else(|| {
            let unknown = observers.into_iter();
            unknown
                .filter_map(|number| {
                    if tried.contains(&number) {
                        None
                    } else {
                        self.proof(number, tried)
                    }
                })
                .next()
        })
    }

    fn begin_event(&self, number: usize) -> &'a Event {
        self.history
            .invocation(&self.history.operations()[self.register.ops[number].operation])
    }

    fn end_event(&self, number: usize) -> Option<&'a Event> {
        self.history
            .completion(&self.history.operations()[self.register.ops[number].operation])
    }

    /// The value that an operation found.
    fn seen(&self, number: usize) -> Option<&'a str> {
        let source = match self.register.ops[number].action {
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
        let op = &self.register.ops[number];
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
        match self.register.ops[number].action {
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
        match self.register.ops[number].action {
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
