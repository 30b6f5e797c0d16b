//! The wire of Whitewater, generated from the `.proto` files in this folder.
//!
//! [`raft`] is what clients see (`kv.proto`, `admin.proto`, `state.proto`), [`peer`] what the nodes of one cluster say to each other
//! (`peer.proto`), [`storage`] what they write into their logs (`storage.proto`), [`agent`] how load generators work together (`agent.proto`).
//! The `.proto` files are the documentation: read those.

// Generated code answers to its generator, not to the lints of this house.
#![allow(missing_docs, unreachable_pub, clippy::all)]

mod codec;

/// What clients see: `raft.KeyValueService`.
pub mod raft {
    tonic::include_proto!("raft");
}

/// What nodes say to each other: `raft.peer.PeerService`.
pub mod peer {
    tonic::include_proto!("raft.peer");
}

/// What nodes keep in their logs.
pub mod storage {
    tonic::include_proto!("raft.storage");
}

/// How a load run is spread over machines: `loadgen.AgentService`.
pub mod agent {
    tonic::include_proto!("loadgen");
}

/// The descriptors of everything above, for server reflection.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("descriptors");

/// Names of the gRPC metadata that accompanies an error; the values are described in `kv.proto`.
pub mod metadata {
    /// Whether the refused operation took effect: [`NOT_EXECUTED`] or [`UNKNOWN`].
    pub const OUTCOME: &str = "raft-outcome";
    /// Value of [`OUTCOME`]: the operation did not happen and never will. Safe to retry.
    pub const NOT_EXECUTED: &str = "not-executed";
    /// Value of [`OUTCOME`]: the operation may have happened, may happen later, or may never happen.
    pub const UNKNOWN: &str = "unknown";
    /// Identifier of the node believed to lead, for example `node2`.
    pub const LEADER_ID: &str = "raft-leader-id";
    /// Address of that node as the answering node knows it, for example `localhost:50052`.
    pub const LEADER_ADDRESS: &str = "raft-leader-address";
    /// Term in which the answering node is.
    pub const TERM: &str = "raft-term";
    /// Why an operation was refused, where a program should tell: one of the following.
    pub const REASON: &str = "raft-reason";
    /// Value of [`REASON`]: the session is unknown, closed, or was evicted.
    pub const SESSION_EXPIRED: &str = "session-expired";
    /// Value of [`REASON`]: the command was carried out before, and the client has acknowledged its reply.
    pub const REPLY_FORGOTTEN: &str = "reply-forgotten";
    /// Value of [`REASON`]: the leader is handing over its office.
    pub const TRANSFERRING: &str = "transferring";
    /// Value of [`REASON`]: the leader's disk is full.
    pub const DISK_FULL: &str = "disk-full";
    /// With OUT_OF_RANGE on a watch: the first index from which this node can still begin.
    pub const FIRST_INDEX: &str = "raft-first-index";
}
