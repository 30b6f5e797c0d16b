//! Is there one order of all operations that explains every answer and agrees with real time?
//!
//! Each key by itself: a history is linearizable exactly if its part on every key is (Herlihy and Wing 1990).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use reports::record::{Check, CheckStatus, EventKind, Witness};

use super::history::History;
use super::naming::{self, Ambiguous};
use super::register::{ABSENT, Register, by_key};
use super::search::{self, Found};
use super::witness::Teller;
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
    let judgements = judge_all(history, budget);
    let operations = history.operations();
    let unknown = operations
        .iter()
        .filter(|one| history.outcome(one) == EventKind::Info)
        .count();
    let answered = operations
        .iter()
        .filter(|one| history.outcome(one) == EventKind::Ok)
        .count();
    let keys = history.keys().len();
    let looked_at = format!(
        "{} operations on {keys} keys, {unknown} of unknown outcome",
        operations.len()
    );

    let broken = judgements.iter().filter_map(|judgement| match judgement {
        Judgement::Broken(witness) => Some(witness.as_ref()),
        _ => None,
    });
    let (status, detail, witness) =
        if let Some(first) = broken.clone().min_by_key(|witness| shows_at(witness)) {
            let count = broken.count();
            let detail = format!(
                "{looked_at}; broken on {count} of them, first on {}: {}",
                first.key, first.sentence
            );
            (CheckStatus::Violation, detail, Some(first.clone()))
        } else if let Some((key, reason)) = first_undecided(history, &judgements) {
            (
                CheckStatus::Inconclusive,
                format!("{looked_at}; not decided on {key}: {reason}"),
                None,
            )
        } else if answered == 0 {
            (
                CheckStatus::Inconclusive,
                format!("{looked_at}, and not one was answered"),
                None,
            )
        } else {
            let searched = judgements
                .iter()
                .filter(|one| matches!(one, Judgement::Holds { searched: true }))
                .count();
            let how = match searched {
                0 => String::new(),
                _ => format!(" (found by search on {searched} keys whose values are not unique)"),
            };
            (
                CheckStatus::Pass,
                format!("{looked_at}: one order explains every answer{how}"),
                None,
            )
        };
    Check {
        name: "linearizable".into(),
        status,
        detail,
        witness,
    }
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
        ops: &register.ops,
    };
    let broken = |witness| Judgement::Broken(Box::new(witness));
    if let Some((seen_by, failed)) = unwritten(&register) {
        return broken(teller.unwritten(seen_by, failed));
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

/// The first, by its end, that saw a value which nobody wrote, and who failed to write it if somebody did.
fn unwritten(register: &Register) -> Option<(usize, Option<usize>)> {
    let mut written = vec![false; register.values as usize];
    written[ABSENT as usize] = true;
    for value in register.ops.iter().filter_map(|op| op.action.written()) {
        written[value as usize] = true;
    }
    let seen = register.ops.iter().enumerate().filter_map(|(number, op)| {
        let value = op
            .action
            .observed()
            .filter(|value| !op.is_unknown() && !written[*value as usize])?;
        Some((op.end, number, register.failed.get(&value).copied()))
    });
    seen.min().map(|(_, number, failed)| (number, failed))
}
