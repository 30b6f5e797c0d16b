//! What an answer consists of: headers, one message, and trailers with its status.
//!
//! Promises to read a block of headers only if it differs from the last one that said *ok*: nearly all are equal, and
//! equal blocks mean the same because we keep no table.

use super::{Answer, CallError, RpcStatus, hpack};

/// Bytes in front of a message: whether it is compressed, and its length.
pub(super) const PREFIX_BYTES: usize = 5;

/// How far an answer has been read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Its headers were there, and said that HTTP has nothing against it.
    pub(super) started: bool,
    /// Its message and the prefix of that.
    pub(super) body: Vec<u8>,
}

/// What a header block makes of an answer.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes on.
    GoOn,
    /// It has ended.
    Done(Result<Answer, CallError>),
    /// It goes on, but nothing good can come of it.
    Hopeless(CallError),
}

/// The last header blocks that said nothing but *ok*.
#[derive(Debug, Default)]
pub(super) struct Headers {
    begin: Vec<u8>,
    end: Vec<u8>,
}

impl Headers {
    /// Reads a block.
    pub(super) fn read(&mut self, block: &[u8], ends: bool, reading: &mut Reading) -> Verdict {
        if ends && reading.started && block == self.end {
            return Verdict::Done(message(reading));
        }
        if !ends && !reading.started && !block.is_empty() && block == self.begin {
            reading.started = true;
            return Verdict::GoOn;
        }
        let fields = match Fields::of(block) {
            Ok(fields) => fields,
            Err(why) => return Verdict::Hopeless(CallError::Protocol { reason: why.into() }),
        };
        match (ends, fields.grpc_status()) {
            (true, Some(0)) if reading.started => {
                self.end = block.to_vec();
                Verdict::Done(message(reading))
            }
            (true, Some(0)) => Verdict::Done(Err(CallError::Protocol {
                reason: "the answer holds a status and no message".into(),
            })),
            (true, Some(code)) => Verdict::Done(Err(CallError::Status(Box::new(fields.into_status(code))))),
            (true, None) => Verdict::Done(Err(fields.without_status())),
            (false, _) => match fields.http.as_str() {
                "200" if !reading.started => {
                    self.begin = block.to_vec();
                    reading.started = true;
                    Verdict::GoOn
                }
                informational if informational.starts_with('1') => Verdict::GoOn,
                _ => Verdict::Hopeless(fields.without_status()),
            },
        }
    }
}

/// The one message of an answer that ended well.
fn message(reading: &mut Reading) -> Result<Answer, CallError> {
    let wrong = |reason: &str| {
        Err(CallError::Protocol {
            reason: reason.into(),
        })
    };
    let message = std::mem::take(&mut reading.body);
    let Some([compressed, l1, l2, l3, l4]) = message.first_chunk().copied() else {
        return wrong("the answer holds no message");
    };
    if compressed != 0 {
        return wrong("the answer is compressed, though we did not ask for it");
    }
    let length = u32::from_be_bytes([l1, l2, l3, l4]) as usize;
    if length != message.len() - PREFIX_BYTES {
        return wrong("the answer is not exactly one message");
    }
    Ok(Answer { message })
}

/// The fields of a block that is not simply *ok*.
#[derive(Debug, Default)]
struct Fields {
    http: String,
    status: Option<String>,
    message: String,
    others: Vec<(String, String)>,
}

impl Fields {
    fn of(block: &[u8]) -> Result<Fields, &'static str> {
        let mut fields = Fields::default();
        hpack::decode(block, |name, value| {
            let text = String::from_utf8_lossy(value).into_owned();
            match name {
                b":status" => fields.http = text,
                b"grpc-status" => fields.status = Some(text),
                b"grpc-message" => fields.message = percent_decoded(value),
                _ => fields
                    .others
                    .push((String::from_utf8_lossy(name).into_owned(), text)),
            }
        })?;
        Ok(fields)
    }

    /// A status that is no number means what gRPC calls unknown.
    fn grpc_status(&self) -> Option<u32> {
        self.status.as_ref().map(|status| status.parse().unwrap_or(2))
    }

    fn into_status(self, code: u32) -> RpcStatus {
        RpcStatus {
            code,
            message: self.message,
            metadata: self.others,
        }
    }

    /// What an answer without a status means ("HTTP to gRPC status code mapping" in the gRPC repository).
    fn without_status(self) -> CallError {
        if self.http.is_empty() || self.http == "200" {
            let reason = "the answer ended without a status".into();
            return CallError::Protocol { reason };
        }
        let code = match self.http.as_str() {
            "400" => 13,
            "401" => 16,
            "403" => 7,
            "404" => 12,
            "429" | "502" | "503" | "504" => 14,
            _ => 2,
        };
        let message = format!("HTTP {}", self.http);
        CallError::Status(Box::new(RpcStatus {
            code,
            message,
            metadata: self.others,
        }))
    }
}

