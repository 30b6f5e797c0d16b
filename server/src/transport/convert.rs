//! The gateway: what comes off the wire becomes a checked message or a named refusal, and nobody behind it checks
//! again.

use proto::peer::{self, message::Kind};
use tonic::Status;

use crate::raft::{
    AppendRequest, AppendResponse, AppendResult, Configuration, Entry, EntryKind, Heartbeat,
    HeartbeatResponse, Message, Position, ReadIndexRequest, ReadIndexResponse, VoteRequest, VoteResponse,
};

/// Terms and indexes grow by one at a time, so no cluster gets here; a message that does would make the numbers of the
/// core run over.
pub(super) const NUMBER_MAX: u64 = 1 << 62;

/// About how many bytes a message takes on the wire.
pub(super) fn weight(message: &Message) -> usize {
    match message {
        Message::AppendRequest(request) => {
            64 + request
                .entries
                .iter()
                .map(|entry| entry.payload.len() + 24)
                .sum::<usize>()
        }
        _ => 32,
    }
}

pub(super) fn to_wire(message: Message) -> peer::Message {
    let kind = match message {
        Message::VoteRequest(request) => Kind::VoteRequest(peer::VoteRequest {
            term: request.term,
            last_term: request.last.term,
            last_index: request.last.index,
            pre_vote: request.pre_vote,
            transfer: request.transfer,
        }),
        Message::VoteResponse(VoteResponse {
            term,
            granted,
            pre_vote,
        }) => Kind::VoteResponse(peer::VoteResponse {
            term,
            granted,
            pre_vote,
        }),
        Message::AppendRequest(request) => Kind::AppendRequest(peer::AppendRequest {
            term: request.term,
            prev_term: request.prev.term,
            prev_index: request.prev.index,
            entries: request.entries.iter().map(entry_to_wire).collect(),
            commit: request.commit,
            read_seq: request.read_seq,
        }),
        Message::AppendResponse(response) => Kind::AppendResponse(append_response_to_wire(response)),
        Message::Heartbeat(Heartbeat {
            term,
            commit,
            read_seq,
        }) => Kind::Heartbeat(peer::Heartbeat {
            term,
            commit,
            read_seq,
        }),
        Message::HeartbeatResponse(HeartbeatResponse {
            term,
            read_seq,
            unfit,
        }) => Kind::HeartbeatResponse(peer::HeartbeatResponse {
            term,
            read_seq,
            unfit,
        }),
        Message::TimeoutNow { term } => Kind::TimeoutNow(peer::TimeoutNow { term }),
        Message::ReadIndexRequest(ReadIndexRequest { term, id }) => {
            Kind::ReadIndexRequest(peer::ReadIndexRequest { term, id })
        }
        Message::ReadIndexResponse(ReadIndexResponse { term, id, index }) => {
            Kind::ReadIndexResponse(peer::ReadIndexResponse {
                term,
                id,
                index: index.unwrap_or_default(),
                refused: index.is_none(),
            })
        }
    };
    peer::Message { kind: Some(kind) }
}

fn entry_to_wire(entry: &Entry) -> peer::Entry {
    peer::Entry {
        term: entry.term,
        index: entry.index,
        configuration: entry.kind == EntryKind::Configuration,
        payload: entry.payload.clone(),
    }
}

fn append_response_to_wire(response: AppendResponse) -> peer::AppendResponse {
    let AppendResponse {
        term,
        result,
        read_seq,
    } = response;
    let wire = peer::AppendResponse {
        term,
        read_seq,
        ..Default::default()
    };
    match result {
        AppendResult::Matched(match_index) => peer::AppendResponse { match_index, ..wire },
        AppendResult::Rejected { rejected, hint } => peer::AppendResponse {
            rejected: true,
            rejected_index: rejected,
            hint_term: hint.term,
            hint_index: hint.index,
            ..wire
        },
    }
}

