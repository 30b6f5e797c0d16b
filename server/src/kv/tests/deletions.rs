//! What is left of a deleted key, and for how long.

use super::*;
use crate::kv::{DELETION_ENTRIES, SCAN_VISITS_MAX};

#[test]
fn deleting_what_never_was_leaves_nothing_behind() {
    let mut store = filled(&[put(1, "a", "x")]);
    let (digest, keys) = (store.digest(), store.keys());
    assert_eq!(
        store.apply(&delete(2, "b")),
        did(2, Reply::Delete { existed: false })
    );
    assert_eq!((store.digest(), store.keys()), (digest, keys));
    assert_eq!(store.get("b"), Versioned::default());
    assert_eq!(
        store.events("", 2, 1000).unwrap().events,
        vec![],
        "nothing changed"
    );
    store.apply(&delete(3, "a"));
    assert_eq!(
        store.apply(&delete(4, "a")),
        did(4, Reply::Delete { existed: false })
    );
    assert_eq!(
        store.get("a").index,
        4,
        "a deletion that is remembered is renewed"
    );
}

/// Lets the log go on without changing anything.
fn idle(store: &mut Store, until: Index) {
    for index in store.applied() + 1..=until {
        store.apply(&Entry {
            payload: Bytes::new(),
            ..put(index, "", "")
        });
    }
}

#[test]
fn deletions_are_forgotten_with_the_same_entry_whatever_was_frozen_or_restored() {
    let entries = [
        put(1, "a", "1"),
        put(2, "b", "2"),
        put(3, "c", "3"),
        delete(4, "a"),
        delete(5, "b"),
        delete(6, "c"),
        put(7, "b", "again"),
    ];
    let (mut plain, mut store) = (filled(&entries), filled(&entries));
    idle(&mut plain, DELETION_ENTRIES + 3);
    idle(&mut store, DELETION_ENTRIES + 3);
    let copy = store.freeze().unwrap();
    let keys = copy
        .keys
        .iter()
        .map(|(key, version)| (key.clone(), version.clone()));
    let mut restored = Store::restore(copy.applied, keys, []);
    for store in [&plain, &store, &restored] {
        assert_eq!((store.get("a").index, store.keys()), (4, 3));
    }
    // One holds a copy still while it forgets, one was restored right before.
    for store in [&mut plain, &mut store, &mut restored] {
        idle(store, DELETION_ENTRIES + 4);
        assert_eq!(store.get("a"), Versioned::default());
        assert_eq!((store.get("c").index, store.keys()), (6, 2));
        idle(store, DELETION_ENTRIES + 6);
        assert_eq!(store.get("b").value.as_deref(), Some(&b"again"[..]));
        assert_eq!((store.get("c").index, store.keys()), (0, 1));
        let only_b = Store::restore(
            0,
            [(
                "b".to_owned(),
                Versioned {
                    value: Some("again".into()),
                    index: 7,
                },
            )],
            [],
        );
        assert_eq!(store.digest(), only_b.digest(), "nothing is left of them");
    }
    assert_eq!(copy.keys.len(), 3, "the copy stays as it was");
    drop(copy);
    assert!(store.thaw() && store.settle());
    assert_eq!(store.scan("", None, 10, 1000), plain.scan("", None, 10, 1000));
    assert_eq!((store.keys(), store.digest()), (1, plain.digest()));
}

#[test]
fn a_scan_looks_at_a_bounded_number_of_keys_and_says_where_it_goes_on() {
    let mut store = Store::default();
    let count = 2 * SCAN_VISITS_MAX as u64 + 10;
    for index in 1..=count {
        store.apply(&put(index, &format!("{index:08}"), "x"));
    }
    for index in 1..count {
        store.apply(&delete(count + index, &format!("{index:08}")));
    }
    let (mut start, mut calls, mut found) = (Some(String::new()), 0, Vec::new());
    while let Some(from) = start {
        let part = store.scan(&from, None, 10, 1000);
        found.extend(part.entries.into_iter().map(|(key, _)| key));
        (start, calls) = (part.next, calls + 1);
    }
    assert_eq!(found, [format!("{count:08}")]);
    assert_eq!(calls, 3, "two of them found nothing but deleted keys");
}
