//! Kinds of stores, as seen on the wire.
//!
//! A target is a dialect: which method an operation calls, how its request is written and its answer read, what an error
//! says about whether the operation happened, and who leads. It has no connection, no clock and no state; everything
//! else (connections, leader following, deadlines, retries, counting) is the same for all of them.
//!
//! Promises that every target keeps: a refusal counts as *not executed* only if the store certainly did not execute the
//! operation; whatever is unclear is ambiguous.
//!
//! # Adding one
//!
//! A target is one file. `echo.rs` is the smallest that is complete, and made to be copied:
//! 1. Implement [`Target`] in a file of its own: `method` and `encode` for what is sent, `answer` for what comes back (the
//!    hot path: nothing is allocated there but a value that was read), `disposition` for what an error means.
//!    `protobuf.rs` writes and reads fields. In doubt an error is ambiguous: a write that is taken for not executed and
//!    was executed after all makes the history a lie.
//! 2. Implement [`Launch`] beside it if a cluster of it can be started on this machine: which command is a node.
//! 3. Register it here: a `mod` line and a line in [`targets`].
//!
//! From then on its scheme is understood wherever a target can be named (see [`Endpoints`]):
//!
//! ```
//! use loadgen::target::Endpoints;
//!
//! let given: Endpoints = "etcd://10.0.0.1:2379,10.0.0.2:2379".parse()?;
//! assert_eq!(given.target().scheme(), "etcd");
//! assert_eq!(given.addresses(), ["10.0.0.1:2379", "10.0.0.2:2379"]);
//! assert!("echo://".parse::<Endpoints>()?.wants_local_cluster());
//! assert!("redis://10.0.0.1:6379".parse::<Endpoints>().is_err());
//! # Ok::<(), loadgen::target::InvalidEndpoints>(())
//! ```

mod echo;
mod endpoints;
mod etcd;
mod local;
mod null;
mod protobuf;
mod raft;

use std::fmt;
use std::sync::Arc;

use reports::record::Operation;
use thiserror::Error;

use crate::client::Call;
use crate::outcome::{Answer, Disposition};
use crate::wire::{Method, RpcStatus};

pub use echo::Echo;
pub use endpoints::{ENDPOINTS_MAX, Endpoints, InvalidEndpoints};
pub use etcd::Etcd;
pub(crate) use local::serve_echo;
pub use local::{
    Description, Launch, LocalCluster, LocalError, LocalNode, LocalOptions, NodeCommand, Plan, Program, Seat,
};
pub use null::Null;
pub use raft::Raft;

/// Every kind of store that is known, the usual one first.
pub fn targets() -> [Arc<dyn Target>; 4] {
    [Arc::new(Raft), Arc::new(Etcd), Arc::new(Echo), Arc::new(Null)]
}

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

    /// Whether it answers inside this process, without any connection: [`Target::answer`] is called with an empty body.
    fn is_in_process(&self) -> bool {
        false
    }

    /// How a cluster of it is started on this machine; nothing if that cannot be done or is not needed.
    fn launch(&self) -> Option<&dyn Launch> {
        None
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
