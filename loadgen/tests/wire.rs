//! The wire against real peers: tonic's server, and peers that refuse, fall silent, break off or talk nonsense.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{PATIENCE, Proxy, Stub, refusing_address, silent_address, until};
use loadgen::wire::{
    Answer, CallError, CallId, Cancelled, Completion, Completions, Connection, Method, Options,
};
use prost::Message;
use proto::metadata;
use proto::raft::key_value_service_server::KeyValueServiceServer;
use proto::raft::{GetRequest, GetResponse, PutRequest, PutResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;

const PUT: Method = Method::new("/raft.KeyValueService/Put");
const GET: Method = Method::new("/raft.KeyValueService/Get");
const SCAN: Method = Method::new("/raft.KeyValueService/Scan");
const NOTHING: Method = Method::new("/raft.NoSuchService/Nothing");

fn options() -> Options {
    Options {
        connect_timeout: PATIENCE,
        keep_alive: PATIENCE,
        waiting_max: 10_000,
    }
}

fn connection(address: &str) -> Connection {
    Connection::new(address, options())
}

async fn next(completions: &Completions) -> Vec<Completion> {
    timeout(PATIENCE, completions.ready()).await.unwrap();
    let mut taken = Vec::new();
    completions.take_into(&mut taken);
    taken
}

async fn put(connection: &Connection, key: &str, value: &str) -> Result<Answer, CallError> {
    let request = put_request(key, value);
    let call = connection.call(PUT, Some(PATIENCE), |out| request.encode_raw(out));
    timeout(PATIENCE, call).await.unwrap()
}

fn put_request(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        session: None,
    }
}

fn submit_put(connection: &Connection, token: u64, completions: &Arc<Completions>) -> CallId {
    let request = put_request(&format!("k{token}"), "v");
    connection.submit(PUT, None, |out| request.encode_raw(out), token, completions)
}

fn is_lost<T: std::fmt::Debug>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::Lost { .. }))
}

fn is_not_sent<T: std::fmt::Debug>(result: &Result<T, CallError>) -> bool {
    matches!(result, Err(CallError::NotSent { .. }))
}

/// Value of the n-th key: most are short, some need many frames and windows.
fn value(number: u64) -> String {
    let length = match number {
        n if n.is_multiple_of(500) => 1024 * 1024 - 64,
        n if n.is_multiple_of(50) => 100_000,
        n => 1 + (n * 37 % 1500) as usize,
    };
    let unit = format!("{number};");
    unit.repeat(length.div_ceil(unit.len()))[..length].to_owned()
}

#[tokio::test]
async fn ten_thousand_calls_of_all_sizes_bring_back_what_was_written() {
    const KEYS: u64 = 5000;
    const IN_FLIGHT: u64 = 128;
    let stub = Stub::start(1).await;
    let connections = [(); 2].map(|()| connection(&stub.endpoints()[0]));
    let completions = Completions::new();
    let submit = |token: u64| {
        let connection = &connections[token as usize % 2];
        let key = format!("k{}", token % KEYS);
        if token < KEYS {
            let request = put_request(&key, &value(token));
            connection.submit(
                PUT,
                Some(PATIENCE),
                |out| request.encode_raw(out),
                token,
                &completions,
            );
        } else {
            let request = GetRequest {
                key,
                ..Default::default()
            };
            connection.submit(
                GET,
                Some(PATIENCE),
                |out| request.encode_raw(out),
                token,
                &completions,
            );
        }
    };
    let mut seen = HashMap::new();
    for range in [0..KEYS, KEYS..2 * KEYS] {
        let (mut begun, end) = (range.start, range.end);
        while (seen.len() as u64) < end {
            while begun < end && begun - (seen.len() as u64) < IN_FLIGHT {
                submit(begun);
                begun += 1;
            }
            for Completion { token, result, .. } in next(&completions).await {
                let answer = result.unwrap_or_else(|error| panic!("call {token}: {error}"));
                let body = answer.body();
                if token < KEYS {
                    assert!(PutResponse::decode(body).unwrap().index > 0);
                } else {
                    let read = GetResponse::decode(body).unwrap().value;
                    assert!(
                        read == value(token - KEYS),
                        "call {token} read {} bytes",
                        read.len()
                    );
                }
                assert!(seen.insert(token, ()).is_none(), "call {token} ended twice");
            }
        }
    }
    assert_eq!(seen.len() as u64, 2 * KEYS);
    assert!(connections.iter().all(Connection::is_open));
}

