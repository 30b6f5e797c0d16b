//! Changing who belongs to the cluster while it runs (§6 of the Raft paper). Whatever touches the right to vote goes
//! through a joint configuration, in which majorities of the old and of the new voters are needed; the leader leaves it
//! by itself as soon as it is committed. A configuration counts from the moment it is in the log.

use std::sync::Arc;

use super::core::{Core, Role};
use super::membership::{Configuration, Member};
use super::progress::Progress;
use super::types::{EntryKind, Index, NodeId, Position};

/// A change to the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The first configuration, which says in the log what every node was told at its start: who votes.
    Begin(Configuration),
    /// A node that receives everything and does not vote.
    AddLearner {
        /// Its name.
        name: Arc<str>,
        /// Where the others reach it.
        address: Arc<str>,
    },
    /// A learner that has caught up gets a vote.
    Promote(NodeId),
    /// A node leaves. Its name never comes back.
    Remove(NodeId),
}

/// Why a change was not begun. Nothing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeRefused {
    /// This node does not lead; the one it holds for the leader, if any.
    NotLeader(Option<NodeId>),
    /// There is no configuration in the log yet: the leader has not met every node.
    NoConfiguration,
    /// There is one already.
    HasConfiguration,
    /// An earlier change is not committed yet, or was not left yet.
    InProgress,
    /// This leader has committed nothing of its own term yet (Ongaro 2015, on single-server changes): a moment later it
    /// has.
    TooEarly,
    /// The office is being handed over.
    Transferring,
    /// No member has this number.
    NotAMember,
    /// A member has this name already.
    AlreadyAMember,
    /// It has a vote already.
    AlreadyAVoter,
    /// The name was removed once.
    WasRemoved,
    /// Another member has a name of the same number.
    SameNumber,
    /// Without it nobody would vote.
    LastVoter,
    /// A member would have no address, so nobody could reach it.
    NoAddress,
    /// It lacks so many entries.
    Behind(u64),
}

impl Core {
    /// Begins a change. It is done when the configuration, no longer joint, is committed.
    pub fn change(&mut self, change: Change) -> Result<Position, ChangeRefused> {
        let Role::Leader(leadership) = &self.role else {
            return Err(ChangeRefused::NotLeader(self.leader));
        };
        if leadership.transfer.is_some() {
            return Err(ChangeRefused::Transferring);
        }
        if self.log.commit() < leadership.opened_at {
            return Err(ChangeRefused::TooEarly);
        }
        let next = match (self.log.configuration(), change) {
            (None, Change::Begin(first))
                if first.members.values().any(|member| member.address.is_empty()) =>
            {
                return Err(ChangeRefused::NoAddress);
            }
            (None, Change::Begin(first)) => first,
            (None, _) => return Err(ChangeRefused::NoConfiguration),
            (Some(_), Change::Begin(_)) => return Err(ChangeRefused::HasConfiguration),
            (Some((index, now)), _) if index > self.log.commit() || now.joint => {
                return Err(ChangeRefused::InProgress);
            }
            (Some((_, now)), change) => self.changed(now, change)?,
        };
        Ok(self.append_configuration(&next))
    }

