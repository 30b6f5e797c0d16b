//! Client requests between their arrival and their answer.

use std::collections::{BTreeMap, VecDeque};

use proto::raft::Consistency;

use super::requests::{Answer, Answered, Failure, Found, ReadRequest, Responder};
use crate::kv::{Applied, Store};
use crate::raft::{Entry, Index, Position, ReadToken, Term};

/// Writes that stand in the log and are not applied yet, in order of their index.
#[derive(Default)]
pub(super) struct Writes {
    waiting: VecDeque<(Position, Responder)>,
}

impl Writes {
    pub(super) fn push(&mut self, position: Position, reply: Responder) {
        self.waiting.push_back((position, reply));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
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
        reply.send(match outcome {
            Some(outcome) if position == entry.position() => Ok(Answer {
                term,
                value: Answered::Applied(outcome),
            }),
            _ => Err(Failure::Replaced { term }),
        });
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
            self.lose_first(term);
        }
    }

    /// A snapshot took the place of the entries up to `index`: what became of the writes among them is not known here.
    pub(super) fn lose_up_to(&mut self, index: Index, term: Term) {
        while self
            .waiting
            .front()
            .is_some_and(|(position, _)| position.index <= index)
        {
            self.lose_first(term);
        }
    }

    fn lose_first(&mut self, term: Term) {
        if let Some((_, reply)) = self.waiting.pop_front() {
            reply.send(Err(Failure::Lost { term }));
        }
    }
}

/// Reads, first until the core confirms them, then until the map has caught up. All reads taken in one turn of the
/// node share a token.
#[derive(Default)]
pub(super) struct Reads {
    next_token: ReadToken,
    asked: BTreeMap<ReadToken, Vec<ReadRequest>>,
    confirmed: VecDeque<(Index, Vec<ReadRequest>)>,
    count: usize,
}

