#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use prost::Message;

use super::*;

/// The messages as etcd's own `.proto` files number them, read and written by prost.
mod pb {
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Header {
        #[prost(uint64, tag = "1")]
        pub(super) cluster_id: u64,
        #[prost(uint64, tag = "2")]
        pub(super) member_id: u64,
        #[prost(int64, tag = "3")]
        pub(super) revision: i64,
        #[prost(uint64, tag = "4")]
        pub(super) raft_term: u64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct KeyValue {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) key: Vec<u8>,
        #[prost(int64, tag = "2")]
        pub(super) create_revision: i64,
        #[prost(int64, tag = "3")]
        pub(super) mod_revision: i64,
        #[prost(int64, tag = "4")]
        pub(super) version: i64,
        #[prost(bytes = "vec", tag = "5")]
        pub(super) value: Vec<u8>,
        #[prost(int64, tag = "6")]
        pub(super) lease: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RangeRequest {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) range_end: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub(super) limit: i64,
        #[prost(bool, tag = "7")]
        pub(super) serializable: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RangeResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<Header>,
        #[prost(message, repeated, tag = "2")]
        pub(super) kvs: Vec<KeyValue>,
        #[prost(bool, tag = "3")]
        pub(super) more: bool,
        #[prost(int64, tag = "4")]
        pub(super) count: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PutRequest {
        #[prost(bytes = "vec", tag = "1")]
        pub(super) key: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub(super) value: Vec<u8>,
        #[prost(int64, tag = "3")]
        pub(super) lease: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PutResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<Header>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct DeleteRangeResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<Header>,
        #[prost(int64, tag = "2")]
        pub(super) deleted: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Compare {
        #[prost(int32, tag = "1")]
        pub(super) result: i32,
        #[prost(int32, tag = "2")]
        pub(super) target: i32,
        #[prost(bytes = "vec", tag = "3")]
        pub(super) key: Vec<u8>,
        #[prost(oneof = "Union", tags = "4, 7")]
        pub(super) union: Option<Union>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    pub(super) enum Union {
        #[prost(int64, tag = "4")]
        Version(i64),
        #[prost(bytes = "vec", tag = "7")]
        Value(Vec<u8>),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RequestOp {
        #[prost(message, optional, tag = "1")]
        pub(super) range: Option<RangeRequest>,
        #[prost(message, optional, tag = "2")]
        pub(super) put: Option<PutRequest>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TxnRequest {
        #[prost(message, repeated, tag = "1")]
        pub(super) compare: Vec<Compare>,
        #[prost(message, repeated, tag = "2")]
        pub(super) success: Vec<RequestOp>,
        #[prost(message, repeated, tag = "3")]
        pub(super) failure: Vec<RequestOp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ResponseOp {
        #[prost(message, optional, tag = "1")]
        pub(super) range: Option<RangeResponse>,
        #[prost(message, optional, tag = "2")]
        pub(super) put: Option<PutResponse>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct TxnResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<Header>,
        #[prost(bool, tag = "2")]
        pub(super) succeeded: bool,
        #[prost(message, repeated, tag = "3")]
        pub(super) responses: Vec<ResponseOp>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StatusResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) header: Option<Header>,
        #[prost(string, tag = "2")]
        pub(super) version: String,
        #[prost(int64, tag = "3")]
        pub(super) db_size: i64,
        #[prost(uint64, tag = "4")]
        pub(super) leader: u64,
        #[prost(uint64, tag = "5")]
        pub(super) raft_index: u64,
    }
}

fn encoded(call: &Call) -> Vec<u8> {
    let mut body = b"before".to_vec();
    Etcd.encode(call, &mut body);
    assert!(body.starts_with(b"before"), "it appends");
    body.split_off(b"before".len())
}

fn answered(call: &Call, message: &impl Message) -> (Answer, Option<u64>) {
    let body = message.encode_to_vec();
    let reply = Etcd.answer(call, &body).unwrap();
    (reply.answer, reply.term)
}

fn range(key: &str, range_end: &str, limit: i64) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit,
        serializable: false,
    }
}

proptest! {
    #[test]
    fn requests_are_what_etcd_reads(
        key in ".{1,40}", value in ".{0,300}", expected: Option<String>, limit in 1..=1000_u32,
    ) {
        let name: Arc<str> = key.as_str().into();
        let put = pb::PutRequest { key: key.clone().into(), value: value.clone().into(), lease: 0 };
        let call = Call::Put { key: name.clone(), value: value.clone() };
        prop_assert_eq!(&pb::PutRequest::decode(&*encoded(&call)).unwrap(), &put);
        let get = range(&key, "", 0);
        for call in [Call::Get { key: name.clone() }, Call::Delete { key: name.clone() }] {
            prop_assert_eq!(&pb::RangeRequest::decode(&*encoded(&call)).unwrap(), &get);
        }
        let scan = Call::Scan { start: name.clone(), limit };
        let same = range(&key, "\0", i64::from(limit));
        prop_assert_eq!(pb::RangeRequest::decode(&*encoded(&scan)).unwrap(), same);
        let (target, union) = match &expected {
            Some(expected) => (3, pb::Union::Value(expected.clone().into())),
            None => (0, pb::Union::Version(0)),
        };
        let compare = pb::Compare { result: 0, target, key: key.into(), union: Some(union) };
        let transaction = pb::TxnRequest {
            compare: vec![compare],
            success: vec![pb::RequestOp { put: Some(put), range: None }],
            failure: vec![pb::RequestOp { range: Some(get), put: None }],
        };
        let cas = Call::Cas { key: name, expected, value };
        prop_assert_eq!(pb::TxnRequest::decode(&*encoded(&cas)).unwrap(), transaction);
    }

    #[test]
    fn answers_of_etcd_are_read(
        member: u64, revision in 1..i64::MAX, modified in 1..i64::MAX, term: u64, value: Option<String>, keys in 0..5_usize,
    ) {
        let header = Some(pb::Header { cluster_id: 7, member_id: member, revision, raft_term: term });
        let (index, of_key) = (revision as u64, modified as u64);
        let key: Arc<str> = "k".into();
        let pair = value.clone().map(|value| pb::KeyValue {
            key: b"k".to_vec(), create_revision: 1, mod_revision: modified, version: 2, value: value.into(), lease: 3,
        });
        let found = pb::RangeResponse {
            header: header.clone(), kvs: pair.clone().into_iter().collect(), more: false, count: 1,
        };

        let put = Call::Put { key: key.clone(), value: "v".into() };
        let message = pb::PutResponse { header: header.clone() };
        prop_assert_eq!(answered(&put, &message), (Answer::Written { index }, Some(term)));

        let of_value = if value.is_some() { of_key } else { index };
        let get = Call::Get { key: key.clone() };
        let read = Answer::Read { value: value.clone(), index: of_value };
        prop_assert_eq!(answered(&get, &found), (read, Some(term)));

        let delete = Call::Delete { key: key.clone() };
        let deleted = i64::from(value.is_some());
        let message = pb::DeleteRangeResponse { header: header.clone(), deleted };
        let gone = Answer::Deleted { index, existed: value.is_some() };
        prop_assert_eq!(answered(&delete, &message).0, gone);

        let cas = Call::Cas { key: key.clone(), expected: Some("e".into()), value: "v".into() };
        let done = pb::ResponseOp { range: None, put: Some(pb::PutResponse { header: header.clone() }) };
        let message = pb::TxnResponse { header: header.clone(), succeeded: true, responses: vec![done] };
        prop_assert_eq!(answered(&cas, &message).0, Answer::Swapped { index });
        let other = pb::ResponseOp { range: Some(found), put: None };
        let message = pb::TxnResponse { header: header.clone(), succeeded: false, responses: vec![other] };
        let mismatch = Answer::Mismatch { current: value, index: of_value };
        prop_assert_eq!(answered(&cas, &message).0, mismatch);

        let scan = Call::Scan { start: key, limit: 9 };
        let kvs = vec![pb::KeyValue { key: b"a".to_vec(), ..Default::default() }; keys];
        let message = pb::RangeResponse { header, kvs, more: true, count: 99 };
        prop_assert_eq!(answered(&scan, &message).0, Answer::Scanned { entries: keys as u64, index });
    }

    #[test]
    fn no_bytes_make_it_panic(body: Vec<u8>) {
        let key: Arc<str> = "k".into();
        let _ = Etcd.answer(&Call::Get { key: key.clone() }, &body);
        let _ = Etcd.answer(&Call::Scan { start: key.clone(), limit: 1 }, &body);
        let _ = Etcd.answer(&Call::Cas { key, expected: None, value: "v".into() }, &body);
        let _ = Etcd.probed(&body);
    }
}

#[test]
fn a_value_that_is_no_text_is_refused_rather_than_changed() {
    let kvs = vec![pb::KeyValue {
        value: vec![0xff],
        ..Default::default()
    }];
    let body = pb::RangeResponse {
        kvs,
        ..Default::default()
    };
    let get = Call::Get { key: "k".into() };
    assert!(Etcd.answer(&get, &body.encode_to_vec()).is_err());
}

#[test]
fn a_scan_is_bounded_and_may_begin_at_the_beginning() {
    for (limit, sent) in [(0, 1000), (1, 1), (1000, 1000), (1001, 1000), (u32::MAX, 1000)] {
        let scan = Call::Scan {
            start: "".into(),
            limit,
        };
        let request = pb::RangeRequest::decode(&*encoded(&scan)).unwrap();
        assert_eq!(request, range("\0", "\0", sent), "{limit}");
    }
}

#[test]
fn the_probe_tells_who_is_there_who_leads_and_what_runs() {
    let mut status = pb::StatusResponse {
        header: Some(pb::Header {
            member_id: 0xbf97_1f4b,
            ..Default::default()
        }),
        version: "3.5.16".into(),
        db_size: 20480,
        leader: 0x8e9e_05c5_2164_694d,
        raft_index: 4,
    };
    let presence = Etcd.probed(&status.encode_to_vec()).unwrap();
    let expected = Presence {
        node: "bf971f4b".into(),
        leader: "8e9e05c52164694d".into(),
        software: "etcd 3.5.16".into(),
    };
    assert_eq!(presence, expected);
    status.leader = 0;
    assert_eq!(Etcd.probed(&status.encode_to_vec()).unwrap().leader, "");
}

#[test]
fn every_error_has_its_disposition() {
    use Disposition::{Again, Ambiguous, Elsewhere, Rejected};
    let unsure = Ambiguous(OutcomeKind::Unsure);
    let timed_out = Ambiguous(OutcomeKind::TimeoutServer);
    let unlabelled = Ambiguous(OutcomeKind::Unlabelled);
    let failed_precondition = 9;
    let (internal, data_loss) = (13, 15);
    let table: &[(u32, &str, Disposition)] = &[
        // Before a proposal.
        (14, "etcdserver: no leader", Elsewhere),
        (14, "etcdserver: not capable", Elsewhere),
        (14, "etcdserver: rpc not supported for learner", Elsewhere),
        (2, "raft proposal dropped", Elsewhere),
        (8, "etcdserver: too many requests", Again),
        (3, "etcdserver: key is not provided", Rejected),
        (3, "etcdserver: value is provided", Rejected),
        (3, "etcdserver: lease is provided", Rejected),
        (3, "etcdserver: too many operations in txn request", Rejected),
        (3, "etcdserver: duplicate key given in txn request", Rejected),
        (3, "etcdserver: request is too large", Rejected),
        (3, "etcdserver: user name is empty", Rejected),
        (16, "etcdserver: invalid auth token", Rejected),
        (7, "etcdserver: permission denied", Rejected),
        // After it.
        (14, "etcdserver: request timed out", timed_out),
        (
            14,
            "etcdserver: request timed out, possibly due to previous leader failure",
            timed_out,
        ),
        (
            14,
            "etcdserver: request timed out, possibly due to connection lost",
            timed_out,
        ),
        (4, "context deadline exceeded", timed_out),
        (1, "context canceled", Ambiguous(OutcomeKind::Cancelled)),
        // The write that first exceeds the quota happens.
        (8, "etcdserver: mvcc: database space exceeded", unsure),
        (14, "etcdserver: server stopped", unsure),
        (14, "etcdserver: leader changed", unsure),
        (14, "etcdserver: unhealthy cluster", unsure),
        (failed_precondition, "etcdserver: not leader", unsure),
        (data_loss, "etcdserver: corrupt cluster", unsure),
        (14, "etcdserver: something new", unsure),
        // The right words under the wrong code did not come from where they should.
        (13, "etcdserver: no leader", unsure),
        (14, "etcdserver: too many requests", unsure),
        (14, "raft proposal dropped", unlabelled),
        // Not etcd's own words.
        (14, "transport is closing", unlabelled),
        (8, "grpc: received message larger than max", unlabelled),
        (12, "unknown service etcdserverpb.KV", unlabelled),
        (internal, "", unlabelled),
        (2, "no leader", unlabelled),
    ];
    for (code, message, expected) in table {
        let status = RpcStatus {
            code: *code,
            message: (*message).into(),
            metadata: Vec::new(),
        };
        assert_eq!(Etcd.disposition(&status), *expected, "{code} {message}");
        assert_eq!(Etcd.leader_hint(&status), (None, None));
    }
}
