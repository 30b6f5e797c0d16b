//! What opening a log accepts, cuts and refuses.
#![allow(clippy::unwrap_used)]

mod wal_support;

use std::sync::Arc;

use server::disk::OsDisk;
use server::raft::{Io, Position, Recovered};
use server::wal::{Wal, WalError, WalOptions, WalThread};
use wal_support::{
    MemDisk, NODE, Rng, append, commit, damaged, dir, frames, model, open, segment, small, workload, written,
};

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
fn every_flipped_byte_is_mended_or_known_and_never_shortens_the_log_in_silence() {
    let mut rng = Rng::from_env(13);
    let options = small(1024, 8 << 10);
    let ios = workload(&mut rng, 14, 900);
    let state = written(&ios, &options);
    let whole = model(&ios);
    let mut furthest = Default::default();
    for count in 0..=ios.len() {
        furthest = model(&ios[..count])
            .entries
            .last()
            .map(|entry| entry.position())
            .max(furthest);
    }
    let paths: Vec<_> = state.contents().into_keys().collect();
    assert!(paths.len() > 2, "several segments");
    let (mut suspected, mut harmless) = (0, 0);
    for path in &paths {
        for at in 0..state.contents()[path].len() {
            for mask in [0x01, 0x80, 0xFF] {
                let mut image = state.clone();
                image.damage(path, |data| data[at] ^= mask);
                let hint = format!("{path:?} byte {at} mask {mask:#x}");
                let (_, recovered, _) = match open(&MemDisk::of(image), &options) {
                    Ok(opened) => opened,
                    Err(error) => panic!("{hint}: one byte is never too much: {error}"),
                };
                if recovered.suspect.is_none() {
                    assert!(
                        recovered == whole,
                        "{hint}: something is missing, and nobody knows"
                    );
                    harmless += 1;
                    continue;
                }
                assert!(
                    recovered.suspect <= furthest,
                    "{hint}: more than was ever written"
                );
                assert!(
                    recovered.suspect >= whole.entries.last().map(|entry| entry.position()),
                    "{hint}"
                );
                assert_eq!(recovered.hard_state, whole.hard_state, "{hint}");
                let prefix = (0..ios.len()).any(|count| model(&ios[..count]).entries == recovered.entries);
                assert!(prefix, "{hint}: what is left was never the log");
                suspected += 1;
            }
        }
    }
    println!("{suspected} suspected, {harmless} harmless");
    assert!(suspected > 10_000, "{suspected}");
}

#[test]
fn a_damaged_header_of_a_file_is_mended_from_its_copy_and_told() {
    let options = small(1024, 8 << 10);
    let ios = [append(1, b"a")];
    let state = written(&ios, &options);
    let (path, data) = state.contents().into_iter().next().unwrap();
    assert_eq!(open(&MemDisk::of(state.clone()), &options).unwrap().2.mended, 0);
    for copy in [0, 512] {
        assert!(data[copy] != 0, "a header begins here");
        let mut image = state.clone();
        image.damage(&path, |data| data[copy] ^= 1);
        let (_, recovered, info) = open(&MemDisk::of(image), &options).unwrap();
        assert_eq!((recovered, info.mended), (model(&ios), 1));
    }
}

#[test]
fn every_flipped_byte_of_a_header_is_mended_from_its_copy_even_in_the_newest_frame() {
    let options = small(512, 8 << 10);
    let ios = [append(1, &[1; 100]), append(2, &[2; 2000])];
    let state = written(&ios, &options);
    let all = frames(&state, 1, 512);
    assert_eq!(all.len(), 2);
    for (at, _) in all {
        for byte in at..at + 112 {
            let mut image = state.clone();
            image.damage(&segment(1), |data| data[byte] ^= 0x10);
            let (_, recovered, info) = open(&MemDisk::of(image), &options).unwrap();
            assert_eq!((recovered, info.mended), (model(&ios), 1));
        }
    }
}

