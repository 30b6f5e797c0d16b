//! The file that keeps ratios: small, and readable without this program.
//!
//! Promises: it is replaced as a whole or left as it was, and nothing but recorded ratios is ever written over.

use std::fs::{File, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tempfile::NamedTempFile;
use thiserror::Error;

use super::{Quantity, Ratio, Ratios};
use crate::compare::Metric;

/// What the file calls itself.
pub(super) const SCHEMA: &str = "whitewater-ratios";

/// Which version of it is written, and the only one that is read.
pub(super) const VERSION: u64 = 1;

pub(super) const ABOUT: &str = "Each ratio is the first target's number divided by the second's. For throughput more is better, \
     for everything else less. Written by `loadgen compare --record`.";

/// Significant digits that are kept. Ratios are not surer than that.
const DIGITS: usize = 4;

/// Bytes of an existing file that are looked at before it is written over; no file of ratios comes near that.
const LOOK_MAX: u64 = 1 << 20;

/// Why there are no recorded ratios.
#[derive(Debug, Error)]
pub enum RatiosError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{} does not hold recorded ratios: {reason}; record them with `loadgen compare --record`", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Ratios were to be written over something else.
    #[error("{} is not written over: {reason}; name a new file, or one that `loadgen compare --record` has written", path.display())]
    Occupied {
        /// Over what.
        path: PathBuf,
        /// What it is.
        reason: String,
    },
}

impl Ratios {
    /// Reads recorded ratios. Refuses what is not entirely understood.
    pub fn read(path: &Path) -> Result<Ratios, RatiosError> {
        let text = fs::read(path).map_err(|source| RatiosError::Read {
            path: path.to_owned(),
            source,
        })?;
        parse(&text).map_err(|reason| RatiosError::Malformed {
            path: path.to_owned(),
            reason,
        })
    }

    /// Finds out whether [`Ratios::write`] could write there, and leaves nothing behind. Refuses what is there and is no
    /// file of ratios, and folders in which no file can be made.
    pub fn check_writable(path: &Path) -> Result<(), RatiosError> {
        refuse_occupied(path)?;
        let folder = folder(path);
        // Missing folders are made when there is something to write.
        let existing = folder.ancestors().map(or_here).find(|folder| folder.exists());
        let made = temporary(existing.unwrap_or(folder.as_path()));
        made.map(drop).map_err(write_error(path))
    }

    /// Writes them, over ratios that were there; as a whole or not at all. Makes the folder if it is missing.
    pub fn write(&self, path: &Path) -> Result<(), RatiosError> {
        refuse_occupied(path)?;
        // A link stays one.
        let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let written = || {
            let folder = folder(&target);
            fs::create_dir_all(&folder)?;
            let mut file = temporary(&folder)?;
            file.write_all(self.text()?.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&target)?;
            // The new name itself lives in the folder.
            File::open(&folder)?.sync_all()
        };
        written().map_err(write_error(path))
    }

    /// As the file has it.
    pub(super) fn text(&self) -> io::Result<String> {
        let mut rounded = self.clone();
        for ratio in &mut rounded.ratios {
            let numbers = [
                &mut ratio.ratio,
                &mut ratio.low,
                &mut ratio.high,
                &mut ratio.confidence,
            ];
            numbers.into_iter().for_each(|number| *number = round(*number));
        }
        Ok(serde_json::to_string_pretty(&rounded)? + "\n")
    }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> RatiosError {
    let path = path.to_owned();
    |source| RatiosError::Write { path, source }
}

/// Where the file is, or will be.
fn folder(path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    or_here(path.parent().unwrap_or(&path)).to_owned()
}

fn or_here(folder: &Path) -> &Path {
    match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    }
}

/// A file that is gone unless it gets another name, with the permissions that a new file has.
fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(".ratios")
        .suffix(".tmp")
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder)
}

/// Refuses what is there and is no file of ratios of any version.
fn refuse_occupied(path: &Path) -> Result<(), RatiosError> {
    let occupied = |reason: &str| {
        Err(RatiosError::Occupied {
            path: path.to_owned(),
            reason: reason.to_owned(),
        })
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return occupied("it is a folder"),
        Ok(found) if !found.is_file() => return occupied("it is no ordinary file"),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match path.as_os_str().as_encoded_bytes().ends_with(b"/") {
                true => occupied("a name that ends with / is that of a folder"),
                false => Ok(()),
            };
        }
        Err(error) => return Err(write_error(path)(error)),
    }
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LOOK_MAX).read_to_end(&mut text));
    read.map_err(|source| RatiosError::Read {
        path: path.to_owned(),
        source,
    })?;
    let document: Value = serde_json::from_slice(&text).unwrap_or_default();
    match document.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) => Ok(()),
        _ => occupied("it holds something else than recorded ratios"),
    }
}

fn round(number: f64) -> f64 {
    format!("{number:.*e}", DIGITS - 1).parse().unwrap_or(number)
}

pub(super) fn parse(text: &[u8]) -> Result<Ratios, String> {
    let document: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    // First of all, so that a file of another kind or time is called that.
    match document.get("schema").and_then(Value::as_str) {
        Some(SCHEMA) => {}
        Some(other) => return Err(format!("its schema is `{other}`, not `{SCHEMA}`")),
        None => return Err(format!("it has no schema; `{SCHEMA}` is expected")),
    }
    match document.get("version").and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => {
            return Err(format!(
                "its version is {other}, and only {VERSION} is understood"
            ));
        }
        None => return Err("it has no version".into()),
    }
    let ratios: Ratios = serde_json::from_value(document).map_err(|error| error.to_string())?;
    if ratios.ratios.is_empty() {
        return Err("it holds no ratio".into());
    }
    for (at, ratio) in ratios.ratios.iter().enumerate() {
        check(ratio)?;
        let before = &ratios.ratios[..at];
        if before.iter().any(|other| other.quantity == ratio.quantity) {
            return Err(format!("it holds {} twice", ratio.quantity));
        }
    }
    Ok(ratios)
}

fn check(ratio: &Ratio) -> Result<(), String> {
    let Ratio {
        quantity,
        ratio,
        low,
        high,
        confidence,
    } = *ratio;
    if !(low > 0.0 && high.is_finite() && low <= ratio && ratio <= high) {
        return Err(format!(
            "{quantity} is {ratio} within {low} to {high}: a ratio lies above zero and within its interval"
        ));
    }
    if !(0.0..1.0).contains(&confidence) {
        return Err(format!(
            "the confidence of {quantity} is {confidence}, not a part of one"
        ));
    }
    Ok(())
}

/// A quantity by its name, of those of which there are ratios.
pub(super) fn quantity<'de, D: Deserializer<'de>>(from: D) -> Result<Metric, D::Error> {
    let name = String::deserialize(from)?;
    let known = || Quantity::ALL.into_iter().flat_map(Quantity::metrics).copied();
    let found = known().find(|metric| metric.to_string() == name);
    found.ok_or_else(|| {
        let known: Vec<String> = known().map(|metric| metric.to_string()).collect();
        serde::de::Error::custom(format!("`{name}` is no quantity; there are {}", known.join(", ")))
    })
}
