//! Client requests between their arrival and their answer.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use super::{Answer, Failure, Written};
use crate::kv::{Reply, Store, Versioned};
use crate::raft::{Entry, Index, Position, ReadToken, Term};

type WriteReply = oneshot::Sender<Result<Answer<Written>, Failure>>;
type ReadReply = oneshot::Sender<Result<Answer<Versioned>, Failure>>;

/// Writes that stand in the log and are not applied yet, in order of their index.
#[derive(Default)]
pub(super) struct Writes {
    waiting: VecDeque<(Position, WriteReply)>,
}

impl Writes {
    pub(super) fn push(&mut self, position: Position, reply: WriteReply) {
        self.waiting.push_back((position, reply));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// An entry was applied: answers whoever waits for that index. The same index with another term means that the
    /// write was cut from the log and never happened.
    pub(super) fn applied(&mut self, entry: &Entry, outcome: Option<Reply>, term: Term) {
        if self
            .waiting
            .front()
            .is_none_or(|(position, _)| position.index > entry.index)
        {
            return;
        }
        let (position, reply) = self.waiting.pop_front().expect("the front was just seen");
        assert_eq!(
            position.index, entry.index,
            "entries are applied without gaps, so no write is passed over"
        );
        let result = match outcome {
            Some(outcome) if position == entry.position() => Ok(Answer {
                term,
                value: Written {
                    index: entry.index,
                    reply: outcome,
                },
            }),
            _ => Err(Failure::Replaced { term }),
        };
        // A client that stopped waiting needs no answer.
        let _ = reply.send(result);
    }

    /// This node can no longer tell what becomes of them.
    pub(super) fn lose_all(&mut self, term: Term) {
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Err(Failure::Lost { term }));
        }
    }
}

/// Reads, first until the core confirms them, then until the map has caught up. All reads taken in one turn of the
/// node share a token.
#[derive(Default)]
pub(super) struct Reads {
    next_token: ReadToken,
    asked: BTreeMap<ReadToken, Vec<(String, ReadReply)>>,
    confirmed: VecDeque<(Index, Vec<(String, ReadReply)>)>,
}

impl Reads {
    pub(super) fn next_token(&mut self) -> ReadToken {
        self.next_token += 1;
        self.next_token
    }

    pub(super) fn ask(&mut self, token: ReadToken, reads: Vec<(String, ReadReply)>) {
        self.asked.insert(token, reads);
    }

    pub(super) fn confirm(&mut self, token: ReadToken, index: Index) {
        let reads = self
            .asked
            .remove(&token)
            .expect("the core confirms only what it was asked, once");
        self.confirmed.push_back((index, reads));
    }

    /// Answers what the map has caught up with. Indexes are confirmed in order, so the first that is too far ends it.
    pub(super) fn answer(&mut self, store: &Store, term: Term) {
        while self
            .confirmed
            .front()
            .is_some_and(|(index, _)| *index <= store.applied())
        {
            let (_, reads) = self.confirmed.pop_front().expect("the front was just seen");
            for (key, reply) in reads {
                let _ = reply.send(Ok(Answer {
                    term,
                    value: store.get(&key),
                }));
            }
        }
    }

    pub(super) fn fail(&mut self, token: ReadToken, failure: &Failure) {
        for (_, reply) in self.asked.remove(&token).unwrap_or_default() {
            let _ = reply.send(Err(failure.clone()));
        }
    }
}
