//! Which keys operations are about, as people write it: `uniform`, `zipfian:0.99`, `hotspot:0.2/0.8`.
//!
//! Promises that what is shown can be read back as the same choice. Never corrects a number that makes no sense: it is
//! refused.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use super::WorkloadError;

/// Skew of `zipfian` and `latest` where none is given, as in YCSB.
const THETA_DEFAULT: f64 = 0.99;
/// YCSB's defaults of `exponential`.
const PERCENTILE_DEFAULT: f64 = 95.0;
const FRACTION_DEFAULT: f64 = 0.857_142_857_1;

/// How operations choose among the keys. `Uniform`, `Zipfian`, `ZipfianYcsb`, `Hotspot` and `Sequential` keep to the
/// records that were there at the start; `Latest` and `Exponential` go back from the newest key that is known to exist.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum KeyChoice {
    /// Each record is equally likely.
    #[default]
    Uniform,
    /// The record of rank `k` is chosen in proportion to `k^-theta`, exactly; ranks are spread over the key numbers by
    /// a fixed permutation.
    Zipfian {
        /// The skew, above zero.
        theta: f64,
    },
    /// YCSB's scrambled zipfian generator with its faults: flatter than its 0.99 says, several ranks to a key.
    ZipfianYcsb,
    /// Zipfian in the age of the key: the newest key that was acknowledged is the most frequent. (YCSB's own never
    /// names key 0, and reckons with inserts that failed; this one does neither.)
    Latest {
        /// The skew, above zero.
        theta: f64,
    },
    /// A fraction of the records, those with the lowest numbers, takes a fraction of the operations; within each of the
    /// two parts all records are equally likely. At least one record is hot.
    Hotspot {
        /// Fraction of the records, above zero and below one.
        keys: f64,
        /// Fraction of the operations, from zero to one.
        operations: f64,
    },
    /// Record `n` modulo the number of records for operation `n`.
    Sequential,
    /// Exponential in the age of the key, as in YCSB: of all operations, `percentile` per cent are about the newest
    /// `fraction` of the records, before the cut at the oldest key.
    Exponential {
        /// Per cent of the operations, above 0 and below 100.
        percentile: f64,
        /// Part of the records, above zero.
        fraction: f64,
    },
}

impl KeyChoice {
    pub(super) fn check(&self) -> Result<(), WorkloadError> {
        let positive = |number: f64| number.is_finite() && number > 0.0;
        let problem = match *self {
            KeyChoice::Zipfian { theta } | KeyChoice::Latest { theta } if !positive(theta) => {
                "needs a skew above zero, as in zipfian:0.99"
            }
            KeyChoice::Hotspot { keys, .. } if !(positive(keys) && keys < 1.0) => {
                "needs a fraction of the keys between 0 and 1, as in hotspot:0.2/0.8"
            }
            KeyChoice::Hotspot { operations, .. } if !(0.0..=1.0).contains(&operations) => {
                "needs a fraction of the operations from 0 to 1, as in hotspot:0.2/0.8"
            }
            KeyChoice::Exponential { percentile, .. } if !(positive(percentile) && percentile < 100.0) => {
                "needs a percentile between 0 and 100, as in exponential:95,0.86"
            }
            KeyChoice::Exponential { fraction, .. } if !positive(fraction) => {
                "needs a fraction above zero, as in exponential:95,0.86"
            }
            _ => return Ok(()),
        };
        Err(refusal(&self.to_string(), problem))
    }
}

impl fmt::Display for KeyChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyChoice::Uniform => f.write_str("uniform"),
            KeyChoice::Zipfian { theta } => write!(f, "zipfian:{theta}"),
            KeyChoice::ZipfianYcsb => f.write_str("zipfian-ycsb"),
            KeyChoice::Latest { theta } => write!(f, "latest:{theta}"),
            KeyChoice::Hotspot { keys, operations } => write!(f, "hotspot:{keys}/{operations}"),
            KeyChoice::Sequential => f.write_str("sequential"),
            KeyChoice::Exponential { percentile, fraction } => {
                write!(f, "exponential:{percentile},{fraction}")
            }
        }
    }
}

