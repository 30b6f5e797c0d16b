//! Header compression (RFC 7541) as far as a client of unary calls needs it.
//!
//! Writing: the headers of a call are the same on every call of a method, so each goes once into the table that the far
//! side keeps, and from then on a whole request's headers are eight bytes. Reading: we announce a table of size zero, so a
//! block means the same wherever it stands, and one that equals the last need not be read again.
//!
//! Promises never to read beyond a block and to refuse what it cannot know. Never evicts: the few entries written stay
//! far below the smallest table size, which is checked.

use super::Method;
use super::huffman;

/// Names and values of the static table (RFC 7541, appendix A), from index 1 on.
pub(super) const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

const METHOD_POST: u8 = 0x80 | 3;
const SCHEME_HTTP: u8 = 0x80 | 6;
const USER_AGENT: &str = concat!("loadgen/", env!("CARGO_PKG_VERSION"));
/// Size that every table has unless the far side says otherwise.
const TABLE_SIZE_DEFAULT: usize = 4096;
/// What an entry costs beyond its name and value.
const ENTRY_OVERHEAD: usize = 32;

/// Calls in a row with the same time limit after which it counts as usual, and goes into the table.
const USUAL_AFTER: u32 = 4;
/// Time limits in the table, at most: what is left of a limit before a retry is another one each time.
const TIMEOUTS_MAX: usize = 8;

/// Writes the headers of requests.
#[derive(Debug)]
pub(super) struct Encoder {
    authority: String,
    /// Entries in the far side's table, oldest first.
    entries: Vec<(&'static str, String)>,
    entries_bytes: usize,
    /// How large the far side lets the table become.
    table_bytes: usize,
    /// The far side wants a smaller table: the next block must begin by saying that it has been emptied.
    announce_empty: bool,
    /// The last `grpc-timeout` that is not in the table, and how many calls in a row had it.
    unusual_timeout: (String, u32),
}

impl Encoder {
    pub(super) fn new(authority: &str) -> Encoder {
        Encoder {
            authority: authority.to_owned(),
            entries: Vec::new(),
            entries_bytes: 0,
            table_bytes: TABLE_SIZE_DEFAULT,
            announce_empty: false,
            unusual_timeout: (String::new(), 0),
        }
    }

    /// The far side announced the size of its table. One below the usual is not used at all.
    pub(super) fn table_size(&mut self, bytes: usize) {
        if bytes < TABLE_SIZE_DEFAULT && self.table_bytes > 0 {
            self.table_bytes = 0;
            self.entries.clear();
            self.announce_empty = true;
        }
    }

    /// Appends the headers of a call. Whether later blocks depend on this one having been read.
    pub(super) fn request(&mut self, method: Method, timeout: Option<&str>, out: &mut Vec<u8>) -> bool {
        let before = (self.entries.len(), self.announce_empty);
        if std::mem::take(&mut self.announce_empty) {
            out.push(0x20);
        }
        out.push(METHOD_POST);
        out.push(SCHEME_HTTP);
        self.field(":path", method.path(), out);
        let authority = std::mem::take(&mut self.authority);
        self.field(":authority", &authority, out);
        self.authority = authority;
        self.field("content-type", "application/grpc", out);
        self.field("te", "trailers", out);
        self.field("user-agent", USER_AGENT, out);
        if let Some(timeout) = timeout {
            self.timeout(timeout, out);
        }
        before != (self.entries.len(), false)
    }

    /// The first time limit goes into the table at once, another when it has become usual, as far as there is room.
    fn timeout(&mut self, value: &str, out: &mut Vec<u8>) {
        const NAME: &str = "grpc-timeout";
        let kept = self.entries.iter().filter(|(name, _)| *name == NAME);
        let (known, kept) = (kept.clone().any(|(_, v)| v == value), kept.count());
        if !known {
            let (last, times) = &mut self.unusual_timeout;
            if last == value {
                *times += 1;
            } else {
                last.clear();
                last.push_str(value);
                *times = 1;
            }
            if kept > 0 && (*times < USUAL_AFTER || kept >= TIMEOUTS_MAX) {
                literal(0x00, NAME, value, out);
                return;
            }
        }
        self.field(NAME, value, out);
    }

