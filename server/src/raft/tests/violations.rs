//! Peers that break the protocol: reported, not believed, and never the end of the node.

use bytes::Bytes;
use proptest::prelude::*;

use super::cluster::{Cluster, id};
use crate::raft::{
    AppendRequest, AppendResponse, AppendResult, Core, Entry, Heartbeat, HeartbeatResponse, Index, Message,
    Output, Position, ReadIndexRequest, ReadIndexResponse, RoleKind, SnapshotMeta, Term, Violation,
    VoteRequest, VoteResponse,
};

/// A leader, node 1, whose followers hold and have committed five entries.
fn led() -> Cluster {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    for text in ["a", "b", "c", "d"] {
        cluster.propose(1, text);
    }
    cluster.settle();
    cluster.run(4);
    assert!((1..=3).all(|node| cluster.node(node).core.commit() == 5));
    cluster
}

fn heartbeat(term: Term) -> Message {
    Message::Heartbeat(Heartbeat {
        term,
        commit: 0,
        read_seq: 0,
    })
}

fn append(term: Term, prev: Position, terms: &[Term]) -> Message {
    let entries = terms.iter().zip(prev.index + 1..).map(|(&term, index)| Entry {
        term,
        index,
        kind: Default::default(),
        payload: Bytes::from_static(b"forged"),
    });
    Message::AppendRequest(AppendRequest {
        term,
        prev,
        entries: entries.collect(),
        commit: prev.index + terms.len() as u64,
        read_seq: 0,
    })
}

/// Hands a forged request to a node, which reports it and has nothing to say to anybody.
fn reported(cluster: &mut Cluster, from: u64, to: u64, message: Message) -> Violation {
    cluster.wire.clear();
    let violation = cluster.node(to).core.receive_request(id(from), message);
    cluster.poll(id(to));
    assert!(cluster.wire.is_empty(), "nobody answers a violation");
    violation.expect_err("this breaks the protocol")
}

#[test]
fn who_claims_the_term_of_the_leader_is_reported_and_followed_by_nobody() {
    let mut cluster = led();
    let term = cluster.node(1).core.term();
    let last = cluster.node(1).core.last();
    for forged in [heartbeat(term), append(term, last, &[term])] {
        for to in [1, 2] {
            let (from, leader) = (id(3), id(1));
            assert_eq!(
                reported(&mut cluster, 3, to, forged.clone()),
                Violation::TwoLeaders { from, term, leader }
            );
            let core = &cluster.node(to).core;
            assert_eq!(
                (core.leader(), core.term(), core.last()),
                (Some(leader), term, last)
            );
        }
    }
    assert_eq!(cluster.node(1).core.role(), RoleKind::Leader);
    let index = cluster.propose(1, "after");
    cluster.settle();
    assert_eq!(cluster.node(1).core.commit(), index, "and everything goes on");
}

#[test]
fn a_claim_to_a_term_that_is_taken_does_not_hold_off_the_election() {
    let mut cluster = led();
    let term = cluster.node(1).core.term();
    let mut ticks = 0;
    while cluster.node(2).core.role() == RoleKind::Follower {
        let _ = cluster
            .node(2)
            .core
            .receive_request(id(3), heartbeat(term))
            .expect_err("node 1 leads that term");
        cluster.tick(id(2));
        ticks += 1;
        assert!(ticks < 1000, "the leader is silent, so node 2 must ask for votes");
    }
}

#[test]
fn entries_against_committed_ones_are_reported_and_replace_nothing() {
    let mut cluster = led();
    let (term, last) = (cluster.node(1).core.term(), cluster.node(2).core.last());
    let prev = Position { term, index: 3 };
    let forged = append(term + 1, prev, &[term, term + 1, term + 1]);
    assert_eq!(
        reported(&mut cluster, 3, 2, forged),
        Violation::CommittedEntry {
            from: id(3),
            index: 5,
            known: term,
            found: term + 1
        }
    );
    assert_eq!(cluster.node(2).core.last(), last);
}

#[test]
fn entries_against_the_end_of_a_snapshot_are_reported() {
    let mut cluster = led();
    cluster.compact(2, 0);
    let (term, base) = (cluster.node(2).core.term(), cluster.node(2).core.base());
    assert_eq!(base.index, 5);
    let earlier = Position { term: 0, index: 3 };
    // Terms that rise from one entry to the next, and still fall behind that of the snapshot.
    let forged = append(term, earlier, &[0, 0, 0]);
    let Message::AppendRequest(forged) = forged else {
        unreachable!("that is what was made")
    };
    assert_eq!(
        reported(&mut cluster, 1, 2, Message::AppendRequest(forged)),
        Violation::CommittedEntry {
            from: id(1),
            index: 5,
            known: term,
            found: 0
        }
    );
}

