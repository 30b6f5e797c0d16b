//! Changing the cluster: what was asked, until it is done.

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::driver::Driver;
use super::requests::Failure;
use super::status::MemberRole;
use crate::config::PeerAddress;
use crate::raft::{
    Change, ChangeRefused, Configuration, Index, Member, NodeId, Position, RoleKind, Term, TransferRefused,
};

pub(super) type Reply = oneshot::Sender<Result<AdminDone, Failure>>;

/// A node that has handed over its office waits so long to hear who has it now.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked of a node.
pub(crate) enum Admin {
    AddMember {
        name: String,
        address: String,
    },
    Promote {
        name: String,
    },
    Remove {
        name: String,
    },
    /// To a node, or to the best.
    Transfer {
        name: Option<String>,
    },
    Snapshot,
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

/// What was begun and is not done.
#[derive(Default)]
pub(super) struct Pending {
    change: Option<(Index, Term, Reply)>,
    transfer: Option<PendingTransfer>,
}

struct PendingTransfer {
    term: Term,
    until: Instant,
    reply: Reply,
}

impl Driver {
    pub(super) fn on_admin(&mut self, admin: Admin, reply: Reply) {
        let begun = match admin {
            Admin::Snapshot => return self.keeping.want(reply),
            Admin::Transfer { name } => return self.begin_transfer(name, reply),
            Admin::AddMember { name, address } => self.check_address(&name, &address).and_then(|()| {
                let (name, address) = (name.into(), address.into());
                self.change(Change::AddLearner { name, address })
            }),
            Admin::Promote { name } => self.change(Change::Promote(NodeId::of(&name))),
            Admin::Remove { name } => self.change(Change::Remove(NodeId::of(&name))),
        };
        match begun {
            Ok(position) => self.pending.change = Some((position.index, position.term, reply)),
            Err(failure) => drop(reply.send(Err(failure))),
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
        match core.transfer(name.map(|name| NodeId::of(&name))) {
            Ok(_) => {
                self.pending.transfer = Some(PendingTransfer {
                    term: core.term(),
                    until: Instant::now() + SUCCESSOR_TIMEOUT,
                    reply,
                });
            }
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

    /// Answers what is done, or will not be.
    pub(super) fn finish_admin(&mut self) {
        let core = &self.parts.core;
        let (leads, term) = (core.role() == RoleKind::Leader, core.term());
        if let Some((index, begun_in, reply)) = self.pending.change.take() {
            let settled = core.configuration_is_settled();
            match core.configuration() {
                Some((found, _)) if settled && found >= index => {
                    let index = found;
                    drop(reply.send(Ok(AdminDone::Changed { index, term })));
                }
                _ if !leads || term != begun_in => drop(reply.send(Err(Failure::Lost { term }))),
                _ => self.pending.change = Some((index, begun_in, reply)),
            }
        }
        let core = &self.parts.core;
        if let Some(transfer) = self.pending.transfer.take() {
            let elsewhere = core.leader().filter(|_| term > transfer.term);
            let stays = leads && term == transfer.term && !core.is_transferring();
            if let Some(leader) = elsewhere {
                let leader = self.parts.members.name_and_address(leader).0;
                drop(transfer.reply.send(Ok(AdminDone::Transferred { term, leader })));
            } else if stays {
                let why = "the successor did not take over in time; this node still leads".to_owned();
                drop(transfer.reply.send(Err(Failure::Failed(why))));
            } else if Instant::now() > transfer.until {
                drop(transfer.reply.send(Err(Failure::Lost { term })));
            } else {
                self.pending.transfer = Some(transfer);
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
            .map(|(index, known)| (index, std::sync::Arc::clone(known)));
        if self.configuration.as_ref().map(|known| known.0) == now.as_ref().map(|now| now.0) {
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
