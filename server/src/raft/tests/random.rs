//! Random schedules: messages lost, repeated and reordered, connections broken, leaders cut off for long, power lost
//! with unsynced writes gone; logs compacted at random and snapshots sent or lost; the office handed over; in every third
//! schedule disks that lose acknowledged entries (and know it), in every third one nodes that join, vote and leave.
//! After every step the safety properties of the Raft paper (Figure 3) must hold, and at the end, when the faults stop,
//! the cluster must come back and have kept every promise.
//!
//! `WHITEWATER_SEED=… cargo test -p server random_schedules` repeats one run.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::cluster::{Cluster, id};
use crate::raft::{Change, Entry, Index, NodeId, Term};

/// A little generator of our own, so that a seed means the same run for ever.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

/// What must never change once it was seen.
#[derive(Default)]
struct Oracle {
    leader_of: BTreeMap<Term, NodeId>,
    committed: Vec<Entry>,
    applied: BTreeMap<NodeId, usize>,
    /// For each open read, the highest commit index anybody had when it was asked for.
    floor: BTreeMap<u64, Index>,
    reads_answered: usize,
    /// The node that nobody may reach at present.
    cut_off: Option<NodeId>,
    /// How often each of the rarer things was reached.
    reached: BTreeMap<&'static str, usize>,
}

/// What may happen beyond the usual in one schedule.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Damage,
    Membership,
}

impl Oracle {
    fn check(&mut self, cluster: &Cluster, context: &str) {
        for (leader, term) in cluster.leaders() {
            let known = *self.leader_of.entry(term).or_insert(leader);
            assert_eq!(known, leader, "{context}: two leaders in term {term}");
        }
        for (node, state) in &cluster.nodes {
            let seen = self.applied.entry(*node).or_default();
            // A crash starts over from nothing: then everything is compared again.
            *seen = (*seen).min(state.applied.len());
            for (at, entry) in state.applied.iter().enumerate().skip(*seen) {
                match self.committed.get(at) {
                    Some(known) => {
                        assert_eq!(known, entry, "{context}: {node} applied something else at {at}")
                    }
                    None => self.committed.push(entry.clone()),
                }
            }
            *seen = state.applied.len();
            for (token, index) in &state.reads {
                if let Some(floor) = self.floor.remove(token) {
                    self.reads_answered += 1;
                    assert!(
                        *index >= floor,
                        "{context}: read {token} at {index} misses a write at {floor}"
                    );
                }
            }
        }
    }

    fn highest_commit(&self) -> Index {
        self.committed.len() as Index
    }
}

fn step(cluster: &mut Cluster, dice: &mut Dice, oracle: &mut Oracle, number: u64, trouble: Trouble) {
    let voters = cluster.nodes.len();
    let one = 1 + dice.roll(voters) as u64;
    let node = id(one);
    let peer = id(1 + dice.roll(voters) as u64);
    let mut reached = |what| *oracle.reached.entry(what).or_default() += 1;
    match dice.roll(1040) {
        1000..1012 => {
            let trailing = dice.roll(10) as u64;
            cluster.compact(one, trailing);
        }
        1012..1022 if !cluster.parcels.is_empty() => {
            cluster.deliver_parcel(dice.roll(cluster.parcels.len()));
            reached("snapshots delivered");
        }
        1022..1025 if !cluster.parcels.is_empty() => cluster.lose_parcel(dice.roll(cluster.parcels.len())),
        1025..1030 if cluster.node(one).core.transfer(None).is_ok() => {
            cluster.poll(node);
            reached("transfers");
        }
        1030..1032 if trouble == Trouble::Damage => {
            let healthy = cluster.nodes.values().all(|node| node.core.suspect().is_none());
            if healthy && oracle.cut_off.is_none() {
                let keep = dice.roll(1 + cluster.node(one).core.durable_index() as usize) as u64;
                cluster.damage(one, keep);
                reached("disks damaged");
            }
        }
        1030..1040 if trouble == Trouble::Membership && change_members(cluster, dice, one) => {
            reached("changes of the configuration");
        }
        0..400 if !cluster.wire.is_empty() => cluster.deliver(dice.roll(cluster.wire.len())),
        400..430 if !cluster.wire.is_empty() => drop(cluster.wire.swap_remove(dice.roll(cluster.wire.len()))),
        430..450 if !cluster.wire.is_empty() => {
            let again = cluster.wire[dice.roll(cluster.wire.len())].clone();
            cluster.hand_over(again);
        }
        450..700 => cluster.tick(node),
        700..850 => cluster.sync_one(node),
        850..920 => {
            let payload = Bytes::from(number.to_le_bytes().to_vec());
            if cluster
                .nodes
                .get_mut(&node)
                .expect("known")
                .core
                .propose(payload)
                .is_ok()
            {
                cluster.poll(node);
            }
        }
        920..960 => {
            let floor = oracle.highest_commit();
            if cluster
                .nodes
                .get_mut(&node)
                .expect("known")
                .core
                .read(number)
                .is_ok()
            {
                oracle.floor.insert(number, floor);
                cluster.poll(node);
            }
        }
        960..985 if node != peer && oracle.cut_off.is_none_or(|cut| cut != node && cut != peer) => {
            cluster.connect(node, peer)
        }
        985..995 if node != peer => cluster.disconnect(node, peer),
        995..997 if oracle.cut_off.is_none() => cluster.crash(node),
        997..998 if oracle.cut_off.is_none() => {
            for node in cluster.nodes.keys().copied().collect::<Vec<_>>() {
                cluster.crash(node);
            }
        }
        // Long enough that the others elect somebody while the old leader still believes in itself.
        998..1000 => {
            oracle.cut_off = match oracle.cut_off {
                Some(_) => None,
                None => cluster.leaders().first().map(|(leader, _)| *leader),
            };
            if let Some(node) = oracle.cut_off {
                cluster.isolate(node);
            }
        }
        _ => {}
    }
}

