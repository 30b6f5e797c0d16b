//! A snapshot on its way in: written piece by piece to a file that survives broken connections and restarts, checked
//! as a whole, and only then put in the place of the old one.

use std::path::PathBuf;

use super::{Loaded, SnapshotDir, SnapshotError, Stored};
use crate::disk::DiskFile;
use crate::raft::Position;

/// Why a piece was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// A piece is missing, or came twice.
    #[error("a piece begins at byte {found}, but {expected} is the next that is missing")]
    Gap {
        /// Where the next piece must begin.
        expected: u64,
        /// Where it begins.
        found: u64,
    },
    /// More than was announced.
    #[error("a piece of {0} bytes reaches beyond the end that was announced")]
    TooLong(usize),
    /// Its checksum is wrong.
    #[error("a piece was damaged on its way")]
    Damaged,
    /// Less than was announced.
    #[error("bytes are missing: {have} of {total} have arrived")]
    Missing {
        /// So many have arrived,
        have: u64,
        /// of so many.
        total: u64,
    },
    /// Other bytes than were announced.
    #[error("what arrived is the snapshot {found:016x}, not {announced:016x}")]
    Another {
        /// The id that was announced.
        announced: u64,
        /// The id of what arrived.
        found: u64,
    },
    /// Another snapshot than was announced.
    #[error("what arrived ends at another entry than was announced")]
    AnotherEnd,
    /// It could not be kept, or is no snapshot.
    #[error(transparent)]
    Store(#[from] SnapshotError),
}

/// A snapshot that is being received.
pub struct Incoming {
    dir: SnapshotDir,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    last: Position,
    id: u64,
    total: u64,
    /// Everything before this has arrived, though it may not be on disk yet.
    offset: u64,
}

impl Incoming {
    /// Begins to receive the snapshot with these bytes, or goes on where an earlier connection or process ended. What was
    /// received of any other is removed.
    pub fn begin(dir: &SnapshotDir, last: Position, id: u64, total: u64) -> Result<Incoming, SnapshotError> {
        let name = format!("recv-{:020}-{:020}-{id:016x}.part", last.index, last.term);
        let mut exists = false;
        for other in dir.names()?.iter().filter(|name| name.ends_with(".part")) {
            exists |= *other == name;
            if *other != name {
                dir.remove(other)?;
            }
        }
        let path = dir.dir.join(name);
        let opened = match exists {
            true => dir.disk.open(&path),
            false => dir.disk.create(&path),
        };
        let file = opened.map_err(SnapshotError::disk("open", &path))?;
        // Bytes that a power cut has taken away read as zeros or not at all; the id over everything finds that out.
        let offset = file.len_bytes().map_err(SnapshotError::disk("look at", &path))?;
        let mut incoming = Incoming {
            dir: dir.clone(),
            path,
            file,
            last,
            id,
            total,
            offset,
        };
        if offset > total {
            incoming.start_over()?;
        }
        Ok(incoming)
    }

    /// Everything before this has arrived.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next piece.
    pub fn write(&mut self, offset: u64, bytes: &[u8], crc: u32) -> Result<(), IncomingError> {
        if offset != self.offset {
            return Err(IncomingError::Gap {
                expected: self.offset,
                found: offset,
            });
        }
        if bytes.len() as u64 > self.total - self.offset {
            return Err(IncomingError::TooLong(bytes.len()));
        }
        if crc32c::crc32c(bytes) != crc {
            return Err(IncomingError::Damaged);
        }
        self.file
            .write_all_at(bytes, offset)
            .map_err(SnapshotError::disk("write to", &self.path))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Everything has arrived: checks all of it and puts it in place, durably. What does not hold is thrown away, so that
    /// the next attempt starts over.
    pub fn finish(mut self) -> Result<(Stored, Loaded), IncomingError> {
        if self.offset != self.total {
            return Err(IncomingError::Missing {
                have: self.offset,
                total: self.total,
            });
        }
        self.file
            .sync_data()
            .map_err(SnapshotError::disk("sync", &self.path))?;
        match self.check() {
            Ok(loaded) => {
                let written = (loaded.id, loaded.bytes);
                let stored = self.dir.put_in_place(&self.path, loaded.meta.clone(), written)?;
                Ok((stored, loaded))
            }
            Err(error) => {
                self.start_over()?;
                Err(error)
            }
        }
    }

    fn check(&self) -> Result<Loaded, IncomingError> {
        let loaded = self.dir.load(&self.path)?;
        if loaded.id != self.id {
            return Err(IncomingError::Another {
                announced: self.id,
                found: loaded.id,
            });
        }
        match loaded.meta.last == self.last {
            true => Ok(loaded),
            false => Err(IncomingError::AnotherEnd),
        }
    }

    fn start_over(&mut self) -> Result<(), SnapshotError> {
        self.file = self
            .dir
            .disk
            .create(&self.path)
            .map_err(SnapshotError::disk("empty", &self.path))?;
        self.offset = 0;
        Ok(())
    }
}
