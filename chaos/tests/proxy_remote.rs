//! What the remote proxy does when the server is not there, is something else, or does not do what it is told.

#![allow(clippy::unwrap_used)]
#![cfg(feature = "toxiproxy")]

use std::net::SocketAddr;

use axum::Router;
use axum::http::{Method, StatusCode};
use chaos::proxy::{FaultProxy, ProxyError, Stream, Toxic, ToxicKind};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

const LATENCY: ToxicKind = ToxicKind::Latency {
    latency_ms: 100,
    jitter_ms: 0,
};

/// A server that answers every change with success and changes nothing: what a client that never looks at what it
/// did would report as faults injected.
async fn liar() -> (SocketAddr, JoinSet<()>) {
    let proxy = r#"{"name":"p","listen":"127.0.0.1:1","upstream":"127.0.0.1:9","enabled":true,"toxics":[]}"#;
    let answer = move |method: Method, uri: axum::http::Uri| async move {
        match (method, uri.path()) {
            (Method::GET, "/version") => (StatusCode::OK, r#"{"version": "2.12.0"}"#.to_owned()),
            (Method::GET, "/proxies") => (StatusCode::OK, format!(r#"{{"p":{proxy}}}"#)),
            (Method::GET, "/proxies/p/toxics") => (StatusCode::OK, "[]".to_owned()),
            (Method::POST, "/populate") => (StatusCode::CREATED, r#"{"proxies":[]}"#.to_owned()),
            (Method::DELETE, "/proxies/p") => (StatusCode::NO_CONTENT, String::new()),
            _ => (StatusCode::OK, "{}".to_owned()),
        }
    };
    serve(Router::new().fallback(answer)).await
}

async fn serve(router: Router) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (addr, task)
}

#[tokio::test]
async fn success_that_changed_nothing_is_an_error() {
    let (addr, _task) = liar().await;
    let proxy = FaultProxy::remote(&addr.to_string()).await.unwrap();
    let through_client = Toxic::new(Stream::Upstream, LATENCY);
    let through_http = Toxic::new(Stream::Upstream, ToxicKind::ResetPeer { timeout_ms: 0 });
    for (call, error) in [
        ("create", proxy.create("q", "127.0.0.1:9").await.unwrap_err()),
        ("disable", proxy.set_enabled("p", false).await.unwrap_err()),
        (
            "toxic by client",
            proxy.add_toxic("p", through_client).await.unwrap_err(),
        ),
        (
            "toxic by http",
            proxy.add_toxic("p", through_http).await.unwrap_err(),
        ),
        ("delete", proxy.delete("p").await.unwrap_err()),
    ] {
        assert!(matches!(error, ProxyError::NotInForce { .. }), "{call}: {error}");
        assert!(error.to_string().contains("not in force"), "{error}");
    }
    proxy.shutdown().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_says_what_to_do() {
    // A port that was free a moment ago.
    let addr = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = FaultProxy::remote(&format!("http://{addr}")).await.unwrap_err();
    assert!(matches!(error, ProxyError::Unreachable { .. }), "{error}");
    let message = error.to_string();
    for part in [addr.to_string().as_str(), "toxiproxy-server", "embedded"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_an_error_and_no_panic() {
    let (addr, mut task) = liar().await;
    let proxy = FaultProxy::remote(&addr.to_string()).await.unwrap();
    proxy.proxy("p").await.unwrap();
    task.shutdown().await;
    // Connections that were open may be served once more; after that nobody answers.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match proxy
            .add_toxic("p", Toxic::new(Stream::Upstream, LATENCY))
            .await
            .unwrap_err()
        {
            ProxyError::Unreachable { .. } | ProxyError::ClientPanicked { .. } => break,
            error => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
    }
    let error = proxy.proxies().await.unwrap_err();
    assert!(
        matches!(error, ProxyError::Unreachable { .. }),
        "the client works on after a failure: {error}"
    );
    proxy.shutdown().await;
}

#[tokio::test]
async fn a_panic_in_the_client_is_caught_and_the_next_call_works() {
    // Answers the calls before a toxic is added, then drops the connection: there the client crate panics.
    let (addr, _task) = liar_that_hangs_up_on_toxics().await;
    let proxy = FaultProxy::remote(&addr.to_string()).await.unwrap();
    for _ in 0..2 {
        let error = proxy
            .add_toxic("p", Toxic::new(Stream::Upstream, LATENCY))
            .await
            .unwrap_err();
        assert!(matches!(error, ProxyError::ClientPanicked { .. }), "{error}");
        assert_eq!(proxy.proxy("p").await.unwrap().upstream, "127.0.0.1:9");
    }
    proxy.shutdown().await;
}

async fn liar_that_hangs_up_on_toxics() -> (SocketAddr, JoinSet<()>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let proxy = r#"{"name":"p","listen":"127.0.0.1:1","upstream":"127.0.0.1:9","enabled":true,"toxics":[]}"#;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 16 << 10];
            let len = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..len]).into_owned();
            let body = match head.split(' ').take(2).collect::<Vec<_>>()[..] {
                ["GET", "/version"] => r#"{"version": "2.12.0"}"#.to_owned(),
                ["GET", "/proxies"] => format!(r#"{{"p":{proxy}}}"#),
                ["GET", "/proxies/p/toxics"] => "[]".to_owned(),
                _ => continue,
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            // A client that has gone does not matter here.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (addr, task)
}

#[tokio::test]
async fn something_else_that_listens_there_is_noticed() {
    let (addr, _task) = serve(Router::new().fallback(async || "<html>hello</html>")).await;
    let error = FaultProxy::remote(&addr.to_string()).await.unwrap_err();
    assert!(matches!(error, ProxyError::Garbled { .. }), "{error}");
    let (addr, _task) = serve(Router::new()).await;
    let error = FaultProxy::remote(&addr.to_string()).await.unwrap_err();
    assert!(
        matches!(error, ProxyError::Refused { status: 404, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn addresses_that_make_no_sense_are_refused() {
    for url in [
        "https://127.0.0.1:1",
        "127.0.0.1:99999",
        "http://127.0.0.1:1/proxies",
    ] {
        let error = FaultProxy::remote(url).await.unwrap_err();
        assert!(matches!(error, ProxyError::Invalid { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_shared_server_keeps_what_others_created() {
    let host = chaos::proxy::Embedded::new(1);
    host.create_at("theirs", "127.0.0.1:0", "127.0.0.1:9")
        .await
        .unwrap();
    let api = host
        .serve_api(TcpListener::bind("127.0.0.1:0").await.unwrap())
        .unwrap();
    let proxy = FaultProxy::remote(&api.to_string()).await.unwrap();
    let names = async || -> Vec<_> {
        host.proxies()
            .await
            .unwrap()
            .into_iter()
            .map(|info| info.name)
            .collect()
    };
    for ended in [false, true] {
        proxy.create("ours", "127.0.0.1:9").await.unwrap();
        assert_eq!(names().await, ["ours", "theirs"]);
        if ended {
            proxy.shutdown().await
        } else {
            proxy.delete_all().await.unwrap()
        }
        assert_eq!(names().await, ["theirs"]);
    }
    host.shutdown().await;
}
