//! Frames of HTTP/2 (RFC 9113, sections 4 and 6): their headers, and the few that a client writes.

/// Bytes of a frame's header.
pub(super) const HEADER_BYTES: usize = 9;
/// What a connection begins with (RFC 9113, section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Largest payload that we take and, unless the far side allows more, send.
pub(super) const PAYLOAD_MAX: usize = 16_384;

/// Types of frames.
pub(super) mod kind {
    pub(in super::super) const DATA: u8 = 0;
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PUSH_PROMISE: u8 = 5;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const WINDOW_UPDATE: u8 = 8;
    pub(in super::super) const CONTINUATION: u8 = 9;
    /// No type that anybody knows, so everybody must ignore it (RFC 9113, section 5.5).
    pub(in super::super) const IGNORED: u8 = 0xe7;
}

/// Flags of frames.
pub(super) mod flag {
    pub(in super::super) const END_STREAM: u8 = 0x1;
    pub(in super::super) const ACK: u8 = 0x1;
    pub(in super::super) const END_HEADERS: u8 = 0x4;
    pub(in super::super) const PADDED: u8 = 0x8;
    pub(in super::super) const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings.
pub(super) mod setting {
    pub(in super::super) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in super::super) const ENABLE_PUSH: u16 = 2;
    pub(in super::super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in super::super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in super::super) const MAX_FRAME_SIZE: u16 = 5;
}

/// Codes of errors.
pub(super) mod code {
    pub(in super::super) const REFUSED_STREAM: u32 = 7;
    pub(in super::super) const CANCEL: u32 = 8;
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    /// From the first nine bytes, if they are there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Head> {
        let [a, b, c, kind, flags, s1, s2, s3, s4] = *bytes.first_chunk()?;
        Some(Head {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff,
        })
    }

    pub(super) fn write(self, out: &mut Vec<u8>) {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s1, s2, s3, s4] = self.stream.to_be_bytes();
        out.extend_from_slice(&[a, b, c, self.kind, self.flags, s1, s2, s3, s4]);
    }

    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame.
pub(super) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = payload.len();
    Head {
        length,
        kind,
        flags,
        stream,
    }
    .write(out);
    out.extend_from_slice(payload);
}

/// Appends settings.
pub(super) fn settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    let length = settings.len() * 6;
    let (kind, flags, stream) = (kind::SETTINGS, 0, 0);
    Head {
        length,
        kind,
        flags,
        stream,
    }
    .write(out);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The payload without padding and priority; nothing if these do not fit into it.
pub(super) fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    let mut rest = payload;
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (first, after) = rest.split_first()?;
        (padding, rest) = (usize::from(*first), after);
    }
    if head.kind == kind::HEADERS && head.has(flag::PRIORITY) {
        rest = rest.get(5..)?;
    }
    rest.get(..rest.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_come_back() {
        let head = Head {
            length: 0x12_3456,
            kind: kind::DATA,
            flags: flag::END_STREAM,
            stream: 0x7fff_fffe,
        };
        let mut out = Vec::new();
        head.write(&mut out);
        assert_eq!(Head::parse(&out), Some(head));
        assert_eq!(Head::parse(&out[..8]), None);
    }

    #[test]
    fn padding_and_priority_are_taken_off_or_refused() {
        let head = |flags| Head {
            length: 0,
            kind: kind::HEADERS,
            flags,
            stream: 1,
        };
        assert_eq!(unpadded(head(0), b"abc"), Some(&b"abc"[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x02abcde"), Some(&b"abc"[..]));
        assert_eq!(unpadded(head(flag::PADDED), b"\x06abcde"), None);
        assert_eq!(
            unpadded(head(flag::PADDED | flag::PRIORITY), b"\x01pppppab"),
            Some(&b"a"[..])
        );
        assert_eq!(unpadded(head(flag::PRIORITY), b"abc"), None);
        assert_eq!(unpadded(head(flag::PADDED), b""), None);
    }
}
