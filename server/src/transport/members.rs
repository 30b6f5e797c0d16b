//! Who belongs to the cluster: addresses from the command line, names learned at the handshake and held on to.
//!
//! Votes are counted by name, so a name is worth more than an address: once a name is known it is written down in the
//! data directory, and when all names are known no other is ever accepted. With the name goes the number of the store
//! that was found behind it first: the same name with another store has forgotten its promises and is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::identity::{from_text, in_text, replace_file};
use crate::config::PeerAddress;
use crate::raft::NodeId;

/// The nodes of one cluster as one of them sees it. Shared by everything that talks to peers.
pub(crate) struct Members {
    pub(crate) own_name: String,
    pub(crate) own_id: NodeId,
    pub(crate) incarnation: u64,
    pub(crate) store_id: u64,
    file: PathBuf,
    known: Mutex<Known>,
}

struct Known {
    /// Addresses to dial, and the name found there.
    slots: Vec<Slot>,
    /// Names of peers that vote, at most as many as there are slots; kept on disk.
    names: BTreeMap<NodeId, Named>,
    /// Processes of each node that a later one has taken the place of, and how often they were met again since.
    replaced: BTreeMap<(NodeId, u64), u32>,
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
}

/// Why a peer is not who it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembersError {
    #[error(
        "{name} is not one of this cluster's nodes ({known}); a node cannot be replaced by one with another name: \
         start the old one with its own data directory"
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
    #[error(
        "{name} came back with another store ({} instead of {}): its data directory was lost or replaced, or a second \
         process uses its name; restore the directory or stop that process. An emptied node may have promised things \
         it no longer remembers, so this cluster cannot take it in again under this name until membership changes exist",
        in_text(*found), in_text(*known)
    )]
    OtherStore { name: String, known: u64, found: u64 },
    #[error(
        "two processes call themselves {name} and have copies of one data directory: one that was replaced by another \
         keeps coming back; stop both, remove the copy, and start {name} once with its own directory"
    )]
    Replaced { name: String },
    #[error("this process of {name} was replaced by a later one")]
    Late { name: String },
    #[error("{} is damaged: {line:?} is no node with its store; restore this file from a copy of the disk", path.display())]
    Damaged { path: PathBuf, line: String },
    #[error("cannot keep the names of the peers in {}", path.display())]
    Disk { path: PathBuf, source: io::Error },
}

