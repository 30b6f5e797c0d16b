//! `raft://`: the reference store, by the protocol of `proto/kv.proto`.
//!
//! A refusal says in its metadata whether the operation was executed; without that word it is ambiguous, however
//! harmless its code looks.

use proto::metadata;
use reports::record::{Operation, OutcomeKind};

use super::local::{Launch, NodeCommand, Plan, Program};
use super::protobuf::{Fields, put_bytes, put_number, put_text};
use super::{Malformed, Presence, Reply, Target};
use crate::client::Call;
use crate::outcome::{Answer, Disposition};
use crate::wire::{Method, RpcStatus};

/// The reference store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raft;

const PUT: Method = Method::new("/raft.KeyValueService/Put");
const GET: Method = Method::new("/raft.KeyValueService/Get");
const CAS: Method = Method::new("/raft.KeyValueService/CompareAndSwap");
const DELETE: Method = Method::new("/raft.KeyValueService/Delete");
const SCAN: Method = Method::new("/raft.KeyValueService/Scan");
const STATUS: Method = Method::new("/raft.KeyValueService/GetClusterStatus");

/// Status codes of gRPC that this store uses.
mod code {
    pub(super) const CANCELLED: u32 = 1;
    pub(super) const DEADLINE_EXCEEDED: u32 = 4;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const FAILED_PRECONDITION: u32 = 9;
    pub(super) const UNAVAILABLE: u32 = 14;
}

impl Target for Raft {
    fn scheme(&self) -> &'static str {
        "raft"
    }

    fn supports(&self, _operation: Operation) -> bool {
        true
    }

    fn method(&self, call: &Call) -> Method {
        match call {
            Call::Put { .. } => PUT,
            Call::Get { .. } => GET,
            Call::Cas { .. } => CAS,
            Call::Delete { .. } => DELETE,
            Call::Scan { .. } => SCAN,
        }
    }

    fn encode(&self, call: &Call, body: &mut Vec<u8>) {
        match call {
            Call::Put { key, value } => {
                put_text(1, key, body);
                put_text(2, value, body);
            }
            Call::Get { key } | Call::Delete { key } => put_text(1, key, body),
            Call::Cas { key, expected, value } => {
                put_text(1, key, body);
                // Optional in the protocol: present though empty is not the same as absent.
                if let Some(expected) = expected {
                    put_bytes(2, expected.as_bytes(), body);
                }
                put_text(3, value, body);
            }
            Call::Scan { start, limit } => {
                put_text(1, start, body);
                put_number(3, u64::from(*limit), body);
            }
        }
    }

    fn answer<'a>(&self, call: &Call, body: &'a [u8]) -> Result<Reply<'a>, Malformed> {
        let mut seen = Seen::default();
        let mut fields = Fields::of(body);
        while let Some((field, value)) = fields.next()? {
            match (call, field) {
                (_, 1) => (seen.node, seen.term) = header(value.bytes())?,
                (Call::Put { .. }, 2) | (Call::Delete { .. }, 2) => seen.index = value.number(),
                (Call::Cas { .. }, 2) | (Call::Get { .. }, 2) => seen.yes = value.number() != 0,
                (Call::Cas { .. }, 3) | (Call::Get { .. }, 4) => seen.index = value.number(),
                (Call::Cas { .. }, 4) | (Call::Get { .. }, 3) => seen.value = Some(value.text()?),
                (Call::Delete { .. }, 3) => seen.yes = value.number() != 0,
                (Call::Scan { .. }, 2) => seen.entries += 1,
                (Call::Scan { .. }, 5) => seen.index = value.number(),
                _ => {}
            }
        }
        Ok(Reply {
            answer: seen.answer_to(call),
            node: seen.node,
            term: Some(seen.term),
        })
    }

    fn disposition(&self, status: &RpcStatus) -> Disposition {
        match (status.field(metadata::OUTCOME), status.code) {
            (Some(metadata::NOT_EXECUTED), code::FAILED_PRECONDITION | code::UNAVAILABLE) => {
                if status.field(metadata::LEADER_ID).is_some() {
                    Disposition::Redirect
                } else {
                    Disposition::Elsewhere
                }
            }
            (Some(metadata::NOT_EXECUTED), code::RESOURCE_EXHAUSTED) => Disposition::Again,
            (Some(metadata::NOT_EXECUTED), _) => Disposition::Rejected,
            (Some(metadata::UNKNOWN), _) => Disposition::Ambiguous(OutcomeKind::Unsure),
            // Anything else did not come from a node that understood the request.
            (_, code::DEADLINE_EXCEEDED) => Disposition::Ambiguous(OutcomeKind::TimeoutServer),
            (_, code::CANCELLED) => Disposition::Ambiguous(OutcomeKind::Cancelled),
            _ => Disposition::Ambiguous(OutcomeKind::Unlabelled),
        }
    }

    fn leader_hint<'a>(&self, status: &'a RpcStatus) -> (Option<&'a str>, Option<&'a str>) {
        (
            status.field(metadata::LEADER_ID),
            status.field(metadata::LEADER_ADDRESS),
        )
    }

    fn probe(&self) -> Method {
        STATUS
    }

    fn encode_probe(&self, _body: &mut Vec<u8>) {}

    fn probed(&self, body: &[u8]) -> Result<Presence, Malformed> {
        let mut presence = Presence::default();
        let mut fields = Fields::of(body);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => presence.node = header(value.bytes())?.0.to_owned(),
                3 => presence.leader = value.text()?.to_owned(),
                _ => {}
            }
        }
        Ok(presence)
    }

    fn launch(&self) -> Option<&dyn Launch> {
        Some(self)
    }
}

