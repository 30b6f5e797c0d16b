//! A flipped bit anywhere in one node's files never changes what the cluster answers.
//!
//! Each round: one node of three is stopped, one bit of one of its files is flipped, and it is started again. It may
//! refuse to start (exit codes 2, 5 and 6), stay outside because it is taken for somebody else, or join. Whatever it does,
//! every key must read right through every node that answers, writes go on, and a node that joined has the digest of the others.
//!
//! A node that refused gets its directory back from a copy, which is safe because it has said nothing since. Otherwise it
//! keeps the log and the snapshots that it has made of the damage, for putting its past back would be a fault of another
//! kind; only the two files that say who is who are put right, as an operator would.
//!
//! `WHITEWATER_ROUNDS` says how many further flips, `WHITEWATER_SEED` repeats the choices.

#![allow(clippy::unwrap_used)]

mod common;
mod proof_support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Cluster, eventually};
use nix::sys::signal::Signal;
use proof_support::{Rng, read, rounds};

const FLIPS: usize = 12;
const KEYS: usize = 24;
/// Writes between two flips, so that there is something new to lose.
const WRITES: usize = 60;

/// Files of a data directory with something in them that a node reads.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in fs::read_dir(&folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::metadata(&path).unwrap().len() > 0 && !is_set_aside(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Damaged files are kept for people; no node reads them again.
fn is_set_aside(path: &Path) -> bool {
    path.file_name()
        .unwrap()
        .to_string_lossy()
        .starts_with("damaged-")
}

/// What a file is for: its name without numbers.
fn kind(path: &Path) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    name.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// A byte of a file: in its head, near the end of what was written, anywhere in between, or in the zeros behind.
fn position(random: &mut Rng, bytes: &[u8]) -> usize {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |at| at + 1);
    let at = match random.below(8) {
        0 | 1 => random.below(64),
        2 | 3 => written as u64 - 1 - random.below(written.min(512) as u64),
        4 => random.below(bytes.len() as u64),
        _ => random.below(written as u64),
    };
    (at as usize).min(bytes.len() - 1)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let path = item.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

#[derive(Debug, PartialEq)]
enum Did {
    Refused,
    StayedOutside,
    Joined,
}

/// What became of the node that was started.
async fn outcome(cluster: &mut Cluster, at: usize, says_who_is_who: bool) -> Did {
    eventually("the damaged node to make up its mind", async || {
        if let Some(status) = cluster.node(at).ended() {
            let code = status.code();
            assert!(
                matches!(code, Some(2 | 5 | 6)),
                "ended with {status}: {}",
                cluster.node(at).log()
            );
            return Ok(Did::Refused);
        }
        if says_who_is_who && cluster.node(at).log().contains("ERROR") {
            return Ok(Did::StayedOutside);
        }
        match cluster.status(at).await {
            Ok(status) if !status.leader_id.is_empty() => Ok(Did::Joined),
            Ok(_) => Err("it knows no leader".to_owned()),
            Err(status) => Err(status.to_string()),
        }
    })
    .await
}

/// Reads every key through these nodes.
async fn check(cluster: &Cluster, nodes: &[usize], expected: &BTreeMap<String, String>) {
    for at in nodes {
        for (key, value) in expected {
            let what = format!("node {at} to read {key}");
            let (found, _, read) =
                eventually(&what, async || read(&mut cluster.client(*at), key).await).await;
            assert_eq!((found, &read), (true, value), "{key} through node {at}");
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_never_changes_what_the_cluster_answers() {
    let mut random = Rng::from_env();
    let flags = [
        "--election-timeout",
        "100ms",
        "--snapshot-entries",
        "40",
        "--snapshot-trailing",
        "20",
    ];
    let mut cluster = Cluster::start_with(3, &flags).await;
    cluster.leader().await;
    let mut expected = BTreeMap::new();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for round in 0..FLIPS + rounds(0) {
        let mut everybody = cluster.everybody();
        for number in 0..WRITES {
            let (key, value) = (format!("key {}", number % KEYS), format!("{round}/{number}"));
            everybody.put(&key, &value).await;
            expected.insert(key, value);
        }
        let victim = round % 3;
        match random.below(2) {
            0 => cluster.kill(victim),
            _ => {
                cluster.node(victim).signal(Signal::SIGTERM);
                cluster.node(victim).exit().await;
            }
        }
        flip_and_check(&mut cluster, victim, &mut random, &mut kinds, &mut expected).await;
    }
    println!("flips by kind of file: {kinds:?}");
    assert!(kinds.len() >= 3, "only {kinds:?}");
}

async fn flip_and_check(
    cluster: &mut Cluster,
    victim: usize,
    random: &mut Rng,
    kinds: &mut BTreeMap<String, usize>,
    expected: &mut BTreeMap<String, String>,
) {
    let dir = cluster.data_dir(victim);
    let copies = tempfile::tempdir().unwrap();
    copy(&dir, copies.path());
    let files = files(&dir);
    // The kind of which the fewest were flipped: there are many segments and one identity.
    let fewest = files
        .iter()
        .map(|path| kinds.get(&kind(path)).copied().unwrap_or(0))
        .min()
        .unwrap();
    let rare: Vec<&PathBuf> = files
        .iter()
        .filter(|path| kinds.get(&kind(path)).copied().unwrap_or(0) == fewest)
        .collect();
    let path = *random.choose(&rare);
    *kinds.entry(kind(path)).or_default() += 1;
    let original = fs::read(path).unwrap();
    let (at, bit) = (position(random, &original), random.below(8));
    let mut damaged = original.clone();
    damaged[at] ^= 1 << bit;
    fs::write(path, damaged).unwrap();

    cluster.launch(victim);
    let says_who_is_who = matches!(kind(path).as_str(), "identity" | "peers");
    let did = outcome(cluster, victim, says_who_is_who).await;
    println!("bit {bit} of byte {at} of {}: {did:?}", path.display());
    let others: Vec<usize> = (0..3).filter(|at| *at != victim).collect();
    check(cluster, &others, expected).await;
    for number in 0..10 {
        let (key, value) = (format!("key {number}"), format!("after {did:?} {at}/{number}"));
        cluster.everybody().put(&key, &value).await;
        expected.insert(key, value);
    }
    if did == Did::Refused {
        fs::remove_dir_all(&dir).unwrap();
        copy(copies.path(), &dir);
        cluster.launch(victim);
    } else if says_who_is_who {
        cluster.kill(victim);
        fs::write(path, original).unwrap();
        cluster.launch(victim);
    }
    cluster.leader().await;
    check(cluster, &[0, 1, 2], expected).await;
    cluster.converge().await;
    let status = cluster.status(victim).await.unwrap();
    assert_eq!(status.suspect_index, 0, "it has everything back");
}
