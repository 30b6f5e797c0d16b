//! Unary gRPC calls over HTTP/2, for a client that makes very many of them.
//!
//! A general client spends most of its time on what a load generator does not need: a task, a timer and a header map for
//! each call. Here, a call is written straight into the connection's buffer, many calls leave in one system call, headers
//! that repeat are neither written nor read again, and answers come back as batches.
//!
//! Promises that a call counts as *not sent* only if the far side certainly did not act on it, and as *lost* wherever that
//! is not certain; that every call ends exactly once; that everything it queues is bounded. Never speaks TLS, never
//! streams, never retries.

mod completions;
mod connection;
mod core;
mod frame;
mod hpack;
mod huffman;
mod response;
mod silence;

use std::fmt;
use std::time::Duration;

pub use self::core::{Cancelled, Core, Sink, StreamId};
pub use completions::{Completion, Completions};
pub use connection::{CallId, Connection};

/// A method that can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(&'static str);

impl Method {
    /// By its path, such as `/raft.KeyValueService/Put`.
    pub const fn new(path: &'static str) -> Method {
        Method(path)
    }

    /// Its path.
    pub fn path(self) -> &'static str {
        self.0
    }
}

/// How a connection behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Longest attempt to connect.
    pub connect_timeout: Duration,
    /// With calls out, silence for this long makes it ask whether the far side is there; for as long again, give up.
    pub keep_alive: Duration,
    /// Calls that may wait for the far side to allow more at a time; further ones count as not sent.
    pub waiting_max: usize,
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Prefix and message.
    message: Vec<u8>,
}

impl Answer {
    /// The message.
    pub fn body(&self) -> &[u8] {
        &self.message[response::PREFIX_BYTES..]
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The far side certainly did not act on it.
    NotSent {
        /// What happened.
        reason: String,
    },
    /// The connection or the stream ended, and nobody knows what became of it.
    Lost {
        /// What happened.
        reason: String,
    },
    /// The far side answered with an error.
    Status(Box<RpcStatus>),
    /// What came is no answer.
    Protocol {
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    fn not_sent(reason: &str) -> CallError {
        let reason = reason.to_owned();
        CallError::NotSent { reason }
    }

    fn lost(reason: &str) -> CallError {
        let reason = reason.to_owned();
        CallError::Lost { reason }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NotSent { reason } | CallError::Lost { reason } | CallError::Protocol { reason } => {
                f.write_str(reason)
            }
            CallError::Status(status) => write!(f, "{}: {}", status.name(), status.message),
        }
    }
}

impl std::error::Error for CallError {}

/// An error that the far side sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcStatus {
    /// Status code of gRPC, never zero.
    pub code: u32,
    /// Its message, for people.
    pub message: String,
    /// All other fields that came with it.
    pub metadata: Vec<(String, String)>,
}

impl RpcStatus {
    /// The first field of this name that is not empty.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.metadata.iter().find(|(key, _)| key == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The code as gRPC calls it.
    pub fn name(&self) -> &'static str {
        const NAMES: [&str; 17] = [
            "Ok",
            "Cancelled",
            "Unknown",
            "InvalidArgument",
            "DeadlineExceeded",
            "NotFound",
            "AlreadyExists",
            "PermissionDenied",
            "ResourceExhausted",
            "FailedPrecondition",
            "Aborted",
            "OutOfRange",
            "Unimplemented",
            "Internal",
            "Unavailable",
            "DataLoss",
            "Unauthenticated",
        ];
        NAMES.get(self.code as usize).copied().unwrap_or("Unknown")
    }
}
