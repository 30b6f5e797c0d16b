//! Who belongs to the cluster: addresses from the command line, names learned at the handshake and held on to.
//!
//! Votes are counted by name, so a name is worth more than an address: once a name is known it is written down in the
//! data directory, and when all names are known no other is ever accepted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::config::PeerAddress;
use crate::raft::NodeId;

/// The nodes of one cluster as one of them sees it. Shared by everything that talks to peers.
pub(crate) struct Members {
    pub(crate) own_name: String,
    pub(crate) own_id: NodeId,
    pub(crate) incarnation: u64,
    file: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    /// Addresses to dial, and the name found there.
    slots: Vec<Slot>,
    /// Names of peers that vote, at most as many as there are slots; kept on disk.
    names: BTreeMap<NodeId, String>,
}

struct Slot {
    address: String,
    name: Option<String>,
}

/// Why a peer is not who it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembersError {
    #[error(
        "{name} is not one of this cluster's nodes ({known}); if a node was replaced by one with another name, this \
         cluster cannot take it in: start it under the old name with an empty data directory only if it was empty before"
    )]
    Stranger { name: String, known: String },
    #[error("the node at {address} says it is {name}, but --peers calls it {expected}; correct --peers")]
    WrongName {
        address: String,
        name: String,
        expected: String,
    },
    #[error("the node at {address} is this node itself; remove that address from --peers")]
    Myself { address: String },
    #[error(
        "two nodes call themselves {name}: at {first} and at {second}; give one of them another --node-id"
    )]
    Twice {
        name: String,
        first: String,
        second: String,
    },
    #[error("the names {one} and {other} cannot be told apart by their number; rename one of them")]
    SameNumber { one: String, other: String },
    #[error("cannot keep the names of the peers in {path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
}

