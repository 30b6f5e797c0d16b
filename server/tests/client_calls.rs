//! What clients can ask beyond single reads and writes: sessions, scans, watches, batches, and reads of less freshness.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Cluster, client, eventually, leads, lone_node, outcome, timed};
use proto::metadata;
use proto::raft::{
    BatchCompareAndSwap, BatchGet, BatchPut, BatchRequest, BatchResponse, CloseSessionRequest,
    CompareAndSwapRequest, Consistency, DeleteRequest, GetClusterStatusRequest, GetRequest,
    OpenSessionRequest, Operation, OperationResult, PutRequest, ScanRequest, Stamp, WatchRequest,
    WatchResponse, operation,
};
use tempfile::tempdir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        session: None,
    }
}

fn reason(status: &Status) -> Option<&str> {
    status.metadata().get(metadata::REASON)?.to_str().ok()
}

/// A lone node that leads.
async fn serving_node(dir: &tempfile::TempDir) -> (common::Node, u16) {
    let (node, port) = lone_node(dir).await;
    let mut client = client(port);
    eventually("the node to lead", async || {
        let status = client.get_cluster_status(timed(GetClusterStatusRequest {})).await;
        status
            .is_ok_and(|status| leads(status.get_ref()))
            .then_some(())
            .ok_or("it does not yet")
    })
    .await;
    (node, port)
}

async fn open_session(client: &mut common::Client) -> u64 {
    let opened = client.open_session(timed(OpenSessionRequest {})).await.unwrap();
    opened.into_inner().session_id
}

#[tokio::test]
async fn a_write_retried_on_the_next_leader_happens_once() {
    let mut cluster = Cluster::start(3).await;
    let first = cluster.leader().await;
    let session_id = open_session(&mut cluster.client(first)).await;
    cluster.client(first).put(timed(put("k", "0"))).await.unwrap();
    let swap = || {
        timed(CompareAndSwapRequest {
            key: "k".into(),
            expected: Some("0".into()),
            value: "1".into(),
            session: Some(Stamp {
                session_id,
                sequence: 1,
                acknowledged: 0,
            }),
        })
    };
    let done = cluster
        .client(first)
        .compare_and_swap(swap())
        .await
        .unwrap()
        .into_inner();
    assert!(done.swapped);
    // The answer is lost with the leader, somebody else changes the key, and the client asks again.
    cluster.kill(first);
    let next = eventually("another leader", async || {
        let next = cluster.leader().await;
        (next != first).then_some(next).ok_or(next)
    })
    .await;
    cluster.client(next).put(timed(put("k", "0"))).await.unwrap();
    let again = cluster
        .client(next)
        .compare_and_swap(swap())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (again.swapped, again.index),
        (true, done.index),
        "the first reply, with its index"
    );
    let get = GetRequest {
        key: "k".into(),
        ..Default::default()
    };
    let now = cluster.client(next).get(timed(get)).await.unwrap().into_inner();
    assert_eq!(now.value, "0", "it was not carried out a second time");
}

