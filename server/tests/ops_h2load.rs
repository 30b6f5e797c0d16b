//! `benches/h2load.py`: its numbers are of calls that were all answered well, or there are none.
//!
//! Skipped where h2load, nghttp or Python is not installed.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use common::{Cluster, eventually};
use tokio::net::TcpListener;
use tokio::process::Command;
use tonic::transport::server::TcpIncoming;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/h2load.py");
const REQUESTS: u64 = 60;

async fn is_installed() -> bool {
    let needed = "command -v h2load && command -v nghttp && command -v python3";
    let found = Command::new("sh").args(["-c", needed]).output().await.unwrap();
    if !found.status.success() {
        println!("skipped: h2load or python3 is not installed (Debian: nghttp2-client, python3)");
    }
    found.status.success()
}

/// What the script prints, or why it prints nothing.
async fn load(target: &str, operation: &str, nodes: &str) -> Result<serde_json::Value, String> {
    let run = Command::new("python3")
        .args([SCRIPT, "--json", "--clients=2", "--streams=5", "--value-size=300"])
        .args(["--target", target, "--operation", operation])
        .args([format!("--requests={REQUESTS}").as_str(), nodes])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8(run.stderr).unwrap();
    match run.status.code() {
        Some(0) => Ok(serde_json::from_slice(&run.stdout).unwrap()),
        Some(1) => {
            assert!(run.stdout.is_empty(), "no numbers beside an error");
            Err(errors)
        }
        code => panic!("ended with {code:?}: {errors}"),
    }
}

#[tokio::test]
async fn a_store_is_loaded_by_puts_and_gets_of_its_leader_and_a_follower_is_refused() {
    if !is_installed().await {
        return;
    }
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.all_have_met().await;
    let nodes = format!(
        "{},{},{}",
        cluster.address(0),
        cluster.address(1),
        cluster.address(2)
    );
    for operation in ["put", "get"] {
        // What a new leader writes of its own accord comes in between and is an error.
        let found = eventually("a run that nothing disturbs", async || {
            load("raft", operation, &nodes).await
        })
        .await;
        assert_eq!(
            (&found["requests"], &found["operation"]),
            (&REQUESTS.into(), &operation.into())
        );
        let number = |name: &str| found["trials"][0][name].as_f64().unwrap();
        assert!(
            number("requests_per_second") > 0.0 && number("mean_ms") <= number("max_ms"),
            "{found}"
        );
    }
    let refused = load("raft", "put", &cluster.address((leader + 1) % 3))
        .await
        .unwrap_err();
    assert!(refused.contains("does not lead"), "{refused}");
}

/// Listens as an echo whose call `bad`, counted from 0, is answered with an error of gRPC, which h2load takes for a success.
async fn echo_that_fails_once(bad: u64) -> u16 {
    let calls = Arc::new(AtomicU64::new(0));
    let answer = async move || -> Response {
        let (status, message) = match calls.fetch_add(1, SeqCst) == bad {
            true => ("8", &b""[..]),
            false => ("0", &b"\0\0\0\0\x03\x0a\x01v"[..]),
        };
        let head = [("content-type", "application/grpc"), ("grpc-status", status)];
        (StatusCode::OK, head, message).into_response()
    };
    let router = axum::Router::new().fallback(answer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server =
        tonic::transport::Server::builder().add_routes(tonic::service::Routes::from(router).prepare());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    port
}

#[tokio::test]
async fn one_error_among_the_answers_is_an_error_though_h2load_does_not_see_it() {
    if !is_installed().await {
        return;
    }
    // Two calls come before those of h2load, and one after them.
    let after = 2 + REQUESTS + 1;
    for (bad, said) in [
        (0, "gRPC status 8"),
        (2, "some were errors"),
        (2 + REQUESTS - 1, "some were errors"),
        (after - 1, "gRPC status 8"),
    ] {
        let port = echo_that_fails_once(bad).await;
        let error = load("echo", "put", &format!("127.0.0.1:{port}"))
            .await
            .unwrap_err();
        assert!(error.contains(said), "call {bad}: {error}");
    }
    let port = echo_that_fails_once(after).await;
    load("echo", "put", &format!("127.0.0.1:{port}")).await.unwrap();
}

#[tokio::test]
async fn two_stores_are_loaded_in_turns_and_the_ratio_is_of_their_trials() {
    if !is_installed().await {
        return;
    }
    let fine = u64::MAX;
    let (first, second) = (echo_that_fails_once(fine).await, echo_that_fails_once(fine).await);
    let run = Command::new("python3")
        .args([SCRIPT, "--json", "--clients=2", "--streams=5", "--target=echo"])
        .args(["--requests=60", "--trials=3", "--against"])
        .args([format!("echo=127.0.0.1:{second}"), format!("127.0.0.1:{first}")])
        .output()
        .await
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let found: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let rate = |store: usize, trial: usize| {
        found["stores"][store]["trials"][trial]["requests_per_second"]
            .as_f64()
            .unwrap()
    };
    let mut ratios: Vec<f64> = (0..3).map(|trial| rate(0, trial) / rate(1, trial)).collect();
    ratios.sort_by(f64::total_cmp);
    for (name, expected) in [("min", ratios[0]), ("median", ratios[1]), ("max", ratios[2])] {
        let told = found["ratios"]["requests_per_second"][name].as_f64().unwrap();
        assert!((told / expected - 1.0).abs() < 1e-9, "{name}: {found}");
    }
}
