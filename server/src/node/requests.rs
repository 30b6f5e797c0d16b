//! What clients ask of a node, and what they are answered.

use proto::raft::Consistency;
use proto::storage::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::kv::{Applied, Events, Scanned, Store, TooOld, Versioned};
use crate::raft::{Index, Term};

/// What clients ask of a node.
pub(crate) enum ClientRequest {
    Write {
        command: Command,
        deadline: Option<Instant>,
        reply: Responder,
    },
    Read(ReadRequest),
    /// What arrived together.
    Several(Vec<ClientRequest>),
    Events {
        prefix: String,
        from: Index,
        bytes_max: usize,
        reply: oneshot::Sender<(Term, Result<Events, TooOld>)>,
    },
}

/// A read on its way.
pub(crate) struct ReadRequest {
    pub(crate) query: Query,
    pub(crate) consistency: Consistency,
    pub(crate) deadline: Option<Instant>,
    pub(crate) reply: Responder,
}

/// What is to be read.
pub(crate) enum Query {
    Key(String),
    Range {
        start: String,
        end: Option<String>,
        keys_max: usize,
        bytes_max: usize,
    },
}

impl Query {
    pub(super) fn run(&self, store: &Store) -> Read {
        match self {
            Query::Key(key) => Read::Key(store.get(key)),
            Query::Range {
                start,
                end,
                keys_max,
                bytes_max,
            } => Read::Range(store.scan(start, end.as_deref(), *keys_max, *bytes_max)),
        }
    }
}

/// Where an answer goes.
pub(crate) enum Responder {
    /// To the one who waits for it.
    One(oneshot::Sender<Result<Answer<Answered>, Failure>>),
    /// To those who wait for many, with the number of the request.
    Batch(
        u64,
        mpsc::UnboundedSender<(u64, Result<Answer<Answered>, Failure>)>,
    ),
}

impl Responder {
    pub(crate) fn one() -> (Responder, oneshot::Receiver<Result<Answer<Answered>, Failure>>) {
        let (reply, answer) = oneshot::channel();
        (Responder::One(reply), answer)
    }

    /// Answers. A client that stopped waiting needs none.
    pub(crate) fn send(self, answer: Result<Answer<Answered>, Failure>) {
        match self {
            Responder::One(reply) => drop(reply.send(answer)),
            Responder::Batch(id, results) => drop(results.send((id, answer))),
        }
    }

    /// Whether nobody waits any more.
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Responder::One(reply) => reply.is_closed(),
            Responder::Batch(_, results) => results.is_closed(),
        }
    }
}

/// An answer and the term in which the node gave it.
#[derive(Debug, Clone)]
pub(crate) struct Answer<T> {
    pub(crate) term: Term,
    pub(crate) value: T,
}

/// What an answer holds.
#[derive(Debug, Clone)]
pub(crate) enum Answered {
    Applied(Applied),
    Found(Found),
}

impl Answer<Answered> {
    /// The answer to a write.
    pub(crate) fn into_applied(self) -> Answer<Applied> {
        let Answered::Applied(value) = self.value else {
            panic!("a write is answered by what it did")
        };
        Answer {
            term: self.term,
            value,
        }
    }

    /// The answer to a read.
    pub(crate) fn into_found(self) -> Answer<Found> {
        let Answered::Found(value) = self.value else {
            panic!("a read is answered by what it found")
        };
        Answer {
            term: self.term,
            value,
        }
    }
}

/// What a read found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) read: Read,
    /// How fresh it is.
    pub(crate) consistency: Consistency,
    /// Everything up to here was applied.
    pub(crate) applied: Index,
}

#[derive(Debug, Clone)]
pub(crate) enum Read {
    Key(Versioned),
    Range(Scanned),
}

/// Why a request got no answer, and whether it may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Did not happen: this node does not lead.
    NotLeader {
        term: Term,
        leader: Option<(String, String)>,
    },
    /// Did not happen: too much waits already.
    Overloaded,
    /// Did not happen: the leader is handing over its office.
    Transferring,
    /// Did not happen: the disk is full.
    DiskFull,
    /// Did not happen: the node is stopping.
    Stopping,
    /// Did not happen: another leader's entry took its place in the log.
    Replaced { term: Term },
    /// May have happened, or may still: leadership was lost, or the node stopped, with the write in the log.
    Lost { term: Term },
    /// May have happened, or may still: the node ended before it said what came of it.
    Vanished,
    /// The caller's deadline has passed. A write that was begun may have happened, or may still.
    TooLate { begun: bool },
    /// Did not happen: the cluster, as it is, does not allow it, for this reason.
    Forbidden(String),
    /// Did not happen: what was tried did not succeed, for this reason; trying again may help.
    Failed(String),
}
