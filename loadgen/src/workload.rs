//! What is done: which operation on which key with which value.
//!
//! Promises: operation `n` is a pure function of the seed and `n`; no value is written twice in a run; every value says
//! for itself which key it belongs to and whether it is intact. Never looks at answers: the value that a
//! compare-and-swap expects is the caller's to supply.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use reports::record::{Function, Operation as Kind};
use serde::Serialize;
use thiserror::Error;

/// How often each operation occurs, by weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Mix {
    weights: BTreeMap<Function, u32>,
}

impl Mix {
    /// From weights; at least one must be above zero.
    pub fn new(weights: impl IntoIterator<Item = (Function, u32)>) -> Result<Mix, WorkloadError> {
        let mut sum = BTreeMap::<Function, u32>::new();
        for (function, weight) in weights {
            let entry = sum.entry(function).or_default();
            *entry = entry.saturating_add(weight);
        }
        sum.retain(|_, weight| *weight > 0);
        if sum.is_empty() {
            return Err(WorkloadError::EmptyMix);
        }
        Ok(Mix { weights: sum })
    }

    /// Whether any operation of the mix changes the store.
    pub fn writes(&self) -> bool {
        self.weights.keys().any(|function| *function != Function::Read)
    }

    /// Whether an operation occurs.
    pub fn has(&self, operation: Kind) -> bool {
        self.weights
            .keys()
            .any(|function| Kind::from(*function) == operation)
    }

    /// Weights above zero.
    pub fn weights(&self) -> &BTreeMap<Function, u32> {
        &self.weights
    }

    fn pick(&self, random: u64) -> Function {
        let total: u64 = self.weights.values().map(|weight| u64::from(*weight)).sum();
        let mut point = scale(random, total);
        for (function, weight) in &self.weights {
            match point.checked_sub(u64::from(*weight)) {
                Some(rest) => point = rest,
                None => return *function,
            }
        }
        unreachable!("the point lies below the sum of the weights")
    }
}

/// A random word to a number below `limit`, without the bias that matters (at most `limit / 2^64`).
fn scale(random: u64, limit: u64) -> u64 {
    ((u128::from(random) * u128::from(limit)) >> 64) as u64
}

/// What a workload consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkloadConfig {
    /// How often each operation occurs.
    pub mix: Mix,
    /// Number of keys; each is equally likely.
    pub keys: u64,
    /// Keys are this followed by their number. Give each run on the same store its own: a history of keys that held
    /// values before cannot be checked.
    pub key_prefix: String,
    /// Bytes of each value.
    pub value_size: usize,
    /// Values begin with this and the number of the operation that wrote them. Give each run on the same store its own,
    /// so that its values are not mistaken for those of another run.
    pub tag: String,
}

impl Default for WorkloadConfig {
    fn default() -> Self {
        WorkloadConfig {
            mix: Mix {
                weights: BTreeMap::from([(Function::Read, 50), (Function::Write, 50)]),
            },
            keys: 1000,
            key_prefix: "k".into(),
            value_size: 256,
            tag: "v".into(),
        }
    }
}

/// Why a workload cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkloadError {
    /// No operation has a weight.
    #[error("the mix is empty: give at least one of put, get, cas and delete a weight above zero")]
    EmptyMix,
    /// No key.
    #[error("a workload needs at least one key")]
    NoKeys,
    /// The longest key exceeds what the store takes.
    #[error(
        "keys would be up to {longest} bytes long, but the store takes {KEY_BYTES_MAX}: shorten the key prefix"
    )]
    KeyTooLong {
        /// Bytes of the longest key.
        longest: usize,
    },
    /// Prefix or tag would make values unreadable.
    #[error("the {what} `{text}` may hold printable ASCII only, without `:`, quotes, backslash and spaces")]
    BadText {
        /// Which setting.
        what: &'static str,
        /// What it was.
        text: String,
    },
    /// A value of that size cannot carry its own check.
    #[error(
        "a value of {asked} bytes cannot carry its own check: use at least {needed} \
         (tag, operation number, key and checksum)"
    )]
    ValueTooSmall {
        /// What was asked for.
        asked: usize,
        /// What is needed.
        needed: usize,
    },
    /// The store refuses values of that size.
    #[error("a value of {asked} bytes is above what the store takes ({VALUE_BYTES_MAX} bytes)")]
    ValueTooLarge {
        /// What was asked for.
        asked: usize,
    },
}

/// Largest key that the store takes.
const KEY_BYTES_MAX: usize = 4096;
/// Largest value that the store takes.
const VALUE_BYTES_MAX: usize = 1 << 20;
/// Digits set aside for the operation's number in the smallest value.
const NUMBER_DIGITS: usize = 10;
/// Hexadecimal digits of the checksum.
const CHECKSUM_DIGITS: usize = 8;
/// Random text that paddings are cut from.
const PADDING_BLOCK_BYTES: usize = 1 << 16;
/// The stream of the seed that paddings come from; operations use 0 and arrivals 1.
const PADDING_STREAM: u64 = 2;
/// Words of the stream set aside for each operation: one ChaCha block.
const WORDS_PER_OPERATION: u128 = 16;

