//! The state alone: every command, sessions, scans, history, and copies held still.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use proto::storage::{CloseSession, CompareAndSwap, Delete, OpenSession, Put};

mod deletions;
mod gate;

fn entry(index: Index, kind: Kind) -> Entry {
    let payload = Command {
        kind: Some(kind),
        stamp: None,
    }
    .encode_to_vec()
    .into();
    Entry {
        term: 1,
        index,
        kind: Default::default(),
        payload,
    }
}

fn did(index: Index, reply: Reply) -> Option<Applied> {
    Some(Applied { index, reply })
}

fn put(index: Index, key: &str, value: &'static str) -> Entry {
    entry(
        index,
        Kind::Put(Put {
            key: key.into(),
            value: value.into(),
        }),
    )
}

fn swap(index: Index, key: &str, expected: Option<&'static str>, value: &'static str) -> Entry {
    let expected = expected.map(Bytes::from);
    entry(
        index,
        Kind::CompareAndSwap(CompareAndSwap {
            key: key.into(),
            expected,
            value: value.into(),
        }),
    )
}

fn delete(index: Index, key: &str) -> Entry {
    entry(index, Kind::Delete(Delete { key: key.into() }))
}

fn filled(entries: &[Entry]) -> Store {
    let mut store = Store::default();
    for entry in entries {
        store.apply(entry);
    }
    store
}

#[test]
fn a_read_sees_the_last_write_and_its_index() {
    let store = filled(&[put(1, "a", "x"), put(2, "b", "y"), put(3, "a", "z")]);
    assert_eq!(
        store.get("a"),
        Versioned {
            value: Some("z".into()),
            index: 3
        }
    );
    assert_eq!(
        store.get("c"),
        Versioned {
            value: None,
            index: 0
        }
    );
}

#[test]
fn a_deletion_is_named_by_its_index() {
    let mut store = filled(&[put(1, "a", "x")]);
    assert_eq!(
        store.apply(&delete(2, "a")),
        did(2, Reply::Delete { existed: true })
    );
    assert_eq!(
        store.apply(&delete(3, "a")),
        did(3, Reply::Delete { existed: false })
    );
    assert_eq!(
        store.get("a"),
        Versioned {
            value: None,
            index: 3
        }
    );
}

#[test]
fn compare_and_swap_changes_nothing_on_a_mismatch() {
    let mut store = filled(&[put(1, "a", "x")]);
    let current = Versioned {
        value: Some("x".into()),
        index: 1,
    };
    assert_eq!(
        store.apply(&swap(2, "a", Some("y"), "z")),
        did(2, Reply::NotSwapped(current.clone()))
    );
    assert_eq!(
        store.apply(&swap(3, "a", None, "z")),
        did(3, Reply::NotSwapped(current))
    );
    assert_eq!(store.apply(&swap(4, "a", Some("x"), "z")), did(4, Reply::Swapped));
    assert_eq!(store.apply(&swap(5, "new", None, "1")), did(5, Reply::Swapped));
    assert_eq!(store.get("a").index, 4);
}

#[test]
fn the_digest_tells_maps_apart_and_forgets_what_was_overwritten() {
    let opened = Entry {
        term: 1,
        index: 1,
        kind: Default::default(),
        payload: Bytes::new(),
    };
    let direct = filled(&[opened.clone(), put(2, "a", "x")]);
    let detour = filled(&[put(1, "a", "other"), put(2, "a", "x")]);
    assert_eq!(direct.digest(), detour.digest(), "equal maps");
    for different in [put(2, "a", "y"), put(2, "b", "x"), delete(2, "a")] {
        assert_ne!(filled(&[opened.clone(), different]).digest(), direct.digest());
    }
    assert_ne!(
        filled(&[put(1, "a", "x")]).digest(),
        direct.digest(),
        "another index"
    );
}

#[test]
#[should_panic(expected = "in order")]
fn an_entry_is_never_applied_twice() {
    filled(&[put(1, "a", "x"), put(1, "a", "x")]);
}

