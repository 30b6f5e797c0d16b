//! A snapshot as bytes.
//!
//! ```text
//! magic [8]
//! chunks:  len u32   number u32   kind u32   header_crc u32 (over the twelve bytes before)   payload_crc u32   payload
//! kinds:   1 SnapshotHead (the first)   2 SnapshotChunk   3 end: id u64, total length of the file u64 (the last)
//! ```
//!
//! Little endian, CRC-32C. The `id` is a checksum over everything before the last chunk: it tells these bytes from any
//! others but for one pair in 2^32. Equal states give equal bytes. Lengths are believed only if their own checksum holds
//! and they stay within bounds, so reading a hostile file costs no more memory than one chunk.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use proto::storage::{
    self, SnapshotChunk, SnapshotHead, SnapshotKey, SnapshotReply, SnapshotSession, snapshot_reply,
};

use crate::kv::{Frozen, Reply, Session, Store, Versioned};
use crate::raft::{Configuration, Index, Position, SnapshotMeta};

const MAGIC: [u8; 8] = *b"WWSNAP1\n";
const CHUNK_HEADER_BYTES: usize = 20;
const HEAD: u32 = 1;
const CHUNK: u32 = 2;
const END: u32 = 3;

/// A chunk is closed when it has grown beyond this.
const CHUNK_BYTES: usize = 256 << 10;
/// No chunk is longer: one value of the largest size, or a session with all its replies ([`crate::kv::REPLY_BYTES_MAX`]
/// and one more), fits in.
const CHUNK_BYTES_MAX: usize = 64 << 20;

/// Why some bytes are no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct BadSnapshot {
    /// What is wrong.
    pub what: &'static str,
    /// Where.
    pub at: u64,
}

/// A checksum that grows with what it sees. It is 64 bits long and worth 32: two CRCs over the same bytes from different
/// beginnings. That is enough for what it has to find out, on top of the checksum of every chunk and the digest of the
/// state: whether these are the bytes that were announced or were begun to be received, and not those of another file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id(u32, u32);

impl Id {
    pub(super) const EMPTY: Id = Id(0, 0x57a7_e5a7);

    pub(super) fn and(self, bytes: &[u8]) -> Id {
        Id(
            crc32c::crc32c_append(self.0, bytes),
            crc32c::crc32c_append(self.1, bytes),
        )
    }

    pub(super) fn number(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.1)
    }
}

