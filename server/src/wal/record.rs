//! What a frame carries: hard states, resets, truncations and entries, in the order in which they happened.
//!
//! ```text
//! 1  term u64, has_vote u8, vote u64         the hard state becomes this
//! 2  from u64                                forget this index and everything after it
//! 3  payload_len u32, index u64, term u64, payload                  an entry that holds a command
//! 4  the same                                                       an entry that holds a configuration
//! 5  index u64, term u64                     forget the whole log: it ends here, a snapshot holds the rest
//! 6  index u64, term u64                     what was acknowledged up to here may be missing: distrust
//! 7                                          nothing is missing any more: trust
//! 8  lsn u64, has_vote u8, term u64, vote u64, has_suspect u8, suspect (index u64, term u64), base (…), end (…),
//!    runs u32, each run (index u64, term u64)
//!                                            a checkpoint: everything that is known of the log, up to frame `lsn`
//! ```
//!
//! Every segment begins with a checkpoint, so that earlier segments are needed only for the entries in them.

use bytes::Bytes;

use super::frame::{Lsn, NUMBER_MAX, u32_at, u64_at};
use super::shape::Shape;
use crate::raft::{Entry, EntryKind, HardState, Index, NodeId, Position};

const HARD_STATE: u8 = 1;
const TRUNCATE: u8 = 2;
const COMMAND: u8 = 3;
const CONFIGURATION: u8 = 4;
const RESET: u8 = 5;
const DISTRUST: u8 = 6;
const TRUST: u8 = 7;
const CHECKPOINT: u8 = 8;

const HARD_STATE_BYTES: usize = 1 + 8 + 1 + 8;
const TRUNCATE_BYTES: usize = 1 + 8;
const ENTRY_HEAD_BYTES: usize = 1 + 4 + 8 + 8;
const POSITION_BYTES: usize = 1 + 16;
const CHECKPOINT_HEAD_BYTES: usize = 1 + 8 + 17 + 17 + 16 + 16 + 4;

/// One record.
#[derive(Debug)]
pub(super) enum Record {
    HardState(HardState),
    Truncate(Index),
    Entry(Entry),
    Reset(Position),
    Distrust(Position),
    Trust,
    Checkpoint(Checkpoint),
}

/// Everything that is known of a log at one moment, but for its entries.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The last frame that it covers; frames up to here that stand behind it belong to a log that was given up.
    pub(super) covers: Lsn,
    pub(super) shape: Shape,
}

/// At most how many bytes of a frame a request without entries takes.
pub(super) const REQUEST_BYTES_MAX: u64 = (HARD_STATE_BYTES + TRUNCATE_BYTES + POSITION_BYTES + 1) as u64;

/// How many bytes of a frame an entry takes.
pub(super) fn entry_bytes(entry: &Entry) -> u64 {
    (ENTRY_HEAD_BYTES + entry.payload.len()) as u64
}

pub(super) fn put_hard_state(out: &mut Vec<u8>, state: HardState) {
    out.push(HARD_STATE);
    out.extend_from_slice(&state.term.to_le_bytes());
    put_vote(out, state.vote);
}

fn put_vote(out: &mut Vec<u8>, vote: Option<NodeId>) {
    out.push(u8::from(vote.is_some()));
    out.extend_from_slice(&vote.map_or(0, |NodeId(vote)| vote).to_le_bytes());
}

pub(super) fn put_truncate(out: &mut Vec<u8>, from: Index) {
    out.push(TRUNCATE);
    out.extend_from_slice(&from.to_le_bytes());
}

pub(super) fn put_reset(out: &mut Vec<u8>, to: Position) {
    out.push(RESET);
    put_position(out, to);
}

pub(super) fn put_distrust(out: &mut Vec<u8>, up_to: Position) {
    out.push(DISTRUST);
    put_position(out, up_to);
}

pub(super) fn put_trust(out: &mut Vec<u8>) {
    out.push(TRUST);
}

pub(super) fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    let len = u32::try_from(entry.payload.len()).expect("the group was checked to be below 4 GiB");
    out.push(match entry.kind {
        EntryKind::Command => COMMAND,
        EntryKind::Configuration => CONFIGURATION,
    });
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&entry.index.to_le_bytes());
    out.extend_from_slice(&entry.term.to_le_bytes());
    out.extend_from_slice(&entry.payload);
}

