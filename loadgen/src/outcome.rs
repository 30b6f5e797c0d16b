//! How an operation ended, and what an error says about it.
//!
//! Promises: an operation counts as *not executed* only where the store said so in `raft-outcome`, or where no
//! connection existed to send it on; everything else is unknown for a write. A read has no effect, so a read without an
//! answer has failed. Never retries anything itself: see [`crate::client`].

use std::error::Error;
use std::fmt;

use proto::metadata;
use tonic::{Code, ConnectError, Status, TimeoutExpired};

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
}

impl Answer {
    /// The Raft index it carries.
    pub fn index(&self) -> u64 {
        match self {
            Answer::Written { index }
            | Answer::Read { index, .. }
            | Answer::Deleted { index, .. }
            | Answer::Swapped { index }
            | Answer::Mismatch { index, .. } => *index,
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
    pub node: Option<String>,
    /// Term in which it answered.
    pub term: Option<u64>,
    /// Attempts beyond the first because a node redirected.
    pub redirects: u32,
    /// Attempts beyond the first for any other reason.
    pub retries: u32,
}

impl OperationResult {
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
    /// What kind of failure.
    pub kind: FailureKind,
    /// More about it, for people.
    pub detail: String,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FailureKind {
    /// The deadline passed while an attempt was out.
    NoAnswer,
    /// The deadline passed, and every attempt had been refused before execution.
    NobodyTookIt,
    /// The store refused it for good, before execution.
    Rejected,
    /// The connection broke with the request on it.
    ConnectionLost,
    /// The store says that it does not know.
    StoreUnsure,
    /// An error that does not say whether the operation took effect.
    Unlabelled,
    /// The run ended first.
    Unfinished,
}

impl FailureKind {
    /// A few words, the same for every failure of the kind.
    pub fn as_str(self) -> &'static str {
        match self {
            FailureKind::NoAnswer => "no answer before the deadline",
            FailureKind::NobodyTookIt => "no node took it before the deadline",
            FailureKind::Rejected => "rejected",
            FailureKind::ConnectionLost => "connection lost while waiting",
            FailureKind::StoreUnsure => "store reports outcome unknown",
            FailureKind::Unlabelled => "error without outcome",
            FailureKind::Unfinished => "run ended first",
        }
    }
}

/// Longest detail that an error is counted under.
const LABEL_CHARS_MAX: usize = 120;

impl Failure {
    pub(crate) fn new(kind: FailureKind, detail: impl Into<String>) -> Failure {
        Failure {
            kind,
            detail: detail.into(),
        }
    }

    /// What it is counted under: the kind, with the store's own words where it spoke.
    pub fn label(&self) -> String {
        match self.kind {
            FailureKind::Rejected | FailureKind::StoreUnsure | FailureKind::Unlabelled => {
                let detail: String = self.detail.chars().take(LABEL_CHARS_MAX).collect();
                format!("{}: {detail}", self.kind.as_str())
            }
            _ => self.kind.as_str().to_owned(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
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
    /// Not executed, because there was no connection to send it on.
    NotSent,
    /// Not executed, and it never will be: give up.
    Rejected,
    /// It may have been executed: give up.
    Ambiguous(FailureKind),
}

/// What `status` says about the operation that it ended. The one place where this is decided.
pub fn classify(status: &Status) -> Disposition {
    let outcome = text(status, metadata::OUTCOME);
    match (outcome, status.code()) {
        (Some(metadata::NOT_EXECUTED), Code::FailedPrecondition | Code::Unavailable) => {
            if text(status, metadata::LEADER_ID).is_some() {
                Disposition::Redirect
            } else {
                Disposition::Elsewhere
            }
        }
        (Some(metadata::NOT_EXECUTED), Code::ResourceExhausted) => Disposition::Again,
        (Some(metadata::NOT_EXECUTED), _) => Disposition::Rejected,
        (Some(metadata::UNKNOWN), _) => Disposition::Ambiguous(FailureKind::StoreUnsure),
        // Anything else did not come from a node that understood the request.
        _ if caused_by::<ConnectError>(status) => Disposition::NotSent,
        (_, Code::DeadlineExceeded) => Disposition::Ambiguous(FailureKind::NoAnswer),
        _ if caused_by::<TimeoutExpired>(status) => Disposition::Ambiguous(FailureKind::NoAnswer),
        _ if status.source().is_some() => Disposition::Ambiguous(FailureKind::ConnectionLost),
        _ => Disposition::Ambiguous(FailureKind::Unlabelled),
    }
}

/// Leader hint of a refusal: identifier and address.
pub(crate) fn leader_hint(status: &Status) -> (Option<&str>, Option<&str>) {
    (
        text(status, metadata::LEADER_ID),
        text(status, metadata::LEADER_ADDRESS).filter(|address| !address.is_empty()),
    )
}

/// The code in the words of the protocol, and the message.
pub(crate) fn describe(status: &Status) -> String {
    let code = format!("{:?}", status.code());
    match root_cause(status) {
        Some(cause) if !status.message().contains(&cause) => {
            format!("{code}: {} ({cause})", status.message())
        }
        _ => format!("{code}: {}", status.message()),
    }
}

fn text<'a>(status: &'a Status, name: &str) -> Option<&'a str> {
    status
        .metadata()
        .get(name)?
        .to_str()
        .ok()
        .filter(|value| !value.is_empty())
}

fn caused_by<E: Error + 'static>(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<E>())
}

fn root_cause(status: &Status) -> Option<String> {
    causes(status).last().map(ToString::to_string)
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |error: &&(dyn Error + 'static)| {
        (*error).source()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn status(code: Code, metadata: &[(&'static str, &str)]) -> Status {
        let mut status = Status::new(code, "as the store put it");
        for (name, value) in metadata {
            status.metadata_mut().insert(*name, value.parse().unwrap());
        }
        status
    }

    #[test]
    fn every_error_has_its_disposition() {
        use Disposition::*;
        let not = (metadata::OUTCOME, metadata::NOT_EXECUTED);
        let unknown = (metadata::OUTCOME, metadata::UNKNOWN);
        let hint = (metadata::LEADER_ID, "node2");
        let unsure = Ambiguous(FailureKind::StoreUnsure);
        let unlabelled = Ambiguous(FailureKind::Unlabelled);
        let no_answer = Ambiguous(FailureKind::NoAnswer);
        type Row<'a> = (Code, &'a [(&'static str, &'a str)], Disposition);
        let table: &[Row<'_>] = &[
            // Not executed, in the store's own words.
            (Code::FailedPrecondition, &[not, hint], Redirect),
            (Code::FailedPrecondition, &[not], Elsewhere),
            (
                Code::FailedPrecondition,
                &[not, (metadata::LEADER_ID, "")],
                Elsewhere,
            ),
            (Code::Unavailable, &[not], Elsewhere),
            (Code::Unavailable, &[not, hint], Redirect),
            (Code::ResourceExhausted, &[not], Again),
            (Code::ResourceExhausted, &[not, hint], Again),
            (Code::InvalidArgument, &[not], Rejected),
            (Code::Unimplemented, &[not], Rejected),
            // Unknown, in the store's own words; a hint does not make it safe.
            (Code::Unavailable, &[unknown], unsure),
            (Code::FailedPrecondition, &[unknown, hint], unsure),
            (Code::DeadlineExceeded, &[unknown], unsure),
            // Nobody said anything: never safe, however harmless the code looks.
            (Code::FailedPrecondition, &[hint], unlabelled),
            (Code::Unavailable, &[], unlabelled),
            (Code::InvalidArgument, &[], unlabelled),
            (Code::ResourceExhausted, &[], unlabelled),
            (Code::Unimplemented, &[], unlabelled),
            (Code::Internal, &[], unlabelled),
            (Code::Cancelled, &[], unlabelled),
            (Code::Aborted, &[(metadata::OUTCOME, "maybe")], unlabelled),
            (Code::DeadlineExceeded, &[], no_answer),
        ];
        for (code, metadata, expected) in table {
            assert_eq!(
                classify(&status(*code, metadata)),
                *expected,
                "{code:?} {metadata:?}"
            );
        }
    }

    #[test]
    fn errors_of_the_transport_are_told_apart_by_their_cause() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let never_connected = Status::from_error(Box::new(ConnectError(Box::new(refused))));
        assert_eq!(classify(&never_connected), Disposition::NotSent);

        let timed_out = Status::from_error(Box::new(TimeoutExpired(())));
        assert_eq!(
            classify(&timed_out),
            Disposition::Ambiguous(FailureKind::NoAnswer)
        );

        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let broken = Status::from_error(Box::new(reset));
        assert_eq!(
            classify(&broken),
            Disposition::Ambiguous(FailureKind::ConnectionLost)
        );
    }

    #[test]
    fn labels_stay_few_where_details_differ() {
        let one = Failure::new(FailureKind::NoAnswer, "127.0.0.1:1");
        let two = Failure::new(FailureKind::NoAnswer, "127.0.0.1:2");
        assert_eq!(one.label(), two.label());
        let spoken = Failure::new(FailureKind::StoreUnsure, "x".repeat(1000));
        assert!(spoken.label().len() < 200);
    }
}
