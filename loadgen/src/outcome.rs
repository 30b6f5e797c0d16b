//! How an operation ended, and what an error says about it.
//!
//! Promises: an operation counts as *not executed* only where the store said so, or where none of its bytes left;
//! everything else is unknown for a write. A read has no effect, so a read without an answer has failed. Never retries
//! anything itself: see [`crate::client`].

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reports::record::OutcomeKind;

/// What the store answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The write happened, at this Raft index.
    Written {
        /// Of the write.
        index: u64,
    },
    /// The key's value, and the index of its last mutation.
    Read {
        /// Nothing if the key is absent.
        value: Option<String>,
        /// Of the key's last mutation.
        index: u64,
    },
    /// The key is gone.
    Deleted {
        /// Of the deletion.
        index: u64,
        /// Whether it held a value.
        existed: bool,
    },
    /// The expected value was there and has been replaced.
    Swapped {
        /// Of the write.
        index: u64,
    },
    /// Another value was there, and still is.
    Mismatch {
        /// The value in the way; nothing if the key was absent.
        current: Option<String>,
        /// Of the key's last mutation.
        index: u64,
    },
    /// A range was read.
    Scanned {
        /// Keys found in it.
        entries: u64,
        /// Of the state it was read from.
        index: u64,
    },
}

impl Answer {
    /// The Raft index it carries.
    pub fn index(&self) -> u64 {
        match self {
            Answer::Written { index }
            | Answer::Read { index, .. }
            | Answer::Deleted { index, .. }
            | Answer::Swapped { index }
            | Answer::Mismatch { index, .. }
            | Answer::Scanned { index, .. } => *index,
        }
    }

    /// How an operation with this answer ended, if the answer is true.
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Answer::Read { value: None, .. } | Answer::Deleted { existed: false, .. } => {
                OutcomeKind::NotFound
            }
            Answer::Mismatch { .. } => OutcomeKind::CasConflict,
            _ => OutcomeKind::Ok,
        }
    }

    /// Whether it acknowledges a change of the store.
    pub fn is_acknowledged_write(&self) -> bool {
        matches!(
            self,
            Answer::Written { .. } | Answer::Deleted { .. } | Answer::Swapped { .. }
        )
    }
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Ok(Answer),
    /// It did not happen and never will.
    Failed(Failure),
    /// It may have happened, or may still.
    Unknown(Failure),
}

/// How an operation ended, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationResult {
    /// How it ended.
    pub outcome: Outcome,
    /// Node that answered.
    pub node: Option<Arc<str>>,
    /// Term in which it answered.
    pub term: Option<u64>,
    /// Attempts beyond the first because a node redirected.
    pub redirects: u32,
    /// Attempts beyond the first for any other reason.
    pub retries: u32,
    /// How long the attempt took that was answered.
    pub answered_after: Option<Duration>,
    /// How every attempt before that one ended, and how long it took.
    pub refused: Vec<(OutcomeKind, Duration)>,
    /// When it ended.
    pub at: Instant,
}

impl OperationResult {
    /// One that was withdrawn at `at`.
    pub(crate) fn without_answer(outcome: Outcome, at: Instant) -> OperationResult {
        OperationResult {
            outcome,
            node: None,
            term: None,
            redirects: 0,
            retries: 0,
            answered_after: None,
            refused: Vec::new(),
            at,
        }
    }

    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Ok(answer) => Some(answer),
            Outcome::Failed(_) | Outcome::Unknown(_) => None,
        }
    }

    /// Whether the store answered.
    pub fn is_ok(&self) -> bool {
        self.answer().is_some()
    }
}

/// Why an operation has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure; never one of the answered kinds.
    pub kind: OutcomeKind,
    /// The endpoint that it came from; empty if it came from none.
    pub place: String,
    /// More about it, for people.
    pub detail: String,
}

