//! Who may send a snapshot, and whose gives way to whose: over real connections, with a node that only knows its term.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use bytes::Bytes;
use proto::peer::peer_service_client::PeerServiceClient;
use proto::peer::peer_service_server::PeerServiceServer;
use proto::peer::{Hello, SnapshotData, StreamClass};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::*;
use crate::disk::OsDisk;
use crate::kv::Store;
use crate::raft::{Entry, SnapshotMeta};
use crate::snapshot::Reader;
use crate::transport::{AbortOnDrop, Members, PeerEndpoint, send_snapshot};

const BYTES: u64 = 100;

/// A node that takes snapshots: `node1`, which knows `node2` and `node3`.
struct Node {
    address: String,
    /// The term that it is in.
    term: Arc<AtomicU64>,
    _tasks: [AbortOnDrop; 2],
    dir: TempDir,
}

fn members(name: &str, peers: &[String], dir: &Path) -> Arc<Members> {
    let peers: Vec<_> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
    Arc::new(Members::open(name, 1, 7, &peers, false, dir).unwrap())
}

fn snapshots_in(dir: &Path) -> SnapshotDir {
    let dir = dir.join("snapshots");
    SnapshotDir::open(Arc::new(OsDisk), &dir).unwrap().0
}

impl Node {
    async fn start() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let peers = ["node2=localhost:2", "node3=localhost:3"].map(str::to_owned);
        let (events, links) = mpsc::channel(16);
        let endpoint = PeerEndpoint::new(
            members("node1", &peers, dir.path()),
            events,
            snapshots_in(dir.path()),
        );
        let serving = Server::builder()
            .add_service(PeerServiceServer::new(endpoint))
            .serve_with_incoming(TcpIncoming::from(listener));
        let term = Arc::new(AtomicU64::new(1));
        let tasks = [
            tokio::spawn(async { serving.await.unwrap() }),
            tokio::spawn(follow(links, term.clone())),
        ];
        Node {
            address,
            term,
            _tasks: tasks.map(AbortOnDrop),
            dir,
        }
    }

    /// Offers a snapshot of `BYTES` bytes in the name of a peer that leads `term`.
    async fn offer(&self, name: &str, term: Term) -> Result<Sending, Status> {
        let hello = Hello {
            protocol_version: 3,
            protocol_version_min: 3,
            node_id: name.to_owned(),
            incarnation: 1,
            class: StreamClass::Append.into(),
            store_id: 7,
            ..Default::default()
        };
        let offer = SnapshotOffer {
            hello: Some(hello),
            term,
            last_term: 1,
            last_index: 9,
            snapshot_id: term,
            total_bytes: BYTES,
        };
        let (frames, queue) = mpsc::channel(4);
        let first = SnapshotFrame {
            kind: Some(Kind::Offer(offer)),
        };
        frames.send(first).await.unwrap();
        let address = format!("http://{}", self.address);
        let mut client = PeerServiceClient::connect(address).await.unwrap();
        let answers = client.send_snapshot(ReceiverStream::new(queue)).await?;
        let answers = answers.into_inner();
        Ok(Sending { frames, answers })
    }
}

/// Wants snapshots of leaders of the present term and later ones, which it then is in.
async fn follow(mut links: mpsc::Receiver<LinkEvent>, now: Arc<AtomicU64>) {
    while let Some(event) = links.recv().await {
        if let LinkEvent::SnapshotArrives { term, wanted, .. } = event {
            let before = now.fetch_max(term, SeqCst);
            let verdict = match term < before {
                true => Err(Status::aborted("that term has passed")),
                false => Ok(()),
            };
            let _ = wanted.send(verdict);
        }
    }
}

struct Sending {
    frames: mpsc::Sender<SnapshotFrame>,
    answers: Streaming<SnapshotProgress>,
}

