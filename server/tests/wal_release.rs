//! Logs whose beginning a snapshot has taken the place of.
#![allow(clippy::unwrap_used)]

mod wal_support;

use std::sync::Arc;

use server::raft::{Io, Position};
use server::wal::Wal;
use wal_support::{MemDisk, Rng, append, commit, dir, model, open, small, written};

fn end(term: u64, index: u64) -> Position {
    Position { term, index }
}

#[test]
fn released_segments_go_and_the_log_opens_without_them() {
    let options = small(1024, 4 << 10);
    let ios: Vec<Io> = (1..=12).map(|seq| append(seq, &[seq as u8; 600])).collect();
    for released in 0..=12 {
        let disk = MemDisk::of(written(&ios, &options));
        let snapshot = if released == 0 {
            Position::default()
        } else {
            end(1, released)
        };
        let reopen = || Wal::open(Arc::new(disk.clone()), &dir(), options.clone(), snapshot).unwrap();
        let segments = disk.state().contents().len();
        let (mut wal, ..) = reopen();
        wal.release(released).unwrap();
        drop(wal);
        let (mut wal, recovered, info) = reopen();
        assert_eq!(
            (info.damage, recovered.suspect),
            (None, None),
            "released {released}"
        );
        assert!(recovered.base.index <= released);
        assert_eq!(
            recovered.entries,
            model(&ios).entries[recovered.base.index as usize..]
        );
        assert_eq!(recovered.hard_state, model(&ios).hard_state);
        if released >= 6 {
            assert!(disk.state().contents().len() < segments, "something was removed");
        }
        commit(
            &mut wal,
            &Io {
                seq: 1,
                hard_state: None,
                ..append(13, b"more")
            },
        )
        .unwrap();
        drop(wal);
        assert_eq!(reopen().1.entries.last().map(|entry| entry.index), Some(13));
    }
}

#[test]
fn a_log_that_begins_behind_every_snapshot_is_not_believed_to_be_whole() {
    let options = small(1024, 4 << 10);
    let ios: Vec<Io> = (1..=12).map(|seq| append(seq, &[seq as u8; 600])).collect();
    let disk = MemDisk::of(written(&ios, &options));
    let (mut wal, ..) = open(&disk, &options).unwrap();
    wal.release(9).unwrap();
    drop(wal);
    // The snapshot is lost: the node has nothing, but it knows what it promised.
    let (_, recovered, info) = open(&disk, &options).unwrap();
    assert_eq!(
        (recovered.base, recovered.entries.len()),
        (Position::default(), 0)
    );
    assert_eq!(recovered.suspect, Some(end(1, 12)));
    assert!(info.damage.is_some());
    assert_eq!(
        open(&disk, &options).unwrap().1,
        recovered,
        "and knows it the next time"
    );
}

#[test]
fn a_snapshot_that_the_log_does_not_reach_or_contradicts_replaces_it() {
    let options = small(1024, 8 << 10);
    let ios: Vec<Io> = (1..=5).map(|seq| append(seq, b"x")).collect();
    for snapshot in [end(2, 9), end(2, 3)] {
        let disk = MemDisk::of(written(&ios, &options));
        let reopen = || Wal::open(Arc::new(disk.clone()), &dir(), options.clone(), snapshot).unwrap();
        for _ in 0..2 {
            let (_, recovered, _) = reopen();
            assert_eq!(
                (recovered.base, recovered.entries.len(), recovered.suspect),
                (snapshot, 0, None)
            );
        }
        let mut next = append(snapshot.index + 1, b"y");
        next.seq = 1;
        next.entries = [server::raft::Entry {
            term: 2,
            ..next.entries[0].clone()
        }]
        .into();
        next.hard_state = Some(server::raft::HardState { term: 2, vote: None });
        commit(&mut reopen().0, &next).unwrap();
        assert_eq!(reopen().1.entries.len(), 1);
    }
}

#[test]
fn configurations_resets_and_trust_are_read_back() {
    let options = small(1024, 8 << 10);
    let disk = MemDisk::default();
    let (mut wal, ..) = open(&disk, &options).unwrap();
    let mut first = append(1, b"members");
    let mut entry = first.entries[0].clone();
    entry.kind = server::raft::EntryKind::Configuration;
    first.entries = [entry.clone()].into();
    commit(&mut wal, &first).unwrap();
    drop(wal);
    assert_eq!(open(&disk, &options).unwrap().1.entries, [entry]);
    let (mut wal, ..) = open(&disk, &options).unwrap();
    let reset = Io {
        seq: 1,
        reset: Some(end(1, 40)),
        ..append(41, b"behind")
    };
    commit(
        &mut wal,
        &Io {
            hard_state: None,
            ..reset
        },
    )
    .unwrap();
    drop(wal);
    let found = Wal::open(Arc::new(disk.clone()), &dir(), options.clone(), end(1, 40))
        .unwrap()
        .1;
    assert_eq!(
        (found.base, found.entries.len(), found.entries[0].index),
        (end(1, 40), 1, 41)
    );
}

/// Releases and resets at every moment of a power cut: what is found is the log before or after.
#[test]
fn a_power_cut_while_segments_are_released_leaves_the_log_whole() {
    let mut rng = Rng::from_env(15);
    let options = small(1024, 4 << 10);
    let ios: Vec<Io> = (1..=12).map(|seq| append(seq, &[seq as u8; 600])).collect();
    let disk = MemDisk::of(written(&ios, &options));
    let (mut wal, ..) = open(&disk, &options).unwrap();
    disk.record_images();
    wal.release(10).unwrap();
    commit(
        &mut wal,
        &Io {
            seq: 1,
            hard_state: None,
            ..append(13, b"more")
        },
    )
    .unwrap();
    drop(wal);
    for state in disk.take_images() {
        for percent in [0, 30, 70, 100] {
            let cut = MemDisk::of(state.power_cut(&mut rng, |rng| rng.chance(percent)));
            let (_, recovered, info) = Wal::open(Arc::new(cut), &dir(), options.clone(), end(1, 10)).unwrap();
            assert_eq!((info.damage, recovered.suspect), (None, None));
            assert!(recovered.base.index <= 10);
            let last = recovered.entries.last().unwrap().index;
            assert!((12..=13).contains(&last), "{last}");
        }
    }
}