#[test]
fn a_damaged_length_is_damage_and_not_the_end_of_the_file() {
    // In other logs a length that reaches beyond the file reads as "the file ends here", and all behind it is cut off.
    let options = small(512, 8 << 10);
    let ios = [append(1, b"a"), append(2, b"b"), append(3, b"c")];
    let state = written(&ios, &options);
    let (at, header) = frames(&state, 1, 512)[2];
    for length in [0, 1, 0x7fff_ffff_u32, u32::MAX] {
        let mut image = state.clone();
        let length_at = at + 36;
        image.damage(&segment(1), |data| {
            data[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes())
        });
        assert_eq!(
            open(&MemDisk::of(image.clone()), &options).unwrap().1,
            model(&ios),
            "by the copy"
        );
        // Without the copy nobody can tell how much was promised.
        let copy_at = at + header.extent_bytes(512) - 112;
        image.damage(&segment(1), |data| data[copy_at + 36] ^= 1);
        assert_eq!(damaged(image.clone(), &options).frame, 3);
        assert!(open(&MemDisk::of(image), &options).is_err());
    }
}

#[test]
fn damage_is_outlived_knowing_what_may_be_missing_and_the_damaged_files_are_kept() {
    let options = small(1024, 4 << 10);
    let ios: Vec<Io> = (1..=9).map(|seq| append(seq, &[9; 600])).collect();
    let state = written(&ios, &options);
    for number in 1..=3 {
        let (at, header) = frames(&state, number, 1024)[0];
        let mut image = state.clone();
        image.damage(&segment(number), |data| data[at + 300] ^= 1);
        let before = image.contents();
        let disk = MemDisk::of(image);
        let (mut wal, recovered, info) = open(&disk, &options).unwrap();
        let good = header.first_index as usize - 1;
        let expected = Recovered {
            suspect: Some(end(1, 9)),
            hard_state: model(&ios).hard_state,
            ..model(&ios[..good])
        };
        assert_eq!(recovered, expected, "segment {number}");
        assert_eq!(info.damage.unwrap().path, segment(number));
        for lost in number.. {
            let Some(content) = before.get(&segment(lost)) else {
                break;
            };
            let kept = disk.state().contents();
            let kept = kept
                .iter()
                .filter(|(path, _)| path.to_string_lossy().contains("damaged-"));
            assert!(
                kept.map(|(_, data)| data).any(|data| data == content),
                "segment {lost} is kept"
            );
        }
        // The log goes on, still suspect after a restart, until it is trusted again.
        let refilled: Vec<Io> = (1..)
            .zip(&ios[good..])
            .map(|(seq, io)| Io {
                seq,
                hard_state: None,
                ..io.clone()
            })
            .collect();
        for io in &refilled {
            commit(&mut wal, io).unwrap();
        }
        drop(wal);
        let (mut wal, recovered, info) = open(&disk, &options).unwrap();
        assert_eq!(
            (recovered.entries.len(), recovered.suspect, info.damage),
            (9, Some(end(1, 9)), None)
        );
        commit(
            &mut wal,
            &Io {
                seq: 1,
                trusted: true,
                ..Io::default()
            },
        )
        .unwrap();
        drop(wal);
        assert_eq!(open(&disk, &options).unwrap().1, model(&ios));
    }
}

fn end(term: u64, index: u64) -> Position {
    Position { term, index }
}

