//! How a node ends on request: nobody who waits is left without an answer, and no open stream is cut.
#![allow(clippy::unwrap_used)]

mod common;

use std::process::{Output, Stdio};

use common::calls::serving_node;
use common::{Cluster, client, eventually, outcome};
use nix::sys::signal::Signal;
use proto::metadata;
use proto::raft::state_service_client::StateServiceClient;
use proto::raft::{BatchRequest, WatchRequest, WatchRoleRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Runs `server ctl` on one node of a cluster, beside everything else.
fn ctl(cluster: &Cluster, at: usize, line: &str) -> tokio::task::JoinHandle<Output> {
    let running = tokio::process::Command::new(env!("CARGO_BIN_EXE_server"))
        .args(["ctl", "--timeout", "30s", "--endpoint", &cluster.address(at)])
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    tokio::spawn(async { running.wait_with_output().await.unwrap() })
}

/// A leader in whose cluster nobody else does anything any more.
async fn leader_of_silence() -> (Cluster, usize) {
    let mut cluster = Cluster::start_with(3, &["--election-timeout", "4s"]).await;
    let leader = cluster.leader().await;
    eventually("a configuration to be in force", async || {
        let output = ctl(&cluster, leader, "--json member list").await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("\"committed\":true").then_some(()).ok_or(text)
    })
    .await;
    for at in (0..3).filter(|at| *at != leader) {
        cluster.node(at).signal(Signal::SIGSTOP);
    }
    (cluster, leader)
}

#[tokio::test]
async fn a_change_that_a_stopping_leader_leaves_in_its_log_may_have_happened() {
    let (mut cluster, leader) = leader_of_silence().await;
    let last = cluster.status(leader).await.unwrap().last_index;
    let adding = ctl(&cluster, leader, "member add node4 localhost:1");
    eventually("the change to reach the log", async || {
        let now = cluster
            .status(leader)
            .await
            .map_err(|status| status.to_string())?;
        (now.last_index > last)
            .then_some(())
            .ok_or(now.last_index.to_string())
    })
    .await;
    cluster.node(leader).signal(Signal::SIGTERM);
    let output = adding.await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it may have happened all the same"), "{said}");
    assert_eq!(cluster.node(leader).exit().await.code(), Some(0));
}

/// How a stream ended, whatever came before.
async fn end<T>(mut stream: Streaming<T>) -> Result<(), Status> {
    while stream.message().await?.is_some() {}
    Ok(())
}

#[tokio::test]
async fn a_node_that_stops_ends_every_stream_that_is_open_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut node, port) = serving_node(&dir).await;
    let channel = common::channel(port);
    let mut states = StateServiceClient::new(channel.clone());
    let mut roles = states.watch_role(WatchRoleRequest {}).await.unwrap().into_inner();
    let watch = client(port).watch(WatchRequest::default()).await.unwrap();
    let (requests, queue) = mpsc::channel::<BatchRequest>(1);
    let batch = client(port).batch(ReceiverStream::new(queue)).await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let service = "raft.KeyValueService".to_owned();
    let health = health.watch(HealthCheckRequest { service }).await.unwrap();
    let (watch, batch, mut health) = (watch.into_inner(), batch.into_inner(), health.into_inner());
    assert!(roles.message().await.unwrap().is_some());
    let first = health.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);

    node.signal(Signal::SIGTERM);
    assert_eq!(node.exit().await.code(), Some(0));
    // A stream that the transport had cut would say so, without a word of the node about what happened.
    assert!(end(roles).await.is_ok());
    for (what, ended) in [("watch", end(watch).await), ("batch", end(batch).await)] {
        let status = ended.unwrap_err();
        assert_eq!(
            (status.code(), outcome(&status)),
            (Code::Unavailable, Some(metadata::NOT_EXECUTED)),
            "{what}: {status:?}"
        );
    }
    let last = health.message().await.unwrap().unwrap();
    assert_eq!(last.status(), ServingStatus::NotServing, "said before the end");
    assert!(end(health).await.is_ok());
    drop(requests);
}

#[tokio::test]
async fn only_so_many_follow_the_roles_of_a_node() {
    let dir = tempfile::tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut states = StateServiceClient::new(common::channel(port));
    let mut streams = Vec::new();
    let refused = loop {
        assert!(streams.len() < 1000, "there is no limit");
        match states.watch_role(WatchRoleRequest {}).await {
            Ok(stream) => streams.push(stream.into_inner()),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (refused.code(), outcome(&refused)),
        (Code::ResourceExhausted, Some(metadata::NOT_EXECUTED))
    );
    assert!(streams.len() > 100, "{}", streams.len());
    streams.pop();
    eventually("a place to be free again", async || {
        states.watch_role(WatchRoleRequest {}).await.map(drop)
    })
    .await;
}
