//! Snapshots on disk: written beside the running state, kept one at a time, received in pieces.
//!
//! A snapshot gets its name only when all of it is on disk (written under another name, synced, renamed, the directory
//! synced), and an older one goes only after that. So whatever bears the name of a snapshot was complete once; whether
//! it still is, is checked, every byte of it, before it is used. A damaged one is set aside under another name, never
//! deleted, and never believed.

mod format;
mod incoming;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use format::{BadSnapshot, Loaded};
pub use incoming::{Incoming, IncomingError};

use crate::disk::{Disk, DiskFile};
use crate::kv::Frozen;
use crate::raft::{Index, Position, SnapshotMeta};

/// Why a snapshot could not be written, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk failed, or is full. Nothing has changed.
    #[error("cannot {action} {}", path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no thread to write it. Nothing has changed.
    #[error("cannot start a thread to write it; the limit on threads or memory may be reached")]
    Thread {
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it was written as.
    #[error("{} is no usable snapshot", path.display())]
    Bad {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BadSnapshot,
    },
}

impl SnapshotError {
    fn disk(action: &'static str, path: &Path) -> impl Fn(io::Error) -> SnapshotError {
        let path = path.to_owned();
        move |source| SnapshotError::Disk {
            action,
            path: path.clone(),
            source,
        }
    }
}

/// The snapshots of one node. Cloning it gives another way to the same directory.
#[derive(Clone)]
pub struct SnapshotDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// A snapshot on disk.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What it stands for.
    pub meta: SnapshotMeta,
    /// Names its very bytes.
    pub id: u64,
    /// How many there are.
    pub bytes: u64,
    path: PathBuf,
}

/// What a node found when it started.
#[derive(Default)]
pub struct Found {
    /// The newest snapshot that is intact, with the state in it.
    pub newest: Option<(Stored, crate::kv::Store)>,
    /// What was set aside because it is not.
    pub damaged: Vec<SnapshotError>,
}

const UNFINISHED: &str = "unfinished.tmp";

