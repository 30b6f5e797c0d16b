//! One group commit on disk: a header and the records of the group.
//!
//! ```text
//! 0  magic u32          4  header_crc u32 (over 8..112)
//! 8  segment u64       16  lsn u64              24  durable_lsn u64
//! 32 prev_crc u32      36  payload_len u32      40  payload_crc u32    44 records u32
//! 48 zero_sectors u32  52  flags u32: 1 a vote, 2 a suspicion
//! 56 first_index u64   64  end.index u64        72  end.term u64
//! 80 term u64          88  vote u64             96  suspect.index u64 104 suspect.term u64
//! 112 payload: records, see `record`
//! … filling, and at the very end of the frame's last aligned block a copy of the header
//! ```
//!
//! All numbers are little endian, all checksums CRC-32C. The header has a checksum of its own, so a damaged length is
//! seen as damage and never believed. `header_crc` covers `payload_crc`, so `prev_crc`, the `header_crc` of the frame
//! before, chains whole frames.
//!
//! `zero_sectors` is how torn and rotten are told apart without a trailer in every page. A frame is written over
//! zeros, and a power cut leaves every sector either old (zero) or new. So a frame with more zero sectors than it was
//! written with is torn: it was never synced. A frame whose checksum fails although none of its sectors is missing
//! was complete once and has rotted since.
//!
//! The header says what the log looks like after the frame: its end, term and vote, and what is suspected to be missing.
//! With it stands what a node must know of a frame whose payload is lost: how far it may have acknowledged, and whom it
//! voted for. The copy makes sure
//! that no single lost sector, and no single flipped bit, takes that knowledge away.

use crate::raft::{HardState, Index, Io, NodeId, Position};

use super::record;
use super::shape::Shape;

/// Number of a frame, from 1 without gaps over all segments of a log.
pub type Lsn = u64;

/// The unit in which a power cut tears a write.
pub const SECTOR_BYTES: usize = 512;

/// Length of a frame's header. It fits into one sector, so it is never torn.
pub const HEADER_BYTES: usize = 112;
const _: () = assert!(HEADER_BYTES <= SECTOR_BYTES);

/// Header and copy never share a sector, so a frame has at least two.
const EXTENT_BYTES_MIN: usize = 2 * SECTOR_BYTES;

const MAGIC: u32 = u32::from_le_bytes(*b"WWF2");

/// What the rest of a frame's last sector is filled with, so that this sector, too, is visibly written or not.
const FILL: u8 = 0xA5;

/// Bits of a header's flags.
const HAS_VOTE: u32 = 1;
const HAS_SUSPECT: u32 = 2;

/// No log gets so far: what has such a number was not written by this program. Keeps all sums of numbers exact.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// A buffer that is kept when it is empty. One group is at most a few MiB; only a single huge request exceeds it.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The segment that it was written into.
    pub segment: u64,
    /// Its number.
    pub lsn: Lsn,
    /// Every frame up to this one had been synced when this one was written.
    pub durable_lsn: Lsn,
    /// `crc` of the frame before; 0 for the first.
    pub prev_crc: u32,
    /// Bytes behind the header.
    pub payload_len: u32,
    /// Their checksum.
    pub payload_crc: u32,
    /// How many records they hold.
    pub records: u32,
    /// How many of the frame's sectors are all zero by themselves.
    pub zero_sectors: u32,
    /// The lowest index that the frame truncates or appends; 0 if it does neither.
    pub first_index: Index,
    /// Where the log ends after it.
    pub end: Position,
    /// Term and vote after it.
    pub hard_state: HardState,
    /// What may be missing, after it.
    pub suspect: Option<Position>,
    /// Checksum of all the above.
    pub crc: u32,
}

