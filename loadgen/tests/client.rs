//! The client against a store that redirects, refuses, freezes and dies.

#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::*;
use loadgen::{Answer, Client, ClientOptions, OperationResult, Outcome, Route};
use reports::record::OutcomeKind;

const NOBODY: usize = 100;

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn within(limit: Duration) -> Instant {
    Instant::now() + limit
}

fn kind(result: &OperationResult) -> (&'static str, Option<OutcomeKind>) {
    match &result.outcome {
        Outcome::Ok(_) => ("ok", None),
        Outcome::Failed(failure) => ("failed", Some(failure.kind)),
        Outcome::Unknown(failure) => ("unknown", Some(failure.kind)),
    }
}

/// Puts until the outcome is that nobody took it. On a busy machine the deadline may now and then pass while the last
/// attempt is out, which is rightly unknown; what must never come is an answer.
async fn nobody_takes_a_put(client: &Client) -> OperationResult {
    let patience = soon();
    loop {
        let put = client.put("k", "1", within(Duration::from_millis(250))).await;
        match kind(&put) {
            ("failed", Some(OutcomeKind::Unavailable | OutcomeKind::NotLeader | OutcomeKind::Refused)) => {
                return put;
            }
            ("unknown", Some(OutcomeKind::TimeoutClient)) => assert!(Instant::now() < patience),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn every_operation_does_what_it_says() {
    let stub = Stub::start(1).await;
    let client = stub.client();
    let put = client.put("a", "1", soon()).await;
    assert_eq!(put.answer(), Some(&Answer::Written { index: 1 }));
    assert_eq!((put.node.as_deref(), put.term), (Some("n0"), Some(7)));
    let read = client.get("a", soon()).await;
    assert_eq!(
        read.answer(),
        Some(&Answer::Read {
            value: Some("1".into()),
            index: 1
        })
    );
    let swap = client.cas("a", Some("1"), "2", soon()).await;
    assert_eq!(swap.answer(), Some(&Answer::Swapped { index: 2 }));
    let miss = client.cas("a", None, "3", soon()).await;
    assert_eq!(
        miss.answer(),
        Some(&Answer::Mismatch {
            current: Some("2".into()),
            index: 2
        })
    );
    let delete = client.delete("a", soon()).await;
    assert_eq!(
        delete.answer(),
        Some(&Answer::Deleted {
            index: 3,
            existed: true
        })
    );
    let read = client.get("a", soon()).await;
    assert_eq!(
        read.answer(),
        Some(&Answer::Read {
            value: None,
            index: 3
        })
    );
    let fresh = client.cas("b", None, "1", soon()).await;
    assert_eq!(fresh.answer(), Some(&Answer::Swapped { index: 4 }));
}

#[tokio::test]
async fn the_leader_is_followed_wherever_it_goes() {
    let stub = Stub::start(3).await;
    stub.lead(2);
    let client = stub.client();
    // Nothing is known yet: the leader is found by asking around.
    let first = client.put("k", "1", soon()).await;
    assert!(first.is_ok() && first.redirects + first.retries > 0);
    assert_eq!(first.node.as_deref(), Some("n2"));
    let second = client.put("k", "2", soon()).await;
    assert_eq!((second.is_ok(), second.redirects, second.retries), (true, 0, 0));
    // Now the identities are known, and a hint is enough.
    assert!(client.presence_of_all(PATIENCE).await.iter().all(Result::is_ok));
    for leader in [0, 1, 2, 1] {
        stub.lead(leader);
        let moved = client.put("k", "3", soon()).await;
        assert_eq!(
            (moved.is_ok(), moved.redirects, moved.retries),
            (true, 1, 0),
            "to {leader}"
        );
        assert_eq!(client.preferred(), leader);
    }
}

#[tokio::test]
async fn asking_everybody_teaches_who_is_where_and_who_leads() {
    let stub = Stub::start(3).await;
    stub.lead(1);
    let client = stub.client();
    let answers = client.presence_of_all(PATIENCE).await;
    assert_eq!(answers.len(), 3);
    let known: Vec<_> = client
        .endpoints()
        .into_iter()
        .map(|(_, id)| id.unwrap().to_string())
        .collect();
    assert_eq!(known, ["n0", "n1", "n2"]);
    let put = client.put("k", "1", soon()).await;
    assert_eq!((put.redirects, put.retries), (0, 0));
    assert_eq!(answers[2].as_ref().unwrap().node, "n2");
}

#[tokio::test]
async fn operations_wait_out_an_election() {
    let stub = Stub::start(3).await;
    stub.lead(NOBODY);
    let client = stub.client();
    let elect = async {
        until(|| stub.cluster.refused.load(Ordering::SeqCst) >= 3).await;
        stub.lead(1);
    };
    let (put, ()) = tokio::join!(client.put("k", "1", soon()), elect);
    assert!(put.is_ok() && put.retries >= 3, "{put:?}");
    assert_eq!(stub.executed(), 1);
}

#[tokio::test]
async fn what_every_node_refused_has_certainly_not_happened() {
    let stub = Stub::start(3).await;
    stub.lead(NOBODY);
    let client = stub.client();
    nobody_takes_a_put(&client).await;
    assert_eq!(stub.executed(), 0);
}

#[tokio::test]
async fn an_unknown_outcome_is_never_tried_again() {
    let stub = Stub::start(3).await;
    stub.set(Mood::UnknownAfterExecuting);
    let client = stub.client();
    let put = client.put("k", "1", soon()).await;
    assert_eq!(kind(&put), ("unknown", Some(OutcomeKind::Unsure)));
    assert_eq!(stub.executed(), 1, "it was executed, and once only");
    let swap = client.cas("k", Some("1"), "2", soon()).await;
    assert!(matches!(kind(&swap), ("unknown", _)));
    // A read has no effect, so one without an answer has failed.
    let read = client.get("k", soon()).await;
    assert_eq!(kind(&read), ("failed", Some(OutcomeKind::Unsure)));
}

#[tokio::test]
async fn an_error_without_an_outcome_is_unknown_for_a_write() {
    let stub = Stub::start(1).await;
    stub.set(Mood::Unlabelled);
    let client = stub.client();
    let arrived = || stub.cluster.arrived.load(Ordering::SeqCst);
    assert_eq!(
        kind(&client.put("k", "1", soon()).await),
        ("unknown", Some(OutcomeKind::Unlabelled))
    );
    assert_eq!(arrived(), 1);
    assert_eq!(
        kind(&client.get("k", soon()).await),
        ("failed", Some(OutcomeKind::Unlabelled))
    );
    assert_eq!(arrived(), 2);
}

#[tokio::test]
async fn overload_is_waited_out_at_the_same_node() {
    let stub = Stub::start(3).await;
    stub.set(Mood::OverloadedFor(3));
    let put = stub.client().put("k", "1", soon()).await;
    assert_eq!((put.is_ok(), put.redirects, put.retries), (true, 0, 3));
    assert_eq!(stub.nodes[0].arrived.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_silent_node_costs_one_deadline_and_not_one_for_each_operation() {
    let stub = Stub::start(1).await;
    let (silence, silent) = silent_address().await;
    let endpoints = [silent, stub.endpoints()[0].clone()];
    let client = Client::connect(&endpoints, ClientOptions::default()).unwrap();
    let lost = client.put("k", "1", within(Duration::from_millis(300))).await;
    assert_eq!(kind(&lost), ("unknown", Some(OutcomeKind::TimeoutClient)));
    for n in 0..20 {
        let put = client.put("k", &n.to_string(), soon()).await;
        assert_eq!((put.is_ok(), put.retries), (true, 0), "{put:?}");
    }
    silence.abort();
}

#[tokio::test]
async fn a_refused_connection_is_certainly_not_an_execution() {
    let (_socket, refusing) = refusing_address();
    let alone = Client::connect(std::slice::from_ref(&refusing), ClientOptions::default()).unwrap();
    nobody_takes_a_put(&alone).await;

    let stub = Stub::start(1).await;
    let endpoints = [refusing, stub.endpoints()[0].clone()];
    let client = Client::connect(&endpoints, ClientOptions::default()).unwrap();
    let put = client.put("k", "1", soon()).await;
    assert!(put.is_ok() && put.retries == 1, "{put:?}");
}

#[tokio::test]
async fn a_dead_node_behind_a_proxy_makes_few_operations_unknown() {
    let stub = Stub::start(1).await;
    let (proxy, closing) = closing_address().await;
    let endpoints = [closing, stub.endpoints()[0].clone()];
    let options = ClientOptions {
        route: Route::RoundRobin,
        ..ClientOptions::default()
    };
    let client = Client::connect(&endpoints, options).unwrap();
    let mut unknown = 0;
    for n in 0..40 {
        match kind(&client.put("k", &n.to_string(), soon()).await) {
            ("ok", _) => {}
            ("unknown", Some(OutcomeKind::Transport)) => unknown += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(unknown <= 1, "{unknown} of 40");
    proxy.abort();
}

#[tokio::test]
async fn a_node_that_comes_back_is_used_again() {
    let stub = Stub::start(1).await;
    let client = stub.client();
    stub.freeze(true);
    let lost = client.put("k", "1", within(Duration::from_millis(100))).await;
    assert_eq!(kind(&lost), ("unknown", Some(OutcomeKind::TimeoutClient)));
    stub.freeze(false);
    assert!(client.put("k", "2", soon()).await.is_ok());
}

#[tokio::test]
async fn addresses_in_hints_are_called_only_where_that_is_allowed() {
    let stub = Stub::start(2).await;
    stub.lead(1);
    let only_the_follower = &stub.endpoints()[..1];
    let strict = Client::connect(only_the_follower, ClientOptions::default()).unwrap();
    nobody_takes_a_put(&strict).await;
    assert_eq!(stub.nodes[1].arrived.load(Ordering::SeqCst), 0);

    let options = ClientOptions {
        dial_hints: true,
        ..ClientOptions::default()
    };
    let free = Client::connect(only_the_follower, options).unwrap();
    let put = free.put("k", "1", soon()).await;
    assert_eq!((put.is_ok(), put.redirects), (true, 1), "{put:?}");
    assert_eq!(
        free.endpoints().len(),
        1,
        "what was hinted is not one of the endpoints given"
    );
}

#[tokio::test]
async fn spreading_begins_at_every_node_in_turn() {
    let stub = Stub::start(3).await;
    let options = ClientOptions {
        route: Route::RoundRobin,
        ..ClientOptions::default()
    };
    let client = Client::connect(&stub.endpoints(), options).unwrap();
    client.presence_of_all(PATIENCE).await;
    for n in 0..9 {
        assert!(client.put("k", &n.to_string(), soon()).await.is_ok());
    }
    for node in &stub.nodes[1..] {
        assert_eq!(node.arrived.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test]
async fn hints_to_a_dead_node_cost_neither_writes_nor_redirects_until_it_is_back() {
    let stub = Stub::start(3).await;
    let proxy = Proxy::start(&stub.endpoints()[0]).await;
    let endpoints = [vec![proxy.address.clone()], stub.endpoints()[1..].to_vec()].concat();
    let client = Client::connect(&endpoints, ClientOptions::default()).unwrap();
    assert!(client.presence_of_all(PATIENCE).await.iter().all(Result::is_ok));
    assert!(client.put("k", "0", soon()).await.is_ok());
    let executed = stub.executed();
    // The others still take n0 for the leader. The first operation may be lost in the breaking connection.
    proxy.cut(true);
    let first = client.put("k", "1", within(Duration::from_millis(300))).await;
    assert!(!first.is_ok());
    for _ in 0..5 {
        let put = nobody_takes_a_put(&client).await;
        assert_eq!(put.redirects, 0, "{put:?}");
    }
    assert_eq!(stub.executed(), executed);
    proxy.cut(false);
    let back = client.put("k", "3", soon()).await;
    assert!(back.is_ok(), "{back:?}");
}
