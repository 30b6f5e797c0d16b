//! The replicated map: what committed entries do to it, and a digest that tells two copies apart.
//!
//! Applying is deterministic: the same entries in the same order leave the same state and give the same replies on
//! every node. There is no clock in here and no failure but a broken invariant. A copy of the state can be held still in
//! no time ([`Store::freeze`]) and written down while entries are applied all the while. No call takes longer the more
//! keys there are, but for the search among them.

mod history;
mod map;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::storage::{Command, Stamp, command::Kind};

pub use history::{Event, Events, TooOld};
pub use sessions::{REPLY_BYTES_MAX, SEQUENCES_AHEAD_MAX, SESSIONS_MAX, Session};

use crate::raft::{Entry, EntryKind, Index};
use history::History;
use map::Map;
use sessions::{Sessions, Verdict};

/// A deletion is remembered while the log goes on for so many entries, and then forgotten. Part of what entries mean: every
/// node must use the same number.
pub const DELETION_ENTRIES: u64 = 1_000_000;
/// Deletions forgotten with one entry. In the long run one is enough, since no entry deletes more than one key; with two
/// it is made up for if there are too many at the beginning. Part of what entries mean, as well.
const FORGOTTEN_PER_ENTRY: usize = 2;
/// A scan looks at no more keys, deleted ones included, before it answers with what it has.
const SCAN_VISITS_MAX: usize = 10_000;

/// A copy of the replicated state.
#[derive(Debug, Default)]
pub struct Store {
    /// A deleted key stays for a while as `value: None`, so that a read can name the deletion it saw.
    map: Map,
    /// The deleted keys in `map`, by the index of the deletion.
    deleted: BTreeMap<Index, String>,
    sessions: Sessions,
    applied: Index,
    /// Sum of [`fingerprint`] over `map`: the same for equal maps, whatever order they were filled in.
    map_digest: u64,
    keys: u64,
    history: History,
}

/// A key's present value and where it came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versioned {
    /// The value; `None` after a deletion.
    pub value: Option<Bytes>,
    /// Index of the entry that last changed the key; 0 if none ever did, or if it was a deletion that is forgotten.
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
    /// The session with the index of this entry is open.
    SessionOpened,
    /// The session is closed.
    SessionClosed {
        /// Whether it had been open.
        existed: bool,
    },
    /// Nothing changed: the session is unknown, closed, or was evicted.
    SessionExpired,
    /// Nothing changed now: the command was carried out before, and the client said that it has the reply.
    ReplyForgotten,
    /// Nothing changed: the sequence is too far beyond what the client has acknowledged, or the replies in between are
    /// too large.
    SequenceTooFar,
}

/// A command was carried out, now or, if this is a retry, before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The entry that carried it out.
    pub index: Index,
    /// What it did.
    pub reply: Reply,
}

/// A part of the keys, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// The keys that hold a value. Perhaps none, though the range goes on.
    pub entries: Vec<(String, Versioned)>,
    /// The range goes on from this key.
    pub next: Option<String>,
}

/// A state that does not change any more: what a snapshot is made of.
#[derive(Debug)]
pub struct Frozen {
    /// Every key, deleted ones included.
    pub keys: Arc<BTreeMap<String, Versioned>>,
    /// Every session, by id.
    pub sessions: Vec<(u64, Session)>,
    /// The last entry that is part of it.
    pub applied: Index,
    /// See [`Store::digest`].
    pub digest: u64,
}

/// Whether a payload holds a command that [`Store::apply`] knows: the gate through which all of them come. Only what changes
/// a key can be stamped.
pub fn is_command(payload: &Bytes) -> bool {
    payload.is_empty() || Command::decode(payload.clone()).is_ok_and(|command| is_sensible(&command))
}

fn is_sensible(command: &Command) -> bool {
    match &command.kind {
        None => false,
        Some(Kind::OpenSession(_) | Kind::CloseSession(_)) => command.stamp.is_none(),
        Some(_) => true,
    }
}

impl Store {
    /// Applies the next entry. `None` for one that carries no command.
    pub fn apply(&mut self, entry: &Entry) -> Option<Applied> {
        assert_eq!(
            entry.index,
            self.applied + 1,
            "entries are applied in order, each exactly once"
        );
        self.applied = entry.index;
        let applied = match entry.kind {
            EntryKind::Command if !entry.payload.is_empty() => Some(self.apply_command(entry)),
            _ => None,
        };
        self.forget_deletions();
        self.history.applied(self.digest());
        applied
    }

