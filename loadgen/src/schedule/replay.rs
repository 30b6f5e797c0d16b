//! Arrivals read from a file, one a line: nanoseconds after the start as a decimal number, or as `{"at":…}`, where other
//! members are ignored.
//!
//! Promises that what was read is in order and not empty, and that [`Schedule::write_to`](super::Schedule::write_to)
//! writes what reads back as the same plan. Never sorts, skips or repairs: a line that is wrong is refused by its
//! number. Memory is eight bytes an arrival, shared by all cursors; while reading, twice that.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reports::record::Nanos;
use serde::{Deserialize, Serialize, Serializer};

use super::{PlanError, Rate};

/// How many arrivals a plan file may have at most; longer ones are refused.
pub const ARRIVALS_MAX: u64 = 100_000_000;

/// How many bytes a line of a plan file may have at most; longer ones are refused.
const LINE_BYTES_MAX: u64 = 4096;

/// A plan from a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Replay {
    file: PathBuf,
    #[serde(rename = "arrivals", serialize_with = "count")]
    offsets: Arc<[Nanos]>,
}

#[derive(Deserialize)]
struct JsonLine {
    at: i64,
}

impl Replay {
    /// Reads a plan. Refuses files that are unreadable, empty, unsorted or longer than [`ARRIVALS_MAX`], and offsets
    /// that are negative or later than 292 years.
    pub fn read(file: &Path) -> Result<Replay, PlanError> {
        let opened = File::open(file).map_err(|source| PlanError::Read {
            file: file.into(),
            line: 1,
            source,
        })?;
        Replay::read_from(BufReader::with_capacity(1 << 16, opened), file, ARRIVALS_MAX)
    }

    /// The arrivals, nanoseconds after the start, in order.
    pub fn offsets(&self) -> &Arc<[Nanos]> {
        &self.offsets
    }

    /// From the start to just after the last arrival.
    pub fn length(&self) -> Duration {
        Duration::from_nanos(self.offsets.last().map_or(0, |last| last + 1))
    }

    /// Arrivals over length, rounded down to a thousandth.
    pub fn mean_rate(&self) -> Rate {
        let length = self.length().as_nanos().max(1);
        let thousandths = self.offsets.len() as u128 * 1_000_000_000_000 / length;
        Rate::per_1000_seconds(u64::try_from(thousandths).unwrap_or(u64::MAX))
    }

    fn read_from(mut input: impl BufRead, file: &Path, limit: u64) -> Result<Replay, PlanError> {
        let mut offsets: Vec<Nanos> = Vec::new();
        let mut bytes = Vec::new();
        for line in 1.. {
            let refuse = |reason: String| PlanError::line(file, line, reason);
            bytes.clear();
            let read = input
                .by_ref()
                .take(LINE_BYTES_MAX + 1)
                .read_until(b'\n', &mut bytes);
            let read = read.map_err(|source| PlanError::Read {
                file: file.into(),
                line,
                source,
            })?;
            if read == 0 {
                break;
            }
            if read as u64 > LINE_BYTES_MAX {
                return Err(refuse(format!(
                    "longer than {LINE_BYTES_MAX} bytes; one arrival a line"
                )));
            }
            if line > limit {
                return Err(refuse(format!(
                    "more than {limit} arrivals; cut the plan into several runs"
                )));
            }
            let at = offset(&bytes).map_err(refuse)?;
            if let Some(last) = offsets.last().filter(|last| at < **last) {
                return Err(refuse(format!(
                    "{at} is before {last} on the line above; sort the arrivals"
                )));
            }
            offsets.push(at);
        }
        if offsets.is_empty() {
            return Err(PlanError::line(
                file,
                1,
                "no arrivals; a plan has one offset in nanoseconds a line",
            ));
        }
        Ok(Replay {
            file: file.into(),
            offsets: offsets.into(),
        })
    }
}

/// Reads one line.
fn offset(bytes: &[u8]) -> Result<Nanos, String> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "not text".to_string())?
        .trim();
    let at = if text.starts_with('{') {
        serde_json::from_str::<JsonLine>(text)
            .map_err(|error| format!("{error}; write {{\"at\":1500000}}, whole nanoseconds after the start"))?
            .at
    } else {
        text.parse().map_err(|_| {
            format!("`{text}` is not an offset; write whole nanoseconds after the start, as in 1500000")
        })?
    };
    u64::try_from(at).map_err(|_| format!("{at} is negative; offsets count from the start of the plan"))
}

fn count<S: Serializer>(offsets: &Arc<[Nanos]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(offsets.len() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(text: &str, limit: u64) -> Result<Vec<Nanos>, String> {
        Replay::read_from(text.as_bytes(), Path::new("plan.txt"), limit)
            .map(|replay| replay.offsets.to_vec())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn both_notations_are_read_and_may_be_mixed() {
        let expected = Ok(vec![0, 5, 5, 1_000]);
        assert_eq!(
            read("0\n5\n{\"at\":5}\r\n{\"key\":\"k\",\"at\": 1000}", 10),
            expected
        );
        assert_eq!(read("0\n5\n5\n1000\n", 4), expected);
    }

    #[test]
    fn what_is_wrong_is_named_by_file_and_line() {
        let long = "1".repeat(5000);
        for (text, limit, message) in [
            ("", 9, "plan.txt:1: no arrivals"),
            ("1\n\n2\n", 9, "plan.txt:2: `` is not an offset"),
            ("1\n-3\n", 9, "plan.txt:2: -3 is negative"),
            ("{\"at\":-3}\n", 9, "plan.txt:1: -3 is negative"),
            ("1\n2\n1\n", 9, "plan.txt:3: 1 is before 2"),
            ("1.5\n", 9, "plan.txt:1: `1.5` is not an offset"),
            ("{\"at\":1.5}\n", 9, "plan.txt:1: invalid type"),
            ("{\"to\":1}\n", 9, "plan.txt:1: missing field `at`"),
            (
                "99999999999999999999\n",
                9,
                "plan.txt:1: `99999999999999999999` is not",
            ),
            ("1\n2\n3\n", 2, "plan.txt:3: more than 2 arrivals"),
            (long.as_str(), 9, "plan.txt:1: longer than 4096 bytes"),
        ] {
            let got = read(text, limit).unwrap_err();
            assert!(got.starts_with(message), "{got:?} should begin with {message:?}");
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Replay::read(Path::new("/nowhere/plan.txt"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot read the plan /nowhere/plan.txt:1: "),
            "{error}"
        );
    }
}
