//! What the proxy says about itself, and how it refuses.

use chaos::proxy::{ProxyError, Stream, Toxic, ToxicKind};

use crate::rig::{Rig, is_refused, passes, rest};

const KINDS: [ToxicKind; 7] = [
    ToxicKind::Latency {
        latency_ms: 10,
        jitter_ms: 5,
    },
    ToxicKind::Bandwidth { rate_kb_per_s: 100 },
    ToxicKind::SlowClose { delay_ms: 20 },
    ToxicKind::Timeout { timeout_ms: 30_000 },
    ToxicKind::ResetPeer { timeout_ms: 40 },
    ToxicKind::Slicer {
        average_size_bytes: 100,
        size_variation_bytes: 10,
        delay_us: 5,
    },
    ToxicKind::LimitData { bytes: 5000 },
];

pub(crate) async fn toxics_are_read_back_as_they_were_given(rig: &Rig) {
    let link = rig.link().await;
    let mut given = Vec::new();
    for (at, kind) in KINDS.into_iter().enumerate() {
        for stream in Stream::BOTH {
            let mut toxic = Toxic::new(stream, kind).with_toxicity(if at % 2 == 0 { 1.0 } else { 0.25 });
            if at % 3 == 1 {
                toxic = toxic.named(format!("own-name_{at}.{stream}"));
            }
            rig.proxy.add_toxic(&link.name, toxic.clone()).await.unwrap();
            given.push(toxic);
        }
    }
    let info = rig.proxy.proxy(&link.name).await.unwrap();
    // A server may list one direction after the other; within a direction the order is that of adding.
    for stream in Stream::BOTH {
        let of = |toxics: &[Toxic]| -> Vec<Toxic> {
            toxics
                .iter()
                .filter(|toxic| toxic.stream == stream)
                .cloned()
                .collect()
        };
        assert_eq!(of(&info.toxics), of(&given));
    }
    assert_eq!(info.toxics.len(), given.len());
    assert_eq!(info.listen, link.addr.to_string());
    assert_eq!(info.upstream, link.upstream.local_addr().unwrap().to_string());
    assert!(info.enabled);
    assert!(rig.proxy.proxies().await.unwrap().contains(&info));
    for toxic in &given {
        rig.proxy.remove_toxic(&link.name, &toxic.name).await.unwrap();
    }
    assert_eq!(rig.proxy.proxy(&link.name).await.unwrap().toxics, []);
}

pub(crate) async fn updates_are_read_back(rig: &Rig) {
    let link = rig.link().await;
    let toxic = Toxic::new(
        Stream::Upstream,
        ToxicKind::Latency {
            latency_ms: 10,
            jitter_ms: 5,
        },
    );
    rig.proxy.add_toxic(&link.name, toxic.clone()).await.unwrap();
    let changed = Toxic {
        kind: ToxicKind::Latency {
            latency_ms: 20,
            jitter_ms: 0,
        },
        toxicity: 0.5,
        ..toxic
    };
    rig.proxy.update_toxic(&link.name, &changed).await.unwrap();
    assert_eq!(rig.proxy.proxy(&link.name).await.unwrap().toxics, [changed]);
}

pub(crate) async fn reset_of_one_leaves_the_other(rig: &Rig) {
    let (one, other) = (rig.link().await, rig.link().await);
    for link in [&one, &other] {
        link.add(Stream::Downstream, KINDS[0]).await;
        rig.proxy.set_enabled(&link.name, false).await.unwrap();
    }
    rig.proxy.reset(&one.name).await.unwrap();
    let info = rig.proxy.proxy(&one.name).await.unwrap();
    assert!(info.enabled && info.toxics.is_empty(), "{info:?}");
    let info = rig.proxy.proxy(&other.name).await.unwrap();
    assert!(!info.enabled && info.toxics.len() == 1, "{info:?}");
}

pub(crate) async fn reset_of_all_can_be_repeated(rig: &Rig) {
    let (one, other) = (rig.link().await, rig.link().await);
    one.add(Stream::Downstream, KINDS[0]).await;
    one.add(Stream::Upstream, KINDS[1]).await;
    rig.proxy.set_enabled(&other.name, false).await.unwrap();
    for _ in 0..3 {
        rig.proxy.reset_all().await.unwrap();
        for link in [&one, &other] {
            let info = rig.proxy.proxy(&link.name).await.unwrap();
            assert!(info.enabled && info.toxics.is_empty(), "{info:?}");
        }
    }
    let (mut client, mut server) = other.pair().await;
    passes(&mut client, &mut server, b"x").await;
    rig.proxy.reset_all().await.unwrap();
    passes(&mut client, &mut server, b"a reset of what is whole cuts nothing").await;
}

