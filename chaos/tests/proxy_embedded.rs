//! What only the embedded proxy promises: proof of effect, repeatable randomness, and an honest link.

#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chaos::proxy::{Counters, CutMode, Embedded, FaultProxy, Stream, Toxic, ToxicKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const SILENCE: ToxicKind = ToxicKind::Timeout { timeout_ms: 0 };
const JAM: ToxicKind = ToxicKind::Latency {
    latency_ms: 3_600_000,
    jitter_ms: 0,
};

struct Rig {
    proxy: Embedded,
    upstream: TcpListener,
    addr: SocketAddr,
}

impl Rig {
    async fn new(seed: u64) -> Self {
        let proxy = Embedded::new(seed);
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = upstream.local_addr().unwrap().to_string();
        let addr = proxy.create_at("p", "127.0.0.1:0", &to).await.unwrap();
        Self {
            proxy,
            upstream,
            addr,
        }
    }

    async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.addr).await.unwrap();
        let (server, _) = self.upstream.accept().await.unwrap();
        (client, server)
    }

    async fn add(&self, stream: Stream, kind: ToxicKind) {
        self.proxy.add_toxic("p", Toxic::new(stream, kind)).await.unwrap();
    }

    async fn counters(&self) -> Counters {
        self.proxy.counters("p").await.unwrap()
    }

    /// Asks for the counters until they are as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Counters) -> bool) -> Counters {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let counters = self.counters().await;
            if wanted(&counters) {
                return counters;
            }
            assert!(Instant::now() < deadline, "waited for {what}, have {counters:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn hear(at: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    at.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn rest(mut at: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // How it ends does not matter here.
    let _ = at.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test]
async fn counters_account_for_every_byte_of_a_plain_link() {
    let rig = Rig::new(1).await;
    let (mut client, mut server) = rig.pair().await;
    client.write_all(&[1; 1000]).await.unwrap();
    hear(&mut server, 1000).await;
    server.write_all(&[1; 300]).await.unwrap();
    hear(&mut client, 300).await;
    let counters = rig.counters().await;
    assert_eq!(
        (counters.connections_accepted, counters.connections_open()),
        (1, 1)
    );
    assert_eq!(
        (
            counters.upstream.forwarded_bytes,
            counters.downstream.forwarded_bytes
        ),
        (1000, 300)
    );
    assert_eq!(
        (
            counters.upstream.received_bytes(),
            counters.downstream.received_bytes()
        ),
        (1000, 300)
    );
    drop((client, server));
    let counters = rig
        .until("the close", |counters| counters.connections_open() == 0)
        .await;
    assert_eq!(
        (counters.connections_closed, counters.connections_cut),
        (1, 0),
        "nobody cut it"
    );
}

#[tokio::test]
async fn counters_show_what_silence_drops() {
    let rig = Rig::new(1).await;
    let (mut client, mut server) = rig.pair().await;
    rig.add(Stream::Upstream, SILENCE).await;
    client.write_all(&[1; 500]).await.unwrap();
    let counters = rig
        .until("the drop", |counters| counters.upstream.dropped_bytes == 500)
        .await;
    assert_eq!(
        (counters.upstream.forwarded_bytes, counters.upstream.held_bytes),
        (0, 0)
    );
    assert_eq!(counters.downstream.received_bytes(), 0);
    rig.proxy.remove_toxic("p", "timeout_upstream").await.unwrap();
    let mut byte = [0];
    assert_eq!(server.read(&mut byte).await.unwrap(), 0);
    let counters = rig
        .until("the cut", |counters| counters.connections_cut == 1)
        .await;
    assert_eq!(counters.connections_closed, 1);
}

#[tokio::test]
async fn counters_show_what_a_jam_holds_and_that_it_is_delivered() {
    let rig = Rig::new(1).await;
    let (mut client, mut server) = rig.pair().await;
    rig.add(Stream::Upstream, JAM).await;
    client.write_all(&[1; 700]).await.unwrap();
    rig.until("the hold", |counters| counters.upstream.held_bytes == 700)
        .await;
    let before = rig.counters().await;
    rig.proxy.reset("p").await.unwrap();
    hear(&mut server, 700).await;
    let counters = rig.counters().await.since(&before);
    assert_eq!(
        counters.connections_accepted, 0,
        "the connection is the one from before"
    );
    assert_eq!(counters.upstream.forwarded_bytes, 700);
    assert_eq!(
        (counters.upstream.held_bytes, counters.upstream.dropped_bytes),
        (0, 0)
    );
}

