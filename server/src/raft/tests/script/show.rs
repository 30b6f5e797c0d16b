//! What a script prints: short, complete where it matters to the protocol, and free of anything random.

use super::super::cluster::Flight;
use super::{Outcome, Script};
use crate::raft::{AppendResult, Configuration, Entry, EntryKind, Message, Position, RoleKind};

impl Script {
    pub(super) fn show(&mut self, what: &[&str]) -> Outcome<String> {
        match *what {
            ["state"] => {
                let nodes = self.nodes();
                Ok(nodes.iter().map(|node| self.state(*node)).collect())
            }
            ["state", node] => {
                let node = self.node(node)?;
                Ok(self.state(node))
            }
            ["wire"] => {
                let mut lines: Vec<String> = self
                    .cluster
                    .wire
                    .iter()
                    .map(|flight| self.flight(flight))
                    .collect();
                // Between two nodes the order is that of sending; among links it means nothing.
                lines.sort_by(|one, other| one.split(' ').next().cmp(&other.split(' ').next()));
                let parcels = self.cluster.parcels.iter().map(|parcel| {
                    let (from, to) = (self.number(parcel.from), self.number(parcel.to));
                    format!("{from}->{to} snapshot\n")
                });
                lines.extend(parcels);
                Ok(lines.concat())
            }
            _ => Err(format!("what is `show {}`?", what.join(" "))),
        }
    }

    fn state(&mut self, number: u64) -> String {
        let log = self.log(number);
        let node = self.cluster.node(number);
        let (core, waiting) = (&node.core, node.unsynced.len());
        let mut line = format!("{number} {} term {}", role(core.role()), core.term());
        let (vote, base, suspect) = (core.vote(), core.base(), core.suspect());
        let (last, durable, commit) = (core.last().index, core.durable_index(), core.commit());
        let transferring = core.is_transferring();
        if let Some(vote) = vote {
            line.push_str(&format!(" vote {}", self.number(vote)));
        }
        if base.index > 0 {
            line.push_str(&format!(" base {}", position(base)));
        }
        line.push_str(format!(" log {log}").trim_end());
        line.push_str(&format!(" commit {commit}"));
        if durable < last {
            line.push_str(&format!(" durable {durable}"));
        }
        if waiting > 0 {
            line.push_str(&format!(" disk {waiting}"));
        }
        if let Some(suspect) = suspect {
            line.push_str(&format!(" suspect {}", position(suspect)));
        }
        if transferring {
            line.push_str(" transferring");
        }
        line + "\n"
    }

    /// The entries that a node still has, as `term:payload`.
    pub(super) fn log(&mut self, number: u64) -> String {
        let core = &self.cluster.node(number).core;
        let entries = core.log.batch(core.base().index + 1, usize::MAX).to_vec();
        self.entries(&entries)
    }

    pub(super) fn entries(&self, entries: &[Entry]) -> String {
        let words: Vec<String> = entries.iter().map(|entry| self.entry(entry)).collect();
        words.join(" ")
    }

    fn entry(&self, entry: &Entry) -> String {
        let payload = match entry.kind {
            EntryKind::Configuration => Configuration::decode(entry.payload.clone())
                .map_or_else(|error| error.to_string(), |found| self.configuration(&found)),
            EntryKind::Command if entry.payload.is_empty() => "-".to_owned(),
            EntryKind::Command => String::from_utf8_lossy(&entry.payload).into_owned(),
        };
        format!("{}:{payload}", entry.term)
    }

    /// `{1,2,3}`; while joint `{1,2,3}>{1,2}`, from the old to the new; with learners `{1,2,3}+4`.
    fn configuration(&self, configuration: &Configuration) -> String {
        let set = |nodes: &mut dyn Iterator<Item = crate::raft::NodeId>| {
            let mut numbers: Vec<u64> = nodes.map(|node| self.number(node)).collect();
            numbers.sort_unstable();
            numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
        };
        let mut text = String::new();
        if configuration.joint {
            text = format!("{{{}}}>", set(&mut configuration.outgoing_voters()));
        }
        text.push_str(&format!("{{{}}}", set(&mut configuration.voters())));
        let learners = configuration.members.keys().copied();
        let learners = set(&mut learners.filter(|node| !configuration.is_voter(*node)));
        if !learners.is_empty() {
            text.push_str(&format!("+{learners}"));
        }
        text
    }

    fn flight(&self, flight: &Flight) -> String {
        let (from, to) = (self.number(flight.from), self.number(flight.to));
        let rest = match &flight.message {
            Message::VoteRequest(request) => format!(
                "{}term {} last {}{}",
                if request.pre_vote { "pre " } else { "" },
                request.term,
                position(request.last),
                if request.transfer { " transfer" } else { "" }
            ),
            Message::VoteResponse(response) => format!(
                "{}term {} {}",
                if response.pre_vote { "pre " } else { "" },
                response.term,
                if response.granted { "yes" } else { "no" }
            ),
            Message::AppendRequest(request) => format!(
                "term {} prev {} [{}] commit {} round {}",
                request.term,
                position(request.prev),
                self.entries(&request.entries),
                request.commit,
                request.read_seq
            ),
            Message::AppendResponse(response) => match response.result {
                AppendResult::Matched(index) => format!("term {} matched {index}", response.term),
                AppendResult::Rejected { rejected, hint } => {
                    format!(
                        "term {} rejected {rejected} hint {}",
                        response.term,
                        position(hint)
                    )
                }
            },
            Message::Heartbeat(heartbeat) => {
                let (term, commit, round) = (heartbeat.term, heartbeat.commit, heartbeat.read_seq);
                format!("term {term} commit {commit} round {round}")
            }
            Message::HeartbeatResponse(response) => {
                format!("term {} round {}", response.term, response.read_seq)
            }
            Message::TimeoutNow { term } => format!("term {term}"),
            Message::ReadIndexRequest(request) => format!("term {}", request.term),
            Message::ReadIndexResponse(response) => match response.index {
                Some(index) => format!("term {} index {index}", response.term),
                None => format!("term {} no", response.term),
            },
        };
        format!("{from}->{to} {} {rest}\n", kind(&flight.message))
    }
}

/// The word for a message.
pub(super) fn kind(message: &Message) -> &'static str {
    match message {
        Message::VoteRequest(_) => "vote?",
        Message::VoteResponse(_) => "vote",
        Message::AppendRequest(_) => "append",
        Message::AppendResponse(_) => "ack",
        Message::Heartbeat(_) => "heartbeat",
        Message::HeartbeatResponse(_) => "heard",
        Message::TimeoutNow { .. } => "timeout-now",
        Message::ReadIndexRequest(_) => "read?",
        Message::ReadIndexResponse(_) => "read",
    }
}

pub(super) fn role(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Follower => "follower",
        RoleKind::PreCandidate => "pre-candidate",
        RoleKind::Candidate => "candidate",
        RoleKind::Leader => "leader",
    }
}

/// `term:index`, spelled so that it is not taken for an entry.
fn position(position: Position) -> String {
    format!("{}@{}", position.index, position.term)
}
