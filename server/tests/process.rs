//! Three real processes as a cluster: what clients are told, and what survives `kill -9`.
//!
//! * forming from addresses alone, the five calls, and the refusal of a follower with its hint;
//! * every acknowledged write outlives the kill of each node in turn, and of all three at once, under load;
//! * never two leaders in one term, equal digests at equal indexes;
//! * an orderly stop answers what is under way and keeps what was acknowledged;
//! * deadlines, and clients that vanish with a write under way.
//!
//! Single processes and their refusals are in `process_alone.rs`, generic clients in `process_generic.rs`.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Cluster, Everybody, eventually, leads, outcome, timed};
use nix::sys::signal::Signal;
use proto::metadata;
use proto::raft::{
    CompareAndSwapRequest, CompareAndSwapResponse, DeleteRequest, GetClusterStatusRequest, GetRequest,
    PutRequest,
};
use tonic::Code;

#[tokio::test]
async fn addresses_are_enough_to_form_a_cluster_that_serves_all_calls() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader);
    let name = cluster.name(leader);

    let put = client
        .put(timed(PutRequest {
            key: "k".into(),
            value: "1".into(),
            ..Default::default()
        }))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(put.header.as_ref().unwrap().node_id, name);
    let get = client
        .get(timed(GetRequest {
            key: "k".into(),
            ..Default::default()
        }))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((get.found, get.value.as_str(), get.index), (true, "1", put.index));

    let swap = |expected: Option<&str>, value: &str| {
        let request = CompareAndSwapRequest {
            key: "k".into(),
            expected: expected.map(str::to_owned),
            value: value.into(),
            ..Default::default()
        };
        let mut client = cluster.client(leader);
        async move {
            client
                .compare_and_swap(timed(request))
                .await
                .unwrap()
                .into_inner()
        }
    };
    let CompareAndSwapResponse {
        swapped,
        index,
        current,
        ..
    } = swap(Some("other"), "2").await;
    assert_eq!(
        (swapped, index, current.as_deref()),
        (false, put.index, Some("1"))
    );
    let done = swap(Some("1"), "2").await;
    assert!(done.swapped && done.index > put.index);

    let delete = client
        .delete(timed(DeleteRequest {
            key: "k".into(),
            ..Default::default()
        }))
        .await
        .unwrap()
        .into_inner();
    assert!(delete.existed && delete.index > done.index);
    let get = client
        .get(timed(GetRequest {
            key: "k".into(),
            ..Default::default()
        }))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (get.found, get.index),
        (false, delete.index),
        "the deletion is named"
    );
    assert!(swap(None, "3").await.swapped, "absent is what was expected");

    let status = cluster.status(leader).await.unwrap();
    assert_eq!(
        (status.voters, status.leader_id, status.leader_address),
        (3, name, cluster.address(leader))
    );
    assert!(
        status
            .peers
            .iter()
            .all(|peer| peer.connected && !peer.node_id.is_empty()),
        "{:?}",
        status.peers
    );
    cluster.converge().await;
    for at in 0..3 {
        let log = cluster.node(at).log();
        assert_eq!(
            log.matches("link up").count(),
            2,
            "each link comes up once, and for good: {log}"
        );
    }
}

#[tokio::test]
async fn a_follower_refuses_writes_and_names_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    for follower in (0..3).filter(|at| *at != leader) {
        let put = cluster
            .client(follower)
            .put(timed(PutRequest {
                key: "k".into(),
                value: "v".into(),
                ..Default::default()
            }))
            .await;
        let status = put.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert_eq!(outcome(&status), Some(metadata::NOT_EXECUTED));
        assert_eq!(
            status.metadata().get(metadata::LEADER_ID).unwrap(),
            cluster.name(leader).as_str()
        );
        assert_eq!(
            status.metadata().get(metadata::LEADER_ADDRESS).unwrap(),
            cluster.address(leader).as_str()
        );
    }
}

/// Writers that each write new keys one after the other and remember what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<(String, String)>>>,
}

impl Load {
    fn start(cluster: &Cluster, writers: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let write = |writer: usize| {
            let (mut everybody, stop, acknowledged) =
                (cluster.everybody(), stop.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut kept = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let (key, value) = (
                        format!("{writer}/{number}"),
                        format!("value {number} of {writer}"),
                    );
                    if everybody.put_once(&key, &value).await.is_some() {
                        kept.push((key, value));
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
                kept
            })
        };
        let tasks = (0..writers).map(write).collect();
        Load {
            stop,
            acknowledged,
            tasks,
        }
    }

