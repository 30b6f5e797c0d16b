//! Client requests between their arrival and their answer.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::oneshot;

use super::{Answer, Failure};
use crate::kv::{Applied, Store, Versioned};
use crate::raft::{Entry, Index, Position, ReadToken, Term};

type WriteReply = oneshot::Sender<Result<Answer<Applied>, Failure>>;
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
    pub(super) fn applied(&mut self, entry: &Entry, outcome: Option<Applied>, term: Term) {
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
            Some(outcome) if position == entry.position() => Ok(Answer { term, value: outcome }),
            _ => Err(Failure::Replaced { term }),
        };
        // A client that stopped waiting needs no answer.
        let _ = reply.send(result);
    }

    /// This node leads in `leads` only, or not at all: it can no longer tell what becomes of the writes that it took in
    /// any other term.
    pub(super) fn lose_others(&mut self, leads: Option<Term>, term: Term) {
        // Those of an earlier term stand in front: indexes and terms grow together.
        while self
            .waiting
            .front()
            .is_some_and(|(position, _)| Some(position.term) != leads)
        {
            let (_, reply) = self.waiting.pop_front().expect("the front was just seen");
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

    /// Fails what is confirmed but waits for entries that this node, now that it no longer leads, may not see committed
    /// for a long time.
    pub(super) fn fail_confirmed(&mut self, failure: &Failure) {
        for (_, reply) in self.confirmed.drain(..).flat_map(|(_, reads)| reads) {
            let _ = reply.send(Err(failure.clone()));
        }
    }

    pub(super) fn fail(&mut self, token: ReadToken, failure: &Failure) {
        for (_, reply) in self.asked.remove(&token).unwrap_or_default() {
            let _ = reply.send(Err(failure.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::kv::Reply;

    fn position(term: Term, index: Index) -> Position {
        Position { term, index }
    }

    fn entry(term: Term, index: Index) -> Entry {
        Entry {
            term,
            index,
            kind: Default::default(),
            payload: Default::default(),
        }
    }

    fn put(index: Index) -> Option<Applied> {
        Some(Applied {
            index,
            reply: Reply::Put,
        })
    }

    fn write(writes: &mut Writes, at: Position) -> oneshot::Receiver<Result<Answer<Applied>, Failure>> {
        let (reply, answer) = oneshot::channel();
        writes.push(at, reply);
        answer
    }

    #[test]
    fn a_write_taken_in_with_the_last_vote_is_not_lost_with_the_change_of_office() {
        let mut writes = Writes::default();
        let mut old = write(&mut writes, position(1, 4));
        let mut new = write(&mut writes, position(3, 5));
        writes.lose_others(Some(3), 3);
        assert_eq!(old.try_recv().unwrap().unwrap_err(), Failure::Lost { term: 3 });
        assert!(new.try_recv().is_err(), "still waiting");
        writes.lose_others(None, 4);
        assert_eq!(new.try_recv().unwrap().unwrap_err(), Failure::Lost { term: 4 });
        assert!(writes.is_empty());
    }

    #[test]
    fn another_leaders_entry_in_its_place_means_that_a_write_never_happened() {
        let mut writes = Writes::default();
        let mut replaced = write(&mut writes, position(1, 4));
        let mut done = write(&mut writes, position(3, 5));
        writes.applied(&entry(3, 3), put(3), 3);
        writes.applied(&entry(3, 4), put(4), 3);
        writes.applied(&entry(3, 5), put(5), 3);
        assert_eq!(
            replaced.try_recv().unwrap().unwrap_err(),
            Failure::Replaced { term: 3 }
        );
        assert_eq!(done.try_recv().unwrap().unwrap().value.index, 5);
    }

    #[test]
    fn reads_wait_for_the_map_and_fail_with_the_office() {
        let (mut reads, mut store) = (Reads::default(), Store::default());
        let ask = |reads: &mut Reads, index| {
            let (reply, answer) = oneshot::channel();
            let token = reads.next_token();
            reads.ask(token, vec![("k".to_owned(), reply)]);
            reads.confirm(token, index);
            answer
        };
        let (mut first, mut second) = (ask(&mut reads, 1), ask(&mut reads, 2));
        reads.answer(&store, 1);
        assert!(first.try_recv().is_err(), "the map has not caught up");
        store.apply(&entry(1, 1));
        reads.answer(&store, 1);
        assert_eq!(first.try_recv().unwrap().unwrap().value, Versioned::default());
        assert!(second.try_recv().is_err());
        reads.fail_confirmed(&Failure::Stopping);
        assert_eq!(second.try_recv().unwrap().unwrap_err(), Failure::Stopping);
    }
}
