//! A store of three nodes in this process that does what a test tells it to: refuse, redirect, freeze, lie, forget to
//! answer. One map behind one lock, so it is linearizable unless told otherwise.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file is a crate of its own and uses only part of this; a failed unwrap fails the test"
)]

pub mod records;
pub mod runs;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loadgen::{Client, ClientOptions};
use proto::metadata;
use proto::raft::key_value_service_server::{KeyValueService, KeyValueServiceServer};
use proto::raft::*;
use reports::record::{Event, EventKind, Function, Value};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// Generous limit for anything that must happen at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Map {
    index: u64,
    values: HashMap<String, (Option<String>, u64)>,
}

/// What all nodes share.
pub struct Cluster {
    map: Mutex<Map>,
    /// Which node leads; nobody if it is out of range.
    leader: Mutex<usize>,
    /// While true, operations wait before they are executed.
    frozen: watch::Sender<bool>,
    mood: Mutex<Mood>,
    addresses: Mutex<Vec<String>>,
    pub executed: AtomicU64,
    pub refused: AtomicU64,
    /// Operations that arrived at any node.
    pub arrived: AtomicU64,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Fine,
    /// Executes writes, then says it does not know; fails reads.
    UnknownAfterExecuting,
    /// Every n-th operation is executed and then answered with "unknown".
    UnknownEvery(u64),
    /// Refuses this many operations for overload, then is fine.
    OverloadedFor(u64),
    /// Answers reads with the value of another key.
    WrongKey,
    /// Errors that carry no outcome.
    Unlabelled,
}

pub struct Node {
    number: usize,
    address: SocketAddr,
    cluster: Arc<Cluster>,
    pub arrived: AtomicU64,
}

/// Stub nodes n0, n1, …; gone when dropped.
pub struct Stub {
    pub cluster: Arc<Cluster>,
    pub nodes: Vec<Arc<Node>>,
    servers: Vec<JoinHandle<()>>,
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl Stub {
    /// Starts `count` nodes, of which the first leads.
    pub async fn start(count: usize) -> Stub {
        let cluster = Arc::new(Cluster {
            map: Mutex::default(),
            leader: Mutex::new(0),
            frozen: watch::Sender::new(false),
            mood: Mutex::new(Mood::Fine),
            addresses: Mutex::default(),
            executed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
        });
        let mut stub = Stub {
            cluster,
            nodes: Vec::new(),
            servers: Vec::new(),
        };
        for number in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let node = Arc::new(Node {
                number,
                address: listener.local_addr().unwrap(),
                cluster: Arc::clone(&stub.cluster),
                arrived: AtomicU64::new(0),
            });
            let service = KeyValueServiceServer::from_arc(Arc::clone(&node));
            let server = tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener));
            stub.servers
                .push(tokio::spawn(async move { server.await.unwrap() }));
            stub.cluster
                .addresses
                .lock()
                .unwrap()
                .push(node.address.to_string());
            stub.nodes.push(node);
        }
        stub
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.address.to_string()).collect()
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.endpoints(), ClientOptions::default()).unwrap()
    }

    pub fn lead(&self, number: usize) {
        *self.cluster.leader.lock().unwrap() = number;
    }

    pub fn set(&self, mood: Mood) {
        *self.cluster.mood.lock().unwrap() = mood;
    }

    pub fn freeze(&self, frozen: bool) {
        self.cluster.frozen.send_replace(frozen);
    }

    pub fn value(&self, key: &str) -> Option<String> {
        self.cluster
            .map
            .lock()
            .unwrap()
            .values
            .get(key)
            .and_then(|(value, _)| value.clone())
    }

    pub fn executed(&self) -> u64 {
        self.cluster.executed.load(Ordering::SeqCst)
    }
}

