//! Logs that nobody wrote: opening them ends with a log or an error, never with a panic, and what was opened once is
//! opened again the same.
#![allow(clippy::unwrap_used)]

mod wal_support;

use proptest::prelude::*;
use server::wal::frame::HEADER_BYTES;
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

/// Checksums are no defence against whoever can compute them.
fn forged(records: &[u8], header_bytes: &[u8], at: usize) -> DiskState {
    let mut image = a_log();
    image.damage(&segment(1), |data| {
        let frame = &mut data[1024..];
        let len = records.len().min(800);
        frame[HEADER_BYTES..HEADER_BYTES + len].copy_from_slice(&records[..len]);
        frame[36..40].copy_from_slice(&(len as u32).to_le_bytes());
        let crc = crc32c::crc32c(&frame[HEADER_BYTES..HEADER_BYTES + len]);
        frame[40..44].copy_from_slice(&crc.to_le_bytes());
        let end = HEADER_BYTES.min(at + header_bytes.len());
        frame[at..end].copy_from_slice(&header_bytes[..end - at]);
        let crc = crc32c::crc32c(&frame[8..HEADER_BYTES]);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
    });
    image
}

/// A checkpoint or a single record of any kind, with numbers that are often as large as they can be.
fn records() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(1 << 62),
        any::<u64>()
    ];
    (0_u8..12, prop::collection::vec(number, 0..20)).prop_map(|(tag, numbers)| {
        let mut bytes = vec![tag];
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes
    })
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

    #[test]
    fn an_intact_frame_with_impossible_records(
        records in prop_oneof![records(), prop::collection::vec(any::<u8>(), 0..800)],
        header_bytes in prop_oneof![
            Just(Vec::new()),
            Just(vec![0xFF; 8]),
            Just(vec![0xFF; 24]),
            prop::collection::vec(any::<u8>(), 0..30),
        ],
        at in 8_usize..HEADER_BYTES,
    ) {
        opens_the_same_twice(forged(&records, &header_bytes, at))?;
    }
}
