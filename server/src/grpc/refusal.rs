//! Why there is no answer, in the terms of the tables in `kv.proto` and `admin.proto`.

use proto::metadata;
use proto::raft::OperationError;
use tonic::{Code, Status};

use super::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use crate::kv::Reply;
use crate::node::Failure;
use crate::raft::Term;

pub(super) fn check_key(key: &str) -> Result<(), Status> {
    match key.len() {
        0 => Err(not_executed(
            Code::InvalidArgument,
            "the key is empty; a key has at least one byte",
        )),
        length if length > KEY_BYTES_MAX => {
            let text = format!("the key has {length} bytes; at most {KEY_BYTES_MAX} are allowed");
            Err(not_executed(Code::InvalidArgument, &text))
        }
        _ => Ok(()),
    }
}

pub(super) fn check_value(value: &[u8]) -> Result<(), Status> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "the value has {} bytes; at most {VALUE_BYTES_MAX} are allowed",
        value.len()
    );
    Err(not_executed(Code::InvalidArgument, &text))
}

/// A reply that says that a command of a session was not carried out now.
pub(super) fn session_refusal(reply: &Reply) -> Option<Status> {
    let precondition = Code::FailedPrecondition;
    Some(match reply {
        Reply::SessionExpired => with(
            not_executed(
                precondition,
                "the session is unknown, was closed, or made room for newer ones; open another",
            ),
            metadata::REASON,
            metadata::SESSION_EXPIRED,
        ),
        Reply::ReplyForgotten => with(
            Status::new(
                precondition,
                "the command was carried out before, and its reply was forgotten because the client said that it has it",
            ),
            metadata::REASON,
            metadata::REPLY_FORGOTTEN,
        ),
        Reply::SequenceTooFar => {
            let (ahead, bytes) = (crate::kv::SEQUENCES_AHEAD_MAX, crate::kv::REPLY_BYTES_MAX);
            let text = format!(
                "the client has not acknowledged {bytes} bytes of replies, or the sequence is more than {ahead} beyond \
                 what it has acknowledged"
            );
            not_executed(Code::ResourceExhausted, &text)
        }
        _ => return None,
    })
}

/// The failure in the terms of the table in `kv.proto`.
pub(super) fn refusal(failure: Failure) -> Status {
    match failure {
        Failure::NotLeader { term, leader } => not_leader(term, leader),
        Failure::Transferring => with(
            not_executed(
                Code::Unavailable,
                "the leader is handing over its office; try again in a moment",
            ),
            metadata::REASON,
            metadata::TRANSFERRING,
        ),
        Failure::DiskFull => with(
            not_executed(
                Code::ResourceExhausted,
                "the leader's disk is full; reads go on, and so do writes as soon as there is space",
            ),
            metadata::REASON,
            metadata::DISK_FULL,
        ),
        Failure::TooLate { begun: false } => not_executed(
            Code::DeadlineExceeded,
            "the deadline passed before there was an answer; nothing has changed",
        ),
        Failure::TooLate { begun: true } => with(
            Status::deadline_exceeded(
                "the deadline passed after it was begun; it may have happened or may still",
            ),
            metadata::OUTCOME,
            metadata::UNKNOWN,
        ),
        Failure::Forbidden(why) => not_executed(Code::FailedPrecondition, &why),
        Failure::Failed(why) => not_executed(Code::Unavailable, &why),
        Failure::Overloaded => not_executed(
            Code::ResourceExhausted,
            "too many requests wait already; wait a moment and try again",
        ),
        Failure::Stopping => not_executed(Code::Unavailable, "this node is stopping; try another"),
        Failure::Replaced { term } => {
            let text = "another leader took over before the write was replicated; it did not happen";
            with(
                not_executed(Code::Unavailable, text),
                metadata::TERM,
                &term.to_string(),
            )
        }
        Failure::Vanished => with(
            Status::unavailable("this node stopped before it was done; it may have happened or may still"),
            metadata::OUTCOME,
            metadata::UNKNOWN,
        ),
        Failure::Lost { term } => {
            let text = "leadership was lost with the change in the log; it may have happened or may still";
            let status = with(Status::unavailable(text), metadata::OUTCOME, metadata::UNKNOWN);
            with(status, metadata::TERM, &term.to_string())
        }
    }
}

