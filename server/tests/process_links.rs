//! Real nodes behind links that are worse than a loopback: narrow, and far away.

#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Node, PATIENCE, client, eventually, leads, ports, timed};
use proto::raft::{GetClusterStatusRequest, PutRequest};
use tempfile::{TempDir, tempdir};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A stretch of cable: what comes in is passed on after a while, and no faster than so much each second.
#[derive(Clone, Copy)]
struct Cable {
    bytes_per_second: u32,
    delay: Duration,
}

impl Cable {
    /// Passes everything on from one end to the other until either is gone.
    async fn carry(self, mut from: impl AsyncReadExt + Unpin, mut to: impl AsyncWriteExt + Unpin) {
        let mut buffer = vec![0; (self.bytes_per_second / 20).min(64 << 10) as usize];
        let (queue, mut waiting) = tokio::sync::mpsc::unbounded_channel();
        let read = async move {
            while let Ok(count @ 1..) = from.read(&mut buffer).await {
                let due = tokio::time::Instant::now() + self.delay;
                if queue.send((due, buffer[..count].to_vec())).is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1) * count as u32 / self.bytes_per_second).await;
            }
        };
        let write = async move {
            while let Some((due, bytes)) = waiting.recv().await {
                tokio::time::sleep_until(due).await;
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::join!(read, write);
    }

    /// Lays this cable in front of a port; returns the port of its other end.
    async fn lay(self, cables: &mut JoinSet<()>, port: u16) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entrance = listener.local_addr().unwrap().port();
        cables.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                connections.spawn(self.carry(near_in, far_out));
                connections.spawn(self.carry(far_in, near_out));
            }
        });
        entrance
    }
}

/// Two nodes that reach each other through such cables only. The cables go when the set is dropped.
async fn two_nodes(cable: Cable, flags: &str) -> (TempDir, [Node; 2], [u16; 2], JoinSet<()>) {
    let dir = tempdir().unwrap();
    let mut cables = JoinSet::new();
    let ports: [u16; 2] = ports::take(2).try_into().unwrap();
    let mut nodes = Vec::new();
    for at in 0..2 {
        let entrance = cable.lay(&mut cables, ports[1 - at]).await;
        let line = format!("--port {} --peers localhost:{entrance} {flags}", ports[at]);
        let flags: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let name = format!("node{}", at + 1);
        nodes.push(Node::start(&name, &dir.path().join(&name), &flags));
    }
    let nodes = nodes
        .try_into()
        .unwrap_or_else(|_| unreachable!("two were started"));
    (dir, nodes, ports, cables)
}

async fn leader(ports: [u16; 2]) -> usize {
    eventually("a leader", async || {
        for (at, port) in ports.into_iter().enumerate() {
            let status = client(port)
                .get_cluster_status(timed(GetClusterStatusRequest {}))
                .await
                .map_err(|status| status.to_string())?;
            if leads(status.get_ref()) {
                return Ok(at);
            }
        }
        Err("nobody leads".to_owned())
    })
    .await
}

#[tokio::test]
async fn a_follower_behind_a_narrow_link_is_fed_without_breaking_it() {
    let cable = Cable {
        bytes_per_second: 32_000,
        delay: Duration::ZERO,
    };
    let (_dir, nodes, ports, _cables) = two_nodes(cable, "").await;
    let leader = leader(ports).await;
    // Far more than the link carries in the three seconds after which a silent connection is given up.
    let mut writes = JoinSet::new();
    for number in 0..50 {
        let mut client = client(ports[leader]);
        writes.spawn(async move {
            let mut request = tonic::Request::new(PutRequest {
                key: format!("key {number}"),
                value: "v".repeat(5000),
                ..Default::default()
            });
            request.set_timeout(PATIENCE);
            client.put(request).await.unwrap();
        });
    }
    // Nothing is committed without the follower, so every acknowledgement came over the link.
    while let Some(written) = writes.join_next().await {
        written.unwrap();
    }
    for node in &nodes {
        let log = node.log();
        assert_eq!(log.matches("link up").count(), 1, "the link held: {log}");
    }
}

#[tokio::test]
async fn nodes_with_a_round_trip_of_half_a_second_find_each_other() {
    let cable = Cable {
        bytes_per_second: 10_000_000,
        delay: Duration::from_millis(250),
    };
    let (_dir, mut nodes, ports, _cables) = two_nodes(cable, "--election-timeout 3s").await;
    for node in &mut nodes {
        node.log_contains("link up").await;
    }
    let leader = leader(ports).await;
    let mut request = tonic::Request::new(PutRequest {
        key: "far".into(),
        value: "away".into(),
        ..Default::default()
    });
    request.set_timeout(PATIENCE);
    client(ports[leader]).put(request).await.unwrap();
}
