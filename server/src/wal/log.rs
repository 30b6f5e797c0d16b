//! The log itself, without a thread: open, stage, commit.

use std::collections::VecDeque;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::error::{Corruption, WalError};
use super::frame::{FrameBuffer, Lsn, Place, SECTOR_BYTES};
use super::prepare::Preparer;
use super::record;
use super::recover::{self, RecoveryInfo, Scan};
use super::segment::{self, NODE_NAME_BYTES_MAX, Segment};
use super::shape::{Shape, Violation};
use super::stats::WalStats;
use crate::disk::{Disk, DiskLock, LockError};
use crate::raft::{HardState, Index, Io, IoSeq, Position, Recovered};

/// How a log is laid out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// The name of the node whose log it is; written into every segment and checked in each.
    pub node: String,
    /// Size of a segment. Only a group that does not fit into one makes a larger one.
    pub segment_bytes: u64,
    /// Every frame begins at a multiple of this: a power of two, at least a sector. Applies to new segments.
    pub align_bytes: u32,
    /// A group is closed when it has grown beyond this.
    pub group_bytes_max: usize,
    /// Nobody else has a copy of what is in this log: damage to it is refused instead of outlived.
    pub only_copy: bool,
    /// **A planted bug**, see `WalThread`: acknowledge at once and write later.
    #[cfg(feature = "mutants")]
    pub ack_before_durable: bool,
}

impl WalOptions {
    /// The defaults, for the log of `node`: segments of 16 MiB, frames on pages of 4 KiB, groups of 4 MiB.
    pub fn new(node: impl Into<String>) -> WalOptions {
        WalOptions {
            node: node.into(),
            segment_bytes: 16 << 20,
            align_bytes: 4096,
            group_bytes_max: 4 << 20,
            only_copy: false,
            #[cfg(feature = "mutants")]
            ack_before_durable: false,
        }
    }

    /// The same with the planted bug that acknowledges before anything is durable.
    #[cfg(feature = "mutants")]
    pub fn with_ack_before_durable(mut self) -> WalOptions {
        self.ack_before_durable = true;
        self
    }

    fn check(&self) -> Result<(), WalError> {
        let align = self.align_bytes as usize;
        let problem = if self.node.is_empty() || self.node.len() > NODE_NAME_BYTES_MAX {
            "a node's name has 1 to 255 bytes"
        } else if !align.is_power_of_two() || align < SECTOR_BYTES {
            "align_bytes must be a power of two and at least 512"
        } else if !self.segment_bytes.is_multiple_of(align as u64) || self.segment_bytes < 2 * align as u64 {
            "segment_bytes must be a multiple of align_bytes and at least twice as much"
        } else {
            return Ok(());
        };
        Err(WalError::Options(problem))
    }
}

/// A segment that holds a part of the log, the current one included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) number: u64,
    /// The highest index of an entry that was ever written into it.
    pub(super) index_max: Index,
}

/// The segment behind the current one.
enum Next {
    Missing,
    Ordered,
    Ready(Segment),
}

/// An open log. Requests are [staged](Wal::stage) into a frame in memory and [committed](Wal::commit) together; a
/// [`WalThread`](super::WalThread) does both for a queue of requests.
///
/// One frame is written and synced before the next is begun, so at most one is ever at risk.
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    current: Segment,
    /// Every segment with a part of the log, in order; the last one is the current one.
    held: VecDeque<Held>,
    /// Where the next frame goes in `current`.
    offset: u64,
    next: Next,
    preparer: Option<Preparer>,
    /// Number of the next frame; every earlier one is durable.
    lsn_next: Lsn,
    prev_crc: u32,
    frame: FrameBuffer,
    /// The log as it is on disk.
    written: Shape,
    /// The log as it will be once the staged frame is written.
    shape: Shape,
    /// The highest index in the staged frame.
    staged_index_max: Index,
    /// The last request staged.
    seq: Option<IoSeq>,
    poisoned: bool,
    stats: Arc<WalStats>,
    /// Given back last.
    _lock: Box<dyn DiskLock>,
}

