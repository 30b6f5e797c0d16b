//! What comes late, in parts, or from somebody who has lost his office. Each test fails when the check that it is named
//! after is taken out of the core.

use super::cluster::{Cluster, id};
use crate::raft::{
    AppendRequest, AppendResponse, AppendResult, Entry, Heartbeat, HeartbeatResponse, Index, Message,
    Position, RoleKind, Term, VoteResponse,
};

fn matched(term: Term, index: Index) -> Message {
    Message::AppendResponse(AppendResponse {
        term,
        result: AppendResult::Matched(index),
        read_seq: 0,
    })
}

fn append(term: Term, prev: (Term, Index), terms: &[Term], commit: Index) -> Message {
    let entries = terms.iter().zip(prev.1 + 1..).map(|(&term, index)| Entry {
        term,
        index,
        kind: Default::default(),
        payload: Default::default(),
    });
    Message::AppendRequest(AppendRequest {
        term,
        prev: Position {
            term: prev.0,
            index: prev.1,
        },
        entries: entries.collect(),
        commit,
        read_seq: 0,
    })
}

/// What node `from` answered to node `to` so far.
fn answers(cluster: &mut Cluster, from: u64, to: u64) -> Vec<Message> {
    cluster.sync_one(id(from));
    let flights = cluster
        .wire
        .iter()
        .filter(|flight| flight.from == id(from) && flight.to == id(to));
    flights.map(|flight| flight.message.clone()).collect()
}

#[test]
fn a_leader_does_not_count_its_own_copy_before_it_is_on_disk() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    let (term, index) = (cluster.node(1).core.term(), cluster.propose(1, "a"));
    cluster.respond(2, 1, matched(term, index));
    assert!(cluster.node(1).core.commit() < index, "one disk of three has it");
    cluster.sync_one(id(1));
    assert_eq!(cluster.node(1).core.commit(), index);
}

#[test]
fn copies_of_an_entry_of_an_earlier_term_commit_nothing() {
    // Figure 8 of the Raft paper: a majority holds the old entry, but not yet the one that opens the new term, and a
    // node with a later last term could still be elected and cut it off.
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    cluster.isolate(id(1));
    let old = cluster.propose(1, "a");
    cluster.settle();
    // Restarted, all of them forget the commit index, and nobody remembers a leader.
    (1..=3).for_each(|node| cluster.crash(id(node)));
    let term = elect_by_hand(&mut cluster);
    cluster.sync_one(id(1));
    cluster.respond(2, 1, matched(term, old));
    cluster.respond(3, 1, matched(term, old));
    assert_eq!(
        cluster.node(1).core.commit(),
        0,
        "three copies, but none of this term"
    );
    cluster.respond(2, 1, matched(term, old + 1));
    assert_eq!(cluster.node(1).core.commit(), old + 1);
}

/// Lets node 1 win an election with the vote of node 2, of which nobody else hears. Returns its term.
fn elect_by_hand(cluster: &mut Cluster) -> Term {
    let term = stand_by_hand(cluster);
    cluster.respond(2, 1, vote(term, false));
    assert!(cluster.leads(1));
    cluster.wire.clear();
    term
}

/// Makes node 1 a candidate whose own vote is on its disk, while nothing it says arrives.
fn stand_by_hand(cluster: &mut Cluster) -> Term {
    while cluster.node(1).core.role() != RoleKind::PreCandidate {
        cluster.tick(id(1));
    }
    let term = cluster.node(1).core.term() + 1;
    cluster.respond(2, 1, vote(term, true));
    cluster.sync_one(id(1));
    let core = &cluster.node(1).core;
    assert_eq!((core.role(), core.term()), (RoleKind::Candidate, term));
    cluster.wire.clear();
    term
}

fn vote(term: Term, pre_vote: bool) -> Message {
    Message::VoteResponse(VoteResponse {
        term,
        granted: true,
        pre_vote,
    })
}

#[test]
fn a_follower_commits_only_what_the_message_has_shown_to_match() {
    let mut cluster = Cluster::new(3, 2);
    cluster.isolate(id(2));
    // Entries 2 and 3 come from a leader that lost its office before it could commit them.
    cluster.request(1, 2, append(1, (0, 0), &[1, 1, 1], 0));
    cluster.request(3, 2, append(2, (1, 1), &[], 3));
    assert_eq!(
        cluster.node(2).core.commit(),
        1,
        "entries 2 and 3 may not be those that were committed"
    );
    cluster.request(3, 2, append(2, (1, 1), &[2], 3));
    assert_eq!(cluster.node(2).core.commit(), 2);
}

