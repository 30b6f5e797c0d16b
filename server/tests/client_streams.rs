//! The two streams: watches and batches.
#![allow(clippy::unwrap_used)]

mod common;

use common::calls::{batch_get, batch_put, open_session, operation, put, results, serving_node};
use common::{Cluster, client, eventually, outcome, timed};
use proto::metadata;
use proto::raft::{
    BatchCompareAndSwap, BatchRequest, BatchResponse, DeleteRequest, GetRequest, Operation, ScanRequest,
    Stamp, WatchRequest, WatchResponse, operation,
};
use tempfile::tempdir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

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
    assert!(refused.message().contains("\"k300\""), "{refused}");
    drop(requests);
    assert!(
        answers.message().await.unwrap().is_none(),
        "the stream ends when everything is answered"
    );
}

#[tokio::test]
async fn scans_and_watches_carry_values_that_are_no_text() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut batch = Batch::open(client(port)).await;
    let bytes: &[u8] = &[b'a', 0xff, 0];
    for (id, (key, value)) in [("a", &b"text"[..]), ("b", bytes), ("c", b"")]
        .into_iter()
        .enumerate()
    {
        batch.send(vec![batch_put(id as u64, key, value)]).await;
        results(&mut batch.answers, 1).await;
    }
    let found = client(port).scan(timed(ScanRequest::default())).await.unwrap();
    let found: Vec<_> = (found.into_inner().entries.into_iter())
        .map(|entry| (entry.key, entry.value, entry.value_bytes))
        .collect();
    let entry = |key: &str, text: &str, bytes: Option<&'static [u8]>| {
        (key.to_owned(), text.to_owned(), bytes.map(Into::into))
    };
    let expected = [
        entry("a", "text", None),
        entry("b", "", Some(&[b'a', 0xff, 0])),
        entry("c", "", None),
    ];
    assert_eq!(found, expected);

    let gone = DeleteRequest {
        key: "b".into(),
        session: None,
    };
    client(port).delete(timed(gone)).await.unwrap();
    let all = WatchRequest {
        prefix: String::new(),
        start_index: 1,
    };
    let mut watch = client(port).watch(all).await.unwrap().into_inner();
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let events = next(&mut watch).await.events;
        seen.extend(
            events
                .into_iter()
                .map(|event| (event.key, event.value, event.value_bytes)),
        );
    }
    let expected = expected.map(|(key, text, bytes)| (key, Some(text), bytes));
    assert_eq!(seen[..3], expected);
    assert_eq!(seen[3], ("b".to_owned(), None, None), "a deletion has neither");
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
async fn a_watch_of_quiet_keys_says_how_far_it_has_come_while_others_are_busy() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut writer = client(port);
    let busy = tokio::spawn(async move {
        loop {
            writer.put(timed(put("busy", "v"))).await.unwrap();
        }
    });
    let quiet = WatchRequest {
        prefix: "quiet".into(),
        start_index: 1,
    };
    let mut watch = client(port).watch(quiet).await.unwrap().into_inner();
    let first = next(&mut watch).await;
    assert!(first.events.is_empty() && first.index > 1, "{first:?}");
    let second = next(&mut watch).await;
    assert!(second.index > first.index, "{second:?}");
    busy.abort();
}

#[tokio::test]
async fn a_watch_on_a_node_that_was_given_a_snapshot_ends_where_the_changes_are_missing() {
    let flags = ["--snapshot-entries", "20", "--snapshot-trailing", "5"];
    let mut cluster = Cluster::start_with(3, &flags).await;
    let leader = cluster.leader().await;
    let behind = (leader + 1) % 3;
    let written = cluster.client(leader).put(timed(put("k", "seen"))).await.unwrap();
    let all = |start_index| WatchRequest {
        prefix: String::new(),
        start_index,
    };
    let watch = cluster.client(behind).watch(all(1)).await;
    let seen = next(&mut watch.unwrap().into_inner()).await;
    assert_eq!(seen.events[0].index, written.get_ref().index);
    cluster.kill(behind);
    for number in 0..100 {
        let write = put("k", &number.to_string());
        cluster.client(leader).put(timed(write)).await.unwrap();
    }
    eventually("the leader's log to begin later", async || {
        let status = cluster
            .status(leader)
            .await
            .map_err(|status| status.to_string())?;
        let start = status.log_start_index;
        (start > seen.index + 1).then_some(()).ok_or(start.to_string())
    })
    .await;
    cluster.launch(behind);
    // It may begin before the snapshot has come, and then ends when it has.
    let ended = eventually("the watch to end", async || {
        let mut watch = match cluster.client(behind).watch(all(seen.index + 1)).await {
            Ok(watch) => watch.into_inner(),
            Err(status) if status.code() == Code::OutOfRange => return Ok(status),
            Err(status) => return Err(status),
        };
        match watch.message().await {
            Err(status) if status.code() == Code::OutOfRange => Ok(status),
            Err(status) => Err(status),
            Ok(news) => panic!("nobody has these changes any more: {news:?}"),
        }
    })
    .await;
    let first = ended.metadata().get(metadata::FIRST_INDEX).unwrap();
    let first: u64 = first.to_str().unwrap().parse().unwrap();
    assert!(first > seen.index + 1);
    let on = cluster.client(behind).watch(all(first)).await;
    cluster
        .client(leader)
        .put(timed(put("k", "later")))
        .await
        .unwrap();
    let mut on = on.unwrap().into_inner();
    while next(&mut on)
        .await
        .events
        .iter()
        .all(|event| event.value.as_deref() != Some("later"))
    {}
}

