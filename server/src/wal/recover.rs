//! Reading a log back: first only looking, then, if the verdict allows it, cutting off what was never acknowledged.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::error::{Corruption, WalError};
use super::frame::{FrameHeader, HEADER_BYTES, Lsn, SECTOR_BYTES, is_zero, len_without_zeros, zero_sectors};
use super::log::WalOptions;
use super::record::{self, Record};
use super::segment::{self, BadHeader, Segment};
use super::shape::Shape;
use super::verdict::{Finding, Later, Verdict, judge};
use crate::disk::Disk;
use crate::raft::{Index, Recovered};

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
    /// Where the next frame goes in the first of them.
    pub(super) offset: u64,
    pub(super) lsn_next: Lsn,
    pub(super) prev_crc: u32,
    unfinished: Vec<PathBuf>,
    cuts: Vec<ZeroOut>,
}

/// A stretch of a segment to be made zero again.
struct ZeroOut {
    number: u64,
    from: u64,
    to: u64,
}

/// Reads the log in `dir` without changing anything. `None` if there is none.
pub(super) fn scan(disk: &dyn Disk, dir: &Path, options: &WalOptions) -> Result<Option<Scan>, WalError> {
    let names = disk
        .list(dir)
        .map_err(|source| WalError::io("list the files of the log in", dir, source))?;
    let numbers: Vec<u64> = names.iter().filter_map(|n| segment::number_of(n)).collect();
    let mut scanner = Scanner {
        dir,
        options,
        scan: Scan::empty(0),
        stopped: None,
    };
    let unfinished = names.iter().filter(|name| segment::is_unfinished(name));
    scanner.scan.unfinished = unfinished.map(|name| dir.join(name)).collect();
    scanner.scan.info.segments = numbers.len() as u64;
    for (expected, (position, number)) in (1..).zip(numbers.iter().enumerate()) {
        if *number != expected {
            let missing = dir.join(segment::file_name(expected));
            return Err(scanner.corrupt(&missing, 0, None, "the segment is missing".to_owned()));
        }
        // The end of the log is in one of the last two: the last one may be prepared and empty.
        let may_be_cached_only = position + 2 >= numbers.len();
        let (segment, data) = scanner.read(disk, *number, may_be_cached_only)?;
        scanner.take_segment(segment, &data)?;
    }
    scanner.verdict()?;
    Ok((!numbers.is_empty()).then_some(scanner.scan))
}

impl Scan {
    /// An empty log whose first frame goes to `offset`.
    pub(super) fn empty(offset: u64) -> Scan {
        Scan {
            recovered: Recovered::default(),
            info: RecoveryInfo::default(),
            shape: Shape::default(),
            open: Vec::new(),
            offset,
            lsn_next: 1,
            prev_crc: 0,
            unfinished: Vec::new(),
            cuts: Vec::new(),
        }
    }

    /// Removes what was never acknowledged, durably. Can be interrupted anywhere and done again.
    pub(super) fn clean(&self, disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
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
        for path in &self.unfinished {
            disk.remove(path)
                .map_err(|source| WalError::io("remove the unfinished", path, source))?;
        }
        disk.sync_dir(dir)
            .map_err(|source| WalError::io("sync the directory", dir, source))
    }
}

struct Scanner<'a> {
    dir: &'a Path,
    options: &'a WalOptions,
    scan: Scan,
    /// Where reading came to something that is no good frame, and what the headers behind it tell.
    stopped: Option<(Stop, Later)>,
}

struct Stop {
    path: PathBuf,
    offset: u64,
    finding: Finding,
}

