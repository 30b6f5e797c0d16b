//! `etcd://`: etcd, by the messages of its v3 API (`api/etcdserverpb/rpc.proto` and `api/mvccpb/kv.proto` in its repository).
//!
//! Every node takes every operation and hands writes to its leader itself, so that there is nothing to redirect and no hint.
//!
//! * An index is a revision: of the key's last change where a value was found, of the whole store otherwise.
//! * A compare-and-swap is a transaction: compare, then put, or else get. The absence of a key is the version 0.
//! * Reads are linearizable, as by default.
//! * An answer names its member by a number only, and turning it into text for every answer would cost more than it is
//!   worth: the probe does that, once for each connection.
//!
//! What an error says about a write is decided by [`disposition`], from the errors that etcd 3.4 to 3.6 returns
//! (`api/v3rpc/rpctypes/error.go`) and the places in its code that return them. Whatever is not on its lists is ambiguous.

use reports::record::{Operation, OutcomeKind};

use super::local::{Launch, NodeCommand, Plan, Program};
use super::protobuf::{Fields, put_bytes, put_message, put_number, put_number_always, put_text};
use super::{Malformed, Presence, Reply, Target};
use crate::client::Call;
use crate::outcome::{Answer, Disposition};
use crate::wire::{Method, RpcStatus};

/// Keys that a scan reads at most, as with the reference store: without a limit, etcd sends the whole range.
const SCAN_KEYS_MAX: u32 = 1000;

/// etcd.
#[derive(Debug, Clone, Copy, Default)]
pub struct Etcd;

const PUT: Method = Method::new("/etcdserverpb.KV/Put");
const RANGE: Method = Method::new("/etcdserverpb.KV/Range");
const TXN: Method = Method::new("/etcdserverpb.KV/Txn");
const DELETE_RANGE: Method = Method::new("/etcdserverpb.KV/DeleteRange");
const STATUS: Method = Method::new("/etcdserverpb.Maintenance/Status");

/// `Compare.CompareTarget.VALUE`; `VERSION` and the result `EQUAL` are 0, which is what their absence means.
const TARGET_VALUE: u64 = 3;

impl Target for Etcd {
    fn scheme(&self) -> &'static str {
        "etcd"
    }

    fn supports(&self, _operation: Operation) -> bool {
        true
    }

    fn method(&self, call: &Call) -> Method {
        match call {
            Call::Put { .. } => PUT,
            Call::Get { .. } | Call::Scan { .. } => RANGE,
            Call::Cas { .. } => TXN,
            Call::Delete { .. } => DELETE_RANGE,
        }
    }

    fn encode(&self, call: &Call, body: &mut Vec<u8>) {
        match call {
            Call::Put { key, value } => {
                put_text(1, key, body);
                put_text(2, value, body);
            }
            Call::Get { key } | Call::Delete { key } => put_text(1, key, body),
            Call::Cas { key, expected, value } => transaction(key, expected.as_deref(), value, body),
            Call::Scan { start, limit } => {
                let limit = match *limit {
                    0 => SCAN_KEYS_MAX,
                    limit => limit.min(SCAN_KEYS_MAX),
                };
                // A zero byte means the first of all keys as a beginning, and no end as an end.
                put_text(1, if start.is_empty() { "\0" } else { start }, body);
                put_text(2, "\0", body);
                put_number(3, u64::from(limit), body);
            }
        }
    }

    fn answer<'a>(&self, call: &Call, body: &'a [u8]) -> Result<Reply<'a>, Malformed> {
        let mut header = Header::default();
        let (mut number, mut entries, mut found) = (0, 0, None);
        let mut fields = Fields::of(body);
        while let Some((field, value)) = fields.next()? {
            match (call, field) {
                (_, 1) => header = Header::read(value.bytes())?,
                (Call::Get { .. }, 2) => found = Some(KeyValue::read(value.bytes())?),
                (Call::Scan { .. }, 2) => entries += 1,
                // Keys deleted; whether the comparison held.
                (Call::Delete { .. } | Call::Cas { .. }, 2) => number = value.number(),
                (Call::Cas { .. }, 3) => found = found_by_transaction(value.bytes())?,
                _ => {}
            }
        }
        let index = header.revision;
        let answer = match call {
            Call::Put { .. } => Answer::Written { index },
            Call::Get { .. } => Answer::Read {
                index: found.as_ref().map_or(index, |found| found.mod_revision),
                value: found.map(|found| found.value.to_owned()),
            },
            Call::Cas { .. } if number != 0 => Answer::Swapped { index },
            Call::Cas { .. } => Answer::Mismatch {
                index: found.as_ref().map_or(index, |found| found.mod_revision),
                current: found.map(|found| found.value.to_owned()),
            },
            Call::Delete { .. } => Answer::Deleted {
                index,
                existed: number != 0,
            },
            Call::Scan { .. } => Answer::Scanned { entries, index },
        };
        Ok(Reply {
            answer,
            node: "",
            term: Some(header.term),
        })
    }

    fn disposition(&self, status: &RpcStatus) -> Disposition {
        disposition(status)
    }

    fn leader_hint<'a>(&self, _status: &'a RpcStatus) -> (Option<&'a str>, Option<&'a str>) {
        (None, None)
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
                1 => presence.node = member_name(Header::read(value.bytes())?.member),
                2 => presence.software = format!("etcd {}", value.text()?),
                4 => presence.leader = member_name(value.number()),
                _ => {}
            }
        }
        Ok(presence)
    }

    fn launch(&self) -> Option<&dyn Launch> {
        Some(self)
    }
}

