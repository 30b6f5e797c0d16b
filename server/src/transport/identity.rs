//! Which store this is: a number drawn when a data directory is made, kept in it, and never drawn again.
//!
//! A name says who a node is meant to be. Only the store remembers what it has promised, so peers hold on to its number
//! as well: a node that lost its store must not vote under the name of the one that had it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why the number of the store is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("cannot {action} {}", path.display())]
    Disk {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} does not hold the number of a store but {found:?}; restore this file from a copy of the disk",
        path.display()
    )]
    Damaged { path: PathBuf, found: String },
}

/// Forgets the number of a store whose log is gone: what will be made in its place is another store. To be called
/// before the log is opened.
pub(crate) fn forget_without_log(data_dir: &Path) -> Result<(), IdentityError> {
    let (log, path) = (data_dir.join("wal"), data_dir.join("identity"));
    let has_log = match fs::read_dir(&log) {
        Ok(items) => items
            .filter_map(Result::ok)
            .any(|item| item.file_name() != "lock"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(source) => {
            let action = "list";
            return Err(IdentityError::Disk {
                action,
                path: log,
                source,
            });
        }
    };
    if has_log {
        if !path.exists() {
            tracing::warn!(file = %path.display(), "the number of this store is gone although its log is there: it gets a new one, and peers that knew the old one will refuse it; restore the file if there is a copy of it");
        }
        return Ok(());
    }
    match fs::remove_file(&path).and_then(|()| File::open(data_dir)?.sync_all()) {
        Ok(()) => {
            tracing::warn!(dir = %data_dir.display(), "the log is gone: this is another store now, and peers that knew the old one will refuse it");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(IdentityError::Disk {
            action: "remove",
            path,
            source,
        }),
    }
}

/// The number of the store in a data directory; `fresh` from now on if it has none.
pub(crate) fn store_id(data_dir: &Path, fresh: u64) -> Result<u64, IdentityError> {
    let path = data_dir.join("identity");
    let found = match fs::read_to_string(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = fresh.max(1);
            return match replace_file(&path, &sealed(&in_text(id))) {
                Ok(()) => Ok(id),
                Err(source) => Err(IdentityError::Disk {
                    action: "write",
                    path,
                    source,
                }),
            };
        }
        Err(source) => {
            let action = "read";
            return Err(IdentityError::Disk { action, path, source });
        }
    };
    match unsealed(found.trim_end()).and_then(from_text) {
        Some(id) => Ok(id),
        None => Err(IdentityError::Damaged { path, found }),
    }
}

/// A line with a checksum at its end, so that a damaged one is noticed and not believed.
pub(super) fn sealed(line: &str) -> String {
    format!("{line} {:08x}\n", crc32c::crc32c(line.as_bytes()))
}

/// The reverse of [`sealed`].
pub(super) fn unsealed(line: &str) -> Option<&str> {
    let (text, _) = line.rsplit_once(' ')?;
    (sealed(text).trim_end() == line).then_some(text)
}

/// How the number of a store is written.
pub(super) fn in_text(store_id: u64) -> String {
    format!("{store_id:016x}")
}

/// The reverse of [`in_text`]. 0 is the number of no store.
pub(super) fn from_text(text: &str) -> Option<u64> {
    let id = u64::from_str_radix(text, 16).ok()?;
    (id != 0 && in_text(id) == text).then_some(id)
}

/// Puts a whole new file in the place of an old one, so that a crash leaves either of them.
pub(super) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_store_keeps_its_number() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(store_id(dir.path(), 0).unwrap(), 1, "0 means none");
        assert_eq!(store_id(dir.path(), 77).unwrap(), 1);
        fs::create_dir(dir.path().join("wal")).unwrap();
        fs::write(dir.path().join("wal/00000001.wal"), "").unwrap();
        forget_without_log(dir.path()).unwrap();
        assert_eq!(store_id(dir.path(), 77).unwrap(), 1);
    }

    #[test]
    fn a_store_whose_log_is_gone_is_another_store() {
        let dir = tempfile::tempdir().unwrap();
        forget_without_log(&dir.path().join("not made yet")).unwrap();
        assert_eq!(store_id(dir.path(), 5).unwrap(), 5);
        fs::create_dir(dir.path().join("wal")).unwrap();
        fs::write(dir.path().join("wal/lock"), "").unwrap();
        forget_without_log(dir.path()).unwrap();
        assert_eq!(store_id(dir.path(), 6).unwrap(), 6);
    }

    #[test]
    fn a_damaged_number_is_reported_and_kept() {
        let sealed = sealed("0000000000000000");
        for text in [
            "",
            "zz",
            "12",
            "0000000000000001\n",
            "0000000000000001 00000000\n",
            sealed.as_str(),
        ] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("identity"), text).unwrap();
            let error = store_id(dir.path(), 7).unwrap_err();
            assert!(
                matches!(error, IdentityError::Damaged { .. }),
                "{text:?}: {error}"
            );
            assert_eq!(fs::read_to_string(dir.path().join("identity")).unwrap(), text);
        }
    }
}