pub(crate) async fn deletion_leaves_nothing_listening(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"x").await;
    rig.proxy.delete(&link.name).await.unwrap();
    assert!(is_refused(link.addr).await);
    assert_eq!(rest(&mut client).await.0, b"");
    assert_eq!(rest(&mut server).await.0, b"");
    let error = rig.proxy.proxy(&link.name).await.unwrap_err();
    assert!(matches!(error, ProxyError::ProxyNotFound { .. }), "{error}");
    // The name is free again.
    rig.proxy
        .create(&link.name, &link.upstream.local_addr().unwrap().to_string())
        .await
        .unwrap();
}

pub(crate) async fn wrong_calls_are_told_apart(rig: &Rig) {
    let link = rig.link().await;
    let name = link.name.as_str();
    let toxic = Toxic::new(Stream::Upstream, KINDS[0]);
    let proxy = &rig.proxy;

    let error = proxy.create(name, "127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, ProxyError::ProxyExists { .. }), "{error}");
    for error in [
        proxy.set_enabled("nobody", true).await.unwrap_err(),
        proxy.add_toxic("nobody", toxic.clone()).await.unwrap_err(),
        proxy.remove_toxic("nobody", "x").await.unwrap_err(),
        proxy.reset("nobody").await.unwrap_err(),
        proxy.delete("nobody").await.unwrap_err(),
        proxy.counters("nobody").await.unwrap_err(),
    ] {
        assert!(matches!(error, ProxyError::ProxyNotFound { .. }), "{error}");
    }
    for error in [
        proxy.remove_toxic(name, "nothing").await.unwrap_err(),
        proxy.update_toxic(name, &toxic).await.unwrap_err(),
    ] {
        assert!(matches!(error, ProxyError::ToxicNotFound { .. }), "{error}");
    }
    proxy.add_toxic(name, toxic.clone()).await.unwrap();
    let error = proxy.add_toxic(name, toxic.clone()).await.unwrap_err();
    assert!(matches!(error, ProxyError::ToxicExists { .. }), "{error}");
    let other_type = Toxic {
        kind: KINDS[1],
        ..toxic.clone()
    };
    for error in [
        proxy.update_toxic(name, &other_type).await.unwrap_err(),
        proxy
            .add_toxic(name, toxic.clone().named("a").with_toxicity(1.5))
            .await
            .unwrap_err(),
        proxy
            .add_toxic(name, toxic.clone().named("a/b"))
            .await
            .unwrap_err(),
        proxy.create("a b", "127.0.0.1:1").await.unwrap_err(),
    ] {
        assert!(matches!(error, ProxyError::Invalid { .. }), "{error}");
    }
    // A port that is taken: whatever the error is, there is no such proxy afterwards.
    proxy
        .create_at("taken", &link.addr.to_string(), "127.0.0.1:1")
        .await
        .unwrap_err();
    let error = proxy.proxy("taken").await.unwrap_err();
    assert!(matches!(error, ProxyError::ProxyNotFound { .. }), "{error}");
    assert_eq!(
        proxy.proxy(name).await.unwrap().toxics,
        [toxic],
        "no wrong call has changed anything"
    );
}

pub(crate) async fn two_proxies_do_not_disturb_each_other(rig: &Rig) {
    let (cut, whole) = (rig.link().await, rig.link().await);
    let (mut client, mut server) = whole.pair().await;
    rig.proxy.set_enabled(&cut.name, false).await.unwrap();
    passes(&mut client, &mut server, b"x").await;
    rig.proxy.delete(&cut.name).await.unwrap();
    passes(&mut server, &mut client, b"y").await;
}

pub(crate) async fn shutdown_leaves_nothing(rig: &Rig) {
    let link = rig.link().await;
    let (mut client, mut server) = link.pair().await;
    passes(&mut client, &mut server, b"x").await;
    rig.proxy.shutdown().await;
    assert!(is_refused(link.addr).await);
    assert_eq!(rest(&mut client).await.0, b"");
    assert_eq!(rest(&mut server).await.0, b"");
    let error = rig.proxy.create("late", "127.0.0.1:1").await.unwrap_err();
    assert!(matches!(error, ProxyError::ShutDown), "{error}");
}
