//! Frames that this writer would not write, and what opening a log makes of them.
#![allow(clippy::unwrap_used)]

mod wal_support;

use bytes::Bytes;
use server::raft::{Entry, HardState, Io, NodeId, Position};
use server::wal::WalOptions;
use server::wal::frame::{FrameBuffer, FrameHeader, Place};
use wal_support::{DiskState, MemDisk, append, commit, damaged, model, open, segment, small, written};

/// Builds the content of segment 1 frame by frame.
struct Forge {
    state: DiskState,
    at: usize,
    /// The segment that the frames claim to be written into.
    segment: u64,
    prev_crc: u32,
    hard_state: HardState,
}

impl Forge {
    fn new(options: &WalOptions) -> Forge {
        Forge {
            state: written(&[], options),
            at: 512,
            segment: 1,
            prev_crc: 0,
            hard_state: HardState::default(),
        }
    }

    /// Adds a frame; returns where it stands.
    fn add(&mut self, io: &Io, lsn: u64, durable_lsn: u64, end: Position) -> usize {
        let mut frame = FrameBuffer::default();
        frame.push(io);
        if self.at == 512 {
            frame.open_log();
        }
        self.hard_state = io.hard_state.unwrap_or(self.hard_state);
        let (header, bytes) = frame.seal(Place {
            segment: self.segment,
            lsn,
            durable_lsn,
            prev_crc: self.prev_crc,
            end,
            hard_state: self.hard_state,
            suspect: None,
            align_bytes: 512,
        });
        let at = self.at;
        self.state.damage(&segment(1), |data| {
            data[at..at + bytes.len()].copy_from_slice(bytes)
        });
        self.at += bytes.len();
        self.prev_crc = header.crc;
        at
    }
}

fn end(term: u64, index: u64) -> Position {
    Position { term, index }
}

#[test]
fn frames_written_back_out_of_order_before_their_sync_are_cut() {
    let options = small(512, 8 << 10);
    let mut forge = Forge::new(&options);
    forge.add(&append(1, &[1; 100]), 1, 0, end(1, 1));
    let second = forge.add(&append(2, &[2; 1200]), 2, 1, end(1, 2));
    forge.add(&append(3, &[3; 1200]), 3, 1, end(1, 3));
    forge.add(&append(4, &[4; 1200]), 4, 1, end(1, 4));
    for lost in [
        second..second + 512,
        second + 512..second + 1024,
        second..second + 1536,
    ] {
        let mut image = forge.state.clone();
        image.damage(&segment(1), |data| data[lost.clone()].fill(0));
        let disk = MemDisk::of(image);
        let (mut wal, recovered, info) = open(&disk, &options).unwrap();
        assert_eq!(recovered, model(&[append(1, &[1; 100])]));
        assert_eq!(info.cut.unwrap().offset_bytes, second as u64);
        // Nothing of the old frames 3 and 4 may come back behind the new frame 2.
        commit(&mut wal, &append(2, &[7; 1200])).unwrap();
        drop(wal);
        assert_eq!(open(&disk, &options).unwrap().1.entries.len(), 2);
    }
}

#[test]
fn a_later_frame_that_vouches_for_the_lost_one_makes_it_damage() {
    let options = small(512, 8 << 10);
    let mut forge = Forge::new(&options);
    forge.add(&append(1, &[1; 100]), 1, 0, end(1, 1));
    let second = forge.add(&append(2, &[2; 1200]), 2, 1, end(1, 2));
    forge.add(&append(3, &[3; 1200]), 3, 1, end(1, 3));
    forge.add(&append(4, &[4; 1200]), 4, 2, end(1, 4));
    for lost in [
        second..second + 512,
        second + 512..second + 1024,
        second..second + 1536,
    ] {
        let mut image = forge.state.clone();
        image.damage(&segment(1), |data| data[lost.clone()].fill(0));
        let damage = damaged(image, &options);
        assert_eq!(
            (damage.frame, damage.index_first, damage.index_last),
            (2, 2, Some(4))
        );
    }
}