impl Sending {
    async fn piece(&self, offset: u64) {
        let bytes = Bytes::from_static(&[7; 10]);
        let data = SnapshotData {
            offset,
            crc: crc32c::crc32c(&bytes),
            bytes,
        };
        let frame = SnapshotFrame {
            kind: Some(Kind::Data(data)),
        };
        self.frames.send(frame).await.unwrap();
    }

    async fn arrived(&mut self) -> Result<u64, Code> {
        let answer = self.answers.message().await.map_err(|status| status.code())?;
        Ok(answer.unwrap().offset)
    }
}

#[tokio::test]
async fn the_snapshot_of_a_later_leader_takes_the_place_of_one_that_fell_silent() {
    let node = Node::start().await;
    let mut earlier = node.offer("node2", 1).await.unwrap();
    assert_eq!(earlier.arrived().await, Ok(0));
    let mut later = node.offer("node3", 2).await.unwrap();
    assert_eq!(later.arrived().await, Ok(0));
    assert_eq!(earlier.arrived().await, Err(Code::Aborted));
    later.piece(0).await;
    assert_eq!(later.arrived().await, Ok(10));
}

#[tokio::test]
async fn a_leader_of_the_past_is_stopped_at_its_next_piece() {
    let node = Node::start().await;
    let mut earlier = node.offer("node2", 1).await.unwrap();
    assert_eq!(earlier.arrived().await, Ok(0));
    node.term.store(2, SeqCst);
    earlier.piece(0).await;
    assert_eq!(earlier.arrived().await, Err(Code::Aborted));
    let mut later = node.offer("node3", 2).await.unwrap();
    assert_eq!(later.arrived().await, Ok(0), "it need not wait for anybody");
}

#[tokio::test]
async fn an_offer_from_a_leader_of_the_past_disturbs_nobody() {
    let node = Node::start().await;
    let mut present = node.offer("node3", 2).await.unwrap();
    assert_eq!(present.arrived().await, Ok(0));
    let refused = node.offer("node2", 1).await;
    assert_eq!(refused.err().map(|status| status.code()), Some(Code::Aborted));
    present.piece(0).await;
    assert_eq!(present.arrived().await, Ok(10));
}

/// A snapshot that takes many pieces.
fn large(dir: &Path) -> Reader {
    let mut store = Store::default();
    let put = proto::storage::Put {
        key: "k".to_owned(),
        value: Bytes::from(vec![1; 1 << 20]),
    };
    let command = proto::storage::Command {
        kind: Some(proto::storage::command::Kind::Put(put)),
        stamp: None,
    };
    store.apply(&Entry {
        term: 1,
        index: 1,
        kind: Default::default(),
        payload: prost::Message::encode_to_vec(&command).into(),
    });
    let meta = SnapshotMeta {
        last: Position { term: 1, index: 1 },
        configuration: None,
    };
    let snapshots = snapshots_in(dir);
    let stored = snapshots.write(&store.freeze().unwrap(), meta).unwrap();
    snapshots.reader(&stored).unwrap()
}

#[tokio::test]
async fn a_sender_that_gives_up_makes_room_at_once() {
    let node = Node::start().await;
    let dir = tempfile::tempdir().unwrap();
    let peers = [format!("node1={}", node.address), "node3=localhost:3".to_owned()];
    let members = members("node2", &peers, dir.path());
    let (events, _links) = mpsc::channel(4);
    // At this rate it would take longer than anybody waits for the one before.
    let rate = 16 << 10;
    let sending = send_snapshot(NodeId::of("node1"), 1, large(dir.path()), rate, members, events);
    let sending = AbortOnDrop(tokio::spawn(sending));
    let part = node.dir.path().join("snapshots");
    let begun = || std::fs::read_dir(&part).unwrap().count() > 0;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    while !begun() {
        assert!(tokio::time::Instant::now() < deadline, "nothing has arrived");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(sending);
    let mut next = node.offer("node3", 1).await.unwrap();
    assert_eq!(next.arrived().await, Ok(0));
}
