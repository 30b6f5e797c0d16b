//! The record of a run, and the page that shows it.
//!
//! [`record`] owns what a run looks like on disk: one folder, a version, files that older and newer tools can read.
//! Everything else here turns a record into something a person can look at.
//!
//! This crate never touches the network and has no async code. [`render`] is a pure function of a record: no clock, no
//! disk, no randomness. Only [`record`] reads and writes files, and only its probe looks at a clock.

pub mod cli;
mod format;
mod html;
pub mod record;
mod text;
mod view;

use std::path::PathBuf;

pub use html::render;
pub use text::{LINES_MAX, SUMMARY_VERSION, summary, summary_json};

use record::{REPORT_FILE, RecordError, Run, RunFolder};

/// Reads a run folder and writes its `report.html`; tells where.
pub fn render_folder(folder: &RunFolder) -> Result<PathBuf, RecordError> {
    write_report(folder, &Run::read(folder)?)
}

/// Writes `report.html` for a run that was read before; tells where.
pub fn write_report(folder: &RunFolder, run: &Run) -> Result<PathBuf, RecordError> {
    folder.write_file(REPORT_FILE, render(run).as_bytes())
}
