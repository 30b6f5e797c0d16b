//! One plan, several machines: agents that make load on command, and the coordinator that makes one run of what they did.
//!
//! Promises: the operations of all agents together are exactly those of the one plan ([`crate::Share`]), and begin at a common
//! instant within the error that is stated for each agent's clock ([`ClockOffset`]); latencies are added up as histograms,
//! never as percentiles; if an agent is lost, the others are stopped and what came is marked as partial, because the result
//! is not the plan any more. An agent ends its run when its coordinator is gone.
//!
//! Never encrypts or asks who is there: whoever reaches an agent can make it send load, so it listens on the loopback unless
//! told otherwise. What the store is asked does not pass through the coordinator.

mod coordinator;
mod merge;
mod offset;
mod parcel;
mod service;
mod session;

pub use coordinator::{CoordinateError, Coordinated, LostAgent, SharedPlan, coordinate};
pub use merge::{Merged, PROCESSES_PER_AGENT};
pub use offset::{ClockOffset, Exchange};
pub use parcel::{AgentResult, RESULT_BYTES_MAX};
pub use service::serve;

/// Agents of one run, at most; more are refused.
pub const AGENTS_MAX: usize = 64;
