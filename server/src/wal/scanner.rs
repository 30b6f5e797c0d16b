//! Reading the frames of a log one after the other, and what follows from the first that is not as it should be.

use std::path::{Path, PathBuf};

use super::error::{Corruption, WalError};
use super::frame::{FrameHeader, HEADER_BYTES, Lsn, SECTOR_BYTES, is_zero, len_without_zeros, zero_sectors};
use super::log::{Held, WalOptions};
use super::record::{self, Checkpoint, Record};
use super::recover::{Bounds, Cut, Rebuild, Scan, ZeroOut, read_whole_into};
use super::segment::{self, BadHeader, Segment};
use super::verdict::{Finding, Later, Verdict, judge};
use crate::disk::Disk;
use crate::raft::Index;

/// So few bytes are no remains of a frame, whose header alone has more and stands there twice.
const STRAY_BYTES_MAX: usize = 4;

/// A log that is being read.
pub(super) struct Scanner<'a> {
    dir: &'a Path,
    options: &'a WalOptions,
    pub(super) scan: Scan,
    /// Number and predecessor's checksum of the next frame; unknown before the first.
    expected: Option<(Lsn, u32)>,
    /// The last frame of a log that was given up; what is left of it is to be removed.
    given_up: Option<Lsn>,
    /// Where reading came to something that is no good frame, and what the headers behind it tell.
    stopped: Option<(Stop, Later)>,
    /// The segments from there on, whole.
    later: Vec<LaterSegment>,
    /// The memory of a segment that is done with, for the next.
    spare: Vec<u8>,
}

/// A segment with or behind the damage.
struct LaterSegment {
    number: u64,
    path: PathBuf,
    align_bytes: usize,
    data: Vec<u8>,
}

struct Stop {
    path: PathBuf,
    number: u64,
    offset: usize,
    finding: Finding,
}