impl FrameHeader {
    /// Reads a header from the start of `bytes`; `None` unless it is there and intact.
    pub fn parse(bytes: &[u8]) -> Option<FrameHeader> {
        let header = bytes.get(..HEADER_BYTES)?;
        let crc = u32_at(header, 4);
        if u32_at(header, 0) != MAGIC || crc32c::crc32c(&header[8..]) != crc {
            return None;
        }
        let flags = u32_at(header, 52);
        let position = |at| Position {
            index: u64_at(header, at),
            term: u64_at(header, at + 8),
        };
        let parsed = FrameHeader {
            segment: u64_at(header, 8),
            lsn: u64_at(header, 16),
            durable_lsn: u64_at(header, 24),
            prev_crc: u32_at(header, 32),
            payload_len: u32_at(header, 36),
            payload_crc: u32_at(header, 40),
            records: u32_at(header, 44),
            zero_sectors: u32_at(header, 48),
            first_index: u64_at(header, 56),
            end: position(64),
            hard_state: HardState {
                term: u64_at(header, 80),
                vote: (flags & HAS_VOTE != 0).then(|| NodeId(u64_at(header, 88))),
            },
            suspect: (flags & HAS_SUSPECT != 0).then(|| position(96)),
            crc,
        };
        let numbers = [parsed.lsn, parsed.first_index, parsed.end.index];
        numbers
            .iter()
            .all(|number| *number < NUMBER_MAX)
            .then_some(parsed)
    }

    /// Header and payload together, in bytes.
    pub fn frame_len(&self) -> usize {
        HEADER_BYTES + self.payload_len as usize
    }

    /// How much of a file the frame takes: with padding, and with the copy of the header at the end.
    pub fn extent_bytes(&self, align_bytes: usize) -> usize {
        extent_bytes(self.frame_len(), align_bytes)
    }

    /// Writes the header to the start of `bytes` and notes the checksum in it.
    fn write(&mut self, bytes: &mut [u8]) {
        let header = &mut bytes[..HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| header[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC.to_le_bytes());
        put(8, &self.segment.to_le_bytes());
        put(16, &self.lsn.to_le_bytes());
        put(24, &self.durable_lsn.to_le_bytes());
        put(32, &self.prev_crc.to_le_bytes());
        put(36, &self.payload_len.to_le_bytes());
        put(40, &self.payload_crc.to_le_bytes());
        put(44, &self.records.to_le_bytes());
        put(48, &self.zero_sectors.to_le_bytes());
        let vote_flag = u32::from(self.hard_state.vote.is_some()) * HAS_VOTE;
        let suspect_flag = u32::from(self.suspect.is_some()) * HAS_SUSPECT;
        put(52, &(vote_flag | suspect_flag).to_le_bytes());
        put(56, &self.first_index.to_le_bytes());
        put(64, &self.end.index.to_le_bytes());
        put(72, &self.end.term.to_le_bytes());
        put(80, &self.hard_state.term.to_le_bytes());
        put(
            88,
            &self.hard_state.vote.map_or(0, |NodeId(vote)| vote).to_le_bytes(),
        );
        let suspect = self.suspect.unwrap_or_default();
        put(96, &suspect.index.to_le_bytes());
        put(104, &suspect.term.to_le_bytes());
        self.crc = crc32c::crc32c(&header[8..]);
        header[4..8].copy_from_slice(&self.crc.to_le_bytes());
    }
}

/// Where a frame goes; see [`FrameHeader`] for the fields.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Segment.
    pub segment: u64,
    /// Number.
    pub lsn: Lsn,
    /// Synced so far.
    pub durable_lsn: Lsn,
    /// Checksum of the frame before.
    pub prev_crc: u32,
    /// Where the log ends after it.
    pub end: Position,
    /// Term and vote after it.
    pub hard_state: HardState,
    /// What may be missing, after it.
    pub suspect: Option<Position>,
    /// Frames begin at multiples of this in the file.
    pub align_bytes: usize,
}

/// The frame that is being built. One buffer, used again for every group.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    records: u32,
    first_index: Index,
    /// It begins with a checkpoint.
    opens_segment: bool,
}

impl Default for FrameBuffer {
    fn default() -> Self {
        FrameBuffer {
            bytes: vec![0; HEADER_BYTES],
            records: 0,
            first_index: 0,
            opens_segment: false,
        }
    }
}

impl FrameBuffer {
    /// Adds what a request asks for, in the order in which requests are carried out.
    pub fn push(&mut self, io: &Io) {
        if let Some(hard_state) = io.hard_state {
            record::put_hard_state(&mut self.bytes, hard_state);
            self.records += 1;
        }
        if let Some(to) = io.reset {
            record::put_reset(&mut self.bytes, to);
            self.records += 1;
        }
        if let Some(from) = io.truncate_from {
            record::put_truncate(&mut self.bytes, from);
            self.records += 1;
            self.touch(from);
        }
        if let Some(first) = io.entries.first() {
            self.touch(first.index);
        }
        for entry in io.entries.iter() {
            record::put_entry(&mut self.bytes, entry);
            self.records += 1;
        }
        if io.trusted {
            record::put_trust(&mut self.bytes);
            self.records += 1;
        }
    }