impl Launch for Raft {
    fn command(&self, plan: &Plan, node: usize) -> NodeCommand {
        let seat = &plan.seats[node];
        let mut arguments = [
            "node",
            "--node-id",
            &seat.name,
            "--port",
            &seat.ports[0].to_string(),
            "--data-dir",
            &seat.data.display().to_string(),
            "--log",
            "warn",
            "--exit-with-stdin",
        ]
        .map(str::to_owned)
        .to_vec();
        let others = plan.seats.iter().filter(|other| other.name != seat.name);
        let peers: Vec<_> = others
            .map(|other| format!("{}={}", other.name, other.address()))
            .collect();
        match peers.is_empty() {
            true => arguments.push("--single-node".to_owned()),
            false => arguments.extend(["--peers".to_owned(), peers.join(",")]),
        }
        NodeCommand {
            program: Program::Own,
            arguments,
        }
    }

    fn software(&self, _probed: &Presence) -> String {
        // Nodes do not say, but they are this executable.
        concat!("whitewater ", env!("CARGO_PKG_VERSION")).into()
    }

    fn durability(&self) -> &'static str {
        "every write is synced on a majority before it is acknowledged"
    }
}

/// What an answer holds, whichever it is.
#[derive(Default)]
struct Seen<'a> {
    node: &'a str,
    term: u64,
    index: u64,
    yes: bool,
    value: Option<&'a str>,
    entries: u64,
}

impl Seen<'_> {
    fn answer_to(&self, call: &Call) -> Answer {
        let index = self.index;
        match call {
            Call::Put { .. } => Answer::Written { index },
            Call::Get { .. } => Answer::Read {
                // A text that is empty is not on the wire at all.
                value: self.yes.then(|| self.value.unwrap_or_default().to_owned()),
                index,
            },
            Call::Cas { .. } if self.yes => Answer::Swapped { index },
            Call::Cas { .. } => Answer::Mismatch {
                current: self.value.map(str::to_owned),
                index,
            },
            Call::Delete { .. } => Answer::Deleted {
                index,
                existed: self.yes,
            },
            Call::Scan { .. } => Answer::Scanned {
                entries: self.entries,
                index,
            },
        }
    }
}

