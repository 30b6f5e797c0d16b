//! One HTTP/2 connection of unary gRPC calls, as a machine without a socket and without a clock: calls and bytes go in,
//! completions and bytes come out.
//!
//! Promises that every call submitted ends in exactly one completion, unless it is cancelled; that a call counts as *not
//! sent* only if the far side cannot have seen enough of it to act (none of its bytes were handed over, or the far side
//! said itself that it did not process it); that nothing grows without bound: calls that wait for a stream are
//! limited, and so are headers and answers.
//!
//! Sources: RFC 9113 (HTTP/2), RFC 7541 (HPACK), and "gRPC over HTTP2" in the gRPC repository.

use std::collections::VecDeque;
use std::time::Duration;

use super::frame::{self, Head, code, flag, kind, setting};
use super::hpack::Encoder;
use super::response::{Headers, Reading};
use super::{Answer, CallError, Method};

/// How much of one answer may be on its way; larger than any answer may be, so it never has to be topped up.
const STREAM_WINDOW: u32 = 8 << 20;
/// How much of all answers together may be on its way before we say that we have taken it.
const CONNECTION_WINDOW: u32 = 1 << 30;
/// What we have taken is reported in portions of this.
const WINDOW_REPORT: u32 = 1 << 26;
/// What every window is before anybody says otherwise.
const WINDOW_DEFAULT: i64 = 65_535;
/// Streams that we open before the far side has said how many it takes.
const STREAMS_DEFAULT: usize = 100;
/// Headers of one answer.
const HEADERS_MAX: usize = 64 << 10;
/// Stream identifiers end here.
const STREAM_LAST: u32 = 0x7fff_fffd;
/// Longest message: five bytes of frame and what a store may answer.
const MESSAGE_MAX: usize = 4 << 20;
/// Acknowledgements that may wait to be handed over; a far side that wants more without reading any is cut off.
const ACKNOWLEDGEMENTS_MAX: usize = 10_000;
/// Bytes that were handed over are dropped from the front of the buffer in portions of this.
const HANDED_PORTION: usize = 1 << 20;

/// Takes what became of a call.
pub trait Sink<R> {
    /// The call that this reply belongs to has ended.
    fn done(&mut self, reply: R, result: Result<Answer, CallError>);
}

impl<R, F: FnMut(R, Result<Answer, CallError>)> Sink<R> for F {
    fn done(&mut self, reply: R, result: Result<Answer, CallError>) {
        self(reply, result);
    }
}

/// What giving up on a call found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// Nothing of it had left, and nothing will.
    NotSent,
    /// It may have been seen.
    MaybeSent,
    /// It had ended already; its completion is on its way.
    AlreadyDone,
}

#[derive(Debug)]
enum Stream<R> {
    /// There is no room for it yet.
    Waiting {
        method: Method,
        timeout: Option<Duration>,
        body: Vec<u8>,
        reply: R,
    },
    Open(Box<Open<R>>),
    Ended,
}

#[derive(Debug)]
struct Open<R> {
    reply: R,
    /// Where its bytes begin in all that was ever written.
    from: u64,
    /// Later headers can only be read after its own.
    teaches: bool,
    /// What the far side lets us send.
    window: i64,
    /// What could not be sent yet.
    unsent: Vec<u8>,
    reading: Reading,
}

/// The machine. `R` says where a completion goes.
#[derive(Debug)]
pub struct Core<R> {
    encoder: Encoder,
    timeout_text: (Option<Duration>, String),
    out: Vec<u8>,
    /// How much of `out` was handed over.
    out_from: usize,
    /// How much was handed over in all, up to the beginning of `out`.
    handed_before: u64,
    /// Where the acknowledgements in `out` end in all that was ever written, oldest first.
    acknowledgements: VecDeque<u64>,
    partial: Vec<u8>,
    /// Streams by their number, from that of `first` on: 1, 3, 5 ….
    streams: VecDeque<Stream<R>>,
    first: u32,
    /// How many of `streams` have been opened.
    opened: usize,
    waiting: usize,
    waiting_max: usize,
    active: usize,
    blocked: VecDeque<u32>,
    window: i64,
    stream_window: i64,
    payload_max: usize,
    streams_max: usize,
    taken: u32,
    headers: Headers,
    /// A header block that goes on in the next frame.
    continued: Option<(u32, u8, Vec<u8>)>,
    /// The first settings of the far side are in.
    told_streams: bool,
    going_away: bool,
    /// What the far side gave as its reason when it said that something is wrong.
    complaint: Option<String>,
}