impl Launch for Etcd {
    fn ports(&self) -> usize {
        2
    }

    fn command(&self, plan: &Plan, node: usize) -> NodeCommand {
        let seat = &plan.seats[node];
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members = plan.seats.iter();
        let members: Vec<_> = members
            .map(|seat| format!("{}={}", seat.name, url(seat.ports[1])))
            .collect();
        let (client, peer) = (url(seat.ports[0]), url(seat.ports[1]));
        let pairs = [
            ("--name", seat.name.as_str()),
            ("--data-dir", &seat.data.display().to_string()),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", &peer),
            ("--initial-advertise-peer-urls", &peer),
            ("--initial-cluster", &members.join(",")),
            ("--initial-cluster-state", "new"),
            ("--initial-cluster-token", &plan.token),
            ("--logger", "zap"),
            ("--log-outputs", "stderr"),
            ("--log-level", "warn"),
        ]
        .map(|(flag, value)| [flag.to_owned(), value.to_owned()]);
        NodeCommand {
            program: Program::Installed {
                name: "etcd",
                package: "etcd-server",
                // Each of its flags has a variable. The exception lets it run on processors that it does not support.
                withheld: |name| name.starts_with("ETCD_") && name != "ETCD_UNSUPPORTED_ARCH",
            },
            arguments: pairs.concat(),
        }
    }

    fn software(&self, probed: &Presence) -> String {
        probed.software.clone()
    }

    fn durability(&self) -> &'static str {
        "etcd's defaults: every write is synced on a majority before it is acknowledged"
    }
}

/// A member's identifier as etcd's own tools print it; empty for none.
fn member_name(id: u64) -> String {
    match id {
        0 => String::new(),
        id => format!("{id:x}"),
    }
}

/// A `TxnRequest`: if the key holds what is expected, put, else get.
fn transaction(key: &str, expected: Option<&str>, value: &str, body: &mut Vec<u8>) {
    put_message(1, body, |compare| {
        put_number(2, expected.map_or(0, |_| TARGET_VALUE), compare);
        put_text(3, key, compare);
        match expected {
            Some(expected) => put_bytes(7, expected.as_bytes(), compare),
            None => put_number_always(4, 0, compare),
        }
    });
    put_message(2, body, |success| {
        put_message(2, success, |put| {
            put_text(1, key, put);
            put_text(2, value, put);
        });
    });
    put_message(3, body, |failure| {
        put_message(1, failure, |get| put_text(1, key, get))
    });
}

