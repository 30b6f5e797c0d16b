//! What can go wrong with the log, named by what its reader can do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::frame::Lsn;
use super::shape::Violation;
use crate::raft::Index;

/// Why the log could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Another process has the directory: stop it, or choose another directory.
    #[error(
        "the log in {} is in use by {holder}; stop that process or use another --data-dir",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who holds the lock.
        holder: String,
    },
    /// The directory was written by another node: choose the right one.
    #[error(
        "this directory belongs to {owner}, not {asked}; use --data-dir with a directory of {asked} or an empty one \
         (looked at {})",
        path.display()
    )]
    WrongNode {
        /// The node that wrote the log.
        owner: String,
        /// The node that wanted to open it.
        asked: String,
        /// The file that says so.
        path: PathBuf,
    },
    /// A newer or older program wrote the log: use that one.
    #[error(
        "{} has log format {found}, this program reads only format {supported}; start the version that wrote it",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this program.
        supported: u32,
    },
    /// Something that was on disk is not there any more, or not as it was written: see [`Corruption`].
    #[error("{0}")]
    Corrupt(Box<Corruption>),
    /// The disk is full: free space and start again.
    #[error(
        "disk full (ENOSPC): cannot {action} {}; free space on its file system and start the node again, \
         nothing acknowledged is lost",
        path.display()
    )]
    Full {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk failed. Nothing is acknowledged after it; start the node again once the disk is trusted.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier write or sync failed; the log takes nothing more until it is opened again.
    #[error("an earlier failure ended this log; open it again to go on")]
    Poisoned,
    /// The options make no sense.
    #[error("bad log options: {0}")]
    Options(&'static str),
    /// A request breaks the rules of the log. A bug of the caller; nothing of it was written.
    #[error("request {seq} to the log is out of order, a bug")]
    Misuse {
        /// Its number.
        seq: u64,
        /// The rule that it breaks.
        source: Violation,
    },
}

impl WalError {
    /// The error for `action` on `path` having failed with `source`.
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> WalError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WalError::Full { action, path, source }
            }
            _ => WalError::Io { action, path, source },
        }
    }

    /// Whether a full disk was the reason.
    pub fn is_full(&self) -> bool {
        matches!(self, WalError::Full { .. })
    }

    /// Whether too many open files, of this process or of the system, were the reason: that passes.
    pub(super) fn is_out_of_files(&self) -> bool {
        let errno = |source: &io::Error| source.raw_os_error().map(Errno::from_raw);
        matches!(self, WalError::Io { source, .. } if matches!(errno(source), Some(Errno::EMFILE | Errno::ENFILE)))
    }
}

/// Damage that a power cut cannot explain. Nothing was changed on disk when this is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The damaged file.
    pub path: PathBuf,
    /// Where in it.
    pub offset_bytes: u64,
    /// The frame that should stand there.
    pub frame: Lsn,
    /// The lowest index of the log that may be affected.
    pub index_first: Index,
    /// The highest index of the log that is known to be affected, if anything legible tells.
    pub index_last: Option<Index>,
    /// What was seen and why it is no torn write.
    pub what: String,
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log is damaged: {} at byte {}, frame {}: {}; affects ",
            self.path.display(),
            self.offset_bytes,
            self.frame,
            self.what
        )?;
        match self.index_last {
            Some(last) if last >= self.index_first => {
                write!(f, "log index {} to at least {last}", self.index_first)?;
            }
            _ => write!(f, "everything from log index {}", self.index_first)?,
        }
        f.write_str(
            ". Nothing was changed. How much this node had acknowledged, and whom it had voted for, cannot be told any \
             more, so it must not take part. What to do: restore this file as it was from a copy of the disk; or, while a \
             majority of the cluster is healthy and goes on without this node, take it out with `server ctl member \
             remove` and add a new one under another name. Do not empty its data directory: a node that comes back \
             without its memory is refused by its peers",
        )
    }
}
