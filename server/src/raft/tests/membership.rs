//! Changing who belongs to the cluster (§6 of the Raft paper, §4 of Ongaro's thesis).

use super::cluster::{Cluster, id, member};
use crate::raft::{Change, ChangeRefused, Configuration, Message};

/// Three voters, the first one leading, with the configuration in their logs.
fn three() -> Cluster {
    let mut cluster = Cluster::new(3, 7);
    assert!(cluster.elect(1));
    cluster.begin_configuration(1, 3);
    cluster.settle();
    cluster
}

fn configuration(cluster: &Cluster, number: u64) -> Configuration {
    let core = &cluster.nodes[&id(number)].core;
    (**core.configuration().expect("the log holds a configuration").1).clone()
}

fn voters(cluster: &Cluster, number: u64) -> Vec<u64> {
    let configuration = configuration(cluster, number);
    (1..10)
        .filter(|node| configuration.voters().any(|voter| voter == id(*node)))
        .collect()
}

/// Node 4, with an empty disk, fed as a learner.
fn four_with_a_learner() -> Cluster {
    let mut cluster = three();
    cluster.start_joining(4);
    cluster.add_learner(1, 4);
    cluster.run(5);
    cluster.connect_all();
    cluster
}

fn refused(cluster: &mut Cluster, change: Change) -> ChangeRefused {
    cluster
        .change(1, change)
        .expect_err("the change should be refused")
}

#[test]
fn a_learner_is_fed_and_neither_votes_nor_counts() {
    let mut cluster = four_with_a_learner();
    let index = cluster.propose(1, "x");
    cluster.run(5);
    assert_eq!(
        cluster.node(4).applied.last().map(|entry| entry.index),
        Some(index),
        "it receives everything"
    );
    cluster.isolate(id(2));
    cluster.isolate(id(3));
    let commit = cluster.node(1).core.commit();
    cluster.propose(1, "y");
    cluster.settle();
    assert_eq!(
        cluster.node(1).core.commit(),
        commit,
        "leader and learner are no majority of the voters"
    );
    (0..100).for_each(|_| cluster.tick(id(4)));
    assert_eq!(
        cluster.node(4).core.term(),
        1,
        "a learner never stands for election"
    );
}

#[test]
fn a_node_that_waits_to_be_taken_in_does_nothing_of_its_own_accord() {
    let mut cluster = three();
    cluster.start_joining(4);
    (0..200).for_each(|_| cluster.tick(id(4)));
    cluster.settle();
    assert_eq!((cluster.node(4).core.term(), cluster.leads(1)), (0, true));
}

#[test]
fn a_learner_answers_votes_because_the_candidate_may_know_a_newer_configuration() {
    let mut cluster = four_with_a_learner();
    cluster.change(1, Change::Promote(id(4))).unwrap();
    // Nodes 2 to 4 know nothing of it yet.
    cluster.wire.clear();
    let asked = crate::raft::VoteRequest {
        term: 2,
        last: crate::raft::Position { term: 1, index: 99 },
        pre_vote: false,
        transfer: true,
    };
    cluster.request(1, 4, Message::VoteRequest(asked));
    cluster.sync_one(id(4));
    assert_eq!(cluster.hard_state_on_disk(4).vote, Some(id(1)));
}

#[test]
fn a_learner_is_promoted_through_a_joint_configuration_that_is_left_by_itself() {
    let mut cluster = four_with_a_learner();
    let entered = cluster.change(1, Change::Promote(id(4))).unwrap();
    assert!(
        configuration(&cluster, 1).joint,
        "it counts as soon as it is in the log"
    );
    cluster.settle();
    for node in 1..=4 {
        assert_eq!(voters(&cluster, node), [1, 2, 3, 4], "node {node}");
        assert!(!configuration(&cluster, node).joint, "node {node} has left");
    }
    let left = cluster.node(1).core.configuration().map(|(index, _)| index);
    assert_eq!(left, Some(entered.index + 1), "left exactly once");
    assert!(cluster.node(1).core.configuration_is_settled());
}

#[test]
fn while_a_configuration_is_joint_both_majorities_are_needed() {
    let mut cluster = four_with_a_learner();
    cluster.start_joining(5);
    cluster.add_learner(1, 5);
    cluster.run(5);
    cluster.connect_all();
    cluster.change(1, Change::Promote(id(4))).unwrap();
    cluster.run(5);
    // Voters 1 to 4. Removing 2 and cutting off 1's allies: of the incoming {1, 3, 4} two answer, of the outgoing
    // {1, 2, 3, 4} only two as well, and that is no majority.
    cluster.isolate(id(2));
    cluster.isolate(id(3));
    let commit = cluster.node(1).core.commit();
    cluster.change(1, Change::Remove(id(2))).unwrap();
    cluster.settle();
    assert_eq!(cluster.node(1).core.commit(), commit);
    assert!(configuration(&cluster, 1).joint);
    cluster.rejoin(id(3));
    cluster.run(5);
    assert_eq!(voters(&cluster, 1), [1, 3, 4]);
}