/// One stream of operations.
struct Batch {
    requests: mpsc::Sender<BatchRequest>,
    answers: Streaming<BatchResponse>,
}

impl Batch {
    async fn open(mut client: common::Client) -> Batch {
        let (requests, queue) = mpsc::channel(1);
        let answers = client.batch(ReceiverStream::new(queue)).await.unwrap();
        Batch {
            requests,
            answers: answers.into_inner(),
        }
    }

    async fn send(&self, operations: Vec<Operation>) {
        self.requests.send(BatchRequest { operations }).await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_may_read_more_than_one_message_holds() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut batch = Batch::open(client(port)).await;
    let large = vec![0xfe; 1 << 20];
    batch.send(vec![batch_put(0, "k", &large)]).await;
    results(&mut batch.answers, 1).await;
    batch.send((0..20).map(|id| batch_get(id, "k")).collect()).await;
    let found = results(&mut batch.answers, 20).await;
    assert!(
        found
            .iter()
            .zip(0..)
            .all(|(result, id)| result.id == id && result.value.as_deref() == Some(&large))
    );
}

#[tokio::test]
async fn a_batch_whose_client_does_not_read_is_held_back_and_loses_nothing() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let mut batch = Batch::open(client(port)).await;
    let key = "k".repeat(4000);
    batch.send(vec![batch_put(0, &key, &[7; 16 << 10])]).await;
    results(&mut batch.answers, 1).await;
    let mut sent = 0;
    let patience = std::time::Duration::from_secs(2);
    while let Ok(permit) = tokio::time::timeout(patience, batch.requests.reserve()).await {
        let operations = (sent..sent + 500).map(|id| batch_get(id, &key)).collect();
        permit.unwrap().send(BatchRequest { operations });
        sent += 500;
        assert!(sent < 20_000, "the node reads on though nobody takes its answers");
    }
    let found = results(&mut batch.answers, sent as usize).await;
    assert!(
        found
            .iter()
            .zip(0..)
            .all(|(result, id)| result.id == id && result.done)
    );
}

#[tokio::test]
async fn a_batch_that_breaks_the_rules_ends_after_the_results_of_what_was_begun() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let too_many = (0..2000).map(|id| batch_get(id, "k")).collect();
    let too_large = (0..6).map(|id| batch_put(id, "k", &[0; 1 << 20])).collect();
    for (broken, code) in [(too_many, Code::InvalidArgument), (too_large, Code::OutOfRange)] {
        let mut batch = Batch::open(client(port)).await;
        batch
            .send((0..1000).map(|id| batch_put(id, "k", b"v")).collect())
            .await;
        batch.send(broken).await;
        let written = results(&mut batch.answers, 1000).await;
        assert!(written.iter().all(|result| result.error.is_none()));
        let ended = batch.answers.message().await.unwrap_err();
        assert_eq!(
            (ended.code(), outcome(&ended)),
            (code, Some(metadata::NOT_EXECUTED))
        );
    }
}

#[tokio::test]
async fn a_stamped_operation_sent_again_on_another_stream_happens_once() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let session_id = open_session(&mut client(port)).await;
    let stamped = |sequence| Operation {
        session: Some(Stamp {
            session_id,
            sequence,
            acknowledged: 0,
        }),
        ..batch_put(sequence, &format!("k{sequence}"), &[0xff])
    };
    let mut indexes: Vec<Vec<u64>> = Vec::new();
    for _ in 0..2 {
        let mut batch = Batch::open(client(port)).await;
        batch.send((1..=256).map(stamped).collect()).await;
        let written = results(&mut batch.answers, 256).await;
        assert!(written.iter().all(|result| result.done));
        indexes.push(written.iter().map(|result| result.index).collect());
    }
    assert_eq!(indexes[0], indexes[1]);
}

#[tokio::test]
async fn a_stamp_of_another_command_is_no_answer_to_an_operation() {
    let dir = tempdir().unwrap();
    let (_node, port) = serving_node(&dir).await;
    let session_id = open_session(&mut client(port)).await;
    let stamp = Some(Stamp {
        session_id,
        sequence: 1,
        acknowledged: 0,
    });
    let mut batch = Batch::open(client(port)).await;
    let put = Operation {
        session: stamp,
        ..batch_put(1, "k", b"v")
    };
    batch.send(vec![put]).await;
    assert!(results(&mut batch.answers, 1).await[0].done);
    let delete = operation::Kind::Delete(proto::raft::BatchDelete { key: "k".into() });
    let other = Operation {
        id: 2,
        kind: Some(delete),
        session: stamp,
    };
    batch.send(vec![other]).await;
    let refused = results(&mut batch.answers, 1).await.remove(0).error.unwrap();
    assert_eq!(refused.code, Code::FailedPrecondition as u32, "{refused:?}");
}
