//! What a node knows of its own losses: it survives further damage, crashes on the way, and a log without its beginning.
#![allow(clippy::unwrap_used)]

mod wal_support;

use std::sync::Arc;

use server::raft::{Entry, HardState, Io, NodeId, Position, Recovered};
use server::wal::{Wal, WalError, WalThread};
use wal_support::{
    DiskState, MemDisk, Opened, Rng, append, commit, dir, frames, open, segment, small, written,
};

const ALIGN: usize = 1024;

fn end(term: u64, index: u64) -> Position {
    Position { term, index }
}

fn options() -> server::wal::WalOptions {
    small(1024, 4 << 10)
}

fn voted() -> HardState {
    HardState {
        term: 1,
        vote: Some(NodeId(7)),
    }
}

/// Entries 1 to `count`, one each in a frame that leaves no room for two more in a segment, and a vote with the first.
fn log(count: u64) -> DiskState {
    let ios: Vec<Io> = (1..=count)
        .map(|seq| Io {
            hard_state: (seq == 1).then_some(voted()),
            ..append(seq, &[seq as u8; 700])
        })
        .collect();
    written(&ios, &options())
}

fn open_behind(disk: &MemDisk, snapshot: Position) -> Result<Opened, WalError> {
    Wal::open(Arc::new(disk.clone()), &dir(), options(), snapshot)
}

/// The segments that there are.
fn numbers(state: &DiskState) -> Vec<u64> {
    (1..100)
        .filter(|number| state.contents().contains_key(&segment(*number)))
        .collect()
}

/// A log that holds only its newest segment, with one frame in it, behind a snapshot.
fn log_without_beginning() -> (MemDisk, Position, u64) {
    for count in 2..20 {
        let disk = MemDisk::of(log(count));
        let (mut wal, ..) = open(&disk, &options()).unwrap();
        wal.release(count).unwrap();
        drop(wal);
        let left = numbers(&disk.state());
        if let [only] = left[..]
            && only > 1
            && frames(&disk.state(), only, ALIGN).len() == 1
        {
            return (disk, end(1, count), only);
        }
    }
    panic!("no log ends with one frame in a segment");
}

#[test]
fn a_suspicion_survives_damage_to_the_very_frame_that_holds_it() {
    let mut image = log(10);
    let (at, _) = frames(&image, 1, ALIGN)[1];
    image.damage(&segment(1), |data| data[at + 300] ^= 1);
    let disk = MemDisk::of(image);
    let (_, first, _) = open(&disk, &options()).unwrap();
    assert_eq!((first.suspect, first.entries.len()), (Some(end(1, 10)), 1));
    let (at, header) = frames(&disk.state(), 1, ALIGN)[1];
    assert_eq!(header.end, end(1, 1), "the frame of the checkpoint");
    let mut again = disk.state();
    again.damage(&segment(1), |data| data[at + 120] ^= 1);
    let (_, second, info) = open(&MemDisk::of(again), &options()).unwrap();
    assert!(info.damage.is_some());
    assert_eq!(second, first);
}

#[test]
fn the_only_frame_of_a_log_without_its_beginning_is_never_taken_for_torn() {
    let (disk, snapshot, number) = log_without_beginning();
    let (at, header) = frames(&disk.state(), number, ALIGN)[0];
    for sector in 0..header.frame_len() / 512 {
        let mut image = disk.state();
        let from = at + sector * 512;
        image.damage(&segment(number), |data| data[from..from + 512].fill(0));
        let (_, recovered, info) = open_behind(&MemDisk::of(image), snapshot).unwrap();
        assert!(info.damage.is_some(), "sector {sector}");
        assert_eq!(recovered.hard_state, voted(), "a vote is never forgotten");
        assert_eq!(recovered.suspect, Some(snapshot), "sector {sector}");
        assert_eq!(recovered.base, snapshot);
    }
    let mut image = disk.state();
    image.damage(&segment(number), |data| data[at..].fill(0));
    let cut = MemDisk::of(image.clone());
    let refused = open_behind(&cut, snapshot).map(|_| ()).unwrap_err();
    assert!(matches!(refused, WalError::Corrupt(_)), "{refused}");
    assert_eq!(cut.state().contents(), image.contents(), "nothing is changed");
}