/// Writes the state, piece by piece, in order. Returns the id and the number of bytes.
pub(super) fn encode<E>(
    state: &Frozen,
    meta: &SnapshotMeta,
    mut write: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(u64, u64), E> {
    let (mut id, mut total, mut number) = (Id::EMPTY, 0, 0);
    let mut put = |kind: Option<u32>, payload: &[u8]| {
        let mut piece = Vec::with_capacity(CHUNK_HEADER_BYTES + payload.len());
        if let Some(kind) = kind {
            piece.extend_from_slice(&header(kind, number, payload));
            number += 1;
        }
        piece.extend_from_slice(payload);
        total += piece.len() as u64;
        id = id.and(&piece);
        write(&piece).map(|()| (id, total, number))
    };
    put(None, &MAGIC)?;
    put(Some(HEAD), &head(state, meta).encode_to_vec())?;
    let mut chunk = SnapshotChunk::default();
    let mut bytes = 0;
    for (key, version) in state.keys.iter() {
        bytes += key.len() + version.value.as_ref().map_or(0, Bytes::len) + 16;
        chunk.keys.push(key_to_wire(key, version));
        if bytes >= CHUNK_BYTES {
            put(Some(CHUNK), &chunk.encode_to_vec())?;
            (chunk, bytes) = (SnapshotChunk::default(), 0);
        }
    }
    for (session_id, session) in &state.sessions {
        chunk.sessions.push(session_to_wire(*session_id, session));
        if chunk.encoded_len() >= CHUNK_BYTES {
            put(Some(CHUNK), &chunk.encode_to_vec())?;
            chunk = SnapshotChunk::default();
        }
    }
    let (id, total, number) = put(Some(CHUNK), &chunk.encode_to_vec())?;
    let whole = total + CHUNK_HEADER_BYTES as u64 + 16;
    let mut end = id.number().to_le_bytes().to_vec();
    end.extend_from_slice(&whole.to_le_bytes());
    write(&[header(END, number, &end).as_slice(), &end].concat())?;
    Ok((id.number(), whole))
}

fn header(kind: u32, number: u32, payload: &[u8]) -> [u8; CHUNK_HEADER_BYTES] {
    let len = u32::try_from(payload.len()).expect("a chunk is far below 4 GiB");
    let mut header = [0; CHUNK_HEADER_BYTES];
    for (at, value) in [(0, len), (4, number), (8, kind)] {
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let crc = crc32c::crc32c(&header[..12]);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    header[16..].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    header
}

fn head(state: &Frozen, meta: &SnapshotMeta) -> SnapshotHead {
    let configuration = meta.configuration.as_ref().map(|known| known.encode());
    SnapshotHead {
        last_term: meta.last.term,
        last_index: meta.last.index,
        configuration: configuration
            .map(|bytes| storage::Configuration::decode(bytes).expect("it was encoded a moment ago")),
        state_digest: state.digest,
        keys: state.keys.len() as u64,
        sessions: state.sessions.len() as u64,
    }
}

fn key_to_wire(key: &str, version: &Versioned) -> SnapshotKey {
    SnapshotKey {
        key: key.to_owned(),
        value: version.value.clone(),
        index: version.index,
    }
}

fn session_to_wire(session_id: u64, session: &Session) -> SnapshotSession {
    use snapshot_reply::Kind;
    let reply = |(sequence, (index, reply)): (&u64, &(Index, Reply))| SnapshotReply {
        sequence: *sequence,
        index: *index,
        kind: match reply {
            Reply::Put => Some(Kind::Put(true)),
            Reply::Delete { existed } => Some(Kind::Delete(*existed)),
            Reply::Swapped => Some(Kind::Swapped(true)),
            Reply::NotSwapped(version) => Some(Kind::NotSwapped(key_to_wire("", version))),
            other => panic!("{other:?} is no reply that a session remembers"),
        },
    };
    SnapshotSession {
        session_id,
        used_at: session.used_at,
        acknowledged: session.acknowledged,
        replies: session.replies.iter().map(reply).collect(),
    }
}

/// What was read.
#[derive(Debug)]
pub struct Loaded {
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// The state in it.
    pub store: Store,
    /// Names its very bytes.
    pub id: u64,
    /// How many there were.
    pub bytes: u64,
}

/// Reads a whole snapshot of `total` bytes. `read` gives so many bytes from that offset on; it is asked for no more than
/// there are.
pub(super) fn decode<E: From<BadSnapshot>>(
    total: u64,
    mut read: impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
) -> Result<Loaded, E> {
    let mut reader = Reader {
        at: 0,
        total,
        id: Id::EMPTY,
        number: 0,
    };
    if reader.take(MAGIC.len(), &mut read)? != MAGIC {
        return Err(bad("this is no snapshot", 0).into());
    }
    let head = reader.chunk(&mut read)?;
    let head = match head {
        (HEAD, payload) => SnapshotHead::decode(payload.as_slice()).ok(),
        _ => None,
    };
    let head = head.ok_or(bad("the first chunk is no head", 8))?;
    let (mut keys, mut sessions) = (Vec::new(), Vec::new());
    loop {
        let (at, id) = (reader.at, reader.id);
        let (kind, payload) = reader.chunk(&mut read)?;
        match kind {
            CHUNK => {
                let chunk = SnapshotChunk::decode(payload.as_slice())
                    .map_err(|_| bad("a chunk makes no sense", at))?;
                keys.extend(chunk.keys.into_iter().map(|key| {
                    (
                        key.key,
                        Versioned {
                            value: key.value,
                            index: key.index,
                        },
                    )
                }));
                for session in chunk.sessions {
                    sessions.push(session_from_wire(session).ok_or(bad("a session makes no sense", at))?);
                }
            }
            END => {
                let whole = [id.number().to_le_bytes(), total.to_le_bytes()].concat();
                if payload != whole || reader.at != total {
                    return Err(bad("the end does not belong to what stands before it", at).into());
                }
                return finish(head, keys, sessions, id.number(), total).map_err(E::from);
            }
            _ => return Err(bad("a chunk of unknown kind", at).into()),
        }
    }
}

fn bad(what: &'static str, at: u64) -> BadSnapshot {
    BadSnapshot { what, at }
}

fn finish(
    head: SnapshotHead,
    keys: Vec<(String, Versioned)>,
    sessions: Vec<(u64, Session)>,
    id: u64,
    bytes: u64,
) -> Result<Loaded, BadSnapshot> {
    let configuration = head
        .configuration
        .map(|wire| Configuration::decode(wire.encode_to_vec().into()));
    let configuration = configuration
        .transpose()
        .map_err(|_| bad("the configuration makes no sense", 8))?;
    if keys.len() as u64 != head.keys || sessions.len() as u64 != head.sessions {
        return Err(bad("keys or sessions are missing", 8));
    }
    let store = Store::restore(head.last_index, keys, sessions);
    if store.digest() != head.state_digest {
        return Err(bad("the state is not the one that was written", 8));
    }
    let last = Position {
        term: head.last_term,
        index: head.last_index,
    };
    let meta = SnapshotMeta {
        last,
        configuration: configuration.map(Arc::new),
    };
    Ok(Loaded {
        meta,
        store,
        id,
        bytes,
    })
}

fn session_from_wire(session: SnapshotSession) -> Option<(u64, Session)> {
    use snapshot_reply::Kind;
    let mut replies = std::collections::BTreeMap::new();
    for reply in session.replies {
        let kind = match reply.kind? {
            Kind::Put(_) => Reply::Put,
            Kind::Delete(existed) => Reply::Delete { existed },
            Kind::Swapped(_) => Reply::Swapped,
            Kind::NotSwapped(key) => Reply::NotSwapped(Versioned {
                value: key.value,
                index: key.index,
            }),
        };
        replies.insert(reply.sequence, (reply.index, kind));
    }
    let found = Session {
        used_at: session.used_at,
        acknowledged: session.acknowledged,
        replies,
    };
    Some((session.session_id, found))
}

struct Reader {
    at: u64,
    total: u64,
    id: Id,
    number: u32,
}

impl Reader {
    fn take<E: From<BadSnapshot>>(
        &mut self,
        len: usize,
        read: &mut impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        if self.total - self.at < len as u64 {
            return Err(bad("the file ends too early", self.at).into());
        }
        let bytes = read(self.at, len)?;
        if bytes.len() != len {
            return Err(bad("the file ends too early", self.at).into());
        }
        self.at += len as u64;
        self.id = self.id.and(&bytes);
        Ok(bytes)
    }

    fn chunk<E: From<BadSnapshot>>(
        &mut self,
        read: &mut impl FnMut(u64, usize) -> Result<Vec<u8>, E>,
    ) -> Result<(u32, Vec<u8>), E> {
        let at = self.at;
        let header = self.take(CHUNK_HEADER_BYTES, read)?;
        let number = |at: usize| {
            let mut value = [0; 4];
            value.copy_from_slice(&header[at..at + 4]);
            u32::from_le_bytes(value)
        };
        let (len, sequence, kind) = (number(0), number(4), number(8));
        if crc32c::crc32c(&header[..12]) != number(12) || sequence != self.number {
            return Err(bad("the header of a chunk is damaged", at).into());
        }
        if len as usize > CHUNK_BYTES_MAX {
            return Err(bad("a chunk is too long", at).into());
        }
        self.number += 1;
        let payload = self.take(len as usize, read)?;
        match crc32c::crc32c(&payload) == number(16) {
            true => Ok((kind, payload)),
            false => Err(bad("a chunk is damaged", at).into()),
        }
    }
}
