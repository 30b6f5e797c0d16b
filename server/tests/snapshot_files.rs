//! Snapshots on disk: what is written is read back, what is damaged is noticed, and a power cut leaves the old one or
//! the new one.
#![allow(clippy::unwrap_used)]

mod wal_support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use prost::Message as _;
use proto::storage::{Command, OpenSession, Put, Stamp, command::Kind};
use server::disk::Disk;
use server::kv::Store;
use server::raft::{Configuration, Entry, Member, NodeId, Position, SnapshotMeta};
use server::snapshot::{Found, Incoming, IncomingError, SnapshotDir, SnapshotError, Stored};
use wal_support::{DiskState, MemDisk, Rng};

fn dir() -> PathBuf {
    PathBuf::from("/data/snapshots")
}

fn open(disk: &MemDisk) -> (SnapshotDir, Found) {
    SnapshotDir::open(Arc::new(disk.clone()), &dir()).unwrap()
}

fn command(index: u64, kind: Kind, stamp: Option<Stamp>) -> Entry {
    let command = Command {
        kind: Some(kind),
        stamp,
    };
    Entry {
        term: 1,
        index,
        payload: command.encode_to_vec().into(),
        ..Entry::default()
    }
}

/// A state with keys, a deleted one among them, and a session that remembers replies.
fn state(keys: u64, value_bytes: usize) -> Store {
    let mut store = Store::default();
    store.apply(&command(1, Kind::OpenSession(OpenSession {}), None));
    for index in 2..=keys + 1 {
        let put = Kind::Put(Put {
            key: format!("key{index}"),
            value: vec![index as u8; value_bytes].into(),
        });
        let stamp = Stamp {
            session_id: 1,
            sequence: index - 1,
            acknowledged: (index - 1).saturating_sub(3),
        };
        store.apply(&command(index, put, Some(stamp)));
    }
    let gone = proto::storage::Delete { key: "key2".into() };
    store.apply(&command(keys + 2, Kind::Delete(gone), None));
    store
}

fn meta(index: u64) -> SnapshotMeta {
    let member = Member {
        name: "n1".into(),
        address: "host:1".into(),
        voter: true,
        outgoing_voter: false,
    };
    let configuration = Configuration {
        members: [(NodeId::of("n1"), member)].into(),
        ..Configuration::default()
    };
    SnapshotMeta {
        last: Position { term: 1, index },
        configuration: Some(Arc::new(configuration)),
    }
}

fn write(dir: &SnapshotDir, store: &mut Store) -> Stored {
    let frozen = store.freeze().unwrap();
    let stored = dir.write(&frozen, meta(frozen.applied)).unwrap();
    drop(frozen);
    assert!(store.thaw());
    stored
}

#[test]
fn what_was_written_is_read_back_and_equal_states_give_equal_bytes() {
    for (keys, bytes) in [(0, 0), (3, 10), (2000, 300)] {
        let disk = MemDisk::default();
        let (snapshots, found) = open(&disk);
        assert!(found.newest.is_none());
        let stored = write(&snapshots, &mut state(keys, bytes));
        let (_, found) = open(&disk);
        let (read, store) = found.newest.unwrap();
        assert_eq!(
            (read.id, read.bytes, &read.meta),
            (stored.id, stored.bytes, &meta(keys + 2))
        );
        assert_eq!(store.digest(), state(keys, bytes).digest());
        assert_eq!(store.applied(), keys + 2);
        assert_eq!(store.sessions(), 1);
        let other = MemDisk::default();
        assert_eq!(write(&open(&other).0, &mut state(keys, bytes)).id, stored.id);
        assert_eq!(disk.state().contents(), other.state().contents());
    }
}

#[test]
fn a_newer_snapshot_takes_the_place_of_the_older_one() {
    let disk = MemDisk::default();
    let (snapshots, _) = open(&disk);
    write(&snapshots, &mut state(3, 10));
    let old = snapshots.reader(&write(&snapshots, &mut state(4, 10))).unwrap();
    let newest = write(&snapshots, &mut state(5, 10));
    assert_eq!(disk.list(&dir()).unwrap().len(), 1);
    assert_eq!(open(&disk).1.newest.unwrap().0.id, newest.id);
    let rest = old.read(0, usize::MAX).unwrap();
    assert_eq!(
        rest.len() as u64,
        old.stored.bytes,
        "whoever reads the older one reads it to its end"
    );
}

fn only_snapshot(state: &DiskState) -> PathBuf {
    let mut paths = state.contents().into_keys();
    paths
        .find(|path| path.extension().is_some_and(|end| end == "snap"))
        .unwrap()
}

