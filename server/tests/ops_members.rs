//! Changing a running cluster, with the program that people use for it.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Cluster, Everybody, Node, PATIENCE, eventually, timed};
use nix::sys::signal::Signal;
use proto::raft::admin_service_client::AdminServiceClient;
use proto::raft::state_service_client::StateServiceClient;
use proto::raft::{DumpStateRequest, GetMembershipRequest, Role, WatchRoleRequest};
use serde_json::Value;
use tonic::Code;

/// Runs `server ctl` against the first node.
fn ctl(cluster: &Cluster, line: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_server"))
        .args(["ctl", "--timeout", "30s", "--endpoint"])
        .arg(
            (0..cluster.ports.len())
                .map(|at| cluster.address(at))
                .collect::<Vec<_>>()
                .join(","),
        )
        .args(line.split_whitespace())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What is asked for happens. On a busy machine a leader may lose its office half way: then nobody can say whether it has, and it is
/// asked for again unless it has.
fn done(cluster: &Cluster, line: &str) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let output = ctl(cluster, &format!("--json {line}"));
        let said = said(&output);
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).unwrap();
        }
        assert!(
            said.contains("leadership was lost") && std::time::Instant::now() < deadline,
            "{line}: {said}"
        );
        let list = ctl(cluster, "--json member list");
        let list = serde_json::from_slice(&list.stdout).unwrap_or(Value::Null);
        if is_so(&list, line) {
            return list;
        }
    }
}

/// Whether a list of members shows that what a command asks for has happened.
fn is_so(list: &Value, line: &str) -> bool {
    match *line.split_whitespace().collect::<Vec<_>>() {
        ["member", "add", name, ..] => member(list, name).is_some(),
        ["member", "promote", name] => {
            member(list, name).is_some_and(|member| member["member_role"] == "voter")
        }
        ["member", "remove", name] => {
            let removed = list["removed"].as_array();
            removed.is_some_and(|removed| removed.iter().any(|gone| gone == name))
        }
        _ => false,
    }
}

fn refused(cluster: &Cluster, line: &str) -> String {
    let output = ctl(cluster, line);
    assert_eq!(output.status.code(), Some(1), "{line}: {}", said(&output));
    said(&output)
}

/// A node that waits to be taken in.
async fn joining(cluster: &Cluster, name: &str, dir: &Path) -> (Node, u16) {
    let peers = (0..3).map(|at| cluster.address(at)).collect::<Vec<_>>().join(",");
    let flags = ["--port", "0", "--join", "--peers", &peers].map(str::to_owned);
    let mut node = Node::start(name, &dir.join(name), &flags);
    let port = node.port().await;
    (node, port)
}

async fn fill(everybody: &mut Everybody, keys: u64) {
    for number in 0..keys {
        everybody.put(&format!("k{number}"), &number.to_string()).await;
    }
}

fn member<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    list["members"]
        .as_array()?
        .iter()
        .find(|member| member["node_id"] == name)
}

#[tokio::test]
async fn a_node_joins_by_snapshot_learns_votes_leads_and_is_removed_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_with(
        3,
        &[
            "--election-timeout",
            "1s",
            "--snapshot-entries",
            "100",
            "--snapshot-trailing",
            "10",
        ],
    )
    .await;
    let mut everybody = cluster.everybody();
    fill(&mut everybody, 300).await;
    let (mut fourth, port) = joining(&cluster, "node4", dir.path()).await;
    let early = refused(&cluster, "member promote node4");
    assert!(early.contains("no member has this name"), "{early}");
    let taken = refused(&cluster, &format!("member add node4 {}", cluster.address(1)));
    assert!(taken.contains("node2 is at"), "{taken}");
    done(&cluster, &format!("member add node4 localhost:{port}"));
    let list = done(&cluster, "member list");
    assert_eq!(member(&list, "node4").unwrap()["member_role"], "learner");
    eventually("the learner to have caught up", async || {
        let output = ctl(&cluster, "member promote node4");
        output.status.success().then_some(()).ok_or(said(&output))
    })
    .await;
    assert_eq!(
        member(&done(&cluster, "member list"), "node4").unwrap()["member_role"],
        "voter"
    );
    let log = fourth.log();
    assert!(
        log.contains("snapshot installed"),
        "300 entries are not in anybody's log any more: {log}"
    );

    assert_eq!(done(&cluster, "transfer node4")["leader_id"], "node4");
    let status = done(&cluster, "status");
    let nodes = status["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 4, "{status}");
    eventually("everybody to have heard", async || {
        let status = done(&cluster, "status");
        let nodes = status["nodes"].as_array().unwrap().clone();
        nodes
            .iter()
            .all(|node| node["leader_id"] == "node4")
            .then_some(())
            .ok_or(status)
    })
    .await;

    // The leader itself.
    done(&cluster, "member remove node4");
    let next = cluster.leader().await;
    fill(&mut everybody, 20).await;
    assert!(refused(&cluster, &format!("member add node4 localhost:{port}")).contains("choose another name"));
    fourth.log_contains("was removed from this cluster").await;
    let list = done(&cluster, "member list");
    assert_eq!(
        (
            list["removed"][0].as_str(),
            list["members"].as_array().unwrap().len()
        ),
        (Some("node4"), 3)
    );
    // It survives restarts of everybody.
    cluster.kill_all();
    (0..3).for_each(|at| cluster.launch(at));
    cluster.leader().await;
    assert_eq!(done(&cluster, "member list")["removed"][0], "node4");
    assert!(next < 3);
    cluster.converge().await;
}

