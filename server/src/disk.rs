//! The few file operations the write-ahead log stands on, as a seam.
//!
//! Behind [`Disk`] is either the operating system ([`OsDisk`]) or a simulated disk that loses what was not synced,
//! tears writes and fails on demand. The trait promises no more than POSIX does: a write may reach the platter in
//! any order and in part until `sync_data` returns, and a name may come and go until `sync_dir` returns.
//!
//! Nothing in here retries and nothing hides an error: what a failed sync means is for the caller to decide.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Directories, names and locks.
pub trait Disk: Send + Sync {
    /// Creates a directory and its parents; durable when it returns.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// The names of the files in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Creates an empty file, or empties the one that is there. Its name is durable after [`Disk::sync_dir`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, replacing what had it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes the exclusive lock that the file `path` stands for, without waiting. It lasts until the guard is dropped
    /// or the process ends, however it ends.
    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError>;
}

/// An open file, read and written by position.
pub trait DiskFile: Send + Sync {
    /// Reads at most `buf.len()` bytes; 0 only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf`. On error any part of it may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written to this file durable. **An error is final**: the system may have dropped the data and
    /// a second call may succeed without it.
    fn sync_data(&self) -> io::Result<()>;

    /// How long the file is.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Makes the file this long, filled with zeros, and reserves the space if the file system can.
    fn allocate(&self, len_bytes: u64) -> io::Result<()>;

    /// Asks the system to read this file from the device next time. After a failed sync its cache can hold bytes that
    /// the device never got; a log that is opened again must not believe them. Advice only.
    fn forget_cache(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A lock held; dropping it gives the lock back.
pub trait DiskLock: Send {}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("held by {holder}")]
    Held {
        /// Who, as far as they have left a note.
        holder: String,
    },
    /// The lock could not be tried.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The disk of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for item in fs::read_dir(dir)? {
            // A name that is not UTF-8 was not made by us.
            names.extend(item?.file_name().into_string());
        }
        names.sort();
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)?;
        Ok(Box::new(OsFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        // Not truncated on opening: the note in it belongs to whoever holds the lock.
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut note = String::new();
                let noted = file.read_to_string(&mut note).is_ok_and(|len| len > 0);
                let holder = if noted { note.trim() } else { "another process" };
                return Err(LockError::Held {
                    holder: holder.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        writeln!(file, "process {}", std::process::id())?;
        Ok(Box::new(OsLock { _file: file }))
    }
}

/// The lock goes when the file is closed.
struct OsLock {
    _file: File,
}

impl DiskLock for OsLock {}

struct OsFile(File);

impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(target_os = "linux")]
    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        use nix::errno::Errno;
        use nix::fcntl::{FallocateFlags, fallocate};

        let len = i64::try_from(len_bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        match fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // Not every file system can reserve; then a full disk shows when the zeros are written.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.0.set_len(len_bytes),
            Err(errno) => Err(errno.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        self.0.set_len(len_bytes)
    }

    #[cfg(target_os = "linux")]
    fn forget_cache(&self) -> io::Result<()> {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

        Ok(posix_fadvise(
            &self.0,
            0,
            0,
            PosixFadviseAdvice::POSIX_FADV_DONTNEED,
        )?)
    }
}
