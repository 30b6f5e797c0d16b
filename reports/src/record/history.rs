//! `history.jsonl`: operations as clients saw them.

use serde::{Deserialize, Serialize};

use super::Nanos;

/// One line of the history: an operation begins or ends.
///
/// A process (one logical client) has at most one operation open. After [`EventKind::Info`] its identifier is
/// retired, because the operation may still take effect at any later time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The logical client.
    pub process: u64,
    /// Whether this begins or ends an operation, and how it ended.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// What the client asked for.
    pub f: Function,
    /// The key it is about.
    pub key: String,
    /// Written: the value to write. Read: nothing at invocation, the value seen at the end (`Absent` for a key
    /// that was not there). Compare-and-swap: `[expected, new]`.
    pub value: Value,
    /// When, on the run's monotonic clock.
    pub time: Nanos,
    /// Raft index carried by the answer: of the entry for writes, of the key's last mutation for reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// Node that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Term in which it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Why it failed or stayed unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// It begins.
    Invoke,
    /// It happened.
    Ok,
    /// It did not happen and never will.
    Fail,
    /// Unknown: it may have happened, or may still.
    Info,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Linearizable read of one key.
    Read,
    /// Unconditional write.
    Write,
    /// Compare-and-swap. A mismatch ends as `fail` with the value in the way as its `value`'s first element.
    Cas,
    /// Removal.
    Delete,
}

/// The value of an [`Event`]: `null`, `"v"`, or `["expected", "new"]` (either side may be `null`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// No value: a read that begins, a read of an absent key, a delete.
    Absent,
    /// One value.
    One(String),
    /// Expected and new value of a compare-and-swap.
    Pair(Option<String>, Option<String>),
}
