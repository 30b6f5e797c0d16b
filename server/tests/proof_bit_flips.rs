//! The proof that a flipped bit anywhere in one node's files never changes what the cluster answers: the node makes up for
//! it, gets back what is lost, or refuses to start and says why; all the others answer rightly all the while.
//!
//! `WHITEWATER_ROUNDS` says how many bits are flipped (12), `WHITEWATER_SEED` repeats a run.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Cluster, eventually, timed};
use proto::raft::{GetRequest, PutRequest};

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name} is a number"))
    })
}

/// Every file below `dir` with something in it, but for the lock.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_name() != "lock" && entry.metadata().unwrap().len() > 0 {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Where to flip in a file: where something was written, and now and then anywhere.
fn place(data: &[u8], dice: &mut impl FnMut(usize) -> usize) -> usize {
    let any = dice(data.len());
    if dice(4) == 0 {
        return any;
    }
    // The next byte that is not zero, from some place in the first part that is.
    let written = data.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let from = dice(written);
    data[from..]
        .iter()
        .position(|byte| *byte != 0)
        .map_or(any, |behind| from + behind)
}

async fn answers_rightly(cluster: &Cluster, expected: &BTreeMap<String, String>, what: &str) {
    for at in (0..3).filter(|at| cluster.nodes[*at].is_some()) {
        for (key, value) in expected {
            let found = eventually("an answer", async || {
                let request = timed(GetRequest {
                    key: key.clone(),
                    ..Default::default()
                });
                let answer = cluster.client(at).get(request).await;
                answer
                    .map(|answer| answer.into_inner().value)
                    .map_err(|status| status.to_string())
            })
            .await;
            assert_eq!(found, *value, "{what}: {key} on node {at}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_files_of_one_node_never_changes_an_answer() {
    let rounds = from_env("WHITEWATER_ROUNDS", 12);
    let seed = from_env("WHITEWATER_SEED", u64::from(std::process::id()));
    println!("WHITEWATER_SEED={seed} WHITEWATER_ROUNDS={rounds}");
    let mut state = seed | 1;
    let mut dice = move |sides: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % sides as u64) as usize
    };
    let flags = [
        "--election-timeout",
        "100ms",
        "--snapshot-entries",
        "40",
        "--snapshot-trailing",
        "5",
    ];
    let mut cluster = Cluster::start_with(3, &flags).await;
    let mut everybody = cluster.everybody();
    let mut expected = BTreeMap::new();
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..rounds {
        for number in 0..25 {
            let (key, value) = (format!("k{}", number % 10), format!("{round}.{number}"));
            everybody.put(&key, &value).await;
            expected.insert(key, value);
        }
        let victim = dice(3);
        cluster.kill(victim);
        let paths = files(&cluster.data_dir(victim));
        let path = &paths[dice(paths.len())];
        let before = fs::read(path).unwrap();
        let mut after = before.clone();
        let (at, bit) = (place(&before, &mut dice), dice(8));
        after[at] ^= 1 << bit;
        fs::write(path, after).unwrap();
        let what = format!("round {round}: bit {bit} of byte {at} of {}", path.display());

        cluster.launch(victim);
        let started = eventually("the node to serve or to end", async || {
            if let Some(status) = cluster.node(victim).ended() {
                return Ok(Err(status));
            }
            match cluster.status(victim).await {
                Ok(status) if !status.leader_id.is_empty() => Ok(Ok(())),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        if let Err(status) = started {
            assert!(
                matches!(status.code(), Some(2 | 5 | 6)),
                "{what}: ended with {status}"
            );
            *outcomes.entry("refused").or_default() += 1;
            cluster.nodes[victim] = None;
            // Without it the others go on.
            everybody.put("alive", &what).await;
            answers_rightly(&cluster, &expected, &what).await;
            fs::write(path, before).unwrap();
            cluster.launch(victim);
        } else {
            let log = cluster.node(victim).log();
            let lost = log.contains("acknowledged entries are damaged")
                || log.contains("set aside a damaged snapshot");
            *outcomes
                .entry(if lost { "refilled" } else { "nothing lost" })
                .or_default() += 1;
        }
        cluster.leader().await;
        everybody.put("alive", &what).await;
        answers_rightly(&cluster, &expected, &what).await;
        cluster.converge().await;
        let status = cluster.status(victim).await.unwrap();
        assert_eq!(status.suspect_index, 0, "{what}: it has everything back");
        let put = timed(PutRequest {
            key: "k0".into(),
            value: what.clone(),
            ..Default::default()
        });
        let leader = cluster.leader().await;
        cluster.client(leader).put(put).await.unwrap();
        expected.insert("k0".to_owned(), what);
    }
    println!("{rounds} bits flipped: {outcomes:?}");
}
