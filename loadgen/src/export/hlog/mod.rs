//! The HdrHistogram interval log, version 1.3: histograms of consecutive intervals, a line each.
//!
//! The format is that of the Java tools (`HistogramLogWriter`, `HistogramLogReader`, `HistogramLogScanner` of HdrHistogram
//! 2.2.2). Payloads are base64 of the V2 encoding, plain or compressed.
//!
//! Promises: a log that was read holds only histograms that were unpacked once and found sound; times are exact to the
//! nanosecond; adding histograms up never lowers the number of digits that any of them keeps. Histograms stay packed
//! until they are asked for, because a long run has tens of thousands and each takes a hundred kilobytes unpacked.
//! Never interpolates within an interval.

mod payload;
mod reader;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use hdrhistogram::Histogram;

pub use payload::{HISTOGRAM_BYTES_MAX, PayloadError};
pub use reader::{ENTRIES_MAX, HlogError, HlogProblem, LINE_BYTES_MAX};
pub use writer::{LogWriter, MAX_VALUE_DIVISOR, is_valid_tag};

use payload::Payload;

/// The only version that this module reads and writes (it reads the earlier ones with the same major number, which
/// lack tags).
pub const VERSION: &str = "1.3";

/// An interval log in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalLog {
    /// When the log begins: what it calls `StartTime`; without one its `BaseTime`, without that the absolute time of
    /// the first interval. (Java takes the first interval's time in the second case too, although that is an offset
    /// there.)
    pub start: SystemTime,
    /// The intervals, in the order of the log.
    pub entries: Vec<Entry>,
    /// Comments without their `#`, except those with a meaning of their own: version, times and divisor.
    pub comments: Vec<String>,
    /// Number of the last line, if the log ended inside it and what there was could not be read; it is not among the
    /// entries.
    pub torn: Option<u64>,
}

/// The latencies of one interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What they are latencies of, for example `put.ok.response`; the headline series has no tag.
    pub tag: Option<String>,
    /// When the interval begins, in nanoseconds since [`IntervalLog::start`].
    pub start: i64,
    /// How long it is, in nanoseconds.
    pub length: i64,
    payload: Payload,
}

impl Entry {
    /// Packs a histogram.
    pub fn new(tag: Option<&str>, start: i64, length: i64, histogram: &Histogram<u64>) -> Entry {
        Entry {
            tag: tag.map(str::to_owned),
            start,
            length,
            payload: Payload::pack(histogram),
        }
    }

    /// Unpacks the histogram.
    pub fn histogram(&self) -> Histogram<u64> {
        self.payload.unpack()
    }
}

impl IntervalLog {
    /// A log without intervals.
    pub fn empty(start: SystemTime) -> IntervalLog {
        IntervalLog {
            start,
            entries: Vec::new(),
            comments: Vec::new(),
            torn: None,
        }
    }

    /// The tags in the log; nothing stands for the headline series.
    pub fn tags(&self) -> BTreeSet<Option<&str>> {
        self.entries.iter().map(|entry| entry.tag.as_deref()).collect()
    }

    /// The entries of one tag, or with nothing those of the headline series.
    pub fn tagged<'a>(&'a self, tag: Option<&'a str>) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.tag.as_deref() == tag)
    }

    /// All latencies of a tag; nothing if the log does not have it.
    pub fn total(&self, tag: Option<&str>) -> Option<Histogram<u64>> {
        let mut entries = self.tagged(tag).peekable();
        entries.peek()?;
        Some(sum(entries))
    }

    /// The latencies of a tag in the intervals that begin at or after `from` and before `to`, in nanoseconds since the
    /// log's start, which is how the Java tools choose; nothing if the log does not have the tag.
    pub fn between(&self, tag: Option<&str>, from: i64, to: i64) -> Option<Histogram<u64>> {
        let mut entries = self.tagged(tag).peekable();
        entries.peek()?;
        Some(sum(entries.filter(|entry| (from..to).contains(&entry.start))))
    }
}

/// Adds up the logs of several generators of one run: histograms of the same tag and interval become one. Intervals are
/// matched by their time since the start of their own log, because the generators of a run begin together while their
/// wall clocks differ. Entries are ordered by time, then tag; comments are kept in order, each once.
///
/// Nothing is lost: an interval that only one log has is kept as it is.
pub fn merge(logs: &[IntervalLog]) -> IntervalLog {
    let start = logs.iter().map(|log| log.start).min();
    let mut merged = IntervalLog::empty(start.unwrap_or(SystemTime::UNIX_EPOCH));
    let mut groups = BTreeMap::<(i64, i64, Option<&str>), Vec<&Entry>>::new();
    for log in logs {
        for entry in &log.entries {
            let key = (entry.start, entry.length, entry.tag.as_deref());
            groups.entry(key).or_default().push(entry);
        }
        for comment in &log.comments {
            if !merged.comments.contains(comment) {
                merged.comments.push(comment.clone());
            }
        }
    }
    merged.entries = groups.into_values().map(add_up).collect();
    merged
}

/// Packs a histogram as in a log, but in bytes.
pub(crate) fn pack(histogram: &Histogram<u64>) -> Vec<u8> {
    Payload::pack(histogram).into_bytes()
}

/// Unpacks what [`pack`] made, wherever it comes from.
pub(crate) fn unpack(bytes: &[u8]) -> Result<Histogram<u64>, PayloadError> {
    payload::decode(bytes)
}

/// One entry for those of one interval and tag.
fn add_up(group: Vec<&Entry>) -> Entry {
    let first = group[0];
    if group.len() == 1 {
        return first.clone();
    }
    Entry::new(
        first.tag.as_deref(),
        first.start,
        first.length,
        &sum(group.into_iter()),
    )
}

fn sum<'a>(entries: impl Iterator<Item = &'a Entry>) -> Histogram<u64> {
    let mut total = growing(crate::percentiles::DIGITS);
    let mut empty = true;
    for entry in entries {
        let histogram = entry.histogram();
        let digits = histogram.sigfig();
        if empty {
            total = growing(digits);
            empty = false;
        } else if digits > total.sigfig() {
            let coarser = std::mem::replace(&mut total, growing(digits));
            add(&mut total, &coarser);
        }
        add(&mut total, &histogram);
    }
    total
}

fn growing(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("the digits are those of a histogram that exists")
}

fn add(total: &mut Histogram<u64>, histogram: &Histogram<u64>) {
    total
        .add(histogram)
        .expect("a growing histogram holds whatever 64 bits can say");
}

#[cfg(test)]
mod tests;
