//! The log itself, without a thread: open, stage, commit.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::error::WalError;
use super::frame::{FrameBuffer, Lsn, Place, SECTOR_BYTES};
use super::prepare::Preparer;
use super::record;
use super::recover::{self, RecoveryInfo};
use super::segment::{NODE_NAME_BYTES_MAX, Segment};
use super::shape::{Shape, Violation};
use super::stats::WalStats;
use crate::disk::{Disk, DiskLock, LockError};
use crate::raft::{Io, IoSeq, Recovered};

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
    /// Where the next frame goes in `current`.
    offset: u64,
    next: Next,
    preparer: Option<Preparer>,
    /// Number of the next frame; every earlier one is durable.
    lsn_next: Lsn,
    prev_crc: u32,
    frame: FrameBuffer,
    /// The log as it will be once the staged frame is written.
    shape: Shape,
    /// The last request staged.
    seq: Option<IoSeq>,
    poisoned: bool,
    stats: Arc<WalStats>,
    /// Given back last.
    _lock: Box<dyn DiskLock>,
}

impl Wal {
    /// Opens the log in `dir`, which is created if need be, and returns with it what it holds. Takes the lock of the
    /// directory until the log is dropped.
    ///
    /// A tail that was never synced is cut off, durably, and noted in [`RecoveryInfo::cut`]; on any error nothing has
    /// been changed, except that cutting or creating may itself have failed half way, which the next open continues.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
    ) -> Result<(Wal, Recovered, RecoveryInfo), WalError> {
        options.check()?;
        disk.create_dir_all(dir)
            .map_err(|source| WalError::io("create the directory", dir, source))?;
        let lock = take_lock(&*disk, dir)?;
        let (current, next, scan) = match recover::scan(&*disk, dir, &options)? {
            Some(mut scan) => {
                scan.clean(&*disk, dir)?;
                let mut open = mem::take(&mut scan.open).into_iter();
                let current = open.next().expect("a log that exists has a segment");
                (current, open.next().map_or(Next::Missing, Next::Ready), scan)
            }
            None => {
                let first = Segment::prepare(&*disk, dir, 1, &options, 0)?;
                let scan = recover::Scan::empty(first.first_frame_at());
                (first, Next::Missing, scan)
            }
        };
        let wal = Wal {
            disk,
            dir: dir.to_owned(),
            options,
            current,
            offset: scan.offset,
            next,
            preparer: None,
            lsn_next: scan.lsn_next,
            prev_crc: scan.prev_crc,
            frame: FrameBuffer::default(),
            shape: scan.shape,
            seq: None,
            poisoned: false,
            stats: Arc::default(),
            _lock: lock,
        };
        Ok((wal, scan.recovered, scan.info))
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
        Ok(())
    }

    /// Makes everything staged durable: one write, one sync. The first failure poisons the log for good.
    pub fn commit(&mut self) -> Result<(), WalError> {
        if self.poisoned {
            return Err(WalError::Poisoned);
        }
        if self.frame.is_empty() {
            return Ok(());
        }
        let outcome = self.write_frame();
        self.poisoned = outcome.is_err();
        outcome
    }

    /// How large the staged frame is so far.
    pub fn staged_bytes(&self) -> usize {
        self.frame.len_bytes()
    }

    /// The counters of this log; they outlive it.
    pub fn stats(&self) -> Arc<WalStats> {
        Arc::clone(&self.stats)
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
        self.preparer = Some(Preparer::start(disk, self.dir.clone(), self.options.clone()));
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
        if let Some(from) = io.truncate_from {
            self.shape.truncate(from)?;
        }
        let mut bytes = self.frame.len_bytes() as u64 + record::REQUEST_BYTES_MAX;
        for entry in io.entries.iter() {
            self.shape.append(entry.position())?;
            bytes += record::entry_bytes(entry);
        }
        if bytes > u64::from(u32::MAX) {
            return Err(Violation::TooLarge { bytes });
        }
        Ok(())
    }

    fn write_frame(&mut self) -> Result<(), WalError> {
        let extent = self.frame.extent_bytes(self.current.align_bytes) as u64;
        if !self.current.fits(self.offset, extent) {
            self.next_segment()?;
        }
        let (header, bytes) = self.frame.seal(Place {
            segment: self.current.number,
            lsn: self.lsn_next,
            durable_lsn: self.lsn_next - 1,
            prev_crc: self.prev_crc,
            end: self.shape.end(),
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
        Ok(())
    }

    /// Leaves the current segment, everything in which is durable, for one with room for the staged frame.
    fn next_segment(&mut self) -> Result<(), WalError> {
        let number = self.current.number + 1;
        let prepared = match mem::replace(&mut self.next, Next::Missing) {
            Next::Ready(segment) => Some(segment),
            Next::Ordered => match self.preparer.as_ref().map(Preparer::take) {
                Some(Ok(segment)) => Some(segment),
                // Space may have been freed since; what has been tried is begun anew from an empty file.
                Some(Err(error)) if error.is_full() => None,
                Some(Err(error)) => return Err(error),
                None => None,
            },
            Next::Missing => None,
        };
        let fits = |segment: &Segment, frame: &FrameBuffer| {
            let extent = frame.extent_bytes(segment.align_bytes) as u64;
            segment.fits(segment.first_frame_at(), extent)
        };
        self.current = match prepared {
            Some(segment) if fits(&segment, &self.frame) => segment,
            _ => {
                let frame_bytes = self.frame.len_bytes() as u64;
                Segment::prepare(&*self.disk, &self.dir, number, &self.options, frame_bytes)?
            }
        };
        self.offset = self.current.first_frame_at();
        self.order_next();
        Ok(())
    }

    fn order_next(&mut self) {
        if let (Some(preparer), Next::Missing) = (&self.preparer, &self.next) {
            preparer.order(self.current.number + 1);
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