    fn apply_command(&mut self, entry: &Entry) -> Applied {
        let command = Command::decode(entry.payload.clone()).ok().filter(is_sensible);
        let parts = command.and_then(|command| Some((command.kind?, command.stamp)));
        // The gate lets nothing else in and the checksums of the log held, so this node or its leader wrote something
        // it cannot read itself.
        let (kind, stamp) =
            parts.unwrap_or_else(|| panic!("entry {} holds no command this version knows", entry.index));
        let Some(stamp) = stamp else {
            return self.now(kind, entry.payload.len());
        };
        let Stamp {
            session_id,
            sequence,
            acknowledged,
        } = stamp;
        match self
            .sessions
            .look(session_id, sequence, acknowledged, entry.index)
        {
            Verdict::New => {
                let applied = self.now(kind, entry.payload.len());
                let reply = applied.reply.clone();
                self.sessions.remember(session_id, sequence, entry.index, reply);
                applied
            }
            Verdict::Done(index, reply) => Applied { index, reply },
            Verdict::Refused(reply) => Applied {
                index: entry.index,
                reply,
            },
        }
    }

    /// Carries out a command whose payload was `payload_bytes` long.
    fn now(&mut self, kind: Kind, payload_bytes: usize) -> Applied {
        let index = self.applied;
        let reply = match kind {
            Kind::Put(put) => {
                self.set(put.key, Some(kept(put.value, payload_bytes)));
                Reply::Put
            }
            // What never was, or is forgotten, leaves nothing behind.
            Kind::Delete(delete) if self.map.get(&delete.key).is_none() => Reply::Delete { existed: false },
            Kind::Delete(delete) => Reply::Delete {
                existed: self.set(delete.key, None).value.is_some(),
            },
            Kind::CompareAndSwap(swap) => {
                let current = self.get(&swap.key);
                if current.value == swap.expected {
                    self.set(swap.key, Some(kept(swap.value, payload_bytes)));
                    Reply::Swapped
                } else {
                    Reply::NotSwapped(current)
                }
            }
            Kind::OpenSession(_) => {
                self.sessions.open(index);
                Reply::SessionOpened
            }
            Kind::CloseSession(close) => {
                let existed = self.sessions.close(close.session_id);
                Reply::SessionClosed { existed }
            }
        };
        Applied { index, reply }
    }

    /// A key as it is now.
    pub fn get(&self, key: &str) -> Versioned {
        self.map.get(key).cloned().unwrap_or_default()
    }

    /// The keys from `start` up to before `end` (to the last one if `None`) that hold a value: at most `keys_max`, and
    /// fewer if they exceed `bytes_max` or there are many deleted ones among them.
    pub fn scan(&self, start: &str, end: Option<&str>, keys_max: usize, bytes_max: usize) -> Scanned {
        let mut scanned = Scanned::default();
        let mut bytes = 0;
        for (visited, (key, version)) in self.map.range(start).enumerate() {
            if end.is_some_and(|end| key.as_str() >= end) {
                break;
            }
            if visited == SCAN_VISITS_MAX {
                scanned.next = Some(key.clone());
                break;
            }
            let Some(value) = &version.value else { continue };
            let more = key.len() + value.len();
            let full = scanned.entries.len() >= keys_max || bytes + more > bytes_max;
            if full && !scanned.entries.is_empty() {
                scanned.next = Some(key.clone());
                break;
            }
            bytes += more;
            scanned.entries.push((key.clone(), version.clone()));
        }
        scanned
    }

    /// The changes of keys that begin with `prefix` from the entry `from` on, as far as they are at hand and fit into
    /// `bytes_max`, at least one.
    pub fn events(&self, prefix: &str, from: Index, bytes_max: usize) -> Result<Events, TooOld> {
        self.history.events(prefix, from, self.applied, bytes_max)
    }

    /// Index of the last entry applied.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// How many keys there are, deleted ones included that are not forgotten yet.
    pub fn keys(&self) -> u64 {
        self.keys
    }

    /// How many sessions are open.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Differs between two states that differ in a key, a value, the index of a change, or a session, but for one pair in
    /// 2^32: by this copies that have diverged are noticed.
    pub fn digest(&self) -> u64 {
        self.map_digest.wrapping_add(self.sessions.digest())
    }

    /// The digest as it was after the entry at `index`, if that is not too long ago.
    pub fn digest_at(&self, index: Index) -> Option<u64> {
        self.history.digest_at(index)
    }