impl SnapshotDir {
    /// The snapshots in `dir`, which is created if need be: what is in there. Removes what was never finished.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(SnapshotDir, Found), SnapshotError> {
        disk.create_dir_all(dir)
            .map_err(SnapshotError::disk("create the directory", dir))?;
        let this = SnapshotDir {
            disk,
            dir: dir.to_owned(),
        };
        let names = this.names()?;
        if names.iter().any(|name| name == UNFINISHED) {
            this.remove(UNFINISHED)?;
        }
        let mut found = Found::default();
        for (_, name) in this.snapshots(&names).into_iter().rev() {
            if found.newest.is_some() {
                // Only a crash right after the newest one was put in place leaves an older one.
                this.remove(&name)?;
                continue;
            }
            let path = this.dir.join(&name);
            match this.load(&path) {
                Ok(loaded) => found.newest = Some((this.stored(path, &loaded), loaded.store)),
                Err(error @ SnapshotError::Bad { .. }) => {
                    found.damaged.push(error);
                    let aside = this.dir.join(format!("damaged-{name}"));
                    this.disk
                        .rename(&path, &aside)
                        .map_err(SnapshotError::disk("set aside", &path))?;
                }
                Err(error) => return Err(error),
            }
        }
        this.sync()?;
        Ok((this, found))
    }

    /// Writes a snapshot of `state`, durably. Meant for a thread of its own. On an error nothing has changed.
    pub fn write(&self, state: &Frozen, meta: SnapshotMeta) -> Result<Stored, SnapshotError> {
        let unfinished = self.dir.join(UNFINISHED);
        let written = self
            .write_unfinished(&unfinished, state, &meta)
            .inspect_err(|_| {
                // Gives back the space; the next start would do it as well.
                let _ = self.disk.remove(&unfinished);
            })?;
        self.put_in_place(&unfinished, meta, written)
    }

    fn write_unfinished(
        &self,
        path: &Path,
        state: &Frozen,
        meta: &SnapshotMeta,
    ) -> Result<(u64, u64), SnapshotError> {
        let failed = SnapshotError::disk("write the snapshot", path);
        let file = self.disk.create(path).map_err(&failed)?;
        let mut at = 0;
        let written = format::encode(state, meta, |piece| {
            file.write_all_at(piece, at)?;
            at += piece.len() as u64;
            Ok(())
        });
        let written = written.map_err(&failed)?;
        file.sync_data().map_err(&failed)?;
        Ok(written)
    }

    /// Gives a complete file the name of the snapshot that it holds, and removes the older ones.
    fn put_in_place(
        &self,
        unfinished: &Path,
        meta: SnapshotMeta,
        (id, bytes): (u64, u64),
    ) -> Result<Stored, SnapshotError> {
        let name = file_name(meta.last);
        let path = self.dir.join(&name);
        self.disk
            .rename(unfinished, &path)
            .map_err(SnapshotError::disk("put in place", &path))?;
        self.sync()?;
        // It is there now, whatever becomes of those that it takes the place of: they are looked for again the next time.
        if let Err(error) = self.remove_before(meta.last.index) {
            tracing::warn!(
                "cannot remove an older snapshot: {error}{}",
                crate::run::causes(&error)
            );
        }
        Ok(Stored {
            meta,
            id,
            bytes,
            path,
        })
    }

    /// Removes the snapshots that end before `index`. Somebody else may be at it as well.
    fn remove_before(&self, index: Index) -> Result<(), SnapshotError> {
        for (position, older) in self.snapshots(&self.names()?) {
            if position.index < index {
                match self.remove(&older) {
                    Err(SnapshotError::Disk { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                    outcome => outcome?,
                }
            }
        }
        self.sync()
    }

    /// Opens a snapshot for sending. It can be read to its end even if a newer one takes its place meanwhile.
    pub fn reader(&self, stored: &Stored) -> Result<Reader, SnapshotError> {
        let file = self.disk.open(&stored.path);
        Ok(Reader {
            file: file.map_err(SnapshotError::disk("open", &stored.path))?,
            stored: stored.clone(),
        })
    }

    fn load(&self, path: &Path) -> Result<Loaded, SnapshotError> {
        let failed = SnapshotError::disk("read the snapshot", path);
        let file = self.disk.open(path).map_err(&failed)?;
        let total = file.len_bytes().map_err(&failed)?;
        let loaded = format::decode(total, |at, len| {
            read_exact(&*file, at, len).map_err(ReadError::Io)
        });
        loaded.map_err(|error| match error {
            ReadError::Io(source) => failed(source),
            ReadError::Bad(source) => SnapshotError::Bad {
                path: path.to_owned(),
                source,
            },
        })
    }

    fn stored(&self, path: PathBuf, loaded: &Loaded) -> Stored {
        Stored {
            meta: loaded.meta.clone(),
            id: loaded.id,
            bytes: loaded.bytes,
            path,
        }
    }

    fn names(&self) -> Result<Vec<String>, SnapshotError> {
        self.disk
            .list(&self.dir)
            .map_err(SnapshotError::disk("list", &self.dir))
    }

    /// The snapshots among some files, oldest first.
    fn snapshots(&self, names: &[String]) -> Vec<(Position, String)> {
        let mut found: Vec<_> = names
            .iter()
            .filter_map(|name| Some((position_of(name)?, name.clone())))
            .collect();
        found.sort_by_key(|(position, _)| (position.index, position.term));
        found
    }

    fn remove(&self, name: &str) -> Result<(), SnapshotError> {
        let path = self.dir.join(name);
        self.disk
            .remove(&path)
            .map_err(SnapshotError::disk("remove", &path))
    }

    fn sync(&self) -> Result<(), SnapshotError> {
        self.disk
            .sync_dir(&self.dir)
            .map_err(SnapshotError::disk("sync the directory", &self.dir))
    }
}

enum ReadError {
    Io(io::Error),
    Bad(BadSnapshot),
}

impl From<BadSnapshot> for ReadError {
    fn from(bad: BadSnapshot) -> ReadError {
        ReadError::Bad(bad)
    }
}

/// A snapshot that is being sent.
pub struct Reader {
    file: Box<dyn DiskFile>,
    /// Which one it is.
    pub stored: Stored,
}

impl Reader {
    /// At most `len` bytes from `at` on; none at the end.
    pub fn read(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let left = self.stored.bytes.saturating_sub(at);
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        read_exact(&*self.file, at, len).map(Bytes::from)
    }
}

fn read_exact(file: &dyn DiskFile, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], at + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

fn file_name(last: Position) -> String {
    format!("snap-{:020}-{:020}.snap", last.index, last.term)
}

fn position_of(name: &str) -> Option<Position> {
    let (index, term) = name
        .strip_prefix("snap-")?
        .strip_suffix(".snap")?
        .split_once('-')?;
    let position = Position {
        index: index.parse().ok()?,
        term: term.parse().ok()?,
    };
    (file_name(position) == name).then_some(position)
}