#[test]
fn every_flipped_byte_of_a_snapshot_is_noticed_and_the_file_is_kept_aside() {
    let disk = MemDisk::default();
    write(&open(&disk).0, &mut state(5, 40));
    let whole = disk.state();
    let path = only_snapshot(&whole);
    for at in 0..whole.contents()[&path].len() {
        for mask in [1, 0x80, 0xff] {
            let mut image = whole.clone();
            image.damage(&path, |data| data[at] ^= mask);
            let disk = MemDisk::of(image);
            let (_, found) = open(&disk);
            assert!(found.newest.is_none(), "byte {at} mask {mask:#x} was not noticed");
            assert!(matches!(found.damaged[..], [SnapshotError::Bad { .. }]));
            let names = disk.list(&dir()).unwrap();
            assert!(
                names.len() == 1 && names[0].starts_with("damaged-snap-"),
                "{names:?}"
            );
        }
    }
}

#[test]
fn a_snapshot_that_was_cut_short_or_grew_is_noticed() {
    let disk = MemDisk::default();
    write(&open(&disk).0, &mut state(5, 40));
    let whole = disk.state();
    let path = only_snapshot(&whole);
    let len = whole.contents()[&path].len();
    for new_len in (0..len).chain([len + 1, len + 1000]) {
        let mut image = whole.clone();
        image.damage(&path, |data| data.resize(new_len, 0));
        assert!(
            open(&MemDisk::of(image)).1.newest.is_none(),
            "{new_len} bytes instead of {len}"
        );
    }
}

/// Power cuts of every moment in `images`: the newest snapshot is always one of these.
fn cuts(images: Vec<DiskState>, allowed: &[Option<u64>], seed: u64) {
    let mut rng = Rng::from_env(seed);
    let mut seen = vec![false; allowed.len()];
    for (moment, image) in images.into_iter().enumerate() {
        for percent in [0, 30, 70, 100] {
            let cut = MemDisk::of(image.power_cut(&mut rng, |rng| rng.chance(percent)));
            let (_, found) = open(&cut);
            assert!(
                found.damaged.is_empty(),
                "moment {moment}: a power cut looks like damage"
            );
            let id = found.newest.map(|(stored, _)| stored.id);
            let at = allowed.iter().position(|allowed| *allowed == id);
            seen[at.unwrap_or_else(|| panic!("moment {moment}: found {id:?}"))] = true;
        }
    }
    assert!(
        seen.iter().all(|seen| *seen),
        "the cuts did not reach every outcome: {seen:?}"
    );
}

#[test]
fn a_power_cut_while_a_snapshot_is_written_leaves_the_old_one_or_the_new_one() {
    let disk = MemDisk::default();
    let (snapshots, _) = open(&disk);
    let old = write(&snapshots, &mut state(4, 300));
    disk.record_images();
    let new = write(&snapshots, &mut state(5, 300));
    cuts(disk.take_images(), &[Some(old.id), Some(new.id)], 21);
}

#[test]
fn a_full_disk_costs_a_snapshot_and_nothing_else() {
    const ENOSPC: i32 = 28;
    let disk = MemDisk::default();
    let (snapshots, _) = open(&disk);
    let old = write(&snapshots, &mut state(4, 10));
    disk.set_faults(wal_support::Faults {
        write_in: Some((1, ENOSPC)),
        ..Default::default()
    });
    let mut store = state(9, 10);
    let frozen = store.freeze().unwrap();
    let error = snapshots.write(&frozen, meta(frozen.applied)).unwrap_err();
    assert!(matches!(error, SnapshotError::Disk { .. }), "{error:?}");
    disk.set_faults(Default::default());
    assert_eq!(disk.list(&dir()).unwrap().len(), 1, "what was begun is removed");
    assert_eq!(open(&disk).1.newest.unwrap().0.id, old.id);
}

/// A sender with a snapshot, and a receiver with nothing.
fn transfer() -> (Vec<u8>, Stored, MemDisk) {
    let disk = MemDisk::default();
    let (snapshots, _) = open(&disk);
    let stored = write(&snapshots, &mut state(30, 100));
    let bytes = snapshots.reader(&stored).unwrap().read(0, usize::MAX).unwrap();
    (bytes.to_vec(), stored, MemDisk::default())
}

fn begin(disk: &MemDisk, stored: &Stored) -> Incoming {
    Incoming::begin(&open(disk).0, stored.meta.last, stored.id, stored.bytes).unwrap()
}

fn give(incoming: &mut Incoming, at: usize, piece: &[u8]) -> Result<(), IncomingError> {
    incoming.write(at as u64, piece, crc32c::crc32c(piece))
}

