//! What clients can ask beyond single reads and writes: sessions, scans and reads of less freshness, and what it
//! is told at the limits. Watches and batches are in `client_streams.rs`.
#![allow(clippy::unwrap_used)]

mod common;

use common::calls::{batch_put, open_session, put, serving_node};
use common::{Cluster, client, eventually, leads, outcome, timed};
use proto::metadata;
use proto::raft::admin_service_client::AdminServiceClient;
use proto::raft::{
    BatchRequest, CloseSessionRequest, CompareAndSwapRequest, Consistency, DeleteRequest, GetRequest,
    PutRequest, ScanRequest, Stamp, TransferLeadershipRequest,
};
use tempfile::tempdir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

fn reason(status: &Status) -> Option<&str> {
    status.metadata().get(metadata::REASON)?.to_str().ok()
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
    let delete = DeleteRequest {
        key: "k".into(),
        session: Some(Stamp {
            session_id,
            sequence: 4,
            acknowledged: 3,
        }),
    };
    client.delete(timed(delete)).await.unwrap();
    let other = client.put(stamped(session_id, 4, 3)).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition, "{other}");
    let close = || timed(CloseSessionRequest { session_id });
    assert!(client.close_session(close()).await.unwrap().into_inner().existed);
    assert!(!client.close_session(close()).await.unwrap().into_inner().existed);
    let closed = client.put(stamped(session_id, 5, 4)).await.unwrap_err();
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
async fn a_follower_that_does_not_wait_as_long_leaves_its_leader_without_leases() {
    let lease = ["--lease-reads", "--election-timeout", "500ms"];
    let mut cluster = Cluster::start_with(3, &lease).await;
    let leader = cluster.leader().await;
    let odd = (leader + 1) % 3;
    // Answered by whoever leads, unless that is the odd one itself, which may trust the others.
    let read = async |cluster: &Cluster| {
        let leader = cluster.leader().await;
        if leader == odd {
            let mut admin = AdminServiceClient::new(common::channel(cluster.ports[odd]));
            let away = TransferLeadershipRequest::default();
            return Err(format!(
                "handing over: {:?}",
                admin.transfer_leadership(timed(away)).await
            ));
        }
        let request = GetRequest {
            key: "k".into(),
            consistency: Consistency::Lease.into(),
        };
        let answer = cluster.client(leader).get(timed(request)).await;
        answer
            .map(|read| read.into_inner().consistency())
            .map_err(|status| status.to_string())
    };
    for flags in [
        &["--lease-reads", "--election-timeout", "400ms"][..],
        &lease[1..],
        &lease,
    ] {
        cluster.kill(odd);
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        cluster.launch_with(odd, &flags);
        cluster.leader().await;
        let wanted = match flags.len() == 3 && flags[2] == "500ms" {
            true => Consistency::Lease,
            false => Consistency::Linearizable,
        };
        eventually("reads as they may be now", async || match read(&cluster).await {
            Ok(found) if found == wanted => Ok(()),
            other => Err(other),
        })
        .await;
        if wanted == Consistency::Linearizable {
            for _ in 0..50 {
                let found = read(&cluster).await;
                assert_ne!(found, Ok(Consistency::Lease), "with {flags:?}");
            }
        }
    }
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

#[tokio::test]
async fn a_session_full_of_large_replies_does_not_spoil_the_snapshot() {
    let dir = tempdir().unwrap();
    let (mut node, port) = serving_node(&dir).await;
    let mut calls = client(port);
    let large = "v".repeat(1 << 20);
    calls.put(timed(put("k", &large))).await.unwrap();
    let session_id = open_session(&mut calls).await;
    let swap = |sequence, acknowledged| {
        timed(CompareAndSwapRequest {
            key: "k".into(),
            expected: None,
            value: String::new(),
            session: Some(Stamp {
                session_id,
                sequence,
                acknowledged,
            }),
        })
    };
    let mut refused = 0;
    for sequence in 1..=70 {
        match calls.compare_and_swap(swap(sequence, 0)).await {
            Ok(answer) => assert!(!answer.get_ref().swapped),
            Err(status) => {
                assert_eq!(
                    (status.code(), outcome(&status)),
                    (Code::ResourceExhausted, Some(metadata::NOT_EXECUTED))
                );
                refused += 1;
            }
        }
    }
    let mut admin = proto::raft::admin_service_client::AdminServiceClient::new(common::channel(port));
    admin
        .take_snapshot(timed(proto::raft::TakeSnapshotRequest {}))
        .await
        .unwrap();
    node.kill();
    let (_node, port) = serving_node(&dir).await;
    let mut calls = client(port);
    let read = calls
        .get(timed(GetRequest {
            key: "k".into(),
            ..Default::default()
        }))
        .await
        .unwrap();
    assert_eq!(read.get_ref().value, large);
    // A retry has its reply still; what was refused goes through once the client has said what it has.
    assert!(
        !calls
            .compare_and_swap(swap(1, 0))
            .await
            .unwrap()
            .get_ref()
            .swapped
    );
    assert!(refused > 0, "what a session remembers is bounded");
    assert!(
        !calls
            .compare_and_swap(swap(70, 69))
            .await
            .unwrap()
            .get_ref()
            .swapped
    );
}
