//! Sessions: what was replied to whom, so that a command that is sent twice happens once (§6.3 of Ongaro's thesis).
//!
//! Everything here is decided by the log alone: which session is old is a matter of indexes, never of a clock, so every
//! copy of the state decides the same.

use std::collections::{BTreeMap, BTreeSet};

use super::{Reply, Versioned};
use crate::raft::Index;

/// So many sessions are kept; when another opens, the one that was used longest ago goes.
pub const SESSIONS_MAX: usize = 4096;

/// A session's commands may be so many numbers beyond those whose replies its client has.
pub const SEQUENCES_AHEAD_MAX: u64 = 256;

/// A session whose client has not acknowledged so many bytes of replies carries nothing further out until it does: what
/// is remembered goes into snapshots, and through the digest at every use.
pub const REPLY_BYTES_MAX: usize = 1 << 20;

/// The sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    by_id: BTreeMap<u64, Session>,
    /// Index of the last use, and the session.
    by_use: BTreeSet<(Index, u64)>,
    /// Sum of the fingerprints of all sessions.
    digest: u64,
}

/// One session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// Index of the entry that used it last.
    pub(crate) used_at: Index,
    /// Its client has the replies to every sequence up to here.
    pub(crate) acknowledged: u64,
    /// The others, by sequence: the entry that was carried out, and its reply.
    pub(crate) replies: BTreeMap<u64, (Index, Reply)>,
}

impl Session {
    /// Bytes of the values in its replies.
    fn reply_bytes(&self) -> usize {
        let bytes = |(_, reply): &(Index, Reply)| match reply {
            Reply::NotSwapped(version) => version.value.as_ref().map_or(0, |value| value.len()),
            _ => 0,
        };
        self.replies.values().map(bytes).sum()
    }
}

/// What is to be done with a stamped command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new: carry it out and remember the reply.
    New,
    /// It was carried out by that entry, with that reply.
    Done(Index, Reply),
    /// Neither: this is the reply.
    Refused(Reply),
}

impl Sessions {
    /// Opens a session with this id, which is the index of the entry that asks for it.
    pub(super) fn open(&mut self, id: Index) {
        if self.by_id.len() >= SESSIONS_MAX
            && let Some((_, oldest)) = self.by_use.first().copied()
        {
            self.close(oldest);
        }
        self.restore(
            id,
            Session {
                used_at: id,
                ..Session::default()
            },
        );
    }

    /// Closes a session; says whether it was open.
    pub(super) fn close(&mut self, id: u64) -> bool {
        let Some(session) = self.by_id.remove(&id) else {
            return false;
        };
        self.digest = self.digest.wrapping_sub(fingerprint(id, &session));
        self.by_use.remove(&(session.used_at, id))
    }

    /// Looks at a stamped command in the entry at `index`. Marks the session as used, and forgets the replies that its
    /// client has.
    pub(super) fn look(&mut self, id: u64, sequence: u64, acknowledged: u64, index: Index) -> Verdict {
        let Some(session) = self.by_id.get_mut(&id) else {
            return Verdict::Refused(Reply::SessionExpired);
        };
        self.digest = self.digest.wrapping_sub(fingerprint(id, session));
        self.by_use.remove(&(session.used_at, id));
        session.used_at = index;
        self.by_use.insert((index, id));
        // What was acknowledged stays so, and nobody can have the reply to what was never sent.
        let known = session
            .replies
            .last_key_value()
            .map_or(session.acknowledged, |(last, _)| *last);
        session.acknowledged = session.acknowledged.max(acknowledged.min(known));
        let acknowledged = session.acknowledged;
        session.replies.retain(|sequence, _| *sequence > acknowledged);
        self.digest = self.digest.wrapping_add(fingerprint(id, session));
        if sequence <= session.acknowledged {
            return Verdict::Refused(Reply::ReplyForgotten);
        }
        if let Some((index, reply)) = session.replies.get(&sequence) {
            return Verdict::Done(*index, reply.clone());
        }
        let ahead = sequence - session.acknowledged;
        if ahead > SEQUENCES_AHEAD_MAX || session.reply_bytes() >= REPLY_BYTES_MAX {
            return Verdict::Refused(Reply::SequenceTooFar);
        }
        Verdict::New
    }

    /// Remembers the reply to a command that was just carried out.
    pub(super) fn remember(&mut self, id: u64, sequence: u64, index: Index, reply: Reply) {
        if let Some(session) = self.by_id.get_mut(&id) {
            self.digest = self.digest.wrapping_sub(fingerprint(id, session));
            session.replies.insert(sequence, (index, reply));
            self.digest = self.digest.wrapping_add(fingerprint(id, session));
        }
    }

    /// Puts a session in place as a snapshot holds it.
    pub(super) fn restore(&mut self, id: u64, session: Session) {
        self.digest = self.digest.wrapping_add(fingerprint(id, &session));
        self.by_use.insert((session.used_at, id));
        self.by_id.insert(id, session);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Session)> {
        self.by_id.iter().map(|(id, session)| (*id, session))
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A number by which copies that have diverged are noticed: two different sets of sessions have the same one once in
    /// 2^32 cases.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }
}

/// A checksum of one session, spread over 64 bits so that sums of such do not cancel out. It tells as much as one CRC of 32
/// bits: the second, over the same text from another beginning, adds nothing to it. That is enough against mistakes, and
/// against nobody who means to deceive. As long as its replies, of which there are few, to compute.
fn fingerprint(id: u64, session: &Session) -> u64 {
    let mut text = Vec::with_capacity(64);
    for number in [id, session.used_at, session.acknowledged] {
        text.extend_from_slice(&number.to_le_bytes());
    }
    for (sequence, (index, reply)) in &session.replies {
        text.extend_from_slice(&sequence.to_le_bytes());
        text.extend_from_slice(&index.to_le_bytes());
        put_reply(&mut text, reply);
    }
    let low = crc32c::crc32c(&text);
    super::mixed(low, crc32c::crc32c_append(!low, &text), id)
}

fn put_reply(text: &mut Vec<u8>, reply: &Reply) {
    let (tag, version) = match reply {
        Reply::Put => (1, None),
        Reply::Delete { existed } => (2 + u8::from(*existed), None),
        Reply::Swapped => (4, None),
        Reply::NotSwapped(version) => (5, Some(version)),
        other => panic!("{other:?} is no reply that a session remembers"),
    };
    text.push(tag);
    if let Some(Versioned { value, index }) = version {
        text.extend_from_slice(&index.to_le_bytes());
        text.push(u8::from(value.is_some()));
        text.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}
