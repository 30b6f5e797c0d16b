//! The other end of a [`Core`]: reads what it sends, frame by frame, and writes what a server would.

use std::collections::{BTreeMap, VecDeque};

use super::super::*;
use super::table::{Fields, Table};
use crate::wire::frame::HEADER_BYTES;

pub(super) const METHOD: Method = Method::new("/test.Service/Call");

/// How calls ended, by owner.
pub(super) type Ends = Vec<(u64, Result<Answer, CallError>)>;

/// What a request looked like to the peer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) fields: Fields,
    pub(super) body: Vec<u8>,
    pub(super) ended: bool,
    pub(super) reset: Option<u32>,
}

/// Everything the peer has received.
#[derive(Debug, Default)]
pub(super) struct Seen {
    rest: Vec<u8>,
    greeted: bool,
    table: Table,
    /// Table sizes of settings that were sent and not yet acknowledged, oldest first.
    pub(super) table_sizes: VecDeque<Option<usize>>,
    pub(super) requests: BTreeMap<u32, Request>,
    pub(super) settings_acks: usize,
    pub(super) pings: usize,
    pub(super) pongs: Vec<[u8; 8]>,
    pub(super) window_updates: Vec<(u32, u32)>,
    pub(super) data_max: usize,
}

impl Seen {
    /// Hands `count` outgoing bytes over, and reads them.
    pub(super) fn take<T>(&mut self, core: &mut Core<T>, count: usize) {
        let count = count.min(core.outgoing().len());
        self.rest.extend_from_slice(&core.outgoing()[..count]);
        core.handed_over(count);
        if !self.greeted && self.rest.len() >= frame::PREFACE.len() {
            let preface: Vec<u8> = self.rest.drain(..frame::PREFACE.len()).collect();
            assert_eq!(preface, frame::PREFACE);
            self.greeted = true;
        }
        while self.greeted
            && let Some(head) = Head::parse(&self.rest)
            && self.rest.len() >= HEADER_BYTES + head.length
        {
            let frame: Vec<u8> = self.rest.drain(..HEADER_BYTES + head.length).collect();
            self.frame(head, &frame[HEADER_BYTES..]);
        }
    }

    pub(super) fn take_all<T>(&mut self, core: &mut Core<T>) {
        self.take(core, usize::MAX);
        assert!(self.rest.is_empty(), "half a frame");
    }

    /// The request whose headers were cut after at least one byte, completed by what would have come `next`.
    pub(super) fn completed(&self, next: &[u8]) -> Option<(u32, Fields)> {
        if self.rest.is_empty() || !self.greeted {
            return None;
        }
        let bytes = [&self.rest, next].concat();
        let head = Head::parse(&bytes)?;
        let block = bytes.get(HEADER_BYTES..HEADER_BYTES + head.length)?;
        (head.kind == kind::HEADERS).then(|| (head.stream, self.table.clone().read(block)))
    }

    fn frame(&mut self, head: Head, payload: &[u8]) {
        match head.kind {
            kind::HEADERS => {
                assert!(head.has(flag::END_HEADERS) && !head.has(flag::END_STREAM));
                let highest = self.requests.keys().next_back().copied().unwrap_or(0);
                assert!(head.stream % 2 == 1 && head.stream > highest, "out of order");
                let fields = self.table.read(payload);
                let request = self.requests.entry(head.stream).or_default();
                request.fields = fields;
            }
            kind::DATA => {
                let request = self
                    .requests
                    .get_mut(&head.stream)
                    .expect("DATA on an idle stream");
                assert!(!request.ended && request.reset.is_none());
                request.body.extend_from_slice(payload);
                request.ended = head.has(flag::END_STREAM);
                self.data_max = self.data_max.max(payload.len());
            }
            kind::RST_STREAM => {
                let request = self
                    .requests
                    .get_mut(&head.stream)
                    .expect("an idle stream was reset");
                assert_eq!(request.reset, None, "it was reset twice");
                request.reset = Some(number(payload));
            }
            kind::SETTINGS if head.has(flag::ACK) => {
                self.settings_acks += 1;
                if let Some(Some(size)) = self.table_sizes.pop_front() {
                    self.table.acknowledged(size);
                }
            }
            kind::SETTINGS => assert_eq!(payload.len(), 18),
            kind::PING if head.has(flag::ACK) => self.pongs.push(payload.try_into().unwrap()),
            kind::PING => self.pings += 1,
            kind::WINDOW_UPDATE => self.window_updates.push((head.stream, number(payload))),
            kind::IGNORED => assert_eq!(head.stream, 0),
            other => panic!("a frame of type {other}"),
        }
    }
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload.try_into().unwrap())
}