pub(super) fn from_wire(message: peer::Message) -> Result<Message, Status> {
    let kind = message
        .kind
        .ok_or_else(|| Status::invalid_argument("a message of a kind this version does not know"))?;
    let [term, index] = highest_numbers(&kind);
    if term > NUMBER_MAX || index > NUMBER_MAX {
        return Err(Status::invalid_argument(format!(
            "term {term} or index {index} is past all that a cluster can reach"
        )));
    }
    Ok(match kind {
        Kind::VoteRequest(request) => Message::VoteRequest(VoteRequest {
            term: request.term,
            last: Position {
                term: request.last_term,
                index: request.last_index,
            },
            pre_vote: request.pre_vote,
            transfer: request.transfer,
        }),
        Kind::VoteResponse(peer::VoteResponse {
            term,
            granted,
            pre_vote,
        }) => Message::VoteResponse(VoteResponse {
            term,
            granted,
            pre_vote,
        }),
        Kind::AppendRequest(request) => Message::AppendRequest(append_request(request)?),
        Kind::AppendResponse(response) => Message::AppendResponse(append_response(response)),
        Kind::Heartbeat(peer::Heartbeat {
            term,
            commit,
            read_seq,
        }) => Message::Heartbeat(Heartbeat {
            term,
            commit,
            read_seq,
        }),
        Kind::HeartbeatResponse(peer::HeartbeatResponse {
            term,
            read_seq,
            unfit,
        }) => Message::HeartbeatResponse(HeartbeatResponse {
            term,
            read_seq,
            unfit,
        }),
        Kind::TimeoutNow(peer::TimeoutNow { term }) => Message::TimeoutNow { term },
        Kind::ReadIndexRequest(peer::ReadIndexRequest { term, id }) => {
            Message::ReadIndexRequest(ReadIndexRequest { term, id })
        }
        Kind::ReadIndexResponse(peer::ReadIndexResponse {
            term,
            id,
            index,
            refused,
        }) => Message::ReadIndexResponse(ReadIndexResponse {
            term,
            id,
            index: (!refused).then_some(index),
        }),
    })
}

/// The highest term and the highest index that a message states.
fn highest_numbers(kind: &Kind) -> [u64; 2] {
    match kind {
        Kind::VoteRequest(request) => [request.term.max(request.last_term), request.last_index],
        Kind::VoteResponse(response) => [response.term, 0],
        // Those of the entries are checked against these.
        Kind::AppendRequest(request) => [request.term, request.prev_index.max(request.commit)],
        Kind::AppendResponse(response) => {
            let index = response.match_index.max(response.rejected_index);
            [response.term, index.max(response.hint_index)]
        }
        Kind::Heartbeat(request) => [request.term, request.commit],
        Kind::HeartbeatResponse(response) => [response.term, 0],
        Kind::TimeoutNow(request) => [request.term, 0],
        Kind::ReadIndexRequest(request) => [request.term, 0],
        Kind::ReadIndexResponse(response) => [response.term, response.index],
    }
}

/// Entries must follow their previous position without a gap, in terms that never fall and never pass the leader's.
fn append_request(request: peer::AppendRequest) -> Result<AppendRequest, Status> {
    let prev = Position {
        term: request.prev_term,
        index: request.prev_index,
    };
    let mut before = prev;
    for entry in &request.entries {
        let follows = before.index.checked_add(1) == Some(entry.index);
        if !follows || entry.term < before.term || entry.term > request.term {
            return Err(Status::invalid_argument(format!(
                "entry {} of term {} cannot follow entry {} of term {} in an append of term {}",
                entry.index, entry.term, before.index, before.term, request.term
            )));
        }
        if !entry.configuration && !crate::kv::is_command(&entry.payload) {
            let text = format!("entry {} holds no command that this version knows", entry.index);
            return Err(Status::invalid_argument(text));
        }
        if entry.configuration && Configuration::decode(entry.payload.clone()).is_err() {
            let text = format!("entry {} should hold a configuration and does not", entry.index);
            return Err(Status::invalid_argument(text));
        }
        before = Position {
            term: entry.term,
            index: entry.index,
        };
    }
    let entries = request
        .entries
        .into_iter()
        .map(|entry| Entry {
            term: entry.term,
            index: entry.index,
            kind: kind_of(&entry),
            // Memory of its own, as wherever entries come from: as a part of the message it would keep all of it alive for as
            // long as the key that it sets has that value.
            payload: bytes::Bytes::copy_from_slice(&entry.payload),
        })
        .collect();
    Ok(AppendRequest {
        term: request.term,
        prev,
        entries,
        commit: request.commit,
        read_seq: request.read_seq,
    })
}

fn kind_of(entry: &peer::Entry) -> EntryKind {
    match entry.configuration {
        true => EntryKind::Configuration,
        false => EntryKind::Command,
    }
}