/// Applied to every state that opening a damaged log passes through.
#[test]
fn a_power_cut_while_damage_is_dealt_with_changes_nothing_of_what_is_known() {
    let mut rng = Rng::from_env(14);
    let options = small(1024, 4 << 10);
    let ios: Vec<Io> = (1..=9).map(|seq| append(seq, &[9; 600])).collect();
    let mut image = written(&ios, &options);
    let (at, header) = frames(&image, 2, 1024)[0];
    image.damage(&segment(2), |data| data[at + 300] ^= 1);
    let disk = MemDisk::of(image);
    disk.record_images();
    let expected = open(&disk, &options).unwrap().1;
    assert_eq!(expected.entries.len() as u64, header.first_index - 1);
    let states = disk.take_images();
    assert!(states.len() > 10, "{}", states.len());
    for (step, state) in states.into_iter().enumerate() {
        for percent in [0, 30, 70, 100] {
            let cut = state.power_cut(&mut rng, |rng| rng.chance(percent));
            let (_, recovered, info) = open(&MemDisk::of(cut), &options).unwrap();
            assert_eq!(recovered, expected, "step {step}, {percent} %: {info:?}");
        }
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
    image.damage(&segment(1), |data| data[at + 130] ^= 4);
    assert_eq!(damaged(image, &options).frame, 2);
}

#[test]
fn a_last_sector_that_holds_one_byte_is_not_taken_for_lost_when_that_byte_is_damaged() {
    let options = small(512, 8 << 10);
    // Header and the head of the entry take 133 bytes; the last byte is alone in the second sector, but for the copy of the
    // header at its end.
    let mut payload = vec![0; 512 - 133];
    payload.push(1);
    let state = written(&[append(1, b"first"), append(2, &payload)], &options);
    let (at, header) = frames(&state, 1, 512)[1];
    assert_eq!(header.frame_len(), 513);
    let mut image = state.clone();
    image.damage(&segment(1), |data| data[at + 512] = 0);
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
        // Without the first one the log looks as if it had been shortened, but no snapshot allows that.
        assert_eq!(damage.path, if number == 1 { dir() } else { segment(number) });
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
fn a_newest_segment_that_is_gone_is_missed_because_the_next_one_had_been_begun() {
    use server::disk::Disk as _;
    let options = small(512, 2 << 10);
    let ios: Vec<Io> = (1..=5).map(|seq| append(seq, &[5; 600])).collect();
    let disk = MemDisk::of(written(&ios, &options));
    let last = disk.list(&dir()).unwrap().len() as u64;
    assert!(last >= 3);
    disk.create(&dir().join(format!("wal-{:012}.tmp", last + 1)))
        .unwrap();
    assert_eq!(open(&disk, &options).unwrap().1, model(&ios), "as it should be");

    disk.create(&dir().join(format!("wal-{:012}.tmp", last + 1)))
        .unwrap();
    disk.remove(&segment(last)).unwrap();
    let damage = damaged(disk.state(), &options);
    assert_eq!(damage.path, segment(last));
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

#[test]
fn a_prepared_segment_waits_until_the_current_one_is_full() {
    let options = small(512, 4 << 10);
    let disk = MemDisk::default();
    let handle = WalThread::start(open(&disk, &options).unwrap().0, |outcome| {
        outcome.unwrap();
    });
    let ios: Vec<Io> = (1..=12).map(|seq| append(seq, &[3; 400])).collect();
    handle.submit(ios[0].clone());
    handle.shutdown();
    let (mut wal, _, info) = open(&disk, &options).unwrap();
    assert_eq!(info.segments, 2, "one is prepared");
    commit(&mut wal, &ios[1]).unwrap();
    drop(wal);
    let both = frames(&disk.state(), 1, 512);
    assert_eq!(both.len(), 2, "the current segment goes on");

    // The same with a torn frame at the end of the current one.
    let mut torn = disk.state();
    let (at, _) = both[1];
    torn.damage(&segment(1), |data| data[at..at + 1024].fill(0));
    let disk = MemDisk::of(torn);
    let (mut wal, recovered, info) = open(&disk, &options).unwrap();
    assert_eq!(recovered, model(&ios[..1]));
    assert!(info.cut.is_none(), "lost as a whole");
    for io in &ios[1..] {
        commit(&mut wal, io).unwrap();
    }
    drop(wal);
    assert_eq!(frames(&disk.state(), 1, 512).len(), 3, "the first is full");
    assert_eq!(frames(&disk.state(), 2, 512).len(), 3, "the second is used");
    assert_eq!(open(&disk, &options).unwrap().1, model(&ios));
}

#[test]
fn a_torn_frame_in_front_of_a_prepared_segment_is_cut() {
    let options = small(512, 8 << 10);
    let disk = MemDisk::default();
    let handle = WalThread::start(open(&disk, &options).unwrap().0, |outcome| {
        outcome.unwrap();
    });
    handle.submit(append(1, &[3; 900]));
    handle.shutdown();
    let mut torn = disk.state();
    torn.damage(&segment(1), |data| data[512..1024].fill(0));
    let disk = MemDisk::of(torn);
    let (mut wal, recovered, info) = open(&disk, &options).unwrap();
    assert_eq!(recovered, Recovered::default());
    assert_eq!((info.segments, info.cut.unwrap().frame), (2, 1));
    commit(&mut wal, &append(1, b"again")).unwrap();
    drop(wal);
    assert_eq!(open(&disk, &options).unwrap().1, model(&[append(1, b"again")]));
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
                supported: 2,
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
    let opened = || Wal::open(Arc::new(OsDisk), &data, options.clone(), Default::default());
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
