//! The little of protobuf's wire format that a hot path needs: fields are written straight into the request and read
//! straight out of the answer, without a message in between and without copying.
//!
//! Promises never to read beyond the message: what is cut short or malformed is an error. Skips fields that it is not
//! asked about, as protobuf demands. Source: the "Encoding" page of the protobuf documentation.

use super::Malformed;

/// Appends a variable-length integer.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a field of bytes or text, also if it is empty.
pub(super) fn put_bytes(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(field) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a field of text, unless it is empty, which is what its absence means.
pub(super) fn put_text(field: u32, text: &str, out: &mut Vec<u8>) {
    if !text.is_empty() {
        put_bytes(field, text.as_bytes(), out);
    }
}

/// Appends a number, unless it is zero, which is what its absence means.
pub(super) fn put_number(field: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        varint(u64::from(field) << 3, out);
        varint(value, out);
    }
}

/// Appends a number, also if it is zero: for a member of a `oneof`, whose presence tells which member it is.
pub(super) fn put_number_always(field: u32, value: u64, out: &mut Vec<u8>) {
    varint(u64::from(field) << 3, out);
    varint(value, out);
}

/// Appends a message that `write` appends the fields of. Its length stands in front of it and is known only afterwards: the
/// bytes are moved up to make room, which is cheaper than an allocation.
pub(super) fn put_message(field: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    varint(u64::from(field) << 3 | 2, out);
    let start = out.len();
    write(out);
    let end = out.len();
    varint((end - start) as u64, out);
    let length_bytes = out.len() - end;
    out[start..].rotate_right(length_bytes);
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A variable-length or fixed number.
    Number(u64),
    /// Bytes, text, or a message.
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> u64 {
        match self {
            Value::Number(number) => number,
            Value::Bytes(_) => 0,
        }
    }

    pub(super) fn bytes(self) -> &'a [u8] {
        match self {
            Value::Bytes(bytes) => bytes,
            Value::Number(_) => &[],
        }
    }

    /// As text.
    pub(super) fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()).map_err(|_| Malformed("a text is not UTF-8".into()))
    }
}

/// The fields of a message, in the order in which they stand there.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// The next field and its value; nothing at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).map_err(|_| Malformed("a field number is too large".into()))?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Number(u64::from_le_bytes(self.fixed()?)),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Number(u64::from(u32::from_le_bytes(self.fixed()?))),
            other => {
                return Err(Malformed(format!(
                    "field {field} has wire type {other}, which is not in use"
                )));
            }
        };
        Ok(Some((field, value)))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let [byte] = self.fixed()?;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is longer than ten bytes".into()))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (first, rest) = self.rest.split_first_chunk().ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(*first)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (first, rest) = self.rest.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        Ok(first)
    }
}

fn cut_short() -> Malformed {
    Malformed("the message is cut short".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_written_is_read_back(key in ".*", value: Vec<u8>, number: u64) {
            let mut message = Vec::new();
            put_text(1, &key, &mut message);
            put_number(7, number, &mut message);
            put_bytes(300, &value, &mut message);
            let mut seen = (String::new(), 0, Vec::new());
            let mut fields = Fields::of(&message);
            while let Some((field, value)) = fields.next().unwrap() {
                match field {
                    1 => seen.0 = value.text().unwrap().to_owned(),
                    7 => seen.1 = value.number(),
                    300 => seen.2 = value.bytes().to_vec(),
                    other => panic!("field {other}"),
                }
            }
            prop_assert_eq!(seen, (key, number, value));
        }

        #[test]
        fn no_bytes_make_it_panic_or_go_on_for_ever(bytes: Vec<u8>) {
            let mut fields = Fields::of(&bytes);
            for _ in 0..=bytes.len() {
                match fields.next() {
                    Ok(Some(_)) => {}
                    Ok(None) | Err(_) => return Ok(()),
                }
            }
            prop_assert!(false, "more fields than bytes");
        }
    }
}