#[test]
fn a_follower_acknowledges_only_what_the_message_has_shown_to_match() {
    let mut cluster = Cluster::new(3, 2);
    cluster.request(1, 2, append(1, (0, 0), &[1, 1, 1], 0));
    cluster.sync_one(id(2));
    cluster.request(3, 2, append(2, (1, 1), &[], 0));
    assert_eq!(
        answers(&mut cluster, 2, 3),
        [matched(2, 1)],
        "its log goes on to 3, but with somebody else's entries"
    );
}

#[test]
fn a_leader_of_the_past_is_told_the_present_term() {
    let mut cluster = Cluster::new(3, 2);
    cluster.request(3, 2, append(5, (0, 0), &[5], 0));
    cluster.sync_one(id(2));
    cluster.request(1, 2, append(4, (0, 0), &[4], 0));
    match answers(&mut cluster, 2, 1).as_slice() {
        [Message::AppendResponse(response)] => {
            assert_eq!(response.term, 5);
            assert!(matches!(response.result, AppendResult::Rejected { .. }));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(cluster.node(2).core.last(), Position { term: 5, index: 1 });
    let heartbeat = Message::Heartbeat(Heartbeat {
        term: 4,
        commit: 1,
        read_seq: 9,
    });
    cluster.request(1, 2, heartbeat);
    let answer = Message::HeartbeatResponse(HeartbeatResponse {
        term: 5,
        read_seq: 0,
        unfit: false,
    });
    assert!(answers(&mut cluster, 2, 1).contains(&answer));
    assert_eq!(cluster.node(2).core.commit(), 0);
}

#[test]
fn an_answer_from_an_earlier_connection_counts_for_nothing() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    let earlier = cluster.epoch(1, 2);
    cluster.isolate(id(2));
    cluster.isolate(id(3));
    let (term, index) = (cluster.node(1).core.term(), cluster.propose(1, "a"));
    cluster.sync_one(id(1));
    cluster.connect(id(1), id(2));
    cluster.respond_on(earlier, 2, 1, matched(term, index));
    assert_eq!(cluster.node(1).core.matched(id(2)), 0);
    assert!(
        cluster.node(1).core.commit() < index,
        "whoever answers now may have lost what it had then"
    );
    cluster.respond(2, 1, matched(term, index));
    assert_eq!(cluster.node(1).core.commit(), index);
}

#[test]
fn a_follower_that_claims_more_than_the_leader_has_is_not_believed() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.isolate(id(3));
    let (term, index) = (cluster.node(1).core.term(), cluster.propose(1, "a"));
    cluster.sync_one(id(1));
    cluster.respond(2, 1, matched(term, index + 1));
    assert!(cluster.node(1).core.commit() < index);
    cluster.settle();
    assert_eq!(cluster.node(1).core.commit(), index, "and everything goes on");
}

#[test]
fn an_answer_from_an_earlier_term_counts_for_nothing() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    let earlier = cluster.node(1).core.term();
    cluster.request(2, 1, append(earlier + 1, (earlier, 1), &[], 1));
    cluster.settle();
    // Nobody remembers a leader, so nobody is loyal to one.
    (2..=3).for_each(|node| cluster.crash(id(node)));
    assert!(elect_by_hand(&mut cluster) > earlier);
    let index = cluster.propose(1, "a");
    cluster.sync_one(id(1));
    cluster.node(1).core.read(7).unwrap();
    cluster.poll(id(1));
    // As if it had acknowledged that far, and that many rounds of reads, when this node led for the first time.
    cluster.respond(2, 1, matched(earlier, index));
    let late = HeartbeatResponse {
        term: earlier,
        read_seq: 99,
        unfit: false,
    };
    cluster.respond(2, 1, Message::HeartbeatResponse(late));
    assert!(cluster.node(1).core.commit() < index);
    assert!(
        cluster.node(1).reads.is_empty(),
        "nobody has confirmed the present term"
    );
}

#[test]
fn a_vote_given_in_an_earlier_term_elects_nobody() {
    let mut cluster = Cluster::new(3, 2);
    let (first, second) = (stand_by_hand(&mut cluster), stand_by_hand(&mut cluster));
    assert!(first < second);
    cluster.respond(2, 1, vote(first, false));
    assert!(!cluster.leads(1), "that vote was for another term");
    cluster.respond(2, 1, vote(second, true));
    assert!(!cluster.leads(1), "that was no vote");
    cluster.respond(2, 1, vote(second, false));
    assert!(cluster.leads(1));
}

#[test]
fn a_read_that_arrives_with_the_news_of_another_leader_fails_at_once() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    let term = cluster.node(1).core.term();
    cluster.node(1).core.read(5).unwrap();
    cluster.request(2, 1, append(term + 1, (term, 1), &[], 1));
    assert_eq!(cluster.node(1).reads_failed, [5]);
    assert!(cluster.node(1).reads.is_empty());
}
