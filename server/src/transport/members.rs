//! Who belongs to the cluster: addresses from the command line, names learned at the handshake and held on to.
//!
//! Votes are counted by name, so a name is worth more than an address: once a name is known it is written down in the
//! data directory, and when all names are known no other is ever accepted. With the name goes the number of the store
//! that was found behind it first: the same name with another store has forgotten its promises and is refused. That finds
//! out mistakes; what keeps attackers out is in `access`.
//!
//! Once the log says who belongs to the cluster, that counts: members that the command line does not know are dialled
//! where the log says they are, and nodes that were removed are refused by name. An address on the command line still
//! goes before the one in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use tonic::Request;
use tonic::transport::ClientTlsConfig;

use super::identity::{from_text, in_text, replace_file, sealed, unsealed};
use crate::config::PeerAddress;
use crate::raft::{Configuration, Epoch, NodeId};
use crate::token::Token;

mod differences;
mod error;
mod hosts;

pub(crate) use error::MembersError;

/// The nodes of one cluster as one of them sees it. Shared by everything that talks to peers.
pub(crate) struct Members {
    pub(crate) own_name: String,
    pub(crate) own_id: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) store_id: u64,
    /// What this node tells of its loyalty to leaders, in milliseconds.
    pub(super) loyal_ms: u64,
    /// How to reach peers over TLS, if they are.
    pub(super) tls: Option<ClientTlsConfig>,
    /// What nodes bring along when they call each other, if they do.
    pub(super) token: Option<Token>,
    /// This node waits to be taken in by a cluster: it counts nobody as its own.
    joining: bool,
    file: PathBuf,
    epochs: AtomicU64,
    changed: tokio::sync::watch::Sender<u64>,
    known: Mutex<Known>,
}

struct Known {
    /// Addresses to dial, and the name found there.
    slots: Vec<Slot>,
    /// Names of peers that vote, at most as many as there are slots; kept on disk.
    names: BTreeMap<NodeId, Named>,
    /// Processes of each node that a later one has taken the place of, and how often they were met again since.
    replaced: BTreeMap<(NodeId, u64), u32>,
    /// What the log says, once it says anything.
    configured: Option<Configured>,
}

struct Configured {
    members: BTreeMap<NodeId, (String, String)>,
    removed: BTreeSet<String>,
}

struct Named {
    name: String,
    /// Its store, known from the first contact on; kept on disk.
    store_id: Option<u64>,
    /// The process that was met last.
    incarnation: Option<u64>,
    /// What was last said about this name, so that it is said once.
    complaint: String,
}

/// How a node introduces itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Introduction<'a> {
    pub(crate) name: &'a str,
    pub(crate) store_id: u64,
    pub(crate) incarnation: u64,
}

/// A greeting of a process that is gone may be read after the one of its successor, once on each connection it made;
/// whoever comes back more often than this is alive.
const LATE_GREETINGS_MAX: u32 = 8;

struct Slot {
    address: String,
    name: Option<String>,
    /// From the log, not from the command line.
    configured: bool,
    /// Nobody is dialled here any more.
    gone: bool,
}