fn stamped(index: Index, session_id: u64, sequence: u64, acknowledged: u64, kind: Kind) -> Entry {
    let stamp = Stamp {
        session_id,
        sequence,
        acknowledged,
    };
    let command = Command {
        kind: Some(kind),
        stamp: Some(stamp),
    };
    Entry {
        payload: command.encode_to_vec().into(),
        ..put(index, "", "")
    }
}

fn put_kind(key: &str, value: &'static str) -> Kind {
    Kind::Put(Put {
        key: key.into(),
        value: value.into(),
    })
}

fn open_session(index: Index) -> Entry {
    entry(index, Kind::OpenSession(proto::storage::OpenSession {}))
}

#[test]
fn a_retry_gets_the_first_reply_and_changes_nothing() {
    let mut store = filled(&[open_session(1), put(2, "a", "x")]);
    let swap = || {
        Kind::CompareAndSwap(CompareAndSwap {
            key: "a".into(),
            expected: Some("x".into()),
            value: "y".into(),
        })
    };
    assert_eq!(store.apply(&stamped(3, 1, 1, 0, swap())), did(3, Reply::Swapped));
    store.apply(&put(4, "a", "x"));
    assert_eq!(
        store.apply(&stamped(5, 1, 1, 0, swap())),
        did(3, Reply::Swapped),
        "not again"
    );
    assert_eq!(store.get("a").index, 4);
    let failed = store.apply(&stamped(
        6,
        1,
        2,
        1,
        Kind::CompareAndSwap(CompareAndSwap {
            key: "a".into(),
            expected: None,
            value: "z".into(),
        }),
    ));
    store.apply(&delete(7, "a"));
    let again = stamped(8, 1, 2, 1, put_kind("a", "whatever the retry says"));
    assert_eq!(store.apply(&again), failed, "also a failed comparison");
}

#[test]
fn a_session_remembers_large_replies_up_to_a_bound_and_goes_on_when_they_are_acknowledged() {
    let large = Kind::Put(Put {
        key: "k".into(),
        value: vec![b'v'; REPLY_BYTES_MAX / 2].into(),
    });
    let mut store = filled(&[open_session(1), entry(2, large)]);
    let swap = |index, sequence, acknowledged| {
        let swap = CompareAndSwap {
            key: "k".into(),
            expected: None,
            value: "z".into(),
        };
        stamped(index, 1, sequence, acknowledged, Kind::CompareAndSwap(swap))
    };
    let failed = store.apply(&swap(3, 1, 0));
    store.apply(&swap(4, 2, 0));
    assert_eq!(store.apply(&swap(5, 3, 0)), did(5, Reply::SequenceTooFar));
    assert_eq!(store.apply(&swap(6, 1, 0)), failed, "a retry has its reply still");
    let after = store.apply(&swap(7, 3, 1)).unwrap();
    assert!(matches!(after.reply, Reply::NotSwapped(_)), "there is room again");
}

#[test]
fn an_unknown_session_a_forgotten_reply_and_a_far_sequence_are_refused_by_name() {
    let mut store = filled(&[open_session(1)]);
    let one = |index, session, sequence, acknowledged| {
        stamped(index, session, sequence, acknowledged, put_kind("k", "v"))
    };
    assert_eq!(store.apply(&one(2, 99, 1, 0)), did(2, Reply::SessionExpired));
    assert_eq!(store.apply(&one(3, 1, 1, 0)), did(3, Reply::Put));
    assert_eq!(store.apply(&one(4, 1, 2, 1)), did(4, Reply::Put));
    assert_eq!(store.apply(&one(5, 1, 1, 1)), did(5, Reply::ReplyForgotten));
    assert_eq!(
        store.apply(&one(6, 1, 1, 0)),
        did(6, Reply::ReplyForgotten),
        "acknowledged stays acknowledged"
    );
    assert_eq!(
        store.apply(&one(7, 1, 1 + SEQUENCES_AHEAD_MAX + 1, 1)),
        did(7, Reply::SequenceTooFar)
    );
    assert_eq!(
        store.apply(&one(8, 1, 1 + SEQUENCES_AHEAD_MAX, 1)),
        did(8, Reply::Put)
    );
    let close = entry(
        9,
        Kind::CloseSession(proto::storage::CloseSession { session_id: 1 }),
    );
    assert_eq!(
        store.apply(&close),
        did(9, Reply::SessionClosed { existed: true })
    );
    assert_eq!(
        store.apply(&one(10, 1, 300, 1)),
        did(10, Reply::SessionExpired),
        "never opened again in silence"
    );
    assert_eq!(store.get("k").index, 8);
}

