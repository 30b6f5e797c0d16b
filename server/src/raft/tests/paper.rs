//! The claims of the Raft paper (Ongaro and Ousterhout, extended version, 2014), one test for each that has none elsewhere.
//! The rest are:
//!
//! * §5.1, a stale leader or candidate finds out and becomes a follower: `stale::a_leader_of_the_past_is_told_the_present_term`;
//! * §5.2, one vote in each term: `elections::nobody_votes_twice_in_a_term_not_even_after_a_crash`; a candidate follows the
//!   leader of its term, and a split vote ends with the next: two of the scripts in `scripts/`;
//! * §5.3, a late append removes nothing: `log::tests::a_late_shorter_append_removes_nothing`; Figure 7: a script;
//! * §5.4.1, the voter's log is compared: `elections::a_node_with_a_shorter_log_is_not_elected`;
//! * §5.4.2 and Figure 8: `stale::copies_of_an_entry_of_an_earlier_term_commit_nothing` and two scripts;
//! * Figure 3 as a whole (election safety, log matching, leader completeness, state machine safety), after every step of
//!   thousands of schedules: `random::random_schedules_break_no_promise`;
//! * §6 and §7: `membership` and `snapshots`; §8, a leader answers reads only after a round of heartbeats:
//!   `replication::a_read_is_confirmed_by_a_majority_after_it_arrived`.

use super::cluster::{Cluster, id};
use crate::raft::{
    AppendRequest, AppendResult, Entry, HardState, Index, Message, NodeId, Position, RoleKind, Term,
    VoteRequest,
};

fn entries(terms: &[Term]) -> Vec<Entry> {
    let entry = |(&term, index): (&Term, Index)| Entry {
        term,
        index,
        ..Entry::default()
    };
    terms.iter().zip(1..).map(entry).collect()
}

/// Three nodes, of which node 1 begins with this log.
fn with_log(terms: &[Term]) -> Cluster {
    let mut cluster = Cluster::new(3, 4);
    let term = terms.last().copied().unwrap_or(0);
    cluster.restart_from(1, HardState { term, vote: None }, entries(terms));
    cluster
}

fn append(term: Term, prev: (Term, Index), terms: &[Term], commit: Index) -> Message {
    let mut entries = entries(terms);
    entries.iter_mut().for_each(|entry| entry.index += prev.1);
    Message::AppendRequest(AppendRequest {
        term,
        prev: Position {
            term: prev.0,
            index: prev.1,
        },
        entries: entries.into(),
        commit,
        read_seq: 0,
    })
}

fn vote(term: Term, last: (Term, Index)) -> Message {
    Message::VoteRequest(VoteRequest {
        term,
        last: Position {
            term: last.0,
            index: last.1,
        },
        pre_vote: false,
        transfer: false,
    })
}

/// What node 1 has said to node `to` since this was asked last.
fn answers(cluster: &mut Cluster, to: u64) -> Vec<Message> {
    while !cluster.node(1).unsynced.is_empty() {
        cluster.sync_one(id(1));
    }
    let flights = std::mem::take(&mut cluster.wire);
    let to_it = flights
        .into_iter()
        .filter(|flight| flight.from == id(1) && flight.to == id(to));
    to_it.map(|flight| flight.message).collect()
}

fn terms(cluster: &mut Cluster) -> Vec<Term> {
    let last = cluster.node(1).core.last().index;
    (1..=last)
        .map(|index| cluster.node(1).core.term_at(index).unwrap())
        .collect()
}

/// Whether node 1 gives its vote for this, whatever the term.
fn gets_vote(log: &[Term], last: (Term, Index)) -> bool {
    let mut cluster = with_log(log);
    let term = log.last().copied().unwrap_or(0).max(last.0) + 1;
    cluster.request(2, 1, vote(term, last));
    match answers(&mut cluster, 2).as_slice() {
        [Message::VoteResponse(response)] => response.granted,
        other => panic!("{other:?}"),
    }
}

/// §5.1: "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn section_5_1_a_request_of_an_earlier_term_is_rejected() {
    let mut cluster = with_log(&[1, 3]);
    cluster.request(2, 1, vote(2, (9, 9)));
    cluster.request(2, 1, append(2, (1, 1), &[2, 2], 3));
    let answers = answers(&mut cluster, 2);
    assert!(
        matches!(&answers[0], Message::VoteResponse(response) if !response.granted && response.term == 3)
    );
    assert!(matches!(&answers[1], Message::AppendResponse(response)
        if matches!(response.result, AppendResult::Rejected { .. }) && response.term == 3));
    assert_eq!(terms(&mut cluster), [1, 3]);
    assert_eq!(cluster.node(1).core.commit(), 0);
}