impl Members {
    /// Reads the names written down earlier and adds those given on the command line.
    pub(crate) fn open(
        own_name: &str,
        incarnation: u64,
        store_id: u64,
        peers: &[PeerAddress],
        joining: bool,
        data_dir: &Path,
    ) -> Result<Members, MembersError> {
        let slots = peers
            .iter()
            .map(|peer| Slot {
                address: peer.address.clone(),
                name: None,
                configured: false,
                gone: false,
            })
            .collect();
        let members = Members {
            own_name: own_name.to_owned(),
            own_id: NodeId::of(own_name),
            incarnation,
            store_id,
            loyal_ms: 0,
            tls: None,
            token: None,
            joining,
            file: data_dir.join("peers"),
            epochs: AtomicU64::new(1),
            changed: tokio::sync::watch::Sender::new(0),
            known: Mutex::new(Known {
                slots,
                names: BTreeMap::new(),
                replaced: BTreeMap::new(),
                configured: None,
            }),
        };
        let written = match fs::read_to_string(&members.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(MembersError::Disk {
                    path: members.file.clone(),
                    source,
                });
            }
        };
        for line in written.lines() {
            let (name, store_id) = read_line(line).ok_or_else(|| MembersError::Damaged {
                path: members.file.clone(),
                line: line.to_owned(),
            })?;
            members.add_written(name, store_id)?;
        }
        for (at, peer) in peers.iter().enumerate() {
            if let Some(name) = &peer.name {
                members.bind(at, name)?;
            }
        }
        Ok(members)
    }

    /// The same, reaching its peers over TLS and with a token, and taking nothing from them that comes without.
    pub(crate) fn with_credentials(mut self, tls: Option<ClientTlsConfig>, token: Option<Token>) -> Members {
        (self.tls, self.token) = (tls, token);
        self
    }

    /// The same, telling its peers for how many milliseconds it is loyal to a leader.
    pub(crate) fn with_loyalty(mut self, loyal_ms: u64) -> Members {
        self.loyal_ms = loyal_ms;
        self
    }

    /// A call to a peer, with the token if there is one.
    pub(super) fn authorised<T>(&self, mut request: Request<T>) -> Request<T> {
        if let Some(token) = &self.token {
            token.attach(request.metadata_mut());
        }
        request
    }

    /// How many nodes vote, this one included, as far as the command line tells; 0 if it does not, because this node is
    /// yet to be taken in by its cluster.
    pub(crate) fn voters(&self) -> usize {
        match self.joining {
            true => 0,
            false => self.lock().slots.iter().filter(|slot| !slot.configured).count() + 1,
        }
    }

    /// The same for a greeting: 0 as well once the log says who votes.
    pub(super) fn voters_to_compare(&self) -> usize {
        let configured = self.lock().configured.is_some();
        if configured { 0 } else { self.voters() }
    }

    /// A number for a new connection, never used before by this process.
    pub(super) fn next_epoch(&self) -> Epoch {
        self.epochs.fetch_add(1, Relaxed)
    }

    /// Counts the changes of who is to be dialled.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The slots that are to be dialled at present.
    pub(super) fn dialled(&self) -> Vec<usize> {
        let known = self.lock();
        (0..known.slots.len())
            .filter(|at| !known.slots[*at].gone)
            .collect()
    }

    /// Whether all names behind the addresses of the command line are known.
    pub(crate) fn all_named(&self) -> bool {
        self.lock().slots.iter().all(|slot| slot.name.is_some())
    }

    /// Takes in what the newest configuration in the log says. It may go back to an earlier one.
    pub(crate) fn update(&self, configuration: Option<&Configuration>) -> Result<(), MembersError> {
        let mut guard = self.lock();
        let known = &mut *guard;
        known.configured = configuration.map(|configuration| Configured {
            members: configuration
                .members
                .iter()
                .map(|(id, member)| (*id, (member.name.to_string(), member.address.to_string())))
                .collect(),
            removed: configuration
                .removed
                .iter()
                .map(|name| name.to_string())
                .collect(),
        });
        known.dial_members(self.own_id);
        let new = known.configured.iter().flat_map(|configured| &configured.members);
        let new: Vec<_> = new
            .filter(|(id, _)| **id != self.own_id && !known.names.contains_key(id))
            .map(|(id, (name, _))| (*id, name.clone()))
            .collect();
        if !new.is_empty() {
            known
                .names
                .extend(new.into_iter().map(|(id, name)| (id, Named::new(name, None))));
            self.write(&known.names)?;
        }
        drop(guard);
        self.changed.send_modify(|changes| *changes += 1);
        Ok(())
    }

    pub(crate) fn address(&self, slot: usize) -> String {
        self.lock().slots[slot].address.clone()
    }

    /// Who is expected at an address, once that is known.
    pub(crate) fn expected_at(&self, slot: usize) -> Option<String> {
        self.lock().slots[slot].name.clone()
    }

    /// Where a node is reached, if that is known.
    pub(super) fn address_of(&self, id: NodeId) -> Option<String> {
        let known = self.lock();
        let name = &known.names.get(&id)?.name;
        let at = known
            .slots
            .iter()
            .find(|slot| !slot.gone && slot.name.as_deref() == Some(name));
        at.map(|slot| slot.address.clone())
    }

    /// The node at a slot has said who it is. Remembers it, or says why it cannot be.
    pub(crate) fn introduce(&self, slot: usize, peer: Introduction<'_>) -> Result<NodeId, MembersError> {
        let id = self.meet(slot, peer)?;
        self.recognise(peer)?;
        Ok(id)
    }

    /// The same for one that has said its name only.
    pub(super) fn meet(&self, slot: usize, peer: Introduction<'_>) -> Result<NodeId, MembersError> {
        if peer.name == self.own_name && peer.incarnation == self.incarnation {
            let address = self.address(slot);
            return Err(MembersError::Myself { address });
        }
        self.bind(slot, peer.name)
    }

    /// The number of a peer that has greeted this node, if its name is known already: a name is learned only by
    /// dialling an address that was given. Its store is remembered, or compared with the one that is.
    pub(crate) fn recognise(&self, peer: Introduction<'_>) -> Result<Option<NodeId>, MembersError> {
        let id = NodeId::of(peer.name);
        let name = || peer.name.to_owned();
        let mut guard = self.lock();
        let known = &mut *guard;
        if known
            .configured
            .as_ref()
            .is_some_and(|configured| configured.removed.contains(peer.name))
        {
            return Err(MembersError::Removed { name: name() });
        }
        let Some(named) = known.names.get_mut(&id).filter(|known| known.name == peer.name) else {
            return Ok(None);
        };
        match named.store_id {
            Some(store_id) if store_id != peer.store_id => {
                return Err(MembersError::OtherStore {
                    name: name(),
                    known: store_id,
                    found: peer.store_id,
                });
            }
            Some(_) => {}
            None => {
                named.store_id = Some(peer.store_id);
                if let Err(error) = self.write(&known.names) {
                    known.names.entry(id).and_modify(|named| named.store_id = None);
                    return Err(error);
                }
            }
        }
        if let Some(times) = known.replaced.get_mut(&(id, peer.incarnation)) {
            *times = times.saturating_add(1);
            return Err(match *times > LATE_GREETINGS_MAX {
                true => MembersError::Replaced { name: name() },
                false => MembersError::Late { name: name() },
            });
        }
        if let Some(named) = known.names.get_mut(&id) {
            let before = named.incarnation.replace(peer.incarnation);
            named.complaint.clear();
            if let Some(before) = before.filter(|before| *before != peer.incarnation) {
                known.replaced.insert((id, before), 0);
            }
        }
        Ok(Some(id))
    }

    /// Whether no later process has taken the place of this one, and its node was not removed.
    pub(crate) fn is_current(&self, id: NodeId, incarnation: u64) -> bool {
        let known = self.lock();
        let removed = known.configured.as_ref().zip(known.names.get(&id));
        let removed = removed.is_some_and(|(configured, named)| configured.removed.contains(&named.name));
        !removed && !known.replaced.contains_key(&(id, incarnation))
    }

    /// Says what is wrong with who uses a known name: once, whichever side dialled, until the right node is met again.
    /// Says nothing about other errors and returns false.
    pub(crate) fn report(&self, error: &MembersError) -> bool {
        let (MembersError::OtherStore { name, .. }
        | MembersError::Replaced { name }
        | MembersError::Removed { name }) = error
        else {
            return false;
        };
        let text = error.to_string();
        if let Some(named) = self.lock().names.get_mut(&NodeId::of(name))
            && named.complaint != text
        {
            match error {
                // Only here, not in what the peer is told: with the number it could use the name.
                MembersError::OtherStore { known, found, .. } => {
                    let [known, found] = [known, found].map(|store_id| in_text(*store_id));
                    tracing::error!(known, found, "refused a peer: {text}");
                }
                _ => tracing::error!("refused a peer: {text}"),
            }
            named.complaint = text;
        }
        true
    }

    /// Whether a name could still turn out to belong to this cluster.
    pub(crate) fn has_room(&self) -> bool {
        let known = self.lock();
        self.joining && known.configured.is_none() || known.names.len() < known.slots.len()
    }

    /// Name and address of a node, for clients. The own address is not known here.
    pub(crate) fn name_and_address(&self, id: NodeId) -> (String, String) {
        if id == self.own_id {
            return (self.own_name.clone(), String::new());
        }
        let known = self.lock();
        let name = known.names.get(&id).map(|named| named.name.clone());
        let name = name.unwrap_or_default();
        let slot = known
            .slots
            .iter()
            .find(|slot| slot.name.as_deref() == Some(&name));
        let address = slot.map(|slot| slot.address.clone());
        let configured = || Some(known.configured.as_ref()?.members.get(&id)?.1.clone());
        (name, address.or_else(configured).unwrap_or_default())
    }

    /// Every slot with its address and, where known, the node there.
    pub(crate) fn slots(&self) -> Vec<(String, Option<(String, NodeId)>)> {
        let known = self.lock();
        let node = |slot: &Slot| slot.name.clone().map(|name| (name.clone(), NodeId::of(&name)));
        known
            .slots
            .iter()
            .filter(|slot| !slot.gone)
            .map(|slot| (slot.address.clone(), node(slot)))
            .collect()
    }

    fn bind(&self, at: usize, name: &str) -> Result<NodeId, MembersError> {
        {
            let mut known = self.lock();
            if let Some(configured) = &known.configured {
                if configured.removed.contains(name) {
                    return Err(MembersError::Removed {
                        name: name.to_owned(),
                    });
                }
                if name != self.own_name && !configured.members.contains_key(&NodeId::of(name)) {
                    return Err(known.stranger(name));
                }
            }
            let slot = &known.slots[at];
            if let Some(expected) = slot.name.as_ref().filter(|expected| *expected != name) {
                let (address, expected) = (slot.address.clone(), expected.clone());
                return Err(MembersError::WrongName {
                    address,
                    name: name.to_owned(),
                    expected,
                });
            }
            let elsewhere = |(other, slot): &(usize, &Slot)| {
                *other != at && !slot.configured && slot.name.as_deref() == Some(name)
            };
            if let Some((_, other)) = known.slots.iter().enumerate().find(elsewhere) {
                let (first, second) = (other.address.clone(), slot.address.clone());
                return Err(MembersError::Twice {
                    name: name.to_owned(),
                    first,
                    second,
                });
            }
            if name == self.own_name {
                let (first, second) = ("this address".to_owned(), slot.address.clone());
                return Err(MembersError::Twice {
                    name: name.to_owned(),
                    first,
                    second,
                });
            }
            // Found at an address of the command line, which goes before the one in the log.
            if !slot.configured {
                let known = &mut *known;
                let same = |slot: &&mut Slot| slot.configured && slot.name.as_deref() == Some(name);
                known
                    .slots
                    .iter_mut()
                    .filter(same)
                    .for_each(|slot| slot.gone = true);
            }
        }
        let id = self.learn_name(name)?;
        self.lock().slots[at].name = Some(name.to_owned());
        self.changed.send_modify(|changes| *changes += 1);
        Ok(id)
    }

    fn learn_name(&self, name: &str) -> Result<NodeId, MembersError> {
        let id = NodeId::of(name);
        if self.add_name(name, None)? {
            self.write(&self.lock().names)?;
        }
        Ok(id)
    }

    /// Takes a name in, in memory. False if it is known already.
    fn add_name(&self, name: &str, store_id: Option<u64>) -> Result<bool, MembersError> {
        let id = NodeId::of(name);
        let mut known = self.lock();
        if let Some(other) = known.names.get(&id) {
            if other.name == name {
                return Ok(false);
            }
            return Err(MembersError::SameNumber {
                one: other.name.clone(),
                other: name.to_owned(),
            });
        }
        if id == self.own_id {
            return Err(MembersError::SameNumber {
                one: self.own_name.clone(),
                other: name.to_owned(),
            });
        }
        let counted = known.configured.is_none() && !self.joining;
        if counted && known.names.len() >= known.slots.len() {
            return Err(known.stranger(name));
        }
        known.names.insert(id, Named::new(name.to_owned(), store_id));
        Ok(true)
    }

    /// Takes in a name from the file. There may be more of them than addresses on the command line: the log says who they
    /// are.
    fn add_written(&self, name: &str, store_id: Option<u64>) -> Result<(), MembersError> {
        match self.add_name(name, store_id) {
            Err(MembersError::Stranger { .. }) => {
                let named = Named::new(name.to_owned(), store_id);
                self.lock().names.insert(NodeId::of(name), named);
                Ok(())
            }
            outcome => outcome.map(drop),
        }
    }

    fn write(&self, names: &BTreeMap<NodeId, Named>) -> Result<(), MembersError> {
        let line = |named: &Named| match named.store_id {
            Some(store_id) => sealed(&format!("{} {}", named.name, in_text(store_id))),
            None => sealed(&named.name),
        };
        let text: String = names.values().map(line).collect();
        replace_file(&self.file, &text).map_err(|source| MembersError::Disk {
            path: self.file.clone(),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known
            .lock()
            .expect("nobody panics while holding the list of members")
    }
}

impl Named {
    fn new(name: String, store_id: Option<u64>) -> Named {
        Named {
            name,
            store_id,
            incarnation: None,
            complaint: String::new(),
        }
    }
}

impl Known {
    /// Makes sure that every member of the configuration is dialled, and nobody else that it brought.
    fn dial_members(&mut self, own_id: NodeId) {
        let Some(configured) = &self.configured else {
            return;
        };
        for slot in &mut self.slots {
            let member = slot.name.as_deref().map(NodeId::of);
            let belongs = member.is_none_or(|id| configured.members.contains_key(&id));
            slot.gone = !belongs;
        }
        let named = |id: &NodeId| {
            self.slots
                .iter()
                .any(|slot| slot.name.as_deref().map(NodeId::of) == Some(*id))
        };
        let missing: Vec<_> = (configured.members.iter())
            .filter(|(id, _)| **id != own_id && !named(id))
            .map(|(_, member)| member.clone())
            .collect();
        let unnamed = self.slots.iter().filter(|slot| slot.name.is_none()).count();
        // As long as there are enough addresses behind which they may be, they are looked for there.
        if missing.len() > unnamed {
            self.slots.extend(missing.into_iter().map(|(name, address)| Slot {
                address,
                name: Some(name),
                configured: true,
                gone: false,
            }));
        }
    }

    fn stranger(&self, name: &str) -> MembersError {
        let names: Vec<&str> = self.names.values().map(|named| named.name.as_str()).collect();
        MembersError::Stranger {
            name: name.to_owned(),
            known: names.join(", "),
        }
    }
}

/// A name with its store, or alone while that is not known; each line has a checksum.
fn read_line(line: &str) -> Option<(&str, Option<u64>)> {
    let line = unsealed(line)?;
    match line.split_once(' ') {
        None => (!line.is_empty()).then_some((line, None)),
        Some((name, store_id)) => Some((name, Some(from_text(store_id)?))),
    }
}

#[cfg(test)]
mod tests;
