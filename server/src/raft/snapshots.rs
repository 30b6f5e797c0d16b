//! Snapshots in the protocol (§7 of the Raft paper): they take the place of the log's beginning, here and, for followers
//! that lack what was dropped, there. What is in them, and how they travel, is the caller's business.

use super::core::{Core, Gate, Role};
use super::message::{AppendResponse, AppendResult, Message};
use super::types::{Index, NodeId, Position, SnapshotMeta, Term};
use super::violation::Violation;

impl Core {
    /// A snapshot of this node's own state up to `snapshot` is durable: the log before it may go, all but what begins
    /// behind `keep_from`, which followers may still want.
    pub fn compact(&mut self, snapshot: Position, keep_from: Index) {
        self.log.compact(snapshot.index.min(keep_from));
    }

    /// A snapshot from the leader of `term` has arrived and is durable. True: its state takes the place of this node's
    /// own, at once, and what is applied from here on follows it. False: nothing in it is news, or it came from a leader
    /// of the past.
    pub fn install(&mut self, from: NodeId, term: Term, snapshot: SnapshotMeta) -> Result<bool, Violation> {
        let last = snapshot.last;
        if !self.snapshot_arrives(from, term, last)? {
            return Ok(false);
        }
        let commit = self.log.commit();
        if last.index <= commit {
            self.acknowledge(from, commit);
            return Ok(false);
        }
        let is_news = self.log.term_at(last.index) != Some(last.term);
        match is_news {
            true => self.log.reset(snapshot),
            // The log holds all of it already, and perhaps more, which stays.
            false => self.log.commit_to(last.index),
        }
        self.regain_trust(last.index);
        self.acknowledge(from, last.index);
        Ok(is_news)
    }

    /// A snapshot that ends at `last`, or a part of it, has arrived from the leader of `term`: it is alive, and this node
    /// has no reason to campaign. False: that term has passed, and nothing of the snapshot is of use any more.
    pub fn snapshot_arrives(&mut self, from: NodeId, term: Term, last: Position) -> Result<bool, Violation> {
        if !self.follow(from, term)? {
            return Ok(false);
        }
        let committed = last.index <= self.log.commit();
        match self.log.term_at(last.index) {
            Some(known) if committed && known != last.term => Err(Violation::Snapshot {
                from,
                index: last.index,
                known,
                found: last.term,
            }),
            _ => Ok(true),
        }
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
