//! The HTTP API on the wire: what a Toxiproxy client sends and what it gets, to the byte.
//!
//! Spoken by hand over a socket, so that no client library smooths anything over.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use chaos::proxy::{Embedded, Stream, Toxic, ToxicKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

struct Answer {
    status: u16,
    content_type: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// A success that carries JSON.
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.content_type, "application/json");
        self.json()
    }

    /// A success that carries nothing.
    fn expect_empty(self) {
        assert_eq!((self.status, self.body.as_str()), (204, ""));
    }

    /// A refusal, in the form that Toxiproxy gives it: JSON, called plain text, with a line end.
    fn expect_error(self, status: u16, message: &str) {
        let body = format!("{{\"error\":\"{message}\",\"status\":{status}}}\n");
        assert_eq!((self.status, self.body), (status, body));
        assert_eq!(self.content_type, "text/plain; charset=utf-8");
    }
}

struct Api {
    embedded: Embedded,
    addr: SocketAddr,
}

impl Api {
    async fn start() -> Self {
        let embedded = Embedded::new(1);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = embedded.serve_api(listener).unwrap();
        Self { embedded, addr }
    }

    /// An API with one proxy named `p`.
    async fn with_proxy() -> Self {
        let api = Self::start().await;
        api.embedded
            .create_at("p", "127.0.0.1:0", "127.0.0.1:9")
            .await
            .unwrap();
        api
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_as(method, path, body, "toxiproxy-cli").await
    }

    async fn ask_as(&self, method: &str, path: &str, body: &str, agent: &str) -> Answer {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nuser-agent: {agent}\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let content_type = head
            .lines()
            .find_map(|line| line.strip_prefix("content-type: "))
            .unwrap_or("");
        Answer {
            status,
            content_type: content_type.to_owned(),
            body: body.to_owned(),
        }
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, &body.to_string()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }
}

#[tokio::test]
async fn version_names_the_interface_and_who_answers() {
    let api = Api::start().await;
    let answer = api.get("/version").await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (200, r#"{"version": "2.12.0+whitewater"}"#)
    );
}

