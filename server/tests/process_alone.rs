//! Single processes and small misconfigured clusters: what a node refuses, how it says so, and with which exit code.
//!
//! * wrong flags, a busy port, somebody else's data directory, one that is in use, a damaged log;
//! * peers that are missing, that count differently, that are the node itself;
//! * `--port 0`, and standard input as a leash.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use common::calls::hello;
use common::ports;
use common::{Node, client, eventually, lone_node, outcome, timed};
use nix::sys::signal::Signal;
use proto::metadata;
use proto::peer::message::Kind;
use proto::peer::peer_service_client::PeerServiceClient;
use proto::peer::{Frame, Heartbeat, Hello};
use proto::raft::{GetClusterStatusRequest, GetRequest, PutRequest};
use tempfile::tempdir;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status};

fn flags(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[tokio::test]
async fn wrong_flags_end_with_code_2_and_name_the_flag() {
    let dir = tempdir().unwrap();
    for (number, (line, named)) in [
        ("--single-node", "--port"),
        ("--port 1", "--peers"),
        ("--port 70000 --single-node", "--port"),
        ("--port 1 --peers localhost", "--peers"),
        ("--port 21000 --peers localhost:21000", "--peers"),
        (
            "--port 0 --single-node --election-timeout 1ms",
            "--election-timeout",
        ),
        ("--port 0 --single-node --no-such-flag", "--no-such-flag"),
    ]
    .into_iter()
    .enumerate()
    {
        let data_dir = dir.path().join(number.to_string());
        let said = Node::start("node1", &data_dir, &flags(line))
            .refuses_with(2)
            .await;
        assert!(said.contains(named), "{line}: {said}");
        assert!(
            !data_dir.exists(),
            "{line}: nothing is created for a node that cannot be"
        );
    }
}

#[tokio::test]
async fn a_busy_port_is_named_with_what_to_do() {
    let dir = tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let line = format!("--port {port} --single-node");
    let said = Node::start("node1", &dir.path().join("data"), &flags(&line))
        .refuses_with(5)
        .await;
    assert!(
        said.contains(&port.to_string()) && said.contains("choose another --port"),
        "{said}"
    );
}

#[tokio::test]
async fn the_data_of_another_node_is_refused_and_kept() {
    let dir = tempdir().unwrap();
    let (mut node, port) = lone_node(&dir).await;
    write(port, 0..3).await;
    node.kill();
    let data_dir = dir.path().join("node1");
    let before = contents(&data_dir);
    let said = Node::start("node2", &data_dir, &flags("--port 0 --single-node"))
        .refuses_with(2)
        .await;
    assert!(
        said.contains("belongs to node1") && said.contains("--data-dir"),
        "{said}"
    );
    assert_eq!(contents(&data_dir), before);
}

#[tokio::test]
async fn two_processes_do_not_share_a_data_directory() {
    let dir = tempdir().unwrap();
    let (node, port) = lone_node(&dir).await;
    let second = Node::start(
        "node1",
        &dir.path().join("node1"),
        &flags("--port 0 --single-node"),
    );
    // Both write into the same log file; the second began where the first had stopped.
    let said = { second }.refuses_with(5).await;
    assert!(
        said.contains("is in use by process") && said.contains("--data-dir"),
        "{said}"
    );
    write(port, 0..1).await;
    drop(node);
}

#[tokio::test]
async fn a_damaged_log_is_reported_and_left_as_it_is() {
    let dir = tempdir().unwrap();
    let (mut node, port) = lone_node(&dir).await;
    write(port, 0..100).await;
    node.kill();
    let data_dir = dir.path().join("node1");
    let (segment, mut bytes) = contents(&data_dir)
        .into_iter()
        .find(|(_, bytes)| find(bytes, b"value 50 ").is_some())
        .expect("a segment holds the fiftieth write");
    // In the middle of an acknowledged value, with many acknowledged writes behind it.
    let at = find(&bytes, b"value 50 ").unwrap();
    bytes[at] ^= 0x01;
    fs::write(&segment, &bytes).unwrap();
    let before = contents(&data_dir);

    let said = Node::start("node1", &data_dir, &flags("--port 0 --single-node"))
        .refuses_with(6)
        .await;
    let place = format!("{} at byte ", segment.display());
    let (_, rest) = said
        .split_once(&place)
        .unwrap_or_else(|| panic!("file and offset: {said}"));
    let offset: usize = rest
        .split(|c: char| !c.is_ascii_digit())
        .next()
        .unwrap()
        .parse()
        .unwrap();
    // The frame that holds the damaged byte, or the byte itself.
    assert!(offset <= at && at - offset <= 4096, "{offset} for {at}: {said}");
    assert_eq!(said.matches("What to do: restore this file").count(), 1, "{said}");
    assert!(
        said.contains("a node that comes back without its memory is refused by its peers"),
        "{said}"
    );
    assert_eq!(contents(&data_dir), before, "nothing was changed");
}

#[tokio::test]
async fn writes_survive_kills_and_stops_of_a_lone_node() {
    let dir = tempdir().unwrap();
    let (mut node, port) = lone_node(&dir).await;
    write(port, 0..20).await;
    node.kill();
    let (mut node, port) = lone_node(&dir).await;
    read(port, 0..20).await;
    write(port, 20..40).await;
    node.signal(Signal::SIGINT);
    assert_eq!(node.exit().await.code(), Some(0), "{}", node.log());
    let (node, port) = lone_node(&dir).await;
    read(port, 0..40).await;
    assert!(!node.log().contains("cut an unfinished write"), "{}", node.log());
}

#[tokio::test]
async fn missing_peers_are_waited_for() {
    let dir = tempdir().unwrap();
    let ports = ports::take(2);
    let line = format!("--port 0 --peers localhost:{},localhost:{}", ports[0], ports[1]);
    let mut node = Node::start("node1", &dir.path().join("node1"), &flags(&line));
    let port = node.port().await;
    node.log_contains("no link to this peer").await;
    let put = client(port)
        .put(timed(PutRequest {
            key: "k".into(),
            value: "v".into(),
            ..Default::default()
        }))
        .await;
    let get = client(port)
        .get(timed(GetRequest {
            key: "k".into(),
            ..Default::default()
        }))
        .await;
    for status in [put.unwrap_err(), get.unwrap_err()] {
        assert_eq!(
            (status.code(), outcome(&status)),
            (Code::Unavailable, Some(metadata::NOT_EXECUTED)),
            "{status:?}"
        );
    }
    // The reason comes with its cause.
    node.log_contains("onnection refused").await;
    assert!(node.ended().is_none());
}

#[tokio::test]
async fn nodes_that_count_differently_refuse_each_other() {
    let dir = tempdir().unwrap();
    let nobody = ports::take(2);
    // The second node knows the first one's port; the first names two where nobody listens.
    let one = format!("--port 0 --peers localhost:{},localhost:{}", nobody[0], nobody[1]);
    let mut one = Node::start("node1", &dir.path().join("node1"), &flags(&one));
    let port = one.port().await;
    let two = format!("--port 0 --peers localhost:{port}");
    let mut two = Node::start("node2", &dir.path().join("node2"), &flags(&two));
    two.log_contains("node1 counts 3 nodes in the cluster, node2 counts 2")
        .await;
    assert!(
        two.log()
            .contains("give every node the addresses of all the others"),
        "{}",
        two.log()
    );
    assert!(two.ended().is_none() && one.ended().is_none());
}

/// Says hello to a node as a peer would and then `message`, and returns how that ended.
async fn greet(port: u16, hello: Option<Hello>, message: Option<Heartbeat>) -> Status {
    let kind = message.map(|heartbeat| proto::peer::Message {
        kind: Some(Kind::Heartbeat(heartbeat)),
    });
    let frames = [
        Frame {
            hello,
            ..Default::default()
        },
        Frame {
            messages: kind.into_iter().collect(),
            ..Default::default()
        },
    ];
    // The stream stays open: it is the node that has to end it.
    let frames = tokio_stream::iter(frames).chain(tokio_stream::pending());
    let mut answers = match PeerServiceClient::new(common::channel(port))
        .exchange(frames)
        .await
    {
        Ok(answers) => answers.into_inner(),
        Err(status) => return status,
    };
    loop {
        match tokio::time::timeout(common::PATIENCE, answers.message())
            .await
            .expect("an end")
        {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("the stream ended"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn a_node_survives_what_strangers_say_to_it() {
    let dir = tempdir().unwrap();
    let line = format!("--port 0 --peers node2=localhost:{}", ports::take(1)[0]);
    let mut node = Node::start("node1", &dir.path().join("node1"), &flags(&line));
    let port = node.port().await;
    let hello = Hello {
        expected_node_id: "node1".into(),
        voters: 2,
        ..hello("node2", 5)
    };
    assert_eq!(greet(port, None, None).await.code(), Code::InvalidArgument);
    for (wrong, told) in [
        (
            Hello {
                protocol_version: 1,
                protocol_version_min: 1,
                ..hello.clone()
            },
            "node2 speaks 1 to 1; upgrade one release at a time",
        ),
        (
            Hello {
                expected_node_id: "node3".into(),
                ..hello.clone()
            },
            "correct --peers",
        ),
        (
            Hello {
                voters: 5,
                ..hello.clone()
            },
            "node1 counts 2 nodes",
        ),
        (
            Hello {
                node_id: "node9".into(),
                ..hello.clone()
            },
            "not one of the nodes that node1 knows",
        ),
    ] {
        let status = greet(port, Some(wrong), None).await;
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().contains(told), "{status}");
    }
    let nobodys = Hello {
        store_id: 0,
        ..hello.clone()
    };
    assert_eq!(
        greet(port, Some(nobodys), None).await.code(),
        Code::InvalidArgument
    );
    // The highest term there is would leave no term for the next election.
    let last = Heartbeat {
        term: u64::MAX,
        commit: u64::MAX,
        read_seq: 0,
    };
    let status = greet(port, Some(hello.clone()), Some(last)).await;
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "it is told, and the stream ends: {status}"
    );
    let emptied = Hello { store_id: 6, ..hello };
    let status = greet(port, Some(emptied), None).await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("another store"), "{status}");
    node.log_contains("a message that makes no sense").await;
    let status = client(port)
        .get_cluster_status(timed(GetClusterStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert!(status.header.unwrap().term < 1000 && node.ended().is_none());
}

#[tokio::test]
async fn a_node_that_is_its_own_peer_says_so() {
    let dir = tempdir().unwrap();
    // Under an address that no comparison of strings can see through: a forwarder in front of the node.
    let forwarder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = format!(
        "--port 0 --peers localhost:{}",
        forwarder.local_addr().unwrap().port()
    );
    let mut node = Node::start("node1", &dir.path().join("node1"), &flags(&line));
    let port = node.port().await;
    let forwarding = tokio::spawn(async move {
        while let Ok((mut incoming, _)) = forwarder.accept().await {
            tokio::spawn(async move {
                let mut node = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
                tokio::io::copy_bidirectional(&mut incoming, &mut node).await
            });
        }
    });
    node.log_contains("is this node itself; remove that address from --peers")
        .await;
    let status = client(port)
        .get_cluster_status(timed(GetClusterStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.leader_id, "", "its own answers are nobody's votes");
    forwarding.abort();
}

#[tokio::test]
async fn the_process_ends_with_its_standard_input() {
    let dir = tempdir().unwrap();
    let (mut node, port) = lone_node(&dir).await;
    write(port, 0..5).await;
    assert_eq!(node.output(), format!("listening on 127.0.0.1:{port}\n"));
    node.close_stdin();
    assert_eq!(node.exit().await.code(), Some(0));
    let (_node, port) = lone_node(&dir).await;
    read(port, 0..5).await;
}

async fn write(port: u16, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let (key, value) = (format!("key {number}"), format!("value {number} of many"));
        eventually("the write", async || {
            client(port)
                .put(timed(PutRequest {
                    key: key.clone(),
                    value: value.clone(),
                    ..Default::default()
                }))
                .await
        })
        .await;
    }
}

async fn read(port: u16, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let key = format!("key {number}");
        let read = eventually("the read", async || {
            client(port)
                .get(timed(GetRequest {
                    key: key.clone(),
                    ..Default::default()
                }))
                .await
        })
        .await;
        assert_eq!(read.into_inner().value, format!("value {number} of many"));
    }
}

/// Every file below a directory but the lock, which notes who tried last.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else if !path.ends_with("lock") {
            files.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