#[tokio::test]
async fn what_was_held_by_a_connection_that_is_cut_counts_as_dropped() {
    let rig = Rig::new(1).await;
    let (mut client, _server) = rig.pair().await;
    rig.add(Stream::Upstream, JAM).await;
    client.write_all(&[1; 700]).await.unwrap();
    rig.until("the hold", |counters| counters.upstream.held_bytes == 700)
        .await;
    rig.proxy.set_enabled("p", false).await.unwrap();
    // No waiting: when disabling returns, it has happened.
    let counters = rig.counters().await;
    assert_eq!(
        (counters.upstream.held_bytes, counters.upstream.dropped_bytes),
        (0, 700)
    );
    assert_eq!((counters.connections_open(), counters.connections_cut), (0, 1));
}

#[tokio::test]
async fn counters_show_an_upstream_that_cannot_be_reached() {
    let Rig {
        proxy,
        upstream,
        addr,
    } = Rig::new(1).await;
    drop(upstream);
    for _ in 0..3 {
        assert_eq!(rest(TcpStream::connect(addr).await.unwrap()).await, b"");
    }
    let counters = proxy.counters("p").await.unwrap();
    assert_eq!(
        (counters.connections_accepted, counters.connections_refused),
        (3, 3)
    );
}

/// Which of forty connections a half-toxic silences.
async fn silenced(seed: u64) -> Vec<bool> {
    let rig = Rig::new(seed).await;
    let toxic = Toxic::new(Stream::Upstream, SILENCE).with_toxicity(0.5);
    rig.proxy.add_toxic("p", toxic).await.unwrap();
    let mut pattern = Vec::new();
    let mut open = Vec::new();
    for number in 1..=40 {
        let (mut client, server) = rig.pair().await;
        client.write_all(b"x").await.unwrap();
        let arrived = |counters: &Counters| counters.upstream.received_bytes() == number;
        let dropped = rig.until("one more byte", arrived).await.upstream.dropped_bytes;
        let before = pattern.iter().filter(|lost| **lost).count() as u64;
        pattern.push(dropped > before);
        open.push((client, server));
    }
    pattern
}

#[tokio::test]
async fn the_same_seed_affects_the_same_connections() {
    let first = silenced(11).await;
    assert!(first.contains(&true) && first.contains(&false), "{first:?}");
    assert_eq!(first, silenced(11).await);
    assert_ne!(first, silenced(12).await);
}

#[tokio::test]
async fn a_change_is_in_force_when_the_call_returns() {
    let rig = Rig::new(1).await;
    let (mut client, mut server) = rig.pair().await;
    client.write_all(b"a").await.unwrap();
    hear(&mut server, 1).await;
    for round in 0..200_u64 {
        rig.add(Stream::Upstream, JAM).await;
        client.write_all(b"b").await.unwrap();
        let counters = rig
            .until("the hold", |counters| counters.upstream.held_bytes == 1)
            .await;
        assert_eq!(
            counters.upstream.forwarded_bytes,
            round + 1,
            "a byte sent after the cut got through"
        );
        rig.proxy.remove_toxic("p", "latency_upstream").await.unwrap();
        hear(&mut server, 1).await;
    }
}

#[tokio::test]
async fn a_jam_does_not_tell_that_the_other_side_has_gone() {
    let rig = Rig::new(1).await;
    let (mut client, mut server) = rig.pair().await;
    rig.add(Stream::Downstream, JAM).await;
    server.write_all(b"last words").await.unwrap();
    drop(server);
    rig.until("the hold", |counters| counters.downstream.held_bytes == 10)
        .await;
    let mut byte = [0];
    let heard = tokio::time::timeout(Duration::from_millis(100), client.read(&mut byte)).await;
    assert!(heard.is_err(), "a jammed link let the end through");
    rig.proxy.reset("p").await.unwrap();
    assert_eq!(rest(client).await, b"last words");
}

