//! Who belongs to the cluster: configurations as they stand in the log (§6 of the Raft paper, joint consensus).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::storage;

use super::types::NodeId;

/// One node of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name, of which the [`NodeId`] is made.
    pub name: Arc<str>,
    /// Where the others reach it, unless they were told otherwise.
    pub address: Arc<str>,
    /// Votes in the configuration that is entered.
    pub voter: bool,
    /// Votes in the configuration that is left, while both count.
    pub outgoing_voter: bool,
}

/// Who belongs to the cluster. Joint while any member is an outgoing voter: then majorities of both the incoming and
/// the outgoing voters are needed. A member that is neither is a learner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// By number.
    pub members: BTreeMap<NodeId, Member>,
    /// Whether two sets of voters count.
    pub joint: bool,
    /// Names of nodes that were removed. None of them may come back: it may have made promises that it forgot.
    pub removed: BTreeSet<Arc<str>>,
}

/// An entry that should hold a configuration holds something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload is no configuration")]
pub struct NoConfiguration;

impl Configuration {
    /// As the payload of an entry or a part of a snapshot.
    pub fn encode(&self) -> Bytes {
        let members = self.members.values().map(|member| storage::Member {
            name: member.name.to_string(),
            address: member.address.to_string(),
            voter: member.voter,
            outgoing_voter: member.outgoing_voter,
        });
        let wire = storage::Configuration {
            members: members.collect(),
            joint: self.joint,
            removed: self.removed.iter().map(|name| name.to_string()).collect(),
        };
        wire.encode_to_vec().into()
    }

    /// Reads what [`Configuration::encode`] wrote.
    pub fn decode(payload: Bytes) -> Result<Configuration, NoConfiguration> {
        let wire = storage::Configuration::decode(payload).map_err(|_| NoConfiguration)?;
        let mut configuration = Configuration {
            joint: wire.joint,
            removed: wire.removed.into_iter().map(Arc::from).collect(),
            ..Configuration::default()
        };
        for member in wire.members {
            let id = NodeId::of(&member.name);
            let (voter, outgoing_voter) = (member.voter, member.outgoing_voter);
            let member = Member {
                name: member.name.into(),
                address: member.address.into(),
                voter,
                outgoing_voter,
            };
            if configuration.members.insert(id, member).is_some() || (outgoing_voter && !configuration.joint)
            {
                return Err(NoConfiguration);
            }
        }
        match configuration.members.values().any(|member| member.voter) {
            true => Ok(configuration),
            false => Err(NoConfiguration),
        }
    }

    /// The voters of the configuration that is entered, or the only ones.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members
            .iter()
            .filter(|(_, member)| member.voter)
            .map(|(id, _)| *id)
    }

    /// The voters of the configuration that is left; none unless it is joint.
    pub fn outgoing_voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members
            .iter()
            .filter(|(_, member)| member.outgoing_voter)
            .map(|(id, _)| *id)
    }

    /// Whether a node has a vote, in either set.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.voter || member.outgoing_voter)
    }
}
