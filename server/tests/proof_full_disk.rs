//! A real node on a real file system that fills up: it says so in time, loses nothing, and goes on when there is space.
//!
//! Needs a file system of its own, small enough to fill: a tmpfs in a mount namespace that ends with the node. Where that
//! is not allowed (it takes root), the test says so and is skipped.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use common::{Client, Node, client, eventually, outcome, timed};
use proto::metadata;
use proto::raft::{GetRequest, PutRequest};
use tempfile::TempDir;
use tonic::{Code, Status};

const DISK_BYTES: u64 = 400 << 20;
const VALUE_BYTES: usize = 512 << 10;

/// The node's file system as seen from here.
fn inside(node: &Node, dir: &TempDir) -> PathBuf {
    PathBuf::from(format!(
        "/proc/{}/root{}",
        node.pid(),
        dir.path().join("node1").display()
    ))
}

/// Fills a file system, but for so many bytes.
fn fill(disk: &std::path::Path, leave_bytes: u64) {
    let mut file = File::create(disk.join("filler")).unwrap();
    let piece = vec![1; 1 << 20];
    loop {
        let free = nix::sys::statvfs::statvfs(disk).unwrap();
        let free_bytes = free.blocks_available() * free.fragment_size();
        let Some(wanted) = free_bytes.checked_sub(leave_bytes).filter(|wanted| *wanted > 0) else {
            return;
        };
        let wanted = usize::try_from(wanted).unwrap().min(piece.len());
        if file.write_all(&piece[..wanted]).is_err() {
            return;
        }
    }
}

async fn put(client: &mut Client, number: u32) -> Result<(), Status> {
    let request = PutRequest {
        key: format!("k{}", number % 8),
        value: format!("{number}:{}", "x".repeat(VALUE_BYTES)),
        ..Default::default()
    };
    client.put(timed(request)).await.map(drop)
}

async fn get(client: &mut Client, number: u32) -> String {
    let request = GetRequest {
        key: format!("k{}", number % 8),
        ..Default::default()
    };
    let found = client.get(timed(request)).await.unwrap().into_inner();
    found.value.split(':').next().unwrap().to_owned()
}

#[tokio::test]
async fn a_node_on_a_full_disk_refuses_writes_serves_reads_and_goes_on_when_there_is_space() {
    let allowed = Command::new("unshare").args(["--mount", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "skipped: making a mount namespace is not allowed here (it takes root and the program unshare)"
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("node1");
    fs::create_dir(&data_dir).unwrap();
    let flags = ["--port", "0", "--single-node"].map(str::to_owned);
    let mut node = Node::start_on_small_disk("node1", &data_dir, &flags, DISK_BYTES);
    let port = node.port().await;
    let mut client = client(port);
    eventually("the first write", async || put(&mut client, 0).await).await;

    let disk = inside(&node, &dir);
    fill(&disk, 1 << 20);
    let mut acknowledged = 0;
    let refusal = eventually("a write to be refused", async || {
        match put(&mut client, acknowledged + 1).await {
            Ok(()) => {
                acknowledged += 1;
                Err(acknowledged)
            }
            Err(refusal) => Ok(refusal),
        }
    });
    let refusal = refusal.await;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert_eq!(outcome(&refusal), Some(metadata::NOT_EXECUTED), "{refusal}");
    assert!(refusal.message().contains("disk"), "{refusal}");
    assert_eq!(
        get(&mut client, acknowledged).await,
        acknowledged.to_string(),
        "reads go on"
    );

    fs::remove_file(disk.join("filler")).unwrap();
    let after = acknowledged + 1;
    eventually("writes to be taken again", async || put(&mut client, after).await).await;
    assert_eq!(get(&mut client, after).await, after.to_string());
    assert!(node.ended().is_none(), "{}", node.log());
}