/// A few words for a kind of outcome, the same for every operation that ended so.
pub fn words(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Ok => "ok",
        OutcomeKind::NotFound => "not found",
        OutcomeKind::CasConflict => "another value was there",
        OutcomeKind::Integrity => "a value that nobody can have written",
        OutcomeKind::TimeoutClient => "no answer before the deadline",
        OutcomeKind::TimeoutServer => "the store let the deadline pass",
        OutcomeKind::Unavailable => "no node took it before the deadline",
        OutcomeKind::NotLeader => "no node said that it leads before the deadline",
        OutcomeKind::Overloaded => "the store had no room for it before the deadline",
        OutcomeKind::Transport => "connection lost while waiting",
        OutcomeKind::Refused => "no connection before the deadline",
        OutcomeKind::Rejected => "rejected",
        OutcomeKind::Unsure => "store reports outcome unknown",
        OutcomeKind::Unlabelled => "error without outcome",
        OutcomeKind::Cancelled => "cancelled by the far side",
        OutcomeKind::Shed => "never sent",
        OutcomeKind::Unfinished => "run ended first",
    }
}

/// Longest detail that an error is counted under.
const LABEL_CHARS_MAX: usize = 120;

impl Failure {
    pub(crate) fn new(kind: OutcomeKind, detail: impl Into<String>) -> Failure {
        Failure {
            kind,
            place: String::new(),
            detail: detail.into(),
        }
    }

    /// The same, from this endpoint.
    pub(crate) fn at(self, place: &str) -> Failure {
        Failure {
            place: place.to_owned(),
            ..self
        }
    }

    /// What it is counted under: the kind, and what was said, where that does not differ from one operation to the next.
    /// Not the place: it is told apart elsewhere.
    pub fn label(&self) -> String {
        match self.kind {
            OutcomeKind::Rejected
            | OutcomeKind::Unsure
            | OutcomeKind::Unlabelled
            | OutcomeKind::Transport => {
                let detail: String = self.detail.chars().take(LABEL_CHARS_MAX).collect();
                format!("{}: {detail}", words(self.kind))
            }
            _ => words(self.kind).to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(words(self.kind))?;
        if !self.place.is_empty() {
            write!(f, ", at {}", self.place)?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

/// What an error leaves the client to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// Not executed; another node leads, and the error names it: ask that one at once.
    Redirect,
    /// Not executed; ask another node after a pause.
    Elsewhere,
    /// Not executed; too much waits at this node: ask it again after a pause.
    Again,
    /// Not executed, because nothing of it was sent.
    NotSent,
    /// Not executed, and it never will be: give up.
    Rejected,
    /// It may have been executed: give up.
    Ambiguous(OutcomeKind),
}

impl Disposition {
    /// What an attempt that ended so counts as, and the operation too if it is never answered.
    pub fn kind(self) -> OutcomeKind {
        match self {
            Disposition::Redirect => OutcomeKind::NotLeader,
            Disposition::Elsewhere => OutcomeKind::Unavailable,
            Disposition::Again => OutcomeKind::Overloaded,
            Disposition::NotSent => OutcomeKind::Refused,
            Disposition::Rejected => OutcomeKind::Rejected,
            Disposition::Ambiguous(kind) => kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stay_few_where_details_differ() {
        let one = Failure::new(OutcomeKind::TimeoutClient, "127.0.0.1:1");
        let two = Failure::new(OutcomeKind::TimeoutClient, "127.0.0.1:2");
        assert_eq!(one.label(), two.label());
        let spoken = Failure::new(OutcomeKind::Unsure, "x".repeat(1000));
        assert!(spoken.label().len() < 200);
    }

    #[test]
    fn answers_know_how_their_operation_ended() {
        let absent = Answer::Read {
            value: None,
            index: 1,
        };
        assert_eq!(absent.kind(), OutcomeKind::NotFound);
        let mismatch = Answer::Mismatch {
            current: None,
            index: 1,
        };
        assert_eq!(mismatch.kind(), OutcomeKind::CasConflict);
        assert_eq!(Answer::Written { index: 1 }.kind(), OutcomeKind::Ok);
        assert!(Answer::Written { index: 1 }.is_acknowledged_write() && !mismatch.is_acknowledged_write());
    }
}
