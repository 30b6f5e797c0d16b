//! `timeline.json`: what was done to the cluster and how it looked meanwhile.

use serde::{Deserialize, Serialize};

use super::Nanos;

/// Everything but the load, on the run's time axis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// Before, during and after the faults.
    pub phases: Vec<Phase>,
    /// Faults in order of injection.
    pub faults: Vec<FaultWindow>,
    /// Status of the nodes as polled, oldest first.
    pub samples: Vec<NodeSample>,
    /// Reads that begin from here on are the last look at their keys; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_reads_from: Option<Nanos>,
}

/// A named stretch of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// `before`, `during` or `after`.
    pub name: String,
    /// When it begins.
    pub start: Nanos,
    /// When it ends.
    pub end: Nanos,
}

/// One injection of one fault.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultWindow {
    /// For example `kill`, `partition`, `latency`.
    pub kind: String,
    /// One line for people: `kill leader n2`, `isolate n2 (drop)`.
    pub label: String,
    /// Nodes it was aimed at, as resolved at injection.
    pub targets: Vec<String>,
    /// When injection began and when it was confirmed.
    pub injecting: Nanos,
    /// In force from here; absent if the injection was never confirmed.
    pub injected: Option<Nanos>,
    /// When healing began; absent if the run ended first.
    pub healing: Option<Nanos>,
    /// Confirmed gone from here.
    pub healed: Option<Nanos>,
    /// What shows that it did something.
    pub evidence: Vec<Evidence>,
    /// How the cluster came back.
    pub recovery: Recovery,
}

/// A measured effect of a fault, or its absence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// What was looked at and found, as a sentence.
    pub what: String,
    /// Whether it shows that the fault took effect.
    pub effective: bool,
}

/// Times from the injection of a fault; absent where it never happened, or was not disturbed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Until another leader was seen. Absent if the leader stayed.
    pub new_leader: Option<Nanos>,
    /// Until the first write that both began and was acknowledged after the injection.
    pub first_write: Option<Nanos>,
    /// From the healing until every node was seen up with the same applied state as the rest, or equivalent.
    pub converged: Option<Nanos>,
    /// Longest time without an acknowledged write between this injection and the next (or the end).
    pub longest_write_gap: Option<Nanos>,
}

/// What a node said of itself, or that it did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSample {
    /// When the answer came (or the wait for it was given up).
    pub time: Nanos,
    /// Which node.
    pub node: String,
    /// Its role; [`Role::Unreachable`] when it did not answer.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// Who leads, in its opinion.
    pub leader: Option<String>,
    /// Its commit index.
    pub commit: u64,
    /// Its applied index.
    pub applied: u64,
    /// Digest of everything applied up to `applied`, hexadecimal; absent when unreachable.
    pub digest: Option<String>,
    /// Tells one process from the next on the same node, hexadecimal.
    pub incarnation: Option<String>,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Follows, or does not know whom to follow.
    Follower,
    /// Asks whether an election would succeed.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Its process is known to be gone.
    Down,
    /// It did not answer.
    Unreachable,
}