/// Opens `damaged` and every power cut of every state that this passes through.
fn comes_to_the_same_after_every_power_cut(damaged: DiskState, snapshot: Position, whole: &Recovered) {
    let mut rng = Rng::from_env(21);
    let disk = MemDisk::of(damaged);
    disk.record_images();
    drop(open_behind(&disk, snapshot).unwrap());
    let images = disk.take_images();
    assert!(images.len() > 5, "{}", images.len());
    for (step, state) in images.iter().enumerate() {
        for round in 0..12 {
            let cut = MemDisk::of(state.power_cut(&mut rng, |rng| rng.chance([0, 50, 100][round % 3])));
            let opened = open_behind(&cut, snapshot);
            let (mut wal, found, _) = opened.unwrap_or_else(|error| panic!("step {step}: {error}"));
            assert_eq!(found, *whole, "step {step}");
            // The log can be written, crosses segments, and is found again.
            let last = wal_end(&found);
            for seq in 1..=6 {
                let io = Io {
                    seq,
                    hard_state: None,
                    ..append(last.index + seq, &[1; 700])
                };
                commit(&mut wal, &Io { seq, ..io }).unwrap();
            }
            wal.release(last.index + 5).unwrap();
            drop(wal);
            let (_, again, info) = open_behind(&cut, end(1, last.index + 5)).unwrap();
            assert_eq!((again.suspect, info.damage), (found.suspect, None), "step {step}");
            assert_eq!(wal_end(&again), end(1, last.index + 6));
        }
    }
}

fn wal_end(recovered: &Recovered) -> Position {
    recovered.entries.last().map_or(recovered.base, Entry::position)
}

/// Six segments, and one that was prepared ahead: more than one is removed, and an empty one among them.
fn long_log() -> DiskState {
    let disk = MemDisk::of(log(14));
    let handle = WalThread::start(open(&disk, &options()).unwrap().0, |outcome| {
        outcome.unwrap();
    });
    handle.shutdown();
    let state = disk.state();
    let last = numbers(&state).last().copied().unwrap();
    assert!(last > 5 && frames(&state, last, ALIGN).is_empty());
    state
}

#[test]
fn a_power_cut_while_several_damaged_segments_are_given_up_leaves_no_gap() {
    let mut damaged = long_log();
    let (at, _) = frames(&damaged, 2, ALIGN)[1];
    damaged.damage(&segment(2), |data| data[at + 300] ^= 1);
    let (_, whole, _) = open(&MemDisk::of(damaged.clone()), &options()).unwrap();
    assert_eq!(whole.suspect, Some(end(1, 14)));
    comes_to_the_same_after_every_power_cut(damaged, Position::default(), &whole);
}

#[test]
fn a_power_cut_while_the_damaged_beginning_of_a_released_log_is_given_up_leaves_a_node_that_starts() {
    let disk = MemDisk::of(long_log());
    let (mut wal, ..) = open(&disk, &options()).unwrap();
    wal.release(6).unwrap();
    drop(wal);
    let mut damaged = disk.state();
    let first = numbers(&damaged)[0];
    assert!(first > 1);
    let (at, _) = frames(&damaged, first, ALIGN)[0];
    damaged.damage(&segment(first), |data| data[at + 300] ^= 1);
    let snapshot = end(1, 6);
    let (_, whole, _) = open_behind(&MemDisk::of(damaged.clone()), snapshot).unwrap();
    assert_eq!((whole.base, whole.suspect), (snapshot, Some(end(1, 14))));
    assert_eq!((whole.hard_state, whole.entries.len()), (voted(), 0));
    comes_to_the_same_after_every_power_cut(damaged, snapshot, &whole);
}

#[test]
fn a_snapshot_of_a_term_that_the_log_had_not_heard_of_raises_the_term_without_a_vote() {
    let disk = MemDisk::of(log(3));
    let (_, recovered, _) = open_behind(&disk, end(9, 50)).unwrap();
    let raised = HardState { term: 9, vote: None };
    assert_eq!((recovered.base, recovered.hard_state), (end(9, 50), raised));
    let (_, again, _) = open_behind(&disk, end(9, 50)).unwrap();
    assert_eq!(again, recovered);
}

#[test]
fn what_was_truncated_below_the_first_segment_gives_the_base_its_own_term() {
    let disk = MemDisk::of(log(8));
    let (mut wal, ..) = open(&disk, &options()).unwrap();
    let entry = |term, index| Entry {
        term,
        index,
        payload: vec![9; 700].into(),
        ..Entry::default()
    };
    let io = |seq, term, truncate_from, index| Io {
        seq,
        hard_state: Some(HardState { term, vote: None }),
        truncate_from,
        entries: [entry(term, index)].into(),
        ..Io::default()
    };
    // Enough of term 2 to open a segment whose checkpoint ends in it, then back into term 1.
    for (seq, index) in (1..=4).zip(9..) {
        commit(&mut wal, &io(seq, 2, None, index)).unwrap();
    }
    commit(&mut wal, &io(5, 3, Some(8), 8)).unwrap();
    wal.release(7).unwrap();
    for (seq, index) in (6..=10).zip(9..) {
        commit(&mut wal, &io(seq, 3, None, index)).unwrap();
    }
    drop(wal);
    let (_, recovered, info) = open_behind(&disk, end(1, 7)).unwrap();
    assert_eq!(info.damage, None);
    let first = recovered.entries.first().unwrap().position();
    assert!(
        recovered.base.term == 1 && recovered.base.index + 1 == first.index,
        "{recovered:?}"
    );
    assert_eq!(wal_end(&recovered), end(3, 13));
}
