//! What the far side says, frame by frame.

use super::super::frame::{self, Head, code, flag, kind, setting};
use super::super::response::Verdict;
use super::super::{Answer, CallError};
use super::{ACKNOWLEDGEMENTS_MAX, Core, HEADERS_MAX, MESSAGE_MAX, Sink, Stream, StreamId, WINDOW_REPORT};

/// Bytes of a farewell's text that are kept.
const COMPLAINT_MAX: usize = 256;

impl<R> Core<R> {
    pub(super) fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        sink: &mut impl Sink<R>,
    ) -> Result<(), String> {
        if self.continued.is_some() && head.kind != kind::CONTINUATION {
            return Err("a header block was interrupted by another frame".into());
        }
        match head.kind {
            kind::DATA => self.data(head, payload, sink),
            kind::HEADERS => {
                let block = frame::unpadded(head, payload)
                    .ok_or("the padding of a frame is longer than the frame")?;
                if head.has(flag::END_HEADERS) {
                    self.block(head.stream, head.has(flag::END_STREAM), block, sink);
                } else {
                    self.continued = Some((head.stream, head.flags, block.to_vec()));
                }
                Ok(())
            }
            kind::CONTINUATION => self.continuation(head, payload, sink),
            kind::RST_STREAM => {
                let code = number(payload).ok_or("a reset has the wrong length")?;
                if code == code::REFUSED_STREAM {
                    let reason = "the far side refused the stream without processing it";
                    self.untouched(head.stream, reason, sink);
                } else {
                    let reason = format!("the far side reset the stream ({})", error_name(code));
                    self.finish(head.stream, Err(CallError::lost(&reason)), sink);
                }
                Ok(())
            }
            kind::SETTINGS => self.settings(head, payload),
            kind::PING => {
                if payload.len() != 8 {
                    return Err("a ping has the wrong length".into());
                }
                if head.has(flag::ACK) {
                    return Ok(());
                }
                self.acknowledge(kind::PING, payload)
            }
            kind::GOAWAY => {
                let last = payload
                    .get(..8)
                    .and_then(|payload| number(&payload[..4]))
                    .ok_or("a farewell has the wrong length")?;
                self.complaint = complaint(&payload[4..]);
                self.farewell(last & 0x7fff_ffff, sink);
                Ok(())
            }
            kind::WINDOW_UPDATE => self.window_update(head, payload),
            kind::PUSH_PROMISE => Err("the far side pushes, though we do not allow it".into()),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8], sink: &mut impl Sink<R>) -> Result<(), String> {
        let data = frame::unpadded(head, payload).ok_or("the padding of a frame is longer than the frame")?;
        self.taken += head.length as u32;
        if self.taken >= WINDOW_REPORT {
            let taken = std::mem::take(&mut self.taken);
            frame::write(kind::WINDOW_UPDATE, 0, 0, &taken.to_be_bytes(), &mut self.out);
        }
        let Some(Stream::Open(open)) = self.stream(head.stream) else {
            return Ok(());
        };
        if !open.reading.started {
            let reason = "the answer has data in front of its headers".into();
            self.abandon(head.stream, CallError::Protocol { reason }, sink);
            return Ok(());
        }
        let body = &mut open.reading.body;
        if body.len() + data.len() > MESSAGE_MAX + 5 {
            let reason = format!("the answer is larger than {MESSAGE_MAX} bytes");
            self.abandon(head.stream, CallError::Protocol { reason }, sink);
            return Ok(());
        }
        body.extend_from_slice(data);
        if head.has(flag::END_STREAM) {
            let reason = "the answer ended without a status".into();
            self.finish(head.stream, Err(CallError::Protocol { reason }), sink);
        }
        Ok(())
    }

    fn continuation(&mut self, head: Head, payload: &[u8], sink: &mut impl Sink<R>) -> Result<(), String> {
        let Some((stream, flags, mut block)) = self.continued.take() else {
            return Err("a header block goes on that never began".into());
        };
        if stream != head.stream {
            return Err("a header block goes on in another stream".into());
        }
        if block.len() + payload.len() > HEADERS_MAX {
            return Err(format!(
                "the headers of an answer are larger than {HEADERS_MAX} bytes"
            ));
        }
        block.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            self.block(stream, flags & flag::END_STREAM != 0, &block, sink);
        } else {
            self.continued = Some((stream, flags, block));
        }
        Ok(())
    }

    /// A whole header block: what an answer begins or ends with.
    fn block(&mut self, id: StreamId, ends: bool, block: &[u8], sink: &mut impl Sink<R>) {
        let position = self.position(id);
        let Some(Stream::Open(open)) = position.and_then(|position| self.streams.get_mut(position)) else {
            return;
        };
        match self.headers.read(block, ends, &mut open.reading) {
            Verdict::GoOn => {}
            Verdict::Done(result) => self.finish(id, result, sink),
            Verdict::Hopeless(error) => self.abandon(id, error, sink),
        }
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<(), String> {
        if head.has(flag::ACK) {
            return Ok(());
        }
        let (settings, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err("settings have the wrong length".into());
        }
        for [i1, i2, v1, v2, v3, v4] in settings {
            let value = u32::from_be_bytes([*v1, *v2, *v3, *v4]);
            match u16::from_be_bytes([*i1, *i2]) {
                setting::HEADER_TABLE_SIZE => self.encoder.table_size(value as usize),
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value as usize,
                setting::INITIAL_WINDOW_SIZE => self.initial_window(value)?,
                setting::MAX_FRAME_SIZE => self.payload_max = frame_size(value)?,
                _ => {}
            }
        }
        if !self.told_streams {
            // The first settings are the far side's whole word: without a number there is no limit.
            self.told_streams = true;
            let told =
                |[i1, i2, ..]: &[u8; 6]| u16::from_be_bytes([*i1, *i2]) == setting::MAX_CONCURRENT_STREAMS;
            if !settings.iter().any(told) {
                self.streams_max = usize::MAX;
            }
        }
        self.acknowledge(kind::SETTINGS, &[])
    }

    fn acknowledge(&mut self, kind: u8, payload: &[u8]) -> Result<(), String> {
        if self.acknowledgements.len() >= ACKNOWLEDGEMENTS_MAX {
            return Err(format!(
                "the far side does not read, and wants more than {ACKNOWLEDGEMENTS_MAX} acknowledgements"
            ));
        }
        frame::write(kind, flag::ACK, 0, payload, &mut self.out);
        let end = self.handed_before + self.out.len() as u64;
        self.acknowledgements.push_back(end);
        Ok(())
    }

    /// Also the windows of streams that are open change by the difference (RFC 9113, section 6.9.2).
    fn initial_window(&mut self, value: u32) -> Result<(), String> {
        if value > 0x7fff_ffff {
            return Err("the far side announced a window that is too large".into());
        }
        let difference = i64::from(value) - self.stream_window;
        self.stream_window = i64::from(value);
        for (position, stream) in self.streams.iter_mut().enumerate() {
            if let Stream::Open(open) = stream {
                open.window += difference;
                let id = self.first + 2 * position as u32;
                if !open.unsent.is_empty() && !self.blocked.contains(&id) {
                    self.blocked.push_back(id);
                }
            }
        }
        Ok(())
    }

    fn window_update(&mut self, head: Head, payload: &[u8]) -> Result<(), String> {
        let more = i64::from(number(payload).ok_or("a window update has the wrong length")? & 0x7fff_ffff);
        if head.stream == 0 {
            self.window += more;
            if self.window > 0x7fff_ffff {
                return Err("the far side let the connection's window overflow".into());
            }
        } else if let Some(Stream::Open(open)) = self.stream(head.stream) {
            open.window += more;
        }
        Ok(())
    }

    /// The far side closes, and tells up to which stream it may have processed anything.
    fn farewell(&mut self, last: StreamId, sink: &mut impl Sink<R>) {
        self.going_away = true;
        for position in 0..self.streams.len() {
            let id = self.first + 2 * position as u32;
            let untouched = id > last || matches!(self.streams[position], Stream::Waiting { .. });
            if untouched {
                let reason = "the far side is closing and did not process it";
                self.untouched(id, reason, sink);
            }
        }
    }

    /// The far side says that it did not process a call. That is not believed if it has begun to answer.
    fn untouched(&mut self, id: StreamId, reason: &str, sink: &mut impl Sink<R>) {
        let error = match self.stream(id) {
            Some(Stream::Open(open)) if open.reading.started => {
                CallError::lost(&format!("{reason}, yet it had begun to answer"))
            }
            _ => CallError::not_sent(reason),
        };
        self.finish(id, Err(error), sink);
    }

    /// A call has ended, and we do not want to hear more of it.
    fn abandon(&mut self, id: StreamId, error: CallError, sink: &mut impl Sink<R>) {
        frame::write(
            kind::RST_STREAM,
            0,
            id,
            &code::CANCEL.to_be_bytes(),
            &mut self.out,
        );
        self.finish(id, Err(error), sink);
    }

    fn finish(&mut self, id: StreamId, result: Result<Answer, CallError>, sink: &mut impl Sink<R>) {
        let Some(stream) = self.stream(id) else { return };
        match std::mem::replace(stream, Stream::Ended) {
            Stream::Ended => {}
            Stream::Waiting { reply, .. } => {
                self.waiting -= 1;
                sink.done(reply, result);
            }
            Stream::Open(open) => {
                self.active -= 1;
                if !open.unsent.is_empty() {
                    // It was answered before it was asked in full: the rest is not wanted.
                    frame::write(
                        kind::RST_STREAM,
                        0,
                        id,
                        &code::CANCEL.to_be_bytes(),
                        &mut self.out,
                    );
                }
                sink.done(open.reply, result);
            }
        }
    }
}

/// RFC 9113, section 6.5.2.
fn frame_size(value: u32) -> Result<usize, String> {
    let size = value as usize;
    if (frame::PAYLOAD_MAX..1 << 24).contains(&size) {
        Ok(size)
    } else {
        Err(format!(
            "the far side announced frames of {size} bytes, which cannot be"
        ))
    }
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}

/// Code and text of a farewell, unless it says that nothing is wrong.
fn complaint(payload: &[u8]) -> Option<String> {
    let (code, text) = payload.split_first_chunk()?;
    let code = u32::from_be_bytes(*code);
    let text = &text[..text.len().min(COMPLAINT_MAX)];
    (code != 0).then(|| format!("{} ({})", error_name(code), text.escape_ascii()))
}

/// RFC 9113, section 7.
fn error_name(code: u32) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let name = NAMES.get(code as usize);
    name.map_or_else(|| format!("code {code}"), |name| (*name).to_owned())
}
