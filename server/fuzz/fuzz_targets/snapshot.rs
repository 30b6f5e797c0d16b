//! Whatever stands in the file of a snapshot, it is read as what was written or set aside.
#![no_main]
#![allow(dead_code)]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use server::disk::Disk as _;
use server::snapshot::SnapshotDir;

#[path = "../../tests/wal_support/mod.rs"]
mod wal_support;

use wal_support::MemDisk;

fuzz_target!(|data: &[u8]| {
    let dir = Path::new("/snapshots");
    let disk = MemDisk::default();
    let name = dir.join(format!("snap-{:020}-{:020}.snap", 7, 1));
    let file = disk.create(&name).expect("the disk works");
    file.write_all_at(data, 0).expect("the disk works");
    let (_, found) = SnapshotDir::open(Arc::new(disk), dir).expect("the disk works");
    assert_eq!(found.newest.is_some(), found.damaged.is_empty());
});