#[tokio::test]
async fn who_has_said_everything_still_gets_the_answer() {
    let rig = Rig::new(1).await;
    let (mut client, mut server) = rig.pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut question = Vec::new();
    server.read_to_end(&mut question).await.unwrap();
    assert_eq!(question, b"question");
    server.write_all(b"answer").await.unwrap();
    drop(server);
    assert_eq!(rest(client).await, b"answer");
}

#[tokio::test]
async fn a_disabled_proxy_keeps_its_port() {
    let rig = Rig::new(1).await;
    rig.proxy.set_enabled("p", false).await.unwrap();
    let taken = TcpSocket::new_v4().unwrap().bind(rig.addr).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    // On one machine, an attempt to reach a port that is nobody's can be connected to itself.
    for _ in 0..200 {
        assert!(TcpStream::connect(rig.addr).await.is_err());
    }
    rig.proxy.set_enabled("p", true).await.unwrap();
    rig.pair().await;
}

#[tokio::test]
async fn back_pressure_reaches_the_sender_and_nothing_is_lost() {
    let rig = Rig::new(1).await;
    rig.add(Stream::Upstream, ToxicKind::Bandwidth { rate_kb_per_s: 0 })
        .await;
    let (client, mut server) = rig.pair().await;
    let mut sent = 0;
    // The receiver takes nothing, so at some point the sender cannot go on.
    let stuck = loop {
        match tokio::time::timeout(Duration::from_millis(300), client.writable()).await {
            Err(_) => break true,
            Ok(_) if sent > 256 << 20 => break false,
            Ok(_) => sent += client.try_write(&[9; 1 << 16]).unwrap_or(0),
        }
    };
    assert!(stuck, "a blocked link swallowed {sent} bytes");
    let held = rig.counters().await.upstream.held_bytes;
    assert!(
        held <= 64 << 10,
        "{held} bytes are held where one chunk should be"
    );
    rig.proxy.reset("p").await.unwrap();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.unwrap();
        got.len()
    });
    drop(client);
    assert_eq!(reading.await.unwrap(), sent);
}

#[tokio::test]
async fn dropping_it_closes_everything() {
    let rig = Rig::new(1).await;
    let api = rig
        .proxy
        .serve_api(TcpListener::bind("127.0.0.1:0").await.unwrap())
        .unwrap();
    let (client, server) = rig.pair().await;
    let Rig {
        proxy,
        upstream: _upstream,
        addr,
    } = rig;
    drop(proxy);
    assert_eq!((rest(client).await, rest(server).await), (Vec::new(), Vec::new()));
    let deadline = Instant::now() + Duration::from_secs(30);
    for addr in [addr, api] {
        while TcpStream::connect(addr).await.is_ok() {
            assert!(Instant::now() < deadline, "{addr} still listens");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn an_isolated_node_is_cut_on_all_its_links_and_only_there() {
    let proxy = FaultProxy::embedded(1);
    let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = sink.local_addr().unwrap().to_string();
    let links = ["n1-n2", "n2-n1", "n1-n3", "n3-n1", "n2-n3", "n3-n2"];
    let mut open = Vec::new();
    for link in links {
        let addr = proxy.create(link, &to).await.unwrap();
        let client = TcpStream::connect(addr).await.unwrap();
        let (server, _) = sink.accept().await.unwrap();
        open.push((link, client, server));
    }
    let of_n1: Vec<_> = links.into_iter().filter(|link| link.contains("n1")).collect();
    for link in &of_n1 {
        proxy.cut(link, CutMode::Drop, &Stream::BOTH).await.unwrap();
    }
    for (link, client, server) in &mut open {
        client.write_all(b"ping").await.unwrap();
        if !of_n1.contains(link) {
            assert_eq!(hear(server, 4).await, b"ping");
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    for link in links {
        loop {
            let up = proxy.counters(link).await.unwrap().unwrap().upstream;
            if (up.dropped_bytes, up.forwarded_bytes) == if of_n1.contains(&link) { (4, 0) } else { (0, 4) } {
                break;
            }
            assert!(Instant::now() < deadline, "{link}: {up:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    proxy.shutdown().await;
}
