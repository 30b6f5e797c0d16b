//! The keys, in order, with a way to hold a copy still while writes go on.
//!
//! Normally this is one sorted map. While somebody reads a frozen copy, that map is shared and does not change; new
//! versions go into a second one in front of it. When the reader is done the two become one again.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use super::Versioned;

/// Keys and their versions, deleted ones included.
#[derive(Debug, Default)]
pub(super) struct Map {
    keys: Arc<BTreeMap<String, Versioned>>,
    /// Newer versions, while `keys` is frozen.
    newer: BTreeMap<String, Versioned>,
    frozen: bool,
}

impl Map {
    pub(super) fn get(&self, key: &str) -> Option<&Versioned> {
        self.newer.get(key).or_else(|| self.keys.get(key))
    }

    /// Sets a key; returns what it held.
    pub(super) fn insert(&mut self, key: String, version: Versioned) -> Option<Versioned> {
        match Arc::get_mut(&mut self.keys) {
            Some(keys) if !self.frozen => keys.insert(key, version),
            _ => {
                let before = self.newer.insert(key.clone(), version);
                before.or_else(|| self.keys.get(&key).cloned())
            }
        }
    }

    /// The keys from `start` on, in order, each with its newest version.
    pub(super) fn range(&self, start: &str) -> Range<'_> {
        let from = (Bound::Included(start), Bound::Unbounded);
        Range {
            older: self.keys.range::<str, _>(from).peekable(),
            newer: self.newer.range::<str, _>(from).peekable(),
        }
    }

    /// A copy that will not change, in no time; `None` while an earlier one is in use.
    pub(super) fn freeze(&mut self) -> Option<Arc<BTreeMap<String, Versioned>>> {
        if self.frozen {
            return None;
        }
        self.frozen = true;
        Some(Arc::clone(&self.keys))
    }

    /// The frozen copy is dropped: brings the two maps together again. False if somebody still holds the copy.
    pub(super) fn thaw(&mut self) -> bool {
        let Some(keys) = Arc::get_mut(&mut self.keys) else {
            return false;
        };
        keys.append(&mut self.newer);
        self.frozen = false;
        true
    }
}

/// See [`Map::range`].
pub(super) struct Range<'a> {
    older: Peekable<btree_map::Range<'a, String, Versioned>>,
    newer: Peekable<btree_map::Range<'a, String, Versioned>>,
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a String, &'a Versioned);

    fn next(&mut self) -> Option<Self::Item> {
        match (self.older.peek(), self.newer.peek()) {
            (Some((older, _)), Some((newer, _))) if older < newer => self.older.next(),
            (Some((older, _)), Some((newer, _))) => {
                if older == newer {
                    self.older.next();
                }
                self.newer.next()
            }
            (Some(_), None) => self.older.next(),
            (None, _) => self.newer.next(),
        }
    }
}
