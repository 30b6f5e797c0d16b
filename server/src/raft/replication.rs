//! The leader's side: feeding followers, counting who holds what, committing (§5.3 and §5.4.2 of the Raft paper), and
//! confirming reads (§6.4 of Ongaro's thesis, in rounds that ride on whatever is sent anyway).

use super::core::{Core, Gate, Role};
use super::log::weight;
use super::message::{AppendRequest, AppendResponse, AppendResult, Heartbeat, HeartbeatResponse, Message};
use super::progress::Progress;
use super::types::{NodeId, Position};

impl Core {
    pub(super) fn tick_leader(&mut self) {
        let silent_max = self.config.election_ticks.end;
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        leadership.progress.values_mut().for_each(Progress::tick);
        let Role::Leader(leadership) = &self.role else {
            return;
        };
        // Check-quorum. Followers start as just heard, so a new leader has a full timeout to hear from them.
        let heard = self.quorum_reached(|id| match leadership.progress.get(&id) {
            Some(progress) => u64::from(progress.ticks_silent < silent_max),
            None => u64::from(id == self.config.id),
        });
        if heard == 0 {
            return self.become_follower(self.hard_state.term, None);
        }
        // Its heartbeats would keep everybody else from the office that its disk does not let it fill.
        if self.disk_is_stalled() {
            return self.resign();
        }
        self.tick_transfer();
        if self.unfit && !self.is_transferring() {
            // If nobody fit is there, it stays: reads still work.
            let _ = self.best_successor().map(|peer| self.transfer(Some(peer)));
        }
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        leadership.ticks_to_heartbeat = leadership.ticks_to_heartbeat.saturating_sub(1);
        if leadership.ticks_to_heartbeat == 0 {
            leadership.ticks_to_heartbeat = self.config.heartbeat_ticks;
            leadership.progress.values_mut().for_each(Progress::heartbeat_due);
            match self.config.lease_ms {
                0 => self.broadcast_heartbeats(),
                _ => self.begin_round(),
            }
        }
    }

    pub(super) fn broadcast_heartbeats(&mut self) {
        let Role::Leader(leadership) = &self.role else {
            return;
        };
        let (term, commit, read_seq) = (self.hard_state.term, self.log.commit(), leadership.read_seq);
        let heartbeats: Vec<(NodeId, Message)> = leadership
            .progress
            .iter()
            .filter(|(peer, _)| self.connected.contains_key(peer))
            .map(|(peer, progress)| {
                // Never past what the follower is known to hold: a heartbeat carries no proof that the logs agree.
                let commit = commit.min(progress.matched);
                (
                    *peer,
                    Message::Heartbeat(Heartbeat {
                        term,
                        commit,
                        read_seq,
                    }),
                )
            })
            .collect();
        for (peer, heartbeat) in heartbeats {
            self.send(Gate::Open, peer, heartbeat);
        }
    }

    /// Sends every follower what it lacks, as far as its window allows.
    pub(super) fn broadcast_appends(&mut self) {
        let Role::Leader(leadership) = &self.role else {
            return;
        };
        let last = self.log.last().index;
        let behind: Vec<NodeId> = leadership
            .progress
            .iter()
            .filter(|(_, progress)| progress.next <= last || progress.is_probing())
            .map(|(peer, _)| *peer)
            .collect();
        for peer in behind {
            self.send_append(peer);
        }
    }

    pub(super) fn send_append(&mut self, peer: NodeId) {
        if !self.connected.contains_key(&peer) {
            return;
        }
        let (messages_max, bytes_max) = (self.config.append_messages_max, self.config.window_bytes_max);
        loop {
            let Role::Leader(leadership) = &mut self.role else {
                return;
            };
            let Some(progress) = leadership.progress.get_mut(&peer) else {
                return;
            };
            if progress.next <= self.log.base().index && progress.may_send(messages_max, bytes_max) {
                progress.wait_for_snapshot();
                return self.snapshots.push(peer);
            }
            let probing = progress.is_probing();
            let append_bytes_max = progress.append_bytes_max(self.config.append_bytes_max);
            if !progress.may_send(messages_max, bytes_max) {
                return;
            }
            let entries = self.log.batch(progress.next, append_bytes_max);
            if entries.is_empty() && !probing {
                return;
            }
            let index = progress.next - 1;
            let term = self
                .log
                .term_at(index)
                .expect("a leader's log reaches as far as it has sent");
            let request = AppendRequest {
                term: self.hard_state.term,
                prev: Position { term, index },
                entries: entries.into(),
                commit: self.log.commit(),
                read_seq: leadership.read_seq,
            };
            progress.sent(index + entries.len() as u64, entries.iter().map(weight).sum());
            self.send(Gate::Open, peer, Message::AppendRequest(request));
        }
    }

