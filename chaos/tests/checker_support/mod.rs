//! A simulated store that keeps its promises, and the history that clients of it would record.

#![allow(clippy::unwrap_used)]
// Each test and the benchmark use another part of it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reports::record::{Event, EventKind, Function, Value};

/// What is simulated.
#[derive(Clone, Copy)]
pub struct Simulation {
    pub operations: usize,
    pub clients: usize,
    pub keys: usize,
    /// Share of writes whose outcome the client never learns.
    pub unknown: f64,
    /// Share of operations that fail for certain.
    pub failed: f64,
    pub deletes: bool,
}

impl Default for Simulation {
    fn default() -> Self {
        Self {
            operations: 400,
            clients: 6,
            keys: 3,
            unknown: 0.05,
            failed: 0.05,
            deletes: false,
        }
    }
}

/// A history, and from when on its reads are the last look at each key.
#[derive(Clone)]
pub struct Simulated {
    pub events: Vec<Event>,
    pub final_reads_from: u64,
}

/// The seed of a randomised test, from `WHITEWATER_SEED` or the clock, printed for whoever has to repeat it.
pub fn seed() -> u64 {
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

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The lane's next operation begins.
    Begin { lane: usize },
    /// An operation takes effect; it may be over for its client by then.
    Effect { number: usize },
    /// The client learns, or gives up.
    End { number: usize, lane: usize },
}

struct Running {
    event: Event,
    kind: EventKind,
    answer: Value,
    index: u64,
}

struct Store {
    values: HashMap<String, (Option<String>, u64)>,
    index: u64,
}

impl Store {
    fn apply(&mut self, operation: &mut Running) {
        self.index += 1;
        let next = self.index;
        let slot = self
            .values
            .entry(operation.event.key.clone())
            .or_insert((None, 0));
        let fresh = match (operation.event.f, &operation.event.value) {
            (Function::Read, _) => {
                operation.answer = slot.0.clone().map_or(Value::Absent, Value::One);
                operation.index = slot.1;
                return;
            }
            (Function::Cas, Value::Pair(expected, new)) if *expected != slot.0 => {
                operation.answer = Value::Pair(slot.0.clone(), new.clone());
                operation.index = slot.1;
                // A client that waits for the answer learns of the mismatch.
                if operation.kind == EventKind::Ok {
                    operation.kind = EventKind::Fail;
                }
                return;
            }
            (Function::Cas, Value::Pair(_, new)) => new.clone(),
            (Function::Write, Value::One(new)) => Some(new.clone()),
            _ => None,
        };
        *slot = (fresh, next);
        operation.index = next;
    }
}

/// Runs a simulation.
pub fn simulate(simulation: Simulation, seed: u64) -> Simulated {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut store = Store {
        values: HashMap::new(),
        index: 0,
    };
    let mut steps = BinaryHeap::new();
    let mut running: Vec<Running> = Vec::with_capacity(simulation.operations);
    let mut events = Vec::with_capacity(simulation.operations * 2);
    let mut process: Vec<u64> = (0..simulation.clients as u64).collect();
    let mut next_process = simulation.clients as u64;
    for lane in 0..simulation.clients {
        steps.push(Reverse((rng.random_range(0..1_000_000u64), Step::Begin { lane })));
    }
    let mut last = 0;
    while let Some(Reverse((time, step))) = steps.pop() {
        last = time;
        match step {
            Step::Begin { lane } if running.len() < simulation.operations => {
                let number = running.len();
                let operation = draw(&mut rng, simulation, &store, process[lane], number, time);
                let effect = time + rng.random_range(1..1_000_000);
                let end = effect + rng.random_range(1..1_000_000);
                match operation.kind {
                    EventKind::Fail => {}
                    // Half of the unknown never happen; of the rest many happen long after the client gave up.
                    EventKind::Info if rng.random_bool(0.5) => {}
                    EventKind::Info => {
                        let late = time + rng.random_range(1..20_000_000);
                        steps.push(Reverse((late, Step::Effect { number })));
                    }
                    _ => steps.push(Reverse((effect, Step::Effect { number }))),
                }
                events.push(operation.event.clone());
                running.push(operation);
                steps.push(Reverse((end, Step::End { number, lane })));
            }
            Step::Begin { .. } => {}
            Step::Effect { number } => store.apply(&mut running[number]),
            Step::End { number, lane } => {
                events.push(ended(&running[number], time));
                if running[number].kind == EventKind::Info {
                    process[lane] = next_process;
                    next_process += 1;
                }
                steps.push(Reverse((
                    time + rng.random_range(1..500_000),
                    Step::Begin { lane },
                )));
            }
        }
    }
    let final_reads_from = last + 1;
    for key in 0..simulation.keys {
        let event = begin(
            next_process,
            Function::Read,
            format!("k{key}"),
            Value::Absent,
            final_reads_from,
        );
        let mut read = Running {
            event,
            kind: EventKind::Ok,
            answer: Value::Absent,
            index: 0,
        };
        store.apply(&mut read);
        events.push(read.event.clone());
        events.push(ended(&read, final_reads_from + 1000));
        next_process += 1;
    }
    Simulated {
        events,
        final_reads_from,
    }
}

fn draw(
    rng: &mut ChaCha8Rng,
    simulation: Simulation,
    store: &Store,
    process: u64,
    number: usize,
    time: u64,
) -> Running {
    let key = format!("k{}", rng.random_range(0..simulation.keys));
    let fresh = format!("v{number}");
    let (f, value) = match rng.random_range(0..100) {
        0..45 => (Function::Read, Value::Absent),
        45..55 if simulation.deletes => (Function::Delete, Value::Absent),
        45..80 => (Function::Write, Value::One(fresh)),
        _ => {
            let current = store.values.get(&key).and_then(|slot| slot.0.clone());
            (Function::Cas, Value::Pair(current, Some(fresh)))
        }
    };
    let kind = match rng.random_range(0.0..1.0) {
        draw if draw < simulation.failed => EventKind::Fail,
        draw if draw < simulation.failed + simulation.unknown => EventKind::Info,
        _ => EventKind::Ok,
    };
    let answer = value.clone();
    Running {
        event: begin(process, f, key, value, time),
        kind,
        answer,
        index: 0,
    }
}

fn begin(process: u64, f: Function, key: String, value: Value, time: u64) -> Event {
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

fn ended(operation: &Running, time: u64) -> Event {
    let mut event = operation.event.clone();
    (event.kind, event.time) = (operation.kind, time);
    if operation.index > 0 || operation.kind == EventKind::Ok {
        if operation.kind != EventKind::Info {
            event.value = operation.answer.clone();
            event.index = Some(operation.index);
        }
        event.node = Some(String::from("n1"));
    }
    event
}
