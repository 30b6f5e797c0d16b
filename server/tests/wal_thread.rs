//! The thread of the log: groups, failures, an orderly end.
#![allow(clippy::unwrap_used)]

mod wal_support;

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use server::raft::{Io, IoSeq};
use server::wal::{Violation, WalError, WalHandle, WalOptions, WalThread};
use wal_support::{Faults, MemDisk, append, commit, dir, model, open, segment, small};

/// Long enough for any machine; a test that works never waits for it.
const DEADLINE: Duration = Duration::from_secs(60);

type Reports = Receiver<Result<IoSeq, WalError>>;

fn start(disk: &MemDisk, options: &WalOptions) -> (WalHandle, Reports) {
    let (wal, _, _) = open(disk, options).unwrap();
    let (report, reports) = channel();
    let handle = WalThread::start(wal, move |outcome| {
        // The test may have seen enough already.
        let _ = report.send(outcome);
    });
    (handle, reports)
}

fn next(reports: &Reports) -> Result<IoSeq, WalError> {
    reports.recv_timeout(DEADLINE).expect("a report in time")
}

/// The next segment is prepared meanwhile; its syncs are none of these tests' business.
fn is_first_segment(path: &str) -> bool {
    path.contains("-000000000001.")
}

#[test]
fn everything_that_queues_up_during_a_sync_becomes_one_group() {
    let options = small(512, 64 << 10);
    let disk = MemDisk::default();
    let (wal, _, _) = open(&disk, &options).unwrap();
    let (entered, at_sync) = channel();
    let (go_on, gate) = channel::<()>();
    disk.before_sync(move |path| {
        if is_first_segment(path) {
            let _ = entered.send(());
            let _ = gate.recv();
        }
        false
    });
    let (report, reports) = channel();
    let handle = WalThread::start(wal, move |outcome| report.send(outcome).unwrap());
    handle.submit(append(1, b"one"));
    at_sync.recv_timeout(DEADLINE).unwrap();
    for seq in 2..=100 {
        handle.submit(append(seq, b"more"));
    }
    assert!(
        reports.try_recv().is_err(),
        "nothing is acknowledged before its sync"
    );
    go_on.send(()).unwrap();
    assert_eq!(next(&reports).unwrap(), 1);
    at_sync.recv_timeout(DEADLINE).unwrap();
    go_on.send(()).unwrap();
    assert_eq!(next(&reports).unwrap(), 100);
    let stats = handle.stats();
    assert_eq!(stats.syncs, 2);
    assert!(stats.bytes > 0 && stats.sync_ns_max <= stats.sync_ns_total);
    drop(go_on);
    handle.shutdown();
    assert_eq!(open(&disk, &options).unwrap().1.entries.len(), 100);
}

#[test]
fn a_group_is_closed_when_it_is_large_enough() {
    let mut options = small(512, 64 << 10);
    options.group_bytes_max = 2000;
    let disk = MemDisk::default();
    let (handle, reports) = start(&disk, &options);
    for seq in 1..=50 {
        handle.submit(append(seq, &[1; 700]));
    }
    let mut last = 0;
    while last < 50 {
        let seq = next(&reports).unwrap();
        assert!(
            seq - last <= 3,
            "three requests exceed the limit: {last} to {seq}"
        );
        last = seq;
    }
}

#[test]
fn shutting_down_and_dropping_flush_everything_submitted() {
    for drop_it in [false, true] {
        let mut options = small(512, 4 << 10);
        options.group_bytes_max = 2000;
        let disk = MemDisk::default();
        let (handle, reports) = start(&disk, &options);
        let ios: Vec<Io> = (1..=300).map(|seq| append(seq, &[3; 100])).collect();
        for io in &ios {
            handle.submit(io.clone());
        }
        if drop_it {
            drop(handle);
        } else {
            handle.shutdown();
        }
        let acknowledged: Vec<IoSeq> = reports.iter().map(Result::unwrap).collect();
        assert!(acknowledged.is_sorted());
        assert_eq!(acknowledged.last(), Some(&300));
        let (_, recovered, info) = open(&disk, &options).unwrap();
        assert_eq!(recovered, model(&ios));
        assert!(info.segments > 2, "{info:?}");
    }
}