#[test]
fn elections_need_both_majorities_while_the_configuration_is_joint() {
    let mut cluster = four_with_a_learner();
    cluster.change(1, Change::Promote(id(4))).unwrap();
    // Everybody has the joint configuration in the log, nobody has left it.
    while cluster
        .nodes
        .values()
        .any(|node| node.core.configuration().is_none_or(|(_, found)| !found.joint))
    {
        match cluster
            .wire
            .iter()
            .position(|flight| matches!(flight.message, Message::AppendRequest(_)))
        {
            Some(at) => cluster.deliver(at),
            None => (1..=4).for_each(|node| cluster.sync_one(id(node))),
        }
        cluster
            .wire
            .retain(|flight| !matches!(flight.message, Message::AppendResponse(_)) || flight.from == id(4));
    }
    cluster.isolate(id(1));
    cluster.isolate(id(3));
    cluster.forget_the_leader(&[2, 3, 4]);
    // Nodes 2 and 4: two of the outgoing three, but only two of the incoming four.
    assert!(!cluster.elect(2) && !cluster.elect(4));
    cluster.rejoin(id(3));
    cluster.isolate(id(1));
    assert!(cluster.elect(2));
    cluster.run(10);
    assert!(
        !configuration(&cluster, 2).joint,
        "the new leader leaves the joint configuration that it found"
    );
}

#[test]
fn the_next_change_waits_for_the_last_one() {
    let mut cluster = four_with_a_learner();
    cluster.change(1, Change::Promote(id(4))).unwrap();
    assert_eq!(
        refused(&mut cluster, Change::Remove(id(2))),
        ChangeRefused::InProgress
    );
    cluster.settle();
    cluster.change(1, Change::Remove(id(2))).unwrap();
}

#[test]
fn no_change_before_the_leader_has_committed_in_its_own_term() {
    let mut cluster = three();
    cluster.isolate(id(3));
    assert!(!cluster.leads(2));
    cluster.isolate(id(1));
    cluster.connect(id(2), id(3));
    cluster.connect(id(3), id(2));
    cluster.forget_the_leader(&[2, 3]);
    for _ in 0..100 {
        cluster.tick(id(2));
        if cluster.leads(2) {
            break;
        }
        while let Some(at) = cluster.wire.iter().position(|flight| !flight.message.is_append()) {
            cluster.deliver(at);
        }
        cluster.sync_one(id(2));
        cluster.sync_one(id(3));
    }
    assert!(cluster.leads(2));
    let early = cluster.change(2, Change::Remove(id(1))).unwrap_err();
    assert_eq!(early, ChangeRefused::TooEarly);
}

#[test]
fn a_configuration_that_is_cut_from_the_log_counts_no_more() {
    let mut cluster = three();
    cluster.isolate(id(1));
    cluster.add_learner(1, 4);
    assert!(configuration(&cluster, 1).members.contains_key(&id(4)));
    cluster.forget_the_leader(&[2, 3]);
    assert!(cluster.elect(2));
    cluster.propose(2, "x");
    cluster.rejoin(id(1));
    cluster.run(10);
    assert!(
        !configuration(&cluster, 1).members.contains_key(&id(4)),
        "it never happened"
    );
}

#[test]
fn a_removed_leader_replicates_the_commit_and_leaves_without_counting_itself() {
    let mut cluster = three();
    cluster.change(1, Change::Remove(id(1))).unwrap();
    cluster.settle();
    assert!(!cluster.leads(1));
    cluster.run(60);
    let leaders = cluster.leaders();
    assert_eq!(leaders.len(), 1);
    assert!(leaders[0].0 != id(1));
    for node in 2..=3 {
        assert_eq!(voters(&cluster, node), [2, 3]);
        assert!(cluster.node(node).core.configuration_is_settled());
    }
}

#[test]
fn a_leader_outside_the_new_configuration_does_not_count_its_own_copy() {
    let mut cluster = three();
    cluster.isolate(id(3));
    let position = cluster.change(1, Change::Remove(id(1))).unwrap();
    cluster.settle();
    // Joint: {1, 2} of {1, 2, 3} would do, but of {2, 3} only node 2 has it.
    assert!(cluster.node(1).core.commit() < position.index);
    assert!(cluster.leads(1));
}

#[test]
fn a_removed_node_disturbs_nobody() {
    let mut cluster = three();
    cluster.isolate(id(3));
    cluster.change(1, Change::Remove(id(3))).unwrap();
    cluster.settle();
    let term = cluster.node(1).core.term();
    cluster.rejoin(id(3));
    (0..200).for_each(|_| cluster.tick(id(3)));
    cluster.run(50);
    assert!(cluster.leads(1));
    assert_eq!(
        cluster.node(1).core.term(),
        term,
        "pre-votes of a node without support change nothing"
    );
}

