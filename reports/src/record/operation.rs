//! What a load does to a store, and how each of its operations ended: two closed lists that every count, histogram and
//! threshold of a load run uses.
//!
//! Never used in a history: there, only what one key's register understands occurs ([`Function`]).

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Function;

/// What a load does to a store. Older records call a get `read` and a put `write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Linearizable read of one key.
    #[serde(alias = "read")]
    Get,
    /// Unconditional write of a key that the run knows.
    #[serde(alias = "write")]
    Put,
    /// Unconditional write of a key that is new.
    Insert,
    /// Compare-and-swap.
    Cas,
    /// Removal.
    Delete,
    /// Read of consecutive keys.
    Scan,
    /// A read, and a write of the same key when it has been answered; one operation, and timed as its two parts too.
    Rmw,
}

impl Operation {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Operation; 7] = [
        Operation::Get,
        Operation::Put,
        Operation::Insert,
        Operation::Cas,
        Operation::Delete,
        Operation::Scan,
        Operation::Rmw,
    ];

    /// The name that record, command line and pages share.
    pub fn as_str(self) -> &'static str {
        match self {
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::Insert => "insert",
            Operation::Cas => "cas",
            Operation::Delete => "delete",
            Operation::Scan => "scan",
            Operation::Rmw => "rmw",
        }
    }

    /// Whether it changes the store.
    pub fn is_write(self) -> bool {
        !matches!(self, Operation::Get | Operation::Scan)
    }

    /// What it is in a history; nothing for what is not one operation on one key there.
    pub fn function(self) -> Option<Function> {
        match self {
            Operation::Get => Some(Function::Read),
            Operation::Put | Operation::Insert => Some(Function::Write),
            Operation::Cas => Some(Function::Cas),
            Operation::Delete => Some(Function::Delete),
            Operation::Scan | Operation::Rmw => None,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Function> for Operation {
    fn from(function: Function) -> Operation {
        match function {
            Function::Read => Operation::Get,
            Function::Write => Operation::Put,
            Function::Cas => Operation::Cas,
            Function::Delete => Operation::Delete,
        }
    }
}

/// How an operation ended, in detail. The first four were answered and count as `ok` in
/// [`Counts`](super::Counts); latencies called *ok* are those of the first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// The store did it.
    Ok,
    /// A read or a removal of a key that was not there.
    NotFound,
    /// A compare-and-swap met another value.
    CasConflict,
    /// The answer carried a value that nobody can have written there.
    Integrity,
    /// The generator's own deadline passed while an attempt was out.
    TimeoutClient,
    /// The far side reported that the deadline had passed.
    TimeoutServer,
    /// No node took it before the deadline: none led, or none could be reached.
    Unavailable,
    /// Every node asked before the deadline pointed to another one.
    NotLeader,
    /// The store had too much to do until the deadline.
    Overloaded,
    /// The connection broke with the request on it.
    Transport,
    /// Connections were refused until the deadline; it never left.
    Refused,
    /// The store refused it for good, before execution.
    Rejected,
    /// The store said that it does not know whether it happened.
    Unsure,
    /// An error that does not say whether the operation took effect.
    Unlabelled,
    /// The far side cancelled it.
    Cancelled,
    /// Planned, but given up before it was sent, because too much was in flight or the run ended.
    Shed,
    /// Still open when the run ended; its latency is its age.
    Unfinished,
}

impl OutcomeKind {
    /// All of them, in the order in which they are listed.
    pub const ALL: [OutcomeKind; 17] = [
        OutcomeKind::Ok,
        OutcomeKind::NotFound,
        OutcomeKind::CasConflict,
        OutcomeKind::Integrity,
        OutcomeKind::TimeoutClient,
        OutcomeKind::TimeoutServer,
        OutcomeKind::Unavailable,
        OutcomeKind::NotLeader,
        OutcomeKind::Overloaded,
        OutcomeKind::Transport,
        OutcomeKind::Refused,
        OutcomeKind::Rejected,
        OutcomeKind::Unsure,
        OutcomeKind::Unlabelled,
        OutcomeKind::Cancelled,
        OutcomeKind::Shed,
        OutcomeKind::Unfinished,
    ];

    /// The name that record, logs, thresholds and pages share.
    pub fn as_str(self) -> &'static str {
        match self {
            OutcomeKind::Ok => "ok",
            OutcomeKind::NotFound => "not_found",
            OutcomeKind::CasConflict => "cas_conflict",
            OutcomeKind::Integrity => "integrity",
            OutcomeKind::TimeoutClient => "timeout_client",
            OutcomeKind::TimeoutServer => "timeout_server",
            OutcomeKind::Unavailable => "unavailable",
            OutcomeKind::NotLeader => "not_leader",
            OutcomeKind::Overloaded => "overloaded",
            OutcomeKind::Transport => "transport",
            OutcomeKind::Refused => "refused",
            OutcomeKind::Rejected => "rejected",
            OutcomeKind::Unsure => "unsure",
            OutcomeKind::Unlabelled => "unlabelled",
            OutcomeKind::Cancelled => "cancelled",
            OutcomeKind::Shed => "shed",
            OutcomeKind::Unfinished => "unfinished",
        }
    }

    /// Whether the store gave a good answer: its latency belongs to the *ok* percentiles.
    pub fn is_good(self) -> bool {
        matches!(
            self,
            OutcomeKind::Ok | OutcomeKind::NotFound | OutcomeKind::CasConflict
        )
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_record_and_older_ones_are_understood() {
        for operation in Operation::ALL {
            let text = format!("\"{operation}\"");
            assert_eq!(serde_json::to_string(&operation).ok(), Some(text.clone()));
            assert_eq!(serde_json::from_str::<Operation>(&text).ok(), Some(operation));
        }
        for outcome in OutcomeKind::ALL {
            assert_eq!(
                serde_json::to_string(&outcome).ok(),
                Some(format!("\"{outcome}\""))
            );
        }
        assert_eq!(
            serde_json::from_str::<Operation>("\"read\"").ok(),
            Some(Operation::Get)
        );
        assert_eq!(
            serde_json::from_str::<Operation>("\"write\"").ok(),
            Some(Operation::Put)
        );
    }

    #[test]
    fn what_a_history_knows_comes_back_as_the_same_function() {
        for function in [Function::Read, Function::Write, Function::Cas, Function::Delete] {
            assert_eq!(Operation::from(function).function(), Some(function));
        }
        assert_eq!(Operation::Scan.function(), None);
        assert_eq!(Operation::Insert.function(), Some(Function::Write));
    }
}
