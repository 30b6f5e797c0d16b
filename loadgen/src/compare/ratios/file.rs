//! The file that keeps ratios: small, and readable without this program.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
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

    /// Writes them, over what was there.
    pub fn write(&self, path: &Path) -> Result<(), RatiosError> {
        let written = self.text().and_then(|text| fs::write(path, text));
        written.map_err(|source| RatiosError::Write {
            path: path.to_owned(),
            source,
        })
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
