//! `echo://`: a bare tonic server that sends back what it was sent, without a store behind it.
//!
//! It is the floor of everything that speaks gRPC on this machine: what a store takes beyond it is the store's own. The message
//! is one field of bytes, key and value of the operation one after the other, and another that says which operation it is,
//! so that answers have the size that a store's would have: a write is answered with the first few of the bytes that were
//! sent, a read with all of the last write's, or, where there was none, with the key. A read finds nothing, since nothing is
//! kept; what would need a store to mean anything (a comparison, a range) is not supported, and a mix with it is refused.
//!
//! This file is also the example of a target, because everything in it is needed and little: see [`super`].

use reports::record::{Operation, OutcomeKind};

use super::local::{Launch, NodeCommand, Plan, Program};
use super::protobuf::{Fields, put_message, put_number};
use super::{Malformed, Presence, Reply, Target};
use crate::client::Call;
use crate::outcome::{Answer, Disposition};
use crate::wire::{Method, RpcStatus};

/// A server that keeps nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Echo;

/// The path of its only method.
pub(super) const PATH: &str = "/whitewater.Echo/Echo";
/// The numbers of its message's fields.
const PAYLOAD: u32 = 1;
const KIND: u32 = 2;
/// The kinds beside 0, which is sent back whole.
pub(super) const WRITE: u32 = 1;
pub(super) const READ: u32 = 2;
/// A write is answered with so many of its bytes, about as many as an index and a term take.
pub(super) const WRITTEN_BYTES: usize = 16;
/// What the probe wants to hear again.
const HELLO: &str = "who is there";

const METHOD: Method = Method::new(PATH);
const RESOURCE_EXHAUSTED: u32 = 8;

impl Target for Echo {
    fn scheme(&self) -> &'static str {
        "echo"
    }

    fn supports(&self, operation: Operation) -> bool {
        use Operation::{Delete, Get, Insert, Put, Rmw};
        matches!(operation, Get | Put | Insert | Delete | Rmw)
    }

    fn method(&self, _call: &Call) -> Method {
        METHOD
    }

    fn encode(&self, call: &Call, body: &mut Vec<u8>) {
        let (key, value) = sent(call);
        put_message(PAYLOAD, body, |payload| {
            payload.extend_from_slice(key.as_bytes());
            payload.extend_from_slice(value.as_bytes());
        });
        put_number(KIND, kind(call).into(), body);
    }

    fn answer<'a>(&self, call: &Call, body: &'a [u8]) -> Result<Reply<'a>, Malformed> {
        let (key, value) = sent(call);
        let sent = key.bytes().chain(value.bytes());
        let heard = payload(body)?;
        let expected = match kind(call) {
            WRITE => heard.iter().copied().eq(sent.take(WRITTEN_BYTES)),
            // Whatever was written last.
            _ => key.is_empty() || !heard.is_empty(),
        };
        if !expected {
            return Err(Malformed("the echo is not what was sent".into()));
        }
        let index = 0;
        let answer = match call {
            Call::Put { .. } => Answer::Written { index },
            Call::Get { .. } => Answer::Read { value: None, index },
            Call::Delete { .. } => Answer::Deleted {
                index,
                existed: false,
            },
            Call::Cas { .. } | Call::Scan { .. } => {
                return Err(Malformed("an echo cannot compare or read a range".into()));
            }
        };
        Ok(Reply {
            answer,
            node: "",
            term: None,
        })
    }

    fn disposition(&self, status: &RpcStatus) -> Disposition {
        match status.code {
            // There is no effect that could have happened: the server had too much to do and is asked again.
            RESOURCE_EXHAUSTED => Disposition::Again,
            _ => Disposition::Ambiguous(OutcomeKind::Unlabelled),
        }
    }

    fn leader_hint<'a>(&self, _status: &'a RpcStatus) -> (Option<&'a str>, Option<&'a str>) {
        (None, None)
    }

    fn probe(&self) -> Method {
        METHOD
    }

    fn encode_probe(&self, body: &mut Vec<u8>) {
        put_message(PAYLOAD, body, |payload| {
            payload.extend_from_slice(HELLO.as_bytes())
        });
    }

    fn probed(&self, body: &[u8]) -> Result<Presence, Malformed> {
        match payload(body)? == HELLO.as_bytes() {
            true => Ok(Presence::default()),
            false => Err(Malformed("the echo is not what was sent".into())),
        }
    }

    fn launch(&self) -> Option<&dyn Launch> {
        Some(self)
    }
}

