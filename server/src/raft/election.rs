//! How a leader comes to be: pre-vote, vote, and the timer before both (§5.2 and §5.4.1 of the Raft paper; §9.6 of
//! Ongaro's thesis for pre-vote).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::core::{Core, Gate, Leadership, Role};
use super::message::{Message, VoteRequest, VoteResponse};
use super::progress::Progress;
use super::types::{Entry, NodeId, Term};

impl Core {
    pub(super) fn tick_election(&mut self) {
        self.ticks_quiet = self.ticks_quiet.saturating_add(1);
        // Whoever should rather not lead lets the others go first.
        let patience = 1 + u32::from(self.unfit);
        if self.ticks_quiet >= patience * self.ticks_to_election && self.may_campaign() {
            self.ask_whether_to_campaign();
        }
    }

    /// Whether this node may stand for election. A candidate promises the end of its log, so that must be on its disk
    /// first; a disk that hangs is no place for a leader anyway. A node that has lost acknowledged entries must get them
    /// back before anything else.
    pub(super) fn may_campaign(&self) -> bool {
        self.votes()
            && self.suspect.is_none()
            && self.log.durable() >= self.log.last().index
            && !self.disk_is_stalled()
    }

    /// Pre-vote: find out whether an election would succeed before disturbing anybody with a new term.
    fn ask_whether_to_campaign(&mut self) {
        self.leader = None;
        self.restart_election_timer();
        self.role = Role::PreCandidate {
            granted: BTreeSet::new(),
        };
        self.fail_reads_of_office(None);
        self.request_votes(self.hard_state.term + 1, true, false);
        self.count_vote(self.config.id);
    }

    /// Stands for election, asked to by the leader itself if `transfer`.
    pub(super) fn campaign(&mut self, transfer: bool) {
        self.leader = None;
        self.fail_reads_of_office(None);
        self.restart_election_timer();
        self.set_hard_state(self.hard_state.term + 1, Some(self.config.id));
        self.role = Role::Candidate {
            granted: BTreeSet::new(),
        };
        self.request_votes(self.hard_state.term, false, transfer);
        // The candidate's own vote counts once it is on disk: see `count_own_vote`.
    }

    fn request_votes(&mut self, term: Term, pre_vote: bool, transfer: bool) {
        let request = VoteRequest {
            term,
            last: self.log.last(),
            pre_vote,
            transfer,
        };
        let peers: Vec<NodeId> = self.connected.keys().copied().collect();
        for peer in peers {
            self.send(Gate::Open, peer, Message::VoteRequest(request));
        }
    }

    pub(super) fn count_own_vote(&mut self) {
        if self.hard_state_is_durable() {
            self.count_vote(self.config.id);
        }
    }

    pub(super) fn on_vote_request(&mut self, from: NodeId, request: VoteRequest) {
        let own_term = self.hard_state.term;
        // What was lost here may be what the candidate lacks as well: it must hold all that this node ever acknowledged.
        let up_to_date = request.last >= self.log.last().max(self.suspect.unwrap_or_default());
        if request.pre_vote {
            // Changes nothing here: no term, no vote, no timer.
            let granted = request.term > own_term && up_to_date && !self.hears_a_leader();
            return self.answer_vote(from, request, granted);
        }
        let loyal = self.hears_a_leader() && !request.transfer;
        // With leases it does not even matter whether the later term has been heard of before; a vote that was given stays.
        let is_news =
            request.term > own_term || self.config.lease_ms > 0 && self.hard_state.vote != Some(from);
        if request.term < own_term || loyal && is_news {
            // A node whose leader is alive does not help to depose it (§4.2.3 of the thesis), unless that leader itself
            // has asked for it.
            return self.answer_vote(from, request, false);
        }
        if request.term > own_term {
            self.become_follower(request.term, None);
        }
        let free = self.hard_state.vote.is_none() && self.leader.is_none();
        let granted = up_to_date && (free || self.hard_state.vote == Some(from));
        if granted {
            // Whoever gives a vote stops asking for any.
            self.become_follower(request.term, None);
            self.set_hard_state(request.term, Some(from));
            self.restart_election_timer();
        }
        self.answer_vote(from, request, granted);
    }

    fn answer_vote(&mut self, to: NodeId, request: VoteRequest, granted: bool) {
        let term = if granted {
            request.term
        } else {
            self.hard_state.term
        };
        let response = VoteResponse {
            term,
            granted,
            pre_vote: request.pre_vote,
        };
        self.send(Gate::HardState, to, Message::VoteResponse(response));
    }

    /// Whether a leader was heard so recently that nobody else should be helped to the office. With leases, a node that
    /// has just started may have heard one right before it stopped, and one that has heard of a later term since is no less
    /// bound by what it told the leader of the earlier one.
    fn hears_a_leader(&self) -> bool {
        if self.config.lease_ms > 0
            && (self.ticks_alive < self.config.election_ticks.start || self.ticks_loyal > 0)
        {
            return true;
        }
        match self.role {
            Role::Leader(_) => true,
            _ => self.leader.is_some() && self.ticks_quiet < self.config.election_ticks.start,
        }
    }

    pub(super) fn on_vote_response(&mut self, from: NodeId, response: VoteResponse) {
        let own_term = self.hard_state.term;
        if !response.granted {
            // Also after a pre-vote: a group whose members are in different terms would never agree otherwise.
            if response.term > own_term {
                self.become_follower(response.term, None);
            }
            return;
        }
        let asked = match self.role {
            Role::PreCandidate { .. } => response.pre_vote && response.term == own_term + 1,
            Role::Candidate { .. } => !response.pre_vote && response.term == own_term,
            _ => false,
        };
        if asked {
            self.count_vote(from);
        }
    }

    fn count_vote(&mut self, from: NodeId) {
        if from != self.config.id {
            self.meet(from);
        }
        let (Role::PreCandidate { granted } | Role::Candidate { granted }) = &mut self.role else {
            return;
        };
        granted.insert(from);
        let (Role::PreCandidate { granted } | Role::Candidate { granted }) = &self.role else {
            return;
        };
        if self.quorum_reached(|id| u64::from(granted.contains(&id))) == 0 {
            return;
        }
        match self.role {
            Role::PreCandidate { .. } => self.campaign(false),
            _ => self.lead(),
        }
    }

    /// Takes office: an entry of its own term first, because only by committing that may a leader commit what earlier
    /// terms left behind (§5.4.2 of the Raft paper).
    fn lead(&mut self) {
        let term = self.hard_state.term;
        let last = self.log.last().index;
        // Those who voted are alive even if their connection broke since: they too get a full timeout to be heard.
        let Role::Candidate { granted } = &self.role else {
            return;
        };
        let voters = granted.iter().filter(|voter| **voter != self.config.id);
        let progress: BTreeMap<NodeId, Progress> = self
            .connected
            .keys()
            .chain(voters)
            .filter(|peer| self.feeds(**peer))
            .map(|peer| (*peer, Progress::unknown(last)))
            .collect();
        self.leader = Some(self.config.id);
        let settled = self.log.durable().min(self.log.commit());
        self.role = Role::Leader(Leadership {
            progress,
            opened_at: last + 1,
            read_seq: 0,
            reads: VecDeque::new(),
            lease_rounds: VecDeque::new(),
            lease_from_ms: None,
            lease_forfeited: false,
            ticks_to_heartbeat: 0,
            pending_bytes: self.log.range_weight(settled + 1, last),
            settled,
            transfer: None,
        });
        self.log.push(Entry {
            term,
            index: last + 1,
            ..Entry::default()
        });
        self.feed_members();
    }
}
