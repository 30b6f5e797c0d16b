//! One file of the log.
//!
//! A segment gets its name only when it is complete: zero-filled, its header written, everything synced. So whatever
//! bears the name of a segment has an intact header, and its frames are written over zeros into space that exists.
//!
//! ```text
//! 0  magic [8]   8 crc u32 (over 12..512)   12 version u32   16 number u64
//! 24 segment_bytes u64   32 align_bytes u32   36 name_len u16   38 name
//! ```
//!
//! Frames begin at multiples of `align_bytes` behind it, the first one at `align_bytes`. If there is room before it, the
//! header stands there a second time, one sector further on.

use std::path::{Path, PathBuf};

use super::error::WalError;
use super::frame::{SECTOR_BYTES, u32_at, u64_at};
use super::log::WalOptions;
use crate::disk::{Disk, DiskFile};

/// The format that this program writes and reads.
pub(super) const VERSION: u32 = 2;

const MAGIC: [u8; 8] = *b"WWATRLOG";
const NAME_AT: usize = 38;

/// The longest name of a node, in bytes.
pub(super) const NODE_NAME_BYTES_MAX: usize = 255;
const _: () = assert!(NAME_AT + NODE_NAME_BYTES_MAX <= SECTOR_BYTES);

/// Zeros that somebody waits for are written in pieces of this size, each synced at once, so that they never pile up as dirty
/// pages in front of somebody's group commit.
pub(super) const PIECE_BYTES: usize = 1 << 20;

/// An open segment.
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) segment_bytes: u64,
    pub(super) align_bytes: usize,
}

/// Why a header was not accepted.
pub(super) enum BadHeader {
    /// It is not what a segment of this number begins with.
    Damaged(&'static str),
    Version(u32),
    WrongNode(String),
}

/// What a segment's header says, beside its number.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) segment_bytes: u64,
    pub(super) align_bytes: usize,
}

/// The name of segment `number`. Sorted as text they are in order.
pub(super) fn file_name(number: u64) -> String {
    format!("wal-{number:012}.seg")
}

/// The name of segment `number` until it is complete.
pub(super) fn unfinished_name(number: u64) -> String {
    format!("wal-{number:012}.tmp")
}

/// The number in the name of a segment; `None` for any other file.
pub(super) fn number_of(name: &str) -> Option<u64> {
    number_in(name, file_name)
}

/// The number in the name of a segment that was never finished; `None` for any other file.
pub(super) fn unfinished_number_of(name: &str) -> Option<u64> {
    number_in(name, unfinished_name)
}

/// The number that `named` gives this name to.
fn number_in(name: &str, named: fn(u64) -> String) -> Option<u64> {
    let (number, _) = name.strip_prefix("wal-")?.split_once('.')?;
    number.parse().ok().filter(|number| named(*number) == name)
}

/// Whether this is a segment that was never finished.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with("wal-") && name.ends_with(".tmp")
}

impl Segment {
    /// Makes segment `number`, complete and durable, with room for a frame of `frame_bytes`. Replaces one that exists,
    /// which must be empty.
    pub(super) fn prepare(
        disk: &dyn Disk,
        dir: &Path,
        number: u64,
        options: &WalOptions,
        frame_bytes: u64,
    ) -> Result<Segment, WalError> {
        let align = u64::from(options.align_bytes);
        let segment_bytes = options
            .segment_bytes
            .max((frame_bytes + align).next_multiple_of(align));
        let unfinished = dir.join(unfinished_name(number));
        filled_at_once(disk, &unfinished, segment_bytes, number, options)?.finish(dir)
    }

