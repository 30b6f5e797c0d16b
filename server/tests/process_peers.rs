//! Who is taken for a node: strangers learn nothing of use, nodes with a token take only those who bring it, and whoever
//! breaks the protocol is shown the door without harm to the node.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::calls::hello;
use common::{Cluster, Node, ports};
use proto::peer::message::Kind;
use proto::peer::peer_service_client::PeerServiceClient;
use proto::peer::{Frame, Heartbeat, Hello, Message, SnapshotFrame, SnapshotOffer, snapshot_frame};
use tempfile::tempdir;
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status, Streaming};

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

/// Opens a stream to a node as a peer would, says hello and then `messages`, and leaves it open.
async fn exchange(
    port: u16,
    hello: Hello,
    messages: Vec<Kind>,
    token: Option<&str>,
) -> Result<Streaming<Frame>, Status> {
    let first = Frame {
        hello: Some(hello),
        ..Default::default()
    };
    let messages = messages.into_iter().map(|kind| Message { kind: Some(kind) });
    let second = Frame {
        messages: messages.collect(),
        ..Default::default()
    };
    let frames = tokio_stream::iter([first, second]).chain(tokio_stream::pending());
    let mut client = PeerServiceClient::new(common::channel(port));
    Ok(client.exchange(with_token(frames, token)).await?.into_inner())
}

/// Offers a snapshot, as a peer would.
async fn offer(port: u16, token: Option<&str>) -> Status {
    let offer = SnapshotOffer {
        hello: Some(hello("node2", 5)),
        term: 1,
        last_term: 1,
        last_index: 1,
        snapshot_id: 1,
        total_bytes: 1,
    };
    let frame = SnapshotFrame {
        kind: Some(snapshot_frame::Kind::Offer(offer)),
    };
    let mut client = PeerServiceClient::new(common::channel(port));
    let offered = client
        .send_snapshot(with_token(tokio_stream::iter([frame]), token))
        .await;
    offered.map_or_else(|status| status, |_| Status::ok("it was taken"))
}

/// How a stream ends.
async fn end(mut answers: Streaming<Frame>) -> Status {
    loop {
        match tokio::time::timeout(common::PATIENCE, answers.message())
            .await
            .expect("the node ends the stream")
        {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("the stream ended"),
            Err(status) => return status,
        }
    }
}

/// The number of the store in a data directory.
fn store_in(data_dir: &Path) -> u64 {
    let text = fs::read_to_string(data_dir.join("identity")).unwrap();
    u64::from_str_radix(text.split(' ').next().unwrap(), 16).unwrap()
}

fn token_file(dir: &Path, token: &str) -> PathBuf {
    let file = dir.join(format!("{token}.token"));
    fs::write(&file, token).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file
}

#[tokio::test]
async fn a_stranger_learns_no_store_number() {
    let dir = tempdir().unwrap();
    let line = format!("--port 0 --peers localhost:{}", ports::take(1)[0]);
    let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let mut node = Node::start("node1", &dir.path().join("node1"), &flags);
    let port = node.port().await;
    let mut answers = exchange(port, hello("node2", 5), Vec::new(), None).await.unwrap();
    let welcome = answers.message().await.unwrap().unwrap().welcome.unwrap();
    assert_eq!((welcome.node_id.as_str(), welcome.accepted), ("node1", false));
    assert_eq!(welcome.store_id, 0);

    let cluster = Cluster::start(3).await;
    cluster.all_have_met().await;
    let known = store_in(&cluster.data_dir(1));
    let answers = exchange(cluster.ports[0], hello("node2", known ^ 1), Vec::new(), None).await;
    let status = answers.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("another store"), "{status}");
    assert!(
        !status.message().contains(&format!("{known:016x}")),
        "with it the caller could use the name: {status}"
    );
}

#[tokio::test]
async fn whoever_claims_the_leaders_term_is_shown_the_door_and_the_leader_stays() {
    let mut cluster = Cluster::start(3).await;
    cluster.all_have_met().await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    let term = cluster.status(leader).await.unwrap().header.unwrap().term;
    let forged = Kind::Heartbeat(Heartbeat {
        term,
        commit: 0,
        read_seq: 0,
    });
    // With everything that identifies a node where there is neither a token nor TLS.
    let hello = hello(&cluster.name(other), store_in(&cluster.data_dir(other)));
    let answers = exchange(cluster.ports[leader], hello, vec![forged], None).await;
    let status = end(answers.unwrap()).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("claims to lead term"), "{status}");
    let node = cluster.node(leader);
    node.log_contains("a peer breaks the protocol").await;
    assert!(node.ended().is_none(), "{}", node.log());
    cluster.everybody().put("k", "w").await;
}

#[tokio::test]
async fn nodes_with_a_token_replicate_and_take_nobody_for_a_node_who_does_not_bring_it() {
    let dir = tempdir().unwrap();
    let file = token_file(dir.path(), "open-sesame");
    let mut cluster = Cluster::start_with(3, &["--admin-token-file", file.to_str().unwrap()]).await;
    cluster.everybody().put("k", "v").await;
    cluster.converge().await;
    cluster.all_have_met().await;
    let port = cluster.ports[0];
    for (token, told) in [
        (None, "without the token"),
        (Some("theirs"), "with another token"),
    ] {
        let exchanged = exchange(port, hello("node2", 5), Vec::new(), token).await;
        for status in [exchanged.unwrap_err(), offer(port, token).await] {
            assert_eq!(status.code(), Code::Unauthenticated, "{status}");
            assert!(status.message().contains(told), "{status}");
        }
        cluster.node(0).log_contains(told).await;
    }
    let offered = offer(port, Some("open-sesame")).await;
    assert_eq!(
        offered.code(),
        Code::FailedPrecondition,
        "past the token, another store is another store: {offered}"
    );
    let log = cluster.node(0).log();
    assert_eq!(log.matches("without the token").count(), 1, "said once: {log}");
    assert!(!log.contains("open-sesame"), "{log}");
}

#[tokio::test]
async fn a_node_without_the_token_of_its_cluster_is_told_what_it_lacks() {
    let dir = tempdir().unwrap();
    let ports = ports::take(2);
    let start = |at: usize, flags: &str| {
        let name = format!("node{}", at + 1);
        let line = format!("--port {} --peers localhost:{} {flags}", ports[at], ports[1 - at]);
        let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Node::start(&name, &dir.path().join(&name), &flags)
    };
    let file = token_file(dir.path(), "ours");
    let mut with = start(0, &format!("--admin-token-file {}", file.display()));
    let mut without = start(1, "");
    let advice = "give --admin-token-file with the same content to every node";
    with.log_contains(advice).await;
    without.log_contains(advice).await;
    for node in [&with, &without] {
        let log = node.log();
        let line = log.lines().find(|line| line.contains(advice)).unwrap();
        assert!(line.contains("ERROR"), "{line}");
    }
    without.kill();
    let mut without = start(1, &format!("--admin-token-file {}", file.display()));
    without.log_contains("link up").await;
}

#[tokio::test]
async fn a_node_that_listens_everywhere_without_an_address_of_its_own_does_not_start() {
    let dir = tempdir().unwrap();
    let line = "--port 0 --listen 0.0.0.0 --peers localhost:1";
    let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let data = dir.path().join("data");
    let said = Node::start("node1", &data, &flags).refuses_with(2).await;
    assert!(said.contains("--advertise"), "{said}");
    assert!(!data.exists());
}
