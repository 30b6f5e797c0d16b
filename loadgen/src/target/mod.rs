//! Kinds of stores, as seen on the wire.
//!
//! A target is a dialect: which method an operation calls, how its request is written and its answer read, what an error
//! says about whether the operation happened, and who leads. It has no connection, no clock and no state; everything
//! else (connections, leader following, deadlines, retries, counting) is the same for all of them.
//!
//! Promises that every target keeps: a refusal counts as *not executed* only if the store certainly did not execute the
//! operation; whatever is unclear is ambiguous.

mod protobuf;
mod raft;

use std::fmt;

use reports::record::Operation;
use thiserror::Error;

use crate::client::Call;
use crate::outcome::{Answer, Disposition};
use crate::wire::{Method, RpcStatus};

pub use raft::Raft;

/// A kind of store, as seen on the wire.
pub trait Target: fmt::Debug + Send + Sync + 'static {
    /// The scheme of its URLs, such as `raft`.
    fn scheme(&self) -> &'static str;

    /// Whether it has this operation. A mix with one that it lacks is refused before the run.
    fn supports(&self, operation: Operation) -> bool;

    /// The method that `call` goes to.
    fn method(&self, call: &Call) -> Method;

    /// Appends the request message of `call`.
    fn encode(&self, call: &Call, body: &mut Vec<u8>);

    /// Reads the answer to `call`.
    fn answer<'a>(&self, call: &Call, body: &'a [u8]) -> Result<Reply<'a>, Malformed>;

    /// What an error that the far side sent leaves the client to do.
    fn disposition(&self, status: &RpcStatus) -> Disposition;

    /// Identifier and address of the leader that a refusal points to.
    fn leader_hint<'a>(&self, status: &'a RpcStatus) -> (Option<&'a str>, Option<&'a str>);

    /// A question without effect that any node answers which is in service.
    fn probe(&self) -> Method;

    /// Appends the request message of the probe.
    fn encode_probe(&self, body: &mut Vec<u8>);

    /// Reads the answer to the probe.
    fn probed(&self, body: &[u8]) -> Result<Presence, Malformed>;

    /// Whether it answers inside this process, without any connection.
    fn is_in_process(&self) -> bool {
        false
    }
}

/// An answer and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What the store answered.
    pub answer: Answer,
    /// Node that answered; empty if the answer does not say.
    pub node: &'a str,
    /// Term in which it answered.
    pub term: Option<u64>,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Presence {
    /// Its identifier; empty if it does not say.
    pub node: String,
    /// Identifier of the leader it knows; empty if it knows none.
    pub leader: String,
    /// What it runs, such as `etcd 3.5.16`; empty if it does not say.
    pub software: String,
}

/// An answer that is not in the target's language.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the answer cannot be read: {0}")]
pub struct Malformed(pub String);
