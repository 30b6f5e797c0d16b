//! What many connections and large values cost a node: no more than it was told.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpStream;

use common::{Client, Node, client, eventually, timed};
use proto::raft::{GetClusterStatusRequest, GetClusterStatusResponse, PutRequest};
use tonic::Status;

/// A lone node with further flags.
async fn node(dir: &tempfile::TempDir, flags: &[&str]) -> (Node, u16) {
    let all = ["--port", "0", "--single-node"].iter().chain(flags);
    let all: Vec<String> = all.map(|flag| (*flag).to_owned()).collect();
    let mut node = Node::start("node1", &dir.path().join("node1"), &all);
    let port = node.port().await;
    (node, port)
}

async fn put(client: &mut Client, key: &str, bytes: usize) -> Result<(), Status> {
    let request = PutRequest {
        key: key.to_owned(),
        value: "x".repeat(bytes),
        ..Default::default()
    };
    client.put(timed(request)).await.map(drop)
}

async fn status(client: &mut Client) -> GetClusterStatusResponse {
    let asked = client.get_cluster_status(timed(GetClusterStatusRequest {}));
    asked.await.unwrap().into_inner()
}

#[tokio::test]
async fn a_crowd_of_idle_connections_does_not_take_the_files_that_the_log_needs() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, port) = node(&dir, &["--max-connections", "16"]).await;
    let mut client = client(port);
    eventually("the first write", async || put(&mut client, "k", 10).await).await;
    let crowd: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap())
        .collect();
    node.log_contains("the limit (--max-connections)").await;
    // More than a segment of the log holds, so new files are needed meanwhile.
    for number in 0..40 {
        let key = format!("k{}", number % 4);
        put(&mut client, &key, 1000 << 10).await.unwrap();
    }
    assert!(node.ended().is_none(), "{}", node.log());
    drop(crowd);
}

#[tokio::test]
async fn large_values_make_a_snapshot_long_before_there_are_many_entries() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, port) = node(&dir, &["--snapshot-bytes", "4000000"]).await;
    let mut client = client(port);
    eventually("the first write", async || put(&mut client, "k", 10).await).await;
    for _ in 0..20 {
        put(&mut client, "k", 1000 << 10).await.unwrap();
    }
    eventually("the log to be shortened to a quarter of the bytes", async || {
        let status = status(&mut client).await;
        let left = status.last_index - status.log_start_index;
        (status.snapshot_index > 0 && left <= 8).then_some(()).ok_or(left)
    })
    .await;
}