impl<'a> Scanner<'a> {
    /// About to read the log in `dir`, from segment `first` on.
    pub(super) fn new(dir: &'a Path, options: &'a WalOptions, first: u64) -> Scanner<'a> {
        Scanner {
            dir,
            options,
            scan: Scan::blank(),
            // Earlier segments may have been removed; the first one that is left tells where it continues.
            expected: (first == 1).then_some((1, 0)),
            given_up: None,
            stopped: None,
            later: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Reads a whole segment and checks its header.
    pub(super) fn read(
        &mut self,
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
        let data = read_whole_into(&*file, std::mem::take(&mut self.spare))
            .map_err(|source| WalError::io("read", &path, source))?;
        match segment::check_header(&data, number, &self.options.node) {
            Ok((layout, one_is_damaged)) => {
                self.scan.info.mended += u64::from(one_is_damaged);
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
    pub(super) fn take_segment(&mut self, segment: Segment, data: Vec<u8>) -> Result<(), WalError> {
        let mut at = usize::try_from(segment.first_frame_at()).expect("the alignment is a usize");
        if self.is_given_up(&segment, &data, at) {
            self.scan.useless.push(segment.path);
            return Ok(());
        }
        self.pass_over_stray_bytes(&segment, &data, at);
        let frames_before = self.scan.info.frames;
        let first_of_all = self.expected.is_none() && self.stopped.is_none();
        self.scan.held.push_back(Held {
            number: segment.number,
            index_max: 0,
        });
        if self.stopped.is_none() {
            while let Some(step) = self.look(&segment, &data, at) {
                match step {
                    Ok(header) => {
                        self.replay(&segment, &data, at, header)?;
                        at += header.extent_bytes(segment.align_bytes);
                    }
                    Err(finding) => {
                        self.stop(&segment, &data, at, finding);
                        break;
                    }
                }
            }
        } else {
            self.gather(&segment, &data, at, true);
        }
        if first_of_all && self.expected.is_none() && self.stopped.is_none() {
            self.stop(&segment, &data, at, Finding::NoHeader);
        }
        let left_over = len_without_zeros(data.get(at..).unwrap_or_default());
        if left_over > 0 {
            self.scan.cuts.push(ZeroOut {
                number: segment.number,
                from: at as u64,
                to: (at + left_over) as u64,
            });
        }
        if self.stopped.is_some() {
            self.later.push(LaterSegment {
                number: segment.number,
                path: segment.path.clone(),
                align_bytes: segment.align_bytes,
                data,
            });
        } else {
            self.spare = data;
        }
        // The log goes on behind its last frame, even if a later segment exists already.
        if self.scan.info.frames > frames_before || self.scan.open.is_empty() {
            self.scan.open.clear();
            self.scan.offset = at as u64;
        } else {
            self.scan.held.pop_back();
        }
        self.scan.open.push(segment);
        Ok(())
    }

    /// If the log goes on in this segment as if nothing were missing, then what ended the segment before it stands where
    /// nothing had been written.
    fn pass_over_stray_bytes(&mut self, segment: &Segment, data: &[u8], at: usize) {
        let rest = data.get(at..).unwrap_or_default();
        let own = FrameHeader::parse(rest).filter(|header| self.follows(segment, header, rest));
        if self.stopped.is_some() && own.or_else(|| self.copy_of_header(segment, rest)).is_some() {
            self.stopped = None;
            self.later.clear();
            self.scan.cuts.clear();
            self.scan.info.mended += 1;
        }
    }

    /// Whether a segment holds the rest of a log that was given up before it could be removed.
    fn is_given_up(&self, segment: &Segment, data: &[u8], at: usize) -> bool {
        let Some(last) = self.given_up else { return false };
        let rest = data.get(at..).unwrap_or_default();
        let first = FrameHeader::parse(rest);
        // An empty one behind such a segment was prepared for the log that was given up.
        let skipped = self
            .scan
            .open
            .last()
            .is_some_and(|open| open.number + 1 < segment.number);
        is_zero(rest) && skipped
            || first.is_some_and(|header| header.segment == segment.number && header.lsn <= last)
    }

    /// What stands at `at`: the next frame, or something else, or nothing up to the end of the segment.
    fn look(&mut self, segment: &Segment, data: &[u8], at: usize) -> Option<Result<FrameHeader, Finding>> {
        let rest = data.get(at..).unwrap_or_default();
        if is_zero(rest) {
            return None;
        }
        let found = FrameHeader::parse(rest);
        let own = found.filter(|header| self.follows(segment, header, rest));
        let header = own.or_else(|| self.copy_of_header(segment, rest));
        if let Some(header) = header
            && crc32c::crc32c(&rest[HEADER_BYTES..header.frame_len()]) == header.payload_crc
        {
            self.scan.info.mended += u64::from(own.is_none());
            return Some(Ok(header));
        }
        Some(Err(match (own, found) {
            (Some(header), _) => {
                let extent = header.frame_len().next_multiple_of(SECTOR_BYTES);
                match zero_sectors(&rest[..extent]) > header.zero_sectors {
                    true => Finding::Torn(header),
                    false => Finding::Rotten(header),
                }
            }
            (None, Some(foreign)) => Finding::Foreign(foreign),
            (None, None) if is_zero(&rest[..rest.len().min(SECTOR_BYTES)]) => Finding::NoHeader,
            (None, None) if rest.iter().filter(|byte| **byte != 0).count() <= STRAY_BYTES_MAX => {
                Finding::Stray
            }
            (None, None) => Finding::BadHeader,
        }))
    }

    /// Whether a header is the one that should stand at the beginning of `rest`.
    fn follows(&self, segment: &Segment, header: &FrameHeader, rest: &[u8]) -> bool {
        let fits = header.segment == segment.number && header.extent_bytes(segment.align_bytes) <= rest.len();
        let chained = match self.expected {
            None => true,
            Some((_, prev_crc)) if header.prev_crc != prev_crc => false,
            // The numbers continue behind a log that was given up.
            Some((lsn, _)) if header.lsn > lsn => record::is_checkpoint(&rest[HEADER_BYTES..]),
            Some((lsn, _)) => header.lsn == lsn,
        };
        fits && chained
    }

    /// The header of the frame that should stand at the beginning of `rest`, from its copy at the frame's end.
    fn copy_of_header(&self, segment: &Segment, rest: &[u8]) -> Option<FrameHeader> {
        let align = segment.align_bytes;
        (align..=rest.len()).step_by(align).find_map(|end| {
            let copy = FrameHeader::parse(&rest[end - HEADER_BYTES..end])?;
            (self.follows(segment, &copy, rest) && copy.extent_bytes(align) == end).then_some(copy)
        })
    }

    /// Takes over a good frame.
    fn replay(
        &mut self,
        segment: &Segment,
        data: &[u8],
        at: usize,
        header: FrameHeader,
    ) -> Result<(), WalError> {
        let mut records = &data[at + HEADER_BYTES..at + header.frame_len()];
        let opens = at as u64 == segment.first_frame_at();
        let replayed = (0..header.records)
            .try_for_each(|number| {
                let record = record::take(&mut records)?;
                let expected =
                    number == 0 && (opens || self.expected.is_some_and(|(lsn, _)| header.lsn > lsn));
                if matches!(record, Record::Checkpoint(_)) != expected {
                    return Err("a segment begins with a checkpoint, and only a segment".to_owned());
                }
                self.apply(record, header.lsn)
            })
            .and_then(|()| {
                if !records.is_empty() {
                    return Err("more records than announced".to_owned());
                }
                if self.scan.shape.end() != header.end || self.scan.shape.hard_state() != header.hard_state {
                    return Err("the log does not end where the frame says".to_owned());
                }
                Ok(())
            });
        if let Err(what) = replayed {
            let what = format!("the frame is intact, but what it says is impossible: {what}");
            return Err(self.corrupt(&segment.path, at as u64, Some(&header), what));
        }
        self.scan.lsn_next = header.lsn + 1;
        self.scan.prev_crc = header.crc;
        self.expected = Some((header.lsn + 1, header.crc));
        self.scan.info.frames += 1;
        self.scan.info.bytes += header.frame_len() as u64;
        Ok(())
    }

    fn apply(&mut self, record: Record, lsn: Lsn) -> Result<(), String> {
        let Scan {
            recovered,
            shape,
            held,
            ..
        } = &mut self.scan;
        match record {
            Record::HardState(state) => {
                shape.set_hard_state(state).map_err(|v| v.to_string())?;
                recovered.hard_state = state;
            }
            Record::Truncate(from) => {
                shape.truncate(from).map_err(|v| v.to_string())?;
                // In order of their indexes, as the shape has checked.
                let kept = recovered.entries.partition_point(|entry| entry.index < from);
                recovered.entries.truncate(kept);
                if shape.end().index < recovered.base.index {
                    recovered.base = shape.end();
                }
            }
            Record::Entry(entry) => {
                shape.append(entry.position()).map_err(|v| v.to_string())?;
                if let Some(segment) = held.back_mut() {
                    segment.index_max = segment.index_max.max(entry.index);
                }
                recovered.entries.push(entry);
            }
            Record::Reset(position) => {
                shape.reset(position);
                (recovered.base, recovered.entries) = (position, Vec::new());
            }
            Record::Distrust(position) => shape.distrust(position),
            Record::Trust => shape.trust(),
            Record::Checkpoint(checkpoint) => return self.continue_from(checkpoint, lsn),
        }
        Ok(())
    }

    /// A checkpoint: where the log begins for this reader, or what it knows already, or the mark of a log given up.
    fn continue_from(&mut self, checkpoint: Checkpoint, lsn: Lsn) -> Result<(), String> {
        if checkpoint.covers + 1 != lsn {
            return Err("its checkpoint is of another frame".to_owned());
        }
        let known = self.expected.filter(|_| self.scan.info.frames > 0);
        if known.is_some() && checkpoint.shape.end() != self.scan.shape.end() {
            return Err("its checkpoint contradicts what stands before it".to_owned());
        }
        if known.is_none_or(|(next, _)| lsn > next) {
            self.given_up = Some(checkpoint.covers);
        }
        self.scan.recovered.hard_state = checkpoint.shape.hard_state();
        if known.is_none() {
            self.scan.recovered.base = checkpoint.shape.end();
        }
        self.scan.shape = checkpoint.shape;
        Ok(())
    }

    /// Reading ends at `at`: what do the headers behind it tell?
    fn stop(&mut self, segment: &Segment, data: &[u8], at: usize, finding: Finding) {
        let stop = Stop {
            path: segment.path.clone(),
            number: segment.number,
            offset: at,
            finding,
        };
        let later = Later {
            took_over: self.expected.is_none(),
            ..Later::default()
        };
        self.stopped = Some((stop, later));
        // The payload of the frame itself is not searched: it may hold anything, even the image of a frame.
        let own_bytes = match finding {
            Finding::Torn(header) | Finding::Rotten(header) => header.extent_bytes(segment.align_bytes),
            Finding::NoHeader | Finding::Stray | Finding::BadHeader | Finding::Foreign(_) => {
                segment.align_bytes
            }
        };
        if let Finding::Foreign(header) = finding {
            self.note(&header, false);
        }
        self.gather(segment, data, at + own_bytes, false);
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
    pub(super) fn verdict(&mut self) -> Result<(), WalError> {
        let Some((stop, later)) = &self.stopped else {
            return Ok(());
        };
        match judge(self.scan.lsn_next, stop.finding, *later) {
            Verdict::Damaged(what) => {
                let own = match &stop.finding {
                    Finding::Torn(header) | Finding::Rotten(header) => Some(header),
                    _ => None,
                };
                let mut damage = self.corruption(&stop.path, stop.offset as u64, own, what.to_owned());
                damage.index_last = damage.index_last.max(known(later.index_last));
                let Some(bounds) = self.bounds(stop).filter(|_| !self.options.only_copy) else {
                    return Err(WalError::Corrupt(Box::new(damage)));
                };
                damage.index_last = known(bounds.end.index);
                self.scan.rebuild = Some(Rebuild {
                    number: stop.number,
                    keep_bytes: stop.offset,
                    damaged: self.later.iter().map(|segment| segment.path.clone()).collect(),
                    bounds,
                });
                self.scan.cuts.clear();
                self.scan.info.damage = Some(damage);
                Ok(())
            }
            Verdict::Cut(reason) => {
                let cut_bytes = self.scan.cuts.iter().map(|cut| cut.to - cut.from).sum();
                self.scan.info.cut = Some(Cut {
                    path: stop.path.clone(),
                    offset_bytes: stop.offset as u64,
                    bytes: cut_bytes,
                    frame: self.scan.lsn_next,
                    reason,
                });
                Ok(())
            }
        }
    }

    /// Follows the frames from the damaged one on, by their headers or the copies of these, to the newest. `None` if the
    /// chain breaks: then nobody knows how many there were.
    fn bounds(&self, stop: &Stop) -> Option<Bounds> {
        let mut expected = self.expected;
        let mut bounds: Option<Bounds> = None;
        for later in &self.later {
            let LaterSegment {
                number,
                align_bytes: align,
                data,
                ..
            } = later;
            let align = *align;
            let mut at = if *number == stop.number {
                stop.offset
            } else {
                align
            };
            while !is_zero(data.get(at..)?) {
                let rest = &data[at..];
                let chained = |header: &FrameHeader| {
                    header.segment == *number
                        // The numbers leave out those of a log that was given up.
                        && expected.is_none_or(|(lsn, crc)| header.lsn >= lsn && header.prev_crc == crc)
                        && header.extent_bytes(align) <= rest.len()
                };
                let mut copies = (align..=rest.len()).step_by(align).filter_map(|end| {
                    let copy = FrameHeader::parse(&rest[end - HEADER_BYTES..end])?;
                    (copy.extent_bytes(align) == end).then_some(copy)
                });
                let own = FrameHeader::parse(rest).filter(chained);
                let header = own.or_else(|| copies.find(chained))?;
                bounds = Some(Bounds {
                    lsn: header.lsn,
                    hard_state: header.hard_state,
                    end: bounds
                        .map_or(self.scan.shape.end(), |bounds| bounds.end)
                        .max(header.end)
                        .max(header.suspect.unwrap_or_default()),
                });
                expected = Some((header.lsn + 1, header.crc));
                at += header.extent_bytes(align);
            }
        }
        bounds
    }

    pub(super) fn corrupt(
        &self,
        path: &Path,
        offset: u64,
        own: Option<&FrameHeader>,
        what: String,
    ) -> WalError {
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