#[test]
fn a_frame_with_another_number_predecessor_or_segment_does_not_follow() {
    let options = small(512, 8 << 10);
    for (lsn, prev_crc, of_segment) in [(2, Some(12345), 1), (3, None, 1), (1, None, 1), (2, None, 2)] {
        let mut forge = Forge::new(&options);
        forge.add(&append(1, &[1; 100]), 1, 0, end(1, 1));
        forge.prev_crc = prev_crc.unwrap_or(forge.prev_crc);
        forge.segment = of_segment;
        let at = forge.add(&append(2, &[2; 100]), lsn, 1, end(1, 2));
        let damage = damaged(forge.state, &options);
        assert_eq!((damage.frame, damage.offset_bytes), (2, at as u64));
    }
}

#[test]
fn an_image_of_a_frame_inside_a_payload_is_not_taken_for_a_frame() {
    // A client may store anything, also a copy of this very log. It must not count as evidence about the frame that it
    // is stored in.
    let options = small(512, 16 << 10);
    let mut forge = Forge::new(&options);
    let first = append(1, &[1; 100]);
    forge.add(&first, 1, 0, end(1, 1));
    let mut fake = FrameBuffer::default();
    fake.push(&append(3, b"fake"));
    let (_, image_of_frame) = fake.seal(Place {
        segment: 1,
        lsn: 3,
        durable_lsn: 2,
        prev_crc: 0,
        end: end(1, 3),
        hard_state: HardState::default(),
        suspect: None,
        align_bytes: 512,
    });
    // The records begin 112 bytes into the frame, the payload of the entry 21 bytes later.
    let mut payload = vec![7; 512 - 112 - 21];
    payload.extend_from_slice(image_of_frame);
    payload.extend_from_slice(&[7; 2000]);
    let second = forge.add(&append(2, &payload), 2, 1, end(1, 2));
    let whole = forge.state.clone();
    let stored = &whole.contents()[&segment(1)];
    assert!(
        FrameHeader::parse(&stored[second + 512..]).is_some(),
        "the image is in the way"
    );
    let mut torn = whole.clone();
    torn.damage(&segment(1), |data| data[second + 1024..second + 1536].fill(0));
    let (_, recovered, info) = open(&MemDisk::of(torn), &options).unwrap();
    assert_eq!(recovered, model(&[first]));
    assert_eq!(info.cut.unwrap().frame, 2);
}

#[test]
fn an_intact_frame_that_says_something_impossible_is_damage() {
    let options = small(512, 8 << 10);
    let entry = |term, index| Entry {
        term,
        index,
        kind: Default::default(),
        payload: Bytes::from_static(b"x"),
    };
    let io = |hard_state, truncate_from, entries: Vec<Entry>| Io {
        seq: 2,
        hard_state,
        truncate_from,
        entries: entries.into(),
        ..Io::default()
    };
    let voted = |term, node| {
        Some(HardState {
            term,
            vote: Some(NodeId(node)),
        })
    };
    let cases = [
        ("a gap", io(None, None, vec![entry(3, 3)]), end(3, 3)),
        ("an entry twice", io(None, None, vec![entry(3, 1)]), end(3, 1)),
        ("an older term", io(None, None, vec![entry(2, 2)]), end(2, 2)),
        ("a term ahead", io(None, None, vec![entry(4, 2)]), end(4, 2)),
        ("the term goes back", io(voted(2, 1), None, vec![]), end(3, 1)),
        ("a second vote", io(voted(3, 2), None, vec![]), end(3, 1)),
        ("truncated beyond", io(None, Some(3), vec![]), end(3, 1)),
        ("truncated at 0", io(None, Some(0), vec![]), end(0, 0)),
        ("another end", io(None, None, vec![entry(3, 2)]), end(3, 9)),
    ];
    for (what, bad, bad_end) in cases {
        let mut forge = Forge::new(&options);
        let mut first = append(1, b"a");
        first.hard_state = voted(3, 1);
        first.entries = [entry(3, 1)].into();
        forge.add(&first, 1, 0, end(3, 1));
        let at = forge.add(&bad, 2, 1, bad_end);
        let damage = damaged(forge.state, &options);
        assert_eq!((damage.frame, damage.offset_bytes), (2, at as u64), "{what}");
        assert!(damage.what.contains("impossible"), "{what}: {}", damage.what);
    }
}
