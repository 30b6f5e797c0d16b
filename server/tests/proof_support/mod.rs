//! What the proofs share: random choices that can be repeated, and writers that remember what they were told.

#![allow(dead_code, reason = "each proof uses its own part")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use proto::raft::{GetRequest, PutRequest};
use tonic::Status;

use crate::common::{Client, Cluster, client, eventually, timed};

/// A small generator, enough for choosing cases: SplitMix64.
pub(crate) struct Rng(u64);

impl Rng {
    /// From `WHITEWATER_SEED`, or another one each time; printed, so that a failure can be repeated.
    pub(crate) fn from_env() -> Rng {
        let seed = std::env::var("WHITEWATER_SEED").map_or_else(
            |_| std::process::id().into(),
            |text| text.parse().expect("WHITEWATER_SEED is a number"),
        );
        println!("WHITEWATER_SEED={seed}");
        Rng(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    pub(crate) fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// From `WHITEWATER_ROUNDS`.
pub(crate) fn rounds(default: usize) -> usize {
    std::env::var("WHITEWATER_ROUNDS").map_or(default, |text| {
        text.parse().expect("WHITEWATER_ROUNDS is a number")
    })
}

/// What one writer knows about a key that nobody else writes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    /// Index and value of the last acknowledged write.
    acknowledged: (u64, String),
    /// Values written since whose fate nobody told.
    perhaps: Vec<String>,
}

impl Known {
    /// One more write, with the index under which it was acknowledged.
    pub(crate) fn note(&mut self, value: &str, index: Option<u64>) {
        match index {
            Some(index) => {
                self.acknowledged = (index, value.to_owned());
                self.perhaps.clear();
            }
            None => self.perhaps.push(value.to_owned()),
        }
    }

    /// Whether a read may say this: the last acknowledged write, or a later one that was never answered.
    pub(crate) fn allows(&self, found: bool, index: u64, value: &str) -> bool {
        let (acknowledged, last) = &self.acknowledged;
        match index == *acknowledged {
            true => value == last && found == (index > 0),
            false => index > *acknowledged && found && self.perhaps.iter().any(|perhaps| perhaps == value),
        }
    }
}

/// A linearizable read through one node: whether there is the key, its index and its value.
pub(crate) async fn read(node: &mut Client, key: &str) -> Result<(bool, u64, String), Status> {
    let request = timed(GetRequest {
        key: key.to_owned(),
        ..Default::default()
    });
    let response = node.get(request).await?.into_inner();
    Ok((response.found, response.index, response.value))
}

pub(crate) async fn put(node: &mut Client, key: &str, value: &str) -> Result<u64, Status> {
    let request = timed(PutRequest {
        key: key.to_owned(),
        value: value.to_owned(),
        ..Default::default()
    });
    Ok(node.put(request).await?.into_inner().index)
}

/// Closed loops, each with its own connections and its own keys.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<BTreeMap<String, Known>>>,
}

impl Load {
    /// Goes on from what is `known`; `round` makes the values unique.
    pub(crate) fn start(
        cluster: &Cluster,
        round: usize,
        known: Vec<BTreeMap<String, Known>>,
        keys: usize,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let run = |(writer, known): (usize, BTreeMap<String, Known>)| {
            let clients: Vec<Client> = cluster.ports.iter().map(|port| client(*port)).collect();
            tokio::spawn(write(
                clients,
                format!("{writer}/{round}"),
                writer,
                keys,
                known,
                stop.clone(),
                acknowledged.clone(),
            ))
        };
        let tasks = known.into_iter().enumerate().map(run).collect();
        Load {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Waits for so many acknowledged writes.
    pub(crate) async fn reach(&self, writes: u64) {
        eventually("acknowledged writes", async || {
            let count = self.acknowledged.load(Ordering::Relaxed);
            if count >= writes { Ok(()) } else { Err(count) }
        })
        .await;
    }

    pub(crate) async fn finish(self) -> Vec<BTreeMap<String, Known>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut known = Vec::new();
        for task in self.tasks {
            known.push(task.await.unwrap());
        }
        known
    }
}

async fn write(
    mut clients: Vec<Client>,
    prefix: String,
    writer: usize,
    keys: usize,
    mut known: BTreeMap<String, Known>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> BTreeMap<String, Known> {
    let mut leader = 0;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (
            format!("{writer}/{}", number % keys),
            format!("value {prefix}/{number}"),
        );
        let answer = put(&mut clients[leader], &key, &value).await;
        let refused = matches!(&answer, Err(status)
            if crate::common::outcome(status) == Some(proto::metadata::NOT_EXECUTED));
        if !refused {
            known
                .entry(key)
                .or_default()
                .note(&value, answer.as_ref().ok().copied());
        }
        match answer {
            Ok(_) => {
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                leader = (leader + 1) % clients.len();
                // Whoever is asked has nothing to say before others had a chance to run.
                tokio::task::yield_now().await;
            }
        }
    }
    known
}
