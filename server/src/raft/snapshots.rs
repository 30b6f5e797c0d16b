//! Snapshots in the protocol (§7 of the Raft paper): they take the place of the log's beginning, here and, for followers
//! that lack what was dropped, there. What is in them, and how they travel, is the caller's business.

use super::core::{Core, Gate, Role};
use super::message::{AppendResponse, AppendResult, Message};
use super::types::{Index, NodeId, Position, SnapshotMeta, Term};

impl Core {
    /// A snapshot of this node's own state up to `snapshot` is durable: the log before it may go, all but what begins
    /// behind `keep_from`, which followers may still want.
    pub fn compact(&mut self, snapshot: Position, keep_from: Index) {
        self.log.compact(snapshot.index.min(keep_from));
    }

    /// A snapshot from the leader of `term` has arrived and is durable. True: its state takes the place of this node's
    /// own, at once, and what is applied from here on follows it. False: nothing in it is news, or it came from a leader
    /// of the past.
    pub fn install(&mut self, from: NodeId, term: Term, snapshot: SnapshotMeta) -> bool {
        if !self.follow(from, term) {
            return false;
        }
        let last = snapshot.last;
        let commit = self.log.commit();
        if last.index <= commit {
            let known = self.log.term_at(last.index);
            assert!(
                known.is_none_or(|term| term == last.term),
                "the snapshot of {from} ends with term {} at committed index {}, where this node has term {known:?}",
                last.term,
                last.index
            );
            self.acknowledge(from, commit);
            return false;
        }
        let is_news = self.log.term_at(last.index) != Some(last.term);
        match is_news {
            true => self.log.reset(snapshot),
            // The log holds all of it already, and perhaps more, which stays.
            false => self.log.commit_to(last.index),
        }
        self.regain_trust(last.index);
        self.acknowledge(from, last.index);
        is_news
    }

    /// A part of a snapshot has arrived from the leader of `term`: it is alive, and this node has no reason to campaign.
    pub fn snapshot_arrives(&mut self, from: NodeId, term: Term) -> bool {
        self.follow(from, term)
    }

    /// The sending of a snapshot to `peer` ended: it holds everything up to `last`, or it was not sent.
    pub fn snapshot_sent(&mut self, peer: NodeId, last: Option<Index>) {
        let (base, heartbeat_ticks) = (self.log.base().index, self.config.heartbeat_ticks);
        if let Role::Leader(leadership) = &mut self.role
            && let Some(progress) = leadership.progress.get_mut(&peer)
        {
            match last.filter(|last| *last >= base) {
                Some(last) => progress.continue_behind(last),
                None => progress.retry_snapshot_after(4 * heartbeat_ticks),
            }
        }
    }

    fn acknowledge(&mut self, to: NodeId, index: Index) {
        let response = AppendResponse {
            term: self.hard_state.term,
            result: AppendResult::Matched(index),
            read_seq: 0,
        };
        self.send(Gate::Log, to, Message::AppendResponse(response));
    }
}
