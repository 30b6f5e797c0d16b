//! Planted faults: histories of a store that keeps its promises pass, and each way of spoiling one is caught.

#![allow(clippy::unwrap_used)]

mod checker_support;

use std::collections::HashSet;

use chaos::checker::{Options, check_history, outcome};
use checker_support::{Simulated, Simulation, seed, simulate};
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reports::record::{CheckStatus, Event, EventKind, Function, Outcome, Value};

/// Numbers of the events with which an operation begins and ends.
#[derive(Clone, Copy)]
struct Pair {
    began: usize,
    ended: usize,
}

/// Operations that ended as `kind`, by what they did.
fn pairs(events: &[Event], f: Function, kind: EventKind) -> Vec<Pair> {
    let mut open = std::collections::HashMap::new();
    let mut found = Vec::new();
    for (number, event) in events.iter().enumerate() {
        if event.kind == EventKind::Invoke {
            open.insert(event.process, number);
        } else if let Some(began) = open.remove(&event.process)
            && event.f == f
            && event.kind == kind
        {
            found.push(Pair { began, ended: number });
        }
    }
    found
}

fn failed_checks(history: &Simulated) -> HashSet<String> {
    let options = Options {
        final_reads_from: Some(history.final_reads_from),
        ..Options::default()
    };
    let checks = check_history(&history.events, &options);
    let broken = checks
        .into_iter()
        .filter(|check| check.status == CheckStatus::Violation);
    broken.map(|check| check.name).collect()
}

/// Two acknowledged writes and a later read of one key, where the first write was over before the second began.
fn written_over(history: &Simulated, last_look: bool, rng: &mut ChaCha8Rng) -> Option<(Pair, Pair, Pair)> {
    let events = &history.events;
    let writes = pairs(events, Function::Write, EventKind::Ok);
    let reads = pairs(events, Function::Read, EventKind::Ok);
    let time = |number: usize| events[number].time;
    let mut found = Vec::new();
    for read in reads
        .iter()
        .filter(|read| (time(read.began) >= history.final_reads_from) == last_look)
    {
        let before = |other: &&Pair| {
            events[other.began].key == events[read.began].key && time(other.ended) < time(read.began)
        };
        let Some(second) = writes.iter().filter(before).max_by_key(|write| write.ended) else {
            continue;
        };
        let over = |first: &&Pair| before(first) && time(first.ended) < time(second.began);
        let Some(first) = writes.iter().filter(over).max_by_key(|write| write.ended) else {
            continue;
        };
        found.push((*first, *second, *read));
    }
    found.choose(rng).copied()
}

/// A read answers with what had been overwritten before it began.
fn stale_read(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let Some((first, _, read)) = written_over(history, false, rng) else {
        return false;
    };
    let events = &mut history.events;
    events[read.ended].value = events[first.ended].value.clone();
    events[read.ended].index = events[first.ended].index;
    true
}

/// At the end, an acknowledged write is not there.
fn lost_write(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let Some((first, _, read)) = written_over(history, true, rng) else {
        return false;
    };
    let events = &mut history.events;
    events[read.ended].value = events[first.ended].value.clone();
    events[read.ended].index = events[first.ended].index;
    true
}

/// At the end, nothing is there.
fn lost_everything(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let Some((_, _, read)) = written_over(history, true, rng) else {
        return false;
    };
    history.events[read.ended].value = Value::Absent;
    history.events[read.ended].index = Some(0);
    true
}

/// Two reads have changed places, and the first has seen what was not written yet.
fn swapped_values(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let events = &mut history.events;
    let reads = pairs(events, Function::Read, EventKind::Ok);
    let writes = pairs(events, Function::Write, EventKind::Ok);
    let mut found = Vec::new();
    for second in &reads {
        let wrote = |write: &&Pair| events[write.ended].value == events[second.ended].value;
        let Some(write) = writes.iter().find(wrote) else {
            continue;
        };
        let early = |first: &&Pair| {
            events[first.began].key == events[second.began].key
                && events[first.ended].time < events[write.began].time
        };
        found.extend(reads.iter().find(early).map(|first| (*first, *second)));
    }
    let Some((first, second)) = found.choose(rng).copied() else {
        return false;
    };
    let value = events[first.ended].value.clone();
    events[first.ended].value = std::mem::replace(&mut events[second.ended].value, value);
    true
}