#[test]
fn a_failed_sync_poisons_the_log_and_is_reported_once() {
    let options = small(512, 64 << 10);
    let disk = MemDisk::default();
    let (handle, reports) = start(&disk, &options);
    handle.submit(append(1, b"kept"));
    assert_eq!(next(&reports).unwrap(), 1);
    disk.before_sync(is_first_segment);
    handle.submit(append(2, b"lost"));
    let error = next(&reports).unwrap_err();
    assert!(matches!(error, WalError::Io { .. }), "{error:?}");
    for seq in 3..50 {
        handle.submit(append(seq, b"never"));
    }
    let locked = open(&disk, &options).map(|_| ()).unwrap_err();
    assert!(
        matches!(locked, WalError::Locked { .. }),
        "still locked: {locked:?}"
    );
    disk.before_sync(|_| false);
    handle.shutdown();
    assert!(reports.recv().is_err(), "nothing is reported after the failure");

    // The system's cache still shows the frame that the disk never got. Believing it would lose it at the next power
    // cut, with everything built upon it.
    let shown = &disk.state().contents()[&segment(1)];
    assert!(server::wal::frame::FrameHeader::parse(&shown[512 + 1024..]).is_some());
    let (mut wal, recovered, _) = open(&disk, &options).unwrap();
    assert_eq!(recovered, model(&[append(1, b"kept")]));
    let mut again = append(2, b"again");
    again.seq = 1;
    commit(&mut wal, &again).unwrap();
}

#[test]
fn a_poisoned_log_refuses_everything_even_if_the_disk_has_recovered() {
    let options = small(512, 64 << 10);
    for fault in [
        Faults {
            sync_in: Some(0),
            ..Faults::default()
        },
        Faults {
            write_in: Some((0, 5)),
            ..Faults::default()
        },
    ] {
        let disk = MemDisk::default();
        let (mut wal, _, _) = open(&disk, &options).unwrap();
        commit(&mut wal, &append(1, b"kept")).unwrap();
        disk.set_faults(fault);
        let error = commit(&mut wal, &append(2, &[1; 2000])).unwrap_err();
        assert!(matches!(error, WalError::Io { .. }), "{error:?}");
        disk.set_faults(Faults::default());
        let syncs = disk.syncs();
        assert!(matches!(wal.commit(), Err(WalError::Poisoned)));
        let refused = wal.stage(&append(3, b"never"));
        assert!(matches!(refused, Err(WalError::Poisoned)));
        assert_eq!(disk.syncs(), syncs, "a failed sync is never repeated");
    }
}

/// Waits for something that other threads bring about.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(std::time::Instant::now() < end, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_full_disk_is_announced_early_survived_and_left_when_there_is_space() {
    const ENOSPC: i32 = 28;
    let options = small(512, 4 << 10);
    let disk = MemDisk::default();
    disk.set_faults(Faults {
        // The first segment is there already; every further one fails, prepared ahead or not.
        allocate_in: Some((1, ENOSPC)),
        ..Faults::default()
    });
    let (handle, reports) = start(&disk, &options);
    until("the disk is full", || handle.is_full());
    // The rest of the segment still takes what must be written.
    handle.submit(append(1, &[1; 400]));
    assert_eq!(next(&reports).unwrap(), 1);
    (2..=20).for_each(|seq| handle.submit(append(seq, &[1; 400])));
    let unfinished = disk.state().contents().into_keys();
    let unfinished = unfinished.filter(|path| path.extension().is_some_and(|end| end == "tmp"));
    assert_eq!(unfinished.count(), 0, "what could not be filled is given back");
    disk.set_faults(Faults::default());
    until("everything is written", || next(&reports).unwrap() == 20);
    until("there is space again", || !handle.is_full());
    handle.shutdown();
    let ios: Vec<Io> = (1..=20).map(|seq| append(seq, &[1; 400])).collect();
    assert_eq!(open(&disk, &options).unwrap().1, model(&ios));
}

