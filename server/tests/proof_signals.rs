//! Nodes that are stopped in the middle of what they do (SIGSTOP) and go on as if nothing had happened: to the others they
//! were dead, to themselves no time has passed. What SIGTERM and SIGINT do is shown in `process.rs` and
//! `process_alone.rs`; that two stopped followers stop everything, in `process.rs` too.

#![allow(clippy::unwrap_used)]

mod common;
mod proof_support;

use common::{Cluster, eventually};
use nix::sys::signal::Signal;
use proof_support::{put, read};

/// A leader that is not `stopped`, as the running nodes see it.
async fn another_leader(cluster: &Cluster, stopped: usize) -> usize {
    eventually("another leader", async || {
        for at in (0..3).filter(|at| *at != stopped) {
            let status = cluster.status(at).await.map_err(|status| status.to_string())?;
            if common::leads(&status) {
                return Ok(at);
            }
        }
        Err("nobody leads".to_owned())
    })
    .await
}

#[tokio::test]
async fn a_leader_that_was_stopped_answers_nothing_stale_when_it_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let old = cluster.leader().await;
    cluster.everybody().put("k", "before").await;
    let term = cluster.status(old).await.unwrap().header.unwrap().term;

    cluster.node(old).signal(Signal::SIGSTOP);
    // Asked while it stands still, so that it finds the questions before it hears what has happened meanwhile.
    let reads: Vec<_> = (0..20)
        .map(|_| {
            let mut node = common::client(cluster.ports[old]);
            tokio::spawn(async move { read(&mut node, "k").await })
        })
        .collect();
    let new = another_leader(&cluster, old).await;
    let index = put(&mut cluster.client(new), "k", "after").await.unwrap();
    cluster.node(old).signal(Signal::SIGCONT);

    for answer in reads {
        if let Ok((found, at, value)) = answer.await.unwrap() {
            assert_eq!(
                (found, at, value.as_str()),
                (true, index, "after"),
                "a stale answer"
            );
        }
    }
    // It follows again, and everybody agrees on the present.
    cluster.leader().await;
    let status = cluster.status(old).await.unwrap();
    assert!(
        status.header.unwrap().term > term,
        "the office was lost in between"
    );
    cluster.everybody().put("k", "at last").await;
    cluster.converge().await;
}

#[tokio::test]
async fn a_follower_that_was_stopped_holds_nobody_up_and_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    cluster.node(follower).signal(Signal::SIGSTOP);
    let mut everybody = cluster.everybody();
    for number in 0..200 {
        everybody.put(&format!("key {number}"), "written meanwhile").await;
    }
    cluster.node(follower).signal(Signal::SIGCONT);
    cluster.converge().await;
    let (found, _, value) = eventually("an answer of the follower", async || {
        read(&mut cluster.client(follower), "key 199").await
    })
    .await;
    assert_eq!((found, value.as_str()), (true, "written meanwhile"));
}
