//! Logs to test with: options, workloads, a model of what must be found again.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use server::raft::{Entry, HardState, Io, NodeId, Recovered};
use server::wal::frame::FrameHeader;
use server::wal::{Corruption, RecoveryInfo, Wal, WalError, WalOptions};

use super::*;

pub(crate) const NODE: &str = "node1";

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/data/wal")
}

pub(crate) fn segment(number: u64) -> PathBuf {
    dir().join(format!("wal-{number:012}.seg"))
}

/// Small segments, so that a small workload crosses several.
pub(crate) fn small(align_bytes: u32, segment_bytes: u64) -> WalOptions {
    let mut options = WalOptions::new(NODE);
    options.align_bytes = align_bytes;
    options.segment_bytes = segment_bytes;
    options
}

pub(crate) type Opened = (Wal, Recovered, RecoveryInfo);

pub(crate) fn open(disk: &MemDisk, options: &WalOptions) -> Result<Opened, WalError> {
    Wal::open(
        Arc::new(disk.clone()),
        &dir(),
        options.clone(),
        Default::default(),
    )
}

pub(crate) fn commit(wal: &mut Wal, io: &Io) -> Result<(), WalError> {
    wal.stage(io)?;
    wal.commit()
}

/// What a log holds after `ios`.
pub(crate) fn model<'a>(ios: impl IntoIterator<Item = &'a Io>) -> Recovered {
    let mut held = Recovered::default();
    for io in ios {
        held.hard_state = io.hard_state.unwrap_or(held.hard_state);
        if let Some(from) = io.truncate_from {
            held.entries.truncate(from as usize - 1);
        }
        held.entries.extend_from_slice(&io.entries);
    }
    held
}

/// A random workload that obeys the rules of the log.
pub(crate) fn workload(rng: &mut Rng, count: u64, payload_max: u64) -> Vec<Io> {
    let mut ios: Vec<Io> = Vec::new();
    let mut state = HardState { term: 1, vote: None };
    let mut terms: Vec<u64> = Vec::new();
    for seq in 1..=count {
        let mut hard_state = (seq == 1).then_some(state);
        if rng.chance(25) {
            state.term += 1 + rng.below(3);
            state.vote = rng.chance(70).then(|| NodeId(rng.below(3)));
            hard_state = Some(state);
        }
        let mut truncate_from = None;
        if rng.chance(20) {
            let from = rng.below(terms.len() as u64 + 1) + 1;
            terms.truncate(from as usize - 1);
            truncate_from = Some(from);
        }
        let mut entries = Vec::new();
        for _ in 0..rng.below(4) {
            let term = terms.last().copied().unwrap_or(1);
            let term = term + rng.below(state.term - term + 1);
            terms.push(term);
            let len = rng.below(payload_max + 1) as usize;
            // Long runs of zeros are what makes torn and rotten hard to tell apart.
            let byte = if rng.chance(40) { 0 } else { rng.below(256) as u8 };
            entries.push(Entry {
                term,
                index: terms.len() as u64,
                kind: Default::default(),
                payload: Bytes::from(vec![byte; len]),
            });
        }
        ios.push(Io {
            seq,
            hard_state,
            truncate_from,
            entries: entries.into(),
            ..Io::default()
        });
    }
    ios
}

/// A request that appends entries of term 1 with this payload; the first one also enters that term.
pub(crate) fn append(seq: u64, payload: &[u8]) -> Io {
    Io {
        seq,
        hard_state: (seq == 1).then_some(HardState { term: 1, vote: None }),
        truncate_from: None,
        entries: [Entry {
            term: 1,
            index: seq,
            kind: Default::default(),
            payload: Bytes::copy_from_slice(payload),
        }]
        .into(),
        ..Io::default()
    }
}

/// A disk with a log of these requests, one frame each.
pub(crate) fn written(ios: &[Io], options: &WalOptions) -> DiskState {
    let disk = MemDisk::default();
    let (mut wal, _, _) = open(&disk, options).unwrap();
    for io in ios {
        commit(&mut wal, io).unwrap();
    }
    drop(wal);
    disk.state()
}

/// Opens an image and expects damage; checks that nothing was changed.
pub(crate) fn damaged(state: DiskState, options: &WalOptions) -> Corruption {
    let disk = MemDisk::of(state.clone());
    match open(&disk, options).map(|(_, recovered, info)| (recovered, info)) {
        Ok((recovered, info)) => {
            let suspect = recovered.suspect;
            assert!(suspect.is_some(), "what may be missing is known: {info:?}");
            let again = open(&disk, options).unwrap().1;
            assert_eq!(again, recovered, "the next start finds the same");
            info.damage.expect("a suspicion has a reason")
        }
        Err(WalError::Corrupt(corruption)) => {
            assert_eq!(
                disk.state().contents(),
                state.contents(),
                "nothing may be changed"
            );
            *corruption
        }
        Err(other) => panic!("expected damage, got {other}"),
    }
}

/// Where the frames of a segment begin and what their headers say.
pub(crate) fn frames(state: &DiskState, number: u64, align: usize) -> Vec<(usize, FrameHeader)> {
    let data = &state.contents()[&segment(number)];
    let mut found = Vec::new();
    let mut at = align;
    while let Some(header) = data.get(at..).and_then(FrameHeader::parse) {
        found.push((at, header));
        at += header.extent_bytes(align);
    }
    found
}
