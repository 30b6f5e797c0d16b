//! `manifest.json`: who ran what, where.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Nanos;

/// Who ran what, where, and how to run it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// [`super::SCHEMA_VERSION`] of the writer.
    pub schema: u32,
    /// Load or chaos.
    pub kind: RunKind,
    /// Name of the run or scenario.
    pub name: String,
    /// One sentence on what it is meant to show; may be empty.
    pub about: String,
    /// Wall-clock start, RFC 3339 in UTC.
    pub started_at: String,
    /// From start to end of the load, in nanoseconds.
    pub duration: Nanos,
    /// Everything random in the run follows from it.
    pub seed: u64,
    /// The command that repeats the run, seed included.
    pub command: Vec<String>,
    /// Version of the tool that ran it.
    pub tool_version: String,
    /// Git commit of the working tree it ran in, with `-dirty` where it had changes; absent outside a checkout.
    pub commit: Option<String>,
    /// SHA-256 of the executable, in hex.
    pub binary_sha256: Option<String>,
    /// Where it ran.
    pub machine: Machine,
    /// The nodes it ran against.
    pub nodes: Vec<NodeInfo>,
    /// The whole resolved configuration (scenario or load options), as the tool understood it.
    pub configuration: serde_json::Value,
    /// The run was interrupted: what follows is what there was by then.
    pub partial: bool,
}

/// What kind of run a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// `loadgen run`.
    Load,
    /// `chaos run`.
    Chaos,
}

/// The machine a run was made on. A field that could not be read is absent, never guessed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// Kernel and release.
    pub os: Option<String>,
    /// Processor model.
    pub cpu: Option<String>,
    /// Logical processors that this process may use.
    pub cores: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Load average over one minute when the run began.
    pub load_average: Option<f64>,
    /// Median and 99th percentile of `fdatasync` after a 4 KiB write in the run's folder, in nanoseconds.
    pub fsync_p50: Option<Nanos>,
    /// See `fsync_p50`.
    pub fsync_p99: Option<Nanos>,
}

/// One node under test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeInfo {
    /// Its identifier, for example `n1`; the endpoint itself where the node never told.
    pub id: String,
    /// Address that clients used.
    pub endpoint: String,
}