    fn field(&mut self, name: &'static str, value: &str, out: &mut Vec<u8>) {
        let found = self.entries.iter().position(|(n, v)| *n == name && v == value);
        if let Some(position) = found {
            let index = STATIC.len() + self.entries.len() - position;
            integer(0x80, 7, index, out);
            return;
        }
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        let fits = self.entries_bytes + size <= self.table_bytes;
        literal(if fits { 0x40 } else { 0x00 }, name, value, out);
        if fits {
            self.entries_bytes += size;
            self.entries.push((name, value.to_owned()));
        }
    }
}

/// A field in full; `kind` says whether the far side keeps it (0x40) or not (0x00).
fn literal(kind: u8, name: &str, value: &str, out: &mut Vec<u8>) {
    let prefix = if kind == 0x40 { 6 } else { 4 };
    match STATIC.iter().position(|(known, _)| *known == name) {
        Some(position) => integer(kind, prefix, position + 1, out),
        None => {
            out.push(kind);
            text(name, out);
        }
    }
    text(value, out);
}

fn text(text: &str, out: &mut Vec<u8>) {
    integer(0, 7, text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// RFC 7541, section 5.1.
fn integer(flags: u8, prefix: u8, mut value: usize, out: &mut Vec<u8>) {
    let most = (1_usize << prefix) - 1;
    if value < most {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | most as u8);
    value -= most;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a block, field by field. An error says what is wrong with it.
pub(super) fn decode(block: &[u8], mut field: impl FnMut(&[u8], &[u8])) -> Result<(), &'static str> {
    let mut reader = Reader { rest: block };
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(first) = reader.rest.first().copied() {
        name.clear();
        value.clear();
        if first & 0x80 != 0 {
            let (known, of_it) = entry(reader.integer(7)?)?;
            field(known.as_bytes(), of_it.as_bytes());
            continue;
        }
        if first & 0xe0 == 0x20 {
            if reader.integer(5)? != 0 {
                return Err("the header table was made larger than we allow");
            }
            continue;
        }
        // With or without keeping it: into a table of size zero nothing fits.
        let index = reader.integer(if first & 0xc0 == 0x40 { 6 } else { 4 })?;
        if index == 0 {
            reader.text(&mut name)?;
        } else {
            name.extend_from_slice(entry(index)?.0.as_bytes());
        }
        reader.text(&mut value)?;
        field(&name, &value);
    }
    Ok(())
}

fn entry(index: usize) -> Result<(&'static str, &'static str), &'static str> {
    let position = index.checked_sub(1).ok_or("a header has the index zero")?;
    let found = STATIC.get(position).copied();
    found.ok_or("a header refers to a table that is empty")
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.rest.split_first().ok_or("a header block is cut short")?;
        self.rest = rest;
        Ok(*first)
    }

    fn integer(&mut self, prefix: u8) -> Result<usize, &'static str> {
        let most = (1_usize << prefix) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Ok(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number in a header block is too large")
    }

    fn text(&mut self, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let coded = self.rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.integer(7)?;
        let (text, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or("a header block is cut short")?;
        self.rest = rest;
        if coded {
            huffman::decode(text, out).ok_or("a header is not properly coded")
        } else {
            out.extend_from_slice(text);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: String = hex.split_whitespace().collect();
        (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect()
    }

    fn read(block: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
        let mut fields = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        decode(block, |name, value| fields.push((text(name), text(value))))?;
        Ok(fields)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn the_examples_of_the_rfc_that_need_no_table_are_read() {
        // RFC 7541, appendix C.2.1 to C.2.4, C.3.1 and C.4.1.
        let custom = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
        assert_eq!(
            read(&bytes(custom)),
            Ok(pairs(&[("custom-key", "custom-header")]))
        );
        let path = "040c 2f73 616d 706c 652f 7061 7468";
        assert_eq!(read(&bytes(path)), Ok(pairs(&[(":path", "/sample/path")])));
        let secret = "1008 7061 7373 776f 7264 0673 6563 7265 74";
        assert_eq!(read(&bytes(secret)), Ok(pairs(&[("password", "secret")])));
        assert_eq!(read(&[0x82]), Ok(pairs(&[(":method", "GET")])));
        let request = pairs(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ]);
        let plain = "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d";
        assert_eq!(read(&bytes(plain)).as_ref(), Ok(&request));
        let coded = "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff";
        assert_eq!(read(&bytes(coded)), Ok(request));
    }

    #[test]
    fn numbers_are_those_of_the_rfc() {
        // Appendix C.1.
        let mut out = Vec::new();
        integer(0, 5, 10, &mut out);
        integer(0, 5, 1337, &mut out);
        integer(0, 8, 42, &mut out);
        assert_eq!(out, [10, 31, 154, 10, 42]);
        let mut reader = Reader { rest: &out[1..4] };
        assert_eq!(reader.integer(5), Ok(1337));
    }

    #[test]
    fn what_refers_to_an_empty_table_or_grows_it_is_refused() {
        assert!(read(&[0xbe]).is_err());
        assert!(read(&[0x80]).is_err());
        assert!(read(&[0x3f, 0xe1, 0x1f]).is_err());
        assert_eq!(read(&[0x20]), Ok(Vec::new()));
    }

    const PUT: Method = Method::new("/raft.KeyValueService/Put");
    const GET: Method = Method::new("/raft.KeyValueService/Get");

    #[test]
    fn headers_are_written_in_full_once_and_then_as_numbers() {
        let mut encoder = Encoder::new("127.0.0.1:1");
        let mut first = Vec::new();
        assert!(encoder.request(PUT, Some("2000000u"), &mut first));
        // Until the table is referred to, the block reads the same with an empty one.
        let expected = pairs(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/raft.KeyValueService/Put"),
            (":authority", "127.0.0.1:1"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", USER_AGENT),
            ("grpc-timeout", "2000000u"),
        ]);
        assert_eq!(read(&first), Ok(expected));
        let mut second = Vec::new();
        assert!(!encoder.request(PUT, Some("2000000u"), &mut second));
        assert_eq!(second, [0x83, 0x86, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf, 0xbe]);
        let mut other = Vec::new();
        assert!(encoder.request(GET, Some("1u"), &mut other), "a new path");
        let mut again = Vec::new();
        assert!(!encoder.request(PUT, Some("2000000u"), &mut again));
        assert_eq!(again, [0x83, 0x86, 0xc4, 0xc3, 0xc2, 0xc1, 0xc0, 0xbf]);
    }

    #[test]
    fn a_time_limit_that_has_become_usual_is_written_as_a_number_too() {
        let mut encoder = Encoder::new("a:1");
        let mut length = |timeout: &str| {
            let mut block = Vec::new();
            encoder.request(PUT, Some(timeout), &mut block);
            block.len()
        };
        // The first limit is that of a question whether anybody is there, which never comes again.
        length("500000u");
        let in_full = length("2000000u");
        for _ in 2..USUAL_AFTER {
            assert_eq!(length("2000000u"), in_full);
        }
        length("2000000u");
        assert_eq!((length("2000000u"), length("500000u")), (8, 8));
        // What never comes again never fills the table, and neither do many that are usual for a while.
        for rest in 0..100 {
            assert!(length(&format!("{rest}u")) > 8);
        }
        for limit in 100..200 {
            for _ in 0..2 * USUAL_AFTER {
                length(&format!("{limit}m"));
            }
        }
        assert_eq!(length("2000000u"), 8);
        let kept = encoder.entries.iter().filter(|(name, _)| *name == "grpc-timeout");
        assert_eq!(kept.count(), TIMEOUTS_MAX);
    }

    #[test]
    fn a_far_side_without_a_table_gets_everything_in_full() {
        let mut encoder = Encoder::new("a:1");
        encoder.request(PUT, None, &mut Vec::new());
        encoder.table_size(0);
        let mut block = Vec::new();
        assert!(encoder.request(PUT, None, &mut block));
        assert_eq!(block[0], 0x20);
        let mut next = Vec::new();
        assert!(!encoder.request(PUT, None, &mut next));
        assert_eq!(read(&next).map(|fields| fields.len()), Ok(7));
        assert_eq!(block[1..], next);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(block: Vec<u8>) {
            let _ = read(&block);
        }
    }
}
