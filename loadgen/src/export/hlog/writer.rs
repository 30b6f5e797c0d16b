//! Writes an interval log byte by byte as Java's `HistogramLogWriter` does: version line first, then comments, times and
//! legend, then the intervals.
//!
//! Promises: the Java tools read what this writes; a comment stays on its line. Times are rounded to milliseconds, which
//! is what the format has. Never writes a tag that would break a line: it is refused.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use super::{Entry, IntervalLog, VERSION};
use crate::export::decimal::{fixed, seconds};

/// What the third field of an interval is divided by: nanoseconds are shown as milliseconds.
pub const MAX_VALUE_DIVISOR: f64 = 1e6;

const LEGEND: &str = r#""StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram""#;

/// Whether Java takes it for a tag: not empty, without comma, space or line break.
pub fn is_valid_tag(tag: &str) -> bool {
    !tag.is_empty() && !tag.contains([',', ' ', '\r', '\n'])
}

/// Writes a log while it grows.
#[derive(Debug)]
pub struct LogWriter<W> {
    out: W,
}

impl<W: Write> LogWriter<W> {
    /// Begins a log: version, comments, times and legend. The time of every interval counts from `start`.
    pub fn begin(mut out: W, start: SystemTime, comments: &[String]) -> io::Result<LogWriter<W>> {
        writeln!(out, "#[Histogram log format version {VERSION}]")?;
        for comment in comments {
            write_comment(&mut out, comment)?;
        }
        let since = start.duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = seconds(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
        // Both, because a reader that finds only one of them has to guess what the other is.
        writeln!(
            out,
            "#[StartTime: {stamp} (seconds since epoch), {}]",
            java_date(since.as_secs())
        )?;
        writeln!(out, "#[BaseTime: {stamp} (seconds since epoch)]")?;
        writeln!(out, "#[MaxValueDivisor: {}]", fixed(MAX_VALUE_DIVISOR, 3))?;
        writeln!(out, "{LEGEND}")?;
        Ok(LogWriter { out })
    }

    /// Adds a comment, for example a fault.
    pub fn comment(&mut self, comment: &str) -> io::Result<()> {
        write_comment(&mut self.out, comment)
    }

    /// Adds the latencies of an interval; times are nanoseconds since the log's start. A tag that Java would refuse
    /// ([`is_valid_tag`]) is an error.
    pub fn interval(
        &mut self,
        tag: Option<&str>,
        start: i64,
        length: i64,
        histogram: &Histogram<u64>,
    ) -> io::Result<()> {
        self.entry_of(&Entry::new(tag, start, length, histogram), histogram.max())
    }

    /// Adds an entry of another log.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.entry_of(entry, entry.histogram().max())
    }

    /// Hands everything on, and the writer back.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn entry_of(&mut self, entry: &Entry, max: u64) -> io::Result<()> {
        if let Some(tag) = &entry.tag {
            if !is_valid_tag(tag) {
                let text = format!("the tag {tag:?} is empty or has a comma, a space or a line break in it");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            write!(self.out, "Tag={tag},")?;
        }
        writeln!(
            self.out,
            "{},{},{},{}",
            seconds(entry.start),
            seconds(entry.length),
            fixed(max as f64 / MAX_VALUE_DIVISOR, 3),
            entry.payload.to_base64()
        )
    }
}

impl IntervalLog {
    /// Writes the whole log.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut writer = LogWriter::begin(out, self.start, &self.comments)?;
        for entry in &self.entries {
            writer.entry(entry)?;
        }
        writer.finish().map(drop)
    }
}

fn write_comment(out: &mut impl Write, comment: &str) -> io::Result<()> {
    writeln!(out, "#{}", comment.replace(['\r', '\n'], " "))
}

/// `java.util.Date.toString` in UTC: `Thu Jan 01 00:00:00 UTC 1970`.
fn java_date(unix_seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = reports::record::rfc3339(unix_seconds.saturating_mul(1000));
    let day = DAYS[(unix_seconds / 86_400 % 7) as usize];
    let month = text[5..7]
        .parse::<usize>()
        .map_or("Jan", |n| MONTHS[(n - 1) % 12]);
    format!(
        "{day} {month} {} {} UTC {}",
        &text[8..10],
        &text[11..19],
        &text[..4]
    )
}

#[cfg(test)]
mod tests {
    use super::java_date;

    #[test]
    fn dates_are_those_of_java() {
        assert_eq!(java_date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(java_date(1_441_812_279), "Wed Sep 09 15:24:39 UTC 2015");
        assert_eq!(java_date(1_709_164_800), "Thu Feb 29 00:00:00 UTC 2024");
    }
}