#[test]
fn a_removed_name_never_comes_back() {
    let mut cluster = three();
    cluster.change(1, Change::Remove(id(3))).unwrap();
    cluster.settle();
    let again = member(3, false);
    let change = Change::AddLearner {
        name: again.name,
        address: again.address,
    };
    assert_eq!(refused(&mut cluster, change), ChangeRefused::WasRemoved);
}

#[test]
fn changes_that_make_no_sense_are_refused() {
    let mut cluster = four_with_a_learner();
    let add = |number| {
        let found = member(number, false);
        Change::AddLearner {
            name: found.name,
            address: found.address,
        }
    };
    assert_eq!(refused(&mut cluster, add(2)), ChangeRefused::AlreadyAMember);
    assert_eq!(
        refused(&mut cluster, Change::Promote(id(2))),
        ChangeRefused::AlreadyAVoter
    );
    assert_eq!(
        refused(&mut cluster, Change::Promote(id(9))),
        ChangeRefused::NotAMember
    );
    assert_eq!(
        refused(&mut cluster, Change::Remove(id(9))),
        ChangeRefused::NotAMember
    );
    assert_eq!(
        refused(&mut cluster, Change::Begin(Configuration::default())),
        ChangeRefused::HasConfiguration
    );
    let (name, address) = ("n9".into(), "".into());
    assert_eq!(
        refused(&mut cluster, Change::AddLearner { name, address }),
        ChangeRefused::NoAddress
    );
    let elsewhere = cluster.change(2, Change::Remove(id(3))).unwrap_err();
    assert_eq!(elsewhere, ChangeRefused::NotLeader(Some(id(1))));
    for gone in [2, 3] {
        cluster.change(1, Change::Remove(id(gone))).unwrap();
        cluster.settle();
    }
    assert_eq!(
        refused(&mut cluster, Change::Remove(id(1))),
        ChangeRefused::LastVoter
    );
}

#[test]
fn a_learner_that_lags_is_not_promoted() {
    let mut cluster = Cluster::adjusted(3, 5, |config| config.promote_lag_max = 3);
    assert!(cluster.elect(1));
    cluster.begin_configuration(1, 3);
    cluster.settle();
    cluster.start_joining(4);
    cluster.add_learner(1, 4);
    cluster.isolate(id(4));
    for _ in 0..5 {
        cluster.propose(1, "x");
    }
    cluster.settle();
    assert!(matches!(refused(&mut cluster, Change::Promote(id(4))), ChangeRefused::Behind(lag) if lag > 3));
    cluster.rejoin(id(4));
    cluster.run(5);
    cluster.change(1, Change::Promote(id(4))).unwrap();
}

#[test]
fn before_there_is_a_configuration_nothing_can_be_changed() {
    let mut cluster = Cluster::new(3, 1);
    assert!(cluster.elect(1));
    assert_eq!(
        refused(&mut cluster, Change::Remove(id(2))),
        ChangeRefused::NoConfiguration
    );
}

#[test]
fn a_joint_configuration_survives_a_restart_of_everybody() {
    let mut cluster = four_with_a_learner();
    cluster.change(1, Change::Promote(id(4))).unwrap();
    // On the disks of 1 and 2, committed by nobody.
    cluster.isolate(id(3));
    cluster.isolate(id(4));
    let to_two = |flight: &super::cluster::Flight| flight.to == id(2) && flight.message.is_append();
    while let Some(at) = cluster.wire.iter().position(to_two) {
        cluster.deliver(at);
    }
    while !cluster.node(1).unsynced.is_empty() || !cluster.node(2).unsynced.is_empty() {
        cluster.sync_one(id(1));
        cluster.sync_one(id(2));
        cluster.wire.clear();
    }
    (1..=4).for_each(|node| cluster.crash(id(node)));
    assert!(configuration(&cluster, 1).joint);
    cluster.isolate(id(3));
    cluster.isolate(id(4));
    assert!(
        !cluster.elect(1),
        "two of the outgoing three, but two of the incoming four are no majority"
    );
    cluster.rejoin(id(3));
    assert!(cluster.elect(1));
}

#[test]
fn nobody_without_an_address_is_written_into_the_first_configuration() {
    let mut cluster = Cluster::new(3, 5);
    assert!(cluster.elect(1));
    cluster.settle();
    let members = (1..=3).map(|number| (id(number), member(number, true)));
    let mut first = Configuration {
        members: members.collect(),
        ..Configuration::default()
    };
    let complete = first.clone();
    first.members.get_mut(&id(1)).unwrap().address = "".into();
    assert_eq!(
        cluster.change(1, Change::Begin(first)),
        Err(ChangeRefused::NoAddress)
    );
    assert!(cluster.node(1).core.configuration().is_none());
    cluster.change(1, Change::Begin(complete)).unwrap();
}