impl Launch for Echo {
    fn nodes(&self) -> (usize, usize) {
        (1, 1)
    }

    fn elects(&self) -> bool {
        false
    }

    fn command(&self, plan: &Plan, node: usize) -> NodeCommand {
        let port = plan.seats[node].ports[0];
        NodeCommand {
            program: Program::Own,
            arguments: ["node-echo", "--port", &port.to_string()]
                .map(str::to_owned)
                .into(),
        }
    }

    fn software(&self, _probed: &Presence) -> String {
        concat!("bare tonic echo of whitewater ", env!("CARGO_PKG_VERSION")).into()
    }

    fn durability(&self) -> &'static str {
        "nothing is kept"
    }
}

fn kind(call: &Call) -> u32 {
    match call {
        Call::Put { .. } | Call::Cas { .. } | Call::Delete { .. } => WRITE,
        Call::Get { .. } | Call::Scan { .. } => READ,
    }
}

/// The two parts of the payload.
fn sent(call: &Call) -> (&str, &str) {
    match call {
        Call::Put { key, value } | Call::Cas { key, value, .. } => (key, value),
        Call::Get { key } | Call::Delete { key } => (key, ""),
        Call::Scan { start, .. } => (start, ""),
    }
}

fn payload(body: &[u8]) -> Result<&[u8], Malformed> {
    let mut payload: &[u8] = &[];
    let mut fields = Fields::of(body);
    while let Some((field, value)) = fields.next()? {
        if field == PAYLOAD {
            payload = value.bytes();
        }
    }
    Ok(payload)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::target::local::EchoMessage;

    proptest! {
        #[test]
        fn what_is_sent_is_what_the_server_reads_and_an_answer(key in ".*", value in ".*") {
            let put = Call::Put { key: key.as_str().into(), value: value.clone() };
            let mut body = Vec::new();
            Echo.encode(&put, &mut body);
            let message = EchoMessage::decode(&*body).unwrap();
            let both = format!("{key}{value}");
            prop_assert_eq!(&message.payload[..], both.as_bytes());
            let echo = EchoMessage { payload: message.payload.slice(..both.len().min(WRITTEN_BYTES)), kind: 0 };
            let again = echo.encode_to_vec();
            prop_assert_eq!(Echo.answer(&put, &again).unwrap().answer, Answer::Written { index: 0 });
        }
    }

    #[test]
    fn another_echo_is_no_answer() {
        let delete = |key: &str| Call::Delete { key: key.into() };
        let mut body = Vec::new();
        Echo.encode(&delete("abc"), &mut body);
        assert!(Echo.answer(&delete("abc"), &body).is_ok());
        for other in ["ab", "abcd", "xyz", ""] {
            assert!(Echo.answer(&delete(other), &body).is_err(), "{other:?}");
        }
        let get = Call::Get { key: "abc".into() };
        assert!(Echo.answer(&get, &body).is_ok());
        assert!(Echo.answer(&get, &[]).is_err());
        assert!(Echo.probed(&body).is_err());
        let mut hello = Vec::new();
        Echo.encode_probe(&mut hello);
        assert!(Echo.probed(&hello).is_ok());
    }

    #[test]
    fn only_overload_is_certain() {
        for code in 1..=17 {
            let status = RpcStatus {
                code,
                message: String::new(),
                metadata: Vec::new(),
            };
            let certain = Echo.disposition(&status) == Disposition::Again;
            assert_eq!(certain, code == RESOURCE_EXHAUSTED, "{code}");
        }
    }

    #[test]
    fn what_needs_a_store_is_not_supported() {
        let lacking = Operation::ALL
            .into_iter()
            .filter(|operation| !Echo.supports(*operation));
        assert_eq!(lacking.collect::<Vec<_>>(), [Operation::Cas, Operation::Scan]);
    }
}
