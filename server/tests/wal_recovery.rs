//! What opening a log accepts, cuts and refuses.
#![allow(clippy::unwrap_used)]

mod wal_support;

use std::sync::Arc;

use bytes::Bytes;
use server::disk::OsDisk;
use server::raft::{Entry, HardState, Io, NodeId, Position, Recovered};
use server::wal::frame::{FrameBuffer, FrameHeader, Place};
use server::wal::{Corruption, Wal, WalError, WalOptions};
use wal_support::{
    DiskState, MemDisk, NODE, Rng, append, commit, dir, model, open, segment, small, workload,
};

/// A disk with a log of these requests, one frame each.
fn written(ios: &[Io], options: &WalOptions) -> DiskState {
    let disk = MemDisk::default();
    let (mut wal, _, _) = open(&disk, options).unwrap();
    for io in ios {
        commit(&mut wal, io).unwrap();
    }
    drop(wal);
    disk.state()
}

/// Opens an image and expects damage; checks that nothing was changed.
fn damaged(state: DiskState, options: &WalOptions) -> Corruption {
    let disk = MemDisk::of(state.clone());
    let error = open(&disk, options).map(|(_, r, i)| (r, i)).unwrap_err();
    assert_eq!(
        disk.state().contents(),
        state.contents(),
        "nothing may be changed"
    );
    match error {
        WalError::Corrupt(corruption) => *corruption,
        other => panic!("expected damage, got {other}"),
    }
}

/// Where the frames of a segment begin and what their headers say.
fn frames(state: &DiskState, number: u64, align: usize) -> Vec<(usize, FrameHeader)> {
    let data = &state.contents()[&segment(number)];
    let mut found = Vec::new();
    let mut at = align;
    while let Some(header) = data.get(at..).and_then(FrameHeader::parse) {
        found.push((at, header));
        at += header.frame_len().next_multiple_of(align);
    }
    found
}

#[test]
fn what_was_committed_is_read_back_after_every_prefix() {
    let mut rng = Rng::from_env(11);
    for (align, segment_bytes) in [(512, 4 << 10), (4096, 16 << 10)] {
        let options = small(align, segment_bytes);
        let ios = workload(&mut rng, 60, 700);
        let disk = MemDisk::default();
        for (done, io) in ios.iter().enumerate() {
            let (mut wal, recovered, info) = open(&disk, &options).unwrap();
            assert_eq!(recovered, model(&ios[..done]), "after {done}");
            assert_eq!(info.cut, None);
            commit(&mut wal, io).unwrap();
        }
        let (_, recovered, info) = open(&disk, &options).unwrap();
        assert_eq!(recovered, model(&ios));
        assert!(info.segments > 3, "the workload crosses segments: {info:?}");
    }
}

#[test]
fn random_requests_in_random_groups_with_random_restarts_match_the_model() {
    let mut rng = Rng::from_env(12);
    for round in 0..60 {
        let align = [512, 1024, 4096][rng.below(3) as usize];
        let options = small(align, u64::from(align) * (2 + rng.below(12)));
        let ios = workload(&mut rng, 40, 2000);
        let disk = MemDisk::default();
        let mut wal = open(&disk, &options).unwrap().0;
        for (done, io) in ios.iter().enumerate() {
            wal.stage(io).unwrap();
            if rng.chance(60) {
                wal.commit().unwrap();
                if rng.chance(20) {
                    drop(wal);
                    let (again, recovered, _) = open(&disk, &options).unwrap();
                    assert_eq!(recovered, model(&ios[..=done]), "round {round}");
                    wal = again;
                }
            }
        }
        wal.commit().unwrap();
        drop(wal);
        let (_, recovered, _) = open(&disk, &options).unwrap();
        assert_eq!(recovered, model(&ios), "round {round}");
    }
}

#[test]
fn the_options_may_change_between_two_openings() {
    let disk = MemDisk::default();
    let ios: Vec<Io> = (1..=40).map(|seq| append(seq, &[seq as u8; 300])).collect();
    for (n, io) in ios.iter().enumerate() {
        let options = [small(512, 4096), small(4096, 16384), small(1024, 3072)][n % 3].clone();
        let (mut wal, recovered, _) = open(&disk, &options).unwrap();
        assert_eq!(recovered, model(&ios[..n]));
        commit(&mut wal, io).unwrap();
    }
    assert_eq!(open(&disk, &small(512, 4096)).unwrap().1, model(&ios));
}

