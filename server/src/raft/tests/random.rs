//! Random schedules: messages lost, repeated and reordered, connections broken, leaders cut off for long, power lost
//! with unsynced writes gone.
//! After every step the safety properties of the Raft paper (Figure 3) must hold, and at the end, when the faults stop,
//! the cluster must come back and have kept every promise.
//!
//! `WHITEWATER_SEED=… cargo test -p server random_schedules` repeats one run.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::cluster::{Cluster, id};
use crate::raft::{Entry, Index, NodeId, Term};

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

fn step(cluster: &mut Cluster, dice: &mut Dice, oracle: &mut Oracle, number: u64) {
    let voters = cluster.nodes.len();
    let node = id(1 + dice.roll(voters) as u64);
    let peer = id(1 + dice.roll(voters) as u64);
    match dice.roll(1000) {
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

fn run(seed: u64, voters: u64, steps: u64) -> (usize, usize) {
    let mut cluster = match seed % 2 {
        0 => Cluster::new(voters, seed),
        _ => Cluster::narrow(voters, seed),
    };
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut oracle = Oracle::default();
    for number in 0..steps {
        step(&mut cluster, &mut dice, &mut oracle, number);
        oracle.check(&cluster, &format!("seed {seed}, step {number}"));
    }
    for node in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        cluster.rejoin(node);
    }
    cluster.run(300);
    oracle.check(&cluster, &format!("seed {seed}, after the faults"));
    assert_eq!(
        cluster.leaders().len(),
        1,
        "seed {seed}: no single leader after the faults stopped"
    );
    let leader = cluster.leaders()[0].0;
    let index = cluster.propose(leader.0, "alive");
    cluster.run(20);
    for (node, state) in &cluster.nodes {
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
    let (mut committed, mut reads) = (0, 0);
    for seed in &seeds {
        let (entries, answered) = run(*seed, [3, 5, 1, 3, 2][*seed as usize % 5], 4000);
        committed += entries;
        reads += answered;
    }
    println!(
        "{} schedules: {committed} entries committed, {reads} reads answered",
        seeds.len()
    );
    assert!(
        committed > 20 * seeds.len(),
        "the schedules let the cluster do next to nothing"
    );
    assert!(reads > seeds.len(), "hardly any read was answered");
}
