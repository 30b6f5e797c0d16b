//! Changing the cluster: what was asked, until it is done.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::driver::Driver;
use super::pending::{PendingChange, PendingTransfer};
use super::requests::Failure;
use super::status::MemberRole;
use crate::config::PeerAddress;
use crate::raft::{
    Change, ChangeRefused, Configuration, Index, Member, NodeId, Position, RoleKind, Term, TransferRefused,
};

pub(super) type Reply = oneshot::Sender<Result<AdminDone, Failure>>;

/// What is asked of a node.
pub(crate) enum Admin {
    Change {
        change: MemberChange,
        /// Only if the newest configuration is the one at this index.
        expected: Option<Index>,
    },
    /// To a node, or to the best.
    Transfer {
        name: Option<String>,
    },
    Snapshot,
}

/// Who is to belong to the cluster, and how.
pub(crate) enum MemberChange {
    Add { name: String, address: String },
    Promote { name: String },
    Remove { name: String },
}

/// It is done.
#[derive(Debug, Clone)]
pub(crate) enum AdminDone {
    /// The configuration at this index is in force.
    Changed {
        index: Index,
        term: Term,
    },
    /// Somebody else leads now.
    Transferred {
        term: Term,
        leader: String,
    },
    Snapshot {
        last: Position,
        bytes: u64,
    },
}

/// See `GetMembershipResponse`.
pub(crate) struct Membership {
    pub(crate) term: Term,
    pub(crate) index: Index,
    pub(crate) committed: bool,
    pub(crate) joint: bool,
    pub(crate) members: Vec<MemberStatus>,
    pub(crate) removed: Vec<String>,
}

pub(crate) struct MemberStatus {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) role: MemberRole,
    pub(crate) matched: Index,
    pub(crate) connected: bool,
}

impl Driver {
    pub(super) fn on_admin(&mut self, admin: Admin, reply: Reply) {
        // What is done by now is answered before anything takes its place.
        self.finish_admin();
        let (change, expected) = match admin {
            Admin::Snapshot => return self.keeping.want(reply),
            Admin::Transfer { name } => return self.begin_transfer(name, reply),
            Admin::Change { change, expected } => (change, expected),
        };
        match self.begin_change(change, expected) {
            Ok(begun) => self.pending.change = Some(PendingChange { begun, reply }),
            Err(failure) => drop(reply.send(Err(failure))),
        }
    }

    fn begin_change(&mut self, change: MemberChange, expected: Option<Index>) -> Result<Position, Failure> {
        self.check_expected(expected)?;
        let change = match change {
            MemberChange::Add { name, address } => {
                self.check_address(&name, &address)?;
                let (name, address) = (name.into(), address.into());
                Change::AddLearner { name, address }
            }
            MemberChange::Promote { name } => Change::Promote(NodeId::of(&name)),
            MemberChange::Remove { name } => Change::Remove(NodeId::of(&name)),
        };
        self.change(change)
    }

    /// Two who change the cluster at once, each by what it saw before, must not both be heeded.
    fn check_expected(&self, expected: Option<Index>) -> Result<(), Failure> {
        let core = &self.parts.core;
        let Some(expected) = expected else { return Ok(()) };
        // Another node's log says nothing about which configuration is the newest.
        if core.role() != RoleKind::Leader {
            return Err(self.not_leader(core.leader()));
        }
        let found = core.configuration().map_or(0, |(index, _)| index);
        match found == expected {
            true => Ok(()),
            false => Err(Failure::Forbidden(format!(
                "the configuration has moved on: the newest is at index {found}, not {expected}; look at the members \
                 again before you change them"
            ))),
        }
    }

