//! Is there one order of all operations that explains every answer and agrees with real time?
//!
//! Each key by itself: a history is linearizable exactly if its part on every key is (Herlihy and Wing 1990).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use reports::record::{Check, CheckStatus, EventKind, Witness};

use super::history::History;
use super::naming::{self, Ambiguous};
use super::register::{ABSENT, Op, Register, by_key};
use super::search::{self, Found};
use super::witness::{Teller, count};
use super::zones;

/// What came of one key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// An order exists. Decided exactly, or by search.
    Holds { searched: bool },
    /// None does.
    Broken(Box<Witness>),
    /// Not decided, for this reason.
    Undecided(&'static str),
}

/// The check `linearizable`.
pub(super) fn check(history: &History<'_>, budget: usize) -> Check {
    let operations = history.operations();
    let ended = |outcome| {
        operations
            .iter()
            .filter(|one| history.outcome(one) == outcome)
            .count()
    };
    let looked_at = format!(
        "{} on {}, {} of unknown outcome",
        count(operations.len(), "operation"),
        count(history.keys().len(), "key"),
        ended(EventKind::Info)
    );
    let judgements = judge_all(history, budget);
    let (status, found, witness) = summary(history, &judgements, ended(EventKind::Ok) > 0);
    Check {
        name: "linearizable".into(),
        status,
        detail: format!("{looked_at}: {found}"),
        witness,
    }
}

fn summary(
    history: &History<'_>,
    judgements: &[Judgement],
    anything_answered: bool,
) -> (CheckStatus, String, Option<Witness>) {
    let broken = judgements.iter().filter_map(|judgement| match judgement {
        Judgement::Broken(witness) => Some(witness.as_ref()),
        _ => None,
    });
    if let Some(first) = broken.clone().min_by_key(|witness| shows_at(witness)) {
        let keys = count(broken.count(), "key");
        let found = format!("broken on {keys}, first on {}: {}", first.key, first.sentence);
        return (CheckStatus::Violation, found, Some(first.clone()));
    }
    if let Some((key, reason)) = first_undecided(history, judgements) {
        return (
            CheckStatus::Inconclusive,
            format!("not decided on {key}: {reason}"),
            None,
        );
    }
    if !anything_answered {
        return (
            CheckStatus::Inconclusive,
            String::from("not one was answered"),
            None,
        );
    }
    let searched = |judgement: &&Judgement| matches!(judgement, Judgement::Holds { searched: true });
    let how = match judgements.iter().filter(searched).count() {
        0 => String::new(),
        keys => format!(
            " (found by search on {}, whose values are not unique)",
            count(keys, "key")
        ),
    };
    (
        CheckStatus::Pass,
        format!("one order explains every answer{how}"),
        None,
    )
}

fn first_undecided<'a>(history: &History<'a>, judgements: &[Judgement]) -> Option<(&'a str, &'static str)> {
    judgements
        .iter()
        .zip(history.keys())
        .find_map(|(judgement, key)| match judgement {
            Judgement::Undecided(reason) => Some((*key, *reason)),
            _ => None,
        })
}

/// When all of a witness's operations had been begun and, as far as they were, answered.
fn shows_at(witness: &Witness) -> (u64, &str) {
    let ends = witness
        .operations
        .iter()
        .map(|(began, ended)| ended.as_ref().unwrap_or(began).time);
    (ends.max().unwrap_or(0), &witness.key)
}

/// Judges every key, several at a time; the result does not depend on how many.
pub(super) fn judge_all(history: &History<'_>, budget: usize) -> Vec<Judgement> {
    let keys = by_key(history);
    let workers = thread::available_parallelism()
        .map_or(1, |count| count.get())
        .min(keys.len())
        .max(1);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut judged = Vec::new();
        loop {
            let key = next.fetch_add(1, Ordering::Relaxed);
            let Some(operations) = keys.get(key) else {
                return judged;
            };
            judged.push((key, judge(history, key, operations, budget)));
        }
    };
    let mut judged: Vec<(usize, Judgement)> = thread::scope(|scope| {
        let threads: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut judged = work();
        for thread in threads {
            judged.extend(thread.join().expect("judging a key does not panic"));
        }
        judged
    });
    judged.sort_by_key(|(key, _)| *key);
    judged.into_iter().map(|(_, judgement)| judgement).collect()
}

fn judge(history: &History<'_>, key: usize, operations: &[usize], budget: usize) -> Judgement {
    let register = Register::new(history, operations);
    let teller = Teller {
        history,
        key: history.keys()[key],
        register: &register,
    };
    let broken = |witness| Judgement::Broken(Box::new(witness));
    if let Some(seen_by) = unwritten(&register) {
        return broken(teller.unwritten(seen_by));
    }
    match naming::name(&register) {
        Ok(named) => match zones::check(&named) {
            Ok(()) => Judgement::Holds { searched: false },
            Err(fault) if !named.by_index => broken(teller.fault(&fault)),
            // Indexes were believed in order to tell deletes apart. Only without them is it the store's answers that
            // contradict each other; that its indexes lie is for the check `index_order` to say.
            Err(fault) => match search::search(&register, budget) {
                Found::Order => Judgement::Holds { searched: true },
                Found::None { .. } => broken(teller.fault(&fault)),
                Found::Exhausted => Judgement::Undecided(
                    "by the indexes in the answers it is broken, and the search that does without them was given up",
                ),
            },
        },
        Err(ambiguous) => match search::search(&register, budget) {
            Found::Order => Judgement::Holds { searched: true },
            Found::None { stuck_at } => broken(teller.stuck(stuck_at)),
            Found::Exhausted => Judgement::Undecided(match ambiguous {
                Ambiguous::Repeated => {
                    "a value was written twice, and the search that this needs was given up"
                }
                Ambiguous::Deletes => {
                    "which delete a read saw is not told, and the search that this needs was given up"
                }
            }),
        },
    }
}

/// The first, by its end, that saw a value which nobody wrote.
fn unwritten(register: &Register) -> Option<usize> {
    let mut written = vec![false; register.values as usize];
    written[ABSENT as usize] = true;
    for value in register.ops.iter().filter_map(|op| op.action.written()) {
        written[value as usize] = true;
    }
    let is_garbage =
        |op: &Op| !op.is_unknown() && op.action.observed().is_some_and(|value| !written[value as usize]);
    let garbage = register.ops.iter().enumerate().filter(|(_, op)| is_garbage(op));
    garbage.min_by_key(|(_, op)| op.end).map(|(number, _)| number)
}
