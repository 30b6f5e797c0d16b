//! Replication, commit and reads, situation by situation.

use bytes::Bytes;

use super::cluster::{Cluster, id};
use crate::raft::{Message, Refused};

#[test]
fn a_proposal_is_committed_when_a_majority_has_it_on_disk() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    let index = cluster.propose(1, "a");
    while !cluster.wire.is_empty() {
        cluster.deliver(0);
    }
    assert!(
        cluster.node(1).core.commit() < index,
        "in everybody's memory, on nobody's disk"
    );
    cluster.sync_one(id(1));
    assert!(cluster.node(1).core.commit() < index, "on the leader's disk only");
    cluster.sync_one(id(2));
    cluster.settle();
    assert_eq!(cluster.node(1).core.commit(), index);
}

#[test]
fn a_majority_of_followers_commits_without_the_leaders_disk() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    let index = cluster.propose(1, "a");
    for _ in 0..20 {
        while !cluster.wire.is_empty() {
            cluster.deliver(0);
        }
        cluster.sync_one(id(2));
        cluster.sync_one(id(3));
    }
    assert!(cluster.node(1).core.durable_index() < index);
    assert_eq!(cluster.node(1).core.commit(), index);
}

#[test]
fn followers_apply_what_the_leader_applied() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    for payload in ["a", "b", "c"] {
        cluster.propose(1, payload);
    }
    cluster.run(10);
    let applied = cluster.node(1).applied.clone();
    assert_eq!(
        applied.len(),
        4,
        "three commands behind the entry that opened the term"
    );
    assert_eq!(cluster.node(2).applied, applied);
    assert_eq!(cluster.node(3).applied, applied);
}

#[test]
fn an_entry_of_an_earlier_term_is_committed_only_through_one_of_the_present_term() {
    // Figure 8 of the Raft paper: node 1 appends, reaches node 2 only, falls; node 2 leads and must not commit that
    // entry by counting copies alone.
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    cluster.isolate(id(3));
    let index = cluster.propose(1, "a");
    let at = cluster.wire.iter().position(|flight| flight.to == id(2)).unwrap();
    cluster.deliver(at);
    cluster.isolate(id(1));
    cluster.sync_one(id(2));
    cluster.connect(id(2), id(3));
    cluster.connect(id(3), id(2));
    for _ in 0..30 {
        cluster.tick(id(3));
    }
    assert!(cluster.elect(2), "node 2 has the longest log that can win");
    assert_eq!(
        cluster.node(2).core.commit(),
        index + 1,
        "committed together with the opening entry"
    );
    let terms: Vec<_> = cluster.node(2).applied.iter().map(|entry| entry.term).collect();
    assert!(terms.windows(2).all(|pair| pair[0] <= pair[1]));
}

#[test]
fn a_deposed_leaders_entries_are_replaced() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    cluster.isolate(id(1));
    for payload in ["lost", "lost too"] {
        cluster.propose(1, payload);
    }
    cluster.settle();
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(2));
    cluster.propose(2, "kept");
    cluster.settle();
    cluster.rejoin(id(1));
    cluster.run(20);
    let applied = cluster.node(2).applied.clone();
    assert_eq!(cluster.node(1).applied, applied);
    assert!(applied.iter().all(|entry| !entry.payload.starts_with(b"lost")));
}

#[test]
fn proposals_pipeline_without_waiting_for_acknowledgements() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    let before = cluster.wire.len();
    for _ in 0..10 {
        cluster.propose(1, "x");
    }
    let appends = cluster.wire[before..]
        .iter()
        .filter(|flight| matches!(flight.message, Message::AppendRequest(_)));
    assert_eq!(appends.count(), 20, "ten to each follower, none acknowledged");
}

#[test]
fn a_follower_that_missed_everything_catches_up() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    cluster.isolate(id(3));
    for _ in 0..500 {
        cluster.propose(1, "x");
    }
    cluster.settle();
    cluster.rejoin(id(3));
    cluster.run(20);
    assert_eq!(cluster.node(3).applied.len(), 501);
}

#[test]
fn a_read_is_confirmed_by_a_majority_after_it_arrived() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    cluster.node(1).core.read(77).unwrap();
    cluster.poll(id(1));
    assert!(cluster.node(1).reads.is_empty());
    cluster.settle();
    let commit = cluster.node(1).core.commit();
    assert_eq!(cluster.node(1).reads, [(77, commit)]);
}

#[test]
fn a_cut_off_leader_answers_no_read_and_fails_those_that_wait() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    cluster.isolate(id(1));
    cluster.node(1).core.read(77).unwrap();
    cluster.run(40);
    assert!(cluster.node(1).reads.is_empty());
    assert_eq!(cluster.node(1).reads_failed, [77]);
    assert_eq!(cluster.node(1).core.read(78), Err(Refused::NotLeader(None)));
}