/// A read answers with a value whose write had failed for certain.
fn resurrected_write(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let events = &mut history.events;
    let failed = pairs(events, Function::Write, EventKind::Fail);
    let reads = pairs(events, Function::Read, EventKind::Ok);
    let Some(failed) = failed.choose(rng) else {
        return false;
    };
    let same_key = reads
        .iter()
        .filter(|read| events[read.began].key == events[failed.began].key);
    let Some(read) = same_key.collect::<Vec<_>>().choose(rng).copied().copied() else {
        return false;
    };
    events[read.ended].value = events[failed.began].value.clone();
    true
}

/// Two compare-and-swaps succeed on the same value.
fn lost_update(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let events = &mut history.events;
    let swaps = pairs(events, Function::Cas, EventKind::Ok);
    let mut found = Vec::new();
    for (n, first) in swaps.iter().enumerate() {
        let second = swaps[n + 1..]
            .iter()
            .find(|second| events[second.began].key == events[first.began].key);
        found.extend(second.map(|second| (*first, *second)));
    }
    let Some((first, second)) = found.choose(rng).copied() else {
        return false;
    };
    let Value::Pair(expected, _) = events[first.began].value.clone() else {
        return false;
    };
    for number in [second.began, second.ended] {
        let Value::Pair(_, new) = events[number].value.clone() else {
            return false;
        };
        events[number].value = Value::Pair(expected.clone(), new);
    }
    true
}

/// An acknowledged write never takes effect: whoever should have read it reads what was there before.
fn dropped_write(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let Some((first, second, _)) = written_over(history, true, rng) else {
        return false;
    };
    let events = &mut history.events;
    let old = events[first.ended].value.clone();
    let lost = events[second.ended].value.clone();
    let mut changed = false;
    for read in pairs(events, Function::Read, EventKind::Ok) {
        if events[read.ended].value == lost {
            changed |= events[read.began].time > events[second.ended].time;
            events[read.ended].value = old.clone();
        }
    }
    changed
}

/// Two writes are told the same index.
fn shared_index(history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
    let events = &mut history.events;
    let writes = pairs(events, Function::Write, EventKind::Ok);
    let Some(first) = writes.choose(rng) else {
        return false;
    };
    let other = writes
        .iter()
        .find(|other| other.ended != first.ended && events[other.began].key == events[first.began].key);
    let Some(other) = other else { return false };
    events[other.ended].index = events[first.ended].index;
    true
}

type Spoil = fn(&mut Simulated, &mut ChaCha8Rng) -> bool;

/// Spoils many histories in one way; every one must be caught by the checks named. Not every history can be spoiled in
/// every way, so it goes on until enough were.
fn caught_every_time(simulation: Simulation, spoil: Spoil, checks: &[&str]) {
    const SPOILED: u64 = 25;
    const HISTORIES_MAX: u64 = 20 * SPOILED;
    let seed = seed();
    let mut spoiled = 0;
    for number in 0..HISTORIES_MAX {
        let clean = simulate(simulation, seed.wrapping_add(number));
        assert!(
            failed_checks(&clean).is_empty(),
            "history {number} is clean: {:?}",
            failed_checks(&clean)
        );
        let mut history = clean;
        if !spoil(&mut history, &mut ChaCha8Rng::seed_from_u64(seed ^ number)) {
            continue;
        }
        spoiled += 1;
        let failed = failed_checks(&history);
        for check in checks {
            assert!(
                failed.contains(*check),
                "history {number}: {check} did not see it, only {failed:?}"
            );
        }
        if spoiled == SPOILED {
            return;
        }
    }
    panic!("only {spoiled} of {HISTORIES_MAX} histories could be spoiled");
}

#[test]
fn a_stale_read_is_caught() {
    caught_every_time(
        Simulation::default(),
        stale_read,
        &["linearizable", "index_order"],
    );
}

#[test]
fn a_lost_write_is_caught() {
    caught_every_time(
        Simulation::default(),
        lost_write,
        &["linearizable", "lost_writes", "index_order"],
    );
}