#[tokio::test]
async fn a_stopping_leader_hands_over_and_a_snapshot_shortens_the_log() {
    let mut cluster = Cluster::start_with(3, &["--election-timeout", "4s", "--snapshot-trailing", "5"]).await;
    let first = cluster.leader().await;
    let mut everybody = cluster.everybody();
    fill(&mut everybody, 50).await;
    let snapshot = done(&cluster, "snapshot");
    assert!(snapshot["last_index"].as_u64().unwrap() > 50);
    let node = snapshot["node_id"].as_str().unwrap();
    let status = done(&cluster, "status");
    let nodes = status["nodes"].as_array().unwrap();
    let taken = nodes.iter().find(|found| found["node_id"] == node).unwrap();
    assert!(taken["log_start_index"].as_u64().unwrap() >= snapshot["last_index"].as_u64().unwrap() - 5);

    // Whoever campaigns because it has waited for an election timeout asks first whether it would be elected; only who was
    // asked to take over does not.
    let mut followers = Vec::new();
    for at in (0..3).filter(|at| *at != first) {
        let mut states = StateServiceClient::new(common::channel(cluster.ports[at]));
        let mut roles = states.watch_role(WatchRoleRequest {}).await.unwrap().into_inner();
        let present = roles.message().await.unwrap().unwrap();
        assert_eq!(present.role(), Role::Follower);
        followers.push((at, roles, present.sequence));
    }
    let term = cluster.status(first).await.unwrap().header.unwrap().term;
    cluster.node(first).signal(Signal::SIGTERM);
    assert_eq!(cluster.node(first).exit().await.code(), Some(0));
    cluster.nodes[first] = None;
    let next = eventually("a successor", async || {
        let found = cluster.leader().await;
        (found != first).then_some(found).ok_or(found)
    })
    .await;
    let now = cluster.status(next).await.unwrap().header.unwrap().term;
    assert_eq!(now, term + 1);
    let log = cluster.node(next).log();
    assert!(log.contains("this node leads now"), "{log}");
    let (_, mut roles, mut seen) = followers.into_iter().find(|(at, ..)| *at == next).unwrap();
    loop {
        let change = tokio::time::timeout(common::PATIENCE, roles.message()).await;
        let change = change.expect("news in time").unwrap().unwrap();
        assert_eq!(change.sequence, seen + 1, "nothing is left out");
        seen = change.sequence;
        assert_ne!(change.role(), Role::PreCandidate, "it was not asked: {change:?}");
        if change.role() == Role::Leader {
            assert_eq!(change.term, now);
            break;
        }
    }
}

#[tokio::test]
async fn of_two_changes_that_were_decided_by_the_same_configuration_one_is_refused() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    let index = eventually("a configuration to be in force", async || {
        let list = done(&cluster, "member list");
        let index = list["index"].as_u64().filter(|_| list["committed"] == true);
        index.ok_or(list)
    })
    .await;
    let added = done(
        &cluster,
        &format!("member add node4 localhost:1 --if-index {index}"),
    );
    let added = added["index"].as_u64().unwrap();
    assert!(added > index);
    for line in ["add node5 localhost:2", "promote node4", "remove node4"] {
        let moved = refused(&cluster, &format!("member {line} --if-index {index}"));
        assert!(moved.contains("the configuration has moved on"), "{moved}");
        assert!(moved.contains(&format!("index {added}, not {index}")), "{moved}");
        assert!(!moved.contains("may have happened"), "{moved}");
    }
    let list = done(&cluster, "member list");
    assert!(member(&list, "node4").is_some() && member(&list, "node5").is_none());
    done(&cluster, &format!("member remove node4 --if-index {added}"));
}