/// Operation `n` of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its number, from zero.
    pub number: u64,
    /// What it does.
    pub operation: Kind,
    /// Number of its key.
    pub key: u64,
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
    rng: ChaCha8Rng,
    padding: Vec<u8>,
    keys: Vec<Arc<str>>,
}

impl Workload {
    /// Checks the configuration and prepares keys and paddings.
    pub fn new(config: WorkloadConfig, seed: u64) -> Result<Workload, WorkloadError> {
        check_text("key prefix", &config.key_prefix)?;
        check_text("tag", &config.tag)?;
        let Some(last_key) = config.keys.checked_sub(1) else {
            return Err(WorkloadError::NoKeys);
        };
        let longest = config.key_prefix.len() + last_key.to_string().len();
        if longest > KEY_BYTES_MAX {
            return Err(WorkloadError::KeyTooLong { longest });
        }
        let needed = config.tag.len() + NUMBER_DIGITS + longest + CHECKSUM_DIGITS + 3;
        if config.value_size < needed {
            return Err(WorkloadError::ValueTooSmall {
                asked: config.value_size,
                needed,
            });
        }
        if config.value_size > VALUE_BYTES_MAX {
            return Err(WorkloadError::ValueTooLarge {
                asked: config.value_size,
            });
        }
        let keys = (0..config.keys)
            .map(|number| Arc::from(format!("{}{number}", config.key_prefix)))
            .collect();
        Ok(Workload {
            padding: padding_block(seed),
            rng: ChaCha8Rng::seed_from_u64(seed),
            keys,
            config,
        })
    }

    /// What it was built from.
    pub fn config(&self) -> &WorkloadConfig {
        &self.config
    }

    /// Operation `number`: the same for the same seed, whatever happened before it.
    pub fn operation(&self, number: u64) -> Operation {
        let mut rng = self.rng.clone();
        rng.set_word_pos(u128::from(number) * WORDS_PER_OPERATION);
        Operation {
            number,
            operation: Kind::from(self.config.mix.pick(rng.next_u64())),
            key: scale(rng.next_u64(), self.config.keys),
        }
    }

    /// Keys that a scan asks for.
    pub fn scan_length(&self, _number: u64) -> u32 {
        100
    }

    /// Name of a key.
    pub fn key(&self, number: u64) -> &Arc<str> {
        &self.keys[number as usize]
    }

    /// All keys.
    pub fn keys(&self) -> &[Arc<str>] {
        &self.keys
    }

    /// What operation `number` writes under `key`, and the short name that the history knows the value by.
    pub fn value(&self, number: u64, key: &str) -> (String, String) {
        let name = format!("{}{number}", self.config.tag);
        let head = name.len() + key.len() + CHECKSUM_DIGITS + 3;
        let mut padding = String::with_capacity(self.config.value_size.saturating_sub(head));
        let mut at = mix_bits(number) as usize % self.padding.len();
        while padding.len() + head < self.config.value_size {
            let wanted = self.config.value_size - head - padding.len();
            let piece = &self.padding[at..self.padding.len().min(at + wanted)];
            padding.extend(piece.iter().map(|byte| char::from(*byte)));
            at = 0;
        }
        let checksum = checksum(&name, key, &padding);
        (format!("{name}:{key}:{checksum:08x}:{padding}"), name)
    }

    /// Whether `value` can have been written under `key`. A value of another run passes, under its own name.
    pub fn inspect(&self, key: &str, value: &str) -> Inspected {
        inspect(key, value).map_or(Inspected::Corrupt, |name| Inspected::Intact(name.to_owned()))
    }
}

fn inspect<'a>(key: &str, value: &'a str) -> Option<&'a str> {
    let (name, rest) = value.split_once(':')?;
    let (own_key, rest) = rest.split_once(':')?;
    let (sum, padding) = rest.split_once(':')?;
    let well_formed = own_key == key && sum.len() == CHECKSUM_DIGITS;
    let intact = u32::from_str_radix(sum, 16) == Ok(checksum(name, key, padding));
    (well_formed && intact).then_some(name)
}

fn check_text(what: &'static str, text: &str) -> Result<(), WorkloadError> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, ':' | '"' | '\'' | '\\');
    if text.chars().all(allowed) {
        Ok(())
    } else {
        Err(WorkloadError::BadText {
            what,
            text: text.to_owned(),
        })
    }
}

fn padding_block(seed: u64) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(PADDING_STREAM);
    let mut block = vec![0; PADDING_BLOCK_BYTES];
    rng.fill_bytes(&mut block);
    for byte in &mut block {
        *byte = LETTERS[usize::from(*byte & 63)];
    }
    block
}