#[test]
fn the_next_segment_is_filled_in_step_with_the_use_of_this_one_and_complete_before_its_end() {
    use server::disk::Disk as _;
    let options = small(512, 2 << 20);
    let disk = MemDisk::default();
    let segments = || {
        let names = disk.list(&dir()).unwrap();
        names.into_iter().filter(|name| name.ends_with(".seg")).count()
    };
    let (handle, reports) = start(&disk, &options);
    handle.submit(append(1, b"little"));
    assert_eq!(next(&reports).unwrap(), 1);
    handle.shutdown();
    let names = disk.list(&dir()).unwrap();
    assert!(names.contains(&"wal-000000000002.tmp".to_owned()), "{names:?}");
    let lost = MemDisk::of(disk.state());
    lost.remove(&segment(1)).unwrap();
    let refused = open(&lost, &options).map(drop).unwrap_err();
    assert!(refused.to_string().contains("is missing"), "{refused}");

    let (handle, reports) = start(&disk, &options);
    // Seventeen twentieths of a segment.
    for seq in 1..=17 {
        let io = Io {
            seq,
            ..append(seq + 1, &[1; (2 << 20) / 20])
        };
        handle.submit(io);
        assert_eq!(next(&reports).unwrap(), seq);
    }
    until("the second is complete", || {
        disk.state().contents().contains_key(&segment(2))
    });
    handle.shutdown();
    assert_eq!(segments(), 2);
}

#[test]
fn without_a_thread_a_full_disk_is_named_and_the_same_group_can_be_tried_again() {
    const ENOSPC: i32 = 28;
    let options = small(512, 4 << 10);
    let disk = MemDisk::default();
    let (mut wal, _, _) = open(&disk, &options).unwrap();
    disk.set_faults(Faults {
        allocate_in: Some((0, ENOSPC)),
        ..Faults::default()
    });
    let full = (1..=20).find(|seq| commit(&mut wal, &append(*seq, &[1; 400])).is_err());
    let error = wal.commit().unwrap_err();
    assert!(error.is_full(), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("ENOSPC") && text.contains(dir().to_str().unwrap()),
        "{text}"
    );
    disk.set_faults(Faults::default());
    wal.commit().unwrap();
    drop(wal);
    assert_eq!(Some(open(&disk, &options).unwrap().1.entries.len() as u64), full);
}

#[test]
fn a_request_that_breaks_the_rules_is_not_written() {
    let options = small(512, 64 << 10);
    let mut gap = append(2, b"x");
    gap.entries = append(3, b"x").entries;
    let mut late = append(2, b"x");
    late.seq = 5;
    for (bad, expected) in [
        (gap, Violation::Gap { found: 3, end: 1 }),
        (late, Violation::SeqGap { expected: 2 }),
    ] {
        let disk = MemDisk::default();
        let (handle, reports) = start(&disk, &options);
        handle.submit(append(1, b"a"));
        assert_eq!(next(&reports).unwrap(), 1);
        handle.submit(bad);
        match next(&reports) {
            Err(WalError::Misuse { source, .. }) => assert_eq!(source, expected),
            other => panic!("{other:?}"),
        }
        drop(handle);
        assert_eq!(open(&disk, &options).unwrap().1.entries.len(), 1);
    }
}

#[test]
fn a_request_that_asks_for_nothing_is_acknowledged_in_its_turn() {
    let options = small(512, 64 << 10);
    let disk = MemDisk::default();
    let (handle, reports) = start(&disk, &options);
    handle.submit(Io {
        seq: 1,
        hard_state: None,
        truncate_from: None,
        entries: [].into(),
        ..Io::default()
    });
    assert_eq!(next(&reports).unwrap(), 1);
    assert_eq!(handle.stats().syncs, 0);
}

#[cfg(feature = "mutants")]
#[test]
fn the_planted_bug_acknowledges_what_a_kill_loses_and_an_orderly_end_keeps() {
    let options = small(512, 64 << 10).with_ack_before_durable();
    let disk = MemDisk::default();
    let (wal, _, _) = open(&disk, &options).unwrap();
    let (report, reports) = channel();
    let watched = disk.clone();
    let handle = WalThread::start(wal, move |outcome| {
        // On the thread itself, so nothing can be written in between.
        let killed = MemDisk::of(watched.state());
        let held = open(&killed, &small(512, 64 << 10)).unwrap().1.entries.len();
        report.send((outcome.unwrap(), held as u64)).unwrap();
    });
    for seq in 1..=3 {
        handle.submit(append(seq, b"gone"));
        let (acknowledged, held) = reports.recv_timeout(DEADLINE).unwrap();
        assert_eq!(acknowledged, seq);
        assert!(held < seq, "{seq} is acknowledged, {held} are on disk");
    }
    handle.shutdown();
    assert_eq!(open(&disk, &options).unwrap().1.entries.len(), 3);
}