impl Members {
    /// Reads the names written down earlier and adds those given on the command line.
    pub(crate) fn open(
        own_name: &str,
        incarnation: u64,
        peers: &[PeerAddress],
        data_dir: &Path,
    ) -> Result<Members, MembersError> {
        let slots = peers
            .iter()
            .map(|peer| Slot {
                address: peer.address.clone(),
                name: None,
            })
            .collect();
        let members = Members {
            own_name: own_name.to_owned(),
            own_id: NodeId::of(own_name),
            incarnation,
            file: data_dir.join("peers"),
            known: Mutex::new(Known {
                slots,
                names: BTreeMap::new(),
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
        for name in written.lines() {
            members.learn_name(name)?;
        }
        for (at, peer) in peers.iter().enumerate() {
            if let Some(name) = &peer.name {
                members.bind(at, name)?;
            }
        }
        Ok(members)
    }

    /// How many nodes vote, this one included.
    pub(crate) fn voters(&self) -> usize {
        self.lock().slots.len() + 1
    }

    pub(crate) fn address(&self, slot: usize) -> String {
        self.lock().slots[slot].address.clone()
    }

    /// Who is expected at an address, once that is known.
    pub(crate) fn expected_at(&self, slot: usize) -> Option<String> {
        self.lock().slots[slot].name.clone()
    }

    /// The node at a slot has said who it is. Remembers it, or says why it cannot be.
    pub(crate) fn introduce(
        &self,
        slot: usize,
        name: &str,
        incarnation: u64,
    ) -> Result<NodeId, MembersError> {
        let address = self.address(slot);
        if name == self.own_name && incarnation == self.incarnation {
            return Err(MembersError::Myself { address });
        }
        self.bind(slot, name)
    }

    /// The number of a peer that dialled this node, if its name is known already. A name is learned only by dialling
    /// an address that was given.
    pub(crate) fn known(&self, name: &str) -> Option<NodeId> {
        let id = NodeId::of(name);
        self.lock()
            .names
            .get(&id)
            .filter(|known| *known == name)
            .map(|_| id)
    }

    /// Whether a name could still turn out to belong to this cluster.
    pub(crate) fn has_room(&self) -> bool {
        let known = self.lock();
        known.names.len() < known.slots.len()
    }

    /// Name and address of a node, for clients. The own address is not known here.
    pub(crate) fn name_and_address(&self, id: NodeId) -> (String, String) {
        if id == self.own_id {
            return (self.own_name.clone(), String::new());
        }
        let known = self.lock();
        let name = known.names.get(&id).cloned().unwrap_or_default();
        let slot = known
            .slots
            .iter()
            .find(|slot| slot.name.as_deref() == Some(&name));
        (name, slot.map(|slot| slot.address.clone()).unwrap_or_default())
    }

    /// Every slot with its address and, where known, the node there.
    pub(crate) fn slots(&self) -> Vec<(String, Option<(String, NodeId)>)> {
        let known = self.lock();
        let node = |slot: &Slot| slot.name.clone().map(|name| (name.clone(), NodeId::of(&name)));
        known
            .slots
            .iter()
            .map(|slot| (slot.address.clone(), node(slot)))
            .collect()
    }

    fn bind(&self, at: usize, name: &str) -> Result<NodeId, MembersError> {
        {
            let known = self.lock();
            let slot = &known.slots[at];
            if let Some(expected) = slot.name.as_ref().filter(|expected| *expected != name) {
                let (address, expected) = (slot.address.clone(), expected.clone());
                return Err(MembersError::WrongName {
                    address,
                    name: name.to_owned(),
                    expected,
                });
            }
            let elsewhere =
                |(other, slot): &(usize, &Slot)| *other != at && slot.name.as_deref() == Some(name);
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
        }
        let id = self.learn_name(name)?;
        self.lock().slots[at].name = Some(name.to_owned());
        Ok(id)
    }

    fn learn_name(&self, name: &str) -> Result<NodeId, MembersError> {
        let id = NodeId::of(name);
        let mut known = self.lock();
        if let Some(other) = known.names.get(&id) {
            if other == name {
                return Ok(id);
            }
            return Err(MembersError::SameNumber {
                one: other.clone(),
                other: name.to_owned(),
            });
        }
        if id == self.own_id {
            return Err(MembersError::SameNumber {
                one: self.own_name.clone(),
                other: name.to_owned(),
            });
        }
        if known.names.len() >= known.slots.len() {
            let names: Vec<&str> = known.names.values().map(String::as_str).collect();
            return Err(MembersError::Stranger {
                name: name.to_owned(),
                known: names.join(", "),
            });
        }
        known.names.insert(id, name.to_owned());
        let text: String = known.names.values().map(|name| format!("{name}\n")).collect();
        replace_file(&self.file, &text).map_err(|source| MembersError::Disk {
            path: self.file.clone(),
            source,
        })?;
        Ok(id)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known
            .lock()
            .expect("nobody panics while holding the list of members")
    }
}

/// Puts a whole new file in the place of an old one, so that a crash leaves either of them.
fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn open(dir: &Path, peers: &[&str]) -> Members {
        let peers: Vec<PeerAddress> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        Members::open("node1", 7, &peers, dir).unwrap()
    }

    #[test]
    fn a_name_learned_once_is_held_on_to_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let members = open(dir.path(), &["localhost:2", "localhost:3"]);
        assert!(members.known("node2").is_none());
        members.introduce(0, "node2", 1).unwrap();
        members.introduce(1, "node3", 2).unwrap();
        drop(members);

        let members = open(dir.path(), &["localhost:2", "localhost:4"]);
        assert!(members.known("node2").is_some() && members.known("node3").is_some());
        assert!(!members.has_room());
        let error = members.introduce(1, "node9", 3).unwrap_err();
        assert!(matches!(error, MembersError::Stranger { .. }), "{error}");
        members.introduce(1, "node3", 3).unwrap();
        assert_eq!(
            members.name_and_address(NodeId::of("node3")),
            ("node3".into(), "localhost:4".into())
        );
    }

    #[test]
    fn mistaken_identities_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let members = open(dir.path(), &["node2=localhost:2", "localhost:3"]);
        let error = |result: Result<NodeId, MembersError>| result.unwrap_err().to_string();
        assert!(error(members.introduce(0, "node3", 1)).contains("--peers calls it node2"));
        assert!(error(members.introduce(1, "node2", 1)).contains("two nodes call themselves node2"));
        assert!(error(members.introduce(1, "node1", 7)).contains("is this node itself"));
        assert!(error(members.introduce(1, "node1", 8)).contains("two nodes call themselves node1"));
    }
}
