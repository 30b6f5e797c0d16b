//! `history.jsonl` on disk: appended while the run goes on, read back line by line.
//!
//! Promises: a write error reaches the caller; a last line torn by a crash is told, not fatal; any other line that is no
//! event is an error with its number. Never holds more than one buffer of events that the file does not have yet:
//! call [`HistoryWriter::flush`] as often as losing events would hurt.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::error::io_error;
use super::{Event, RecordError};

const BUFFER_BYTES: usize = 64 * 1024;

/// Appends events to a new history.
#[derive(Debug)]
pub struct HistoryWriter {
    path: PathBuf,
    out: BufWriter<File>,
    line: Vec<u8>,
}

impl HistoryWriter {
    /// Starts a history; the file must not exist.
    pub fn create(path: &Path) -> Result<HistoryWriter, RecordError> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(io_error("create the history", path))?;
        Ok(HistoryWriter {
            path: path.to_owned(),
            out: BufWriter::with_capacity(BUFFER_BYTES, file),
            line: Vec::with_capacity(256),
        })
    }

    /// Adds one event.
    pub fn append(&mut self, event: &Event) -> Result<(), RecordError> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event).map_err(|source| RecordError::Malformed {
            path: self.path.clone(),
            source,
        })?;
        self.line.push(b'\n');
        self.out
            .write_all(&self.line)
            .map_err(io_error("append to", &self.path))
    }

    /// Hands everything so far to the operating system.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.out.flush().map_err(io_error("append to", &self.path))
    }

    /// Ends the history: flushed and on disk.
    pub fn finish(mut self) -> Result<(), RecordError> {
        self.flush()?;
        self.out
            .get_ref()
            .sync_all()
            .map_err(io_error("sync", &self.path))
    }
}

/// Reads a history event by event.
///
/// After the last event, [`HistoryReader::torn`] tells whether the file ended inside a line.
#[derive(Debug)]
pub struct HistoryReader {
    path: PathBuf,
    input: BufReader<File>,
    line: Vec<u8>,
    line_number: u64,
    torn: Option<TornLine>,
    ended: bool,
}

/// The end of a history whose writer was stopped inside a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornLine {
    /// Its number, counted from one.
    pub line: u64,
    /// How much of it there is.
    pub bytes: usize,
}

/// A whole history in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Its events, in the order they were written.
    pub events: Vec<Event>,
    /// Set if the last line was cut short; it is not among the events.
    pub torn: Option<TornLine>,
}

impl HistoryReader {
    /// Opens a history.
    pub fn open(path: &Path) -> Result<HistoryReader, RecordError> {
        let file = File::open(path).map_err(io_error("open the history", path))?;
        Ok(HistoryReader {
            path: path.to_owned(),
            input: BufReader::with_capacity(BUFFER_BYTES, file),
            line: Vec::new(),
            line_number: 0,
            torn: None,
            ended: false,
        })
    }

    /// Whether, and where, the file ended inside a line. Known once the iterator has ended.
    pub fn torn(&self) -> Option<TornLine> {
        self.torn
    }

    /// Reads to the end.
    pub fn read_all(mut self) -> Result<History, RecordError> {
        let events = self.by_ref().collect::<Result<Vec<_>, _>>()?;
        Ok(History {
            events,
            torn: self.torn,
        })
    }

    fn read_event(&mut self) -> Result<Option<Event>, RecordError> {
        loop {
            self.line.clear();
            let bytes = self
                .input
                .read_until(b'\n', &mut self.line)
                .map_err(io_error("read", &self.path))?;
            if bytes == 0 {
                return Ok(None);
            }
            self.line_number += 1;
            let whole = self.line.last() == Some(&b'\n');
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            return match serde_json::from_slice(&self.line) {
                Ok(event) => Ok(Some(event)),
                Err(_) if !whole => {
                    self.torn = Some(TornLine {
                        line: self.line_number,
                        bytes,
                    });
                    Ok(None)
                }
                Err(source) => Err(RecordError::HistoryLine {
                    path: self.path.clone(),
                    line: self.line_number,
                    source,
                }),
            };
        }
    }
}

impl Iterator for HistoryReader {
    type Item = Result<Event, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read_event().transpose();
        // After an error nothing that follows can be placed, so it is the last item.
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}