impl Wal {
    /// Opens the log in `dir`, which is created if need be, and returns with it what it holds. Takes the lock of the
    /// directory until the log is dropped. `snapshot` is where the newest usable snapshot ends: a log that does not reach
    /// it, or that begins behind it, is made to continue there.
    ///
    /// A tail that was never synced is cut off, durably, and noted in [`RecoveryInfo::cut`]. Damage to what had been
    /// synced is cut off as well if it is known for certain how much this node may have acknowledged: noted in
    /// [`RecoveryInfo::damage`] and [`Recovered::suspect`], on disk too, and the damaged files are kept. On any error
    /// nothing has been changed, except that cutting or creating may itself have failed half way, which the next open
    /// continues.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        snapshot: Position,
    ) -> Result<(Wal, Recovered, RecoveryInfo), WalError> {
        options.check()?;
        let lock = Wal::lock(&*disk, dir)?;
        Wal::open_locked(disk, dir, options, snapshot, lock)
    }

    /// Takes the lock of the log in `dir`, which is created if need be, for [`Wal::open_locked`].
    pub fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, WalError> {
        disk.create_dir_all(dir)
            .map_err(|source| WalError::io("create the directory", dir, source))?;
        take_lock(disk, dir)
    }

    /// [`Wal::open`] for whoever has the lock already.
    pub fn open_locked(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        snapshot: Position,
        lock: Box<dyn DiskLock>,
    ) -> Result<(Wal, Recovered, RecoveryInfo), WalError> {
        options.check()?;
        let scan = match recover::scan(&*disk, dir, &options)? {
            Some(mut scan) => {
                scan.clean(&*disk, dir, &options)?;
                scan
            }
            None => Scan::empty(Segment::prepare(&*disk, dir, 1, &options, 0)?),
        };
        let Scan {
            mut recovered,
            mut info,
            shape,
            open,
            held,
            offset,
            lsn_next,
            prev_crc,
            ..
        } = scan;
        let mut open = open.into_iter();
        let mut wal = Wal {
            disk,
            dir: dir.to_owned(),
            options,
            current: open.next().expect("a log that exists has a segment"),
            held,
            offset,
            next: open.next().map_or(Next::Missing, Next::Ready),
            preparer: None,
            lsn_next,
            prev_crc,
            frame: FrameBuffer::default(),
            written: shape.clone(),
            shape,
            staged_index_max: 0,
            seq: None,
            poisoned: false,
            stats: Arc::default(),
            _lock: lock,
        };
        wal.stats.set_segments(wal.held.len());
        wal.continue_behind(snapshot, &mut recovered, &mut info)?;
        recovered.suspect = wal.shape.suspect();
        Ok((wal, recovered, info))
    }

    /// Joins the log to the newest snapshot: if the log does not hold the snapshot's end, it begins anew behind it. A log
    /// that begins behind the snapshot lacks entries that this node acknowledged, because a later snapshot is lost.
    fn continue_behind(
        &mut self,
        snapshot: Position,
        recovered: &mut Recovered,
        info: &mut RecoveryInfo,
    ) -> Result<(), WalError> {
        let gap = recovered.base.index > snapshot.index;
        let known = match snapshot.index.checked_sub(recovered.base.index) {
            Some(0) => Some(recovered.base.term),
            Some(behind) => recovered.entries.get(behind as usize - 1).map(|entry| entry.term),
            None => None,
        };
        if known == Some(snapshot.term) {
            return Ok(());
        }
        if gap {
            let lost = self.shape.end();
            self.shape.distrust(lost);
            self.frame.push_distrust(lost);
            info.damage = Some(Corruption {
                path: self.dir.clone(),
                offset_bytes: 0,
                frame: self.lsn_next,
                index_first: snapshot.index + 1,
                index_last: Some(lost.index),
                what: format!(
                    "the log begins behind entry {}, and no usable snapshot reaches so far",
                    recovered.base.index
                ),
            });
        }
        // The node that installed the snapshot may not have got to write the term that it was told with it. It cannot have
        // voted in that term, since it would have written that first.
        let hard_state = (snapshot.term > self.shape.hard_state().term).then_some(HardState {
            term: snapshot.term,
            vote: None,
        });
        if let Some(state) = hard_state {
            let raised = self.shape.set_hard_state(state);
            raised.map_err(|source| WalError::Misuse { seq: 0, source })?;
            recovered.hard_state = state;
        }
        self.shape.reset(snapshot);
        self.frame.push(&Io {
            hard_state,
            reset: Some(snapshot),
            ..Io::default()
        });
        (recovered.base, recovered.entries) = (snapshot, Vec::new());
        self.commit()
    }

    /// Adds a request to the frame in memory. It is durable after the next [`Wal::commit`] that succeeds.
    ///
    /// A request that breaks the rules of the log is a bug of the caller: it poisons the log, since the requests after
    /// it build upon it.
    pub fn stage(&mut self, io: &Io) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        if let Err(source) = self.admit(io) {
            self.poisoned = true;
            return Err(WalError::Misuse { seq: io.seq, source });
        }
        self.frame.push(io);
        self.seq = Some(io.seq);
        self.staged_index_max = io
            .entries
            .last()
            .map_or(0, |entry| entry.index)
            .max(self.staged_index_max);
        Ok(())
    }

    /// Makes everything staged durable: one write, one sync. The first failure poisons the log for good, with one
    /// exception: if there is no space for another segment ([`WalError::is_full`]) nothing was written, what is staged
    /// stays staged, and the same can be tried again.
    pub fn commit(&mut self) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        if self.frame.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.make_room() {
            self.poisoned = !error.is_full();
            return Err(error);
        }
        let outcome = self.write_frame();
        self.poisoned = outcome.is_err();
        outcome
    }

    /// A durable snapshot holds everything up to `index`: removes the segments that hold nothing else, oldest first, so
    /// that a crash in between leaves a row without gaps.
    pub fn release(&mut self, index: Index) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        self.written.release(index);
        self.shape.release(index);
        let held = self.held.len();
        while self.held.len() > 1 && self.held[0].index_max <= index {
            let path = self.dir.join(segment::file_name(self.held[0].number));
            self.disk
                .remove(&path)
                .and_then(|()| self.disk.sync_dir(&self.dir))
                .map_err(|source| WalError::io("remove the log segment", &path, source))
                .inspect_err(|_| self.poisoned = true)?;
            self.held.pop_front();
        }
        if self.held.len() < held {
            self.stats.set_segments(self.held.len());
        }
        Ok(())
    }

    /// How large the staged frame is so far.
    pub fn staged_bytes(&self) -> usize {
        self.frame.len_bytes()
    }

    /// The counters of this log; they outlive it.
    pub fn stats(&self) -> Arc<WalStats> {
        Arc::clone(&self.stats)
    }

    /// Whether it takes nothing more.
    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Whether another request may join the staged frame.
    pub(super) fn has_room(&self) -> bool {
        self.frame.len_bytes() < self.options.group_bytes_max
    }

    /// The number of the last request staged.
    pub(super) fn staged_seq(&self) -> Option<IoSeq> {
        self.seq
    }

    /// The options that it was opened with.
    #[cfg(feature = "mutants")]
    pub(super) fn options(&self) -> &WalOptions {
        &self.options
    }

    /// From now on a thread of its own prepares each next segment ahead of time. Without it a segment is prepared when
    /// it is needed, by whoever commits.
    pub(super) fn prepare_in_background(&mut self) {
        let disk = Arc::clone(&self.disk);
        let (dir, options) = (self.dir.clone(), self.options.clone());
        self.preparer = Some(Preparer::start(disk, dir, options, Arc::clone(&self.stats)));
        self.order_next();
    }

    /// Checks a request against the rules and carries it out on `shape`.
    fn admit(&mut self, io: &Io) -> Result<(), Violation> {
        if let Some(expected) = self.seq.map(|seq| seq + 1)
            && io.seq != expected
        {
            return Err(Violation::SeqGap { expected });
        }
        if let Some(state) = io.hard_state {
            self.shape.set_hard_state(state)?;
        }
        if let Some(to) = io.reset {
            self.shape.reset(to);
        }
        if let Some(from) = io.truncate_from {
            self.shape.truncate(from)?;
        }
        let mut bytes = self.frame.len_bytes() as u64 + record::REQUEST_BYTES_MAX;
        for entry in io.entries.iter() {
            self.shape.append(entry.position())?;
            bytes += record::entry_bytes(entry);
        }
        if io.trusted {
            self.shape.trust();
        }
        if bytes > u64::from(u32::MAX) {
            return Err(Violation::TooLarge { bytes });
        }
        Ok(())
    }

    /// Makes sure that the staged frame fits, if need be into another segment, which it then opens.
    fn make_room(&mut self) -> Result<(), WalError> {
        if !self.opens_segment() {
            if self.frame_fits() {
                return Ok(());
            }
            self.next_segment()?;
        }
        self.frame.open_with(self.lsn_next - 1, &self.written);
        match self.frame_fits() {
            true => Ok(()),
            false => self.enlarge(),
        }
    }

    fn opens_segment(&self) -> bool {
        self.offset == self.current.first_frame_at()
    }

    fn frame_fits(&self) -> bool {
        let extent = self.frame.extent_bytes(self.current.align_bytes) as u64;
        self.current.fits(self.offset, extent)
    }

    fn write_frame(&mut self) -> Result<(), WalError> {
        let (header, bytes) = self.frame.seal(Place {
            segment: self.current.number,
            lsn: self.lsn_next,
            durable_lsn: self.lsn_next - 1,
            prev_crc: self.prev_crc,
            end: self.shape.end(),
            hard_state: self.shape.hard_state(),
            suspect: self.shape.suspect(),
            align_bytes: self.current.align_bytes,
        });
        let Segment { file, path, .. } = &self.current;
        file.write_all_at(bytes, self.offset)
            .map_err(|source| WalError::io("write to the log", path, source))?;
        let before = Instant::now();
        file.sync_data()
            .map_err(|source| WalError::io("sync the log", path, source))?;
        self.stats.synced(bytes.len() as u64, before.elapsed());

        self.offset += bytes.len() as u64;
        self.lsn_next += 1;
        self.prev_crc = header.crc;
        self.frame.clear();
        self.written.clone_from(&self.shape);
        let current = self.held.back_mut().expect("the current segment is held");
        current.index_max = current.index_max.max(mem::take(&mut self.staged_index_max));
        if let Some(preparer) = &mut self.preparer {
            preparer.keep_up(self.offset);
        }
        Ok(())
    }

    /// Leaves the current segment, everything in which is durable, for the next one.
    fn next_segment(&mut self) -> Result<(), WalError> {
        let number = self.current.number + 1;
        self.current = match mem::replace(&mut self.next, Next::Missing) {
            Next::Ready(segment) => segment,
            Next::Missing => Segment::prepare(&*self.disk, &self.dir, number, &self.options, 0)?,
            Next::Ordered => match self.preparer.as_ref().and_then(Preparer::take) {
                Some(segment) => segment?,
                None => {
                    self.next = Next::Ordered;
                    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                    let path = self.dir.join(segment::file_name(number));
                    return Err(WalError::io("prepare the log segment", &path, full));
                }
            },
        };
        self.held.push_back(Held { number, index_max: 0 });
        self.stats.set_segments(self.held.len());
        self.offset = self.current.first_frame_at();
        self.order_next();
        Ok(())
    }

    /// Makes the current segment, which is empty, large enough for a huge frame.
    fn enlarge(&mut self) -> Result<(), WalError> {
        let number = self.current.number;
        let frame_bytes = self.frame.extent_bytes(self.options.align_bytes as usize) as u64;
        self.current = Segment::prepare(&*self.disk, &self.dir, number, &self.options, frame_bytes)?;
        self.offset = self.current.first_frame_at();
        Ok(())
    }

    fn order_next(&mut self) {
        if let (Some(preparer), Next::Missing) = (&mut self.preparer, &self.next) {
            preparer.order(self.current.number + 1);
            preparer.keep_up(self.offset);
            self.next = Next::Ordered;
        }
    }
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, WalError> {
    let path = dir.join("lock");
    disk.lock(&path).map_err(|error| match error {
        LockError::Held { holder } => WalError::Locked {
            dir: dir.to_owned(),
            holder,
        },
        LockError::Io(source) => WalError::io("lock", &path, source),
    })
}