#[test]
fn every_flipped_byte_is_refused_or_harmless_and_never_shortens_the_log() {
    let mut rng = Rng::from_env(13);
    let options = small(512, 4 << 10);
    let ios = workload(&mut rng, 14, 900);
    let state = written(&ios, &options);
    let whole = model(&ios);
    let paths: Vec<_> = state.contents().into_keys().collect();
    assert!(paths.len() > 2, "several segments");
    let (mut refused, mut harmless) = (0, 0);
    for path in &paths {
        for at in 0..state.contents()[path].len() {
            for mask in [0x01, 0x80, 0xFF] {
                let mut image = state.clone();
                image.damage(path, |data| data[at] ^= mask);
                match open(&MemDisk::of(image.clone()), &options) {
                    Err(WalError::Corrupt(_)) => refused += 1,
                    Err(other) => panic!("{path:?} byte {at}: {other}"),
                    Ok((_, recovered, info)) => {
                        assert_eq!(recovered, whole, "{path:?} byte {at} mask {mask:#x}: {info:?}");
                        harmless += 1;
                    }
                }
            }
        }
    }
    println!("{refused} refused, {harmless} harmless");
    assert!(refused > 10_000, "{refused}");
}

#[test]
fn every_flipped_byte_of_a_header_is_refused_even_in_the_newest_frame() {
    let options = small(512, 8 << 10);
    let state = written(&[append(1, &[1; 100]), append(2, &[2; 2000])], &options);
    let all = frames(&state, 1, 512);
    assert_eq!(all.len(), 2);
    for (at, header) in all {
        for byte in at..at + 80 {
            let mut image = state.clone();
            image.damage(&segment(1), |data| data[byte] ^= 0x10);
            let damage = damaged(image, &options);
            assert_eq!((damage.frame, damage.offset_bytes), (header.lsn, at as u64));
        }
    }
}

#[test]
fn a_damaged_length_is_damage_and_not_the_end_of_the_file() {
    // In other logs a length that reaches beyond the file reads as "the file ends here", and all behind it is cut off.
    let options = small(512, 8 << 10);
    let state = written(&[append(1, b"a"), append(2, b"b"), append(3, b"c")], &options);
    for length in [0, 1, 0x7fff_ffff_u32, u32::MAX] {
        let mut image = state.clone();
        let (at, _) = frames(&state, 1, 512)[2];
        image.damage(&segment(1), |data| {
            data[at + 36..at + 40].copy_from_slice(&length.to_le_bytes())
        });
        assert_eq!(damaged(image, &options).frame, 3);
    }
}

