//! Whatever stands in the files of a log, opening it ends with a log or an error. The first byte says where the input
//! goes: over a real log from some place on, or in its stead.
#![no_main]
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/wal_support/mod.rs"]
mod wal_support;

use wal_support::{MemDisk, append, open, segment, small, written};

fuzz_target!(|data: &[u8]| {
    let Some((place, bytes)) = data.split_first() else {
        return;
    };
    let options = small(1024, 8 << 10);
    let mut image = written(
        &[append(1, &[7; 900]), append(2, &[8; 1500]), append(3, b"x")],
        &options,
    );
    image.damage(&segment(1), |file| {
        if *place == 255 {
            *file = bytes.to_vec();
            return;
        }
        let at = usize::from(*place) * 32;
        let end = file.len().min(at + bytes.len());
        if at < end {
            file[at..end].copy_from_slice(&bytes[..end - at]);
        }
    });
    let disk = MemDisk::of(image);
    let recovered = || open(&disk, &options).map(|(_, recovered, _)| recovered);
    if let Ok(first) = recovered() {
        let second = recovered().expect("what was opened once can be opened again");
        assert_eq!(first, second);
    }
});