/// §5.1: "If one server's current term is smaller than the other's, then it updates its current term to the larger
/// value", from whatever message, and remembers it.
#[test]
fn section_5_1_the_larger_term_is_taken_over_and_kept() {
    for message in [vote(7, (0, 0)), append(7, (0, 0), &[], 0)] {
        let mut cluster = with_log(&[1]);
        cluster.request(2, 1, message);
        assert_eq!(cluster.node(1).core.term(), 7);
        answers(&mut cluster, 2);
        assert_eq!(cluster.hard_state_on_disk(1).term, 7);
        cluster.crash(id(1));
        assert_eq!(cluster.node(1).core.term(), 7);
    }
}

/// §5.2: "When servers start up, they begin as followers", and stay so "as long as [they receive] valid RPCs".
#[test]
fn section_5_2_whoever_hears_a_leader_stays_a_follower() {
    let mut cluster = Cluster::new(3, 4);
    assert!((1..=3).all(|node| cluster.node(node).core.role() == RoleKind::Follower));
    for _ in 0..300 {
        cluster.request(2, 1, append(1, (0, 0), &[], 0));
        cluster.tick(id(1));
        assert_eq!(cluster.node(1).core.role(), RoleKind::Follower);
    }
}

/// §5.2: "To begin an election, a follower increments its current term […] votes for itself", once it is sure (§9.6 of
/// the thesis) that others would vote for it.
#[test]
fn section_5_2_a_candidate_votes_for_itself_in_a_new_term() {
    let mut cluster = with_log(&[1, 4]);
    assert!(cluster.elect(1));
    assert_eq!(cluster.node(1).core.term(), 5);
    assert_eq!(
        cluster.hard_state_on_disk(1),
        HardState {
            term: 5,
            vote: Some(id(1))
        }
    );
}

/// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster."
#[test]
fn section_5_2_an_election_takes_a_majority_of_all_and_not_of_those_who_answer() {
    for (reachable, wins) in [(0, false), (1, false), (2, true), (4, true)] {
        let mut cluster = Cluster::new(5, 4);
        for node in reachable + 2..=5 {
            cluster.isolate(id(node));
        }
        assert_eq!(cluster.elect(1), wins, "with {reachable} others");
    }
}

/// §5.2: "Raft uses randomized election timeouts", so that nodes that wait for the same thing do not move together.
#[test]
fn section_5_2_election_timeouts_differ_between_nodes_and_from_one_to_the_next() {
    let mut cluster = Cluster::new(5, 4);
    let mut waits: Vec<u32> = Vec::new();
    for node in (1..=5).map(id) {
        cluster.isolate(node);
        for _ in 0..4 {
            let mut ticks = 0;
            while cluster.nodes[&node].core.ticks_quiet > 0 || ticks == 0 {
                cluster.tick(node);
                ticks += 1;
            }
            waits.push(ticks);
        }
    }
    assert!(waits.iter().all(|ticks| (15..31).contains(ticks)), "{waits:?}");
    let mut distinct = waits.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert!(distinct.len() >= 6, "{waits:?}");
}

/// §5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each of
/// the other servers", and "Leader Append-Only" (Figure 3): it never overwrites or deletes its own.
#[test]
fn section_5_3_a_leader_only_appends_and_sends_to_all() {
    let mut cluster = with_log(&[1, 1, 2]);
    assert!(cluster.elect(1));
    let before = terms(&mut cluster);
    assert_eq!(before, [1, 1, 2, 3]);
    cluster.propose(1, "a");
    let mut receivers: Vec<NodeId> = cluster.wire.iter().map(|flight| flight.to).collect();
    receivers.sort_unstable();
    let mut others = cluster.others(id(1));
    others.sort_unstable();
    assert_eq!(receivers, others);
    assert_eq!(terms(&mut cluster), [1, 1, 2, 3, 3]);
}

