//! What a node tells those who watch over it: metrics and logs.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::calls::{batch_get, batch_put, put, results};
use common::{Cluster, Node, client, eventually, leads, timed};
use nix::sys::signal::Signal;
use proto::raft::admin_service_client::AdminServiceClient;
use proto::raft::{
    BatchRequest, GetClusterStatusRequest, GetMembershipRequest, GetRequest, Operation, PutRequest, Stamp,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

async fn scrape(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    body.to_owned()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Reads a page strictly: every sample belongs to the family announced right before it, none comes twice.
fn parse(page: &str) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let (mut family, mut kind, mut helped) = (String::new(), String::new(), String::new());
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty(), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, found) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped, "a family says what it is");
            assert!(["counter", "gauge", "histogram"].contains(&found), "{line}");
            assert_eq!(found == "counter", name.ends_with("_total"), "{line}");
            (family, kind) = (name.to_owned(), found.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let of_family = match (kind.as_str(), name.strip_prefix(family.as_str())) {
                ("histogram", Some(rest)) => ["_bucket", "_sum", "_count"].contains(&rest),
                (_, rest) => rest == Some(""),
            };
            assert!(of_family, "{line}");
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once('=').unwrap();
                assert!(
                    is_name(label) && value.starts_with('"') && value.ends_with('"'),
                    "{line}"
                );
            }
            let value: f64 = value.parse().unwrap();
            assert!(kind != "counter" || value >= 0.0, "{line}");
            assert!(
                samples.insert(series.to_owned(), value).is_none(),
                "twice: {line}"
            );
        }
    }
    samples
}

/// The buckets of a histogram on a page, in the order in which they stand there: upper bound and how many did not exceed it.
fn buckets(page: &str, family: &str) -> Vec<(f64, f64)> {
    let bucket = |line: &str| {
        let rest = line.strip_prefix(family)?.strip_prefix("_bucket{le=\"")?;
        let (bound, count) = rest.split_once("\"} ")?;
        Some((bound.parse().unwrap(), count.parse().unwrap()))
    };
    page.lines().filter_map(bucket).collect()
}

/// Where a node listens, and where for those who watch over it.
async fn ports(node: &Node) -> (u16, u16) {
    eventually("both ports", async || {
        let output = node.output();
        let mut lines = output.lines();
        let port = lines
            .next()
            .and_then(|line| line.strip_prefix("listening on 127.0.0.1:"));
        let metrics = lines
            .next()
            .and_then(|line| line.strip_prefix("metrics on http://127.0.0.1:"));
        let metrics = metrics.and_then(|line| line.strip_suffix("/metrics"));
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<u16>().ok());
        number(port).zip(number(metrics)).ok_or(output.clone())
    })
    .await
}

/// How many operations ended so, by what the page says.
async fn requests(metrics: u16, operation: &str) -> [f64; 3] {
    let page = parse(&scrape(metrics).await);
    ["ok", "not_executed", "unknown"]
        .map(|outcome| page[&format!("kv_requests_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}")])
}

/// Waits until what a leader writes of its own accord has been applied.
async fn comes_to_rest(port: u16) {
    let mut client = client(port);
    let mut admin = AdminServiceClient::new(common::channel(port));
    eventually("the first configuration to be applied", async || {
        let members = admin.get_membership(timed(GetMembershipRequest {})).await?;
        let status = client
            .get_cluster_status(timed(GetClusterStatusRequest {}))
            .await?;
        let (index, status) = (members.into_inner().index, status.into_inner());
        let quiet = status.applied_index >= index && status.applied_index == status.last_index;
        quiet
            .then_some(())
            .ok_or(tonic::Status::unavailable(format!("{status:?}")))
    })
    .await;
}