#[test]
fn a_new_leader_reads_nothing_from_before_its_own_first_entry() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.propose(1, "a");
    cluster.settle();
    cluster.isolate(id(1));
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(2));
    cluster.node(2).core.read(5).unwrap();
    cluster.poll(id(2));
    cluster.settle();
    let opened_at = cluster.node(2).core.last().index;
    assert_eq!(cluster.node(2).reads, [(5, opened_at)]);
}

#[test]
fn proposals_beyond_the_limit_are_refused_and_nothing_of_them_happens() {
    let mut cluster = Cluster::new(3, 2);
    assert!(cluster.elect(1));
    cluster.run(5);
    cluster.isolate(id(1));
    let payload = bytes::Bytes::from(vec![0; 16 << 20]);
    let mut accepted = 0;
    let refused = loop {
        match cluster.node(1).core.propose(payload.clone()) {
            Ok(_) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!((accepted, refused), (3, Refused::Overloaded));
    let last = cluster.node(1).core.last().index;
    assert_eq!(last, 1 + 3);
}

/// Takes the appends with entries to `to` off the wire, as a link does that is too narrow for them, and returns how many
/// bytes of payload they held.
fn swallow_appends(cluster: &mut Cluster, to: u64) -> usize {
    let mut bytes = 0;
    cluster.wire.retain(|flight| match &flight.message {
        Message::AppendRequest(request) if flight.to == id(to) && !request.entries.is_empty() => {
            bytes += request
                .entries
                .iter()
                .map(|entry| entry.payload.len())
                .sum::<usize>();
            false
        }
        _ => true,
    });
    bytes
}

#[test]
fn a_link_too_narrow_for_the_log_is_not_flooded_with_it() {
    const PROBE_BYTES_MAX: usize = 16 << 10;
    let payload: &'static str = "k".repeat(1000).leak();
    for narrow_from_the_start in [true, false] {
        let mut cluster = Cluster::new(3, 2);
        assert!(cluster.elect(1));
        cluster.run(5);
        if narrow_from_the_start {
            cluster.isolate(id(3));
        }
        for _ in 0..100 {
            cluster.propose(1, payload);
            cluster.run(u32::from(narrow_from_the_start));
        }
        let mut sent = swallow_appends(&mut cluster, 3);
        if narrow_from_the_start {
            cluster.rejoin(id(3));
        } else {
            assert!(sent <= 2 * (64 << 10), "{sent} bytes in the first window");
            sent = 0;
        }
        // Three seconds in which every heartbeat is answered and no append.
        for _ in 0..300 {
            sent += swallow_appends(&mut cluster, 3);
            for node in 1..=3 {
                cluster.tick(id(node));
            }
            sent += swallow_appends(&mut cluster, 3);
            while let Some(at) = cluster.wire.iter().position(|_| true) {
                cluster.deliver(at);
                sent += swallow_appends(&mut cluster, 3);
            }
            (1..=3).for_each(|node| {
                while !cluster.node(node).unsynced.is_empty() {
                    cluster.sync_one(id(node));
                }
            });
        }
        assert!(cluster.leads(1), "the heartbeats were answered");
        assert!(sent > 0, "what is lost must be sent again");
        assert!(sent <= 4 * PROBE_BYTES_MAX, "{sent} bytes in three seconds");
        // The link has become wide enough: everything arrives.
        cluster.run(400);
        assert_eq!(cluster.node(3).applied.len(), 101);
    }
}

#[test]
fn a_leader_whose_own_disk_lags_behind_the_others_takes_no_more_than_its_queue_may_hold() {
    let mut cluster = Cluster::adjusted(3, 5, |config| config.pending_bytes_max = 200);
    assert!(cluster.elect(1));
    let mut proposed = 0;
    let refused = loop {
        match cluster.node(1).core.propose(Bytes::from_static(&[7; 18])) {
            Ok(_) => proposed += 1,
            Err(refused) => break refused,
        }
        cluster.poll(id(1));
        // Only the disks of the others do anything.
        while !cluster.wire.is_empty() {
            cluster.deliver(0);
            (0..4).for_each(|_| cluster.sync_one(id(2)));
            (0..4).for_each(|_| cluster.sync_one(id(3)));
        }
    };
    assert_eq!(
        (proposed, refused),
        (4, Refused::Overloaded),
        "each weighs 50 bytes"
    );
    let core = &cluster.node(1).core;
    assert_eq!(core.commit(), core.last().index, "they are committed without it");
    cluster.settle();
    cluster.propose(1, "a");
}