    /// The state as it is now, to be read by somebody else while this one goes on; takes no time. `None` while an
    /// earlier one is in use, or what changed beside it has not been moved yet: see [`Store::thaw`] and
    /// [`Store::settle`].
    pub fn freeze(&mut self) -> Option<Frozen> {
        Some(Frozen {
            keys: self.map.freeze()?,
            sessions: self
                .sessions
                .iter()
                .map(|(id, session)| (id, session.clone()))
                .collect(),
            applied: self.applied,
            digest: self.digest(),
        })
    }

    /// The frozen state has been dropped: what was written meanwhile may join the rest. False if it is still in use.
    pub fn thaw(&mut self) -> bool {
        self.map.thaw()
    }

    /// Moves a bounded part of what was written beside a frozen state to the rest. True when all of it is there. Nothing
    /// that is read changes by it.
    pub fn settle(&mut self) -> bool {
        self.map.settle()
    }

    /// A state out of its parts, as of the entry `applied`.
    pub fn restore(
        applied: Index,
        keys: impl IntoIterator<Item = (String, Versioned)>,
        sessions: impl IntoIterator<Item = (u64, Session)>,
    ) -> Store {
        let mut store = Store {
            applied,
            history: History::behind(applied),
            ..Store::default()
        };
        for (key, version) in keys {
            store.put_version(key, version);
        }
        for (id, session) in sessions {
            store.sessions.restore(id, session);
        }
        store
    }

    fn set(&mut self, key: String, value: Option<Bytes>) -> Versioned {
        let version = Versioned {
            value,
            index: self.applied,
        };
        self.history.changed(Event {
            index: self.applied,
            key: key.clone(),
            value: version.value.clone(),
        });
        self.put_version(key, version)
    }

    fn put_version(&mut self, key: String, new: Versioned) -> Versioned {
        let of_key = crc32c::crc32c(key.as_bytes());
        self.map_digest = self.map_digest.wrapping_add(fingerprint_of(of_key, &new));
        if new.value.is_none() {
            self.deleted.insert(new.index, key.clone());
        }
        // The old version comes with setting the new one: looking it up first would cost as much again.
        let before = self.map.insert(key, new);
        let old = before.as_ref().map_or(0, |old| fingerprint_of(of_key, old));
        self.map_digest = self.map_digest.wrapping_sub(old);
        self.keys += u64::from(before.is_none());
        if let Some(Versioned { value: None, index }) = before {
            self.deleted.remove(&index);
        }
        before.unwrap_or_default()
    }

    /// Forgets what was deleted so long ago that nobody will ask by which entry. What goes, and when, depends on nothing
    /// but the state and the log, so all nodes forget the same with the same entry.
    fn forget_deletions(&mut self) {
        for _ in 0..FORGOTTEN_PER_ENTRY {
            let oldest = self.deleted.first_entry();
            let due = oldest.filter(|oldest| oldest.key().saturating_add(DELETION_ENTRIES) <= self.applied);
            let Some((index, key)) = due.map(|due| due.remove_entry()) else {
                return;
            };
            let forgotten = Versioned { value: None, index };
            self.map_digest = self.map_digest.wrapping_sub(fingerprint(&key, &forgotten));
            self.map.remove(&key);
            self.keys -= 1;
        }
    }
}

/// A value as the map keeps it. It is a part of the entry's payload, which the log holds as well for a while: if it is most of that,
/// both share it; else a copy of it is made, so that a key with a short value does not keep the rest alive.
fn kept(value: Bytes, payload_bytes: usize) -> Bytes {
    match value.len() >= payload_bytes / 4 * 3 {
        true => value,
        false => Bytes::copy_from_slice(&value),
    }
}

/// A checksum of one key and its version. It is 64 bits long, of which 32 depend on the value.
fn fingerprint(key: &str, version: &Versioned) -> u64 {
    fingerprint_of(crc32c::crc32c(key.as_bytes()), version)
}

/// The same of a key with this checksum.
fn fingerprint_of(low: u32, version: &Versioned) -> u64 {
    let value = version.value.as_deref().unwrap_or_default();
    let high = crc32c::crc32c_append(low ^ version.value.is_some() as u32, value);
    mixed(low, high, version.index)
}

/// The finaliser of MurmurHash3 spreads three numbers over all bits, so that sums of such do not cancel out.
fn mixed(low: u32, high: u32, index: u64) -> u64 {
    let mut z = (u64::from(high) << 32 | u64::from(low)) ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    z = (z ^ (z >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    z ^ (z >> 33)
}

#[cfg(test)]
mod tests;