    fn check_address(&self, name: &str, address: &str) -> Result<(), Failure> {
        let parsed = format!("{name}={address}").parse::<PeerAddress>();
        parsed.map_err(Failure::Forbidden)?;
        let core = &self.parts.core;
        let members = core.configuration().map(|(_, known)| &known.members);
        let taken = members.and_then(|members| members.values().find(|member| &*member.address == address));
        match taken {
            Some(member) => Err(Failure::Forbidden(format!(
                "{} is at {address} already; give the address of the new node",
                member.name
            ))),
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Change) -> Result<Position, Failure> {
        self.parts.core.change(change).map_err(|refused| {
            let why = match refused {
                ChangeRefused::NotLeader(leader) => return self.not_leader(leader),
                ChangeRefused::Transferring => return Failure::Transferring,
                ChangeRefused::TooEarly => {
                    return Failure::Failed("this leader has just been elected; try again in a moment".to_owned());
                }
                ChangeRefused::InProgress => {
                    return Failure::Failed("another change is not finished; try again when it is".to_owned());
                }
                ChangeRefused::NoConfiguration => return self.no_configuration(),
                ChangeRefused::Behind(lag) => {
                    return Failure::Failed(format!("it lacks {lag} entries; wait until it has caught up"));
                }
                ChangeRefused::HasConfiguration => "there is a configuration already".to_owned(),
                ChangeRefused::NotAMember => "no member has this name".to_owned(),
                ChangeRefused::AlreadyAMember => "a member has this name already".to_owned(),
                ChangeRefused::AlreadyAVoter => "it has a vote already".to_owned(),
                ChangeRefused::WasRemoved => {
                    "a node of this name was removed once; it may have made promises that it forgot, so choose another \
                     name"
                        .to_owned()
                }
                ChangeRefused::SameNumber => {
                    "another member has a name with the same number; choose another name".to_owned()
                }
                ChangeRefused::NoAddress => "every member needs an address at which the others reach it".to_owned(),
                ChangeRefused::LastVoter => "without it nobody would vote".to_owned(),
            };
            Failure::Forbidden(why)
        })
    }

    fn begin_transfer(&mut self, name: Option<String>, reply: Reply) {
        let core = &mut self.parts.core;
        let asked = name.map(|name| NodeId::of(&name));
        match core.transfer(asked) {
            Ok(_) => self.pending.transfer = Some(PendingTransfer::new(asked, core.term(), reply)),
            Err(refused) => {
                let forbidden = |why: &str| Failure::Forbidden(why.to_owned());
                let failure = match refused {
                    TransferRefused::NotLeader(leader) => self.not_leader(leader),
                    TransferRefused::InProgress(_) => Failure::Transferring,
                    TransferRefused::LeadsAlready => forbidden("it leads already"),
                    TransferRefused::NotAVoter => forbidden("no member with a vote has this name"),
                    TransferRefused::NotConnected => {
                        Failure::Failed("it is not connected to the leader".to_owned())
                    }
                    TransferRefused::Nobody => {
                        Failure::Failed("nobody else could lead at present".to_owned())
                    }
                };
                drop(reply.send(Err(failure)));
            }
        }
    }

    /// A leader that has met everybody writes down who belongs to the cluster.
    pub(super) fn write_first_configuration(&mut self) {
        let (core, members) = (&self.parts.core, &self.parts.members);
        let voters = core.voters_told();
        let opens = core.role() == RoleKind::Leader && core.configuration().is_none() && voters > 0;
        // A lone node that listens everywhere can go on without: nobody has to find it.
        let opens = opens && !self.parts.own_address.is_empty();
        if !opens || !members.all_named() || core.met().len() + 1 != voters {
            return;
        }
        let own = (members.own_name.clone(), self.parts.own_address.clone());
        let others = members
            .slots()
            .into_iter()
            .filter_map(|(address, node)| Some((node?.0, address)));
        let all = others.chain([own]).map(|(name, address)| {
            let member = Member {
                name: name.as_str().into(),
                address: address.into(),
                voter: true,
                outgoing_voter: false,
            };
            (NodeId::of(&name), member)
        });
        let first = Configuration {
            members: all.collect(),
            ..Configuration::default()
        };
        // Too early right after the election: the next turn tries again.
        let _ = self.parts.core.change(Change::Begin(first));
    }

    /// Tells the transport when the log says something new about who belongs to the cluster.
    pub(super) fn notice_configuration(&mut self) {
        let core = &mut self.parts.core;
        let now = core
            .configuration()
            .map(|(index, known)| (index, Arc::clone(known)));
        // Not the index alone: another leader's may have taken its place there.
        let identity = |found: &Option<(Index, Arc<Configuration>)>| {
            found.as_ref().map(|(at, of)| (*at, Arc::as_ptr(of)))
        };
        if identity(&self.configuration) == identity(&now) {
            return;
        }
        let configuration = now.as_ref().map(|(_, known)| &**known);
        let own_name = self.parts.members.own_name.as_str();
        if configuration.is_some_and(|known| known.removed.contains(own_name)) {
            tracing::warn!(
                "this node was removed from this cluster: it takes no part any more and can be stopped"
            );
        }
        if let Err(error) = self.parts.members.update(configuration) {
            tracing::error!(
                "cannot keep the names of the members: {error}{}",
                crate::run::causes(&error)
            );
        }
        if let Some(configuration) = configuration {
            let gone: Vec<NodeId> = self
                .links
                .keys()
                .copied()
                .filter(|peer| !configuration.members.contains_key(peer))
                .collect();
            for peer in gone {
                if let Some((epoch, _)) = self.links.remove(&peer) {
                    core.peer_down(peer, epoch);
                }
            }
            let members = &configuration.members;
            self.stop_sending(|peer, _| members.contains_key(&peer));
        }
        self.configuration = now;
    }

    pub(super) fn membership(&self) -> Result<Membership, Failure> {
        let core = &self.parts.core;
        if core.role() != RoleKind::Leader {
            return Err(self.not_leader(core.leader()));
        }
        let own = self.parts.members.own_id;
        let Some((index, configuration)) = core.configuration() else {
            return Err(self.no_configuration());
        };
        let members = configuration.members.iter().map(|(id, member)| MemberStatus {
            name: member.name.to_string(),
            address: member.address.to_string(),
            role: super::status::member_role(Some(configuration), *id),
            matched: if *id == own {
                core.durable_index()
            } else {
                core.matched(*id)
            },
            connected: *id == own || self.links.contains_key(id),
        });
        Ok(Membership {
            term: core.term(),
            index,
            committed: index <= core.commit(),
            joint: configuration.joint,
            members: members.collect(),
            removed: configuration
                .removed
                .iter()
                .map(|name| name.to_string())
                .collect(),
        })
    }

    /// Why nobody has written down yet who belongs to the cluster.
    fn no_configuration(&self) -> Failure {
        let why = match self.parts.own_address.is_empty() {
            true => {
                "this node listens on every address of its machine and was not told at which one the others reach it; \
                 start it again with --advertise"
            }
            false => {
                "the leader has not met every node of the cluster yet, so it cannot write down who belongs to it; start \
                 the missing nodes"
            }
        };
        Failure::Failed(why.to_owned())
    }
}