/// Asks node `one` for some change; says whether it was begun.
fn change_members(cluster: &mut Cluster, dice: &mut Dice, one: u64) -> bool {
    let known = cluster.nodes.len() as u64;
    if cluster.node(one).core.configuration().is_none() {
        // Like the real node: once it has met everybody.
        let voters = cluster.node(one).core.voters_told() as u64;
        return cluster.leads(one) && voters > 0 && cluster.try_begin_configuration(one, voters);
    }
    let target = id(1 + dice.roll(known as usize) as u64);
    match dice.roll(3) {
        0 if known < 7 && cluster.leads(one) => {
            cluster.start_joining(known + 1);
            cluster.try_add_learner(one, known + 1)
        }
        1 => cluster.change(one, Change::Promote(target)).is_ok(),
        _ => {
            let voters = cluster
                .node(one)
                .core
                .configuration()
                .map_or(0, |(_, found)| found.voters().count());
            voters > 3 && cluster.change(one, Change::Remove(target)).is_ok()
        }
    }
}

fn run(seed: u64, voters: u64, steps: u64, reached: &mut BTreeMap<&'static str, usize>) -> (usize, usize) {
    let mut cluster = match seed % 2 {
        0 => Cluster::new(voters, seed),
        _ => Cluster::narrow(voters, seed),
    };
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut oracle = Oracle::default();
    let trouble = match seed % 3 {
        0 if voters >= 3 => Trouble::Damage,
        1 if voters >= 3 => Trouble::Membership,
        _ => Trouble::None,
    };
    for number in 0..steps {
        step(&mut cluster, &mut dice, &mut oracle, number, trouble);
        oracle.check(&cluster, &format!("seed {seed}, step {number}"));
    }
    for node in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        cluster.rejoin(node);
    }
    for _ in 0..10 {
        // Whom a node has heard of only now it may connect to only now.
        cluster.connect_all();
        cluster.run(30);
    }
    oracle.check(&cluster, &format!("seed {seed}, after the faults"));
    assert_eq!(
        cluster.leaders().len(),
        1,
        "seed {seed}: no single leader after the faults stopped"
    );
    let leader = (1..9)
        .find(|number| cluster.leads(*number))
        .expect("there is one");
    let index = cluster.propose(leader, "alive");
    cluster.run(20);
    for (what, times) in oracle.reached {
        *reached.entry(what).or_default() += times;
    }
    let members = cluster
        .node(leader)
        .core
        .configuration()
        .map(|(_, found)| found.members.clone());
    for (node, state) in &cluster.nodes {
        // Who was removed is told nothing any more, and who was never taken in nothing at all.
        let belongs = match &members {
            Some(members) => members.contains_key(node),
            None => state.core.voters_told() > 0,
        };
        if !belongs {
            continue;
        }
        assert_eq!(
            state.applied.len() as Index,
            index,
            "seed {seed}: {node} did not catch up"
        );
        assert!(
            state.applied.len() >= oracle.committed.len(),
            "seed {seed}: {node} lost committed entries"
        );
    }
    (oracle.committed.len(), oracle.reads_answered)
}

#[test]
fn random_schedules_break_no_promise() {
    let seeds: Vec<u64> = match std::env::var("WHITEWATER_SEED") {
        Ok(seed) => vec![seed.parse().expect("WHITEWATER_SEED is a number")],
        Err(_) => (1..=120).collect(),
    };
    let (mut committed, mut reads, mut reached) = (0, 0, BTreeMap::new());
    for seed in &seeds {
        let (entries, answered) = run(*seed, [3, 5, 1, 3, 2][*seed as usize % 5], 4000, &mut reached);
        committed += entries;
        reads += answered;
    }
    println!(
        "{} schedules: {committed} entries committed, {reads} reads answered, {reached:?}",
        seeds.len()
    );
    if seeds.len() == 1 {
        return;
    }
    assert!(
        committed > 20 * seeds.len(),
        "the schedules let the cluster do next to nothing"
    );
    assert!(reads > seeds.len(), "hardly any read was answered");
    for what in [
        "snapshots delivered",
        "transfers",
        "disks damaged",
        "changes of the configuration",
    ] {
        assert!(
            reached.get(what).is_some_and(|times| *times > seeds.len() / 4),
            "hardly any {what}"
        );
    }
}