#[tokio::test]
async fn errors_arrive_with_their_message_and_metadata() {
    let stub = Stub::start(2).await;
    let [leader, follower] = [0, 1].map(|node| connection(&stub.endpoints()[node]));
    let Err(CallError::Status(status)) = put(&follower, "k", "v").await else {
        panic!("a follower took a write");
    };
    assert_eq!(status.code, Code::FailedPrecondition as u32);
    assert_eq!(status.message, "not the leader");
    assert_eq!(status.field(metadata::OUTCOME), Some(metadata::NOT_EXECUTED));
    assert_eq!(status.field(metadata::LEADER_ID), Some("n0"));
    assert_eq!(
        status.field(metadata::LEADER_ADDRESS),
        Some(stub.endpoints()[0].as_str())
    );
    for method in [SCAN, NOTHING] {
        let Err(CallError::Status(status)) = leader.call(method, None, |_| ()).await else {
            panic!("{method:?} exists");
        };
        assert_eq!(status.code, Code::Unimplemented as u32);
    }
    put(&leader, "k", "v").await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_given_up_never_ends_and_disturbs_nobody() {
    let stub = Stub::start(1).await;
    let connection = connection(&stub.endpoints()[0]);
    let completions = Completions::new();
    stub.freeze(true);
    let given_up = submit_put(&connection, 1, &completions);
    let dropped = connection.call(PUT, None, |out| put_request("d", "v").encode_raw(out));
    let dropped = tokio::select! {
        biased;
        result = dropped => Some(result),
        () = until(|| stub.cluster.arrived.load(Ordering::SeqCst) == 2) => None,
    };
    assert!(dropped.is_none());
    assert_eq!(given_up.cancel(), Cancelled::MaybeSent);
    assert_eq!(given_up.cancel(), Cancelled::AlreadyDone);
    stub.freeze(false);
    let kept = submit_put(&connection, 2, &completions);
    let ended = next(&completions).await;
    assert_eq!(ended.iter().map(|ended| ended.token).collect::<Vec<_>>(), [2]);
    assert!(ended[0].result.is_ok());
    assert_eq!(kept.cancel(), Cancelled::AlreadyDone);
}

#[tokio::test]
async fn what_is_cancelled_before_it_left_never_reaches_the_peer() {
    let stub = Stub::start(1).await;
    let connection = connection(&stub.endpoints()[0]);
    let completions = Completions::new();
    let teacher = submit_put(&connection, 0, &completions);
    let early = submit_put(&connection, 1, &completions);
    assert_eq!(early.cancel(), Cancelled::NotSent, "while connecting");
    assert_eq!(next(&completions).await[0].token, 0);
    assert_eq!(teacher.cancel(), Cancelled::AlreadyDone);
    let first = submit_put(&connection, 2, &completions);
    let second = submit_put(&connection, 3, &completions);
    assert_eq!(first.cancel(), Cancelled::NotSent, "before the task ran");
    let ended = next(&completions).await;
    assert_eq!((ended.len(), ended[0].token), (1, 3));
    assert!(ended[0].result.is_ok());
    assert_eq!(second.cancel(), Cancelled::AlreadyDone);
    assert_eq!(stub.cluster.arrived.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_peer_that_says_goodbye_finishes_what_it_began() {
    let stub = Stub::start(1).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connection = connection(&listener.local_addr().unwrap().to_string());
    let (goodbye, told) = oneshot::channel::<()>();
    let server = tonic::transport::Server::builder()
        .add_service(KeyValueServiceServer::from_arc(Arc::clone(&stub.nodes[0])))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
            let _ = told.await;
        });
    let server = tokio::spawn(server);
    let completions = Completions::new();
    stub.freeze(true);
    submit_put(&connection, 1, &completions);
    until(|| stub.cluster.arrived.load(Ordering::SeqCst) == 1).await;
    until(|| connection.is_open()).await;
    goodbye.send(()).unwrap();
    until(|| !connection.is_open()).await;
    submit_put(&connection, 2, &completions);
    let ended = next(&completions).await;
    assert_eq!((ended.len(), ended[0].token), (1, 2));
    assert!(
        is_not_sent(&ended[0].result),
        "nobody listens: {:?}",
        ended[0].result
    );
    stub.freeze(false);
    let ended = next(&completions).await;
    assert_eq!((ended.len(), ended[0].token), (1, 1));
    assert!(ended[0].result.is_ok(), "{:?}", ended[0].result);
    timeout(PATIENCE, server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_was_under_way_when_the_connection_broke_is_lost_and_the_next_call_connects_again() {
    let stub = Stub::start(1).await;
    let proxy = Proxy::start(&stub.endpoints()[0]).await;
    let connection = connection(&proxy.address);
    let completions = Completions::new();
    put(&connection, "k", "v").await.unwrap();
    stub.freeze(true);
    for token in 0..10 {
        submit_put(&connection, token, &completions);
    }
    until(|| stub.cluster.arrived.load(Ordering::SeqCst) == 11).await;
    proxy.cut(true);
    let mut ended = Vec::new();
    while ended.len() < 10 {
        ended.extend(next(&completions).await);
    }
    assert!(ended.iter().all(|ended| is_lost(&ended.result)), "{ended:?}");
    assert!(!connection.is_open());
    stub.freeze(false);
    proxy.cut(false);
    put(&connection, "k", "v").await.unwrap();
    assert!(connection.is_open());
}

#[tokio::test]
async fn nothing_is_sent_where_nobody_listens() {
    let (_socket, address) = refusing_address();
    let connection = connection(&address);
    for _ in 0..3 {
        let result = put(&connection, "k", "v").await;
        assert!(is_not_sent(&result), "{result:?}");
        assert!(result.unwrap_err().to_string().contains(&address));
    }
    let unknown = Connection::new("no port here", options());
    assert!(is_not_sent(&put(&unknown, "k", "v").await));
}

#[tokio::test]
async fn a_peer_that_stays_silent_is_given_up() {
    let (silent, address) = silent_address().await;
    let options = Options {
        keep_alive: Duration::from_millis(100),
        ..options()
    };
    let connection = Connection::new(&address, options);
    let result = put(&connection, "k", "v").await;
    assert!(is_lost(&result), "{result:?}");
    assert!(result.unwrap_err().to_string().contains("nothing was heard"));
    silent.abort();
}

/// Answers PINGs and nothing else. Ends when one connection has asked twice: it would not have, had it not heard the
/// answer to the first.
async fn answer_pings(listener: TcpListener) {
    const PING: u8 = 6;
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut asked = 0;
        let served: std::io::Result<()> = async {
            socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
            socket.read_exact(&mut [0; 24]).await?;
            while asked < 2 {
                let mut header = [0; 9];
                socket.read_exact(&mut header).await?;
                let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
                let mut payload = vec![0; length as usize];
                socket.read_exact(&mut payload).await?;
                if header[3] == PING {
                    asked += 1;
                    let answer = [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat();
                    socket.write_all(&answer).await?;
                }
            }
            Ok(())
        }
        .await;
        // On a machine that stood still in between the connection was given up; then another one shows it.
        if served.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn a_peer_that_answers_pings_is_not_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options {
        keep_alive: Duration::from_millis(50),
        ..options()
    };
    let connection = Connection::new(&listener.local_addr().unwrap().to_string(), options);
    let calls = async {
        loop {
            let result = connection.call(PUT, None, |_| ()).await;
            assert!(result.is_err(), "nobody answers");
        }
    };
    tokio::select! {
        () = calls => {}
        shown = timeout(PATIENCE, answer_pings(listener)) => shown.unwrap(),
    }
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connection = connection(&listener.local_addr().unwrap().to_string());
    let peer = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 24];
        socket.read_exact(&mut greeting).await.unwrap();
        socket
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        socket
    });
    let result = put(&connection, "k", "v").await;
    assert!(is_lost(&result), "{result:?}");
    assert!(result.unwrap_err().to_string().contains("does not speak HTTP/2"));
    drop(peer.await.unwrap());
}

/// A process that stood still for longer than all limits must not take its own absence for the peer's.
#[tokio::test]
async fn a_process_that_stood_still_while_nothing_was_asked_keeps_its_connection() {
    let stub = Stub::start(1).await;
    let keep_alive = Duration::from_millis(500);
    let options = Options {
        keep_alive,
        ..options()
    };
    let connection = Connection::new(&stub.endpoints()[0], options);
    put(&connection, "k", "v").await.unwrap();
    // Peer and connection live on this thread, so all of them stand still.
    std::thread::sleep(keep_alive * 5 / 2);
    put(&connection, "k", "w").await.unwrap();
}

#[tokio::test]
async fn the_socket_is_closed_when_the_last_handle_is_dropped_and_nothing_is_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = connection(&listener.local_addr().unwrap().to_string());
    let second = first.clone();
    let completions = Completions::new();
    let call = submit_put(&first, 7, &completions);
    let (mut socket, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut received = vec![0; 1024];
    assert!(socket.read(&mut received).await.unwrap() > 0);
    drop(first);
    assert_eq!(call.cancel(), Cancelled::MaybeSent);
    drop(second);
    let rest = socket.read_to_end(&mut received);
    timeout(PATIENCE, rest).await.unwrap().unwrap();
}

#[test]
fn calls_end_when_their_runtime_does_and_another_runtime_can_go_on() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    let (servers, first, second) = (runtime(), runtime(), runtime());
    let (silent, address) = servers.block_on(silent_address());
    let connection = connection(&address);
    let completions = Completions::new();
    first.block_on(async {
        submit_put(&connection, 1, &completions);
    });
    drop(first);
    assert!(is_not_sent(&second.block_on(next(&completions))[0].result));
    second.block_on(async {
        submit_put(&connection, 2, &completions);
        tokio::task::yield_now().await;
    });
    drop(second);
    let mut taken = Vec::new();
    completions.take_into(&mut taken);
    assert_eq!((taken.len(), taken[0].token), (1, 2));
    silent.abort();
}

#[tokio::test]
async fn more_calls_than_may_wait_are_not_sent() {
    /// What HTTP/2 says a client may take for granted.
    const STREAMS: usize = 100;
    let (silent, address) = silent_address().await;
    let options = Options {
        waiting_max: 3,
        ..options()
    };
    let connection = Connection::new(&address, options);
    let completions = Completions::new();
    let calls: Vec<CallId> = (0..STREAMS as u64 + 5)
        .map(|token| submit_put(&connection, token, &completions))
        .collect();
    let ended = next(&completions).await;
    assert_eq!(
        ended.iter().map(|ended| ended.token).collect::<Vec<_>>(),
        [103, 104]
    );
    assert!(ended.iter().all(|ended| is_not_sent(&ended.result)));
    assert_eq!(calls[STREAMS + 4].cancel(), Cancelled::AlreadyDone);
    assert_eq!(calls[STREAMS].cancel(), Cancelled::NotSent);
    silent.abort();
}