#[test]
fn a_store_that_lost_everything_is_caught() {
    caught_every_time(
        Simulation::default(),
        lost_everything,
        &["linearizable", "lost_writes", "index_order"],
    );
}

#[test]
fn swapped_values_are_caught() {
    caught_every_time(
        Simulation::default(),
        swapped_values,
        &["linearizable", "index_order"],
    );
}

#[test]
fn a_failed_write_that_comes_back_is_caught() {
    caught_every_time(Simulation::default(), resurrected_write, &["linearizable"]);
}

#[test]
fn a_lost_update_is_caught() {
    caught_every_time(Simulation::default(), lost_update, &["linearizable"]);
}

#[test]
fn an_acknowledged_write_that_never_happened_is_caught() {
    caught_every_time(Simulation::default(), dropped_write, &["linearizable"]);
}

#[test]
fn an_index_given_twice_is_caught() {
    caught_every_time(Simulation::default(), shared_index, &["index_order"]);
}

#[test]
fn stale_reads_and_lost_writes_are_caught_among_deletes() {
    let simulation = Simulation {
        deletes: true,
        ..Simulation::default()
    };
    caught_every_time(simulation, stale_read, &["linearizable", "index_order"]);
    caught_every_time(simulation, lost_write, &["linearizable", "index_order"]);
}

#[test]
fn the_checks_do_without_indexes() {
    fn without_indexes(spoil: Spoil, history: &mut Simulated, rng: &mut ChaCha8Rng) -> bool {
        let done = spoil(history, rng);
        history.events.iter_mut().for_each(|event| event.index = None);
        done
    }
    let simulation = Simulation::default();
    caught_every_time(
        simulation,
        |history, rng| without_indexes(stale_read, history, rng),
        &["linearizable"],
    );
    let checks = &["linearizable", "lost_writes"];
    caught_every_time(
        simulation,
        |history, rng| without_indexes(lost_write, history, rng),
        checks,
    );
}

#[test]
fn thousands_of_clean_operations_are_not_flagged() {
    let seed = seed();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for number in 0..4 {
        let deletes = number % 2 == 1;
        let simulation = Simulation {
            operations: 10_000,
            clients: rng.random_range(8..40),
            keys: rng.random_range(1..20),
            unknown: 0.1,
            failed: 0.1,
            deletes,
        };
        let mut history = simulate(simulation, seed.wrapping_add(number));
        let options = Options {
            final_reads_from: Some(history.final_reads_from),
            ..Options::default()
        };
        let checks = check_history(&history.events, &options);
        assert_eq!(outcome(&checks), Outcome::Pass, "{checks:#?}");
        assert_eq!(checks.len(), 3);
        assert!(
            !checks[0].detail.contains("search"),
            "not decided exactly: {}",
            checks[0].detail
        );
        if !deletes {
            history.events.iter_mut().for_each(|event| event.index = None);
            let checks = check_history(&history.events, &options);
            assert_eq!(outcome(&checks), Outcome::Pass, "{checks:#?}");
            assert_eq!(checks.len(), 2, "no index to check");
        }
    }
}

#[test]
fn deletes_without_indexes_are_found_clean_by_search() {
    let simulation = Simulation {
        operations: 1500,
        deletes: true,
        ..Simulation::default()
    };
    let mut history = simulate(simulation, seed());
    history.events.iter_mut().for_each(|event| event.index = None);
    let checks = check_history(&history.events, &Options::default());
    assert_eq!(outcome(&checks), Outcome::Pass, "{checks:#?}");
    assert!(checks[0].detail.contains("search"), "{}", checks[0].detail);
}

#[test]
fn the_result_does_not_depend_on_the_order_of_keys_or_on_chance() {
    let mut history = simulate(
        Simulation {
            keys: 8,
            ..Simulation::default()
        },
        seed(),
    );
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..5 {
        stale_read(&mut history, &mut rng);
    }
    let options = Options {
        final_reads_from: Some(history.final_reads_from),
        ..Options::default()
    };
    let first = check_history(&history.events, &options);
    for _ in 0..10 {
        assert_eq!(check_history(&history.events, &options), first);
    }
}