    /// Makes a segment like this one that holds only its first `keep` bytes and then `next`, durable but for its name:
    /// see [`Segment::put_in_place`].
    pub(super) fn rebuild(
        &self,
        disk: &dyn Disk,
        unfinished: &Path,
        data: &[u8],
        next: &[u8],
        options: &WalOptions,
    ) -> Result<Segment, WalError> {
        let len = (data.len() + next.len()) as u64;
        let segment_bytes = self
            .segment_bytes
            .max(len.next_multiple_of(self.align_bytes as u64));
        let mut options = options.clone();
        options.align_bytes = u32::try_from(self.align_bytes).expect("it was a u32");
        let file = filled_at_once(disk, unfinished, segment_bytes, self.number, &options)?.seal()?;
        let first = self.align_bytes;
        file.write_all_at(data.get(first..).unwrap_or_default(), first as u64)
            .and_then(|()| file.write_all_at(next, data.len() as u64))
            .and_then(|()| file.sync_data())
            .map_err(|source| WalError::io("write to the log segment", unfinished, source))?;
        Ok(Segment {
            number: self.number,
            path: self.path.clone(),
            file,
            segment_bytes,
            align_bytes: self.align_bytes,
        })
    }

    /// Gives a finished segment its name, durably, in place of what has it.
    pub(super) fn put_in_place(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        unfinished: &Path,
    ) -> Result<(), WalError> {
        disk.rename(unfinished, &self.path)
            .and_then(|()| disk.sync_dir(dir))
            .map_err(|source| WalError::io("put in place the log segment", &self.path, source))
    }

    /// Where the first frame begins.
    pub(super) fn first_frame_at(&self) -> u64 {
        self.align_bytes as u64
    }

    /// Whether a frame of `extent_bytes` fits at `offset`.
    pub(super) fn fits(&self, offset: u64, extent_bytes: u64) -> bool {
        offset + extent_bytes <= self.segment_bytes
    }
}

/// A segment that is being made. It has no name yet that counts for anything.
pub(super) struct Filling<'a> {
    disk: &'a dyn Disk,
    options: &'a WalOptions,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    number: u64,
    segment_bytes: u64,
    filled_bytes: u64,
}

impl<'a> Filling<'a> {
    /// Creates the file `path`, whose name is durable at once, and reserves all the space that it will need.
    pub(super) fn begin(
        disk: &'a dyn Disk,
        path: PathBuf,
        number: u64,
        segment_bytes: u64,
        options: &'a WalOptions,
    ) -> Result<Filling<'a>, WalError> {
        let file = disk
            .create(&path)
            .map_err(|source| WalError::io("create the log segment", &path, source))?;
        let filling = Filling {
            disk,
            options,
            path,
            file,
            number,
            segment_bytes,
            filled_bytes: 0,
        };
        let dir = filling.path.parent().unwrap_or(Path::new("."));
        match disk
            .sync_dir(dir)
            .and_then(|()| filling.file.allocate(segment_bytes))
        {
            Ok(()) => Ok(filling),
            Err(source) => {
                let failed = WalError::io("reserve space for the log segment", &filling.path, source);
                filling.give_up();
                Err(failed)
            }
        }
    }

    /// How much of it is zeros so far; all of these are synced.
    pub(super) fn filled_bytes(&self) -> u64 {
        self.filled_bytes
    }

    /// Whether the whole file is.
    pub(super) fn is_full(&self) -> bool {
        self.filled_bytes == self.segment_bytes
    }

    /// Writes a piece of zeros and syncs it.
    pub(super) fn fill(&mut self, piece_bytes: usize) -> Result<(), WalError> {
        let left = usize::try_from(self.segment_bytes - self.filled_bytes).unwrap_or(usize::MAX);
        let zeros = vec![0; left.min(piece_bytes)];
        self.file
            .write_all_at(&zeros, self.filled_bytes)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| WalError::io("fill the log segment", &self.path, source))?;
        self.filled_bytes += zeros.len() as u64;
        Ok(())
    }

    /// Writes the header: the file is durable now but for its name.
    pub(super) fn seal(self) -> Result<Box<dyn DiskFile>, WalError> {
        debug_assert!(self.is_full());
        let header = header(self.number, self.segment_bytes, self.options);
        let copies = if self.options.align_bytes as usize > SECTOR_BYTES {
            2
        } else {
            1
        };
        self.file
            .write_all_at(&header.repeat(copies), 0)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| WalError::io("write the header of the log segment", &self.path, source))?;
        Ok(self.file)
    }

    /// Writes the header and gives the segment its name.
    pub(super) fn finish(self, dir: &Path) -> Result<Segment, WalError> {
        let (disk, unfinished, number) = (self.disk, self.path.clone(), self.number);
        let (segment_bytes, align_bytes) = (self.segment_bytes, self.options.align_bytes as usize);
        let segment = Segment {
            number,
            path: dir.join(file_name(number)),
            file: self.seal()?,
            segment_bytes,
            align_bytes,
        };
        segment.put_in_place(disk, dir, &unfinished)?;
        Ok(segment)
    }

    /// Gives back what space it took. What fails here is done by the next open.
    pub(super) fn give_up(self) {
        let _ = self.disk.remove(&self.path);
    }
}