#[tokio::test]
async fn a_proxy_is_created_shown_changed_and_deleted() {
    let api = Api::start().await;
    let asked = json!({"name": "p", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"});
    let created = api.post("/proxies", asked).await.expect(201);
    let listen = created["listen"].as_str().unwrap().to_owned();
    assert_ne!(
        listen.parse::<SocketAddr>().unwrap().port(),
        0,
        "the real port is told"
    );
    let whole = json!({
        "name": "p", "listen": listen, "upstream": "127.0.0.1:9", "enabled": true, "toxics": [],
    });
    assert_eq!(created, whole);
    assert_eq!(api.get("/proxies/p").await.expect(200), whole);
    assert_eq!(api.get("/proxies").await.expect(200), json!({ "p": whole }));

    for method in ["PATCH", "POST"] {
        let changed = api
            .ask(method, "/proxies/p", r#"{"enabled":false}"#)
            .await
            .expect(200);
        assert_eq!(
            (&changed["enabled"], &changed["listen"]),
            (&json!(false), &json!(listen))
        );
        assert!(TcpStream::connect(&listen).await.is_err());
        let changed = api
            .ask(
                method,
                "/proxies/p",
                r#"{"enabled":true,"upstream":"127.0.0.1:8"}"#,
            )
            .await;
        assert_eq!(changed.expect(200)["upstream"], "127.0.0.1:8");
        TcpStream::connect(&listen).await.unwrap();
    }
    let moved = api
        .ask("PATCH", "/proxies/p", r#"{"listen":"127.0.0.1:0"}"#)
        .await
        .expect(200);
    assert_ne!(moved["listen"], json!(listen));
    assert!(TcpStream::connect(&listen).await.is_err());
    TcpStream::connect(moved["listen"].as_str().unwrap())
        .await
        .unwrap();

    api.ask("DELETE", "/proxies/p", "").await.expect_empty();
    assert_eq!(api.get("/proxies").await.expect(200), json!({}));
}

#[tokio::test]
async fn a_proxy_may_start_disabled() {
    let api = Api::start().await;
    let asked = json!({"name": "p", "upstream": "127.0.0.1:9", "enabled": false});
    let created = api.post("/proxies", asked).await.expect(201);
    assert_eq!(created["enabled"], false);
    let listen: SocketAddr = created["listen"].as_str().unwrap().parse().unwrap();
    assert!(
        listen.ip().is_loopback(),
        "without an address nobody outside is let in"
    );
    assert!(TcpStream::connect(listen).await.is_err());
}

#[tokio::test]
async fn proxy_calls_that_are_wrong_are_refused_in_toxiproxys_words() {
    let api = Api::with_proxy().await;
    let same = json!({"name": "p", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"});
    api.post("/proxies", same)
        .await
        .expect_error(409, "proxy already exists");
    api.post("/proxies", json!({"upstream": "x:1"}))
        .await
        .expect_error(400, "missing required field: name");
    api.post("/proxies", json!({"name": "q"}))
        .await
        .expect_error(400, "missing required field: upstream");
    for (method, path) in [
        ("GET", "/proxies/q"),
        ("PATCH", "/proxies/q"),
        ("POST", "/proxies/q"),
        ("DELETE", "/proxies/q"),
        ("GET", "/proxies/q/toxics"),
        ("POST", "/proxies/q/toxics"),
        ("GET", "/proxies/q/toxics/t"),
        ("POST", "/proxies/q/toxics/t"),
        ("DELETE", "/proxies/q/toxics/t"),
    ] {
        api.ask(method, path, "{}")
            .await
            .expect_error(404, "proxy not found");
    }
    for (path, body) in [
        ("/proxies", "{"),
        ("/proxies/p", "[]"),
        ("/populate", "{}"),
        ("/proxies/p/toxics", ""),
    ] {
        let answer = api.ask("POST", path, body).await;
        assert_eq!(answer.status, 400);
        let message = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(message.starts_with("bad request body: "), "{path}: {message}");
    }
    // Listening where somebody listens already.
    let taken = api.addr.to_string();
    let answer = api
        .post(
            "/proxies",
            json!({"name": "q", "listen": taken, "upstream": "x:1"}),
        )
        .await;
    assert_eq!(answer.status, 500);
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .starts_with(&format!("listen tcp {taken}: "))
    );
}

#[tokio::test]
async fn toxics_are_created_with_defaults_shown_changed_and_deleted() {
    let api = Api::with_proxy().await;
    let latency = json!({"type": "latency", "attributes": {"latency": 100, "new_in_3": 1}});
    let answer = api.post("/proxies/p/toxics", latency).await;
    assert!(
        answer.body.contains(r#""toxicity":1}"#),
        "whole numbers have no point: {}",
        answer.body
    );
    let whole = json!({
        "attributes": {"latency": 100, "jitter": 0},
        "name": "latency_downstream", "type": "latency", "stream": "downstream", "toxicity": 1,
    });
    assert_eq!(answer.expect(200), whole);
    let own = json!({"name": "own", "type": "timeout", "stream": "Upstream", "toxicity": 0.5, "attributes": {"timeout": 3}});
    let answer = api.post("/proxies/p/toxics", own).await;
    assert!(answer.body.contains(r#""toxicity":0.5}"#), "{}", answer.body);
    let second = json!({
        "attributes": {"timeout": 3}, "name": "own", "type": "timeout", "stream": "upstream", "toxicity": 0.5,
    });
    assert_eq!(answer.expect(200), second);
    assert_eq!(
        api.get("/proxies/p/toxics").await.expect(200),
        json!([whole, second])
    );
    assert_eq!(
        api.get("/proxies/p").await.expect(200)["toxics"],
        json!([whole, second])
    );
    assert_eq!(api.get("/proxies/p/toxics/own").await.expect(200), second);

    for (method, jitter) in [("PATCH", 7), ("POST", 8)] {
        let body = json!({"attributes": {"jitter": jitter}, "toxicity": 0.25}).to_string();
        let changed = api
            .ask(method, "/proxies/p/toxics/latency_downstream", &body)
            .await
            .expect(200);
        assert_eq!(
            changed["attributes"],
            json!({"latency": 100, "jitter": jitter}),
            "what is not named stays"
        );
        assert_eq!(changed["toxicity"], 0.25);
    }
    api.ask("DELETE", "/proxies/p/toxics/own", "")
        .await
        .expect_empty();
    let left = api.embedded.proxy("p").await.unwrap().toxics;
    let expected = Toxic::new(
        Stream::Downstream,
        ToxicKind::Latency {
            latency_ms: 100,
            jitter_ms: 8,
        },
    );
    assert_eq!(
        left,
        [expected.with_toxicity(0.25)],
        "the API and direct calls see the same"
    );
}

#[tokio::test]
async fn toxic_calls_that_are_wrong_are_refused_in_toxiproxys_words() {
    let api = Api::with_proxy().await;
    let toxics = "/proxies/p/toxics";
    api.post(toxics, json!({"type": "latency"})).await.expect(200);
    api.post(toxics, json!({"type": "latency"}))
        .await
        .expect_error(409, "toxic already exists");
    api.post(toxics, json!({"type": "packet_loss"}))
        .await
        .expect_error(400, "invalid toxic type");
    api.post(toxics, json!({}))
        .await
        .expect_error(400, "invalid toxic type");
    let sideways = json!({"type": "latency", "stream": "sideways"});
    let message = "stream was invalid, can be either upstream or downstream";
    api.post(toxics, sideways).await.expect_error(400, message);
    for method in ["GET", "PATCH", "POST", "DELETE"] {
        api.ask(method, "/proxies/p/toxics/none", "{}")
            .await
            .expect_error(404, "toxic not found");
    }
    let answer = api
        .post(
            toxics,
            json!({"type": "timeout", "attributes": {"timeout": "soon"}}),
        )
        .await;
    assert_eq!(answer.status, 400);
    assert!(
        answer.json()["error"]
            .as_str()
            .unwrap()
            .starts_with("bad request body: ")
    );
    assert_eq!(
        api.get(toxics).await.expect(200).as_array().unwrap().len(),
        1,
        "no wrong call has added anything"
    );
}

#[tokio::test]
async fn reset_removes_toxics_and_enables() {
    let api = Api::with_proxy().await;
    api.post("/proxies/p/toxics", json!({"type": "latency"}))
        .await
        .expect(200);
    api.post("/proxies/p", json!({"enabled": false}))
        .await
        .expect(200);
    for _ in 0..2 {
        api.ask("POST", "/reset", "").await.expect_empty();
        let found = api.get("/proxies/p").await.expect(200);
        assert_eq!((&found["enabled"], &found["toxics"]), (&json!(true), &json!([])));
    }
}

#[tokio::test]
async fn populate_creates_replaces_what_changed_and_leaves_the_rest_alone() {
    let api = Api::start().await;
    let asked = json!([
        {"name": "a", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "toxics": [{"type": "latency"}]},
        {"name": "b", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": false},
    ]);
    let answer = api.post("/populate", asked).await.expect(201);
    assert_eq!(answer["proxies"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&answer["proxies"][0]["name"], &answer["proxies"][1]["enabled"]),
        (&json!("a"), &json!(false))
    );
    assert_eq!(
        answer["proxies"][0]["toxics"],
        json!([]),
        "toxics are not read here"
    );
    let listen = answer["proxies"][0]["listen"].clone();

    api.post("/proxies/a/toxics", json!({"type": "latency"}))
        .await
        .expect(200);
    let same = json!([{"name": "a", "listen": listen, "upstream": "127.0.0.1:9", "enabled": false}]);
    let answer = api.post("/populate", same).await.expect(201);
    let found = &answer["proxies"][0];
    assert_eq!(
        (&found["enabled"], found["toxics"].as_array().unwrap().len()),
        (&json!(true), 1)
    );

    let changed = json!([{"name": "a", "listen": listen, "upstream": "127.0.0.1:8"}]);
    let answer = api.post("/populate", changed).await.expect(201);
    let found = &answer["proxies"][0];
    assert_eq!(
        (&found["upstream"], &found["toxics"], &found["listen"]),
        (&json!("127.0.0.1:8"), &json!([]), &listen)
    );
}

#[tokio::test]
async fn populate_checks_all_first_and_stops_at_the_first_failure() {
    let api = Api::start().await;
    let incomplete = json!([{"name": "a", "upstream": "127.0.0.1:9"}, {"name": "b"}]);
    api.post("/populate", incomplete)
        .await
        .expect_error(400, "missing required field: upstream at proxy 2");
    let nameless = json!([{"upstream": "127.0.0.1:9"}]);
    api.post("/populate", nameless)
        .await
        .expect_error(400, "missing required field: name at proxy 1");
    assert_eq!(api.get("/proxies").await.expect(200), json!({}));

    let taken = api.addr.to_string();
    let asked = json!([
        {"name": "a", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"},
        {"name": "b", "listen": taken, "upstream": "127.0.0.1:9"},
        {"name": "c", "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9"},
    ]);
    let answer = api.post("/populate", asked).await;
    assert_eq!(answer.status, 500);
    let body = answer.json();
    assert_eq!(
        (&body["status"], body["proxies"].as_array().unwrap().len()),
        (&json!(500), 1)
    );
    let names: Vec<_> = api
        .embedded
        .proxies()
        .await
        .unwrap()
        .into_iter()
        .map(|info| info.name)
        .collect();
    assert_eq!(names, ["a"]);
}

#[tokio::test]
async fn browsers_are_turned_away() {
    let api = Api::with_proxy().await;
    for (method, path) in [("GET", "/version"), ("DELETE", "/proxies/p"), ("POST", "/reset")] {
        let answer = api.ask_as(method, path, "", "Mozilla/5.0 (X11)").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (403, "User agent not allowed\n")
        );
    }
    api.embedded.proxy("p").await.unwrap();
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let api = Api::with_proxy().await;
    assert_eq!(api.get("/metrics").await.status, 404);
    assert_eq!(api.ask("PUT", "/proxies/p", "{}").await.status, 405);
}

#[tokio::test]
async fn shutdown_closes_the_api_too() {
    let api = Api::with_proxy().await;
    // A client that keeps its connection open must not keep the server alive.
    let mut idle = TcpStream::connect(api.addr).await.unwrap();
    idle.write_all(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    api.embedded.shutdown().await;
    assert!(TcpStream::connect(api.addr).await.is_err());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}
