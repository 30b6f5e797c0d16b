//! What a client is asked to do, and why an attempt at it may bring no answer.

use std::fmt;
use std::sync::Arc;

use crate::outcome::{Failure, Outcome};
use crate::target::Malformed;
use crate::wire::CallError;

/// One operation to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Set a key.
    Put {
        /// Which.
        key: Arc<str>,
        /// To what.
        value: String,
    },
    /// Read a key.
    Get {
        /// Which.
        key: Arc<str>,
    },
    /// Set a key if it holds the expected value, or is absent where nothing is expected.
    Cas {
        /// Which.
        key: Arc<str>,
        /// What it must hold.
        expected: Option<String>,
        /// To what.
        value: String,
    },
    /// Remove a key.
    Delete {
        /// Which.
        key: Arc<str>,
    },
    /// Read consecutive keys.
    Scan {
        /// The first one, if it is there.
        start: Arc<str>,
        /// How many at most.
        limit: u32,
    },
}

impl Call {
    /// Whether it may change the store.
    pub fn is_write(&self) -> bool {
        !matches!(self, Call::Get { .. } | Call::Scan { .. })
    }

    /// How it ends if nobody says whether it happened. A read has no effect, so it has failed.
    pub(crate) fn without_answer(&self, failure: Failure) -> Outcome {
        if self.is_write() {
            Outcome::Unknown(failure)
        } else {
            Outcome::Failed(failure)
        }
    }
}

/// Why an attempt brought no answer.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// The deadline passed, and it may have left.
    Deadline,
    /// The deadline passed before anything of it left.
    NeverLeft,
    /// The connection or the far side ended it.
    Wire(CallError),
    /// What came is not in the target's language.
    Malformed(Malformed),
}

impl fmt::Display for AttemptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttemptError::Deadline => f.write_str("no answer before the deadline"),
            AttemptError::NeverLeft => f.write_str("the connection took nothing before the deadline"),
            AttemptError::Wire(error) => error.fmt(f),
            AttemptError::Malformed(error) => error.fmt(f),
        }
    }
}