/// As gRPC writes messages: bytes that are no plain text stand as `%` and two digits.
fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A block of fields in full.
    fn block(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in fields {
            out.extend([0x00, name.len() as u8]);
            out.extend(name.bytes());
            out.push(value.len() as u8);
            out.extend(value.bytes());
        }
        out
    }

    fn ended(begin: &[(&str, &str)], body: &[u8], end: &[(&str, &str)]) -> Result<Answer, CallError> {
        let (mut headers, mut reading) = (Headers::default(), Reading::default());
        if !begin.is_empty() {
            match headers.read(&block(begin), false, &mut reading) {
                Verdict::GoOn => {}
                Verdict::Hopeless(error) => return Err(error),
                other => panic!("{other:?}"),
            }
        }
        reading.body.extend_from_slice(body);
        match headers.read(&block(end), true, &mut reading) {
            Verdict::Done(result) => result,
            other => panic!("{other:?}"),
        }
    }

    const OK: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/grpc")];

    #[test]
    fn a_message_between_ok_and_status_zero_is_the_answer() {
        let answer = ended(OK, b"\0\0\0\0\x02hi", &[("grpc-status", "0")]).unwrap();
        assert_eq!(answer.body(), b"hi");
        let empty = ended(OK, b"\0\0\0\0\0", &[("grpc-status", "0")]).unwrap();
        assert_eq!(empty.body(), b"");
    }

    #[test]
    fn anything_else_is_no_answer() {
        let status = |code: u32, message: &str, result: Result<Answer, CallError>| match result {
            Err(CallError::Status(status)) => {
                assert_eq!((status.code, status.message.as_str()), (code, message))
            }
            other => panic!("{other:?}"),
        };
        let refusal = [
            ("grpc-status", "9"),
            ("grpc-message", "not%20here%"),
            ("raft-outcome", "x"),
        ];
        status(9, "not here%", ended(OK, b"", &refusal));
        status(9, "not here%", ended(&[], b"", &[&OK[..1], &refusal].concat()));
        status(14, "HTTP 503", ended(&[(":status", "503")], b"", &[]));
        status(2, "", ended(OK, b"", &[("grpc-status", "nonsense")]));
        let protocol = |why: &str, result: Result<Answer, CallError>| match result {
            Err(CallError::Protocol { reason }) => assert!(reason.contains(why), "{reason}"),
            other => panic!("{other:?}"),
        };
        let zero = &[("grpc-status", "0")][..];
        protocol("no message", ended(OK, b"", zero));
        protocol("no message", ended(&[], b"", zero));
        protocol("compressed", ended(OK, b"\x01\0\0\0\0", zero));
        protocol("exactly one", ended(OK, b"\0\0\0\0\0\0\0\0\0\0", zero));
        protocol("exactly one", ended(OK, b"\0\0\0\0\x07hi", zero));
        protocol("without a status", ended(OK, b"", &[("other", "x")]));
    }

    #[test]
    fn metadata_of_a_refusal_is_kept_and_a_block_seen_before_means_the_same() {
        let mut headers = Headers::default();
        for _ in 0..3 {
            let mut reading = Reading::default();
            assert!(matches!(
                headers.read(&block(OK), false, &mut reading),
                Verdict::GoOn
            ));
            reading.body.extend_from_slice(b"\0\0\0\0\x01x");
            let done = headers.read(&block(&[("grpc-status", "0")]), true, &mut reading);
            assert!(matches!(done, Verdict::Done(Ok(answer)) if answer.body() == b"x"));
        }
        let Err(CallError::Status(status)) =
            ended(OK, b"", &[("grpc-status", "9"), ("raft-leader-id", "n2")])
        else {
            panic!("a refusal");
        };
        assert_eq!(status.metadata, [("raft-leader-id".to_owned(), "n2".to_owned())]);
    }
}