    /// Adds that entries up to `position` may be missing.
    pub(super) fn push_distrust(&mut self, position: Position) {
        record::put_distrust(&mut self.bytes, position);
        self.records += 1;
    }

    /// Puts the checkpoint of an empty log in front: the frame is the first of all.
    pub fn open_log(&mut self) {
        self.open_with(0, &Shape::default());
    }

    /// Puts a checkpoint in front of everything else: the frame opens a segment. Once is enough.
    pub(super) fn open_with(&mut self, covers: Lsn, before: &Shape) {
        if std::mem::replace(&mut self.opens_segment, true) {
            return;
        }
        let mut checkpoint = Vec::new();
        record::put_checkpoint(&mut checkpoint, covers, before);
        self.bytes.splice(HEADER_BYTES..HEADER_BYTES, checkpoint);
        self.records += 1;
    }

    fn touch(&mut self, index: Index) {
        if self.first_index == 0 || index < self.first_index {
            self.first_index = index;
        }
    }

    /// Whether nothing was asked for yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Header and records so far.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How much of a file the frame takes, with padding.
    pub fn extent_bytes(&self, align_bytes: usize) -> usize {
        extent_bytes(self.bytes.len(), align_bytes)
    }

    /// Finishes the frame: its header and the bytes to write, a whole number of `align_bytes`. [`FrameBuffer::clear`]
    /// comes next.
    ///
    /// # Panics
    /// If the records exceed 4 GiB. The log refuses such a request before it gets here.
    pub fn seal(&mut self, place: Place) -> (FrameHeader, &[u8]) {
        let frame_len = self.bytes.len();
        let payload_len = frame_len - HEADER_BYTES;
        let payload_crc = crc32c::crc32c(&self.bytes[HEADER_BYTES..]);
        self.bytes.resize(frame_len.next_multiple_of(SECTOR_BYTES), FILL);
        // The header is never zero, so its sector is counted right although it is not filled in yet.
        let behind_header = self.bytes.get(SECTOR_BYTES..).unwrap_or_default();
        let zero_sectors = zero_sectors(behind_header);
        let extent = extent_bytes(frame_len, place.align_bytes);
        self.bytes.resize(extent, 0);
        let mut header = FrameHeader {
            segment: place.segment,
            lsn: place.lsn,
            durable_lsn: place.durable_lsn,
            prev_crc: place.prev_crc,
            payload_len: u32::try_from(payload_len).expect("a group is far below 4 GiB"),
            payload_crc,
            records: self.records,
            zero_sectors,
            first_index: self.first_index,
            end: place.end,
            hard_state: place.hard_state,
            suspect: place.suspect,
            crc: 0,
        };
        header.write(&mut self.bytes);
        self.bytes.copy_within(..HEADER_BYTES, extent - HEADER_BYTES);
        (header, &self.bytes)
    }

    /// Begins the next frame.
    pub fn clear(&mut self) {
        self.bytes.truncate(HEADER_BYTES);
        self.bytes.shrink_to(BUFFER_KEPT_BYTES);
        self.records = 0;
        self.first_index = 0;
        self.opens_segment = false;
    }
}

fn extent_bytes(frame_len: usize, align_bytes: usize) -> usize {
    (frame_len + HEADER_BYTES)
        .max(EXTENT_BYTES_MIN)
        .next_multiple_of(align_bytes)
}

/// How many of the sectors of `bytes`, which is a whole number of them, are all zero.
pub(super) fn zero_sectors(bytes: &[u8]) -> u32 {
    let zero = bytes.chunks(SECTOR_BYTES).filter(|sector| is_zero(sector));
    u32::try_from(zero.count()).expect("a frame has fewer than 2^32 sectors")
}

/// Whether all bytes are zero. Compares with a page of zeros, which is fast in every build.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// How long `bytes` is without the zeros at its end.
pub(super) fn len_without_zeros(bytes: &[u8]) -> usize {
    let mut len = bytes.len();
    for chunk in bytes.rchunks(SECTOR_BYTES) {
        if !is_zero(chunk) {
            let last = chunk.iter().rposition(|byte| *byte != 0);
            return len - chunk.len() + last.map_or(0, |at| at + 1);
        }
        len -= chunk.len();
    }
    0
}

/// The `u32` at `at`, which must be within.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The `u64` at `at`, which must be within.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
