//! Workloads in a run: keys that the run itself adds are read once they exist, and not before.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use common::runs::*;
use common::*;
use loadgen::{Arrivals, Call, KeyChoice, Mix, Preset, Workload};
use reports::record::{EventKind, Function, Operation, Value};

#[tokio::test]
async fn inserted_keys_are_read_once_they_are_acknowledged_and_not_before() {
    let stub = Stub::start(1).await;
    let mut config = config(Arrivals::Closed { clients: 8 }, 500);
    Preset::YcsbD.apply(&mut config.workload);
    config.workload.mix = Mix::new([(Operation::Get, 50), (Operation::Insert, 50)]).unwrap();
    config.workload.keys = 20;
    let workload = Workload::new(config.workload.clone(), config.seed).unwrap();
    let client = stub.client();
    for (key, value) in workload.records() {
        let result = client
            .execute(&Call::Put { key, value }, Instant::now() + PATIENCE)
            .await;
        assert!(result.is_ok());
    }
    stub.set(Mood::UnknownEvery(7));
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    assert!(outcome.load.operations[&Operation::Insert].counts.unknown > 0);

    let mut acknowledged: BTreeSet<String> = workload.keys().map(|key| key.to_string()).collect();
    let mut inserted = BTreeSet::new();
    let mut reads_of_inserted = 0;
    for event in &outcome.history {
        match (event.f, event.kind) {
            (Function::Write, EventKind::Invoke) => {
                assert!(inserted.insert(event.key.clone()), "{}", event.key)
            }
            (Function::Write, EventKind::Ok) => {
                acknowledged.insert(event.key.clone());
            }
            (Function::Read, EventKind::Invoke) => {
                assert!(
                    acknowledged.contains(&event.key),
                    "{} is read too early",
                    event.key
                );
                reads_of_inserted += u64::from(inserted.contains(&event.key));
            }
            (Function::Read, EventKind::Ok) => assert_ne!(event.value, Value::Absent, "{}", event.key),
            _ => {}
        }
    }
    assert!(reads_of_inserted > 0);
    let expected: BTreeSet<String> = (0..inserted.len() as u64)
        .map(|ordinal| workload.key(workload.insert_key(ordinal)).to_string())
        .collect();
    assert_eq!(inserted, expected);
    assert_eq!(outcome.load.integrity_errors, 0);
}

#[tokio::test]
async fn a_swap_of_an_inserted_key_expects_what_the_run_last_saw() {
    let stub = Stub::start(1).await;
    let mut config = config(Arrivals::Closed { clients: 1 }, 300);
    config.workload.mix = Mix::new([(Operation::Cas, 2), (Operation::Insert, 1)]).unwrap();
    config.workload.keys = 1;
    config.workload.key_choice = KeyChoice::Latest { theta: 0.5 };
    let outcome = run(&stub, config).await;
    check_books(&outcome);
    // One client alone: nobody comes between what it saw and what it expects.
    let mut held = BTreeMap::<&str, Option<String>>::new();
    let mut swaps_of_inserted = 0;
    for event in outcome.history.iter().filter(|event| event.kind == EventKind::Ok) {
        let new = match &event.value {
            Value::One(new) => new,
            Value::Pair(expected, Some(new)) => {
                assert_eq!(
                    held.get(&*event.key).cloned().flatten(),
                    *expected,
                    "{}",
                    event.key
                );
                swaps_of_inserted += u64::from(event.key != "k0");
                new
            }
            other => panic!("{other:?}"),
        };
        held.insert(&event.key, Some(new.clone()));
    }
    assert!(swaps_of_inserted > 0);
    assert!(
        outcome
            .history
            .iter()
            .all(|event| event.error.as_deref() != Some("mismatch"))
    );
}
