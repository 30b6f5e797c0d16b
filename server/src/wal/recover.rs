//! Reading a log back: first only looking, then, if the verdict allows it, cutting off what was never acknowledged.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::error::{Corruption, WalError};
use super::frame::Lsn;
use super::log::{Held, WalOptions};
use super::rebuild;
use super::scanner::Scanner;
use super::segment::{self, Segment};
use super::shape::Shape;
use crate::disk::{Disk, DiskFile};
use crate::raft::{HardState, Position, Recovered};

/// What opening a log came upon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryInfo {
    /// Segments found, the prepared one included.
    pub segments: u64,
    /// Good frames.
    pub frames: u64,
    /// Bytes of these frames, without padding.
    pub bytes: u64,
    /// What was cut off, if anything.
    pub cut: Option<Cut>,
    /// What had been acknowledged, or may have been, and is gone: the node must get it back from the others.
    pub damage: Option<Corruption>,
    /// Headers of frames and of files that were damaged and were taken from their copy: nothing is lost, but the disk should
    /// be looked at.
    pub mended: u64,
}

/// The end of a log that was never synced, and so never acknowledged, and is gone now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Where in it the cut was made.
    pub offset_bytes: u64,
    /// How many bytes behind it were not zero or stood between such bytes.
    pub bytes: u64,
    /// The frame that was not complete.
    pub frame: Lsn,
    /// How it is known that it was never synced.
    pub reason: &'static str,
}

/// A log that was read: what it holds and where it goes on.
pub(super) struct Scan {
    pub(super) recovered: Recovered,
    pub(super) info: RecoveryInfo,
    pub(super) shape: Shape,
    /// The segments from the one with the end of the log on. Never empty.
    pub(super) open: Vec<Segment>,
    /// Every segment that holds a part of the log.
    pub(super) held: VecDeque<Held>,
    /// Where the next frame goes in the first of them.
    pub(super) offset: u64,
    pub(super) lsn_next: Lsn,
    pub(super) prev_crc: u32,
    /// Segments that were never finished. The first to go: one without the segment before it is a sign of damage.
    pub(super) unfinished: Vec<PathBuf>,
    /// Files that hold nothing of use: of a log that was given up.
    pub(super) useless: Vec<PathBuf>,
    pub(super) cuts: Vec<ZeroOut>,
    /// What is to be done about damage.
    pub(super) rebuild: Option<Rebuild>,
}

/// The part of a log that is given up, and what is known of it.
pub(super) struct Rebuild {
    /// The number of the segment with the first damaged frame.
    pub(super) number: u64,
    /// Up to where that segment is good.
    pub(super) keep_bytes: usize,
    /// The segments from there on.
    pub(super) damaged: Vec<PathBuf>,
    pub(super) bounds: Bounds,
}

/// What this node may have promised at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The newest frame.
    pub(super) lsn: Lsn,
    /// Term and vote after it.
    pub(super) hard_state: HardState,
    /// The furthest end that the log had at any time since.
    pub(super) end: Position,
}

