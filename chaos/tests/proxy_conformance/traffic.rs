//! What toxics do to bytes.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use chaos::proxy::{Stream, ToxicKind};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rig::{Rig, hear, passes, rest, say, seed};

fn latency(latency_ms: u64, jitter_ms: u64) -> ToxicKind {
    ToxicKind::Latency {
        latency_ms,
        jitter_ms,
    }
}

pub(crate) async fn bytes_pass_both_ways(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"to the server").await;
    passes(&mut server, &mut client, b"and back").await;
    drop(client);
    assert_eq!(
        rest(&mut server).await.0,
        b"",
        "the end of one side reaches the other"
    );
}

pub(crate) async fn latency_delays_each_direction_by_itself(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Upstream, latency(120, 0)).await;
    link.add(Stream::Downstream, latency(60, 0)).await;
    let (mut client, mut server) = link.pair().await;
    for (up, at_least_ms) in [(true, 120), (false, 60)] {
        let (from, to) = if up {
            (&mut client, &mut server)
        } else {
            (&mut server, &mut client)
        };
        let sent = Instant::now();
        passes(from, to, b"x").await;
        assert!(
            sent.elapsed() >= Duration::from_millis(at_least_ms),
            "{:?}",
            sent.elapsed()
        );
    }
}

/// Forty chunks, one second each: kept apart they take a second, one after the other forty.
pub(crate) async fn latency_keeps_pipelining_and_order(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Upstream, latency(1000, 0)).await;
    let (mut client, mut server) = link.pair().await;
    let started = Instant::now();
    let sending = async {
        for number in 0..40_u8 {
            say(&mut client, &[number]).await;
            // Spaces the writes, so that they reach the proxy as chunks of their own.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let ((), heard) = tokio::join!(sending, hear(&mut server, 40));
    let elapsed = started.elapsed();
    assert_eq!(heard, (0..40).collect::<Vec<u8>>());
    assert!(elapsed >= Duration::from_secs(1), "{elapsed:?}");
    assert!(
        elapsed < Duration::from_secs(10),
        "chunks were delayed one after the other: {elapsed:?}"
    );
}

pub(crate) async fn bandwidth_takes_its_time(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Upstream, ToxicKind::Bandwidth { rate_kb_per_s: 100 })
        .await;
    let (mut client, mut server) = link.pair().await;
    let sent = Instant::now();
    passes(&mut client, &mut server, &vec![7; 40_000]).await;
    // 400 ms by the rate; a few are allowed for the rounding of each chunk.
    assert!(
        sent.elapsed() >= Duration::from_millis(380),
        "{:?}",
        sent.elapsed()
    );
}

pub(crate) async fn slicer_keeps_every_byte(rig: &Rig) {
    let link = rig.link().await;
    let slicer = ToxicKind::Slicer {
        average_size_bytes: 100,
        size_variation_bytes: 30,
        delay_us: 50,
    };
    link.add(Stream::Downstream, slicer).await;
    let (mut client, mut server) = link.pair().await;
    let bytes = random_bytes(20_000);
    passes(&mut server, &mut client, &bytes).await;
}

pub(crate) async fn slow_close_delays_the_end(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Downstream, ToxicKind::SlowClose { delay_ms: 150 })
        .await;
    let (mut client, mut server) = link.pair().await;
    passes(&mut server, &mut client, b"on time").await;
    let closed = Instant::now();
    drop(server);
    assert_eq!(rest(&mut client).await.0, b"");
    assert!(
        closed.elapsed() >= Duration::from_millis(150),
        "{:?}",
        closed.elapsed()
    );
}

pub(crate) async fn limit_data_is_exact(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Downstream, ToxicKind::LimitData { bytes: 1000 })
        .await;
    let bytes = random_bytes(3000);
    // Counted per connection: the second gets as much as the first.
    for _ in 0..2 {
        let (mut client, mut server) = link.pair().await;
        say(&mut server, &bytes).await;
        let (heard, _) = rest(&mut client).await;
        assert_eq!(heard, bytes[..1000]);
    }
}