impl Reads {
    pub(super) fn next_token(&mut self) -> ReadToken {
        self.next_token += 1;
        self.next_token
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn ask(&mut self, token: ReadToken, reads: Vec<ReadRequest>) {
        self.count += reads.len();
        self.asked.insert(token, reads);
    }

    pub(super) fn confirm(&mut self, token: ReadToken, index: Index) {
        // Everybody who asked may have gone away since.
        let Some(reads) = self.asked.remove(&token) else {
            return;
        };
        // Followers may be told of later reads first.
        let at = self.confirmed.partition_point(|(other, _)| *other <= index);
        self.confirmed.insert(at, (index, reads));
    }

    /// Answers what the map has caught up with.
    pub(super) fn answer(&mut self, store: &Store, term: Term) {
        while self
            .confirmed
            .front()
            .is_some_and(|(index, _)| *index <= store.applied())
        {
            let (_, reads) = self.confirmed.pop_front().expect("the front was just seen");
            self.count -= reads.len();
            for read in reads {
                let value = Answered::Found(Found {
                    read: read.query.run(store),
                    consistency: Consistency::Linearizable,
                    applied: store.applied(),
                });
                read.reply.send(Ok(Answer { term, value }));
            }
        }
    }

    /// Fails what is confirmed but waits for entries that this node, now that it no longer leads, may not see committed
    /// for a long time.
    pub(super) fn fail_confirmed(&mut self, failure: &Failure) {
        for read in self.confirmed.drain(..).flat_map(|(_, reads)| reads) {
            self.count -= 1;
            read.reply.send(Err(failure.clone()));
        }
    }

    pub(super) fn fail(&mut self, token: ReadToken, failure: &Failure) {
        for read in self.asked.remove(&token).unwrap_or_default() {
            self.count -= 1;
            read.reply.send(Err(failure.clone()));
        }
    }

    pub(super) fn fail_all(&mut self, failure: &Failure) {
        self.fail_confirmed(failure);
        let tokens: Vec<ReadToken> = self.asked.keys().copied().collect();
        tokens.into_iter().for_each(|token| self.fail(token, failure));
    }

    /// Forgets reads that nobody waits for any more.
    pub(super) fn forget_the_gone(&mut self) {
        if self.count == 0 {
            return;
        }
        let waits = |read: &ReadRequest| !read.reply.is_closed();
        self.asked.values_mut().for_each(|reads| reads.retain(waits));
        self.asked.retain(|_, reads| !reads.is_empty());
        self.confirmed
            .iter_mut()
            .for_each(|(_, reads)| reads.retain(waits));
        self.confirmed.retain(|(_, reads)| !reads.is_empty());
        let asked: usize = self.asked.values().map(Vec::len).sum();
        self.count = asked + self.confirmed.iter().map(|(_, reads)| reads.len()).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::sync::oneshot;

    use super::super::requests::{Query, Read};
    use super::*;
    use crate::kv::{Reply, Versioned};

    type Pending = oneshot::Receiver<Result<Answer<Answered>, Failure>>;

    fn position(term: Term, index: Index) -> Position {
        Position { term, index }
    }

    fn entry(term: Term, index: Index) -> Entry {
        Entry {
            term,
            index,
            ..Entry::default()
        }
    }

    fn put(index: Index) -> Option<Applied> {
        Some(Applied {
            index,
            reply: Reply::Put,
        })
    }

    fn write(writes: &mut Writes, at: Position) -> Pending {
        let (reply, answer) = Responder::one();
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
        assert_eq!(done.try_recv().unwrap().unwrap().into_applied().value.index, 5);
    }

    #[test]
    fn a_snapshot_leaves_nobody_waiting_for_entries_that_it_took_the_place_of() {
        let mut writes = Writes::default();
        let mut covered = write(&mut writes, position(1, 4));
        let mut behind = write(&mut writes, position(1, 9));
        writes.lose_up_to(8, 2);
        assert_eq!(
            covered.try_recv().unwrap().unwrap_err(),
            Failure::Lost { term: 2 }
        );
        assert!(behind.try_recv().is_err());
    }

    fn ask(reads: &mut Reads) -> (ReadToken, Pending) {
        let (reply, answer) = Responder::one();
        let token = reads.next_token();
        let read = ReadRequest {
            query: Query::Key("k".to_owned()),
            consistency: Consistency::Linearizable,
            deadline: None,
            reply,
        };
        reads.ask(token, vec![read]);
        (token, answer)
    }

    #[test]
    fn reads_wait_for_the_map_and_fail_with_the_office() {
        let (mut reads, mut store) = (Reads::default(), Store::default());
        let (token, mut second) = ask(&mut reads);
        reads.confirm(token, 2);
        // Confirmed later, for an earlier index: a follower is told in any order.
        let (token, mut first) = ask(&mut reads);
        reads.confirm(token, 1);
        reads.answer(&store, 1);
        assert!(first.try_recv().is_err(), "the map has not caught up");
        store.apply(&entry(1, 1));
        reads.answer(&store, 1);
        let found = first.try_recv().unwrap().unwrap().into_found().value;
        assert!(matches!(found.read, Read::Key(version) if version == Versioned::default()));
        assert_eq!((found.applied, found.consistency), (1, Consistency::Linearizable));
        assert!(second.try_recv().is_err());
        reads.fail_confirmed(&Failure::Stopping);
        assert_eq!(second.try_recv().unwrap().unwrap_err(), Failure::Stopping);
        assert_eq!(reads.len(), 0);
    }

    #[test]
    fn reads_that_nobody_waits_for_are_forgotten() {
        let mut reads = Reads::default();
        let (token, gone) = ask(&mut reads);
        let (_, waiting) = ask(&mut reads);
        let (confirmed, gone_too) = ask(&mut reads);
        reads.confirm(confirmed, 7);
        drop((gone, gone_too));
        reads.forget_the_gone();
        assert_eq!(reads.len(), 1);
        reads.confirm(token, 1);
        drop(waiting);
        reads.forget_the_gone();
        assert_eq!(reads.len(), 0);
    }
}