#[test]
fn damage_is_reported_with_file_byte_frame_and_entries() {
    let options = small(512, 2 << 10);
    let ios: Vec<Io> = (1..=9).map(|seq| append(seq, &[9; 600])).collect();
    let state = written(&ios, &options);
    let (at, header) = frames(&state, 2, 512)[0];
    let mut image = state.clone();
    image.damage(&segment(2), |data| data[at + 200] ^= 1);
    let damage = damaged(image, &options);
    assert_eq!(damage.path, segment(2));
    assert_eq!(damage.offset_bytes, at as u64);
    assert_eq!(damage.frame, header.lsn);
    assert_eq!(damage.index_first, header.first_index);
    assert_eq!(
        damage.index_last,
        Some(9),
        "the last index that any frame speaks of"
    );
    let text = damage.to_string();
    for part in [
        "wal-000000000002.seg at byte 512, frame 2",
        "log index 2 to at least 9",
        "Nothing was changed",
        "majority",
    ] {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

#[test]
fn a_frame_that_became_zeros_is_damage_if_anything_follows_it() {
    let options = small(512, 2 << 10);
    let ios: Vec<Io> = (1..=7).map(|seq| append(seq, &[5; 600])).collect();
    let state = written(&ios, &options);
    // Every frame but the last, which nothing vouches for.
    for seq in 1..7 {
        let (at, header) = frames(&state, seq, 512)[0];
        let mut image = state.clone();
        image.damage(&segment(seq), |data| data[at..].fill(0));
        let damage = damaged(image, &options);
        assert_eq!(damage.frame, header.lsn);
        assert_eq!(damage.index_last, Some(7));
    }
    let mut image = state;
    image.damage(&segment(7), |data| data[512..].fill(0));
    assert_eq!(open(&MemDisk::of(image), &options).unwrap().1, model(&ios[..6]));
}

#[test]
fn a_lost_sector_is_torn_in_the_newest_frame_and_damage_in_any_other() {
    let options = small(512, 8 << 10);
    let ios = [append(1, &[1; 1400]), append(2, &[2; 1400])];
    let state = written(&ios, &options);
    for (frame, (at, _)) in frames(&state, 1, 512).into_iter().enumerate() {
        for sector in 0..3 {
            let mut image = state.clone();
            let at = at + sector * 512;
            image.damage(&segment(1), |data| data[at..at + 512].fill(0));
            if frame == 0 {
                assert_eq!(damaged(image, &options).frame, 1);
            } else {
                let disk = MemDisk::of(image);
                let (mut wal, recovered, info) = open(&disk, &options).unwrap();
                assert_eq!(recovered, model(&ios[..1]));
                assert_eq!(info.cut.unwrap().frame, 2);
                commit(&mut wal, &append(2, b"again")).unwrap();
                drop(wal);
                assert_eq!(open(&disk, &options).unwrap().1.entries[1].payload, "again");
            }
        }
    }
}

#[test]
fn zeros_inside_a_payload_are_not_taken_for_lost_sectors() {
    let options = small(512, 16 << 10);
    let state = written(&[append(1, b"first"), append(2, &[0; 5000])], &options);
    let (at, header) = frames(&state, 1, 512)[1];
    assert!(header.zero_sectors > 5);
    let mut image = state.clone();
    image.damage(&segment(1), |data| data[at + 90] ^= 4);
    assert_eq!(damaged(image, &options).frame, 2);
}

#[test]
fn a_missing_segment_is_damage() {
    let options = small(512, 2 << 10);
    let ios: Vec<Io> = (1..=5).map(|seq| append(seq, &[5; 600])).collect();
    let state = written(&ios, &options);
    for number in 1..5 {
        let mut image = state.clone();
        image.lose(&segment(number));
        let damage = damaged(image, &options);
        assert_eq!(damage.path, segment(number));
        assert_eq!(damage.index_first, number);
    }
}

#[test]
fn a_segment_in_the_place_of_another_is_damage() {
    let options = small(512, 2 << 10);
    let ios: Vec<Io> = (1..=5).map(|seq| append(seq, &[5; 600])).collect();
    let state = written(&ios, &options);
    let third = state.contents()[&segment(3)].clone();
    let mut image = state.clone();
    image.damage(&segment(2), |data| *data = third);
    assert_eq!(damaged(image, &options).path, segment(2));
    // An older copy of the whole file, as a careless restore leaves it.
    let older = written(&ios[..1], &options).contents()[&segment(1)].clone();
    let longer = small(512, 4 << 10);
    let mut image = written(&ios, &longer);
    assert_ne!(image.contents()[&segment(1)].len(), older.len());
    image.damage(&segment(1), |data| *data = older);
    assert_eq!(damaged(image, &options).frame, 2);
}

#[test]
fn a_segment_that_was_cut_short_is_damage() {
    let options = small(512, 4 << 10);
    let state = written(&[append(1, b"a")], &options);
    for len in [0, 100, 512, 1024, 4095] {
        let mut image = state.clone();
        image.damage(&segment(1), |data| data.truncate(len));
        assert_eq!(damaged(image, &options).offset_bytes, 0);
    }
}

// --- frames that this writer would not write ---

/// Builds the content of segment 1 frame by frame.
struct Forge {
    state: DiskState,
    at: usize,
    prev_crc: u32,
}

impl Forge {
    fn new(options: &WalOptions) -> Forge {
        Forge {
            state: written(&[], options),
            at: 512,
            prev_crc: 0,
        }
    }

    /// Adds a frame; returns where it stands.
    fn add(&mut self, io: &Io, lsn: u64, durable_lsn: u64, end: Position) -> usize {
        let mut frame = FrameBuffer::default();
        frame.push(io);
        let (header, bytes) = frame.seal(Place {
            segment: 1,
            lsn,
            durable_lsn,
            prev_crc: self.prev_crc,
            end,
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
        align_bytes: 512,
    });
    // The records begin 80 bytes into the frame, the payload of the entry 21 bytes later.
    let mut payload = vec![7; 512 - 80 - 21];
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
        payload: Bytes::from_static(b"x"),
    };
    let io = |hard_state, truncate_from, entries: Vec<Entry>| Io {
        seq: 2,
        hard_state,
        truncate_from,
        entries: entries.into(),
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

// --- whose log it is ---

#[test]
fn the_directory_of_another_node_is_refused_by_name() {
    let options = small(512, 4 << 10);
    let disk = MemDisk::of(written(&[append(1, b"a")], &options));
    let mut other = options.clone();
    other.node = "node2".to_owned();
    let before = disk.state().contents();
    let error = open(&disk, &other).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, WalError::WrongNode { owner, asked, .. } if owner == NODE && asked == "node2"),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.starts_with("this directory belongs to node1, not node2; use --data-dir"),
        "{text}"
    );
    assert_eq!(disk.state().contents(), before);
    assert_eq!(open(&disk, &options).unwrap().1.entries.len(), 1);
}

#[test]
fn another_format_is_refused_by_number() {
    let options = small(512, 4 << 10);
    let mut state = written(&[append(1, b"a")], &options);
    state.damage(&segment(1), |data| {
        data[12] = 9;
        let crc = crc32c::crc32c(&data[12..512]);
        data[8..12].copy_from_slice(&crc.to_le_bytes());
    });
    let error = open(&MemDisk::of(state), &options).map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            WalError::Version {
                found: 9,
                supported: 1,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn bad_options_are_refused_before_anything_is_touched() {
    for (align, bytes) in [(0, 4096), (256, 4096), (1000, 4000), (512, 512), (512, 1000)] {
        let disk = MemDisk::default();
        let error = open(&disk, &small(align, bytes)).map(|_| ()).unwrap_err();
        assert!(matches!(error, WalError::Options(_)), "{error:?}");
        assert!(disk.state().contents().is_empty());
    }
    let nameless = WalOptions::new("");
    let error = open(&MemDisk::default(), &nameless).map(|_| ()).unwrap_err();
    assert!(matches!(error, WalError::Options(_)), "{error:?}");
}

#[test]
fn left_over_halves_of_segments_are_removed_and_other_files_left_alone() {
    use server::disk::Disk as _;
    let options = small(512, 4 << 10);
    let disk = MemDisk::of(written(&[append(1, b"a")], &options));
    disk.create(&dir().join("wal-000000000002.tmp")).unwrap();
    disk.create(&dir().join("notes.txt")).unwrap();
    open(&disk, &options).unwrap();
    let names = disk.list(&dir()).unwrap();
    assert_eq!(names, ["notes.txt", "wal-000000000001.seg"]);
}

// --- the real disk ---

#[test]
fn the_real_disk_keeps_a_log_and_locks_its_directory() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("a/b/wal");
    let options = small(4096, 64 << 10);
    let opened = || Wal::open(Arc::new(OsDisk), &data, options.clone());
    let ios: Vec<Io> = (1..=50).map(|seq| append(seq, &[seq as u8; 3000])).collect();
    let (mut wal, recovered, _) = opened().unwrap();
    assert_eq!(recovered, Recovered::default());
    for io in &ios[..30] {
        commit(&mut wal, io).unwrap();
    }
    let error = opened().map(|_| ()).unwrap_err();
    let text = error.to_string();
    let holder = format!("in use by process {};", std::process::id());
    assert!(matches!(error, WalError::Locked { .. }), "{error:?}");
    assert!(text.contains(&holder), "{text}");
    drop(wal);
    let (mut wal, recovered, info) = opened().unwrap();
    assert_eq!(recovered, model(&ios[..30]));
    assert_eq!(info.frames, 30);
    for io in &ios[30..] {
        let mut io = io.clone();
        io.seq -= 30;
        commit(&mut wal, &io).unwrap();
    }
    assert_eq!(wal.stats().snapshot().syncs, 20);
    drop(wal);
    assert_eq!(opened().unwrap().1, model(&ios));
}
