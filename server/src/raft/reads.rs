//! Linearizable reads without a log entry (§6.4 of Ongaro's thesis): rounds that a quorum confirms, on the leader for
//! itself and for followers that ask, and leases for those who chose to trust clocks.

use std::collections::BTreeSet;

use super::core::{Core, Gate, Role};
use super::message::{Message, ReadIndexRequest, ReadIndexResponse};
use super::output::{ReadToken, Refused};
use super::types::{Index, NodeId};

/// Who waits for a read round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// This node's own clients.
    Here(ReadToken),
    /// A follower, which will serve the read itself.
    Follower { peer: NodeId, id: u64 },
}

#[derive(Debug)]
pub(super) struct PendingRead {
    seq: u64,
    index: Index,
    asker: Asker,
}

/// A read that this follower has asked its leader about.
#[derive(Debug)]
pub(super) struct RemoteRead {
    id: u64,
    token: ReadToken,
    leader: NodeId,
    ticks_left: u32,
}

/// When a read round was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseRound {
    seq: u64,
    sent_ms: u64,
}

/// Rounds remembered for the lease; more are under way only if nobody answers.
const LEASE_ROUNDS_MAX: usize = 64;

impl Core {
    /// Asks for an index from which on a read sees everything that was acknowledged before: confirmed in
    /// [`Output::reads`](super::Output::reads), or failed. All reads that arrived together share one token. On a
    /// follower the leader is asked.
    pub fn read(&mut self, token: ReadToken) -> Result<(), Refused> {
        if matches!(self.role, Role::Leader(_)) {
            self.reads_new.push(Asker::Here(token));
            return Ok(());
        }
        let Some(leader) = self.leader.filter(|leader| self.connected.contains_key(leader)) else {
            return Err(Refused::NotLeader(self.leader));
        };
        let id = self.read_id_next;
        self.read_id_next = id.wrapping_add(1);
        self.reads_remote.push(RemoteRead {
            id,
            token,
            leader,
            ticks_left: self.config.election_ticks.end,
        });
        let term = self.hard_state.term;
        self.send(
            Gate::Open,
            leader,
            Message::ReadIndexRequest(ReadIndexRequest { term, id }),
        );
        Ok(())
    }

    /// The index that a read by lease must wait for; `None` if there is no lease at this moment. The caller sets the
    /// clock right before, reads, and asks again after it has read: the answer counts only if the lease still holds.
    pub fn lease_read(&self) -> Option<Index> {
        let Role::Leader(leadership) = &self.role else {
            return None;
        };
        let from = leadership.lease_from_ms?;
        // A successor that was asked to take over does not wait for anybody's lease to end.
        let exclusive =
            leadership.transfer.is_none() && !leadership.lease_forfeited && self.voters_are_loyal();
        let holds = exclusive && self.now_ms < from + self.config.lease_ms;
        let opened = self.log.commit() >= leadership.opened_at;
        (holds && opened).then_some(self.log.commit())
    }

    /// Whether every voter is known to hold to its leader for as long as this node counts on.
    fn voters_are_loyal(&self) -> bool {
        let loyal = |id: NodeId| {
            let known = self.loyal_ms.get(&id);
            id == self.config.id || known.is_some_and(|known| *known >= self.config.loyal_ms)
        };
        match self.log.configuration() {
            Some((_, known)) => known.voters().chain(known.outgoing_voters()).all(loyal),
            None => self.met.len() + 1 == self.config.voters && self.met.iter().copied().all(loyal),
        }
    }

    /// A peer may be about to come back as another process that is loyal for a shorter time: what it answered before
    /// prolongs no lease.
    pub(super) fn begin_lease_anew(&mut self) {
        if let Role::Leader(leadership) = &mut self.role {
            leadership.lease_from_ms = None;
            leadership.lease_rounds.clear();
        }
    }

    pub(super) fn on_read_index_request(&mut self, peer: NodeId, request: ReadIndexRequest) {
        let ReadIndexRequest { term, id } = request;
        if matches!(self.role, Role::Leader(_)) && term == self.hard_state.term {
            self.reads_new.push(Asker::Follower { peer, id });
        } else {
            self.refuse_read_of(peer, id);
        }
    }

