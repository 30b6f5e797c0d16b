//! What is let in at the gate can be applied, whoever made it.

use super::*;

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0_u64..12, 1 => u64::MAX - 2..=u64::MAX]
}

fn any_kind() -> impl Strategy<Value = Option<Kind>> {
    let key = || prop::sample::select(vec!["", "a", "b"]).prop_map(str::to_owned);
    let value = || prop::collection::vec(any::<u8>(), 0..3).prop_map(Bytes::from);
    prop_oneof![
        Just(None),
        (key(), value()).prop_map(|(key, value)| Some(Kind::Put(Put { key, value }))),
        key().prop_map(|key| Some(Kind::Delete(Delete { key }))),
        (key(), prop::option::of(value()), value()).prop_map(|(key, expected, value)| {
            Some(Kind::CompareAndSwap(CompareAndSwap { key, expected, value }))
        }),
        Just(Some(Kind::OpenSession(OpenSession {}))),
        number().prop_map(|session_id| Some(Kind::CloseSession(CloseSession { session_id }))),
    ]
}

fn any_command() -> impl Strategy<Value = Bytes> {
    let stamp = (number(), number(), number()).prop_map(|(session_id, sequence, acknowledged)| Stamp {
        session_id,
        sequence,
        acknowledged,
    });
    let command = (any_kind(), prop::option::of(stamp))
        .prop_map(|(kind, stamp)| Bytes::from(Command { kind, stamp }.encode_to_vec()));
    prop_oneof![
        8 => command,
        1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from),
    ]
}

#[test]
fn a_stamp_on_what_is_no_write_is_refused_at_the_gate() {
    let stamp = Some(Stamp {
        session_id: 1,
        sequence: 1,
        acknowledged: 0,
    });
    let admitted = |kind: Kind, stamp| {
        let kind = Some(kind);
        is_command(&Command { kind, stamp }.encode_to_vec().into())
    };
    let close = Kind::CloseSession(CloseSession { session_id: 1 });
    for kind in [Kind::OpenSession(OpenSession {}), close] {
        assert!(admitted(kind.clone(), None));
        assert!(!admitted(kind, stamp));
    }
    assert!(admitted(Kind::Delete(Delete { key: "k".into() }), stamp));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever a leader may have committed is applied, and what comes of it can be written down and read again.
    #[test]
    fn whatever_passes_the_gate_is_applied(payloads in prop::collection::vec(any_command(), 0..60)) {
        let mut store = Store::default();
        for payload in payloads.into_iter().filter(is_command) {
            let empty = payload.is_empty();
            let entry = Entry {
                term: 1,
                index: store.applied() + 1,
                kind: Default::default(),
                payload,
            };
            prop_assert_eq!(store.apply(&entry).is_none(), empty);
        }
        let frozen = store.freeze().unwrap();
        let keys = frozen.keys.iter().map(|(key, version)| (key.clone(), version.clone()));
        let again = Store::restore(frozen.applied, keys, frozen.sessions.clone());
        prop_assert_eq!(again.digest(), frozen.digest);
    }
}