impl Members {
    /// Reads the names written down earlier and adds those given on the command line.
    pub(crate) fn open(
        own_name: &str,
        incarnation: u64,
        store_id: u64,
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
            store_id,
            file: data_dir.join("peers"),
            known: Mutex::new(Known {
                slots,
                names: BTreeMap::new(),
                replaced: BTreeMap::new(),
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
            members.add_name(name, store_id)?;
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
    pub(crate) fn introduce(&self, slot: usize, peer: Introduction<'_>) -> Result<NodeId, MembersError> {
        let address = self.address(slot);
        if peer.name == self.own_name && peer.incarnation == self.incarnation {
            return Err(MembersError::Myself { address });
        }
        let id = self.bind(slot, peer.name)?;
        self.recognise(peer)?;
        Ok(id)
    }

    /// The number of a peer that has greeted this node, if its name is known already: a name is learned only by
    /// dialling an address that was given. Its store is remembered, or compared with the one that is.
    pub(crate) fn recognise(&self, peer: Introduction<'_>) -> Result<Option<NodeId>, MembersError> {
        let id = NodeId::of(peer.name);
        let name = || peer.name.to_owned();
        let mut guard = self.lock();
        let known = &mut *guard;
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

    /// Whether no later process has taken the place of this one.
    pub(crate) fn is_current(&self, id: NodeId, incarnation: u64) -> bool {
        !self.lock().replaced.contains_key(&(id, incarnation))
    }

    /// Says what is wrong with who uses a known name: once, whichever side dialled, until the right node is met again.
    /// Says nothing about other errors and returns false.
    pub(crate) fn report(&self, error: &MembersError) -> bool {
        let (MembersError::OtherStore { name, .. } | MembersError::Replaced { name }) = error else {
            return false;
        };
        let text = error.to_string();
        if let Some(named) = self.lock().names.get_mut(&NodeId::of(name))
            && named.complaint != text
        {
            tracing::error!("refused a peer: {text}");
            named.complaint = text;
        }
        true
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
        let name = known.names.get(&id).map(|named| named.name.clone());
        let name = name.unwrap_or_default();
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
        if known.names.len() >= known.slots.len() {
            let names: Vec<&str> = known.names.values().map(|named| named.name.as_str()).collect();
            return Err(MembersError::Stranger {
                name: name.to_owned(),
                known: names.join(", "),
            });
        }
        let named = Named {
            name: name.to_owned(),
            store_id,
            incarnation: None,
            complaint: String::new(),
        };
        known.names.insert(id, named);
        Ok(true)
    }

    fn write(&self, names: &BTreeMap<NodeId, Named>) -> Result<(), MembersError> {
        let line = |named: &Named| match named.store_id {
            Some(store_id) => format!("{} {}\n", named.name, in_text(store_id)),
            None => format!("{}\n", named.name),
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

/// A name with its store, or alone while that is not known.
fn read_line(line: &str) -> Option<(&str, Option<u64>)> {
    match line.split_once(' ') {
        None => (!line.is_empty()).then_some((line, None)),
        Some((name, store_id)) => Some((name, Some(from_text(store_id)?))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn open(dir: &Path, peers: &[&str]) -> Members {
        let peers: Vec<PeerAddress> = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        Members::open("node1", 7, 100, &peers, dir).unwrap()
    }

    /// A process of a node whose store has the number of its name.
    fn process(name: &str, incarnation: u64) -> Introduction<'_> {
        let store_id = 100 * name.trim_start_matches("node").parse::<u64>().unwrap();
        Introduction {
            name,
            store_id,
            incarnation,
        }
    }

    #[test]
    fn a_name_learned_once_is_held_on_to_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let members = open(dir.path(), &["localhost:2", "localhost:3"]);
        assert!(members.recognise(process("node2", 1)).unwrap().is_none());
        members.introduce(0, process("node2", 1)).unwrap();
        members.introduce(1, process("node3", 2)).unwrap();
        drop(members);

        let members = open(dir.path(), &["localhost:2", "localhost:4"]);
        for name in ["node2", "node3"] {
            assert!(members.recognise(process(name, 3)).unwrap().is_some());
        }
        assert!(!members.has_room());
        let error = members.introduce(1, process("node9", 3)).unwrap_err();
        assert!(matches!(error, MembersError::Stranger { .. }), "{error}");
        members.introduce(1, process("node3", 3)).unwrap();
        assert_eq!(
            members.name_and_address(NodeId::of("node3")),
            ("node3".into(), "localhost:4".into())
        );
    }

    #[test]
    fn mistaken_identities_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let members = open(dir.path(), &["node2=localhost:2", "localhost:3"]);
        let error = |slot, name, incarnation| {
            let result = members.introduce(slot, process(name, incarnation));
            result.unwrap_err().to_string()
        };
        assert!(error(0, "node3", 1).contains("--peers calls it node2"));
        assert!(error(1, "node2", 1).contains("two nodes call themselves node2"));
        assert!(error(1, "node1", 7).contains("is this node itself"));
        assert!(error(1, "node1", 8).contains("two nodes call themselves node1"));
    }

    #[test]
    fn a_known_name_with_another_store_is_refused_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let peers = ["node2=localhost:2", "node3=localhost:3"];
        let members = open(dir.path(), &peers);
        // One is met by dialling, the other because it dialled.
        members.introduce(0, process("node2", 1)).unwrap();
        assert!(members.recognise(process("node3", 1)).unwrap().is_some());
        let emptied = |name| Introduction {
            store_id: 999,
            ..process(name, 2)
        };
        for members in [members, open(dir.path(), &peers)] {
            for (slot, name) in ["node2", "node3"].into_iter().enumerate() {
                for error in [
                    members.introduce(slot, emptied(name)).unwrap_err(),
                    members.recognise(emptied(name)).unwrap_err(),
                ] {
                    assert!(
                        matches!(error, MembersError::OtherStore { found: 999, .. }),
                        "{error}"
                    );
                    assert!(error.to_string().contains("restore the directory"), "{error}");
                    assert!(members.report(&error));
                }
                members.introduce(slot, process(name, 3)).unwrap();
            }
        }
        let text = fs::read_to_string(dir.path().join("peers")).unwrap();
        assert!(text.contains("node2 00000000000000c8\n"), "{text}");
    }

    #[test]
    fn names_written_without_their_stores_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("peers"), "node2\nnode3 000000000000012c\n").unwrap();
        let members = open(dir.path(), &["localhost:2", "localhost:3"]);
        members.introduce(0, process("node2", 1)).unwrap();
        members.introduce(1, process("node3", 1)).unwrap();
        for text in ["node2 12\n", "node2 \n", "\n", "node2 0000000000000000\n"] {
            fs::write(dir.path().join("peers"), text).unwrap();
            let peers = ["localhost:2".parse().unwrap()];
            let error = Members::open("node1", 7, 100, &peers, dir.path()).err();
            assert!(matches!(error, Some(MembersError::Damaged { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_process_that_was_replaced_stays_out_and_one_that_keeps_coming_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let members = open(dir.path(), &["node2=localhost:2"]);
        let id = members.introduce(0, process("node2", 1)).unwrap();
        assert!(members.is_current(id, 1));
        members.recognise(process("node2", 2)).unwrap();
        assert!(!members.is_current(id, 1) && members.is_current(id, 2));
        for _ in 0..LATE_GREETINGS_MAX {
            let error = members.introduce(0, process("node2", 1)).unwrap_err();
            assert!(matches!(error, MembersError::Late { .. }) && !members.report(&error));
        }
        let error = members.recognise(process("node2", 1)).unwrap_err();
        assert!(matches!(error, MembersError::Replaced { .. }), "{error}");
        assert!(members.report(&error));
        members.introduce(0, process("node2", 2)).unwrap();
        members.introduce(0, process("node2", 3)).unwrap();
    }
}