/// A stretch of a segment to be made zero again.
pub(super) struct ZeroOut {
    pub(super) number: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

/// Reads the log in `dir` without changing anything. `None` if there is none.
pub(super) fn scan(disk: &dyn Disk, dir: &Path, options: &WalOptions) -> Result<Option<Scan>, WalError> {
    let names = disk
        .list(dir)
        .map_err(|source| WalError::io("list the files of the log in", dir, source))?;
    let numbers: Vec<u64> = names.iter().filter_map(|n| segment::number_of(n)).collect();
    let first = numbers.first().copied().unwrap_or(1);
    let mut scanner = Scanner::new(dir, options, first);
    let unfinished = names.iter().filter(|name| segment::is_unfinished(name));
    scanner.scan.unfinished = unfinished.map(|name| dir.join(name)).collect();
    let begun = names
        .iter()
        .filter_map(|n| segment::unfinished_number_of(n))
        .max();
    let expected = numbers.last().map_or(1, |last| last + 1);
    if begun.is_some_and(|begun| begun > expected) {
        let missing = dir.join(segment::file_name(expected));
        let what = "the segment is missing: the one behind it had been begun";
        return Err(scanner.corrupt(&missing, 0, None, what.to_owned()));
    }
    scanner.scan.info.segments = numbers.len() as u64;
    for (expected, (position, number)) in (first..).zip(numbers.iter().enumerate()) {
        if *number != expected {
            let missing = dir.join(segment::file_name(expected));
            return Err(scanner.corrupt(&missing, 0, None, "the segment is missing".to_owned()));
        }
        // The end of the log is in one of the last two: the last one may be prepared and empty.
        let may_be_cached_only = position + 2 >= numbers.len();
        let (segment, data) = scanner.read(disk, *number, may_be_cached_only)?;
        scanner.take_segment(segment, data)?;
    }
    scanner.verdict()?;
    let mut scan = scanner.scan;
    // The newest first, so that a crash in between leaves a row without gaps.
    scan.useless.reverse();
    scan.recovered.base = scan.base_of_entries();
    scan.recovered.suspect = scan.shape.suspect();
    Ok((!numbers.is_empty()).then_some(scan))
}

impl Scan {
    /// An empty log in its first segment.
    pub(super) fn empty(first: Segment) -> Scan {
        let held = Held {
            number: first.number,
            index_max: 0,
        };
        Scan {
            offset: first.first_frame_at(),
            open: vec![first],
            held: VecDeque::from([held]),
            ..Scan::blank()
        }
    }

    pub(super) fn blank() -> Scan {
        Scan {
            recovered: Recovered::default(),
            info: RecoveryInfo::default(),
            shape: Shape::default(),
            open: Vec::new(),
            held: VecDeque::new(),
            offset: 0,
            lsn_next: 1,
            prev_crc: 0,
            unfinished: Vec::new(),
            useless: Vec::new(),
            cuts: Vec::new(),
            rebuild: None,
        }
    }

    /// The position before the first entry at hand, which may be one that no longer matters.
    fn base_of_entries(&self) -> Position {
        match self.recovered.entries.first() {
            None => self.shape.end(),
            Some(first) => {
                let index = first.index - 1;
                let term = self.shape.term_at(index).unwrap_or(self.recovered.base.term);
                Position { term, index }
            }
        }
    }

    /// Removes what was never acknowledged, durably. Can be interrupted anywhere and done again.
    pub(super) fn clean(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        options: &WalOptions,
    ) -> Result<(), WalError> {
        remove(disk, dir, &self.unfinished)?;
        if let Some(rebuild) = self.rebuild.take() {
            rebuild::rebuild(self, &rebuild, disk, dir, options)?;
        }
        for cut in &self.cuts {
            let segment = self.open.iter().find(|s| s.number == cut.number);
            let segment = segment.expect("only open segments are cut");
            let zeros =
                vec![0; usize::try_from(cut.to - cut.from).expect("a part of a file read into memory")];
            segment
                .file
                .write_all_at(&zeros, cut.from)
                .and_then(|()| segment.file.sync_data())
                .map_err(|source| WalError::io("cut the end off", &segment.path, source))?;
        }
        remove(disk, dir, &self.useless)?;
        disk.sync_dir(dir)
            .map_err(|source| WalError::io("sync the directory", dir, source))
    }
}

/// Removes files one after the other, so that a power cut leaves a beginning of the row removed.
fn remove(disk: &dyn Disk, dir: &Path, paths: &[PathBuf]) -> Result<(), WalError> {
    for path in paths {
        disk.remove(path)
            .and_then(|()| disk.sync_dir(dir))
            .map_err(|source| WalError::io("remove the useless", path, source))?;
    }
    Ok(())
}

pub(super) fn read_whole(file: &dyn DiskFile) -> std::io::Result<Vec<u8>> {
    read_whole_into(file, Vec::new())
}

/// The same in the memory of `data`, whatever it held. Fresh memory costs about as much as reading from the cache.
pub(super) fn read_whole_into(file: &dyn DiskFile, mut data: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let len = usize::try_from(file.len_bytes()?).map_err(std::io::Error::other)?;
    data.resize(len, 0);
    let mut at = 0;
    while at < len {
        match file.read_at(&mut data[at..], at as u64)? {
            0 => break,
            count => at += count,
        }
    }
    data.truncate(at);
    Ok(data)
}
