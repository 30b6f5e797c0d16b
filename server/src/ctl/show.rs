//! What people and programs get to see.

use std::collections::BTreeMap;

use proto::raft::{DumpStateResponse, GetClusterStatusResponse, GetMembershipResponse, MemberRole, Role};
use serde_json::{Value, json};

type Statuses = BTreeMap<String, Result<GetClusterStatusResponse, String>>;

/// A table of all nodes, and below it what is wrong.
pub(super) fn status(nodes: &Statuses) -> String {
    let titles = [
        "NODE", "ADDRESS", "ROLE", "MEMBER", "TERM", "LEADER", "COMMIT", "APPLIED", "LOG", "SNAPSHOT",
    ];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    let mut remarks = Vec::new();
    for (address, node) in nodes {
        match node {
            Err(why) => {
                remarks.push(format!("{address} does not answer: {why}"));
                let mut row = vec![name_of(nodes, address), address.clone(), "unreachable".to_owned()];
                row.resize(titles.len(), "-".to_owned());
                rows.push(row);
            }
            Ok(node) => {
                let header = node.header.clone().unwrap_or_default();
                if !node.unfit.is_empty() {
                    remarks.push(format!("{} should not lead: {}", header.node_id, node.unfit));
                }
                if node.suspect_index > 0 {
                    remarks.push(format!(
                        "{} lost acknowledged entries and votes for nobody who lacks index {}",
                        header.node_id, node.suspect_index
                    ));
                }
                rows.push(vec![
                    header.node_id,
                    address.clone(),
                    role(node.role()).to_owned(),
                    member_role(node.own_role()).to_owned(),
                    header.term.to_string(),
                    node.leader_id.clone(),
                    node.commit_index.to_string(),
                    node.applied_index.to_string(),
                    format!("{}-{}", node.log_start_index + 1, node.last_index),
                    node.snapshot_index.to_string(),
                ]);
            }
        }
    }
    if leader(nodes).is_none() {
        remarks.push("nobody leads: writes and linearizable reads are not served".to_owned());
    }
    table(&rows) + &remarks.join("\n")
}

/// Who leads, according to itself; where two do, the one of the later term.
pub(super) fn leader(nodes: &Statuses) -> Option<&str> {
    let answers = nodes.values().filter_map(|node| node.as_ref().ok());
    let leading = answers.filter(|node| node.role() == Role::Leader);
    let headers = leading.filter_map(|node| node.header.as_ref());
    headers
        .max_by_key(|header| header.term)
        .map(|header| header.node_id.as_str())
}

/// The name of a node that does not answer, if the others know it.
fn name_of(nodes: &Statuses, address: &str) -> String {
    let mut peers = nodes.values().flatten().flat_map(|node| &node.peers);
    let found = peers.find(|peer| peer.address == address && !peer.node_id.is_empty());
    found.map_or_else(|| "-".to_owned(), |peer| peer.node_id.clone())
}

pub(super) fn status_json(nodes: &Statuses) -> String {
    let all = nodes.iter().map(|(address, node)| match node {
        Err(why) => json!({"address": address, "error": why}),
        Ok(node) => {
            let header = node.header.clone().unwrap_or_default();
            json!({
                "address": address,
                "node_id": header.node_id,
                "role": role(node.role()),
                "member_role": member_role(node.own_role()),
                "term": header.term,
                "leader_id": node.leader_id,
                "commit_index": node.commit_index,
                "applied_index": node.applied_index,
                "last_index": node.last_index,
                "durable_index": node.durable_index,
                "log_start_index": node.log_start_index,
                "snapshot_index": node.snapshot_index,
                "suspect_index": node.suspect_index,
                "unfit": node.unfit,
                "voters": node.voters,
                // As text: numbers of 64 bits do not survive every reader of JSON.
                "state_digest": format!("{:016x}", node.state_digest),
                "peers": node.peers.iter().map(|peer| json!({
                    "node_id": peer.node_id,
                    "address": peer.address,
                    "connected": peer.connected,
                    "match_index": peer.match_index,
                    "member_role": member_role(peer.role()),
                    "receives_snapshot": peer.receives_snapshot,
                })).collect::<Vec<_>>(),
            })
        }
    });
    json!({"leader_id": leader(nodes), "nodes": all.collect::<Vec<Value>>()}).to_string()
}

pub(super) fn members(found: &GetMembershipResponse) -> String {
    let titles = ["NODE", "ADDRESS", "MEMBER", "MATCH", "CONNECTED"];
    let mut rows = vec![titles.map(str::to_owned).to_vec()];
    rows.extend(found.members.iter().map(|member| {
        vec![
            member.node_id.clone(),
            member.address.clone(),
            member_role(member.role()).to_owned(),
            member.match_index.to_string(),
            if member.connected { "yes" } else { "no" }.to_owned(),
        ]
    }));
    let committed = if found.committed {
        ""
    } else {
        ", not committed yet"
    };
    let joint = if found.joint { ", joint" } else { "" };
    let mut text = table(&rows) + &format!("configuration at index {}{committed}{joint}\n", found.index);
    if !found.removed.is_empty() {
        text += &format!(
            "removed, names that cannot be used again: {}\n",
            found.removed.join(", ")
        );
    }
    text
}

pub(super) fn members_json(found: &GetMembershipResponse) -> String {
    let members = found.members.iter().map(|member| {
        json!({
            "node_id": member.node_id,
            "address": member.address,
            "member_role": member_role(member.role()),
            "match_index": member.match_index,
            "connected": member.connected,
        })
    });
    json!({
        "index": found.index,
        "committed": found.committed,
        "joint": found.joint,
        "members": members.collect::<Vec<Value>>(),
        "removed": found.removed,
    })
    .to_string()
}

pub(super) fn dump_json(dump: &DumpStateResponse) -> String {
    json!({
        "node_id": dump.node_id,
        "incarnation": format!("{:016x}", dump.incarnation),
        "time_ns": dump.time_ns,
        "term": dump.term,
        "voted_for": dump.voted_for,
        "role": role(dump.role()),
        "leader_id": dump.leader_id,
        "commit_index": dump.commit_index,
        "applied_index": dump.applied_index,
        "last_index": dump.last_index,
        "durable_index": dump.durable_index,
        "log_start_index": dump.log_start_index,
        "log_start_term": dump.log_start_term,
        "log": dump.log.iter().map(|run| json!({"first_index": run.first_index, "term": run.term})).collect::<Vec<_>>(),
        "snapshot_index": dump.snapshot_index,
        "snapshot_term": dump.snapshot_term,
        "configuration_index": dump.configuration_index,
        "joint": dump.joint,
        "members": dump.members.iter().map(|member| json!({
            "node_id": member.node_id,
            "address": member.address,
            "voter": member.voter,
            "outgoing_voter": member.outgoing_voter,
        })).collect::<Vec<_>>(),
        "digest_index": dump.digest_index,
        "digest": format!("{:016x}", dump.digest),
        "suspect_index": dump.suspect_index,
        "unfit": dump.unfit,
    })
    .to_string()
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "unknown",
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

fn member_role(role: MemberRole) -> &'static str {
    match role {
        MemberRole::Voter => "voter",
        MemberRole::Learner => "learner",
        MemberRole::OutgoingVoter => "outgoing-voter",
        MemberRole::NotAMember => "not-a-member",
    }
}

/// Columns as wide as they must be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