#[test]
fn the_session_used_longest_ago_makes_room_for_a_new_one() {
    let mut store = Store::default();
    let count = SESSIONS_MAX as u64;
    (1..=count).for_each(|index| drop(store.apply(&open_session(index))));
    store.apply(&stamped(count + 1, 1, 1, 0, put_kind("k", "v")));
    store.apply(&open_session(count + 2));
    assert_eq!(store.sessions(), SESSIONS_MAX);
    let used = |store: &mut Store, index, session| {
        store
            .apply(&stamped(index, session, 1, 0, put_kind("k", "v")))
            .unwrap()
            .reply
    };
    assert_eq!(used(&mut store, count + 3, 2), Reply::SessionExpired);
    assert_eq!(used(&mut store, count + 4, 1), Reply::Put);
    assert_eq!(used(&mut store, count + 5, 3), Reply::Put);
}

#[test]
fn a_configuration_changes_nothing_but_the_index() {
    let mut store = filled(&[put(1, "a", "x")]);
    let digest = store.digest();
    let configuration = Entry {
        kind: EntryKind::Configuration,
        ..put(2, "a", "not a command")
    };
    assert_eq!(store.apply(&configuration), None);
    assert_eq!((store.applied(), store.digest()), (2, digest));
}

#[test]
fn a_scan_goes_on_where_it_ended_and_passes_over_deleted_keys() {
    let mut store = filled(&[
        put(1, "a", "1"),
        put(2, "b", "2"),
        put(3, "c", "3"),
        put(4, "d", "4"),
        delete(5, "b"),
    ]);
    for _ in 0..2 {
        let mut found = Vec::new();
        let mut start = Some(String::new());
        while let Some(from) = start {
            let part = store.scan(&from, Some("d"), 1, 1000);
            found.extend(part.entries.into_iter().map(|(key, _)| key));
            start = part.next;
        }
        assert_eq!(found, ["a", "c"]);
        assert_eq!(
            store.scan("a", None, 10, 1).entries.len(),
            1,
            "at least one, however large"
        );
        assert_eq!(store.scan("b", None, 10, 4).entries.len(), 2);
        assert!(
            store.freeze().is_some() || store.thaw(),
            "the same while a copy is held still"
        );
    }
}

#[test]
fn events_come_in_order_and_say_how_far_they_reach() {
    let store = filled(&[
        put(1, "a1", "x"),
        put(2, "b", "y"),
        delete(3, "a1"),
        put(4, "a2", "z"),
    ]);
    let all = store.events("a", 1, 1000).unwrap();
    assert_eq!(
        all.events.iter().map(|event| event.index).collect::<Vec<_>>(),
        [1, 3, 4]
    );
    assert_eq!((all.up_to, all.events[1].value.clone()), (4, None));
    let first = store.events("a", 1, 1).unwrap();
    assert_eq!(
        (first.events.len(), first.up_to),
        (1, 2),
        "what lies between was not asked for"
    );
    assert_eq!(store.events("a", first.up_to + 1, 1).unwrap().events[0].index, 3);
    assert_eq!(
        store.events("", 9, 1).unwrap(),
        Events {
            events: vec![],
            up_to: 8
        }
    );
    assert_eq!(store.events("", 0, 1), Err(TooOld { first: 1 }));
    let later = Store::restore(7, [], []);
    assert_eq!(later.events("", 7, 1), Err(TooOld { first: 8 }));
    assert!(later.events("", 8, 1).is_ok());
}

