//! A scenario as a value: what runs, under which load, what is broken when, and what must hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Fault, Placed, Rate, Span, Within};

/// A scenario, every default filled in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Names the run's folder: lower-case letters, digits and hyphens.
    pub name: Placed<String>,
    /// What it is meant to show, in a sentence.
    #[serde(default)]
    pub about: String,
    /// What is started.
    #[serde(default)]
    pub cluster: Cluster,
    /// What clients do.
    #[serde(default)]
    pub workload: Workload,
    /// How long the load lasts.
    pub duration: Placed<Span>,
    /// Everything random follows from it; drawn for each run if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What is broken, in any order.
    #[serde(default)]
    pub faults: Vec<Placed<Fault>>,
    /// What must hold.
    #[serde(default)]
    pub checks: Checks,
}

/// What is started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Number of nodes, 1 to 9.
    pub nodes: Placed<u32>,
    /// Which store.
    pub target: Placed<Store>,
}

/// A store to put under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// The suite's own.
    Raft,
    /// etcd; refused for now.
    Etcd,
    /// Any program that speaks the suite's protocol; refused for now.
    Command(Vec<String>),
}

/// What clients do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// How often each operation is chosen, relative to the others.
    pub mix: Placed<Mix>,
    /// Number of keys.
    pub keys: Placed<u32>,
    /// Number of clients.
    pub clients: Placed<u32>,
    /// Operations a second over all clients; absent in a closed loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Placed<Rate>>,
    /// Each client starts its next operation when it has the answer to the last.
    pub closed: Placed<bool>,
    /// Bytes in a value.
    pub value_size: Placed<u32>,
    /// How long a client waits for an answer before the outcome is unknown to it.
    pub timeout: Placed<Span>,
}

/// Weights; their sum is the whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// Unconditional writes.
    pub put: u32,
    /// Reads.
    pub get: u32,
    /// Compare-and-swaps.
    pub cas: u32,
    /// Removals.
    pub delete: u32,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// There is one order of all operations that explains every answer and agrees with real time.
    pub linearizable: bool,
    /// Whether an acknowledged write may be missing at the end.
    pub lost_writes: LostWrites,
    /// No term ever has two leaders, and no node ever goes back.
    pub one_leader_per_term: bool,
    /// All nodes end up with the same state, by then after the load.
    pub converges: Within,
    /// After each fault, a write succeeds within this time of its healing.
    pub recovers_within: Within,
    /// Fewer acknowledged operations than this leave the run inconclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_acknowledged: Option<u64>,
}

/// See [`Checks::lost_writes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostWrites {
    /// None may be.
    None,
    /// Not looked at.
    Allow,
}

/// Who decides when the next operation starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A plan with this many operations a second.
    Open(f64),
    /// The previous answer.
    Closed,
}

impl Workload {
    /// The rate of an open loop that does not name one.
    pub(super) const RATE_DEFAULT: Rate = Rate(400.0);

    /// Open or closed loop.
    pub fn pace(&self) -> Pace {
        match &self.rate {
            _ if self.closed.value => Pace::Closed,
            Some(rate) => Pace::Open(rate.0),
            None => Pace::Open(Self::RATE_DEFAULT.0),
        }
    }
}

impl Mix {
    /// Sum of the weights.
    pub fn total(&self) -> u64 {
        [self.put, self.get, self.cas, self.delete]
            .into_iter()
            .map(u64::from)
            .sum()
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: 3.into(),
            target: Store::Raft.into(),
        }
    }
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            mix: Mix {
                put: 50,
                get: 40,
                cas: 10,
                delete: 0,
            }
            .into(),
            keys: 16.into(),
            clients: 8.into(),
            rate: None,
            closed: false.into(),
            value_size: 64.into(),
            timeout: Span(Duration::from_secs(1)).into(),
        }
    }
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            linearizable: true,
            lost_writes: LostWrites::None,
            one_leader_per_term: true,
            converges: Within::DEFAULT,
            recovers_within: Within::DEFAULT,
            min_acknowledged: None,
        }
    }
}