pub(crate) async fn timeout_closes_after_its_time(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Downstream, ToxicKind::Timeout { timeout_ms: 200 })
        .await;
    let started = Instant::now();
    let (mut client, _server) = link.pair().await;
    assert_eq!(rest(&mut client).await.0, b"");
    assert!(
        started.elapsed() >= Duration::from_millis(200),
        "{:?}",
        started.elapsed()
    );
}

pub(crate) async fn reset_peer_resets(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Upstream, ToxicKind::ResetPeer { timeout_ms: 0 })
        .await;
    let (mut client, mut server) = link.pair().await;
    say(&mut client, b"x").await;
    assert_eq!(
        rest(&mut client).await,
        (Vec::new(), Some(ErrorKind::ConnectionReset))
    );
    assert_eq!(
        rest(&mut server).await,
        (Vec::new(), Some(ErrorKind::ConnectionReset))
    );
}

pub(crate) async fn a_megabyte_survives_every_combination(rig: &Rig) {
    let slicer = ToxicKind::Slicer {
        average_size_bytes: 20_000,
        size_variation_bytes: 9_000,
        delay_us: 1,
    };
    let wide = ToxicKind::Bandwidth {
        rate_kb_per_s: 20_000,
    };
    let slow_close = ToxicKind::SlowClose { delay_ms: 20 };
    let beyond = ToxicKind::LimitData { bytes: 1 << 21 };
    let combinations: [&[ToxicKind]; 5] = [
        &[],
        &[latency(20, 15)],
        &[slicer, latency(5, 3)],
        &[wide, latency(5, 0), slow_close],
        &[latency(3, 3), slicer, wide, beyond, slow_close],
    ];
    for kinds in combinations {
        let link = rig.link().await;
        for kind in kinds {
            link.add(Stream::Upstream, *kind).await;
            link.add(Stream::Downstream, *kind).await;
        }
        let (client, server) = link.pair().await;
        let (up, down) = (random_bytes(1 << 20), random_bytes((1 << 20) + 1));
        let (heard_up, heard_down) = exchange(client, server, &up, &down).await;
        assert!(
            heard_up == up && heard_down == down,
            "bytes were changed by {kinds:?}"
        );
    }
}

/// Both sides send everything while they receive; returns what arrived at the server and at the client.
async fn exchange(
    mut client: TcpStream,
    mut server: TcpStream,
    up: &[u8],
    down: &[u8],
) -> (Vec<u8>, Vec<u8>) {
    async fn half(stream: &mut TcpStream, send: &[u8], len: usize) -> Vec<u8> {
        let (mut read, mut write) = stream.split();
        let mut heard = vec![0; len];
        let (sent, got) = tokio::join!(
            write.write_all(send),
            tokio::io::AsyncReadExt::read_exact(&mut read, &mut heard)
        );
        sent.unwrap();
        got.unwrap();
        heard
    }
    let (heard_down, heard_up) = tokio::join!(
        half(&mut client, up, down.len()),
        half(&mut server, down, up.len())
    );
    (heard_up, heard_down)
}

pub(crate) async fn fifty_connections_at_once(rig: &Rig) {
    let link = rig.link().await;
    link.add(Stream::Upstream, latency(20, 10)).await;
    let (addr, _echo) = link.echo();
    let mut clients = JoinSet::new();
    for number in 0..50_u8 {
        clients.spawn(async move {
            let mut client = TcpStream::connect(addr).await.unwrap();
            for round in 0..3 {
                let bytes = vec![number ^ round; 4096];
                say(&mut client, &bytes).await;
                assert_eq!(hear(&mut client, bytes.len()).await, bytes);
            }
        });
    }
    assert_eq!(clients.join_all().await.len(), 50);
}

/// The proxy accepts before it knows whether anybody is behind it.
pub(crate) async fn a_dead_upstream_shows_as_a_closed_connection(rig: &Rig) {
    let link = rig.link().await;
    let addr = link.addr;
    drop(link);
    let mut client = TcpStream::connect(addr).await.unwrap();
    assert_eq!(rest(&mut client).await.0, b"");
}

fn random_bytes(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed()).fill_bytes(&mut bytes);
    bytes
}
