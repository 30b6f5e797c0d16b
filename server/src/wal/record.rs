//! What a frame carries: hard states, truncations and entries, in the order in which they happened.
//!
//! ```text
//! 1  term u64, has_vote u8, vote u64         the hard state becomes this
//! 2  from u64                                forget this index and everything after it
//! 3  payload_len u32, index u64, term u64, payload
//! ```

use bytes::Bytes;

use super::frame::{u32_at, u64_at};
use crate::raft::{Entry, HardState, Index, NodeId};

const HARD_STATE: u8 = 1;
const TRUNCATE: u8 = 2;
const ENTRY: u8 = 3;

const HARD_STATE_BYTES: usize = 1 + 8 + 1 + 8;
const TRUNCATE_BYTES: usize = 1 + 8;
const ENTRY_HEAD_BYTES: usize = 1 + 4 + 8 + 8;

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    HardState(HardState),
    Truncate(Index),
    Entry(Entry),
}

/// At most how many bytes of a frame a request without entries takes.
pub(super) const REQUEST_BYTES_MAX: u64 = (HARD_STATE_BYTES + TRUNCATE_BYTES) as u64;

/// How many bytes of a frame an entry takes.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    (ENTRY_HEAD_BYTES + entry.payload.len()) as u64
}

pub(super) fn put_hard_state(out: &mut Vec<u8>, state: HardState) {
    let mut record = [0; HARD_STATE_BYTES];
    record[0] = HARD_STATE;
    record[1..9].copy_from_slice(&state.term.to_le_bytes());
    if let Some(NodeId(vote)) = state.vote {
        record[9] = 1;
        record[10..18].copy_from_slice(&vote.to_le_bytes());
    }
    out.extend_from_slice(&record);
}

pub(super) fn put_truncate(out: &mut Vec<u8>, from: Index) {
    let mut record = [0; TRUNCATE_BYTES];
    record[0] = TRUNCATE;
    record[1..9].copy_from_slice(&from.to_le_bytes());
    out.extend_from_slice(&record);
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let len = u32::try_from(entry.payload.len()).expect("the group was checked to be below 4 GiB");
    let mut head = [0; ENTRY_HEAD_BYTES];
    head[0] = ENTRY;
    head[1..5].copy_from_slice(&len.to_le_bytes());
    head[5..13].copy_from_slice(&entry.index.to_le_bytes());
    head[13..21].copy_from_slice(&entry.term.to_le_bytes());
    out.extend_from_slice(&head);
    out.extend_from_slice(&entry.payload);
}

/// Takes the first record off `bytes`. Entries share the memory of `bytes`. The checksum of `bytes` was right, so an
/// error here means that another program wrote them.
pub(super) fn take(bytes: &mut Bytes) -> Result<Record, &'static str> {
    const SHORT: &str = "a record is cut short";
    let tag = *bytes.first().ok_or("fewer records than announced")?;
    match tag {
        HARD_STATE if bytes.len() >= HARD_STATE_BYTES => {
            let record = bytes.split_to(HARD_STATE_BYTES);
            let vote = match record[9] {
                0 => None,
                1 => Some(NodeId(u64_at(&record, 10))),
                _ => return Err("a vote is neither there nor absent"),
            };
            let term = u64_at(&record, 1);
            Ok(Record::HardState(HardState { term, vote }))
        }
        TRUNCATE if bytes.len() >= TRUNCATE_BYTES => {
            let record = bytes.split_to(TRUNCATE_BYTES);
            Ok(Record::Truncate(u64_at(&record, 1)))
        }
        ENTRY if bytes.len() >= ENTRY_HEAD_BYTES => {
            let len = u32_at(bytes, 1) as usize;
            if bytes.len() - ENTRY_HEAD_BYTES < len {
                return Err(SHORT);
            }
            let head = bytes.split_to(ENTRY_HEAD_BYTES);
            Ok(Record::Entry(Entry {
                index: u64_at(&head, 5),
                term: u64_at(&head, 13),
                kind: Default::default(),
                payload: bytes.split_to(len),
            }))
        }
        HARD_STATE | TRUNCATE | ENTRY => Err(SHORT),
        _ => Err("a record of unknown kind"),
    }
}