    /// Waits for so many more acknowledged writes.
    async fn progress(&self, writes: u64) {
        let goal = self.acknowledged.load(Ordering::Relaxed) + writes;
        eventually("acknowledged writes", async || {
            let count = self.acknowledged.load(Ordering::Relaxed);
            if count >= goal { Ok(()) } else { Err(count) }
        })
        .await;
    }

    async fn finish(self) -> Vec<(String, String)> {
        self.stop.store(true, Ordering::Relaxed);
        let mut kept = Vec::new();
        for task in self.tasks {
            kept.extend(task.await.unwrap());
        }
        kept
    }
}

/// Watches all nodes and remembers who was seen leading which term.
fn observe(cluster: &Cluster, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<BTreeMap<u64, String>> {
    let clients: Vec<_> = (0..cluster.ports.len()).map(|at| cluster.client(at)).collect();
    let leaders = Arc::new(Mutex::new(BTreeMap::new()));
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            for mut client in clients.iter().cloned() {
                let Ok(status) = client.get_cluster_status(timed(GetClusterStatusRequest {})).await else {
                    continue;
                };
                let status = status.into_inner();
                if leads(&status) {
                    let header = status.header.unwrap();
                    let mut leaders = leaders.lock().unwrap();
                    let first: &mut String = leaders
                        .entry(header.term)
                        .or_insert_with(|| header.node_id.clone());
                    assert_eq!(*first, header.node_id, "two leaders in term {}", header.term);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let leaders = leaders.lock().unwrap();
        leaders.clone()
    })
}

async fn read_back(everybody: &mut Everybody, kept: &[(String, String)]) {
    for (key, value) in kept {
        assert_eq!(
            everybody.get(key).await.as_ref(),
            Some(value),
            "{key} was acknowledged"
        );
    }
}

#[tokio::test]
async fn no_acknowledged_write_is_lost_when_nodes_are_killed() {
    let mut cluster = Cluster::start(3).await;
    let first = cluster.leader().await;
    let load = Load::start(&cluster, 4);
    let stop = Arc::new(AtomicBool::new(false));
    let observer = observe(&cluster, stop.clone());
    load.progress(50).await;

    // Each node in turn, beginning with the leader; whoever leads after that is met as well.
    for victim in [first, (first + 1) % 3, (first + 2) % 3] {
        cluster.kill(victim);
        load.progress(30).await;
        cluster.launch(victim);
        cluster.leader().await;
        load.progress(30).await;
    }
    let leader = cluster.leader().await;
    cluster.kill(leader);
    load.progress(30).await;
    cluster.launch(leader);

    // All at once, in the middle of the load.
    load.progress(30).await;
    (0..3).for_each(|at| cluster.node(at).signal(Signal::SIGKILL));
    (0..3).for_each(|at| cluster.kill(at));
    (0..3).for_each(|at| cluster.launch(at));
    load.progress(30).await;

    let kept = load.finish().await;
    stop.store(true, Ordering::Relaxed);
    let leaders = observer.await.unwrap();
    assert!(
        leaders.len() > 1,
        "the kills must have cost a leader its office: {leaders:?}"
    );
    assert!(kept.len() >= 230, "{} writes", kept.len());
    read_back(&mut cluster.everybody(), &kept).await;
    cluster.converge().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_that_only_the_leader_has() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut everybody = cluster.everybody();
    everybody.put("before", "1").await;
    let followers = [(leader + 1) % 3, (leader + 2) % 3];
    for follower in followers {
        cluster.node(follower).signal(Signal::SIGSTOP);
    }
    let request = timed(PutRequest {
        key: "alone".into(),
        value: "2".into(),
        ..Default::default()
    });
    let status = cluster.client(leader).put(request).await.unwrap_err();
    assert_ne!(
        outcome(&status),
        Some(metadata::NOT_EXECUTED),
        "it is in the log: {status:?}"
    );
    let request = timed(GetRequest {
        key: "before".into(),
        ..Default::default()
    });
    let read = cluster.client(leader).get(request).await;
    assert!(
        read.is_err(),
        "whoever hears nobody does not know whether it still leads: {read:?}"
    );

    cluster.kill(leader);
    for follower in followers {
        cluster.node(follower).signal(Signal::SIGCONT);
    }
    assert_eq!(everybody.get("before").await.as_deref(), Some("1"));
    everybody.put("after", "3").await;
    cluster.launch(leader);
    cluster.converge().await;
}

#[tokio::test]
async fn an_orderly_stop_keeps_and_answers_everything() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    // Many writes under way when the signal comes: each must get an answer that says what became of it.
    let client = cluster.client(leader);
    let put = |number: usize| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let (key, value) = (format!("key {number}"), "v".repeat(1000));
            client
                .put(timed(PutRequest {
                    key,
                    value,
                    ..Default::default()
                }))
                .await
                .map(|_| number)
        })
    };
    put(0).await.unwrap().unwrap();
    let under_way: Vec<_> = (1..400).map(put).collect();
    tokio::task::yield_now().await;
    cluster.node(leader).signal(Signal::SIGTERM);
    let mut kept = vec![("key 0".to_owned(), "v".repeat(1000))];
    for answer in under_way {
        match answer.await.unwrap() {
            Ok(number) => kept.push((format!("key {number}"), "v".repeat(1000))),
            // `Cancelled`, and whatever has a transport error as its source, come from this side: the request was still
            // in its own queue, or on its way, when the node said goodbye, so the node has never seen it.
            Err(status) => assert!(
                outcome(&status).is_some()
                    || matches!(status.code(), Code::Unavailable | Code::Cancelled)
                    || std::error::Error::source(&status)
                        .is_some_and(|source| source.is::<tonic::transport::Error>()),
                "a write was left without an answer: {status:?}"
            ),
        }
    }
    let status = cluster.node(leader).exit().await;
    assert_eq!(status.code(), Some(0), "{}", cluster.node(leader).log());
    cluster.nodes[leader] = None;
    read_back(&mut cluster.everybody(), &kept).await;

    cluster.launch(leader);
    for at in 0..3 {
        eventually("the node to answer", async || cluster.status(at).await).await;
        cluster.node(at).signal(Signal::SIGTERM);
        assert_eq!(cluster.node(at).exit().await.code(), Some(0));
    }
    (0..3).for_each(|at| cluster.launch(at));
    read_back(&mut cluster.everybody(), &kept).await;
    cluster.converge().await;
}

