//! The checkers against each other and against trying every order, on small random histories.

#![allow(clippy::unwrap_used)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reports::record::{Event, EventKind, Function, Value, Witness};

use super::history::History;
use super::linearizable::{Judgement, judge_all};
use super::register::{ABSENT, Action, NEVER, Op, Register};
use super::search::{self, Found};

/// How histories are drawn.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// Values are drawn from a few, so that some are written twice.
    repeated: bool,
    deletes: bool,
    /// Deletes and reads answer with an index that tells the truth.
    indexes: bool,
    /// Times are drawn from a few, so that many are equal.
    ties: bool,
}

/// Every order that agrees with real time, one after the other.
fn some_order_explains(ops: &[Op]) -> bool {
    fn go(ops: &[Op], done: u32, value: u32) -> bool {
        let open = |n: usize| done & (1 << n) == 0;
        if (0..ops.len()).all(|n| !open(n) || ops[n].is_unknown()) {
            return true;
        }
        let earliest_end = (0..ops.len())
            .filter(|n| open(*n))
            .map(|n| ops[n].end)
            .min()
            .unwrap();
        (0..ops.len())
            .filter(|n| open(*n) && ops[*n].start <= earliest_end)
            .any(|n| {
                let next = match ops[n].action {
                    Action::Read(seen) if seen == value => value,
                    Action::Write(left) => left,
                    Action::Swap(seen, left) if seen == value => left,
                    _ => return false,
                };
                go(ops, done | 1 << n, next)
            })
    }
    go(ops, 0, ABSENT)
}

/// A few operations of a few processes, with answers that are plausible rather than right.
fn random_history(rng: &mut ChaCha8Rng, shape: Shape) -> Vec<Event> {
    let count = rng.random_range(1..=7);
    let processes = rng.random_range(1..=4u64);
    let unknown = [0.0, 0.2, 0.4][rng.random_range(0..3)];
    let mut time = vec![0u64; processes as usize];
    let mut retired = 0;
    let mut identity: Vec<u64> = (0..processes).collect();
    let mut written: Vec<Option<String>> = vec![None];
    let mut deletes: Vec<u64> = Vec::new();
    let mut events = Vec::new();
    for number in 0..count {
        let lane = rng.random_range(0..processes) as usize;
        let step = if shape.ties { 3 } else { 1_000_000 };
        let start = time[lane] + rng.random_range(0..=step);
        let end = start + rng.random_range(0..=2 * step);
        time[lane] = end;
        let fresh = match shape.repeated {
            true => format!("v{}", rng.random_range(0..3)),
            false => format!("v{number}"),
        };
        let old = written[rng.random_range(0..written.len())].clone();
        let (f, asked) = match rng.random_range(0..10) {
            0..4 => (Function::Read, Value::Absent),
            4..7 => (Function::Write, Value::One(fresh.clone())),
            7 if shape.deletes => (Function::Delete, Value::Absent),
            _ => (Function::Cas, Value::Pair(old.clone(), Some(fresh.clone()))),
        };
        let kind = match rng.random_range(0.0..1.0) {
            draw if draw < unknown => EventKind::Info,
            draw if draw > 0.93 => EventKind::Fail,
            _ => EventKind::Ok,
        };
        let mut event = event(identity[lane], f, asked.clone(), start);
        events.push(event.clone());
        (event.kind, event.time) = (kind, end);
        match (f, kind) {
            (Function::Read, EventKind::Ok) => {
                event.value = old.clone().map_or(Value::Absent, Value::One);
                if shape.indexes && old.is_none() {
                    let known = deletes.len() as u64 + 1;
                    event.index = Some(rng.random_range(0..known));
                }
            }
            (Function::Read, _) => {}
            (Function::Cas, EventKind::Fail) if rng.random_bool(0.7) => {
                event.value = Value::Pair(old.clone(), Some(fresh.clone()));
            }
            (Function::Delete, _) => {
                deletes.push(number);
                event.index = (shape.indexes && kind == EventKind::Ok).then_some(deletes.len() as u64);
            }
            _ => written.push(Some(fresh)),
        }
        if kind == EventKind::Info {
            identity[lane] = processes + retired;
            retired += 1;
        }
        // Some are still open when the history ends.
        if kind != EventKind::Info || rng.random_bool(0.5) {
            events.push(event);
        }
    }
    events
}

fn event(process: u64, f: Function, value: Value, time: u64) -> Event {
    let key = String::from("k");
    let kind = EventKind::Invoke;
    Event {
        process,
        kind,
        f,
        key,
        value,
        time,
        index: None,
        node: None,
        term: None,
        error: None,
    }
}

/// The seed of a randomised test, from `WHITEWATER_SEED` or the clock, printed for whoever has to repeat it.
fn seed() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed = match std::env::var("WHITEWATER_SEED") {
        Ok(text) => text.parse().expect("WHITEWATER_SEED is a number"),
        Err(_) => now.as_nanos() as u64,
    };
    println!("WHITEWATER_SEED={seed}");
    seed
}

