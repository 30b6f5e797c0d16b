//! Reads header blocks as a server does, with a table of its own (RFC 7541), so that a block that never arrived is missed.

use std::collections::VecDeque;

use crate::wire::hpack::STATIC;

pub(super) type Fields = Vec<(String, String)>;

/// The far side's table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<(String, String)>,
    size_max: usize,
    /// A smaller size that was acknowledged, which the next block must begin with or undercut.
    announced: Option<usize>,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            entries: VecDeque::new(),
            size_max: 4096,
            announced: None,
        }
    }
}

impl Table {
    /// The client has acknowledged this size.
    pub(super) fn acknowledged(&mut self, size: usize) {
        if size < self.size_max {
            self.announced = Some(self.announced.map_or(size, |before| before.min(size)));
        }
    }

    pub(super) fn read(&mut self, block: &[u8]) -> Fields {
        let mut fields = Fields::new();
        let mut rest = block;
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7);
                fields.push(self.entry(index));
            } else if first & 0xe0 == 0x20 {
                assert!(
                    fields.is_empty(),
                    "a table changes its size in front of a block only"
                );
                let size = integer(&mut rest, 5);
                assert!(size <= self.announced.unwrap_or(self.size_max));
                (self.size_max, self.announced) = (size, None);
                self.evict(0);
            } else {
                let kept = first & 0x40 != 0;
                let index = integer(&mut rest, if kept { 6 } else { 4 });
                let name = if index == 0 {
                    text(&mut rest)
                } else {
                    self.entry(index).0
                };
                let field = (name, text(&mut rest));
                if kept {
                    self.evict(size_of(&field));
                    self.entries.push_front(field.clone());
                }
                fields.push(field);
            }
            assert_eq!(self.announced, None, "a smaller table was not announced");
        }
        fields
    }

    fn entry(&self, index: usize) -> (String, String) {
        if let Some((name, value)) = STATIC.get(index - 1) {
            return ((*name).to_owned(), (*value).to_owned());
        }
        let kept = self.entries.get(index - 1 - STATIC.len());
        kept.unwrap_or_else(|| panic!("nobody taught the entry {index}"))
            .clone()
    }

    /// Makes room for `more`, which is more than our client ever needs to.
    fn evict(&mut self, more: usize) {
        while self.entries.iter().map(size_of).sum::<usize>() + more > self.size_max {
            self.entries.pop_back().unwrap();
        }
    }
}

fn size_of((name, value): &(String, String)) -> usize {
    name.len() + value.len() + 32
}

fn byte(rest: &mut &[u8]) -> u8 {
    let (first, after) = rest.split_first().unwrap();
    *rest = after;
    *first
}

fn integer(rest: &mut &[u8], prefix: u32) -> usize {
    let most = 2_usize.pow(prefix) - 1;
    let mut value = usize::from(byte(rest)) & most;
    if value < most {
        return value;
    }
    for shift in (0..).step_by(7) {
        let next = byte(rest);
        value += usize::from(next & 0x7f) << shift;
        if next & 0x80 == 0 {
            break;
        }
    }
    value
}

fn text(rest: &mut &[u8]) -> String {
    assert_eq!(rest[0] & 0x80, 0, "our client does not use the Huffman code");
    let length = integer(rest, 7);
    let (text, after) = rest.split_at(length);
    *rest = after;
    String::from_utf8(text.to_vec()).unwrap()
}
