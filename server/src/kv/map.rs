//! The keys, in order, with a way to hold a copy still while changes go on.
//!
//! Normally this is one sorted map. While somebody reads a frozen copy, that map is shared and does not change; changes
//! go into a second one in front of it. When the reader is done the two become one again, a little at a time
//! ([`Map::settle`]): nothing in here takes longer than what one call is asked to move. What is read is the same all the
//! while.

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use super::Versioned;

/// So many keys of the second map are moved at once: well below a millisecond for short keys in a map of millions.
const SETTLE_KEYS: usize = 512;

/// Keys and their versions, deleted ones included.
#[derive(Debug, Default)]
pub(super) struct Map {
    keys: Arc<BTreeMap<String, Versioned>>,
    /// What has changed since `keys` was frozen and has not been moved there yet; `None`: the key is not here any more.
    newer: BTreeMap<String, Option<Versioned>>,
    frozen: bool,
}

impl Map {
    pub(super) fn get(&self, key: &str) -> Option<&Versioned> {
        match self.newer.get(key) {
            Some(version) => version.as_ref(),
            None => self.keys.get(key),
        }
    }

    /// Sets a key; returns what it held.
    pub(super) fn insert(&mut self, key: String, version: Versioned) -> Option<Versioned> {
        match self.own_keys() {
            None => {
                let before = self.newer.insert(key.clone(), Some(version));
                before.unwrap_or_else(|| self.keys.get(&key).cloned())
            }
            Some((keys, newer)) => {
                let newest = newer.remove(&key);
                let older = keys.insert(key, version);
                newest.unwrap_or(older)
            }
        }
    }

    /// Forgets that a key ever was.
    pub(super) fn remove(&mut self, key: &str) {
        match self.own_keys() {
            None => {
                self.newer.insert(key.to_owned(), None);
            }
            Some((keys, newer)) => {
                newer.remove(key);
                keys.remove(key);
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

    /// A copy that will not change, in no time; `None` while an earlier one is in use or what changed beside it has not
    /// been moved yet: see [`Map::settle`].
    pub(super) fn freeze(&mut self) -> Option<Arc<BTreeMap<String, Versioned>>> {
        if self.frozen || !self.newer.is_empty() {
            return None;
        }
        self.frozen = true;
        Some(Arc::clone(&self.keys))
    }

    /// The frozen copy is dropped: the two maps may become one. False if somebody still holds the copy.
    pub(super) fn thaw(&mut self) -> bool {
        if Arc::get_mut(&mut self.keys).is_none() {
            return false;
        }
        self.frozen = false;
        true
    }

    /// Moves a bounded number of changes to where they belong, if the copy was given back. True when none is left.
    pub(super) fn settle(&mut self) -> bool {
        let Some((keys, newer)) = self.own_keys() else {
            return false;
        };
        for _ in 0..SETTLE_KEYS {
            match newer.pop_first() {
                None => return true,
                Some((key, Some(version))) => drop(keys.insert(key, version)),
                Some((key, None)) => drop(keys.remove(&key)),
            }
        }
        newer.is_empty()
    }

    /// Both maps, if the first one may be changed.
    #[allow(clippy::type_complexity)]
    fn own_keys(
        &mut self,
    ) -> Option<(
        &mut BTreeMap<String, Versioned>,
        &mut BTreeMap<String, Option<Versioned>>,
    )> {
        match self.frozen {
            true => None,
            false => Some((Arc::get_mut(&mut self.keys)?, &mut self.newer)),
        }
    }
}

/// See [`Map::range`].
pub(super) struct Range<'a> {
    older: Peekable<btree_map::Range<'a, String, Versioned>>,
    newer: Peekable<btree_map::Range<'a, String, Option<Versioned>>>,
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a String, &'a Versioned);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match (self.older.peek(), self.newer.peek()) {
                (_, None) => return self.older.next(),
                (Some((older, _)), Some((newer, _))) if older < newer => return self.older.next(),
                (older, Some((newer, _))) => {
                    if older.is_some_and(|(older, _)| older == newer) {
                        self.older.next();
                    }
                    if let Some((key, Some(version))) = self.newer.next() {
                        return Some((key, version));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn version(index: u64) -> Versioned {
        Versioned { value: None, index }
    }

    fn content(map: &Map, start: &str) -> Vec<(String, Versioned)> {
        let range = map.range(start);
        range
            .map(|(key, version)| (key.clone(), version.clone()))
            .collect()
    }

    proptest! {
        /// Whatever is frozen, thawed or half moved: always the same as a plain map.
        #[test]
        fn in_every_state_on_the_way_it_is_the_same_as_a_plain_map(
            steps in prop::collection::vec((0_u8..10, 0_u16..1500, 1_u16..900), 1..80)
        ) {
            let (mut map, mut plain) = (Map::default(), BTreeMap::new());
            let (mut copy, mut frozen) = (None, BTreeMap::new());
            let mut index = 0;
            for (what, first, count) in steps {
                let keys = (first..first + count).map(|number| format!("{number:04}"));
                match what {
                    0 if copy.is_none() => {
                        copy = map.freeze();
                        frozen = plain.clone();
                    }
                    1 => {
                        copy = None;
                        prop_assert!(map.thaw());
                    }
                    2 | 3 => {
                        let settled = map.settle();
                        prop_assert_eq!(settled, copy.is_none() && !map.frozen && map.newer.is_empty());
                    }
                    4 | 5 => keys.for_each(|key| {
                        map.remove(&key);
                        plain.remove(&key);
                    }),
                    _ => for key in keys {
                        index += 1;
                        prop_assert_eq!(map.insert(key.clone(), version(index)), plain.insert(key, version(index)));
                    },
                }
                let start = format!("{first:04}");
                let expected: Vec<_> = plain.range(start.clone()..).map(|(key, at)| (key.clone(), at.clone())).collect();
                prop_assert_eq!(content(&map, &start), expected);
                prop_assert_eq!(map.get(&start), plain.get(&start));
                if let Some(copy) = &copy {
                    prop_assert_eq!(&**copy, &frozen);
                }
            }
        }
    }

    #[test]
    fn what_changed_beside_a_copy_moves_over_in_bounded_steps_that_end_whatever_is_written_meanwhile() {
        let mut map = Map::default();
        let copy = map.freeze();
        let changed = 10 * SETTLE_KEYS as u64;
        for index in 0..changed {
            map.insert(format!("{index}"), version(index));
        }
        assert!(!map.settle(), "nothing moves while the copy is in use");
        drop(copy);
        assert!(map.thaw());
        assert_eq!(
            map.newer.len() as u64,
            changed,
            "giving the copy back moves nothing"
        );
        let mut steps = 0;
        loop {
            let left = map.newer.len();
            let settled = map.settle();
            assert!(left - map.newer.len() <= SETTLE_KEYS, "one step moves no more");
            if settled {
                break;
            }
            assert!(map.freeze().is_none(), "not before all of it has moved");
            map.insert(format!("other{steps}"), version(steps));
            steps += 1;
        }
        assert!(steps < 10, "it ends");
        assert!(map.freeze().is_some());
        assert_eq!(map.range("").count() as u64, changed + steps);
    }
}
