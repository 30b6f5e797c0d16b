//! Why a plan cannot be had.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// What is wrong with a plan, where, and what to do.
#[derive(Debug, Error)]
pub enum PlanError {
    /// What was typed is not a plan.
    #[error("`{text}` {reason}")]
    Text {
        /// The part that is wrong.
        text: String,
        /// What about it.
        reason: String,
    },
    /// One stage of several is wrong.
    #[error("stage {number}: {source}")]
    Stage {
        /// Which, from one.
        number: usize,
        /// What about it.
        #[source]
        source: Box<PlanError>,
    },
    /// A line of a plan file is wrong.
    #[error("{}:{line}: {reason}", file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// Number of the line, from one.
        line: u64,
        /// What about it.
        reason: String,
    },
    /// A plan file cannot be read.
    #[error("cannot read the plan {}:{line}: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Number of the line that could not be had, from one.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PlanError {
    pub(super) fn text(text: &str, reason: impl Into<String>) -> PlanError {
        PlanError::Text {
            text: text.into(),
            reason: reason.into(),
        }
    }

    pub(super) fn line(file: &Path, line: u64, reason: impl Into<String>) -> PlanError {
        PlanError::Line {
            file: file.into(),
            line,
            reason: reason.into(),
        }
    }
}