fn not_leader(term: Term, leader: Option<(String, String)>) -> Status {
    let term = term.to_string();
    let Some((id, address)) = leader else {
        let text = "this node does not lead, and knows nobody who does; try again, or try another node";
        return with(not_executed(Code::Unavailable, text), metadata::TERM, &term);
    };
    // A leader that has reached this node, but that this node has not reached, has a name only.
    let at = if address.is_empty() {
        String::new()
    } else {
        format!(", at {address}")
    };
    let text = format!("this node does not lead; {id} does{at}");
    let status = not_executed(Code::FailedPrecondition, &text);
    let status = with(with(status, metadata::TERM, &term), metadata::LEADER_ID, &id);
    if address.is_empty() {
        status
    } else {
        with(status, metadata::LEADER_ADDRESS, &address)
    }
}

pub(super) fn not_executed(code: Code, text: &str) -> Status {
    with(Status::new(code, text), metadata::OUTCOME, metadata::NOT_EXECUTED)
}

pub(super) fn with(mut status: Status, name: &'static str, value: &str) -> Status {
    // Names of nodes and addresses are plain ASCII: `config` lets nothing else in.
    if let Ok(value) = value.parse() {
        status.metadata_mut().insert(name, value);
    }
    status
}

/// A status as the result of one operation of many.
pub(super) fn operation_error(status: &Status) -> OperationError {
    let text = |name| {
        let value = status.metadata().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    OperationError {
        code: status.code() as u32,
        message: status.message().to_owned(),
        outcome: text(metadata::OUTCOME),
        leader_id: text(metadata::LEADER_ID),
        leader_address: text(metadata::LEADER_ADDRESS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in `kv.proto`, line by line.
    #[test]
    fn every_failure_says_whether_it_happened() {
        let leader = Some(("node2".to_owned(), "localhost:2".to_owned()));
        let table = [
            (
                Failure::NotLeader { term: 3, leader },
                Code::FailedPrecondition,
                metadata::NOT_EXECUTED,
            ),
            (
                Failure::NotLeader {
                    term: 3,
                    leader: None,
                },
                Code::Unavailable,
                metadata::NOT_EXECUTED,
            ),
            (
                Failure::Overloaded,
                Code::ResourceExhausted,
                metadata::NOT_EXECUTED,
            ),
            (Failure::Stopping, Code::Unavailable, metadata::NOT_EXECUTED),
            (
                Failure::Replaced { term: 3 },
                Code::Unavailable,
                metadata::NOT_EXECUTED,
            ),
            (Failure::Lost { term: 3 }, Code::Unavailable, metadata::UNKNOWN),
            (Failure::Vanished, Code::Unavailable, metadata::UNKNOWN),
            (Failure::Transferring, Code::Unavailable, metadata::NOT_EXECUTED),
            (Failure::DiskFull, Code::ResourceExhausted, metadata::NOT_EXECUTED),
            (
                Failure::TooLate { begun: false },
                Code::DeadlineExceeded,
                metadata::NOT_EXECUTED,
            ),
            (
                Failure::TooLate { begun: true },
                Code::DeadlineExceeded,
                metadata::UNKNOWN,
            ),
            (
                Failure::Forbidden("why".into()),
                Code::FailedPrecondition,
                metadata::NOT_EXECUTED,
            ),
            (
                Failure::Failed("why".into()),
                Code::Unavailable,
                metadata::NOT_EXECUTED,
            ),
        ];
        for (failure, code, outcome) in table {
            let hint = matches!(&failure, Failure::NotLeader { leader: Some(_), .. });
            let status = refusal(failure);
            assert_eq!(status.code(), code);
            let value = status
                .metadata()
                .get(metadata::OUTCOME)
                .map(|value| value.as_bytes());
            assert_eq!(value, Some(outcome.as_bytes()));
            assert_eq!(status.metadata().contains_key(metadata::LEADER_ID), hint);
        }
    }

    #[test]
    fn a_leader_without_a_known_address_is_named_without_one() {
        let leader = Some(("node2".to_owned(), String::new()));
        let status = refusal(Failure::NotLeader { term: 3, leader });
        assert!(status.metadata().contains_key(metadata::LEADER_ID));
        assert!(!status.metadata().contains_key(metadata::LEADER_ADDRESS));
    }

    #[test]
    fn keys_and_values_have_limits() {
        assert!(check_key("k").is_ok() && check_key(&"k".repeat(KEY_BYTES_MAX)).is_ok());
        for bad in [String::new(), "k".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(
                check_key(&bad).map_err(|status| status.code()),
                Err(Code::InvalidArgument)
            );
        }
        assert!(check_value(&vec![1; VALUE_BYTES_MAX]).is_ok());
        assert!(check_value(&vec![1; VALUE_BYTES_MAX + 1]).is_err());
    }
}