#[test]
fn a_snapshot_arrives_in_pieces_over_broken_connections_and_restarts() {
    let (bytes, stored, disk) = transfer();
    let mut incoming = begin(&disk, &stored);
    let mut pieces = 0;
    while (incoming.offset() as usize) < bytes.len() {
        let at = incoming.offset() as usize;
        let piece = &bytes[at..bytes.len().min(at + 700)];
        give(&mut incoming, at, piece).unwrap();
        pieces += 1;
        if pieces % 3 == 0 {
            incoming = begin(&disk, &stored);
            assert_eq!(
                incoming.offset() as usize,
                at + piece.len(),
                "goes on where it was"
            );
        }
    }
    assert!(pieces > 4);
    let (installed, loaded) = incoming.finish().unwrap();
    assert_eq!((installed.id, &installed.meta), (stored.id, &stored.meta));
    assert_eq!(loaded.store.digest(), state(30, 100).digest());
    let (_, found) = open(&disk);
    assert_eq!(found.newest.unwrap().0.id, stored.id);
    assert_eq!(disk.list(&dir()).unwrap().len(), 1, "the parts are gone");
}

#[test]
fn a_piece_that_is_missing_repeated_damaged_or_too_long_is_refused() {
    let (bytes, stored, disk) = transfer();
    let mut incoming = begin(&disk, &stored);
    give(&mut incoming, 0, &bytes[..100]).unwrap();
    let gap = give(&mut incoming, 200, &bytes[200..300]);
    assert!(matches!(
        gap,
        Err(IncomingError::Gap {
            expected: 100,
            found: 200
        })
    ));
    let twice = give(&mut incoming, 0, &bytes[..100]);
    assert!(matches!(
        twice,
        Err(IncomingError::Gap {
            expected: 100,
            found: 0
        })
    ));
    let damaged = incoming.write(100, &bytes[100..200], 0);
    assert!(matches!(damaged, Err(IncomingError::Damaged)));
    let long = give(&mut incoming, 100, &vec![0; bytes.len()]);
    assert!(matches!(long, Err(IncomingError::TooLong(_))));
    assert!(matches!(
        incoming.finish(),
        Err(IncomingError::Missing { have: 100, .. })
    ));
}

#[test]
fn pieces_of_another_snapshot_are_of_no_use() {
    let (bytes, stored, disk) = transfer();
    give(&mut begin(&disk, &stored), 0, &bytes[..100]).unwrap();
    let mut other = stored.clone();
    other.id ^= 1;
    assert_eq!(begin(&disk, &other).offset(), 0);
    let mut incoming = begin(&disk, &other);
    give(&mut incoming, 0, &bytes).unwrap();
    assert!(matches!(incoming.finish(), Err(IncomingError::Another { .. })));
    assert!(open(&disk).1.newest.is_none());
    assert_eq!(begin(&disk, &other).offset(), 0, "it starts over");
    let mut elsewhere = stored.clone();
    elsewhere.meta.last.index += 1;
    let mut incoming = begin(&disk, &elsewhere);
    give(&mut incoming, 0, &bytes).unwrap();
    assert!(matches!(incoming.finish(), Err(IncomingError::AnotherEnd)));
}

#[test]
fn a_power_cut_while_a_snapshot_arrives_leaves_the_old_one_or_the_new_one() {
    let (bytes, stored, disk) = transfer();
    let (snapshots, _) = open(&disk);
    let old = write(&snapshots, &mut state(4, 10));
    disk.record_images();
    let mut incoming = Incoming::begin(&snapshots, stored.meta.last, stored.id, stored.bytes).unwrap();
    for at in (0..bytes.len()).step_by(1000) {
        give(&mut incoming, at, &bytes[at..bytes.len().min(at + 1000)]).unwrap();
    }
    incoming.finish().unwrap();
    cuts(disk.take_images(), &[Some(old.id), Some(stored.id)], 22);
}

fn holds(data: Vec<u8>) -> bool {
    let disk = MemDisk::default();
    disk.create_dir_all(Path::new("/data/snapshots")).unwrap();
    let path = dir().join(format!("snap-{:020}-{:020}.snap", 7, 1));
    let file = disk.create(&path).unwrap();
    file.write_all_at(&data, 0).unwrap();
    disk.sync_dir(&dir()).unwrap();
    open(&disk).1.newest.is_some()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_at_all_are_taken_for_a_snapshot_by_chance(data in prop::collection::vec(any::<u8>(), 0..3000)) {
        prop_assert!(!holds(data));
    }

    #[test]
    fn no_mutation_of_a_snapshot_is_taken_for_one(cut in 0_usize..3000, insert in prop::collection::vec(any::<u8>(), 0..50), at in 0_usize..3000) {
        let disk = MemDisk::default();
        write(&open(&disk).0, &mut state(20, 60));
        let whole = disk.state().contents()[&only_snapshot(&disk.state())].clone();
        let mut data = whole.clone();
        let at = at % data.len();
        let end = data.len().min(at + cut % 200);
        data.splice(at..end, insert);
        prop_assert!(data == whole || !holds(data));
    }
}
