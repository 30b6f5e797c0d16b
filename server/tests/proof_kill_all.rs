//! Every acknowledged write outlives the loss of all processes at once, again and again.
//!
//! Each round: closed loops write over their keys with values that occur once; at a random moment all three nodes get
//! `kill -9` together; they come back, and every key must hold what was last acknowledged, or a later write that nobody
//! answered; all nodes have the same digest at the same applied index. Snapshots are so frequent that kills hit them too.
//!
//! `WHITEWATER_ROUNDS` says how often, `WHITEWATER_SEED` repeats the choices of a run (not the moments, which are real).

#![allow(clippy::unwrap_used)]

mod common;
mod proof_support;

use std::collections::BTreeMap;
use std::time::Instant;

use common::{Cluster, eventually};
use proof_support::{Known, Load, Rng, read, rounds};

const WRITERS: usize = 32;
const KEYS: usize = 6;

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_all_nodes_are_killed_at_once() {
    let mut random = Rng::from_env();
    let rounds = rounds(5);
    let flags = [
        "--election-timeout",
        "60ms",
        "--snapshot-entries",
        "300",
        "--snapshot-trailing",
        "50",
    ];
    let mut cluster = Cluster::start_with(3, &flags).await;
    cluster.leader().await;
    let mut known: Vec<BTreeMap<String, Known>> = vec![BTreeMap::new(); WRITERS];
    for round in 1..=rounds {
        let began = Instant::now();
        let load = Load::start(&cluster, round, known, KEYS);
        let moment = 100 + random.below(400);
        load.reach(moment).await;
        cluster.kill_all();
        known = load.finish().await;
        (0..3).for_each(|at| cluster.launch(at));
        let leader = cluster.leader().await;
        let keys = check(&cluster, leader, &known).await;
        cluster.converge().await;
        let took = began.elapsed().as_millis();
        println!("round {round} of {rounds}: killed after {moment} writes, {keys} keys right, {took} ms");
    }
}

/// Reads everything on one node, or wherever the lead has gone since.
async fn check(cluster: &Cluster, leader: usize, known: &[BTreeMap<String, Known>]) -> usize {
    let mut node = cluster.client(leader);
    let mut count = 0;
    for (key, known) in known.iter().flatten() {
        let what = format!("an answer to reading {key}");
        let (found, index, value) = eventually(&what, async || read(&mut node, key).await).await;
        assert!(
            known.allows(found, index, &value),
            "{key} is {value:?} (found: {found}, index {index}), but {known:?}"
        );
        count += 1;
    }
    assert!(count > 0, "nothing was written");
    count
}

#[test]
fn the_check_of_a_read_sees_what_it_should() {
    let mut known = Known::default();
    assert!(known.allows(false, 0, ""), "nobody wrote it");
    assert!(!known.allows(true, 3, "from nowhere"));
    known.note("a", Some(5));
    assert!(known.allows(true, 5, "a"));
    assert!(!known.allows(false, 0, ""), "lost");
    assert!(!known.allows(true, 4, "a"), "older than acknowledged");
    assert!(!known.allows(true, 5, "b"), "the same write with another value");
    known.note("b", None);
    assert!(known.allows(true, 5, "a"), "it may never have happened");
    assert!(known.allows(true, 7, "b"), "or it has");
    known.note("c", Some(9));
    assert!(
        !known.allows(true, 7, "b"),
        "what was acknowledged later has replaced it"
    );
}
