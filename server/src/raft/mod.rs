//! The Raft core: one node's part of the protocol as a function of events.
//!
//! A [`Core`] is told what happened (a tick of the clock, a message, a proposal, a read, the disk's progress) and
//! says, when polled, what to do about it: messages to send, one request to the disk, entries to apply, reads to
//! answer. It has no clock, no disk, no socket, no threads, no `async` and no randomness but its seed; it iterates over
//! nothing whose order is left to chance. The same events give the same output, always.
//!
//! The rules that keep it correct while disk and network work in parallel:
//!
//! * **Two outboxes.** A leader's entries leave before its own disk has them. Answers that promise something (a vote,
//!   a matching log) are held back until the disk has what they promise, rejections included.
//! * **One ordered queue to the disk** for vote, truncation and append, numbered without gaps. "Durable up to n" is
//!   cumulative, so a completion can be late but never out of order.
//! * **A node's own vote and its own copy count like anybody's**: when they are durable, not before. A cluster of one
//!   goes the same way.
//! * **Commit** only by way of an entry of the leader's own term (§5.4.2), of which every leader appends one first.
//! * **Reads** wait for a majority to confirm, after the read arrived, that the leader still leads, and for the state
//!   machine to reach the commit index of that moment; followers ask their leader for that index. A lease does without
//!   the majority, for those who trust clocks.
//! * **The log may begin behind a snapshot**; what lies before is committed, so it matches any leader's.
//! * **A configuration counts as soon as it is in the log**, and no more when it is cut from it (§6). Changes of the right
//!   to vote go through a joint configuration. Until the log holds a first one, as many nodes vote as each was told.
//! * **A disk that lost what it acknowledged** is told by its node: it does not campaign and votes for nobody who lacks
//!   what it may have promised, until a leader has refilled its log.
//!
//! Elections ask first (pre-vote), a leader that does not hear from a majority gives up its office (check-quorum),
//! and nobody helps to depose a leader that is alive. Together they keep a node with a bad link from disturbing the
//! rest, and a cut-off leader from misleading its clients for long.
//!
//! What a broken invariant means: the core panics with the numbers, and the node stops. What a peer sends is never
//! trusted that far: a message that makes no sense is ignored, and one that proves that somebody breaks the protocol (two
//! leaders in a term, another past than the committed one) is not taken in but reported, as a [`Violation`].

mod change;
mod config;
mod core;
mod election;
mod follower;
mod log;
mod membership;
mod message;
mod output;
mod progress;
mod quorum;
mod reads;
mod replication;
mod snapshots;
mod transfer;
mod types;
mod view;
mod violation;

#[cfg(test)]
mod tests;

pub use self::core::{Core, Epoch};
pub use change::{Change, ChangeRefused};
pub use config::Config;
pub use membership::{Configuration, Member, NoConfiguration};
pub use message::{
    AppendRequest, AppendResponse, AppendResult, Heartbeat, HeartbeatResponse, Message, ReadIndexRequest,
    ReadIndexResponse, VoteRequest, VoteResponse,
};
pub use output::{Output, ReadToken, Refused, RoleKind};
pub use transfer::TransferRefused;
pub use types::{
    Entry, EntryKind, HardState, Index, Io, IoSeq, NodeId, Position, Recovered, SnapshotMeta, Term,
};
pub use violation::Violation;
