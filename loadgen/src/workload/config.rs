//! What a workload consists of, and why one is refused.
//!
//! Promises that what passes the check can be carried out by number, without further errors. Never changes what was
//! asked for.

use serde::Serialize;
use thiserror::Error;

use super::keys::KeyChoice;
use super::mix::Mix;
use super::sizes::ValueSize;
use super::text::CHECKSUM_DIGITS;

/// Largest key that the store takes.
const KEY_BYTES_MAX: usize = 4096;
/// Largest value that the store takes.
pub(super) const VALUE_BYTES_MAX: usize = 1 << 20;
/// Largest number of records: up to here a floating-point number tells neighbours apart.
const KEYS_MAX: u64 = 1 << 53;
/// Largest number of keys that one scan may ask for.
const SCAN_LENGTH_MAX: u32 = 10_000;
/// Digits set aside for the operation's number in the smallest value.
const NUMBER_DIGITS: usize = 10;

/// What a workload consists of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkloadConfig {
    /// How often each operation occurs.
    pub mix: Mix,
    /// Number of keys that operations choose among: the records. Inserts add keys beyond them.
    pub keys: u64,
    /// How operations choose among them.
    pub key_choice: KeyChoice,
    /// Keys are this followed by their number. Give each run on the same store its own: a history of keys that held
    /// values before cannot be checked.
    pub key_prefix: String,
    /// Bytes of each key: numbers get zeros in front to fill it. Without it they are as long as they are. Keys that a
    /// run inserts become longer when their numbers do not fit any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_size: Option<usize>,
    /// Bytes of each value. A value whose name and key take more, late in a run, is as long as they need.
    pub value_size: ValueSize,
    /// Share of random bytes in what fills values up, from 0 to 1; the rest repeats. Random bytes are letters of six
    /// bits, so that at 1 a value can still be compressed to three quarters.
    pub entropy: f64,
    /// Most keys that one scan asks for; each length from one up to it is equally likely.
    pub scan_length_max: u32,
    /// Values begin with this and the number of the operation that wrote them. Give each run on the same store its own,
    /// so that its values are not mistaken for those of another run.
    pub tag: String,
}

impl Default for WorkloadConfig {
    fn default() -> Self {
        WorkloadConfig {
            mix: Mix::default(),
            keys: 1000,
            key_choice: KeyChoice::default(),
            key_prefix: "k".into(),
            key_size: None,
            value_size: ValueSize::default(),
            entropy: 1.0,
            scan_length_max: 100,
            tag: "v".into(),
        }
    }
}

impl WorkloadConfig {
    /// Refuses what cannot be carried out, with the reason. Gives the bytes of the smallest value that carries its own
    /// check.
    pub(super) fn check(&self) -> Result<usize, WorkloadError> {
        check_text("key prefix", &self.key_prefix)?;
        check_text("tag", &self.tag)?;
        let longest = self.longest_key()?;
        self.key_choice.check()?;
        if !(0.0..=1.0).contains(&self.entropy) {
            return Err(WorkloadError::BadSetting {
                what: "entropy",
                text: self.entropy.to_string(),
                problem: "must be from 0 (all repeating) to 1 (all random)".into(),
            });
        }
        if !(1..=SCAN_LENGTH_MAX).contains(&self.scan_length_max) {
            return Err(WorkloadError::BadSetting {
                what: "longest scan",
                text: self.scan_length_max.to_string(),
                problem: format!("must be from 1 to {SCAN_LENGTH_MAX} keys"),
            });
        }
        let needed = self.tag.len() + NUMBER_DIGITS + longest + CHECKSUM_DIGITS + 3;
        self.value_size.check(needed)?;
        Ok(needed)
    }

    /// Bytes of the longest key of a record.
    fn longest_key(&self) -> Result<usize, WorkloadError> {
        let Some(last_key) = self.keys.checked_sub(1) else {
            return Err(WorkloadError::NoKeys);
        };
        if self.keys > KEYS_MAX {
            return Err(WorkloadError::TooManyKeys { asked: self.keys });
        }
        let needed = self.key_prefix.len() + last_key.to_string().len();
        let longest = self.key_size.unwrap_or(needed);
        if longest > KEY_BYTES_MAX {
            return Err(WorkloadError::KeyTooLong { longest });
        }
        if longest < needed {
            return Err(WorkloadError::KeyTooSmall {
                asked: longest,
                needed,
            });
        }
        Ok(longest)
    }
}

/// Why a workload cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorkloadError {
    /// No operation has a weight.
    #[error(
        "the mix is empty: give at least one of get, put, insert, cas, delete, scan and rmw a weight above zero"
    )]
    EmptyMix,
    /// No key.
    #[error("a workload needs at least one key")]
    NoKeys,
    /// More keys than can be numbered.
    #[error("{asked} keys are more than can be told apart ({KEYS_MAX}): use fewer")]
    TooManyKeys {
        /// What was asked for.
        asked: u64,
    },
    /// The longest key exceeds what the store takes.
    #[error(
        "keys would be up to {longest} bytes long, but the store takes {KEY_BYTES_MAX}: \
         shorten the key prefix or the key size"
    )]
    KeyTooLong {
        /// Bytes of the longest key.
        longest: usize,
    },
    /// Prefix and number do not fit into the size of a key.
    #[error(
        "a key of {asked} bytes cannot hold prefix and number, which take {needed}: shorten the key prefix"
    )]
    KeyTooSmall {
        /// What was asked for.
        asked: usize,
        /// What is needed.
        needed: usize,
    },
    /// Prefix or tag would make values unreadable.
    #[error("the {what} `{text}` may hold printable ASCII only, without `:`, quotes, backslash and spaces")]
    BadText {
        /// Which setting.
        what: &'static str,
        /// What it was.
        text: String,
    },
    /// A setting makes no sense.
    #[error("the {what} `{text}` {problem}")]
    BadSetting {
        /// Which setting.
        what: &'static str,
        /// What it was.
        text: String,
        /// What is wrong with it.
        problem: String,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_smallest_value_holds_tag_number_key_and_checksum() {
        assert_eq!(WorkloadConfig::default().check(), Ok(26));
    }

    #[test]
    fn workloads_that_cannot_be_carried_out_are_refused_with_a_reason() {
        type Change = fn(&mut WorkloadConfig);
        let cases: [(Change, &str); 15] = [
            (|c| c.value_size = 8.into(), "at least 26"),
            (|c| c.value_size = (2 << 20).into(), "above what the store takes"),
            (|c| c.value_size = ValueSize::Range(64, 32), "smaller size"),
            (|c| c.keys = 0, "at least one key"),
            (|c| c.keys = (1 << 53) + 1, "use fewer"),
            (|c| c.key_prefix = "a:b".into(), "key prefix `a:b`"),
            (|c| c.key_prefix = "a b".into(), "key prefix"),
            (|c| c.key_prefix = "ä".into(), "key prefix"),
            (|c| c.tag = "\"".into(), "the tag"),
            (|c| c.key_prefix = "p".repeat(5000), "shorten"),
            (|c| c.key_size = Some(3), "which take 4: shorten the key prefix"),
            (|c| c.key_size = Some(4097), "the store takes 4096"),
            (
                |c| c.key_choice = KeyChoice::Zipfian { theta: 0.0 },
                "skew above zero",
            ),
            (|c| c.entropy = f64::NAN, "entropy `NaN` must be from 0"),
            (
                |c| c.scan_length_max = 0,
                "longest scan `0` must be from 1 to 10000",
            ),
        ];
        for (change, reason) in cases {
            let mut config = WorkloadConfig::default();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(reason), "{reason}: {error}");
        }
    }
}
