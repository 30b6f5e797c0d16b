//! Handing the office over (§3.10 of Ongaro's thesis): take nothing new, wait until the successor has everything on its
//! disk, and ask it to stand for election at once.

use super::core::{Core, Gate, Role};
use super::message::Message;
use super::types::{NodeId, Term};

/// Under way: the office goes to `to`, or stays here when the time is up.
#[derive(Debug)]
pub(super) struct Transfer {
    to: NodeId,
    ticks_left: u32,
    asked: bool,
}

/// Why the office is not handed over. Nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferRefused {
    /// This node does not lead; the one it holds for the leader, if any.
    NotLeader(Option<NodeId>),
    /// Another transfer is under way, to this node.
    InProgress(NodeId),
    /// The node leads already.
    LeadsAlready,
    /// The node has no vote, so it cannot lead.
    NotAVoter,
    /// There is no connection to the node.
    NotConnected,
    /// Nobody else could lead.
    Nobody,
}

impl Core {
    /// Begins to hand the office over to `to`, or to the voter that has come furthest. Returns who it is. Until it leads,
    /// or an election timeout has passed, this node takes no proposals.
    pub fn transfer(&mut self, to: Option<NodeId>) -> Result<NodeId, TransferRefused> {
        let Role::Leader(leadership) = &self.role else {
            return Err(TransferRefused::NotLeader(self.leader));
        };
        if let Some(transfer) = &leadership.transfer {
            return Err(TransferRefused::InProgress(transfer.to));
        }
        let to = match to {
            Some(to) if to == self.config.id => return Err(TransferRefused::LeadsAlready),
            Some(to) if !self.may_lead(to) => return Err(TransferRefused::NotAVoter),
            Some(to) if !self.connected.contains_key(&to) => return Err(TransferRefused::NotConnected),
            Some(to) => to,
            None => self.best_successor().ok_or(TransferRefused::Nobody)?,
        };
        if let Role::Leader(leadership) = &mut self.role {
            leadership.transfer = Some(Transfer {
                to,
                ticks_left: self.config.election_ticks.end,
                asked: false,
            });
        }
        Ok(to)
    }

    /// Counts down a transfer under way. One that did not succeed in time is given up: proposals are taken again. The
    /// successor may still be elected later, as anybody may.
    pub(super) fn tick_transfer(&mut self) {
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        if let Some(transfer) = &mut leadership.transfer {
            transfer.ticks_left = transfer.ticks_left.saturating_sub(1);
            if transfer.ticks_left == 0 {
                leadership.transfer = None;
            }
        }
    }

    /// Asks the successor to take over, once it holds everything durably.
    pub(super) fn hand_over_if_caught_up(&mut self) {
        let (term, last) = (self.hard_state.term, self.log.last().index);
        let Role::Leader(leadership) = &mut self.role else {
            return;
        };
        let Some(transfer) = leadership.transfer.as_mut().filter(|transfer| !transfer.asked) else {
            return;
        };
        let to = transfer.to;
        if leadership
            .progress
            .get(&to)
            .is_some_and(|progress| progress.matched == last)
        {
            transfer.asked = true;
            leadership.lease_forfeited = true;
            self.send(Gate::Open, to, Message::TimeoutNow { term });
        }
    }

    /// Leaves the office because this node cannot fill it, and asks the best successor, if one has everything, to stand
    /// for election without waiting.
    pub(super) fn resign(&mut self) {
        let (term, last) = (self.hard_state.term, self.log.last().index);
        let successor = self
            .best_successor()
            .filter(|peer| self.matched(*peer) >= last.min(self.log.commit()));
        if let Some(successor) = successor {
            self.send(Gate::Open, successor, Message::TimeoutNow { term });
        }
        self.become_follower(term, None);
    }

    /// The leader asks this node to take over. Only a voter that may campaign at all does.
    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term) {
        let from_leader = term == self.hard_state.term && self.leader == Some(from);
        if from_leader && !matches!(self.role, Role::Leader(_)) && self.may_campaign() {
            self.campaign(true);
        }
    }

    /// The connected, fit voter whose disk has come furthest.
    pub(super) fn best_successor(&self) -> Option<NodeId> {
        let Role::Leader(leadership) = &self.role else {
            return None;
        };
        let fit = leadership.progress.iter().filter(|(peer, progress)| {
            !progress.unfit && self.connected.contains_key(peer) && self.may_lead(**peer)
        });
        fit.max_by_key(|(_, progress)| progress.matched)
            .map(|(peer, _)| *peer)
    }

    fn may_lead(&self, peer: NodeId) -> bool {
        match self.log.configuration() {
            Some((_, configuration)) => configuration
                .members
                .get(&peer)
                .is_some_and(|member| member.voter),
            None => self.met().contains(&peer),
        }
    }
}