impl Node {
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            node_id: format!("n{}", self.number),
            term: 7,
        })
    }

    /// Lets an operation in, or refuses it before execution.
    async fn admit(&self) -> Result<(), Status> {
        self.arrived.fetch_add(1, Ordering::SeqCst);
        self.cluster.arrived.fetch_add(1, Ordering::SeqCst);
        let leader = *self.cluster.leader.lock().unwrap();
        if leader != self.number {
            self.cluster.refused.fetch_add(1, Ordering::SeqCst);
            if leader >= 100 {
                return Err(refusal(Code::Unavailable, metadata::NOT_EXECUTED, "no leader"));
            }
            let mut status = refusal(Code::FailedPrecondition, metadata::NOT_EXECUTED, "not the leader");
            let hint = format!("n{leader}");
            status
                .metadata_mut()
                .insert(metadata::LEADER_ID, hint.parse().unwrap());
            let addresses = self.cluster.addresses.lock().unwrap();
            status
                .metadata_mut()
                .insert(metadata::LEADER_ADDRESS, addresses[leader].parse().unwrap());
            return Err(status);
        }
        let mut frozen = self.cluster.frozen.subscribe();
        frozen.wait_for(|frozen| !*frozen).await.unwrap();
        let mut mood = self.cluster.mood.lock().unwrap();
        match *mood {
            Mood::OverloadedFor(left) => {
                *mood = if left > 1 {
                    Mood::OverloadedFor(left - 1)
                } else {
                    Mood::Fine
                };
                Err(refusal(
                    Code::ResourceExhausted,
                    metadata::NOT_EXECUTED,
                    "too much",
                ))
            }
            Mood::Unlabelled => Err(Status::unavailable("somebody in between")),
            _ => Ok(()),
        }
    }

    /// The answer to an operation that was executed.
    fn answer<T>(&self, answer: T) -> Result<Response<T>, Status> {
        let executed = self.cluster.executed.fetch_add(1, Ordering::SeqCst) + 1;
        let unsure = match *self.cluster.mood.lock().unwrap() {
            Mood::UnknownAfterExecuting => true,
            Mood::UnknownEvery(n) => executed.is_multiple_of(n),
            _ => false,
        };
        if unsure {
            Err(refusal(
                Code::Unavailable,
                metadata::UNKNOWN,
                "leadership was lost",
            ))
        } else {
            Ok(Response::new(answer))
        }
    }

    fn write(&self, key: String, value: Option<String>) -> u64 {
        let mut map = self.cluster.map.lock().unwrap();
        map.index += 1;
        let index = map.index;
        map.values.insert(key, (value, index));
        index
    }

    fn read(&self, key: &str) -> (Option<String>, u64) {
        let map = self.cluster.map.lock().unwrap();
        map.values.get(key).cloned().unwrap_or_default()
    }
}

fn refusal(code: Code, outcome: &str, message: &str) -> Status {
    let mut status = Status::new(code, message);
    status
        .metadata_mut()
        .insert(metadata::OUTCOME, outcome.parse().unwrap());
    status
}

#[tonic::async_trait]
impl KeyValueService for Node {
    type WatchStream = tokio_stream::Empty<Result<proto::raft::WatchResponse, Status>>;
    type BatchStream = tokio_stream::Empty<Result<proto::raft::BatchResponse, Status>>;

    async fn scan(
        &self,
        _: Request<proto::raft::ScanRequest>,
    ) -> Result<Response<proto::raft::ScanResponse>, Status> {
        Err(Status::unimplemented("this store has no scans"))
    }