fn append_response(response: peer::AppendResponse) -> AppendResponse {
    let result = if response.rejected {
        let hint = Position {
            term: response.hint_term,
            index: response.hint_index,
        };
        AppendResult::Rejected {
            rejected: response.rejected_index,
            hint,
        }
    } else {
        AppendResult::Matched(response.match_index)
    };
    AppendResponse {
        term: response.term,
        result,
        read_seq: response.read_seq,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn entry(term: u64, index: u64) -> Entry {
        Entry {
            term,
            index,
            kind: Default::default(),
            payload: bytes::Bytes::from_static(b"\x12\x00"),
        }
    }

    fn append(prev: (u64, u64), entries: &[(u64, u64)]) -> Message {
        Message::AppendRequest(AppendRequest {
            term: 4,
            prev: Position {
                term: prev.0,
                index: prev.1,
            },
            entries: entries.iter().map(|&(term, index)| entry(term, index)).collect(),
            commit: 2,
            read_seq: 9,
        })
    }

    #[test]
    fn every_message_survives_the_wire() {
        let hint = Position { term: 1, index: 2 };
        let messages = [
            Message::VoteRequest(VoteRequest {
                term: 3,
                last: hint,
                pre_vote: true,
                transfer: true,
            }),
            Message::VoteResponse(VoteResponse {
                term: 3,
                granted: true,
                pre_vote: true,
            }),
            append((1, 2), &[(1, 3), (4, 4)]),
            Message::AppendResponse(AppendResponse {
                term: 3,
                result: AppendResult::Matched(7),
                read_seq: 1,
            }),
            Message::AppendResponse(AppendResponse {
                term: 3,
                result: AppendResult::Rejected { rejected: 7, hint },
                read_seq: 1,
            }),
            Message::Heartbeat(Heartbeat {
                term: 1,
                commit: 2,
                read_seq: 3,
            }),
            Message::HeartbeatResponse(HeartbeatResponse {
                term: 1,
                read_seq: 3,
                unfit: true,
            }),
            Message::TimeoutNow { term: 3 },
            Message::ReadIndexRequest(ReadIndexRequest { term: 3, id: 7 }),
            Message::ReadIndexResponse(ReadIndexResponse {
                term: 3,
                id: 7,
                index: Some(9),
            }),
            Message::ReadIndexResponse(ReadIndexResponse {
                term: 3,
                id: 7,
                index: None,
            }),
        ];
        for message in messages {
            assert_eq!(from_wire(to_wire(message.clone())).unwrap(), message);
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        /// The same as the fuzz target: nothing that a peer may send makes the gate fall over.
        #[test]
        fn no_bytes_get_past_the_gate_unchecked(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
            crate::fuzz::frame(&bytes);
        }

        #[test]
        fn no_mutation_of_a_frame_gets_past_the_gate_unchecked(
            at in 0_usize..200,
            with in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..8),
            cut in 0_usize..8,
        ) {
            use prost::Message as _;
            let frame = peer::Frame {
                messages: vec![to_wire(append((1, 2), &[(1, 3), (4, 4)])), to_wire(Message::TimeoutNow { term: 3 })],
                ..Default::default()
            };
            let mut bytes = frame.encode_to_vec();
            let at = at % bytes.len();
            let end = bytes.len().min(at + cut);
            bytes.splice(at..end, with);
            crate::fuzz::frame(&bytes);
        }
    }

    #[test]
    fn malformed_appends_are_refused_at_the_gate() {
        for (what, message) in [
            ("gap", append((1, 2), &[(1, 4)])),
            ("repetition", append((1, 2), &[(1, 3), (1, 3)])),
            ("falling term", append((2, 2), &[(1, 3)])),
            ("term above the leader's", append((1, 2), &[(5, 3)])),
        ] {
            let refusal = from_wire(to_wire(message)).unwrap_err();
            assert_eq!(refusal.code(), tonic::Code::InvalidArgument, "{what}");
        }
        assert!(from_wire(peer::Message { kind: None }).is_err());
        for term in [NUMBER_MAX + 1, u64::MAX] {
            let heartbeat = Message::Heartbeat(Heartbeat {
                term,
                commit: 0,
                read_seq: 0,
            });
            assert!(
                from_wire(to_wire(heartbeat)).is_err(),
                "nothing comes after term {term}"
            );
        }
    }
}
