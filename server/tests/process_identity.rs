//! Who may use a node's name: the store that had it first, in one process at a time.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Cluster, Node, client, timed};
use proto::raft::{GetClusterStatusRequest, GetRequest};
use tempfile::tempdir;

const OTHER_STORE: &str = "node2 came back with another store";

/// Starts another process under the name of `node2` of this cluster, on a port of its own.
fn second_node2(cluster: &Cluster, data_dir: &Path) -> Node {
    let (first, third) = (cluster.ports[0], cluster.ports[2]);
    let line = format!("--port 0 --peers localhost:{first},localhost:{third}");
    let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Node::start("node2", data_dir, &flags)
}

#[tokio::test]
async fn an_emptied_node_is_no_voter_and_the_log_says_why() {
    let mut cluster = Cluster::start(3).await;
    cluster.all_have_met().await;
    cluster.kill(2);
    cluster.everybody().put("foo", "bar").await;
    // Only these two have it; of them, one loses everything.
    cluster.kill(0);
    cluster.kill(1);
    fs::remove_dir_all(cluster.data_dir(1)).unwrap();
    cluster.launch(1);
    cluster.launch(2);
    for at in [1, 2] {
        cluster.node(at).log_contains(OTHER_STORE).await;
        cluster.node(at).log_contains("restore the directory").await;
    }
    // Many times the span in which two nodes that trust each other elect a leader.
    let watched = Instant::now();
    while watched.elapsed() < Duration::from_secs(2) {
        for at in [1, 2] {
            let status = cluster.status(at).await.unwrap();
            assert_eq!(
                status.leader_id, "",
                "there is no majority of nodes that remember"
            );
            let mut client = cluster.client(at);
            let read = client
                .get(timed(GetRequest {
                    key: "foo".into(),
                    ..Default::default()
                }))
                .await;
            assert!(read.is_err(), "nobody can know: {read:?}");
        }
    }

    cluster.launch(0);
    let mut everybody = cluster.everybody();
    assert_eq!(everybody.get("foo").await.as_deref(), Some("bar"));
    everybody.put("after", "1").await;
    assert_eq!(cluster.status(1).await.unwrap().leader_id, "");
    cluster.node(0).log_contains(OTHER_STORE).await;
    for at in [0, 2] {
        let log = cluster.node(at).log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(OTHER_STORE)).collect();
        assert_eq!(lines.len(), 1, "said once: {log}");
        assert!(lines[0].contains("ERROR"), "{}", lines[0]);
    }
}

#[tokio::test]
async fn a_second_process_with_a_name_that_is_taken_is_refused() {
    let mut cluster = Cluster::start(3).await;
    cluster.all_have_met().await;
    let dir = tempdir().unwrap();
    let mut second = second_node2(&cluster, &dir.path().join("second"));
    let port = second.port().await;
    second.log_contains(OTHER_STORE).await;
    for at in [0, 2] {
        cluster.node(at).log_contains(OTHER_STORE).await;
    }
    cluster.everybody().put("k", "v").await;
    cluster.converge().await;
    let status = client(port)
        .get_cluster_status(timed(GetClusterStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.leader_id.as_str(), status.last_index),
        ("", 0),
        "it got nothing"
    );
    for at in [0, 2] {
        let log = cluster.node(at).log();
        assert_eq!(log.matches(OTHER_STORE).count(), 1, "said once: {log}");
    }
}

#[tokio::test]
async fn two_processes_with_copies_of_one_directory_are_reported() {
    let mut cluster = Cluster::start(3).await;
    cluster.all_have_met().await;
    cluster.everybody().put("k", "v").await;
    cluster.converge().await;
    cluster.kill(1);
    let dir = tempdir().unwrap();
    let copy = dir.path().join("copy");
    copy_dir(&cluster.data_dir(1), &copy);
    cluster.launch(1);
    cluster.all_have_met().await;
    let second = second_node2(&cluster, &copy);
    cluster
        .node(0)
        .log_contains("two processes call themselves node2")
        .await;
    drop(second);
    // As the advice has it.
    cluster.kill(1);
    cluster.launch(1);
    cluster.everybody().put("k", "w").await;
    cluster.converge().await;
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let to = to.join(item.file_name());
        match item.file_type().unwrap().is_dir() {
            true => copy_dir(&item.path(), &to),
            false => drop(fs::copy(item.path(), &to).unwrap()),
        }
    }
}
