//! The run folder: what every run, of load or chaos, leaves behind.
//!
//! | file | type | holds |
//! |---|---|---|
//! | `manifest.json` | [`Manifest`] | who ran what, on which machine, with which seed and configuration |
//! | `history.jsonl` | [`Event`] a line | every operation: invocation and completion, in Jepsen's model |
//! | `latency.hlog` | HdrHistogram interval log | nanoseconds, one tag for each operation, outcome and measure |
//! | `load.json` | [`Load`] | counts and percentiles, whole run and per interval |
//! | `resources.json` | [`Resources`] | CPU, memory and disk of client and servers over time, and what limited the run |
//! | `timeline.json` | [`Timeline`] | faults with their measured effect, role and term of each node |
//! | `verdict.json` | [`Verdict`] | the outcome, check by check |
//! | `report.html` | | the page |
//! | `nodes/<id>/` | | data and log of each node |
//!
//! All times are nanoseconds since the start of the run, from one monotonic clock ([`Nanos`]).
//! A reader ignores fields it does not know and refuses a `schema` above its own [`SCHEMA_VERSION`].

mod digest;
mod error;
mod folder;
mod history;
mod journal;
mod load;
mod manifest;
mod operation;
mod probe;
mod resources;
mod run;
mod threshold;
mod timeline;
mod verdict;

pub use digest::HistoryDigest;
pub use error::RecordError;
pub use folder::{
    DEFAULT_RUNS_ROOT, HISTORY_FILE, LATENCY_FILE, LOAD_FILE, MANIFEST_FILE, REPORT_FILE, RunFolder,
    TIMELINE_FILE, VERDICT_FILE, default_run_path, rfc3339,
};
pub use history::{Event, EventKind, Function, Value};
pub use journal::{History, HistoryReader, HistoryWriter, TornLine};
pub use load::{
    Confidence, Counts, EndpointLoad, Interval, Lag, Load, LoadPhase, LoadVerdict, LoopKind, Measure,
    OperationLoad, OutcomeLoad, Percentiles, TermLoad,
};
pub use manifest::{Machine, Manifest, NodeInfo, RunKind};
pub use operation::{Operation, OutcomeKind};
pub use probe::{FSYNC_PROBE_WRITES, binary_sha256, git_commit};
pub use resources::{
    Bottleneck, BottleneckKind, FsyncUse, MachineSample, MachineUse, ProcessRole, ProcessSample, ProcessUse,
    RESOURCES_FILE, ResourceSample, Resources, SAMPLES_MAX, THREADS_LISTED_MAX, ThreadUse,
};
pub use run::Run;
pub use threshold::{ThresholdResult, ThresholdUnit, ThresholdVerdict};
pub use timeline::{Evidence, FaultWindow, NodeSample, Phase, Recovery, Role, Timeline};
pub use verdict::{Check, CheckStatus, Outcome, Verdict, Witness};

/// Nanoseconds since the start of the run.
pub type Nanos = u64;

/// Version of the schema that this crate writes.
pub const SCHEMA_VERSION: u32 = 1;