pub(super) fn submit(core: &mut Core<u64>, owner: u64, message: &[u8]) -> StreamId {
    assert!(!core.is_spent() && !core.is_full());
    core.submit(METHOD, None, |out| out.extend_from_slice(message), owner)
}

/// A connection that has begun, to a peer with these settings.
pub(super) fn established(settings: &[(u16, u32)]) -> Core<u64> {
    let mut core = Core::new("peer:1", 1000);
    receive(&mut core, &settings_frame(settings));
    core
}

pub(super) fn try_receive(core: &mut Core<u64>, bytes: &[u8]) -> (Ends, Result<(), String>) {
    let mut ends = Ends::new();
    let mut sink = |owner: u64, result: Result<Answer, CallError>| ends.push((owner, result));
    let received = core.receive(bytes, &mut sink);
    (ends, received)
}

pub(super) fn receive(core: &mut Core<u64>, bytes: &[u8]) -> Ends {
    let (ends, received) = try_receive(core, bytes);
    received.unwrap();
    ends
}

pub(super) fn close(core: &mut Core<u64>) -> Ends {
    let mut ends = Ends::new();
    let mut sink = |owner: u64, result: Result<Answer, CallError>| ends.push((owner, result));
    core.close("gone", &mut sink);
    ends
}

/// Owners and messages, if all of them are good answers.
pub(super) fn bodies(ends: Ends) -> Vec<(u64, Vec<u8>)> {
    let body = |(owner, result): (u64, Result<Answer, CallError>)| (owner, result.unwrap().body().to_vec());
    ends.into_iter().map(body).collect()
}

pub(super) fn settings_frame(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::settings(settings, &mut out);
    out
}

pub(super) fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(kind, flags, stream, payload, &mut out);
    out
}

/// Fields in full.
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.extend([0x00, name.len() as u8]);
        out.extend(name.bytes());
        out.push(value.len() as u8);
        out.extend(value.bytes());
    }
    out
}

pub(super) fn headers(stream: u32, ends: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let flags = flag::END_HEADERS | if ends { flag::END_STREAM } else { 0 };
    raw(kind::HEADERS, flags, stream, &block(fields))
}

pub(super) fn leading(stream: u32) -> Vec<u8> {
    let fields = [(":status", "200"), ("content-type", "application/grpc")];
    headers(stream, false, &fields)
}

pub(super) fn trailers(stream: u32) -> Vec<u8> {
    headers(stream, true, &[("grpc-status", "0")])
}

pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

/// A whole good answer.
pub(super) fn answer(stream: u32, message: &[u8]) -> Vec<u8> {
    let mut out = leading(stream);
    for part in framed(message).chunks(frame::PAYLOAD_MAX) {
        out.extend(raw(kind::DATA, 0, stream, part));
    }
    out.extend(trailers(stream));
    out
}

pub(super) fn goaway(last: u32, code: u32, text: &[u8]) -> Vec<u8> {
    let payload = [&last.to_be_bytes()[..], &code.to_be_bytes(), text].concat();
    raw(kind::GOAWAY, 0, 0, &payload)
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    raw(kind::RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub(super) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    raw(kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub(super) fn is_not_sent(result: &Result<Answer, CallError>) -> bool {
    matches!(result, Err(CallError::NotSent { .. }))
}

pub(super) fn is_lost(result: &Result<Answer, CallError>) -> bool {
    matches!(result, Err(CallError::Lost { .. }))
}

pub(super) fn is_protocol(result: &Result<Answer, CallError>) -> bool {
    matches!(result, Err(CallError::Protocol { .. }))
}
