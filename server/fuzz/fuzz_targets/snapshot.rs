//! Whatever stands in the file of a snapshot, it is read as what was written or set aside. The first byte says where the
//! input goes: over a real snapshot from some place on, or in its stead; the checksums would keep anything else out.
#![no_main]
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use server::disk::Disk as _;
use server::kv::{Store, Versioned};
use server::raft::{Position, SnapshotMeta};
use server::snapshot::SnapshotDir;

#[path = "../../tests/wal_support/mod.rs"]
mod wal_support;

use wal_support::{DiskState, MemDisk};

const DIR: &str = "/snapshots";

/// A disk with one snapshot on it, the name of its file, and the digest of what is in there.
fn real() -> &'static (DiskState, PathBuf, u64) {
    static REAL: OnceLock<(DiskState, PathBuf, u64)> = OnceLock::new();
    REAL.get_or_init(|| {
        let keys = (1..40).map(|index| {
            let value = (index % 5 > 0).then(|| vec![b'v'; index as usize].into());
            (format!("key {index}"), Versioned { value, index })
        });
        let mut store = Store::restore(50, keys, []);
        let disk = MemDisk::default();
        let (dir, _) = SnapshotDir::open(Arc::new(disk.clone()), Path::new(DIR)).expect("the disk works");
        let meta = SnapshotMeta {
            last: Position { term: 3, index: 50 },
            configuration: None,
        };
        let state = store.freeze().expect("nobody else reads it");
        dir.write(&state, meta).expect("the disk works");
        let names = disk.list(Path::new(DIR)).expect("the disk works");
        (disk.state(), Path::new(DIR).join(&names[0]), store.digest())
    })
}

fuzz_target!(|data: &[u8]| {
    let Some((place, bytes)) = data.split_first() else {
        return;
    };
    let (image, path, digest) = real();
    let mut image = image.clone();
    image.damage(path, |file| {
        if *place == 255 {
            *file = bytes.to_vec();
            return;
        }
        let at = usize::from(*place) * file.len() / 255;
        let end = file.len().min(at + bytes.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
    });
    let disk = MemDisk::of(image);
    let (_, found) = SnapshotDir::open(Arc::new(disk), Path::new(DIR)).expect("the disk works");
    assert_eq!(found.newest.is_some(), found.damaged.is_empty());
    if let Some((_, store)) = found.newest {
        // Nothing but the very bytes that were written passes, or another whole snapshot.
        assert!(*place == 255 || store.digest() == *digest);
    }
});
