//! What can go wrong between a run and its folder, named by what the reader can do next.

use std::io;
use std::path::{Path, PathBuf};

use super::SCHEMA_VERSION;

/// A run folder that could not be made, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The folder already holds something; a run never writes over another.
    #[error("{} is not empty; give another folder, or move the old run away", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Nothing in the folder belongs to a run.
    #[error(
        "{} is not a run: it is no folder that holds manifest.json, history.jsonl, load.json, timeline.json or \
         verdict.json; give the folder that `loadgen run` or `chaos run` printed",
        path.display()
    )]
    NotARun {
        /// What was given.
        path: PathBuf,
    },
    /// Written by a newer tool.
    #[error(
        "{} has schema version {found}, and this tool knows up to {SCHEMA_VERSION}; update `{tool}` to read it{}",
        path.display(),
        written_by(writer_version)
    )]
    FutureSchema {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u64,
        /// The tool to update.
        tool: String,
        /// Version of the tool that wrote it, where it said so.
        writer_version: Option<String>,
    },
    /// A file that is not what its name promises.
    #[error("{} is damaged or was not written by this suite", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// A line of the history, other than a torn last one, is no event.
    #[error("{} line {line} is not a history event", path.display())]
    HistoryLine {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: u64,
        /// Where in the line, and why.
        #[source]
        source: serde_json::Error,
    },
    /// The operating system refused.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl RecordError {
    /// Whether the reader gave something that is not a (readable) run, as opposed to a failing disk.
    pub fn is_not_a_run(&self) -> bool {
        !matches!(self, RecordError::Io { .. })
    }
}

/// Turns an I/O error into ours: `.map_err(io_error("create", path))`.
pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io { what, path, source }
}

fn written_by(version: &Option<String>) -> String {
    version
        .as_ref()
        .map(|v| format!(" (it was written by version {v})"))
        .unwrap_or_default()
}
