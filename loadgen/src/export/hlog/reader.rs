//! Reads an interval log by the rules of Java's `HistogramLogScanner` and `HistogramLogReader`.
//!
//! Promises: a line that cannot be read is named by its number; only the last line may be cut short, and then the log
//! says so ([`IntervalLog::torn`]). Stricter than Java, which skips what it does not understand.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::payload::{Payload, PayloadError};
use super::{Entry, IntervalLog};
use crate::export::decimal::nanoseconds;

/// A line, at most. Beyond it the log is refused.
pub const LINE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Intervals of one log, at most: a hundred tags every second for half a day. Beyond it the log is refused.
pub const ENTRIES_MAX: usize = 4_320_000;

/// Timestamps this much below the start are offsets, not times (`HistogramLogReader`: more than a year).
const YEAR_NS: i64 = 365 * 24 * 3600 * 1_000_000_000;

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the interval log cannot be read")]
pub struct HlogError {
    /// Counted from one.
    pub line: u64,
    /// Why.
    #[source]
    pub problem: HlogProblem,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
pub enum HlogProblem {
    /// The disk.
    #[error("reading failed")]
    Io(#[source] io::Error),
    /// Not UTF-8.
    #[error("it is not UTF-8 text")]
    NotText,
    /// Longer than [`LINE_BYTES_MAX`].
    #[error("it is longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`ENTRIES_MAX`] intervals.
    #[error("the log has more than {ENTRIES_MAX} intervals; cut it into several")]
    TooMany,
    /// Another version of the format.
    #[error("the log has version {0}, and only 1.0 to 1.3 can be read")]
    Version(String),
    /// A field that is missing, or more than there should be.
    #[error("an interval is [Tag=…,]start,length,max,histogram; this line has {0} fields beside the tag")]
    Fields(usize),
    /// An empty tag.
    #[error("the tag is empty")]
    EmptyTag,
    /// A field that is no number of seconds.
    #[error("the {field} `{text}` is not a number of seconds such as 0.127")]
    Seconds {
        /// Which.
        field: &'static str,
        /// What is there.
        text: String,
    },
    /// A field that is no number.
    #[error("the largest value `{0}` is not a number")]
    Max(String),
    /// The histogram.
    #[error(transparent)]
    Payload(#[from] PayloadError),
}

impl IntervalLog {
    /// Reads a log.
    pub fn read(input: impl Read) -> Result<IntervalLog, HlogError> {
        let mut input = BufReader::new(input);
        let mut scanner = Scanner::default();
        let mut line = Vec::new();
        for number in 1.. {
            let at = |problem| HlogError {
                line: number,
                problem,
            };
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = input.by_ref().take(limit).read_until(b'\n', &mut line);
            let bytes = read.map_err(|error| at(HlogProblem::Io(error)))?;
            if bytes == 0 {
                break;
            }
            if line.len() > LINE_BYTES_MAX {
                return Err(at(HlogProblem::TooLong));
            }
            let whole = line.last() == Some(&b'\n');
            match scanner.line(&line) {
                Ok(()) => {}
                Err(_) if !whole => scanner.torn = Some(number),
                Err(problem) => return Err(at(problem)),
            }
        }
        Ok(scanner.finish())
    }

    /// Reads the log in a file.
    pub fn open(path: &Path) -> Result<IntervalLog, HlogError> {
        let file = File::open(path).map_err(|error| HlogError {
            line: 1,
            problem: HlogProblem::Io(error),
        })?;
        IntervalLog::read(file)
    }
}

/// What is known after some lines. Times are nanoseconds since the Unix epoch.
#[derive(Debug, Default)]
struct Scanner {
    start: Option<i64>,
    base: Option<i64>,
    /// Starts are absolute until all is read.
    entries: Vec<Entry>,
    comments: Vec<String>,
    torn: Option<u64>,
}

impl Scanner {
    fn line(&mut self, line: &[u8]) -> Result<(), HlogProblem> {
        let line = std::str::from_utf8(line).map_err(|_| HlogProblem::NotText)?;
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some(comment) = line.strip_prefix('#') {
            self.comment(comment)
        } else if line.is_empty() || line.starts_with("\"StartTimestamp\"") {
            Ok(())
        } else if self.entries.len() == ENTRIES_MAX {
            Err(HlogProblem::TooMany)
        } else {
            self.interval(line)
        }
    }

    fn comment(&mut self, comment: &str) -> Result<(), HlogProblem> {
        let field = |name: &str| comment.strip_prefix('[')?.strip_prefix(name)?.strip_prefix(':');
        let time = |rest: &str| {
            let text = rest.split_whitespace().next().unwrap_or_default();
            let text = text.trim_end_matches(']');
            seconds("time of the header", text)
        };
        if let Some(rest) = comment.strip_prefix("[Histogram log format version ") {
            let version = rest.trim_end_matches(']');
            match version {
                "1.0" | "1.1" | "1.2" | "1.3" => Ok(()),
                other => Err(HlogProblem::Version(other.to_owned())),
            }
        } else if let Some(rest) = field("StartTime") {
            // The first one dates the log; Java lets a later one move the time that offsets count from.
            let time = time(rest)?;
            self.start.get_or_insert(time);
            Ok(())
        } else if let Some(rest) = field("BaseTime") {
            self.base = Some(time(rest)?);
            Ok(())
        } else if field("MaxValueDivisor").is_some() {
            // It scales the third field only, which the histogram makes redundant.
            Ok(())
        } else {
            self.comments.push(comment.to_owned());
            Ok(())
        }
    }

    fn interval(&mut self, line: &str) -> Result<(), HlogProblem> {
        let (tag, rest) = match line.strip_prefix("Tag=") {
            Some(rest) => {
                let (tag, rest) = rest.split_once(',').ok_or(HlogProblem::Fields(0))?;
                if tag.is_empty() {
                    return Err(HlogProblem::EmptyTag);
                }
                (Some(tag.to_owned()), rest)
            }
            None => (None, line),
        };
        let fields: Vec<&str> = rest.split(',').map(str::trim).collect();
        let [start, length, max, histogram] = fields[..] else {
            return Err(HlogProblem::Fields(fields.len()));
        };
        let stamp = seconds("start", start)?;
        let length = match seconds("length", length)? {
            length @ 0.. => length,
            _ => {
                return Err(HlogProblem::Seconds {
                    field: "length",
                    text: length.to_owned(),
                });
            }
        };
        if !max.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(HlogProblem::Max(max.to_owned()));
        }
        let payload = Payload::from_base64(histogram)?;
        let absolute = self.absolute(stamp).ok_or_else(|| HlogProblem::Seconds {
            field: "start",
            text: start.to_owned(),
        })?;
        self.entries.push(Entry {
            tag,
            start: absolute,
            length,
            payload,
        });
        Ok(())
    }

    /// `HistogramLogReader.nextIntervalHistogram`: with a base time, stamps count from it; without one, those far below
    /// the start time count from that, and others are absolute.
    fn absolute(&mut self, stamp: i64) -> Option<i64> {
        let start = *self.start.get_or_insert_with(|| self.base.unwrap_or(stamp));
        let base = *self.base.get_or_insert(if stamp < start.saturating_sub(YEAR_NS) {
            start
        } else {
            0
        });
        base.checked_add(stamp)
    }

    fn finish(self) -> IntervalLog {
        let start = self.start.or(self.base).unwrap_or(0);
        let mut entries = self.entries;
        for entry in &mut entries {
            entry.start = entry.start.saturating_sub(start);
        }
        IntervalLog {
            start: system_time(start),
            entries,
            comments: self.comments,
            torn: self.torn,
        }
    }
}

fn seconds(field: &'static str, text: &str) -> Result<i64, HlogProblem> {
    nanoseconds(text).ok_or_else(|| HlogProblem::Seconds {
        field,
        text: text.to_owned(),
    })
}

fn system_time(ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(ns.unsigned_abs());
    let time = if ns < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    time.unwrap_or(UNIX_EPOCH)
}