    pub(super) fn on_read_index_response(&mut self, from: NodeId, response: ReadIndexResponse) {
        let matches = |read: &RemoteRead| read.id == response.id && read.leader == from;
        let Some(at) = self.reads_remote.iter().position(matches) else {
            return;
        };
        let read = self.reads_remote.swap_remove(at);
        match response.index.filter(|_| response.term == self.hard_state.term) {
            Some(index) => self.reads_done.push((read.token, index)),
            None => self.reads_failed.push(read.token),
        }
    }

    pub(super) fn tick_remote_reads(&mut self) {
        let failed = &mut self.reads_failed;
        self.reads_remote.retain_mut(|read| {
            read.ticks_left = read.ticks_left.saturating_sub(1);
            if read.ticks_left == 0 {
                failed.push(read.token);
            }
            read.ticks_left > 0
        });
    }

    /// The office ends, or another leader is followed: nothing that was asked before is confirmed any more.
    pub(super) fn fail_reads_of_office(&mut self, leader: Option<NodeId>) {
        if let Role::Leader(leadership) = &mut self.role {
            let pending = leadership.reads.drain(..).map(|read| read.asker);
            let askers: Vec<Asker> = pending.chain(self.reads_new.drain(..)).collect();
            for asker in askers {
                match asker {
                    Asker::Here(token) => self.reads_failed.push(token),
                    Asker::Follower { peer, id } => self.refuse_read_of(peer, id),
                }
            }
        }
        let failed = &mut self.reads_failed;
        self.reads_remote.retain(|read| {
            let keeps = leader == Some(read.leader);
            if !keeps {
                failed.push(read.token);
            }
            keeps
        });
    }

    /// Begins a round for the reads that came in since the last one.
    pub(super) fn start_reads(&mut self) {
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        if self.reads_new.is_empty() {
            return;
        }
        // Entries of earlier terms may be committed without this leader knowing yet: nothing is answered from a state
        // before its own first entry.
        let index = self.log.commit().max(leadership.opened_at);
        let seq = leadership.read_seq + 1;
        let new = self.reads_new.drain(..);
        leadership
            .reads
            .extend(new.map(|asker| PendingRead { seq, index, asker }));
        // Tells everybody the new round at once; under load an append carries it as well, but heartbeats never wait
        // behind entries.
        self.begin_round();
    }

    /// A new round, told to everybody by a heartbeat.
    pub(super) fn begin_round(&mut self) {
        let (now_ms, lease_ms) = (self.now_ms, self.config.lease_ms);
        if let Role::Leader(leadership) = &mut self.role {
            leadership.read_seq += 1;
            if lease_ms > 0 {
                leadership.lease_rounds.truncate(LEASE_ROUNDS_MAX);
                leadership.lease_rounds.push_back(LeaseRound {
                    seq: leadership.read_seq,
                    sent_ms: now_ms,
                });
            }
        }
        self.broadcast_heartbeats();
    }

    /// Answers the rounds that a quorum has confirmed.
    pub(super) fn finish_reads(&mut self) {
        let confirmed = self.confirmed_read_seq();
        let term = self.hard_state.term;
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        while leadership
            .lease_rounds
            .front()
            .is_some_and(|round| round.seq <= confirmed)
        {
            let round = leadership.lease_rounds.pop_front();
            leadership.lease_from_ms = round.map(|round| round.sent_ms).max(leadership.lease_from_ms);
        }
        let mut for_followers = BTreeSet::new();
        while leadership.reads.front().is_some_and(|read| read.seq <= confirmed) {
            let read = leadership.reads.pop_front().expect("the front was just seen");
            match read.asker {
                Asker::Here(token) => self.reads_done.push((token, read.index)),
                Asker::Follower { peer, id } => drop(for_followers.insert((peer, id, read.index))),
            }
        }
        for (peer, id, index) in for_followers {
            let index = Some(index);
            let response = ReadIndexResponse { term, id, index };
            self.send(Gate::Open, peer, Message::ReadIndexResponse(response));
        }
    }

    /// The latest round that a quorum has confirmed.
    fn confirmed_read_seq(&self) -> u64 {
        let Role::Leader(leadership) = &self.role else {
            return 0;
        };
        self.quorum_reached(|id| match leadership.progress.get(&id) {
            Some(progress) => progress.read_seq,
            None if id == self.config.id => leadership.read_seq,
            None => 0,
        })
    }
}