#[tokio::test]
async fn sessions_that_are_unknown_closed_or_too_far_ahead_are_refused_by_name() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut client = client(port);
    let session_id = open_session(&mut client).await;
    let stamped = |session_id, sequence, acknowledged| {
        timed(PutRequest {
            session: Some(Stamp {
                session_id,
                sequence,
                acknowledged,
            }),
            ..put("k", "v")
        })
    };
    let unknown = client.put(stamped(99_999, 1, 0)).await.unwrap_err();
    assert_eq!(
        (unknown.code(), outcome(&unknown), reason(&unknown)),
        (
            Code::FailedPrecondition,
            Some(metadata::NOT_EXECUTED),
            Some(metadata::SESSION_EXPIRED)
        )
    );
    for sequence in 1..=3 {
        client
            .put(stamped(session_id, sequence, sequence - 1))
            .await
            .unwrap();
    }
    let forgotten = client.put(stamped(session_id, 1, 0)).await.unwrap_err();
    assert_eq!(
        (outcome(&forgotten), reason(&forgotten)),
        (None, Some(metadata::REPLY_FORGOTTEN))
    );
    let far = client.put(stamped(session_id, 1000, 0)).await.unwrap_err();
    assert_eq!(
        (far.code(), outcome(&far)),
        (Code::ResourceExhausted, Some(metadata::NOT_EXECUTED))
    );
    // A stamp that was used for something else.
    let delete = DeleteRequest {
        key: "k".into(),
        session: Some(Stamp {
            session_id,
            sequence: 3,
            acknowledged: 0,
        }),
    };
    let other = client.delete(timed(delete)).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition, "{other}");
    let close = || timed(CloseSessionRequest { session_id });
    assert!(client.close_session(close()).await.unwrap().into_inner().existed);
    assert!(!client.close_session(close()).await.unwrap().into_inner().existed);
    let closed = client.put(stamped(session_id, 4, 3)).await.unwrap_err();
    assert_eq!(reason(&closed), Some(metadata::SESSION_EXPIRED));
}

