//! The follower's side: whom to follow, what to keep, what to acknowledge (§5.3 of the Raft paper).

use super::core::{Core, Gate};
use super::message::{AppendRequest, AppendResponse, AppendResult, Heartbeat, HeartbeatResponse, Message};
use super::types::{NodeId, Term};
use super::violation::Violation;

impl Core {
    pub(super) fn on_append_request(
        &mut self,
        from: NodeId,
        request: AppendRequest,
    ) -> Result<(), Violation> {
        let read_seq = request.read_seq;
        if !self.follow(from, request.term)? {
            // Answer all the same: a leader of the past learns the present term from it.
            let result = AppendResult::Rejected {
                rejected: request.prev.index,
                hint: self.log.last(),
            };
            // A round of an earlier office must not count in a later one of the same leader.
            self.answer_append(from, Gate::HardState, result, 0);
            return Ok(());
        }
        let prev = request.prev;
        // What a snapshot holds is committed, so it matches any leader's log.
        let compacted = prev.index < self.log.base().index;
        if !compacted && self.log.term_at(prev.index) != Some(prev.term) {
            let hint = self.log.last_not_above(prev.term, prev.index);
            let result = AppendResult::Rejected {
                rejected: prev.index,
                hint,
            };
            self.answer_append(from, Gate::HardState, result, read_seq);
            return Ok(());
        }
        if let Some((index, known, found)) = self.log.contradiction(&request.entries) {
            return Err(Violation::CommittedEntry {
                from,
                index,
                known,
                found,
            });
        }
        self.log.merge(&request.entries);
        // Only what this message proved to match: whatever follows it here may be left over from another leader.
        let verified = prev.index + request.entries.len() as u64;
        self.log
            .commit_to(request.commit.min(verified).max(self.log.commit()));
        self.regain_trust(verified);
        self.answer_append(from, Gate::Log, AppendResult::Matched(verified), read_seq);
        Ok(())
    }

    pub(super) fn on_heartbeat(&mut self, from: NodeId, request: Heartbeat) -> Result<(), Violation> {
        let followed = self.follow(from, request.term)?;
        if followed {
            // The leader has seen this node acknowledge that far, so it holds it.
            let commit = request.commit.min(self.log.last().index);
            self.log.commit_to(commit.max(self.log.commit()));
        }
        let response = HeartbeatResponse {
            term: self.hard_state.term,
            // A round of an earlier office must not count in a later one of the same leader.
            read_seq: if followed { request.read_seq } else { 0 },
            unfit: self.is_unfit(),
        };
        self.send(Gate::HardState, from, Message::HeartbeatResponse(response));
        Ok(())
    }

    /// Accepts `from` as the leader of `term`, unless that term has passed. Every message of the current leader, also
    /// one that is then rejected, holds off the next election. Who claims a term that another node leads, perhaps this one,
    /// changes nothing.
    pub(super) fn follow(&mut self, from: NodeId, term: Term) -> Result<bool, Violation> {
        if term < self.hard_state.term {
            return Ok(false);
        }
        if term == self.hard_state.term
            && let Some(leader) = self.leader.filter(|leader| *leader != from)
        {
            return Err(Violation::TwoLeaders { from, term, leader });
        }
        self.become_follower(term, Some(from));
        self.restart_election_timer();
        self.ticks_loyal = self.config.election_ticks.start;
        Ok(true)
    }

    fn answer_append(&mut self, to: NodeId, gate: Gate, result: AppendResult, read_seq: u64) {
        let response = AppendResponse {
            term: self.hard_state.term,
            result,
            read_seq,
        };
        self.send(gate, to, Message::AppendResponse(response));
    }
}
