//! The proof that durability is not a matter of luck: all nodes are killed at once at full load, again and again, and
//! nothing that was acknowledged is ever missing.
//!
//! `WHITEWATER_ROUNDS` says how often (5), `WHITEWATER_SEED` repeats the moments of a run.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use common::{Cluster, Everybody};

/// Writers, each with keys of its own, so that the last acknowledged value of a key is known.
const WRITERS: u64 = 48;
const KEYS: u64 = 4;

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// What one writer knows: for each of its keys the last value acknowledged and the last value that may be there.
type Known = BTreeMap<String, (u64, u64)>;

async fn write(
    mut cluster: Everybody,
    writer: u64,
    mut known: Known,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Known {
    let mut number = known.values().map(|(_, last)| *last).max().unwrap_or(0);
    while !stop.load(Relaxed) {
        number += 1;
        let key = format!("w{writer}-{}", number % KEYS);
        let entry = known.entry(key.clone()).or_default();
        entry.1 = number;
        if cluster.put_once_or_stop(&key, &number.to_string(), &stop).await {
            entry.0 = number;
            acknowledged.fetch_add(1, Relaxed);
        }
    }
    known
}

#[tokio::test]
async fn killing_all_nodes_at_once_at_full_load_loses_nothing() {
    let rounds = from_env("WHITEWATER_ROUNDS", 5);
    let seed = from_env("WHITEWATER_SEED", u64::from(std::process::id()));
    println!("WHITEWATER_SEED={seed} WHITEWATER_ROUNDS={rounds}");
    let flags = [
        "--election-timeout",
        "50ms",
        "--snapshot-entries",
        "2000",
        "--snapshot-trailing",
        "100",
    ];
    let mut cluster = Cluster::start_with(3, &flags).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let mut known: Vec<Known> = vec![Known::new(); WRITERS as usize];
    let mut dice = seed | 1;
    for round in 1..=rounds {
        cluster.leader().await;
        let stop = Arc::new(AtomicBool::new(false));
        let before = acknowledged.load(Relaxed);
        let writers: Vec<_> = (0..)
            .zip(known.drain(..))
            .map(|(writer, known)| {
                tokio::spawn(write(
                    cluster.everybody(),
                    writer,
                    known,
                    stop.clone(),
                    acknowledged.clone(),
                ))
            })
            .collect();
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        // At some moment after so many acknowledged writes: the load is on, whatever the machine does.
        let until = before + 200 + dice % 400;
        common::eventually("enough acknowledged writes", async || {
            let now = acknowledged.load(Relaxed);
            if now >= until { Ok(()) } else { Err(now) }
        })
        .await;
        cluster.kill_all();
        stop.store(true, Relaxed);
        for writer in writers {
            known.push(writer.await.unwrap());
        }
        (0..3).for_each(|at| cluster.launch(at));
        check(&cluster, &known, round).await;
        if round % 10 == 0 {
            println!(
                "round {round}: {} writes acknowledged so far, none lost",
                acknowledged.load(Relaxed)
            );
        }
    }
    println!(
        "{rounds} rounds, {} writes acknowledged, none lost",
        acknowledged.load(Relaxed)
    );
}

/// Every key holds what was acknowledged last, or something that was written later.
async fn check(cluster: &Cluster, known: &[Known], round: u64) {
    cluster.leader().await;
    let mut everybody = cluster.everybody();
    for (key, (acknowledged, last)) in known.iter().flatten() {
        let found = everybody
            .get(key)
            .await
            .map_or(0, |value| value.parse::<u64>().unwrap());
        assert!(
            (*acknowledged..=*last).contains(&found),
            "round {round}: {key} holds {found}, but {acknowledged} was acknowledged (and {last} written last)"
        );
    }
    tokio::time::timeout(Duration::from_secs(60), cluster.converge())
        .await
        .expect("the nodes agree");
}