#[tokio::test]
async fn a_scan_reads_a_range_in_order_page_by_page() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut client = client(port);
    for number in 0..30 {
        client
            .put(timed(put(&format!("k{number:02}"), &number.to_string())))
            .await
            .unwrap();
    }
    client.put(timed(put("z", "behind the range"))).await.unwrap();
    let gone = DeleteRequest {
        key: "k07".into(),
        session: None,
    };
    client.delete(timed(gone)).await.unwrap();
    let (mut start, mut found, mut pages) = (String::from("k"), Vec::new(), 0);
    loop {
        let request = ScanRequest {
            start,
            end: "l".into(),
            limit: 8,
            ..Default::default()
        };
        let page = client.scan(timed(request)).await.unwrap().into_inner();
        assert!(page.applied_index >= 32);
        assert_eq!(page.consistency(), Consistency::Linearizable);
        found.extend(page.entries.into_iter().map(|entry| (entry.key, entry.value)));
        pages += 1;
        start = page.next_start;
        if start.is_empty() {
            break;
        }
    }
    let expected = (0..30)
        .filter(|number| *number != 7)
        .map(|number| (format!("k{number:02}"), number.to_string()));
    assert_eq!((found, pages), (expected.collect::<Vec<_>>(), 4));
    let long = ScanRequest {
        start: "x".repeat(5000),
        ..Default::default()
    };
    assert_eq!(
        client.scan(timed(long)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

async fn next(watch: &mut Streaming<WatchResponse>) -> WatchResponse {
    let message = tokio::time::timeout(common::PATIENCE, watch.message()).await;
    message.expect("news in time").unwrap().expect("an open watch")
}

#[tokio::test]
async fn a_watch_tells_every_change_once_in_order_and_goes_on_where_it_broke_off() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut client = client(port);
    client.put(timed(put("a0", "before"))).await.unwrap();
    let follow = |start_index| WatchRequest {
        prefix: "a".into(),
        start_index,
    };
    let mut watch = client.watch(follow(1)).await.unwrap().into_inner();
    let mut written = vec![("a0".to_owned(), Some("before".to_owned()))];
    for number in 1..20 {
        let key = format!("a{}", number % 3);
        client.put(timed(put(&key, &number.to_string()))).await.unwrap();
        written.push((key, Some(number.to_string())));
        client.put(timed(put("b", "of no interest"))).await.unwrap();
    }
    let gone = DeleteRequest {
        key: "a1".into(),
        session: None,
    };
    client.delete(timed(gone)).await.unwrap();
    written.push(("a1".to_owned(), None));
    let (mut seen, mut indexes, mut up_to) = (Vec::new(), Vec::new(), 0);
    while seen.len() < written.len() {
        let news = next(&mut watch).await;
        assert!(news.index >= up_to);
        up_to = news.index;
        indexes.extend(news.events.iter().map(|event| event.index));
        seen.extend(news.events.into_iter().map(|event| (event.key, event.value)));
        if seen.len() == 8 || seen.len() == 13 {
            watch = client.watch(follow(up_to + 1)).await.unwrap().into_inner();
        }
    }
    assert_eq!(seen, written);
    assert!(indexes.is_sorted_by(|one, other| one < other), "{indexes:?}");
    // From now on.
    let mut late = client.watch(follow(0)).await.unwrap().into_inner();
    client.put(timed(put("a9", "new"))).await.unwrap();
    assert_eq!(next(&mut late).await.events[0].key, "a9");
}

#[tokio::test]
async fn a_watch_from_before_the_snapshot_is_refused_with_the_first_index_that_is_left() {
    let dir = tempdir().unwrap();
    let (mut node, port) = serving_node(&dir).await;
    for number in 0..20 {
        client(port)
            .put(timed(put("k", &number.to_string())))
            .await
            .unwrap();
    }
    let mut admin = proto::raft::admin_service_client::AdminServiceClient::new(common::channel(port));
    let snapshot = admin
        .take_snapshot(timed(proto::raft::TakeSnapshotRequest {}))
        .await
        .unwrap()
        .into_inner();
    node.kill();
    let (_node, port) = serving_node(&dir).await;
    let watch = |start_index| WatchRequest {
        prefix: String::new(),
        start_index,
    };
    let refused = client(port).watch(watch(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let first = refused
        .metadata()
        .get(metadata::FIRST_INDEX)
        .unwrap()
        .to_str()
        .unwrap();
    assert_eq!(first, (snapshot.last_index + 1).to_string());
    client(port).watch(watch(snapshot.last_index + 1)).await.unwrap();
}

fn operation(id: u64, kind: operation::Kind) -> Operation {
    Operation {
        id,
        kind: Some(kind),
        session: None,
    }
}

fn batch_put(id: u64, key: &str, value: &[u8]) -> Operation {
    operation(
        id,
        operation::Kind::Put(BatchPut {
            key: key.into(),
            value: value.to_vec().into(),
        }),
    )
}

fn batch_get(id: u64, key: &str) -> Operation {
    operation(
        id,
        operation::Kind::Get(BatchGet {
            key: key.into(),
            consistency: 0,
        }),
    )
}

async fn results(answers: &mut Streaming<BatchResponse>, count: usize) -> Vec<OperationResult> {
    let mut found = Vec::new();
    while found.len() < count {
        let message = tokio::time::timeout(common::PATIENCE, answers.message()).await;
        found.extend(
            message
                .expect("results in time")
                .unwrap()
                .expect("an open stream")
                .results,
        );
    }
    found.sort_by_key(|result| result.id);
    found
}

#[tokio::test]
async fn a_batch_carries_thousands_of_operations_and_any_bytes() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let (requests, queue) = mpsc::channel(4);
    let mut client = client(port);
    let mut answers = client
        .batch(ReceiverStream::new(queue))
        .await
        .unwrap()
        .into_inner();
    const COUNT: u64 = 20_000;
    let sender = tokio::spawn(async move {
        for first in (0..COUNT).step_by(500) {
            let operations =
                (first..first + 500).map(|id| batch_put(id, &format!("k{id}"), &[0xff, id as u8]));
            let request = BatchRequest {
                operations: operations.collect(),
            };
            requests.send(request).await.unwrap();
        }
        requests
    });
    let written = results(&mut answers, COUNT as usize).await;
    let requests = sender.await.unwrap();
    assert!(
        written
            .iter()
            .zip(0..)
            .all(|(result, id)| result.id == id && result.done && result.error.is_none())
    );
    let mut indexes: Vec<u64> = written.iter().map(|result| result.index).collect();
    indexes.sort_unstable();
    assert!(
        indexes.is_sorted_by(|one, other| one < other),
        "every write has an index of its own"
    );

    let swap = BatchCompareAndSwap {
        key: "k7".into(),
        expected: Some(vec![0xff, 9].into()),
        value: vec![1].into(),
    };
    let operations = vec![
        batch_get(1, "k300"),
        batch_get(2, "nothing"),
        operation(3, operation::Kind::CompareAndSwap(swap)),
        batch_put(4, "", b"no key"),
        batch_get(1, "k1"),
        Operation::default(),
    ];
    requests.send(BatchRequest { operations }).await.unwrap();
    let found = results(&mut answers, 6).await;
    let codes: Vec<(u64, u32)> = found
        .iter()
        .map(|result| (result.id, result.error.as_ref().map_or(0, |error| error.code)))
        .collect();
    let invalid = Code::InvalidArgument as u32;
    assert_eq!(
        codes.iter().filter(|(_, code)| *code == invalid).count(),
        3,
        "{codes:?}"
    );
    let by_id = |id| {
        found
            .iter()
            .find(|result| result.id == id && result.error.is_none())
            .unwrap()
    };
    assert_eq!(by_id(1).value.as_deref(), Some(&[0xff, 44][..]));
    assert!(!by_id(2).done);
    assert_eq!(
        (by_id(3).done, by_id(3).value.as_deref()),
        (false, Some(&[0xff, 7][..]))
    );
    // A value that is no text is not handed out as if it were.
    let get = GetRequest {
        key: "k300".into(),
        ..Default::default()
    };
    let refused = client.get(timed(get)).await.unwrap_err();
    assert_eq!(
        (refused.code(), outcome(&refused)),
        (Code::FailedPrecondition, Some(metadata::NOT_EXECUTED))
    );
    drop(requests);
    assert!(
        answers.message().await.unwrap().is_none(),
        "the stream ends when everything is answered"
    );
}

#[tokio::test]
async fn a_batch_on_a_follower_is_told_who_leads_operation_by_operation() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let (requests, queue) = mpsc::channel(1);
    let mut client = cluster.client(follower);
    let mut answers = client
        .batch(ReceiverStream::new(queue))
        .await
        .unwrap()
        .into_inner();
    let operations = vec![batch_put(1, "k", b"v"), batch_get(2, "k")];
    requests.send(BatchRequest { operations }).await.unwrap();
    let found = results(&mut answers, 2).await;
    let error = found[0].error.as_ref().unwrap();
    assert_eq!(
        (error.leader_id.as_str(), error.outcome.as_str()),
        (cluster.name(leader).as_str(), metadata::NOT_EXECUTED)
    );
    assert!(found[1].error.is_none(), "reads are served by every node");
    let many = (0..2000).map(|id| batch_get(id, "k"));
    let too_many = BatchRequest {
        operations: many.collect(),
    };
    requests.send(too_many).await.unwrap();
    assert_eq!(answers.message().await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn followers_serve_linearizable_reads_and_stale_ones_are_labelled() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let get = |consistency: Consistency| {
        timed(GetRequest {
            key: "k".into(),
            consistency: consistency.into(),
        })
    };
    for round in 0..20 {
        let value = round.to_string();
        let written = cluster
            .client(leader)
            .put(timed(put("k", &value)))
            .await
            .unwrap()
            .into_inner();
        for at in 0..3 {
            let read = cluster
                .client(at)
                .get(get(Consistency::Linearizable))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(
                (read.value.as_str(), read.consistency()),
                (value.as_str(), Consistency::Linearizable),
                "on {at}"
            );
            assert!(read.applied_index >= written.index);
            // Without --lease-reads nothing is answered by lease.
            let read = cluster
                .client(at)
                .get(get(Consistency::Lease))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(
                (read.value.as_str(), read.consistency()),
                (value.as_str(), Consistency::Linearizable)
            );
        }
    }
    // Cut off from everybody, a follower still tells what it has, and says what that is worth.
    let follower = (leader + 1) % 3;
    cluster.kill(leader);
    cluster.kill((leader + 2) % 3);
    let read = cluster
        .client(follower)
        .get(get(Consistency::Stale))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (read.value.as_str(), read.consistency()),
        ("19", Consistency::Stale)
    );
    let mut request = get(Consistency::Linearizable);
    request.set_timeout(std::time::Duration::from_millis(300));
    let refused = cluster.client(follower).get(request).await.unwrap_err();
    assert_eq!(outcome(&refused), Some(metadata::NOT_EXECUTED), "{refused:?}");
}

#[tokio::test]
async fn a_leader_with_leases_answers_by_them_when_asked_to() {
    let cluster = Cluster::start_with(3, &["--lease-reads"]).await;
    let leader = cluster.leader().await;
    cluster.client(leader).put(timed(put("k", "v"))).await.unwrap();
    let get = || {
        timed(GetRequest {
            key: "k".into(),
            consistency: Consistency::Lease.into(),
        })
    };
    // The lease begins with the first round that the others have answered.
    eventually("a read by lease", async || {
        let read = cluster.client(leader).get(get()).await.unwrap().into_inner();
        assert_eq!(read.value, "v");
        match read.consistency() {
            Consistency::Lease => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let follower = (leader + 1) % 3;
    let read = cluster.client(follower).get(get()).await.unwrap().into_inner();
    assert_eq!(
        read.consistency(),
        Consistency::Linearizable,
        "only a leader has a lease"
    );
}

#[tokio::test]
async fn a_leader_that_cannot_commit_refuses_at_its_limit_and_stays_responsive() {
    let mut cluster = Cluster::start_with(3, &["--election-timeout", "4s"]).await;
    let leader = cluster.leader().await;
    cluster.kill((leader + 1) % 3);
    cluster.kill((leader + 2) % 3);
    // Each stream has its own limit, and the node one for all of them.
    let mut streams = Vec::new();
    let mut refused = 0;
    for stream in 0..20_u64 {
        let (requests, queue) = mpsc::channel(8);
        let mut client = cluster.client(leader);
        let answers = client
            .batch(ReceiverStream::new(queue))
            .await
            .unwrap()
            .into_inner();
        for part in 0..4_u64 {
            let operations = (0..1000).map(|id| batch_put(part * 1000 + id, &format!("k{stream}"), b"v"));
            let request = BatchRequest {
                operations: operations.collect(),
            };
            requests.send(request).await.unwrap();
        }
        streams.push((requests, answers));
    }
    for (_, answers) in streams.iter_mut().skip(17) {
        let message = tokio::time::timeout(common::PATIENCE, answers.message())
            .await
            .expect("refusals in time");
        for result in message.unwrap().unwrap().results {
            let error = result.error.expect("nothing is committed");
            assert_eq!(
                (error.code, error.outcome.as_str()),
                (Code::ResourceExhausted as u32, metadata::NOT_EXECUTED)
            );
            refused += 1;
        }
    }
    assert!(refused > 1000, "{refused}");
    assert!(leads(&cluster.status(leader).await.unwrap()));
}

#[tokio::test]
async fn thousands_of_tiny_calls_on_one_connection_outlive_a_node_that_does_not_get_to_run() {
    use nix::sys::signal::Signal;
    let dir = tempdir().unwrap();
    let (node, port) = serving_node(&dir).await;
    let mut client = client(port);
    client.put(timed(put("k", "v"))).await.unwrap();
    node.signal(Signal::SIGSTOP);
    let calls: Vec<_> = (0..5000)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let get = GetRequest {
                    key: "k".into(),
                    ..Default::default()
                };
                client.get(get).await.map(|answer| answer.into_inner().value)
            })
        })
        .collect();
    // They have been sent, as far as the connection takes them, when another task gets its turn.
    tokio::task::yield_now().await;
    node.signal(Signal::SIGCONT);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "v");
    }
}