/// Two nodes with an election timeout so long that the survivor keeps its office while writes hang.
async fn cluster_that_hangs() -> (Cluster, usize) {
    let mut cluster = Cluster::start_with(2, &["--election-timeout", "2s"]).await;
    let leader = cluster.leader().await;
    cluster.everybody().put("before", "1").await;
    cluster.kill(1 - leader);
    (cluster, leader)
}

#[tokio::test]
async fn an_orderly_stop_says_what_it_cannot_know() {
    let (mut cluster, leader) = cluster_that_hangs().await;
    let mut client = cluster.client(leader);
    let last = cluster.status(leader).await.unwrap().last_index;
    let request = timed(PutRequest {
        key: "k".into(),
        value: "v".into(),
        ..Default::default()
    });
    let under_way = tokio::spawn(async move { client.put(request).await });
    last_index_passes(&cluster, leader, last).await;
    cluster.node(leader).signal(Signal::SIGTERM);
    let status = under_way.await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), outcome(&status)),
        (Code::Unavailable, Some(metadata::UNKNOWN)),
        "{status:?}"
    );
    assert_eq!(cluster.node(leader).exit().await.code(), Some(0));
}

async fn last_index_passes(cluster: &Cluster, at: usize, last: u64) {
    eventually("a write to reach the log", async || {
        let now = cluster
            .status(at)
            .await
            .map_err(|status| status.to_string())?
            .last_index;
        if now > last { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_deadline_ends_the_wait_for_a_write_that_cannot_be_committed() {
    let (cluster, leader) = cluster_that_hangs().await;
    let mut request = tonic::Request::new(PutRequest {
        key: "k".into(),
        value: "v".into(),
        ..Default::default()
    });
    request.set_timeout(Duration::from_millis(200));
    let status = cluster.client(leader).put(request).await.unwrap_err();
    assert_eq!(
        (status.code(), outcome(&status)),
        (Code::DeadlineExceeded, Some(metadata::UNKNOWN)),
        "nobody can know what becomes of it: {status:?}"
    );
    // The node is none the worse for it.
    assert!(
        leads(&cluster.status(leader).await.unwrap()),
        "the deadline came before the loss of office"
    );
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_its_write_to_its_fate_and_the_node_unharmed() {
    let (mut cluster, leader) = cluster_that_hangs().await;
    let last = cluster.status(leader).await.unwrap().last_index;
    // A connection of its own, cut with the write in the leader's log.
    let mut client = common::client(cluster.ports[leader]);
    let abandoned = tokio::spawn(async move {
        client
            .put(PutRequest {
                key: "left".into(),
                value: "alone".into(),
                ..Default::default()
            })
            .await
    });
    last_index_passes(&cluster, leader, last).await;
    abandoned.abort();
    cluster.launch(1 - leader);
    let mut everybody = cluster.everybody();
    everybody.put("after", "2").await;
    assert_eq!(everybody.get("before").await.as_deref(), Some("1"));
    // The log holds the write before everything else, so it happened although nobody waits for it.
    assert_eq!(everybody.get("left").await.as_deref(), Some("alone"));
    cluster.converge().await;
}