fn position() -> impl Strategy<Value = Position> {
    (0_u64..5, 0_u64..9).prop_map(|(term, index)| Position { term, index })
}

/// Appends as the gate lets them through: without gaps, in terms that never fall nor pass the leader's.
fn append_request() -> impl Strategy<Value = Message> {
    let steps = prop::collection::vec(0_u64..2, 0..6);
    (position(), steps, 0_u64..3, 0_u64..12).prop_map(|(prev, steps, above, commit)| {
        let mut term = prev.term;
        let terms: Vec<Term> = steps
            .iter()
            .map(|step| {
                term += step;
                term
            })
            .collect();
        let mut message = append(term + above, prev, &terms);
        if let Message::AppendRequest(request) = &mut message {
            request.commit = commit;
        }
        message
    })
}

fn request() -> impl Strategy<Value = Message> {
    let vote =
        (0_u64..6, position(), any::<bool>(), any::<bool>()).prop_map(|(term, last, pre_vote, transfer)| {
            Message::VoteRequest(VoteRequest {
                term,
                last,
                pre_vote,
                transfer,
            })
        });
    prop_oneof![
        vote,
        append_request(),
        (0_u64..6).prop_map(heartbeat),
        (0_u64..6).prop_map(|term| Message::TimeoutNow { term }),
        (0_u64..6, 0_u64..3).prop_map(|(term, id)| Message::ReadIndexRequest(ReadIndexRequest { term, id })),
    ]
}

fn response() -> impl Strategy<Value = Message> {
    let matched = (0_u64..12).prop_map(AppendResult::Matched);
    let rejected =
        (0_u64..12, position()).prop_map(|(rejected, hint)| AppendResult::Rejected { rejected, hint });
    let append = (0_u64..6, prop_oneof![matched, rejected], 0_u64..4).prop_map(|(term, result, read_seq)| {
        Message::AppendResponse(AppendResponse {
            term,
            result,
            read_seq,
        })
    });
    let read = (0_u64..6, 0_u64..3, prop::option::of(0_u64..12));
    prop_oneof![
        append,
        (0_u64..6, any::<bool>(), any::<bool>()).prop_map(|(term, granted, pre_vote)| {
            Message::VoteResponse(VoteResponse {
                term,
                granted,
                pre_vote,
            })
        }),
        (0_u64..6, 0_u64..4, any::<bool>()).prop_map(|(term, read_seq, unfit)| {
            Message::HeartbeatResponse(HeartbeatResponse {
                term,
                read_seq,
                unfit,
            })
        }),
        read.prop_map(|(term, id, index)| {
            Message::ReadIndexResponse(ReadIndexResponse { term, id, index })
        }),
    ]
}

/// What somebody does to a node who may say anything in the name of its peers.
#[derive(Debug, Clone)]
enum Attack {
    Request(Message),
    Response(Message),
    Snapshot(Term, Position),
    Ticks(u32),
}

fn attack() -> impl Strategy<Value = Attack> {
    prop_oneof![
        4 => request().prop_map(Attack::Request),
        2 => response().prop_map(Attack::Response),
        1 => (0_u64..6, position()).prop_map(|(term, last)| Attack::Snapshot(term, last)),
        1 => (1_u32..40).prop_map(Attack::Ticks),
    ]
}

/// Does what a driver does, with a disk that never keeps anybody waiting.
fn turn(core: &mut Core) -> Index {
    let mut output = Output::default();
    core.poll(&mut output);
    if let Some(io) = output.io {
        core.durable(io.seq);
    }
    output.apply.last().map_or(0, |entry| entry.index)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_message_that_passes_the_gate_ends_a_node(
        target in 1_u64..=3,
        compacted in any::<bool>(),
        attacks in prop::collection::vec((2_u64..=3, attack()), 0..40),
    ) {
        let mut cluster = led();
        if compacted {
            cluster.compact(target, 0);
        }
        let mut applied = cluster.node(target).core.commit();
        for (other, attack) in attacks {
            let from = if other == target { 1 } else { other };
            let epoch = cluster.epoch(target, from);
            let core = &mut cluster.node(target).core;
            match attack {
                Attack::Request(message) => drop(core.receive_request(id(from), message)),
                Attack::Response(message) => core.receive_response(id(from), epoch, message),
                Attack::Snapshot(term, last) if last.index > 0 && last.term <= term => {
                    let meta = SnapshotMeta { last, configuration: None };
                    if core.install(id(from), term, meta) == Ok(true) {
                        applied = last.index;
                    }
                }
                Attack::Snapshot(..) => {}
                Attack::Ticks(count) => (0..count).for_each(|_| core.tick()),
            }
            let before = applied;
            applied = applied.max(turn(core)).max(turn(core));
            prop_assert!(applied >= before && core.commit() >= applied, "what is committed stays so");
        }
    }
}
