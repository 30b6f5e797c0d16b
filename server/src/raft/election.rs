//! How a leader comes to be: pre-vote, vote, and the timer before both (§5.2 and §5.4.1 of the Raft paper; §9.6 of
//! Ongaro's thesis for pre-vote).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::core::{Core, Gate, Leadership, Role};
use super::message::{Message, VoteRequest, VoteResponse};
use super::progress::Progress;
use super::types::{Entry, NodeId, Term};

impl Core {
    pub(super) fn tick_election(&mut self) {
        self.ticks_quiet += 1;
        if self.ticks_quiet < self.ticks_to_election {
            return;
        }
        // A candidate promises the end of its log, so that must be on its disk first; a disk that hangs is no place
        // for a leader anyway.
        if self.log.durable() < self.log.last().index {
            return;
        }
        self.ask_whether_to_campaign();
    }

    /// Pre-vote: find out whether an election would succeed before disturbing anybody with a new term.
    fn ask_whether_to_campaign(&mut self) {
        self.leader = None;
        self.restart_election_timer();
        self.role = Role::PreCandidate {
            granted: BTreeSet::new(),
        };
        self.request_votes(self.hard_state.term + 1, true);
        self.count_vote(self.config.id);
    }

    fn campaign(&mut self) {
        self.leader = None;
        self.restart_election_timer();
        self.set_hard_state(self.hard_state.term + 1, Some(self.config.id));
        self.role = Role::Candidate {
            granted: BTreeSet::new(),
        };
        self.request_votes(self.hard_state.term, false);
        // The candidate's own vote counts once it is on disk: see `count_own_vote`.
    }

    fn request_votes(&mut self, term: Term, pre_vote: bool) {
        let request = VoteRequest {
            term,
            last: self.log.last(),
            pre_vote,
            transfer: false,
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
        let up_to_date = request.last >= self.log.last();
        if request.pre_vote {
            // Changes nothing here: no term, no vote, no timer.
            let granted = request.term > own_term && up_to_date && !self.hears_a_leader();
            return self.answer_vote(from, request, granted);
        }
        if request.term < own_term || (request.term > own_term && self.hears_a_leader()) {
            // A node whose leader is alive does not help to depose it (§4.2.3 of the thesis).
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

    /// Whether a leader was heard so recently that nobody else should be helped to the office.
    fn hears_a_leader(&self) -> bool {
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
        let majority = self.majority();
        match &mut self.role {
            Role::PreCandidate { granted } => {
                granted.insert(from);
                if granted.len() >= majority {
                    self.campaign();
                }
            }
            Role::Candidate { granted } => {
                granted.insert(from);
                if granted.len() >= majority {
                    self.lead();
                }
            }
            _ => {}
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
            .map(|peer| (*peer, Progress::unknown(last)))
            .collect();
        self.leader = Some(self.config.id);
        self.role = Role::Leader(Leadership {
            progress,
            opened_at: last + 1,
            read_seq: 0,
            reads: VecDeque::new(),
            ticks_to_heartbeat: 0,
            uncommitted_bytes: 0,
        });
        self.log.push(Entry {
            term,
            index: last + 1,
            kind: Default::default(),
            payload: Default::default(),
        });
    }
}