impl FromStr for KeyChoice {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<KeyChoice, WorkloadError> {
        let (name, rest) = match text.split_once(':') {
            Some((name, rest)) => (name, Some(rest)),
            None => (text, None),
        };
        let number = |part: &str| {
            let parsed = part.trim().parse::<f64>();
            parsed.map_err(|_| refusal(text, &format!("holds `{part}` where a number is needed")))
        };
        let theta = || rest.map_or(Ok(THETA_DEFAULT), number);
        let pair = |separator: char, example: &str| {
            let (one, two) = rest
                .and_then(|rest| rest.split_once(separator))
                .ok_or_else(|| refusal(text, &format!("needs two numbers, as in {example}")))?;
            Ok::<_, WorkloadError>((number(one)?, number(two)?))
        };
        let choice = match name {
            "uniform" | "zipfian-ycsb" | "sequential" if rest.is_some() => {
                return Err(refusal(text, &format!("takes no numbers: write {name}")));
            }
            "uniform" => KeyChoice::Uniform,
            "zipfian" => KeyChoice::Zipfian { theta: theta()? },
            "zipfian-ycsb" => KeyChoice::ZipfianYcsb,
            "latest" => KeyChoice::Latest { theta: theta()? },
            "hotspot" => {
                let (keys, operations) = pair('/', "hotspot:0.2/0.8")?;
                KeyChoice::Hotspot { keys, operations }
            }
            "sequential" => KeyChoice::Sequential,
            "exponential" => {
                let (percentile, fraction) = match rest {
                    None => (PERCENTILE_DEFAULT, FRACTION_DEFAULT),
                    Some(_) => pair(',', "exponential:95,0.86")?,
                };
                KeyChoice::Exponential { percentile, fraction }
            }
            _ => {
                let known = "is not known: use uniform, zipfian[:SKEW], zipfian-ycsb, latest[:SKEW], \
                             hotspot:KEYS/OPERATIONS, sequential or exponential[:PERCENTILE,FRACTION]";
                return Err(refusal(text, known));
            }
        };
        choice.check()?;
        Ok(choice)
    }
}

impl Serialize for KeyChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn refusal(text: &str, problem: &str) -> WorkloadError {
    WorkloadError::BadSetting {
        what: "choice of keys",
        text: text.to_owned(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::workload::statistics::properties;

    #[test]
    fn what_is_shown_is_read_back() {
        for (text, shown) in [
            ("uniform", "uniform"),
            ("zipfian", "zipfian:0.99"),
            ("zipfian:1", "zipfian:1"),
            ("zipfian:1.2", "zipfian:1.2"),
            ("zipfian-ycsb", "zipfian-ycsb"),
            ("latest", "latest:0.99"),
            ("latest:0.5", "latest:0.5"),
            ("hotspot:0.2/0.8", "hotspot:0.2/0.8"),
            ("sequential", "sequential"),
            ("exponential", "exponential:95,0.8571428571"),
            ("exponential:90,0.1", "exponential:90,0.1"),
        ] {
            let choice: KeyChoice = text.parse().unwrap();
            assert_eq!(choice.to_string(), shown);
            assert_eq!(shown.parse::<KeyChoice>().unwrap(), choice);
            assert_eq!(serde_json::to_value(&choice).unwrap(), shown);
        }
    }

    proptest! {
        #![proptest_config(properties())]

        #[test]
        fn any_valid_numbers_are_read_back(theta in 1e-9_f64..1e9, keys in 1e-9_f64..0.999, operations in 0.0..=1.0) {
            for choice in [
                KeyChoice::Zipfian { theta },
                KeyChoice::Latest { theta },
                KeyChoice::Hotspot { keys, operations },
                KeyChoice::Exponential { percentile: keys * 100.0, fraction: theta },
            ] {
                prop_assert_eq!(choice.to_string().parse::<KeyChoice>().unwrap(), choice);
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, reason) in [
            ("", "is not known: use uniform"),
            ("zipf", "is not known"),
            ("Zipfian", "is not known"),
            ("zipfian:", "holds `` where a number is needed"),
            ("zipfian:much", "holds `much`"),
            ("zipfian:0", "needs a skew above zero"),
            ("zipfian:-1", "needs a skew above zero"),
            ("zipfian:inf", "needs a skew above zero"),
            ("latest:NaN", "needs a skew above zero"),
            ("uniform:1", "takes no numbers: write uniform"),
            ("sequential:", "takes no numbers"),
            ("zipfian-ycsb:0.9", "takes no numbers"),
            ("hotspot", "needs two numbers, as in hotspot:0.2/0.8"),
            ("hotspot:0.2", "needs two numbers"),
            ("hotspot:0/0.8", "fraction of the keys"),
            ("hotspot:1/0.8", "fraction of the keys"),
            ("hotspot:0.2/1.1", "fraction of the operations"),
            ("hotspot:0.2/NaN", "fraction of the operations"),
            ("exponential:95", "needs two numbers"),
            ("exponential:100,0.5", "percentile between 0 and 100"),
            ("exponential:95,0", "fraction above zero"),
        ] {
            let error = text.parse::<KeyChoice>().unwrap_err().to_string();
            assert!(
                error.contains(reason) && error.contains("choice of keys"),
                "{text}: {error}"
            );
        }
    }
}