    fn changed(&self, now: &Configuration, change: Change) -> Result<Configuration, ChangeRefused> {
        let mut next = now.clone();
        match change {
            Change::Begin(_) => return Err(ChangeRefused::HasConfiguration),
            Change::AddLearner { address, .. } if address.is_empty() => return Err(ChangeRefused::NoAddress),
            Change::AddLearner { name, address } => {
                let id = NodeId::of(&name);
                match now.members.get(&id) {
                    Some(member) if member.name == name => return Err(ChangeRefused::AlreadyAMember),
                    Some(_) => return Err(ChangeRefused::SameNumber),
                    None if now.removed.contains(&name) => return Err(ChangeRefused::WasRemoved),
                    None => {}
                }
                let learner = Member {
                    name,
                    address,
                    voter: false,
                    outgoing_voter: false,
                };
                next.members.insert(id, learner);
            }
            Change::Promote(id) => {
                let member = now.members.get(&id).ok_or(ChangeRefused::NotAMember)?;
                if member.voter {
                    return Err(ChangeRefused::AlreadyAVoter);
                }
                let matched = self.matched(id);
                let lag = self.log.last().index - matched;
                // One that has acknowledged nothing may still need everything, however short the log.
                if matched == 0 || lag > self.config.promote_lag_max {
                    return Err(ChangeRefused::Behind(lag));
                }
                next.enter_joint();
                next.members.entry(id).and_modify(|member| member.voter = true);
            }
            Change::Remove(id) => {
                let member = now.members.get(&id).ok_or(ChangeRefused::NotAMember)?;
                if !member.voter {
                    next.remove(id);
                } else if now.voters().count() == 1 {
                    return Err(ChangeRefused::LastVoter);
                } else {
                    next.enter_joint();
                    next.members.entry(id).and_modify(|member| member.voter = false);
                }
            }
        }
        Ok(next)
    }

    /// A configuration may have been committed: leaves a joint one; leaves the office if this node is no longer a
    /// member. Does nothing the second time.
    pub(super) fn after_commit(&mut self) {
        let Some((index, configuration)) = self.log.configuration() else {
            return;
        };
        if index > self.log.commit() || !matches!(self.role, Role::Leader(_)) {
            return;
        }
        if configuration.joint {
            let next = configuration.left();
            self.append_configuration(&next);
        } else if !configuration.members.contains_key(&self.config.id) {
            // The others learn the commit index first: nobody else may know yet that this change is done.
            self.broadcast_heartbeats();
            self.resign();
        }
    }

    fn append_configuration(&mut self, next: &Configuration) -> Position {
        self.append(EntryKind::Configuration, next.encode())
            .expect("only a leader changes the configuration, and no limit holds it back")
    }

    /// A leader begins to feed new members and stops feeding those who left.
    pub(super) fn feed_members(&mut self) {
        let last = self.log.last().index;
        let Some((_, configuration)) = self.log.configuration() else {
            return;
        };
        let (configuration, own) = (Arc::clone(configuration), self.config.id);
        if let Role::Leader(leadership) = &mut self.role {
            let members = &configuration.members;
            leadership.progress.retain(|peer, _| members.contains_key(peer));
            for peer in members.keys().filter(|peer| **peer != own) {
                leadership
                    .progress
                    .entry(*peer)
                    .or_insert_with(|| Progress::unknown(last));
            }
        }
    }

    /// Whether a leader sends this peer its log.
    pub(super) fn feeds(&self, peer: NodeId) -> bool {
        self.log
            .configuration()
            .is_none_or(|(_, configuration)| configuration.members.contains_key(&peer))
    }

    /// The configuration as of `index`, for a snapshot that ends there.
    pub fn configuration_at(&self, index: Index) -> Option<&Arc<Configuration>> {
        self.log.configuration_at(index)
    }

    /// Whether the newest configuration is committed and not joint: no change is under way.
    pub fn configuration_is_settled(&self) -> bool {
        self.log
            .configuration()
            .is_some_and(|(index, configuration)| index <= self.log.commit() && !configuration.joint)
    }
}

impl Configuration {
    /// Both the present voters and the coming ones count from here on.
    fn enter_joint(&mut self) {
        self.joint = true;
        for member in self.members.values_mut() {
            member.outgoing_voter = member.voter;
        }
    }

    /// What comes after a joint configuration: only the incoming voters count. Who lost its vote is a member no more.
    fn left(&self) -> Configuration {
        let mut next = self.clone();
        next.joint = false;
        let gone = self
            .members
            .iter()
            .filter(|(_, member)| member.outgoing_voter && !member.voter);
        gone.for_each(|(id, _)| next.remove(*id));
        next.members
            .values_mut()
            .for_each(|member| member.outgoing_voter = false);
        next
    }

    fn remove(&mut self, id: NodeId) {
        if let Some(member) = self.members.remove(&id) {
            self.removed.insert(member.name);
        }
    }
}
