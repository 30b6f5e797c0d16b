//! The workload itself: operations, keys, sizes and values by number.
//!
//! Promises the same answer to the same question, whatever was asked before. Never blocks, and allocates only where a
//! text is handed out.

use std::sync::Arc;

use reports::record::Operation;

use super::config::{WorkloadConfig, WorkloadError};
use super::mix::MixTable;
use super::names::Names;
use super::random::{Lane, Random, below};
use super::sampler::Sampler;
use super::sizes::SizeTable;
use super::text::{self, Texts};

/// What stands between tag and number in the names of values that were loaded before the run.
const RECORD: &str = "p";

/// Operation `n` of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// Its number, from zero.
    pub number: u64,
    /// What it does.
    pub operation: Operation,
    /// Position of its key among those known to exist: the key's number for records, and for keys beyond them to be
    /// looked up in [`Inserts::key_at`](super::Inserts::key_at). Nothing for an insert, whose key is the next new one:
    /// [`Inserts::start`](super::Inserts::start), in the order in which inserts are started.
    pub key: Option<u64>,
}

/// A value as read, looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspected {
    /// It belongs to the key and is intact; the text names the write it came from, for the history.
    Intact(String),
    /// Nobody using this format can have written it under this key.
    Corrupt,
}

/// A workload: operations and values by number.
#[derive(Debug)]
pub struct Workload {
    config: WorkloadConfig,
    random: Random,
    mix: MixTable,
    sampler: Sampler,
    sizes: SizeTable,
    texts: Texts,
    names: Names,
}

impl Workload {
    /// Checks the configuration and prepares keys and paddings.
    pub fn new(config: WorkloadConfig, seed: u64) -> Result<Workload, WorkloadError> {
        let smallest = config.check()?;
        let random = Random::new(seed);
        Ok(Workload {
            mix: MixTable::new(&config.mix),
            sampler: Sampler::new(&config.key_choice, config.keys),
            sizes: SizeTable::new(&config.value_size, smallest),
            texts: Texts::new(&config.tag, config.entropy, &random),
            names: Names::new(&config.key_prefix, config.key_size, config.keys),
            random,
            config,
        })
    }

    /// What it was built from.
    pub fn config(&self) -> &WorkloadConfig {
        &self.config
    }

    /// What operation `number` does: the same for the same seed, whatever happened before it.
    #[inline]
    pub fn kind(&self, number: u64) -> Operation {
        self.mix.pick(self.random.word(Lane::Operation, number))
    }

    /// Operation `number`: the same for the same seed, whatever happened before it. `known` is how many keys are known to
    /// exist ([`Inserts::known`](super::Inserts::known)); only choices that go back from the newest key look at it, and
    /// less than the number of records counts as that.
    #[inline]
    pub fn operation(&self, number: u64, known: u64) -> Planned {
        let operation = self.kind(number);
        let key = match operation {
            Operation::Insert => None,
            _ => Some(
                self.sampler
                    .key(number, self.random.word(Lane::Key, number), known),
            ),
        };
        Planned {
            number,
            operation,
            key,
        }
    }

    /// How many keys operation `number` reads if it is a scan, from one to the most that is allowed.
    pub fn scan_length(&self, number: u64) -> u32 {
        let word = self.random.word(Lane::Scan, number);
        1 + below(word, u64::from(self.config.scan_length_max)) as u32
    }

    /// Number of the key that insert `ordinal`, counted from zero, adds.
    pub fn insert_key(&self, ordinal: u64) -> u64 {
        self.config.keys.saturating_add(ordinal)
    }

    /// Number of records: keys that are there without any insert.
    pub fn key_count(&self) -> u64 {
        self.config.keys
    }

    /// Name of a key. Those of the first million records are made beforehand; others are made here.
    pub fn key(&self, number: u64) -> Arc<str> {
        self.names.name(number)
    }

    /// Names of all records, in the order of their numbers.
    pub fn keys(&self) -> impl Iterator<Item = Arc<str>> {
        (0..self.config.keys).map(|number| self.key(number))
    }

    /// Writes the name of a key in place of what the buffer holds.
    pub fn key_name(&self, number: u64, buffer: &mut String) {
        self.names.write(buffer, number);
    }

    /// Bytes of what operation `number` writes, if its name and key leave it at that.
    #[inline]
    pub fn value_size(&self, number: u64) -> usize {
        let random = &self.random;
        let one = random.word(Lane::Size, number);
        self.sizes.draw(one, || random.word(Lane::SizeTwin, number))
    }

    /// Writes the value of operation `number` under `key` in place of what the buffer holds, and gives the short name
    /// that the history knows the value by: the value begins with it.
    #[inline]
    pub fn value_into<'a>(&self, buffer: &'a mut String, number: u64, key: &str) -> &'a str {
        let name = self.texts.write(buffer, "", number, key, self.value_size(number));
        &buffer[..name]
    }

    /// What operation `number` writes under `key`, and the short name that the history knows the value by.
    pub fn value(&self, number: u64, key: &str) -> (String, String) {
        let mut value = String::new();
        let name = self.value_into(&mut value, number, key).to_owned();
        (value, name)
    }

    /// Writes the value that record `number` is loaded with in place of what the buffer holds, and gives its name. No
    /// operation writes a value of that name.
    pub fn record_into<'a>(&self, buffer: &'a mut String, number: u64) -> &'a str {
        let random = &self.random;
        let one = random.word(Lane::Record, number);
        let size = self.sizes.draw(one, || random.word(Lane::RecordTwin, number));
        let name = self.texts.write(buffer, RECORD, number, &self.key(number), size);
        &buffer[..name]
    }

    /// Key and value of every record, in the order of their numbers: what is loaded before a run whose reads shall find
    /// something.
    pub fn records(&self) -> impl Iterator<Item = (Arc<str>, String)> {
        (0..self.config.keys).map(|number| {
            let mut value = String::new();
            self.record_into(&mut value, number);
            (self.key(number), value)
        })
    }

    /// Whether `value` can have been written under `key`. A value of another run passes, under its own name.
    pub fn inspect(&self, key: &str, value: &str) -> Inspected {
        let name = self.name_of(key, value);
        name.map_or(Inspected::Corrupt, |name| Inspected::Intact(name.to_owned()))
    }

    /// As [`Workload::inspect`], without making a text: the name of an intact value, or nothing.
    #[inline]
    pub fn name_of<'a>(&self, key: &str, value: &'a str) -> Option<&'a str> {
        text::inspect(key, value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::workload::ValueSize;
    use crate::workload::statistics::chi_square_z;

    #[test]
    fn operation_key_size_and_scan_do_not_tell_about_each_other() {
        let config = WorkloadConfig {
            keys: 8,
            value_size: ValueSize::Range(64, 71),
            scan_length_max: 8,
            ..WorkloadConfig::default()
        };
        let workload = Workload::new(config, 3).unwrap();
        let properties = |number: u64| {
            let planned = workload.operation(number, 8);
            [
                usize::from(planned.operation == Operation::Put) * 4 + number as usize % 4,
                planned.key.unwrap() as usize,
                workload.value_size(number) - 64,
                workload.scan_length(number) as usize - 1,
            ]
        };
        for one in 0..4 {
            for two in one + 1..4 {
                let mut counts = [0_u64; 64];
                for number in 0..100_000 {
                    let properties = properties(number);
                    counts[properties[one] * 8 + properties[two]] += 1;
                }
                let z = chi_square_z(&counts, |_| 1.0 / 64.0);
                assert!(z.abs() < 5.0, "properties {one} and {two}: z = {z}");
            }
        }
    }
}