#[test]
fn digests_of_the_past_are_kept_for_a_while() {
    let mut store = filled(&[put(1, "a", "1")]);
    let first = store.digest();
    store.apply(&put(2, "a", "2"));
    assert_eq!(
        (store.digest_at(1), store.digest_at(2)),
        (Some(first), Some(store.digest()))
    );
    assert_eq!((store.digest_at(0), store.digest_at(3)), (None, None));
    (3..70_000).for_each(|index| drop(store.apply(&put(index, "a", "x"))));
    assert_eq!(store.digest_at(2), None);
    assert!(store.digest_at(69_000).is_some());
}

/// A random history, with copies held still at random moments and the state replaced by what was restored from them:
/// always the same as the state that knows nothing of all that, and no retry ever changes anything.
#[test]
fn freezing_restoring_and_retrying_at_any_moment_change_nothing() {
    use proptest::prelude::*;
    let step = (0_u8..12, 0_u64..4, 0_u64..6, 0_u64..5);
    proptest!(|(steps in prop::collection::vec(step, 1..120))| {
        let (mut plain, mut store) = (Store::default(), Store::default());
        let mut frozen: Option<Frozen> = None;
        let mut done: BTreeMap<(u64, u64), Applied> = BTreeMap::new();
        for (number, (what, one, sequence, acknowledged)) in steps.into_iter().enumerate() {
            let index = number as u64 + 1;
            let key = format!("k{one}");
            let entry = match what {
                0 => open_session(index),
                1 => delete(index, &key),
                2 => entry(index, Kind::CloseSession(proto::storage::CloseSession { session_id: one })),
                3..7 => stamped(index, one + 1, sequence, acknowledged, put_kind(&key, "s")),
                _ => put(index, &key, "p"),
            };
            let before = store.get(&key);
            let applied = store.apply(&entry);
            prop_assert_eq!(&applied, &plain.apply(&entry));
            if (3..7).contains(&what) && let Some(applied) = applied {
                if applied.reply == Reply::Put {
                    let first = done.entry((one + 1, sequence)).or_insert_with(|| applied.clone());
                    // A session of the same id opens only once, so the same sequence is the same command.
                    prop_assert_eq!(&*first, &applied);
                }
                if applied.index != index {
                    prop_assert_eq!(store.get(&key), before, "a retry changed something");
                }
            }
            match (what, frozen.take()) {
                (7, None) => frozen = store.freeze(),
                (8, Some(copy)) => {
                    drop(copy);
                    prop_assert!(store.thaw());
                }
                (10, None) => prop_assert!(store.settle()),
                (9, Some(copy)) => {
                    let keys = copy.keys.iter().map(|(key, version)| (key.clone(), version.clone()));
                    let restored = Store::restore(copy.applied, keys, copy.sessions.clone());
                    prop_assert_eq!(restored.digest(), copy.digest);
                    prop_assert_eq!(Some(copy.digest), plain.digest_at(copy.applied));
                    frozen = Some(copy);
                }
                (_, kept) => frozen = kept,
            }
            prop_assert_eq!(store.digest(), plain.digest());
            prop_assert_eq!(store.scan("", None, 100, 10_000), plain.scan("", None, 100, 10_000));
        }
    });
}

#[test]
fn only_one_copy_is_held_still_at_a_time() {
    let mut store = filled(&[put(1, "a", "x")]);
    let copy = store.freeze().unwrap();
    assert!(store.freeze().is_none());
    store.apply(&put(2, "a", "y"));
    assert_eq!(copy.keys["a"].value.as_deref(), Some(&b"x"[..]));
    assert!(!store.thaw(), "somebody reads it");
    drop(copy);
    assert!(store.thaw());
    assert_eq!(store.get("a").value.as_deref(), Some(&b"y"[..]));
    assert!(
        store.freeze().is_none(),
        "what was written beside it has not moved yet"
    );
    assert!(store.settle());
    assert_eq!(store.get("a").value.as_deref(), Some(&b"y"[..]));
    assert!(store.freeze().is_some());
}