/// FNV-1a, folded to 32 bits. It guards against mix-ups and damage, not against malice.
fn checksum(name: &str, key: &str, padding: &str) -> u32 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [name, ":", key, ":", padding] {
        for byte in part.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    (hash >> 32) as u32 ^ hash as u32
}

/// SplitMix64's finaliser: spreads consecutive numbers over all bits.
pub(crate) fn mix_bits(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::HashSet;

    use super::*;

    fn workload(seed: u64) -> Workload {
        let mix = Mix::new([
            (Function::Write, 40),
            (Function::Read, 30),
            (Function::Cas, 20),
            (Function::Delete, 10),
        ]);
        let config = WorkloadConfig {
            mix: mix.unwrap(),
            keys: 16,
            ..WorkloadConfig::default()
        };
        Workload::new(config, seed).unwrap()
    }

    #[test]
    fn an_operation_depends_on_seed_and_number_only() {
        let (one, two, other) = (workload(7), workload(7), workload(8));
        let forwards: Vec<_> = (0..500).map(|n| one.operation(n)).collect();
        let backwards: Vec<_> = (0..500).rev().map(|n| two.operation(n)).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()));
        assert_ne!(forwards, (0..500).map(|n| other.operation(n)).collect::<Vec<_>>());
        assert_eq!(one.value(3, "k1"), two.value(3, "k1"));
    }

    #[test]
    fn operations_follow_the_weights_and_keys_are_uniform() {
        let workload = workload(1);
        let mut functions = BTreeMap::<Kind, u64>::new();
        let mut keys = [0_u64; 16];
        let total = 20_000;
        for n in 0..total {
            let operation = workload.operation(n);
            *functions.entry(operation.operation).or_default() += 1;
            keys[operation.key as usize] += 1;
        }
        for (function, share) in [
            (Function::Write, 0.4),
            (Function::Read, 0.3),
            (Function::Cas, 0.2),
            (Function::Delete, 0.1),
        ] {
            let seen = functions[&Kind::from(function)] as f64 / total as f64;
            assert!((seen - share).abs() < 0.02, "{function:?}: {seen}");
        }
        // Chi-square with 15 degrees of freedom: 45 is beyond the 99.99th percentile.
        let expected = total as f64 / 16.0;
        let chi: f64 = keys
            .iter()
            .map(|k| (*k as f64 - expected).powi(2) / expected)
            .sum();
        assert!(chi < 45.0, "{chi}");
    }

    #[test]
    fn values_are_unique_have_the_asked_size_and_name_their_write() {
        let workload = workload(3);
        let mut seen = HashSet::new();
        for n in 0..5000 {
            let (value, name) = workload.value(n, "k3");
            assert_eq!(value.len(), 256);
            assert_eq!(workload.inspect("k3", &value), Inspected::Intact(name.clone()));
            assert!(seen.insert(value) && seen.insert(name));
        }
    }

    #[test]
    fn a_value_of_another_key_a_damaged_one_and_a_stranger_are_corrupt() {
        let workload = workload(3);
        let (value, _) = workload.value(41, "k3");
        assert_eq!(workload.inspect("k4", &value), Inspected::Corrupt);
        assert_eq!(workload.inspect("k3", &value[..255]), Inspected::Corrupt);
        assert_eq!(workload.inspect("k3", ""), Inspected::Corrupt);
        assert_eq!(workload.inspect("k3", "bar"), Inspected::Corrupt);
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let damaged = String::from_utf8(bytes).unwrap();
            assert_eq!(workload.inspect("k3", &damaged), Inspected::Corrupt, "byte {at}");
        }
    }

    #[test]
    fn large_values_are_padded_past_the_end_of_the_block() {
        let config = WorkloadConfig {
            value_size: 200_000,
            ..WorkloadConfig::default()
        };
        let workload = Workload::new(config, 0).unwrap();
        let (value, name) = workload.value(9, "k1");
        assert_eq!(value.len(), 200_000);
        assert_eq!(workload.inspect("k1", &value), Inspected::Intact(name));
    }

    #[test]
    fn workloads_that_cannot_be_checked_are_refused() {
        let base = WorkloadConfig::default();
        let refused = |config| Workload::new(config, 0).unwrap_err().to_string();
        assert!(
            refused(WorkloadConfig {
                value_size: 8,
                ..base.clone()
            })
            .contains("at least 26")
        );
        assert!(
            refused(WorkloadConfig {
                value_size: 2 << 20,
                ..base.clone()
            })
            .contains("above what")
        );
        assert!(
            refused(WorkloadConfig {
                keys: 0,
                ..base.clone()
            })
            .contains("at least one key")
        );
        assert!(
            refused(WorkloadConfig {
                key_prefix: "a:b".into(),
                ..base.clone()
            })
            .contains("key prefix")
        );
        assert!(
            refused(WorkloadConfig {
                key_prefix: "p".repeat(5000),
                ..base
            })
            .contains("shorten")
        );
        assert_eq!(Mix::new([(Function::Read, 0)]), Err(WorkloadError::EmptyMix));
    }
}
