//! Logs that nobody wrote: opening them ends with a log or an error, never with a panic, and what was opened once is
//! opened again the same.
#![allow(clippy::unwrap_used)]

mod wal_support;

use proptest::prelude::*;
use wal_support::{DiskState, MemDisk, append, open, segment, small, written};

fn a_log() -> DiskState {
    let ios: Vec<_> = (1..=14).map(|seq| append(seq, &[seq as u8; 700])).collect();
    written(&ios, &small(1024, 6 << 10))
}

fn opens_the_same_twice(image: DiskState) -> Result<(), TestCaseError> {
    let options = small(1024, 6 << 10);
    let disk = MemDisk::of(image);
    let recovered = || open(&disk, &options).map(|(_, recovered, _)| recovered);
    if let Ok(first) = recovered() {
        let second = recovered().map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(second == first, "another log the second time");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_segment_of_random_bytes(number in 1_u64..4, bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        let mut image = a_log();
        image.damage(&segment(number), |data| *data = bytes);
        opens_the_same_twice(image)?;
    }

    #[test]
    fn a_segment_with_a_stretch_of_garbage(
        number in 1_u64..4,
        at in 0_usize..6000,
        bytes in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 1..2500),
    ) {
        let mut image = a_log();
        image.damage(&segment(number), |data| {
            let end = data.len().min(at + bytes.len());
            if at < end {
                data[at..end].copy_from_slice(&bytes[..end - at]);
            }
        });
        opens_the_same_twice(image)?;
    }

    #[test]
    fn a_segment_whose_parts_have_changed_places(number in 1_u64..4, from in 0_usize..6, to in 0_usize..6) {
        let mut image = a_log();
        image.damage(&segment(number), |data| {
            let blocks = data.len() / 1024;
            let (from, to) = (from % blocks * 1024, to % blocks * 1024);
            let block = data[from..from + 1024].to_vec();
            data[to..to + 1024].copy_from_slice(&block);
        });
        opens_the_same_twice(image)?;
    }
}