#[tokio::test]
async fn metrics_can_be_scraped_and_grow_with_what_happens() {
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--single-node",
        "--log-format",
        "json",
    ]
    .map(str::to_owned);
    let node = Node::start("node1", &dir.path().join("node1"), &flags);
    let (port, metrics) = ports(&node).await;
    let mut client = client(port);
    eventually("the node to lead", async || {
        let status = client.get_cluster_status(timed(GetClusterStatusRequest {})).await;
        status
            .is_ok_and(|status| leads(status.get_ref()))
            .then_some(())
            .ok_or("it does not yet")
    })
    .await;
    comes_to_rest(port).await;
    let before = parse(&scrape(metrics).await);
    assert_eq!(before["raft_role{role=\"leader\"}"], 1.0);
    assert_eq!(before["raft_offices_taken_total"], 1.0);
    for number in 0..10 {
        let put = PutRequest {
            key: "k".into(),
            value: number.to_string(),
            ..Default::default()
        };
        client.put(timed(put)).await.unwrap();
    }
    let get = GetRequest {
        key: "k".into(),
        ..Default::default()
    };
    client.get(timed(get)).await.unwrap();
    let page = scrape(metrics).await;
    let after = parse(&page);
    let grown = |name: &str| after[name] - before[name];
    assert_eq!(
        grown("kv_requests_total{operation=\"write\",outcome=\"ok\"}"),
        10.0
    );
    assert_eq!(grown("kv_requests_total{operation=\"read\",outcome=\"ok\"}"), 1.0);
    assert_eq!(grown("raft_applied_index"), 10.0);
    // One at a time, so each had to be durable before the next.
    assert!(
        grown("wal_fsync_duration_seconds_count") >= 10.0 && grown("wal_fsync_duration_seconds_sum") > 0.0
    );
    let buckets = buckets(&page, "wal_fsync_duration_seconds");
    assert!(
        buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
        "{buckets:?}"
    );
    let [(first, _), .., (last, _), (endless, all)] = buckets[..] else {
        panic!("{buckets:?}")
    };
    assert_eq!((first, last, endless), (0.00005, 6.5536, f64::INFINITY));
    assert_eq!(all, after["wal_fsync_duration_seconds_count"]);
    assert!(after["wal_fsync_seconds_max"] > 0.0);
    assert!(after["process_resident_memory_bytes"] > 1e6 && after["process_open_fds"] > 3.0);
    assert_eq!(after["wal_full"], 0.0);
    assert_eq!(
        before.keys().collect::<Vec<_>>(),
        after.keys().collect::<Vec<_>>(),
        "no series comes or goes"
    );

    for line in node.log().lines() {
        let entry: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(
            entry["timestamp"].is_string()
                && entry["level"].is_string()
                && entry["fields"]["message"].is_string()
        );
    }
}

fn get(key: &str) -> GetRequest {
    GetRequest {
        key: key.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn what_was_refused_is_counted_as_refused_wherever_it_came_from() {
    let flags = ["--port", "0", "--metrics-port", "0", "--single-node"].map(str::to_owned);
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start("node1", &dir.path().join("node1"), &flags);
    let (port, metrics) = ports(&node).await;
    let mut client = client(port);
    eventually("a write to succeed", async || {
        client.put(timed(put("k", "v"))).await
    })
    .await;
    let [reads, writes] = [requests(metrics, "read").await, requests(metrics, "write").await];

    let mut unknown_session = put("k", "v");
    unknown_session.session = Some(Stamp {
        session_id: 1 << 40,
        sequence: 1,
        acknowledged: 0,
    });
    client.put(timed(unknown_session)).await.unwrap_err();
    client.put(timed(put("", "v"))).await.unwrap_err();
    let (asking, queue) = mpsc::channel(1);
    let mut answers = client
        .batch(ReceiverStream::new(queue))
        .await
        .unwrap()
        .into_inner();
    let operations = vec![
        batch_put(1, "", b"no key"),
        batch_get(2, ""),
        batch_put(3, "k", &[0xff]),
        batch_get(4, "k"),
        Operation::default(),
    ];
    asking.send(BatchRequest { operations }).await.unwrap();
    results(&mut answers, 5).await;
    // Bytes that are no text were read, but not handed out.
    client.get(timed(get("k"))).await.unwrap_err();

    let grown = |now: [f64; 3], before: [f64; 3]| [0, 1, 2].map(|at| now[at] - before[at]);
    assert_eq!(grown(requests(metrics, "write").await, writes), [1.0, 4.0, 0.0]);
    assert_eq!(grown(requests(metrics, "read").await, reads), [1.0, 2.0, 0.0]);
}

#[tokio::test]
async fn what_a_client_did_not_wait_for_is_counted_as_unknown() {
    let flags = ["--election-timeout", "4s", "--metrics-port", "0"];
    let mut cluster = Cluster::start_with(3, &flags).await;
    let leader = cluster.leader().await;
    let (_, metrics) = ports(cluster.node(leader)).await;
    for at in (0..3).filter(|at| *at != leader) {
        cluster.node(at).signal(Signal::SIGSTOP);
    }
    let before = requests(metrics, "write").await;
    let last = cluster.status(leader).await.unwrap().last_index;
    let mut writer = cluster.client(leader);
    let single = tokio::spawn(async move { writer.put(tonic::Request::new(put("k", "v"))).await });
    let (asking, queue) = mpsc::channel(1);
    let answers = cluster
        .client(leader)
        .batch(ReceiverStream::new(queue))
        .await
        .unwrap();
    let operations = vec![batch_put(1, "k", b"1"), batch_put(2, "k", b"2")];
    asking.send(BatchRequest { operations }).await.unwrap();
    eventually("the writes to reach the log", async || {
        let now = cluster
            .status(leader)
            .await
            .map_err(|status| status.to_string())?;
        (now.last_index >= last + 3)
            .then_some(())
            .ok_or(now.last_index.to_string())
    })
    .await;
    single.abort();
    drop((asking, answers));
    eventually("the three to be counted", async || {
        let now = requests(metrics, "write").await;
        (now == [before[0], before[1], before[2] + 3.0])
            .then_some(())
            .ok_or(now)
    })
    .await;
}