/// §5.3: "A log entry is committed once the leader that created the entry has replicated it on a majority of the
/// servers"; "This also commits all preceding entries in the leader's log, including entries created by previous leaders";
/// "[the leader] includes that index in future AppendEntries RPCs", and "once a follower learns that a log entry is
/// committed, it applies the entry".
#[test]
fn section_5_3_committing_an_entry_commits_what_is_before_it_and_followers_hear_of_it() {
    let mut cluster = with_log(&[1, 2, 2]);
    assert!(cluster.elect(1));
    assert_eq!(cluster.node(1).core.commit(), 4);
    cluster.run(4);
    for node in 1..=3 {
        let applied: Vec<Term> = cluster
            .node(node)
            .applied
            .iter()
            .map(|entry| entry.term)
            .collect();
        assert_eq!(applied, [1, 2, 2, 3], "node {node}");
    }
}

/// §5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses the new
/// entries." (Figure 2, AppendEntries RPC, 2.)
#[test]
fn section_5_3_an_append_that_does_not_connect_is_refused() {
    for (log, prev) in [
        (&[1, 1][..], (1, 3)),
        (&[1, 1][..], (2, 2)),
        (&[1, 3][..], (2, 2)),
        (&[][..], (1, 1)),
    ] {
        let mut cluster = with_log(log);
        cluster.request(2, 1, append(5, prev, &[5], 9));
        let answers = answers(&mut cluster, 2);
        assert!(
            matches!(&answers[..], [Message::AppendResponse(response)]
                if matches!(response.result, AppendResult::Rejected { rejected, .. } if rejected == prev.1)),
            "{log:?} and {prev:?}: {answers:?}"
        );
        assert_eq!(terms(&mut cluster), log);
        assert_eq!(cluster.node(1).core.commit(), 0);
    }
}

/// Figure 2, AppendEntries RPC, 3 and 4: "If an existing entry conflicts with a new one (same index but different terms),
/// delete the existing entry and all that follow it. Append any new entries not already in the log."
#[test]
fn figure_2_conflicting_entries_go_and_new_ones_come() {
    for (log, prev, new, result) in [
        (&[1, 1, 1][..], (1, 1), &[2][..], &[1, 2][..]),
        (&[1, 1, 1][..], (1, 1), &[1, 2][..], &[1, 1, 2][..]),
        (&[1, 1, 1][..], (1, 1), &[1][..], &[1, 1, 1][..]),
        (&[1, 1, 1][..], (1, 1), &[][..], &[1, 1, 1][..]),
        (&[1, 1][..], (1, 2), &[1, 2][..], &[1, 1, 1, 2][..]),
        (&[1, 1][..], (0, 0), &[2, 2][..], &[2, 2][..]),
        (&[][..], (0, 0), &[1, 2][..], &[1, 2][..]),
    ] {
        let mut cluster = with_log(log);
        cluster.request(2, 1, append(4, prev, new, 0));
        let verified = prev.1 + new.len() as u64;
        let answers = answers(&mut cluster, 2);
        assert!(
            matches!(&answers[..], [Message::AppendResponse(response)]
                if response.result == AppendResult::Matched(verified)),
            "{log:?} and {new:?} behind {prev:?}: {answers:?}"
        );
        assert_eq!(terms(&mut cluster), result, "{log:?} and {new:?} behind {prev:?}");
    }
}

/// Figure 2, AppendEntries RPC, 5: "If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new
/// entry)".
#[test]
fn figure_2_a_followers_commit_index_is_bounded_by_what_it_was_sent() {
    for (sent, leader_commit, commit) in [(2, 1, 1), (2, 3, 3), (2, 9, 3), (0, 9, 1), (0, 0, 0)] {
        let mut cluster = with_log(&[1]);
        cluster.request(2, 1, append(1, (1, 1), &vec![1; sent], leader_commit));
        assert_eq!(
            cluster.node(1).core.commit(),
            commit,
            "{sent} entries, leader at {leader_commit}"
        );
    }
}

/// §5.3: "After a rejection, the leader decrements nextIndex and retries"; "eventually nextIndex will reach a point where
/// the leader and follower logs match", here a whole term at a time.
#[test]
fn section_5_3_a_leader_finds_where_a_followers_log_agrees_in_a_probe_for_each_term() {
    let mut cluster = with_log(&[1, 1, 1, 4, 4, 4, 5, 5, 6, 6]);
    let other = entries(&[1, 1, 2, 2, 2, 3, 3, 3, 3]);
    cluster.restart_from(2, HardState { term: 3, vote: None }, other);
    let mut probes = 0;
    cluster.isolate(id(2));
    assert!(cluster.elect(1));
    cluster.rejoin(id(2));
    while cluster.node(1).core.matched(id(2)) == 0 {
        let probe = |flight: &super::cluster::Flight| {
            flight.to == id(2) && matches!(flight.message, Message::AppendRequest(_))
        };
        probes += cluster.wire.iter().filter(|flight| probe(flight)).count();
        let wire = std::mem::take(&mut cluster.wire);
        wire.into_iter().for_each(|flight| cluster.hand_over(flight));
        while !cluster.node(2).unsynced.is_empty() {
            cluster.sync_one(id(2));
        }
    }
    assert!(probes <= 4, "{probes} probes for logs of three terms");
    cluster.run(4);
    let (first, second) = (cluster.node(1).applied.clone(), cluster.node(2).applied.clone());
    assert_eq!(first.len(), 11);
    assert_eq!(first, second);
}