fn told(events: &[Event]) -> String {
    events
        .iter()
        .map(|event| serde_json::to_string(event).unwrap() + "\n")
        .collect()
}

/// A violation is proved by its witness alone: it remains one when nothing is known of the other operations but what
/// they would have written.
fn proves_by_itself(ops: &[Op], history: &History<'_>, witness: &Witness) -> bool {
    let named = |op: &Op| {
        let began = history.invocation(&history.operations()[op.operation]);
        witness.operations.iter().any(|(other, _)| other == began)
    };
    let hidden = |op: &Op| match op.action {
        Action::Read(_) if !named(op) => None,
        _ if named(op) => Some(*op),
        _ => Some(Op {
            end: NEVER,
            index: None,
            ..*op
        }),
    };
    !some_order_explains(&ops.iter().filter_map(hidden).collect::<Vec<_>>())
}

/// Returns how many histories had an order, and how many of the rest were decided by the zone checker.
fn compare(count: usize, shape: Shape) -> [usize; 2] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let mut counts = [0; 2];
    for _ in 0..count {
        let events = random_history(&mut rng, shape);
        let history = History::new(&events).unwrap_or_else(|error| panic!("{error}\n{}", told(&events)));
        let register = Register::new(&history, &(0..history.operations().len()).collect::<Vec<_>>());
        let expected = some_order_explains(&register.ops);
        let searched = search::search(&register, search::BUDGET);
        assert_ne!(searched, Found::Exhausted);
        assert_eq!(
            searched == Found::Order,
            expected,
            "the search is wrong about\n{}",
            told(&events)
        );
        match &judge_all(&history, search::BUDGET)[0] {
            Judgement::Holds { searched } => {
                assert!(expected, "not found to be broken:\n{}", told(&events));
                assert!(
                    shape.repeated || shape.deletes || !searched,
                    "not decided exactly"
                );
            }
            Judgement::Broken(witness) => {
                assert!(
                    !expected,
                    "{} is a false alarm:\n{}",
                    witness.sentence,
                    told(&events)
                );
                assert!((1..=4).contains(&witness.operations.len()), "{witness:?}");
                if !shape.repeated && !shape.deletes {
                    assert!(
                        proves_by_itself(&register.ops, &history, witness),
                        "{} does not follow from {:#?}\n{}",
                        witness.sentence,
                        witness.operations,
                        told(&events)
                    );
                }
            }
            Judgement::Undecided(reason) => panic!("{reason}"),
        }
        counts[usize::from(!expected)] += 1;
    }
    println!("{} with an order, {} without", counts[0], counts[1]);
    counts
}

fn both_kinds_were_seen(counts: [usize; 2]) {
    let total = counts[0] + counts[1];
    assert!(
        counts.iter().all(|count| *count > total / 20),
        "one-sided: {counts:?}"
    );
}

#[test]
fn unique_values_agree_with_trying_every_order() {
    both_kinds_were_seen(compare(20_000, Shape::default()));
}

#[test]
fn unique_values_with_equal_times_agree_with_trying_every_order() {
    both_kinds_were_seen(compare(
        20_000,
        Shape {
            ties: true,
            ..Shape::default()
        },
    ));
}

#[test]
fn repeated_values_agree_with_trying_every_order() {
    both_kinds_were_seen(compare(
        10_000,
        Shape {
            repeated: true,
            ..Shape::default()
        },
    ));
}

#[test]
fn deletes_agree_with_trying_every_order() {
    both_kinds_were_seen(compare(
        10_000,
        Shape {
            deletes: true,
            ..Shape::default()
        },
    ));
}

#[test]
fn deletes_named_by_any_index_agree_with_trying_every_order() {
    both_kinds_were_seen(compare(
        10_000,
        Shape {
            deletes: true,
            indexes: true,
            ..Shape::default()
        },
    ));
    both_kinds_were_seen(compare(
        10_000,
        Shape {
            deletes: true,
            indexes: true,
            ties: true,
            ..Shape::default()
        },
    ));
}

#[test]
fn the_search_says_so_when_its_budget_is_spent() {
    let mut events = Vec::new();
    for process in 0..30u64 {
        events.push(event(
            process,
            Function::Write,
            Value::One(format!("v{}", process % 3)),
            process,
        ));
    }
    for process in 0..30u64 {
        let mut end = event(
            process,
            Function::Write,
            Value::One(format!("v{}", process % 3)),
            100 + process,
        );
        end.kind = EventKind::Ok;
        events.push(end);
    }
    let history = History::new(&events).unwrap();
    assert!(matches!(judge_all(&history, 1000)[0], Judgement::Undecided(_)));
}
