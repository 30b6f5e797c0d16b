//! Who is recognised, who is refused, and who is remembered.

#![allow(clippy::unwrap_used)]

use super::*;

fn open(dir: &Path, peers: &[&str]) -> Members {
    let peers: Vec<PeerAddress> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    Members::open("node1", 7, 100, &peers, false, dir).unwrap()
}

/// A process of a node whose store has the number of its name.
fn process(name: &str, incarnation: u64) -> Introduction<'_> {
    let store_id = 100 * name.trim_start_matches("node").parse::<u64>().unwrap();
    Introduction {
        name,
        store_id,
        incarnation,
    }
}

#[test]
fn a_name_learned_once_is_held_on_to_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let members = open(dir.path(), &["localhost:2", "localhost:3"]);
    assert!(members.recognise(process("node2", 1)).unwrap().is_none());
    members.introduce(0, process("node2", 1)).unwrap();
    members.introduce(1, process("node3", 2)).unwrap();
    drop(members);

    let members = open(dir.path(), &["localhost:2", "localhost:4"]);
    for name in ["node2", "node3"] {
        assert!(members.recognise(process(name, 3)).unwrap().is_some());
    }
    assert!(!members.has_room());
    let error = members.introduce(1, process("node9", 3)).unwrap_err();
    assert!(matches!(error, MembersError::Stranger { .. }), "{error}");
    members.introduce(1, process("node3", 3)).unwrap();
    assert_eq!(
        members.name_and_address(NodeId::of("node3")),
        ("node3".into(), "localhost:4".into())
    );
}

#[test]
fn mistaken_identities_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let members = open(dir.path(), &["node2=localhost:2", "localhost:3"]);
    let error = |slot, name, incarnation| {
        let result = members.introduce(slot, process(name, incarnation));
        result.unwrap_err().to_string()
    };
    assert!(error(0, "node3", 1).contains("--peers calls it node2"));
    assert!(error(1, "node2", 1).contains("two nodes call themselves node2"));
    assert!(error(1, "node1", 7).contains("is this node itself"));
    assert!(error(1, "node1", 8).contains("two nodes call themselves node1"));
}

#[test]
fn a_known_name_with_another_store_is_refused_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let peers = ["node2=localhost:2", "node3=localhost:3"];
    let members = open(dir.path(), &peers);
    // One is met by dialling, the other because it dialled.
    members.introduce(0, process("node2", 1)).unwrap();
    assert!(members.recognise(process("node3", 1)).unwrap().is_some());
    let emptied = |name| Introduction {
        store_id: 999,
        ..process(name, 2)
    };
    for members in [members, open(dir.path(), &peers)] {
        for (slot, name) in ["node2", "node3"].into_iter().enumerate() {
            for error in [
                members.introduce(slot, emptied(name)).unwrap_err(),
                members.recognise(emptied(name)).unwrap_err(),
            ] {
                assert!(
                    matches!(error, MembersError::OtherStore { found: 999, .. }),
                    "{error}"
                );
                assert!(error.to_string().contains("restore the directory"), "{error}");
                assert!(members.report(&error));
            }
            members.introduce(slot, process(name, 3)).unwrap();
        }
    }
    let text = fs::read_to_string(dir.path().join("peers")).unwrap();
    assert!(text.contains("node2 00000000000000c8 "), "{text}");
}

#[test]
fn names_written_without_their_stores_are_understood() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("peers"),
        sealed("node2") + &sealed("node3 000000000000012c"),
    )
    .unwrap();
    let members = open(dir.path(), &["localhost:2", "localhost:3"]);
    members.introduce(0, process("node2", 1)).unwrap();
    members.introduce(1, process("node3", 1)).unwrap();
    for text in ["node2 12", "node2 ", "", "node2 0000000000000000"] {
        let text = sealed(text);
        fs::write(dir.path().join("peers"), &text).unwrap();
        let peers = ["localhost:2".parse().unwrap()];
        let error = Members::open("node1", 7, 100, &peers, false, dir.path()).err();
        assert!(matches!(error, Some(MembersError::Damaged { .. })), "{text:?}");
    }
}

#[test]
fn a_process_that_was_replaced_stays_out_and_one_that_keeps_coming_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let members = open(dir.path(), &["node2=localhost:2"]);
    let id = members.introduce(0, process("node2", 1)).unwrap();
    assert!(members.is_current(id, 1));
    members.recognise(process("node2", 2)).unwrap();
    assert!(!members.is_current(id, 1) && members.is_current(id, 2));
    for _ in 0..LATE_GREETINGS_MAX {
        let error = members.introduce(0, process("node2", 1)).unwrap_err();
        assert!(matches!(error, MembersError::Late { .. }) && !members.report(&error));
    }
    let error = members.recognise(process("node2", 1)).unwrap_err();
    assert!(matches!(error, MembersError::Replaced { .. }), "{error}");
    assert!(members.report(&error));
    members.introduce(0, process("node2", 2)).unwrap();
    members.introduce(0, process("node2", 3)).unwrap();
}

#[test]
fn flags_that_the_log_contradicts_are_told_and_others_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let members = open(dir.path(), &["localhost:2", "localhost:4", "localhost:9"]);
    members.introduce(1, process("node3", 1)).unwrap();
    let member = |name: &str, address: &str| {
        let member = crate::raft::Member {
            name: name.into(),
            address: address.into(),
            voter: true,
            outgoing_voter: false,
        };
        (NodeId::of(name), member)
    };
    let configuration = Configuration {
        members: [
            member("node1", "localhost:1"),
            member("node2", "localhost:2"),
            member("node3", "localhost:3"),
        ]
        .into(),
        ..Configuration::default()
    };
    assert_eq!(members.differences(&configuration, "localhost:1").len(), 2);
    let told = members.differences(&configuration, "localhost:7");
    assert!(
        told[0].contains("reached at localhost:7") && told[0].contains("localhost:1"),
        "{told:?}"
    );
    assert!(told[1].contains("node3 is at localhost:4"), "{told:?}");
    assert!(told[2].contains("localhost:9, where no member is"), "{told:?}");
}