/// §5.4.1: "If the logs have last entries with different terms, then the log with the later term is more up-to-date. If
/// the logs end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn section_5_4_1_the_later_term_counts_before_the_longer_log() {
    let log = [1, 1, 2, 2];
    for (last, granted) in [
        ((2, 4), true),
        ((2, 5), true),
        ((3, 1), true),
        ((2, 3), false),
        ((1, 99), false),
        ((0, 0), false),
    ] {
        assert_eq!(
            gets_vote(&log, last),
            granted,
            "a candidate whose log ends with {last:?}"
        );
    }
    assert!(gets_vote(&[], (0, 0)), "two empty logs are equal");
}

/// §5.4.3, Leader Completeness: whoever is elected holds what was committed. Here with every choice of the two nodes, of
/// five, that miss the committed entry.
#[test]
fn section_5_4_3_nobody_without_a_committed_entry_is_elected() {
    for one in 2..=5 {
        for other in one + 1..=5 {
            let mut cluster = Cluster::new(5, 4);
            assert!(cluster.elect(1));
            cluster.run(4);
            cluster.isolate(id(one));
            cluster.isolate(id(other));
            let index = cluster.propose(1, "committed");
            cluster.settle();
            assert_eq!(cluster.node(1).core.commit(), index);
            // All restart, so that nobody is loyal to the leader, and the two may try as long as they like.
            (1..=5).for_each(|node| cluster.crash(id(node)));
            assert!(!cluster.elect(one) && !cluster.elect(other));
            cluster.run(200);
            assert_eq!(cluster.leaders().len(), 1);
            for node in 1..=5 {
                let applied = &cluster.node(node).applied;
                assert!(
                    applied.iter().any(|entry| entry.payload == "committed"),
                    "node {node}"
                );
            }
        }
    }
}

/// §5.5: "If a follower or candidate crashes, then future RequestVote and AppendEntries RPCs sent to it will fail. Raft
/// handles these failures by retrying indefinitely"; "if a server crashes after completing an RPC but before responding,
/// then it will receive the same RPC again after it restarts. Raft RPCs are idempotent, so this causes no harm."
#[test]
fn section_5_5_a_request_that_comes_again_after_a_crash_does_no_harm() {
    let mut cluster = Cluster::new(3, 4);
    assert!(cluster.elect(1));
    cluster.run(4);
    cluster.propose(1, "a");
    let again: Vec<_> = cluster
        .wire
        .iter()
        .filter(|flight| flight.to == id(2))
        .cloned()
        .collect();
    assert!(!again.is_empty());
    cluster.settle();
    cluster.crash(id(2));
    for flight in again.iter().chain(&again) {
        cluster.hand_over(flight.clone());
    }
    cluster.run(20);
    let applied = cluster.node(1).applied.clone();
    assert_eq!(applied.len(), 2);
    assert_eq!(cluster.node(2).applied, applied);
}

/// Figure 2, State: what is "updated on stable storage before responding to RPCs" survives: term, vote and log. The
/// commit index does not and is learned again.
#[test]
fn figure_2_term_vote_and_log_survive_and_the_commit_index_does_not() {
    let mut cluster = Cluster::new(3, 4);
    assert!(cluster.elect(1));
    cluster.propose(1, "a");
    cluster.run(4);
    let (term, last) = (cluster.node(2).core.term(), cluster.node(2).core.last());
    assert_eq!(cluster.node(2).core.commit(), 2);
    cluster.isolate(id(2));
    cluster.crash(id(2));
    let core = &cluster.node(2).core;
    assert_eq!((core.term(), core.vote(), core.last()), (term, Some(id(1)), last));
    assert_eq!(core.commit(), 0);
    cluster.run(4);
    assert_eq!(cluster.node(2).core.commit(), 2);
}