/// The number of a call's stream.
pub type StreamId = u32;

impl<R> Core<R> {
    /// A connection that has said its greeting. `waiting_max` calls may wait for a stream.
    pub fn new(authority: &str, waiting_max: usize) -> Core<R> {
        let mut out = Vec::with_capacity(64 << 10);
        out.extend_from_slice(frame::PREFACE);
        let settings = [
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        ];
        frame::settings(&settings, &mut out);
        let more = CONNECTION_WINDOW - WINDOW_DEFAULT as u32;
        frame::write(kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes(), &mut out);
        Core {
            encoder: Encoder::new(authority),
            timeout_text: (None, String::new()),
            out,
            out_from: 0,
            handed_before: 0,
            acknowledgements: VecDeque::new(),
            partial: Vec::new(),
            streams: VecDeque::new(),
            first: 1,
            opened: 0,
            waiting: 0,
            waiting_max,
            active: 0,
            blocked: VecDeque::new(),
            window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            payload_max: frame::PAYLOAD_MAX,
            streams_max: STREAMS_DEFAULT,
            taken: 0,
            headers: Headers::default(),
            continued: None,
            told_streams: false,
            going_away: false,
            complaint: None,
        }
    }

    /// Whether new calls need another connection.
    pub fn is_spent(&self) -> bool {
        self.going_away || self.first as usize + 2 * self.streams.len() > STREAM_LAST as usize
    }

    /// Whether any call is open or waits.
    pub fn is_idle(&self) -> bool {
        self.active == 0 && self.waiting == 0
    }

    /// Whether too many calls wait already.
    pub fn is_full(&self) -> bool {
        self.waiting >= self.waiting_max
    }

    /// Bytes to hand over.
    pub fn outgoing(&self) -> &[u8] {
        &self.out[self.out_from..]
    }

    /// So many of them were taken.
    pub fn handed_over(&mut self, bytes: usize) {
        self.out_from += bytes;
        let handed = self.handed_before + self.out_from as u64;
        while self.acknowledgements.front().is_some_and(|end| *end <= handed) {
            self.acknowledgements.pop_front();
        }
        if self.out_from == self.out.len() {
            self.handed_before += self.out_from as u64;
            self.out.clear();
            self.out_from = 0;
        } else if self.out_from >= HANDED_PORTION {
            self.handed_before += self.out_from as u64;
            self.out.drain(..self.out_from);
            self.out_from = 0;
        }
    }