    async fn watch(
        &self,
        _: Request<proto::raft::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("this store has no watches"))
    }

    async fn batch(
        &self,
        _: Request<tonic::Streaming<proto::raft::BatchRequest>>,
    ) -> Result<Response<Self::BatchStream>, Status> {
        Err(Status::unimplemented("this store has no batches"))
    }

    async fn open_session(
        &self,
        _: Request<proto::raft::OpenSessionRequest>,
    ) -> Result<Response<proto::raft::OpenSessionResponse>, Status> {
        Err(Status::unimplemented("this store has no sessions"))
    }

    async fn close_session(
        &self,
        _: Request<proto::raft::CloseSessionRequest>,
    ) -> Result<Response<proto::raft::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("this store has no sessions"))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.admit().await?;
        let PutRequest { key, value, .. } = request.into_inner();
        let index = self.write(key, Some(value));
        self.answer(PutResponse {
            header: self.header(),
            index,
        })
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.admit().await?;
        let GetRequest { key, .. } = request.into_inner();
        let (mut value, index) = self.read(&key);
        if *self.cluster.mood.lock().unwrap() == Mood::WrongKey {
            let map = self.cluster.map.lock().unwrap();
            let other = map
                .values
                .iter()
                .find(|(other, (value, _))| **other != key && value.is_some());
            value = other.and_then(|(_, (value, _))| value.clone());
        }
        let found = value.is_some();
        let value = value.unwrap_or_default();
        self.answer(GetResponse {
            header: self.header(),
            found,
            value,
            index,
            ..Default::default()
        })
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        self.admit().await?;
        let DeleteRequest { key, .. } = request.into_inner();
        let existed = self.read(&key).0.is_some();
        let index = self.write(key, None);
        self.answer(DeleteResponse {
            header: self.header(),
            index,
            existed,
        })
    }

    async fn compare_and_swap(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapResponse>, Status> {
        self.admit().await?;
        let CompareAndSwapRequest {
            key, expected, value, ..
        } = request.into_inner();
        let (current, index) = self.read(&key);
        let swapped = current == expected;
        let index = if swapped {
            self.write(key, Some(value))
        } else {
            index
        };
        let current = if swapped { None } else { current };
        self.answer(CompareAndSwapResponse {
            header: self.header(),
            swapped,
            index,
            current,
        })
    }

    async fn get_cluster_status(
        &self,
        _: Request<GetClusterStatusRequest>,
    ) -> Result<Response<GetClusterStatusResponse>, Status> {
        let leader = *self.cluster.leader.lock().unwrap();
        let role = if leader == self.number {
            Role::Leader
        } else {
            Role::Follower
        };
        Ok(Response::new(GetClusterStatusResponse {
            header: self.header(),
            role: role.into(),
            leader_id: format!("n{leader}"),
            voters: 3,
            ..GetClusterStatusResponse::default()
        }))
    }
}

/// An address that refuses connections, for as long as the socket lives.
pub fn refusing_address() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    (socket, address)
}

/// An address that takes connections and closes them, as a proxy does in front of a dead node.
pub async fn closing_address() -> (JoinHandle<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            drop(connection);
        }
    });
    (task, address)
}

/// A proxy in front of an address: when it is cut, connections through it break, and new ones are closed at once.
pub struct Proxy {
    pub address: String,
    cut: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    pub async fn start(target: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = watch::Sender::new(false);
        let (target, seen) = (target.to_owned(), cut.subscribe());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let (target, mut seen) = (target.clone(), seen.clone());
                connections.spawn(async move {
                    if *seen.borrow() {
                        return;
                    }
                    let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = seen.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        Proxy { address, cut, task }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

/// An address that takes connections and never says a word.
pub async fn silent_address() -> (JoinHandle<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let task = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            connections.push(connection);
        }
    });
    (task, address)
}

/// Waits until something holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "it never came to hold");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Asserts what every history must satisfy, and returns how its operations ended: (ok, mismatch, fail, info).
pub fn check_history(events: &[Event]) -> BTreeMap<&'static str, u64> {
    let mut open: HashMap<u64, &Event> = HashMap::new();
    let mut retired = HashSet::new();
    let mut written = HashSet::new();
    let mut ended = BTreeMap::new();
    let mut last = 0;
    for event in events {
        assert!(event.time >= last, "time goes backwards at {event:?}");
        last = event.time;
        assert!(
            !retired.contains(&event.process),
            "a retired process acts: {event:?}"
        );
        if event.kind == EventKind::Invoke {
            assert!(
                open.insert(event.process, event).is_none(),
                "two open operations: {event:?}"
            );
            let new = match &event.value {
                Value::One(new) | Value::Pair(_, Some(new)) => Some(new),
                Value::Absent | Value::Pair(_, None) => None,
            };
            if let Some(new) = new {
                assert!(written.insert(new.clone()), "written twice: {event:?}");
            }
            continue;
        }
        let begun = open
            .remove(&event.process)
            .unwrap_or_else(|| panic!("ends without beginning: {event:?}"));
        assert_eq!((begun.f, &begun.key), (event.f, &event.key));
        if event.f != Function::Read && event.error.as_deref() != Some("mismatch") {
            assert_eq!(begun.value, event.value);
        }
        assert_eq!(event.kind == EventKind::Ok, event.error.is_none());
        let how = match (event.kind, event.error.as_deref()) {
            (EventKind::Ok, _) => "ok",
            (_, Some("mismatch")) => "mismatch",
            (EventKind::Fail, _) => "fail",
            _ => "info",
        };
        *ended.entry(how).or_default() += 1;
        if event.kind == EventKind::Info {
            retired.insert(event.process);
        }
    }
    assert!(open.is_empty(), "never ended: {open:?}");
    ended
}