#[tokio::test]
async fn changes_need_the_token_where_there_is_one() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = file.to_str().unwrap();
    let cluster = Cluster::start_with(3, &["--admin-token-file", path]).await;
    cluster.leader().await;
    let without = refused(&cluster, "member list");
    assert!(without.contains("authorization: Bearer"), "{without}");
    done(&cluster, &format!("--token-file {path} member list"));
    done(&cluster, "status");
    let mut admin = AdminServiceClient::new(common::channel(cluster.ports[0]));
    let mut request = timed(GetMembershipRequest {});
    request
        .metadata_mut()
        .insert("authorization", "Bearer wrong".parse().unwrap());
    assert_eq!(
        admin.get_membership(request).await.unwrap_err().code(),
        Code::PermissionDenied
    );
}

#[tokio::test]
async fn the_state_dump_tells_what_a_checker_needs() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut everybody = cluster.everybody();
    fill(&mut everybody, 10).await;
    done(&cluster, "member list");
    cluster.converge().await;
    let index = cluster.status(leader).await.unwrap().applied_index;
    let mut digests = Vec::new();
    for at in 0..3 {
        let mut states = StateServiceClient::new(common::channel(cluster.ports[at]));
        let mut dump = async |digest_index| {
            let request = timed(DumpStateRequest { digest_index });
            states.dump_state(request).await.unwrap().into_inner()
        };
        let found = dump(index).await;
        assert_eq!(
            (found.digest_index, found.node_id.as_str()),
            (index, cluster.name(at).as_str())
        );
        assert_eq!(found.leader_id, cluster.name(leader));
        if at == leader {
            assert_eq!(found.voted_for, cluster.name(leader), "it had its own vote");
        }
        assert!(found.applied_index <= found.commit_index && found.commit_index <= found.last_index);
        assert_eq!(found.members.iter().filter(|member| member.voter).count(), 3);
        assert_eq!(
            found.log.first().map(|run| run.first_index),
            Some(found.log_start_index + 1)
        );
        digests.push(found.digest);
        assert_eq!(dump(1 << 40).await.digest_index, 0, "the future has no digest");
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:x?}");
}

#[tokio::test]
async fn whoever_loses_the_office_or_its_receiver_stops_sending_its_snapshot() {
    // At this rate a snapshot takes longer than the whole test.
    let flags = "--snapshot-entries 20 --snapshot-trailing 0 --snapshot-rate 65536";
    let mut cluster = Cluster::start_with(3, &flags.split(' ').collect::<Vec<_>>()).await;
    let mut everybody = cluster.everybody();
    everybody.put("k", "v").await;
    let leader = cluster.leader().await;
    let (behind, successor) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.kill(behind);
    let value = "v".repeat(200_000);
    for number in 0..60 {
        everybody.put(&format!("k{number}"), &value).await;
    }
    cluster.launch(behind);
    cluster.node(leader).log_contains("sending a snapshot").await;
    let gave_up = "gave up sending a snapshot";
    assert!(!cluster.node(leader).log().contains(gave_up));
    done(&cluster, &format!("transfer {}", cluster.name(successor)));
    cluster.node(leader).log_contains(gave_up).await;
    cluster.node(successor).log_contains("sending a snapshot").await;
    done(&cluster, &format!("member remove {}", cluster.name(behind)));
    cluster.node(successor).log_contains(gave_up).await;
}

#[tokio::test]
async fn status_says_who_does_not_answer_and_fails_without_a_leader() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    assert_eq!(
        done(&cluster, "status")["leader_id"],
        cluster.name(leader).as_str()
    );
    let output = ctl(&cluster, "--json member promote nobody");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let error: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(error["kind"], "refused", "{error}");
    let lost = [(leader + 1) % 3, (leader + 2) % 3];
    for at in lost {
        cluster.node(at).kill();
    }
    let text = eventually("the leader to notice that it is alone", async || {
        let output = ctl(&cluster, "status");
        (output.status.code() == Some(1))
            .then(|| said(&output))
            .ok_or(said(&output))
    })
    .await;
    assert!(text.contains("nobody leads"), "{text}");
    for at in lost {
        let row = text.lines().find(|line| line.starts_with(&cluster.name(at)));
        assert!(row.is_some_and(|row| row.contains("unreachable")), "{text}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_told_from_refusals() {
    let run = |line: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_server"))
            .args(line.split_whitespace())
            .output()
            .unwrap();
        (output.status.code(), said(&output))
    };
    assert_eq!(run("ctl").0, Some(2));
    assert_eq!(run("ctl member add onlyone").0, Some(2));
    assert_eq!(run("ctl --endpoint nowhere status").0, Some(2));
    let (code, text) = run("ctl --endpoint 127.0.0.1:1 --timeout 1s status");
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("none of the nodes can be reached"), "{text}");
    let (code, text) = run("ctl --token-file /nonexistent/token status");
    assert_eq!(code, Some(2), "{text}");
}