/// Node and term of a response header.
fn header(message: &[u8]) -> Result<(&str, u64), Malformed> {
    let (mut node, mut term) = ("", 0);
    let mut fields = Fields::of(message);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => node = value.text()?,
            2 => term = value.number(),
            _ => {}
        }
    }
    Ok((node, term))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use prost::Message;
    use proto::raft::{
        CompareAndSwapRequest, CompareAndSwapResponse, DeleteRequest, DeleteResponse,
        GetClusterStatusResponse, GetRequest, GetResponse, KeyValue, PutRequest, PutResponse, ResponseHeader,
        ScanRequest, ScanResponse,
    };

    use super::*;

    fn encoded(call: &Call) -> Vec<u8> {
        let mut body = Vec::new();
        Raft.encode(call, &mut body);
        body
    }

    fn answered(call: &Call, message: &impl Message) -> (Answer, String, Option<u64>) {
        let body = message.encode_to_vec();
        let reply = Raft.answer(call, &body).unwrap();
        (reply.answer, reply.node.to_owned(), reply.term)
    }

    proptest! {
        #[test]
        fn requests_are_what_the_generated_code_reads(key in ".*", value in ".*", expected: Option<String>, limit: u32) {
            let name: std::sync::Arc<str> = key.as_str().into();
            let put = Call::Put { key: name.clone(), value: value.clone() };
            let same = PutRequest { key: key.clone(), value: value.clone(), session: None };
            prop_assert_eq!(PutRequest::decode(&*encoded(&put)).unwrap(), same);
            let get = GetRequest { key: key.clone(), ..Default::default() };
            prop_assert_eq!(GetRequest::decode(&*encoded(&Call::Get { key: name.clone() })).unwrap(), get);
            let delete = DeleteRequest { key: key.clone(), session: None };
            prop_assert_eq!(DeleteRequest::decode(&*encoded(&Call::Delete { key: name.clone() })).unwrap(), delete);
            let cas = Call::Cas { key: name.clone(), expected: expected.clone(), value: value.clone() };
            let same = CompareAndSwapRequest { key: key.clone(), expected, value, session: None };
            prop_assert_eq!(CompareAndSwapRequest::decode(&*encoded(&cas)).unwrap(), same);
            let scan = ScanRequest { start: key, limit, ..Default::default() };
            prop_assert_eq!(ScanRequest::decode(&*encoded(&Call::Scan { start: name, limit })).unwrap(), scan);
        }

        #[test]
        fn answers_of_the_generated_code_are_read(
            node in ".*", term: u64, index: u64, yes: bool, value in ".*", current: Option<String>, entries in 0..5_usize
        ) {
            let key: std::sync::Arc<str> = "k".into();
            let header = Some(ResponseHeader { node_id: node.clone(), term });
            let from = (node.clone(), Some(term));
            let put = PutResponse { header: header.clone(), index };
            let (answer, node, term) = answered(&Call::Put { key: key.clone(), value: "v".into() }, &put);
            prop_assert_eq!((answer, (node, term)), (Answer::Written { index }, from.clone()));
            let get = GetResponse { header: header.clone(), found: yes, value: value.clone(), index, ..Default::default() };
            let (answer, node, term) = answered(&Call::Get { key: key.clone() }, &get);
            let read = Answer::Read { value: yes.then_some(value), index };
            prop_assert_eq!((answer, (node, term)), (read, from.clone()));
            let cas = CompareAndSwapResponse { header: header.clone(), swapped: yes, index, current: current.clone() };
            let call = Call::Cas { key: key.clone(), expected: None, value: "v".into() };
            let swapped = if yes { Answer::Swapped { index } } else { Answer::Mismatch { current, index } };
            prop_assert_eq!(answered(&call, &cas).0, swapped);
            let delete = DeleteResponse { header: header.clone(), index, existed: yes };
            let deleted = Answer::Deleted { index, existed: yes };
            prop_assert_eq!(answered(&Call::Delete { key: key.clone() }, &delete).0, deleted);
            let pair = KeyValue { key: "a".into(), value: "b".into(), index: 3, ..Default::default() };
            let scan = ScanResponse { header, entries: vec![pair; entries], applied_index: index, ..Default::default() };
            let scanned = Answer::Scanned { entries: entries as u64, index };
            prop_assert_eq!(answered(&Call::Scan { start: key, limit: 9 }, &scan).0, scanned);
        }
    }

    #[test]
    fn the_probe_tells_who_is_there_and_who_leads() {
        let status = GetClusterStatusResponse {
            header: Some(ResponseHeader {
                node_id: "n1".into(),
                term: 4,
            }),
            leader_id: "n2".into(),
            ..Default::default()
        };
        let presence = Raft.probed(&status.encode_to_vec()).unwrap();
        assert_eq!((presence.node.as_str(), presence.leader.as_str()), ("n1", "n2"));
    }

    fn status(code: u32, metadata: &[(&'static str, &str)]) -> RpcStatus {
        RpcStatus {
            code,
            message: "as the store put it".into(),
            metadata: metadata.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        }
    }

    #[test]
    fn every_error_has_its_disposition() {
        use Disposition::{Again, Ambiguous, Elsewhere, Redirect, Rejected};
        use code::*;
        let (invalid_argument, aborted, unimplemented, internal) = (3, 10, 12, 13);
        let not = (metadata::OUTCOME, metadata::NOT_EXECUTED);
        let unknown = (metadata::OUTCOME, metadata::UNKNOWN);
        let hint = (metadata::LEADER_ID, "node2");
        let unsure = Ambiguous(OutcomeKind::Unsure);
        let unlabelled = Ambiguous(OutcomeKind::Unlabelled);
        type Row<'a> = (u32, &'a [(&'static str, &'a str)], Disposition);
        let table: &[Row<'_>] = &[
            // Not executed, in the store's own words.
            (FAILED_PRECONDITION, &[not, hint], Redirect),
            (FAILED_PRECONDITION, &[not], Elsewhere),
            (FAILED_PRECONDITION, &[not, (metadata::LEADER_ID, "")], Elsewhere),
            (UNAVAILABLE, &[not], Elsewhere),
            (UNAVAILABLE, &[not, hint], Redirect),
            (RESOURCE_EXHAUSTED, &[not], Again),
            (RESOURCE_EXHAUSTED, &[not, hint], Again),
            (invalid_argument, &[not], Rejected),
            (unimplemented, &[not], Rejected),
            // Unknown, in the store's own words; a hint does not make it safe.
            (UNAVAILABLE, &[unknown], unsure),
            (FAILED_PRECONDITION, &[unknown, hint], unsure),
            (DEADLINE_EXCEEDED, &[unknown], unsure),
            // Nobody said anything: never safe, however harmless the code looks.
            (FAILED_PRECONDITION, &[hint], unlabelled),
            (UNAVAILABLE, &[], unlabelled),
            (invalid_argument, &[], unlabelled),
            (RESOURCE_EXHAUSTED, &[], unlabelled),
            (unimplemented, &[], unlabelled),
            (internal, &[], unlabelled),
            (aborted, &[(metadata::OUTCOME, "maybe")], unlabelled),
            (CANCELLED, &[], Ambiguous(OutcomeKind::Cancelled)),
            (DEADLINE_EXCEEDED, &[], Ambiguous(OutcomeKind::TimeoutServer)),
        ];
        for (code, metadata, expected) in table {
            let status = status(*code, metadata);
            assert_eq!(Raft.disposition(&status), *expected, "{code:?} {metadata:?}");
        }
    }
}