/// What the get of a transaction found, in a `ResponseOp`; nothing if it was the put that was carried out.
fn found_by_transaction(message: &[u8]) -> Result<Option<KeyValue<'_>>, Malformed> {
    let mut found = None;
    let mut fields = Fields::of(message);
    while let Some((field, value)) = fields.next()? {
        if field != 1 {
            continue;
        }
        let mut range = Fields::of(value.bytes());
        while let Some((field, value)) = range.next()? {
            if field == 2 {
                found = Some(KeyValue::read(value.bytes())?);
            }
        }
    }
    Ok(found)
}

/// A `ResponseHeader`.
#[derive(Default)]
struct Header {
    member: u64,
    revision: u64,
    term: u64,
}

impl Header {
    fn read(message: &[u8]) -> Result<Header, Malformed> {
        let mut header = Header::default();
        let mut fields = Fields::of(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                2 => header.member = value.number(),
                3 => header.revision = value.number(),
                4 => header.term = value.number(),
                _ => {}
            }
        }
        Ok(header)
    }
}

/// An `mvccpb.KeyValue`.
#[derive(Default)]
struct KeyValue<'a> {
    mod_revision: u64,
    value: &'a str,
}

impl<'a> KeyValue<'a> {
    fn read(message: &'a [u8]) -> Result<KeyValue<'a>, Malformed> {
        let mut pair = KeyValue::default();
        let mut fields = Fields::of(message);
        while let Some((field, value)) = fields.next()? {
            match field {
                3 => pair.mod_revision = value.number(),
                5 => pair.value = value.text()?,
                _ => {}
            }
        }
        Ok(pair)
    }
}

/// Status codes of gRPC that etcd uses.
mod code {
    pub(super) const CANCELLED: u32 = 1;
    pub(super) const UNKNOWN: u32 = 2;
    pub(super) const INVALID_ARGUMENT: u32 = 3;
    pub(super) const DEADLINE_EXCEEDED: u32 = 4;
    pub(super) const PERMISSION_DENIED: u32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(super) const UNAVAILABLE: u32 = 14;
    pub(super) const UNAUTHENTICATED: u32 = 16;
}

/// What an error of etcd leaves the client to do. Only what is returned before a write is proposed to Raft, or in place of
/// applying it, counts as not executed.
fn disposition(status: &RpcStatus) -> Disposition {
    let own = status.message.strip_prefix("etcdserver: ");
    match (status.code, own) {
        // Turned away by an interceptor, before the operation is looked at.
        (code::UNAVAILABLE, Some("no leader" | "not capable" | "rpc not supported for learner")) => {
            Disposition::Elsewhere
        }
        // The node's own Raft refused to take the proposal: it knows no leader, or hands over its office.
        (code::UNKNOWN, None) if status.message == "raft proposal dropped" => Disposition::Elsewhere,
        // Too much is committed and not yet applied; looked at before the proposal.
        (code::RESOURCE_EXHAUSTED, Some("too many requests")) => Disposition::Again,
        // The request itself is checked before the proposal.
        (
            code::INVALID_ARGUMENT,
            Some(
                "key is not provided"
                | "value is provided"
                | "lease is provided"
                | "too many operations in txn request"
                | "duplicate key given in txn request"
                | "request is too large"
                | "user name is empty",
            ),
        ) => Disposition::Rejected,
        // Who asks is checked before the proposal, and what he may do in place of applying it.
        (code::UNAUTHENTICATED, Some("invalid auth token")) => Disposition::Rejected,
        (code::PERMISSION_DENIED, Some("permission denied")) => Disposition::Rejected,
        // It waited for the proposal to be applied, in vain: that may still happen.
        (code::UNAVAILABLE, Some(text)) if text.starts_with("request timed out") => {
            Disposition::Ambiguous(OutcomeKind::TimeoutServer)
        }
        (code::DEADLINE_EXCEEDED, _) => Disposition::Ambiguous(OutcomeKind::TimeoutServer),
        (code::CANCELLED, _) => Disposition::Ambiguous(OutcomeKind::Cancelled),
        // Everything else of its own. Among it, "mvcc: database space exceeded": the first write beyond the quota is
        // carried out and answered with this all the same (`quotaApplierV3`), and only later ones are not.
        (_, Some(_)) => Disposition::Ambiguous(OutcomeKind::Unsure),
        _ => Disposition::Ambiguous(OutcomeKind::Unlabelled),
    }
}

#[cfg(test)]
mod tests;