    /// Begins a call. The caller has made sure that the connection is neither spent nor full.
    pub fn submit(
        &mut self,
        method: Method,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut Vec<u8>),
        reply: R,
    ) -> StreamId {
        let id = self.first + 2 * self.streams.len() as u32;
        if self.active >= self.streams_max || self.waiting > 0 {
            let mut body = Vec::new();
            encode(&mut body);
            self.waiting += 1;
            self.streams.push_back(Stream::Waiting {
                method,
                timeout,
                body,
                reply,
            });
        } else {
            let open = self.open(id, method, timeout, encode, reply);
            self.streams.push_back(Stream::Open(open));
            self.opened += 1;
        }
        id
    }

    /// Gives up on a call; its completion never comes.
    pub fn cancel(&mut self, id: StreamId) -> Cancelled {
        let Some(stream) = self.stream(id) else {
            return Cancelled::AlreadyDone;
        };
        let cancelled = match std::mem::replace(stream, Stream::Ended) {
            Stream::Ended => return Cancelled::AlreadyDone,
            Stream::Waiting { .. } => {
                self.waiting -= 1;
                Cancelled::NotSent
            }
            Stream::Open(open) => {
                self.active -= 1;
                if self.is_unseen(&open) && !open.teaches {
                    self.take_back(id, open.from);
                    Cancelled::NotSent
                } else {
                    let payload = code::CANCEL.to_be_bytes();
                    frame::write(kind::RST_STREAM, 0, id, &payload, &mut self.out);
                    Cancelled::MaybeSent
                }
            }
        };
        self.tidy();
        cancelled
    }

    /// Asks whether the far side is there.
    pub fn ping(&mut self) {
        frame::write(kind::PING, 0, 0, &[0; 8], &mut self.out);
    }

    /// Takes bytes that arrived. After an error the connection is of no use: [`Core::close`] it.
    pub fn receive(&mut self, bytes: &[u8], sink: &mut impl Sink<R>) -> Result<(), String> {
        let mut held = std::mem::take(&mut self.partial);
        let mut rest = bytes;
        if !held.is_empty() {
            held.extend_from_slice(bytes);
            rest = &held;
        }
        while let Some(head) = Head::parse(rest) {
            if !self.told_streams && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
                return Err("the far side does not speak HTTP/2: it did not begin with its settings".into());
            }
            if head.length > frame::PAYLOAD_MAX {
                return Err(format!(
                    "a frame of {} bytes is larger than we allow",
                    head.length
                ));
            }
            let Some(payload) = rest.get(frame::HEADER_BYTES..frame::HEADER_BYTES + head.length) else {
                break;
            };
            self.frame(head, payload, sink)?;
            rest = &rest[frame::HEADER_BYTES + head.length..];
        }
        self.partial = rest.to_vec();
        self.tidy();
        Ok(())
    }

    /// The connection has ended: so have all calls. What was not seen was not sent.
    pub fn close(&mut self, reason: &str, sink: &mut impl Sink<R>) {
        self.going_away = true;
        let reason = match &self.complaint {
            Some(complaint) => &format!("{reason}, after it had complained of {complaint}"),
            None => reason,
        };
        for stream in std::mem::take(&mut self.streams) {
            match stream {
                Stream::Ended => {}
                Stream::Waiting { reply, .. } => sink.done(reply, Err(CallError::not_sent(reason))),
                Stream::Open(open) if self.is_unseen(&open) => {
                    sink.done(open.reply, Err(CallError::not_sent(reason)));
                }
                Stream::Open(open) => sink.done(open.reply, Err(CallError::lost(reason))),
            }
        }
        (self.active, self.waiting, self.opened) = (0, 0, 0);
    }

    fn stream(&mut self, id: StreamId) -> Option<&mut Stream<R>> {
        let position = self.position(id)?;
        self.streams.get_mut(position)
    }

    /// Where a stream stands in `streams`, if it is one of ours (those are odd) and has not been forgotten.
    fn position(&self, id: StreamId) -> Option<usize> {
        let distance = id.checked_sub(self.first)?;
        distance.is_multiple_of(2).then_some(distance as usize / 2)
    }

    /// Whether none of its bytes were handed over.
    fn is_unseen(&self, open: &Open<R>) -> bool {
        self.handed_before + self.out_from as u64 <= open.from
    }

    fn open(
        &mut self,
        id: StreamId,
        method: Method,
        timeout: Option<Duration>,
        encode: impl FnOnce(&mut Vec<u8>),
        reply: R,
    ) -> Box<Open<R>> {
        self.active += 1;
        let from = self.handed_before + self.out.len() as u64;
        let headers_at = self.out.len();
        let (kind, flags, length, stream) = (kind::HEADERS, flag::END_HEADERS, 0, id);
        Head {
            length,
            kind,
            flags,
            stream,
        }
        .write(&mut self.out);
        if timeout.is_some() && self.timeout_text.0 != timeout {
            self.timeout_text = (timeout, timeout.map(timeout_text).unwrap_or_default());
        }
        let text = timeout.map(|_| self.timeout_text.1.as_str());
        let teaches = self.encoder.request(method, text, &mut self.out);
        set_length(&mut self.out, headers_at);
        let data_at = self.out.len();
        let (kind, flags) = (kind::DATA, flag::END_STREAM);
        Head {
            length,
            kind,
            flags,
            stream,
        }
        .write(&mut self.out);
        self.out.extend_from_slice(&[0; 5]);
        encode(&mut self.out);
        let body_at = data_at + frame::HEADER_BYTES;
        let message = (self.out.len() - body_at - 5) as u32;
        self.out[body_at + 1..body_at + 5].copy_from_slice(&message.to_be_bytes());
        let mut open = Box::new(Open {
            reply,
            from,
            teaches,
            window: self.stream_window,
            unsent: Vec::new(),
            reading: Reading::default(),
        });
        let body = self.out.len() - body_at;
        let room = self.window.min(open.window).max(0) as usize;
        if body <= room.min(self.payload_max) {
            set_length(&mut self.out, data_at);
            self.window -= body as i64;
            open.window -= body as i64;
        } else {
            open.unsent = self.out.split_off(body_at);
            self.out.truncate(data_at);
            self.send_more(id, &mut open);
        }
        open
    }

    /// Sends as much of a call's message as the windows allow.
    fn send_more(&mut self, id: StreamId, open: &mut Open<R>) {
        let mut sent = 0;
        while sent < open.unsent.len() {
            let room = self.window.min(open.window).max(0) as usize;
            let length = room.min(self.payload_max).min(open.unsent.len() - sent);
            if length == 0 {
                self.blocked.push_back(id);
                break;
            }
            let last = sent + length == open.unsent.len();
            let flags = if last { flag::END_STREAM } else { 0 };
            frame::write(
                kind::DATA,
                flags,
                id,
                &open.unsent[sent..sent + length],
                &mut self.out,
            );
            self.window -= length as i64;
            open.window -= length as i64;
            sent += length;
        }
        open.unsent.drain(..sent);
    }

    /// Frames of a call that nobody has seen become frames that nobody looks at: those of other calls, which may stand
    /// between them, stay where they are.
    fn take_back(&mut self, id: StreamId, from: u64) {
        self.blocked.retain(|blocked| *blocked != id);
        let mut at = (from - self.handed_before) as usize;
        while let Some(head) = Head::parse(&self.out[at..]) {
            if head.stream == id {
                if head.kind == kind::DATA {
                    self.window += head.length as i64;
                }
                let (kind, flags, stream) = (kind::IGNORED, 0, 0);
                let mut ignored = Vec::with_capacity(frame::HEADER_BYTES);
                Head {
                    kind,
                    flags,
                    stream,
                    ..head
                }
                .write(&mut ignored);
                self.out[at..at + frame::HEADER_BYTES].copy_from_slice(&ignored);
            }
            at += frame::HEADER_BYTES + head.length;
        }
    }

    /// Forgets streams at the front that have ended, and opens those that wait, as far as there is room.
    fn tidy(&mut self) {
        self.unblock();
        while self.waiting > 0 && self.active < self.streams_max && !self.going_away {
            self.open_next();
        }
        while let Some(Stream::Ended) = self.streams.front() {
            self.streams.pop_front();
            self.opened = self.opened.saturating_sub(1);
            self.first += 2;
        }
    }

    fn open_next(&mut self) {
        let position = self.opened;
        self.opened += 1;
        let Some(stream) = self.streams.get_mut(position) else {
            return;
        };
        if let Stream::Waiting { .. } = stream
            && let Stream::Waiting {
                method,
                timeout,
                body,
                reply,
            } = std::mem::replace(stream, Stream::Ended)
        {
            self.waiting -= 1;
            let id = self.first + 2 * position as u32;
            let open = self.open(id, method, timeout, |out| out.extend_from_slice(&body), reply);
            self.streams[position] = Stream::Open(open);
        }
    }

    fn unblock(&mut self) {
        for _ in 0..self.blocked.len() {
            if self.window <= 0 {
                return;
            }
            let Some(id) = self.blocked.pop_front() else {
                return;
            };
            let Some(stream) = self.stream(id) else { continue };
            if let Stream::Open(mut open) = std::mem::replace(stream, Stream::Ended) {
                self.send_more(id, &mut open);
                if let Some(stream) = self.stream(id) {
                    *stream = Stream::Open(open);
                }
            }
        }
    }
}

fn set_length(out: &mut [u8], head_at: usize) {
    let length = (out.len() - head_at - frame::HEADER_BYTES) as u32;
    out[head_at..head_at + 3].copy_from_slice(&length.to_be_bytes()[1..]);
}

/// As gRPC writes a duration: at most eight digits and a unit.
fn timeout_text(timeout: Duration) -> String {
    const DIGITS: u128 = 99_999_999;
    let units = [
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (timeout.as_secs().into(), 'S'),
    ];
    let fits = units.iter().find(|(value, _)| *value <= DIGITS);
    let (value, unit) = fits.copied().unwrap_or((DIGITS, 'H'));
    format!("{value}{unit}")
}

#[cfg(test)]
mod tests;

mod incoming;
