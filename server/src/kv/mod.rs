//! The replicated map: what committed entries do to it, and a digest that tells two copies apart.
//!
//! Applying is deterministic: the same entries in the same order leave the same map and give the same replies on
//! every node. There is no clock in here and no failure but a broken invariant.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use proto::storage::{Command, command::Kind};

use crate::raft::{Entry, Index};

/// A copy of the replicated map.
#[derive(Debug, Default)]
pub struct Store {
    /// A deleted key stays as `value: None`, so that a read can name the deletion it saw.
    map: BTreeMap<String, Versioned>,
    applied: Index,
    /// Sum of [`fingerprint`] over `map`: the same for equal maps, whatever order they were filled in.
    digest: u64,
}

/// A key's present value and where it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versioned {
    /// The value; `None` after a deletion.
    pub value: Option<Bytes>,
    /// Index of the entry that last changed the key; 0 if none ever did.
    pub index: Index,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The key was set.
    Put,
    /// The key is gone.
    Delete {
        /// Whether it had been there.
        existed: bool,
    },
    /// The comparison held, and the key was set.
    Swapped,
    /// The comparison failed; nothing changed.
    NotSwapped(Versioned),
}

impl Store {
    /// Applies the next entry. `None` for one that carries no command.
    pub fn apply(&mut self, entry: &Entry) -> Option<Reply> {
        assert_eq!(
            entry.index,
            self.applied + 1,
            "entries are applied in order, each exactly once"
        );
        self.applied = entry.index;
        if entry.payload.is_empty() {
            return None;
        }
        let kind = Command::decode(entry.payload.clone())
            .ok()
            .and_then(|command| command.kind);
        // The checksums of the log held, so this node or its leader wrote something it cannot read itself.
        let kind =
            kind.unwrap_or_else(|| panic!("entry {} holds no command this version knows", entry.index));
        Some(match kind {
            Kind::Put(put) => {
                self.set(put.key, Some(put.value));
                Reply::Put
            }
            Kind::Delete(delete) => Reply::Delete {
                existed: self.set(delete.key, None).value.is_some(),
            },
            Kind::OpenSession(_) | Kind::CloseSession(_) => Reply::Put,
            Kind::CompareAndSwap(swap) => {
                let current = self.get(&swap.key);
                if current.value == swap.expected {
                    self.set(swap.key, Some(swap.value));
                    Reply::Swapped
                } else {
                    Reply::NotSwapped(current)
                }
            }
        })
    }

    /// A key as it is now.
    pub fn get(&self, key: &str) -> Versioned {
        self.map.get(key).cloned().unwrap_or_default()
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Differs, all but surely, between two maps that differ in a key, a value or the index of a change.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    fn set(&mut self, key: String, value: Option<Bytes>) -> Versioned {
        // A short value cut out of a receive buffer would keep all of the buffer alive.
        let value = value.map(|value| Bytes::copy_from_slice(&value));
        let new = Versioned {
            value,
            index: self.applied,
        };
        self.digest = self.digest.wrapping_add(fingerprint(&key, &new));
        let old = self.map.get(&key).map_or(0, |old| fingerprint(&key, old));
        self.digest = self.digest.wrapping_sub(old);
        self.map.insert(key, new).unwrap_or_default()
    }
}

/// 64 bits of one key and its version.
fn fingerprint(key: &str, version: &Versioned) -> u64 {
    let value = version.value.as_deref().unwrap_or_default();
    let low = crc32c::crc32c(key.as_bytes());
    let high = crc32c::crc32c_append(low ^ version.value.is_some() as u32, value);
    // The finaliser of MurmurHash3 spreads the three numbers over all bits, so that sums of them do not cancel out.
    let mut z = (u64::from(high) << 32 | u64::from(low)) ^ version.index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proto::storage::{CompareAndSwap, Delete, Put};

    fn entry(index: Index, kind: Kind) -> Entry {
        let payload = Command {
            kind: Some(kind),
            stamp: None,
        }
        .encode_to_vec()
        .into();
        Entry {
            term: 1,
            index,
            kind: Default::default(),
            payload,
        }
    }

    fn put(index: Index, key: &str, value: &'static str) -> Entry {
        entry(
            index,
            Kind::Put(Put {
                key: key.into(),
                value: value.into(),
            }),
        )
    }

    fn swap(index: Index, key: &str, expected: Option<&'static str>, value: &'static str) -> Entry {
        let expected = expected.map(Bytes::from);
        entry(
            index,
            Kind::CompareAndSwap(CompareAndSwap {
                key: key.into(),
                expected,
                value: value.into(),
            }),
        )
    }

    fn delete(index: Index, key: &str) -> Entry {
        entry(index, Kind::Delete(Delete { key: key.into() }))
    }

    fn filled(entries: &[Entry]) -> Store {
        let mut store = Store::default();
        for entry in entries {
            store.apply(entry);
        }
        store
    }

    #[test]
    fn a_read_sees_the_last_write_and_its_index() {
        let store = filled(&[put(1, "a", "x"), put(2, "b", "y"), put(3, "a", "z")]);
        assert_eq!(
            store.get("a"),
            Versioned {
                value: Some("z".into()),
                index: 3
            }
        );
        assert_eq!(
            store.get("c"),
            Versioned {
                value: None,
                index: 0
            }
        );
    }

    #[test]
    fn a_deletion_is_named_by_its_index() {
        let mut store = filled(&[put(1, "a", "x")]);
        assert_eq!(
            store.apply(&delete(2, "a")),
            Some(Reply::Delete { existed: true })
        );
        assert_eq!(
            store.apply(&delete(3, "a")),
            Some(Reply::Delete { existed: false })
        );
        assert_eq!(
            store.get("a"),
            Versioned {
                value: None,
                index: 3
            }
        );
    }

    #[test]
    fn compare_and_swap_changes_nothing_on_a_mismatch() {
        let mut store = filled(&[put(1, "a", "x")]);
        let current = Versioned {
            value: Some("x".into()),
            index: 1,
        };
        assert_eq!(
            store.apply(&swap(2, "a", Some("y"), "z")),
            Some(Reply::NotSwapped(current.clone()))
        );
        assert_eq!(
            store.apply(&swap(3, "a", None, "z")),
            Some(Reply::NotSwapped(current))
        );
        assert_eq!(store.apply(&swap(4, "a", Some("x"), "z")), Some(Reply::Swapped));
        assert_eq!(store.apply(&swap(5, "new", None, "1")), Some(Reply::Swapped));
        assert_eq!(store.get("a").index, 4);
    }

    #[test]
    fn the_digest_tells_maps_apart_and_forgets_what_was_overwritten() {
        let opened = Entry {
            term: 1,
            index: 1,
            kind: Default::default(),
            payload: Bytes::new(),
        };
        let direct = filled(&[opened.clone(), put(2, "a", "x")]);
        let detour = filled(&[put(1, "a", "other"), put(2, "a", "x")]);
        assert_eq!(direct.digest(), detour.digest(), "equal maps");
        for different in [put(2, "a", "y"), put(2, "b", "x"), delete(2, "a")] {
            assert_ne!(filled(&[opened.clone(), different]).digest(), direct.digest());
        }
        assert_ne!(
            filled(&[put(1, "a", "x")]).digest(),
            direct.digest(),
            "another index"
        );
    }

    #[test]
    #[should_panic(expected = "in order")]
    fn an_entry_is_never_applied_twice() {
        filled(&[put(1, "a", "x"), put(1, "a", "x")]);
    }
}