pub(super) fn put_checkpoint(out: &mut Vec<u8>, covers: Lsn, shape: &Shape) {
    out.push(CHECKPOINT);
    out.extend_from_slice(&covers.to_le_bytes());
    let HardState { term, vote } = shape.hard_state();
    put_vote(out, vote);
    out.extend_from_slice(&term.to_le_bytes());
    let suspect = shape.suspect();
    out.push(u8::from(suspect.is_some()));
    put_position(out, suspect.unwrap_or_default());
    put_position(out, shape.base());
    put_position(out, shape.end());
    let runs = shape.runs();
    let count = u32::try_from(runs.len()).expect("terms change far less often than that");
    out.extend_from_slice(&count.to_le_bytes());
    runs.iter().for_each(|run| put_position(out, *run));
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    out.extend_from_slice(&position.index.to_le_bytes());
    out.extend_from_slice(&position.term.to_le_bytes());
}

fn position_at(bytes: &[u8], at: usize) -> Result<Position, &'static str> {
    let (index, term) = (u64_at(bytes, at), u64_at(bytes, at + 8));
    if index >= NUMBER_MAX {
        return Err("an index that no log reaches");
    }
    Ok(Position { term, index })
}

fn vote_at(bytes: &[u8], at: usize) -> Result<Option<NodeId>, &'static str> {
    match bytes[at] {
        0 => Ok(None),
        1 => Ok(Some(NodeId(u64_at(bytes, at + 1)))),
        _ => Err("a vote is neither there nor absent"),
    }
}

/// Whether the first record is a checkpoint.
pub(super) fn is_checkpoint(bytes: &[u8]) -> bool {
    bytes.first() == Some(&CHECKPOINT)
}

/// Takes the first record off `bytes`. Each entry has memory of its own. The checksum of `bytes` was right, so an
/// error here means that another program wrote them.
pub(super) fn take(bytes: &mut &[u8]) -> Result<Record, &'static str> {
    let tag = *bytes.first().ok_or("fewer records than announced")?;
    let fixed = match tag {
        HARD_STATE => HARD_STATE_BYTES,
        TRUNCATE => TRUNCATE_BYTES,
        COMMAND | CONFIGURATION => ENTRY_HEAD_BYTES,
        RESET | DISTRUST => POSITION_BYTES,
        TRUST => 1,
        CHECKPOINT => CHECKPOINT_HEAD_BYTES,
        _ => return Err("a record of unknown kind"),
    };
    let head = bytes.split_off(..fixed).ok_or("a record is cut short")?;
    Ok(match tag {
        HARD_STATE => Record::HardState(HardState {
            term: u64_at(head, 1),
            vote: vote_at(head, 9)?,
        }),
        TRUNCATE => Record::Truncate(u64_at(head, 1)),
        RESET => Record::Reset(position_at(head, 1)?),
        DISTRUST => Record::Distrust(position_at(head, 1)?),
        TRUST => Record::Trust,
        CHECKPOINT => Record::Checkpoint(take_checkpoint(head, bytes)?),
        _ => Record::Entry(take_entry(tag, head, bytes)?),
    })
}

fn take_entry(tag: u8, head: &[u8], rest: &mut &[u8]) -> Result<Entry, &'static str> {
    let payload = rest.split_off(..u32_at(head, 1) as usize);
    let kind = match tag {
        CONFIGURATION => EntryKind::Configuration,
        _ => EntryKind::Command,
    };
    Ok(Entry {
        index: u64_at(head, 5),
        term: u64_at(head, 13),
        kind,
        payload: Bytes::copy_from_slice(payload.ok_or("an entry is cut short")?),
    })
}

fn take_checkpoint(head: &[u8], rest: &mut &[u8]) -> Result<Checkpoint, &'static str> {
    let hard_state = HardState {
        vote: vote_at(head, 9)?,
        term: u64_at(head, 18),
    };
    let suspect = match head[26] {
        0 => None,
        1 => Some(position_at(head, 27)?),
        _ => return Err("a suspicion is neither there nor absent"),
    };
    let (base, end) = (position_at(head, 43)?, position_at(head, 59)?);
    let count = u32_at(head, 75) as usize;
    if rest.len() / 16 < count {
        return Err("a checkpoint is cut short");
    }
    let runs = (0..count).map(|at| position_at(rest, at * 16));
    let runs = runs.collect::<Result<Vec<_>, _>>()?;
    *rest = &rest[count * 16..];
    let shape = Shape::restore(hard_state, suspect, base, end, runs);
    Ok(Checkpoint {
        covers: Some(u64_at(head, 1))
            .filter(|lsn| *lsn < NUMBER_MAX)
            .ok_or("a number that no log reaches")?,
        shape: shape.ok_or("a checkpoint contradicts itself")?,
    })
}