/// A segment filled without a rest.
fn filled_at_once<'a>(
    disk: &'a dyn Disk,
    path: &Path,
    segment_bytes: u64,
    number: u64,
    options: &'a WalOptions,
) -> Result<Filling<'a>, WalError> {
    let mut filling = Filling::begin(disk, path.to_owned(), number, segment_bytes, options)?;
    while !filling.is_full() {
        if let Err(error) = filling.fill(PIECE_BYTES) {
            filling.give_up();
            return Err(error);
        }
    }
    Ok(filling)
}

fn header(number: u64, segment_bytes: u64, options: &WalOptions) -> [u8; SECTOR_BYTES] {
    let mut header = [0; SECTOR_BYTES];
    let mut put = |at: usize, value: &[u8]| header[at..at + value.len()].copy_from_slice(value);
    let name = options.node.as_bytes();
    let name_len = u16::try_from(name.len()).expect("the options were checked");
    put(0, &MAGIC);
    put(12, &VERSION.to_le_bytes());
    put(16, &number.to_le_bytes());
    put(24, &segment_bytes.to_le_bytes());
    put(32, &options.align_bytes.to_le_bytes());
    put(36, &name_len.to_le_bytes());
    put(NAME_AT, name);
    let crc = crc32c::crc32c(&header[12..]);
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Checks that `data`, a whole file, begins with the header of segment `number` of `node`, at least once; and says whether
/// one of the two is damaged.
pub(super) fn check_header(data: &[u8], number: u64, node: &str) -> Result<(Layout, bool), BadHeader> {
    let second = check_copy(data, 1, number, node);
    match check_copy(data, 0, number, node) {
        // A header that fills the alignment has no copy: a frame stands behind it.
        Ok(layout) => Ok((layout, layout.align_bytes > SECTOR_BYTES && second.is_err())),
        Err(BadHeader::Damaged(what)) => match second {
            Ok(layout) => Ok((layout, true)),
            Err(_) => Err(BadHeader::Damaged(what)),
        },
        Err(other) => Err(other),
    }
}

fn check_copy(data: &[u8], copy: usize, number: u64, node: &str) -> Result<Layout, BadHeader> {
    let Some(header) = data.get(copy * SECTOR_BYTES..(copy + 1) * SECTOR_BYTES) else {
        return Err(BadHeader::Damaged("the file is too short for a segment header"));
    };
    if header[..8] != MAGIC || crc32c::crc32c(&header[12..]) != u32_at(header, 8) {
        return Err(BadHeader::Damaged(
            "the header of the segment does not match its checksum",
        ));
    }
    let version = u32_at(header, 12);
    if version != VERSION {
        return Err(BadHeader::Version(version));
    }
    let name_len = usize::from(u16::from_le_bytes([header[36], header[37]]));
    let owner = header.get(NAME_AT..NAME_AT + name_len).unwrap_or_default();
    if owner != node.as_bytes() {
        return Err(BadHeader::WrongNode(String::from_utf8_lossy(owner).into_owned()));
    }
    if u64_at(header, 16) != number {
        return Err(BadHeader::Damaged(
            "the file holds another segment than its name says",
        ));
    }
    let align_bytes = u32_at(header, 32) as usize;
    if !align_bytes.is_power_of_two() || align_bytes < SECTOR_BYTES {
        return Err(BadHeader::Damaged("the header asks for an impossible alignment"));
    }
    let segment_bytes = u64_at(header, 24);
    if data.len() as u64 != segment_bytes {
        return Err(BadHeader::Damaged("the file is not as long as its header says"));
    }
    Ok(Layout {
        segment_bytes,
        align_bytes,
    })
}
