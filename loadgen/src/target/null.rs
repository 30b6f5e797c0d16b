//! `null://`: nothing at all. Every operation is answered at once, inside this process.
//!
//! What is left is the generator: the time and the allocations that it spends on an operation by itself, and so how much of
//! a store's numbers can be its own. There is no state: nothing that was written is found, every comparison holds, and no
//! index is given (0). A history of it is not linearizable, and is not meant to be.

use reports::record::{Operation, OutcomeKind};

use super::{Malformed, Presence, Reply, Target};
use crate::client::Call;
use crate::outcome::{Answer, Disposition};
use crate::wire::{Method, RpcStatus};

/// No store.
#[derive(Debug, Clone, Copy, Default)]
pub struct Null;

/// Never sent, because there is nobody to send it to.
const NONE: Method = Method::new("/null/None");

impl Target for Null {
    fn scheme(&self) -> &'static str {
        "null"
    }

    fn supports(&self, _operation: Operation) -> bool {
        true
    }

    fn method(&self, _call: &Call) -> Method {
        NONE
    }

    fn encode(&self, _call: &Call, _body: &mut Vec<u8>) {}

    fn answer<'a>(&self, call: &Call, body: &'a [u8]) -> Result<Reply<'a>, Malformed> {
        if !body.is_empty() {
            return Err(Malformed(format!(
                "{} bytes came from a store that does not exist",
                body.len()
            )));
        }
        let index = 0;
        let answer = match call {
            Call::Put { .. } => Answer::Written { index },
            Call::Get { .. } => Answer::Read { value: None, index },
            Call::Cas { .. } => Answer::Swapped { index },
            Call::Delete { .. } => Answer::Deleted {
                index,
                existed: false,
            },
            Call::Scan { .. } => Answer::Scanned { entries: 0, index },
        };
        Ok(Reply {
            answer,
            node: "",
            term: None,
        })
    }

    fn disposition(&self, _status: &RpcStatus) -> Disposition {
        Disposition::Ambiguous(OutcomeKind::Unlabelled)
    }

    fn leader_hint<'a>(&self, _status: &'a RpcStatus) -> (Option<&'a str>, Option<&'a str>) {
        (None, None)
    }

    fn probe(&self) -> Method {
        NONE
    }

    fn encode_probe(&self, _body: &mut Vec<u8>) {}

    fn probed(&self, _body: &[u8]) -> Result<Presence, Malformed> {
        Ok(Presence {
            software: "nothing".into(),
            ..Presence::default()
        })
    }

    fn is_in_process(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_operation_is_answered_without_a_byte() {
        let key: std::sync::Arc<str> = "k".into();
        let calls = [
            Call::Get { key: key.clone() },
            Call::Put {
                key: key.clone(),
                value: "v".into(),
            },
            Call::Cas {
                key: key.clone(),
                expected: Some("u".into()),
                value: "v".into(),
            },
            Call::Delete { key: key.clone() },
            Call::Scan { start: key, limit: 3 },
        ];
        for call in &calls {
            let mut body = Vec::new();
            Null.encode(call, &mut body);
            let reply = Null.answer(call, &body).unwrap();
            assert_eq!(reply.answer.index(), 0);
            assert_eq!(reply.answer.is_acknowledged_write(), call.is_write(), "{call:?}");
            assert!(Null.answer(call, b"x").is_err());
        }
    }
}
