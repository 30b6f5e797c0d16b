//! What nodes say to each other, as plain data.

use std::sync::Arc;

use super::types::{Entry, Index, Position, Term};

/// A message between two nodes. Requests go from the node that dialled; each response answers a request and returns
/// on the connection it came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Asks for a vote, or whether one would be given.
    VoteRequest(VoteRequest),
    /// Answers it.
    VoteResponse(VoteResponse),
    /// Entries for the log.
    AppendRequest(AppendRequest),
    /// How far the log matches, durably; or that it does not.
    AppendResponse(AppendResponse),
    /// The leader is alive.
    Heartbeat(Heartbeat),
    /// So is the follower.
    HeartbeatResponse(HeartbeatResponse),
    /// Stand for election now: the leader hands its office over.
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
    /// A follower wants to serve reads.
    ReadIndexRequest(ReadIndexRequest),
    /// From which index on it may.
    ReadIndexResponse(ReadIndexResponse),
}

impl Message {
    /// Log traffic, as opposed to votes and heartbeats, which must never wait behind it.
    pub fn is_append(&self) -> bool {
        matches!(self, Message::AppendRequest(_) | Message::AppendResponse(_))
    }

    /// Whether this answers a request.
    pub fn is_response(&self) -> bool {
        matches!(
            self,
            Message::VoteResponse(_)
                | Message::AppendResponse(_)
                | Message::HeartbeatResponse(_)
                | Message::ReadIndexResponse(_)
        )
    }
}

/// See `peer.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteRequest {
    /// Term that the candidate is in or, in a pre-vote, would enter.
    pub term: Term,
    /// End of the candidate's log.
    pub last: Position,
    /// Only asks; changes nothing at the voter.
    pub pre_vote: bool,
    /// The leader asked the candidate to take over.
    pub transfer: bool,
}

/// See `peer.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VoteResponse {
    /// Granted: the term asked for. Refused: the voter's own.
    pub term: Term,
    /// Whether the vote was given.
    pub granted: bool,
    /// Copied from the request.
    pub pre_vote: bool,
}

/// See `peer.proto`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendRequest {
    /// The leader's term.
    pub term: Term,
    /// Position right before the first entry.
    pub prev: Position,
    /// Contiguous entries, possibly none.
    pub entries: Arc<[Entry]>,
    /// The leader's commit index.
    pub commit: Index,
    /// Latest read round of the leader.
    pub read_seq: u64,
}

/// See `peer.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendResponse {
    /// The responder's term.
    pub term: Term,
    /// How far the logs agree, or why they do not.
    pub result: AppendResult,
    /// Copied from the request.
    pub read_seq: u64,
}

/// Outcome of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendResult {
    /// Everything up to here matches the leader's log and is on the responder's disk.
    Matched(Index),
    /// `rejected` (the request's previous index) does not match; `hint` is the last position at or before it whose
    /// term is not above the leader's.
    Rejected {
        /// Previous index of the request.
        rejected: Index,
        /// Where to try next.
        hint: Position,
    },
}

/// See `peer.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// The leader's commit index, but never past what it knows the receiver to hold.
    pub commit: Index,
    /// Latest read round of the leader.
    pub read_seq: u64,
}

/// See `peer.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatResponse {
    /// The responder's term.
    pub term: Term,
    /// Copied from the request.
    pub read_seq: u64,
    /// The responder should not lead.
    pub unfit: bool,
}

/// See `peer.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIndexRequest {
    /// The follower's term.
    pub term: Term,
    /// Never used twice, not even by two processes of one node.
    pub id: u64,
}

/// See `peer.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIndexResponse {
    /// The responder's term.
    pub term: Term,
    /// Copied from the request.
    pub id: u64,
    /// The index to wait for; `None` if the responder does not lead.
    pub index: Option<Index>,
}