    pub(super) fn on_append_response(&mut self, from: NodeId, response: AppendResponse) {
        if !self.response_is_current(from, response.term, response.read_seq) {
            return;
        }
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        let Some(progress) = leadership.progress.get_mut(&from) else {
            return;
        };
        match response.result {
            // Nobody can hold more of this term's log than its leader: not an answer to anything that was sent.
            AppendResult::Matched(index) if index > self.log.last().index => {}
            AppendResult::Matched(index) => {
                if progress.matched(index) {
                    self.advance_commit();
                }
            }
            AppendResult::Rejected { rejected, hint } => {
                // The hint's term may be unknown here; skip this log's own later terms in the same step.
                let agree = self.log.last_not_above(hint.term, hint.index).index;
                progress.rejected(rejected, agree);
            }
        }
        self.send_append(from);
    }

    pub(super) fn on_heartbeat_response(&mut self, from: NodeId, response: HeartbeatResponse) {
        if !self.response_is_current(from, response.term, response.read_seq) {
            return;
        }
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        let Some(progress) = leadership.progress.get_mut(&from) else {
            return;
        };
        progress.unfit = response.unfit;
        progress.heartbeat_answered();
        // What was lost on the way is repeated here; a follower that has everything needs nothing.
        if progress.is_probing() && progress.matched < self.log.last().index {
            self.send_append(from);
        }
    }

    /// Common to all answers to a leader: steps down for a later term, ignores an earlier one, and otherwise notes
    /// that the follower is alive and which read round it has seen.
    fn response_is_current(&mut self, from: NodeId, term: u64, read_seq: u64) -> bool {
        if term > self.hard_state.term {
            self.become_follower(term, None);
            return false;
        }
        let Role::Leader(leadership) = &mut self.role else {
            return false;
        };
        let Some(progress) = leadership.progress.get_mut(&from) else {
            return false;
        };
        if term < self.hard_state.term {
            return false;
        }
        progress.ticks_silent = 0;
        progress.read_seq = progress.read_seq.max(read_seq);
        true
    }

    /// Commits what a majority holds durably, but only by way of an entry of this term (§5.4.2, Figure 8).
    pub(super) fn advance_commit(&mut self) {
        let Role::Leader(leadership) = &self.role else {
            return;
        };
        // This node counts like any other: as far as its disk has come, and only if it has a vote.
        let index = self.quorum_reached(|id| match leadership.progress.get(&id) {
            Some(progress) => progress.matched,
            None if id == self.config.id => self.log.durable(),
            None => 0,
        });
        #[cfg(feature = "mutants")]
        let index = if self.config.ack_before_majority {
            self.log.durable()
        } else {
            index
        };
        let before = self.log.commit();
        if index <= before || self.log.term_at(index) != Some(self.hard_state.term) {
            return;
        }
        self.log.commit_to(index);
        self.settle_pending();
        self.after_commit();
    }

    /// Stops counting what is committed and on this node's own disk by now. The disks of the others may be faster.
    pub(super) fn settle_pending(&mut self) {
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        let (settled, base) = (self.log.durable().min(self.log.commit()), self.log.base().index);
        if settled <= leadership.settled {
            return;
        }
        // What a snapshot has taken the place of cannot be weighed any more, so count what is left.
        leadership.pending_bytes = match leadership.settled < base {
            true => self.log.range_weight(settled + 1, self.log.last().index),
            false => {
                let freed = self.log.range_weight(leadership.settled + 1, settled);
                leadership.pending_bytes.saturating_sub(freed)
            }
        };
        leadership.settled = settled;
    }
}
