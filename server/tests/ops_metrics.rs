//! What a node tells those who watch over it: metrics and logs.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::{Node, client, eventually, leads, timed};
use proto::raft::{GetClusterStatusRequest, GetRequest, PutRequest};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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
            assert!(["counter", "gauge"].contains(&found), "{line}");
            assert_eq!(found == "counter", name.ends_with("_total"), "{line}");
            (family, kind) = (name.to_owned(), found.to_owned());
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert_eq!(name, family, "{line}");
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
    let (port, metrics) = eventually("both ports", async || {
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
    .await;
    let mut client = client(port);
    eventually("the node to lead", async || {
        let status = client.get_cluster_status(timed(GetClusterStatusRequest {})).await;
        status
            .is_ok_and(|status| leads(status.get_ref()))
            .then_some(())
            .ok_or("it does not yet")
    })
    .await;
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
    let after = parse(&scrape(metrics).await);
    let grown = |name: &str| after[name] - before[name];
    assert_eq!(
        grown("kv_requests_total{operation=\"write\",outcome=\"ok\"}"),
        10.0
    );
    assert_eq!(grown("kv_requests_total{operation=\"read\",outcome=\"ok\"}"), 1.0);
    assert_eq!(grown("raft_applied_index"), 10.0);
    assert!(grown("wal_fsyncs_total") >= 1.0 && grown("wal_fsync_seconds_total") > 0.0);
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