impl Scanner<'_> {
    /// Reads a whole segment and checks its header.
    fn read(
        &self,
        disk: &dyn Disk,
        number: u64,
        may_be_cached_only: bool,
    ) -> Result<(Segment, Vec<u8>), WalError> {
        let path = self.dir.join(segment::file_name(number));
        let file = disk
            .open(&path)
            .map_err(|source| WalError::io("open", &path, source))?;
        if may_be_cached_only {
            // After kill -9 the last frame may be in the system's cache only, and after a failed sync the cache may
            // even hold what the disk will never get. What is built upon must be on the disk.
            file.sync_data()
                .and_then(|()| file.forget_cache())
                .map_err(|source| WalError::io("sync", &path, source))?;
        }
        let data = read_whole(&*file).map_err(|source| WalError::io("read", &path, source))?;
        match segment::check_header(&data, number, &self.options.node) {
            Ok(layout) => {
                let segment = Segment {
                    number,
                    path,
                    file,
                    segment_bytes: layout.segment_bytes,
                    align_bytes: layout.align_bytes,
                };
                Ok((segment, data))
            }
            Err(BadHeader::Version(found)) => Err(WalError::Version {
                path,
                found,
                supported: segment::VERSION,
            }),
            Err(BadHeader::WrongNode(owner)) => Err(WalError::WrongNode {
                owner,
                asked: self.options.node.clone(),
                path,
            }),
            Err(BadHeader::Damaged(what)) => Err(self.corrupt(&path, 0, None, what.to_owned())),
        }
    }

    /// Takes over the frames of a segment, or looks for evidence in it if an earlier one has stopped the reading.
    fn take_segment(&mut self, segment: Segment, data: &[u8]) -> Result<(), WalError> {
        let mut at = usize::try_from(segment.first_frame_at()).expect("the alignment is a usize");
        let frames_before = self.scan.info.frames;
        if self.stopped.is_none() {
            while let Some(step) = self.look(&segment, data, at) {
                match step {
                    Ok(header) => {
                        self.replay(&segment, data, at, header)?;
                        at += header.frame_len().next_multiple_of(segment.align_bytes);
                    }
                    Err(finding) => {
                        self.stop(&segment, data, at, finding);
                        break;
                    }
                }
            }
        } else {
            self.gather(&segment, data, at, true);
        }
        let left_over = len_without_zeros(data.get(at..).unwrap_or_default());
        if left_over > 0 {
            self.scan.cuts.push(ZeroOut {
                number: segment.number,
                from: at as u64,
                to: (at + left_over) as u64,
            });
        }
        // The log goes on behind its last frame, even if a later segment exists already.
        if self.scan.info.frames > frames_before || self.scan.open.is_empty() {
            self.scan.open.clear();
            self.scan.offset = at as u64;
        }
        self.scan.open.push(segment);
        Ok(())
    }

    /// What stands at `at`: the next frame, or something else, or nothing up to the end of the segment.
    fn look(&self, segment: &Segment, data: &[u8], at: usize) -> Option<Result<FrameHeader, Finding>> {
        let rest = data.get(at..).unwrap_or_default();
        let Some(header) = FrameHeader::parse(rest) else {
            let first_sector = &rest[..rest.len().min(SECTOR_BYTES)];
            return if is_zero(rest) {
                None
            } else if is_zero(first_sector) {
                Some(Err(Finding::NoHeader))
            } else {
                Some(Err(Finding::BadHeader))
            };
        };
        let follows = header.segment == segment.number
            && header.lsn == self.scan.lsn_next
            && header.prev_crc == self.scan.prev_crc
            && header.frame_len() <= rest.len();
        if !follows {
            return Some(Err(Finding::Foreign(header)));
        }
        if crc32c::crc32c(&rest[HEADER_BYTES..header.frame_len()]) == header.payload_crc {
            return Some(Ok(header));
        }
        let extent = header.frame_len().next_multiple_of(SECTOR_BYTES);
        let missing = zero_sectors(&rest[..extent]) > header.zero_sectors;
        Some(Err(if missing {
            Finding::Torn(header)
        } else {
            Finding::Rotten(header)
        }))
    }

    /// Takes over a good frame.
    fn replay(
        &mut self,
        segment: &Segment,
        data: &[u8],
        at: usize,
        header: FrameHeader,
    ) -> Result<(), WalError> {
        let payload = &data[at + HEADER_BYTES..at + header.frame_len()];
        // One piece of memory per frame, shared by its entries.
        let mut records = Bytes::copy_from_slice(payload);
        let replayed = (0..header.records)
            .try_for_each(|_| self.apply(record::take(&mut records)?))
            .and_then(|()| {
                if !records.is_empty() {
                    return Err("more records than announced".to_owned());
                }
                if self.scan.shape.end() != header.end {
                    return Err("the log does not end where the frame says".to_owned());
                }
                Ok(())
            });
        if let Err(what) = replayed {
            let what = format!("the frame is intact, but what it says is impossible: {what}");
            return Err(self.corrupt(&segment.path, at as u64, Some(&header), what));
        }
        self.scan.lsn_next += 1;
        self.scan.prev_crc = header.crc;
        self.scan.info.frames += 1;
        self.scan.info.bytes += header.frame_len() as u64;
        Ok(())
    }

    fn apply(&mut self, record: Record) -> Result<(), String> {
        let Scan { recovered, shape, .. } = &mut self.scan;
        match record {
            Record::HardState(state) => {
                shape.set_hard_state(state).map_err(|v| v.to_string())?;
                recovered.hard_state = state;
            }
            Record::Truncate(from) => {
                shape.truncate(from).map_err(|v| v.to_string())?;
                let keep = usize::try_from(from - 1).unwrap_or(usize::MAX);
                recovered.entries.truncate(keep);
            }
            Record::Entry(entry) => {
                shape.append(entry.position()).map_err(|v| v.to_string())?;
                recovered.entries.push(entry);
            }
        }
        Ok(())
    }

    /// Reading ends at `at`: what do the headers behind it tell?
    fn stop(&mut self, segment: &Segment, data: &[u8], at: usize, finding: Finding) {
        let stop = Stop {
            path: segment.path.clone(),
            offset: at as u64,
            finding,
        };
        self.stopped = Some((stop, Later::default()));
        // The payload of the frame itself is not searched: it may hold anything, even the image of a frame.
        let own_bytes = match finding {
            Finding::Torn(header) | Finding::Rotten(header) => header.frame_len(),
            Finding::NoHeader | Finding::BadHeader | Finding::Foreign(_) => 1,
        };
        if let Finding::Foreign(header) = finding {
            self.note(&header, false);
        }
        let behind = at + own_bytes.next_multiple_of(segment.align_bytes);
        self.gather(segment, data, behind, false);
    }

    /// Collects the intact headers in `data` from `at` on.
    fn gather(&mut self, segment: &Segment, data: &[u8], at: usize, later_segment: bool) {
        for at in (at..data.len()).step_by(segment.align_bytes) {
            if let Some(header) = FrameHeader::parse(&data[at..])
                && header.segment == segment.number
            {
                self.note(&header, later_segment);
            }
        }
    }

    fn note(&mut self, header: &FrameHeader, later_segment: bool) {
        if let Some((_, later)) = &mut self.stopped {
            later.note(self.scan.lsn_next, header, later_segment);
        }
    }

    /// Everything has been read: is what stopped the reading, if anything did, torn or damaged?
    fn verdict(&mut self) -> Result<(), WalError> {
        let Some((stop, later)) = &self.stopped else {
            return Ok(());
        };
        match judge(self.scan.lsn_next, stop.finding, *later) {
            Verdict::Damaged(what) => {
                let own = match &stop.finding {
                    Finding::Torn(header) | Finding::Rotten(header) => Some(header),
                    _ => None,
                };
                let mut error = self.corruption(&stop.path, stop.offset, own, what.to_owned());
                error.index_last = error.index_last.max(known(later.index_last));
                Err(WalError::Corrupt(Box::new(error)))
            }
            Verdict::Cut(reason) => {
                let cut_bytes = self.scan.cuts.iter().map(|cut| cut.to - cut.from).sum();
                self.scan.info.cut = Some(Cut {
                    path: stop.path.clone(),
                    offset_bytes: stop.offset,
                    bytes: cut_bytes,
                    frame: self.scan.lsn_next,
                    reason,
                });
                Ok(())
            }
        }
    }

    fn corrupt(&self, path: &Path, offset: u64, own: Option<&FrameHeader>, what: String) -> WalError {
        WalError::Corrupt(Box::new(self.corruption(path, offset, own, what)))
    }

    /// Describes damage at `offset`; `own` is the header of the damaged frame if that is legible.
    fn corruption(&self, path: &Path, offset: u64, own: Option<&FrameHeader>, what: String) -> Corruption {
        let next = self.scan.shape.end().index + 1;
        let first = own.and_then(|header| known(header.first_index));
        Corruption {
            path: path.to_owned(),
            offset_bytes: offset,
            frame: self.scan.lsn_next,
            index_first: first.map_or(next, |first| first.min(next)),
            index_last: own.and_then(|header| known(header.end.index)),
            what,
        }
    }
}

/// 0 stands for no index.
fn known(index: Index) -> Option<Index> {
    (index > 0).then_some(index)
}

fn read_whole(file: &dyn crate::disk::DiskFile) -> std::io::Result<Vec<u8>> {
    let len = usize::try_from(file.len_bytes()?).map_err(std::io::Error::other)?;
    let mut data = vec![0; len];
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
