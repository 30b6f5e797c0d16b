//! Names of keys: a prefix and the key's number.
//!
//! Promises different names for different numbers. Names of records are made once, up to a bound; never those of keys
//! that a run inserts.

use std::sync::Arc;

use super::text::decimal;

/// Names made ahead, about fifty bytes each. Further ones are made when they are asked for.
const CACHED_MAX: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Names {
    prefix: String,
    /// Digits at least: shorter numbers get zeros in front.
    digits: usize,
    cached: Vec<Arc<str>>,
}

impl Names {
    /// For keys that begin with `prefix`; of `key_size` bytes where that is given, which must leave a digit.
    pub(super) fn new(prefix: &str, key_size: Option<usize>, records: u64) -> Names {
        let mut names = Names {
            prefix: prefix.to_owned(),
            digits: key_size.map_or(1, |size| size.saturating_sub(prefix.len())),
            cached: Vec::new(),
        };
        names.cached = (0..records.min(CACHED_MAX))
            .map(|number| names.make(number))
            .collect();
        names
    }

    pub(super) fn name(&self, number: u64) -> Arc<str> {
        let cached = usize::try_from(number).ok().and_then(|at| self.cached.get(at));
        cached.map_or_else(|| self.make(number), Arc::clone)
    }

    pub(super) fn write(&self, buffer: &mut String, number: u64) {
        let mut digits = [0; 20];
        let digits = decimal(number, &mut digits);
        buffer.clear();
        buffer.push_str(&self.prefix);
        buffer.extend(std::iter::repeat_n('0', self.digits.saturating_sub(digits.len())));
        buffer.push_str(digits);
    }

    fn make(&self, number: u64) -> Arc<str> {
        let mut buffer = String::with_capacity(self.prefix.len() + self.digits.max(20));
        self.write(&mut buffer, number);
        buffer.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_plain_or_filled_up_to_the_size_of_a_key() {
        let plain = Names::new("k", None, 3);
        assert_eq!(
            (&*plain.name(0), &*plain.name(2), &*plain.name(1234)),
            ("k0", "k2", "k1234")
        );
        let filled = Names::new("k", Some(8), 3);
        assert_eq!(
            (&*filled.name(2), &*filled.name(9_999_999)),
            ("k0000002", "k9999999")
        );
        // A key that a run inserts is never cut short.
        assert_eq!(&*filled.name(10_000_000), "k10000000");
        let mut buffer = String::from("something else");
        filled.write(&mut buffer, 70);
        assert_eq!(buffer, "k0000070");
        filled.write(&mut buffer, u64::MAX);
        assert_eq!(buffer, format!("k{}", u64::MAX));
    }

    #[test]
    fn names_beyond_those_made_ahead_are_no_different() {
        let names = Names::new("n-", None, CACHED_MAX + 10);
        assert_eq!(names.cached.len() as u64, CACHED_MAX);
        for number in [CACHED_MAX - 1, CACHED_MAX, CACHED_MAX + 9] {
            assert_eq!(*names.name(number), *format!("n-{number}"));
        }
    }
}
