//! Cutting links, and healing them, while connections are open.

use std::time::{Duration, Instant};

use chaos::proxy::{CutMode, ProxyError, Stream, Toxic, ToxicKind};
use tokio::io::AsyncReadExt as _;

use crate::rig::{Rig, hear, is_refused, passes, rest, say};

const SILENCE: ToxicKind = ToxicKind::Timeout { timeout_ms: 0 };
const JAM: ToxicKind = ToxicKind::Latency {
    latency_ms: 3_600_000,
    jitter_ms: 0,
};

pub(crate) async fn disabling_refuses_and_enabling_serves_again(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"x").await;
    for _ in 0..2 {
        rig.proxy.set_enabled(&link.name, false).await.unwrap();
        assert!(!rig.proxy.proxy(&link.name).await.unwrap().enabled);
        assert!(is_refused(link.addr).await);
    }
    assert_eq!(
        rest(&mut client).await.0,
        b"",
        "open connections are cut on this side"
    );
    assert_eq!(rest(&mut server).await.0, b"", "and on that one");
    for _ in 0..2 {
        rig.proxy.set_enabled(&link.name, true).await.unwrap();
    }
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"at the old address").await;
}

pub(crate) async fn silence_drops_and_its_removal_closes(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"before").await;
    link.add(Stream::Upstream, SILENCE).await;
    say(&mut client, b"lost").await;
    link.remove(Stream::Upstream, SILENCE).await;
    assert_eq!(
        rest(&mut server).await.0,
        b"",
        "nothing of what was dropped comes later"
    );
    assert_eq!(rest(&mut client).await.0, b"");
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"after").await;
}

pub(crate) async fn a_jam_holds_and_then_delivers_everything(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"before").await;
    link.add(Stream::Upstream, JAM).await;
    say(&mut client, b"held one, ").await;
    say(&mut client, b"held two").await;
    let mut byte = [0];
    let heard = tokio::time::timeout(Duration::from_millis(200), server.read(&mut byte)).await;
    assert!(heard.is_err(), "a jam let something through");
    link.remove(Stream::Upstream, JAM).await;
    assert_eq!(hear(&mut server, 18).await, b"held one, held two");
    passes(&mut client, &mut server, b"on the same connection").await;
}

pub(crate) async fn a_changed_latency_reaches_live_connections(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    link.add(Stream::Upstream, JAM).await;
    say(&mut client, b"x").await;
    let shorter = ToxicKind::Latency {
        latency_ms: 80,
        jitter_ms: 0,
    };
    rig.proxy
        .update_toxic(&link.name, &Toxic::new(Stream::Upstream, shorter))
        .await
        .unwrap();
    assert_eq!(hear(&mut server, 1).await, b"x");
    let sent = Instant::now();
    passes(&mut client, &mut server, b"y").await;
    assert!(sent.elapsed() >= Duration::from_millis(80));
}

pub(crate) async fn one_way_upstream_leaves_downstream_alone(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    link.add(Stream::Upstream, SILENCE).await;
    say(&mut client, b"lost").await;
    passes(&mut server, &mut client, b"heard").await;
    link.remove(Stream::Upstream, SILENCE).await;
    assert_eq!(rest(&mut server).await.0, b"");
}

pub(crate) async fn one_way_downstream_leaves_upstream_alone(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    link.add(Stream::Downstream, SILENCE).await;
    say(&mut server, b"lost").await;
    passes(&mut client, &mut server, b"heard").await;
    link.remove(Stream::Downstream, SILENCE).await;
    assert_eq!(rest(&mut client).await.0, b"");
}

pub(crate) async fn each_mode_of_cut_heals(rig: &Rig) {
    for mode in [CutMode::Drop, CutMode::Refuse, CutMode::Jam] {
        let link = rig.link().await;
        // Something that is there already, and has to stay.
        link.add(
            Stream::Upstream,
            ToxicKind::Latency {
                latency_ms: 1,
                jitter_ms: 0,
            },
        )
        .await;
        let before = rig.proxy.proxy(&link.name).await.unwrap();
        let (mut client, mut server) = link.pair().await;
        passes(&mut client, &mut server, b"before").await;
        rig.proxy.cut(&link.name, mode, &Stream::BOTH).await.unwrap();
        match mode {
            CutMode::Refuse => assert!(is_refused(link.addr).await),
            CutMode::Drop | CutMode::Jam => say(&mut client, b"meanwhile").await,
        }
        rig.proxy.heal(&link.name).await.unwrap();
        rig.proxy.heal(&link.name).await.unwrap();
        assert_eq!(
            rig.proxy.proxy(&link.name).await.unwrap(),
            before,
            "{mode} leaves nothing behind"
        );
        match mode {
            CutMode::Jam => assert_eq!(hear(&mut server, 9).await, b"meanwhile"),
            CutMode::Drop | CutMode::Refuse => {
                assert_eq!(rest(&mut server).await.0, b"", "{mode} ends the connections");
                (client, server) = link.pair().await;
            }
        }
        passes(&mut client, &mut server, b"after").await;
    }
}

pub(crate) async fn a_cut_that_fails_half_way_is_undone(rig: &Rig) {
    let link = rig.link().await;
    let in_the_way = Toxic::new(Stream::Downstream, SILENCE).named("cut_downstream");
    rig.proxy.add_toxic(&link.name, in_the_way.clone()).await.unwrap();
    let error = rig
        .proxy
        .cut(&link.name, CutMode::Drop, &Stream::BOTH)
        .await
        .unwrap_err();
    assert!(matches!(error, ProxyError::ToxicExists { .. }), "{error}");
    assert_eq!(rig.proxy.proxy(&link.name).await.unwrap().toxics, [in_the_way]);
    let error = rig
        .proxy
        .cut(&link.name, CutMode::Refuse, &[Stream::Upstream])
        .await
        .unwrap_err();
    assert!(matches!(error, ProxyError::Invalid { .. }), "{error}");
}
