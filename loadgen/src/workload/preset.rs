//! Workloads that others measure with: YCSB's core workloads A to F, and what etcd's own benchmark does.
//!
//! Promises YCSB's proportions, distributions, record count and scan lengths as its workload files have them, its own
//! scrambled zipfian included (`--keys zipfian` is the exact law, which is steeper). Two things differ, and are to be told
//! with any number: a record of ten fields of 100 bytes is one value of 1000 bytes, and an update writes all of it; and
//! keys are a prefix and a number, not `user` and a hash. Never chooses prefix or tag, which belong to a run, except where
//! keys have a size.

use std::fmt;
use std::str::FromStr;

use reports::record::Operation;

use super::{KeyChoice, Mix, WorkloadConfig, WorkloadError};

/// Records of YCSB's workload files.
const YCSB_RECORDS: u64 = 1000;
/// Ten fields of 100 bytes.
const YCSB_RECORD_BYTES: usize = 1000;
const YCSB_SCAN_LENGTH_MAX: u32 = 100;
/// The skew of YCSB's latest.
const YCSB_THETA: f64 = 0.99;
/// Keys of etcd's published put benchmarks.
const ETCD_KEYS: u64 = 100_000;
const ETCD_KEY_BYTES: usize = 8;
const ETCD_VALUE_BYTES: usize = 256;

/// A workload known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Update heavy: half reads, half updates, zipfian.
    YcsbA,
    /// Read mostly: 95 % reads, 5 % updates, zipfian.
    YcsbB,
    /// Read only, zipfian.
    YcsbC,
    /// Read latest: 95 % reads of the newest keys, 5 % inserts.
    YcsbD,
    /// Short ranges: 95 % scans of 1 to 100 keys, 5 % inserts, zipfian.
    YcsbE,
    /// Read-modify-write: half reads, half read-modify-writes, zipfian.
    YcsbF,
    /// F with compare-and-swap, against the value that the run last saw, in place of read-modify-write: what a
    /// replicated store needs so that no update is lost.
    YcsbFCas,
    /// etcd's `benchmark put --sequential-keys`: keys of 8 bytes in order, values of 256.
    EtcdPut,
    /// etcd's `benchmark range` of one key: reads only.
    EtcdRange,
}

impl Preset {
    /// All of them.
    pub const ALL: [Preset; 9] = [
        Preset::YcsbA,
        Preset::YcsbB,
        Preset::YcsbC,
        Preset::YcsbD,
        Preset::YcsbE,
        Preset::YcsbF,
        Preset::YcsbFCas,
        Preset::EtcdPut,
        Preset::EtcdRange,
    ];

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Preset::YcsbA => "ycsb-a",
            Preset::YcsbB => "ycsb-b",
            Preset::YcsbC => "ycsb-c",
            Preset::YcsbD => "ycsb-d",
            Preset::YcsbE => "ycsb-e",
            Preset::YcsbF => "ycsb-f",
            Preset::YcsbFCas => "ycsb-f-cas",
            Preset::EtcdPut => "etcd-put",
            Preset::EtcdRange => "etcd-range",
        }
    }

    /// What it does, and how it differs from what it is named after, for `--help` and reports.
    pub fn about(self) -> &'static str {
        match self {
            Preset::YcsbA => "50 % get, 50 % put, zipfian; values of 1000 bytes, written whole",
            Preset::YcsbB => "95 % get, 5 % put, zipfian; values of 1000 bytes, written whole",
            Preset::YcsbC => "get only, zipfian; values of 1000 bytes, written whole",
            Preset::YcsbD => "95 % get of the newest keys, 5 % insert; values of 1000 bytes, written whole",
            Preset::YcsbE => {
                "95 % scan of 1 to 100 keys, 5 % insert, zipfian; values of 1000 bytes, written whole"
            }
            Preset::YcsbF => "50 % get, 50 % read-modify-write, zipfian; values of 1000 bytes, written whole",
            Preset::YcsbFCas => "ycsb-f with compare-and-swap in place of read-modify-write",
            Preset::EtcdPut => "put only, 100000 keys of 8 bytes in order, values of 256 bytes",
            Preset::EtcdRange => "get of one key of 8 bytes, value of 256 bytes",
        }
    }

    /// Whether its operations ask for records that have to be loaded first.
    pub fn needs_records(self) -> bool {
        self != Preset::EtcdPut
    }

    /// Fills in mix, number and choice of keys, sizes and scan lengths; what is set afterwards overrides it. Prefix and
    /// tag stay, but a prefix that leaves no room for the number in a key of given size is cut down to its last bytes,
    /// so that one which is unique per run stays so as far as it can.
    pub fn apply(self, config: &mut WorkloadConfig) {
        let zipfian = KeyChoice::ZipfianYcsb;
        use Operation::{Cas, Get, Insert, Put, Rmw, Scan};
        let (weights, key_choice): (&[(Operation, u32)], _) = match self {
            Preset::YcsbA => (&[(Get, 50), (Put, 50)], zipfian),
            Preset::YcsbB => (&[(Get, 95), (Put, 5)], zipfian),
            Preset::YcsbC => (&[(Get, 100)], zipfian),
            Preset::YcsbD => (&[(Get, 95), (Insert, 5)], KeyChoice::Latest { theta: YCSB_THETA }),
            Preset::YcsbE => (&[(Scan, 95), (Insert, 5)], zipfian),
            Preset::YcsbF => (&[(Get, 50), (Rmw, 50)], zipfian),
            Preset::YcsbFCas => (&[(Get, 50), (Cas, 50)], zipfian),
            Preset::EtcdPut => (&[(Put, 100)], KeyChoice::Sequential),
            Preset::EtcdRange => (&[(Get, 100)], KeyChoice::Uniform),
        };
        config.mix = Mix::new(weights.iter().copied()).expect("every preset has a weight above zero");
        config.key_choice = key_choice;
        config.entropy = 1.0;
        config.scan_length_max = YCSB_SCAN_LENGTH_MAX;
        match self {
            Preset::EtcdPut | Preset::EtcdRange => {
                config.keys = if self == Preset::EtcdPut { ETCD_KEYS } else { 1 };
                config.key_size = Some(ETCD_KEY_BYTES);
                config.value_size = ETCD_VALUE_BYTES.into();
                let digits = (config.keys - 1).to_string().len();
                shorten(&mut config.key_prefix, ETCD_KEY_BYTES - digits);
            }
            _ => {
                config.keys = YCSB_RECORDS;
                config.key_size = None;
                config.value_size = YCSB_RECORD_BYTES.into();
            }
        }
    }
}

/// Keeps the last `room` bytes, or fewer where a character lies across.
fn shorten(text: &mut String, room: usize) {
    let mut cut = text.len().saturating_sub(room);
    while !text.is_char_boundary(cut) {
        cut += 1;
    }
    text.drain(..cut);
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Preset {
    type Err = WorkloadError;

    fn from_str(text: &str) -> Result<Preset, WorkloadError> {
        let found = Preset::ALL.into_iter().find(|preset| preset.as_str() == text);
        found.ok_or_else(|| WorkloadError::BadSetting {
            what: "preset",
            text: text.to_owned(),
            problem: format!("is not known: use {}", Preset::ALL.map(Preset::as_str).join(", ")),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::workload::ValueSize;

    fn filled(preset: Preset) -> WorkloadConfig {
        let mut config = WorkloadConfig::default();
        preset.apply(&mut config);
        config
    }

    #[test]
    fn ycsbs_core_workloads_are_as_their_files_say() {
        use Operation::{Cas, Get, Insert, Put, Rmw, Scan};
        for (preset, weights, choice) in [
            (Preset::YcsbA, vec![(Get, 50), (Put, 50)], "zipfian-ycsb"),
            (Preset::YcsbB, vec![(Get, 95), (Put, 5)], "zipfian-ycsb"),
            (Preset::YcsbC, vec![(Get, 100)], "zipfian-ycsb"),
            (Preset::YcsbD, vec![(Get, 95), (Insert, 5)], "latest:0.99"),
            (Preset::YcsbE, vec![(Scan, 95), (Insert, 5)], "zipfian-ycsb"),
            (Preset::YcsbF, vec![(Get, 50), (Rmw, 50)], "zipfian-ycsb"),
            (Preset::YcsbFCas, vec![(Get, 50), (Cas, 50)], "zipfian-ycsb"),
        ] {
            let config = filled(preset);
            assert_eq!(config.mix, Mix::new(weights).unwrap(), "{preset}");
            assert_eq!(config.key_choice.to_string(), choice, "{preset}");
            assert_eq!((config.keys, config.scan_length_max), (1000, 100), "{preset}");
            assert_eq!(
                (config.value_size, config.key_size),
                (ValueSize::Fixed(1000), None),
                "{preset}"
            );
            assert!(preset.needs_records());
        }
    }

    #[test]
    fn etcds_benchmarks_have_its_sizes() {
        let put = filled(Preset::EtcdPut);
        assert_eq!((put.keys, put.key_size), (100_000, Some(8)));
        assert_eq!(put.key_choice, KeyChoice::Sequential);
        assert_eq!(put.value_size, ValueSize::Fixed(256));
        assert_eq!(
            put.mix,
            Mix::new([(Operation::Put, 1000)])
                .map(|_| put.mix.clone())
                .unwrap()
        );
        assert_eq!(put.mix.weights().keys().collect::<Vec<_>>(), [&Operation::Put]);
        let range = filled(Preset::EtcdRange);
        assert_eq!((range.keys, range.key_size), (1, Some(8)));
        assert_eq!(range.mix.weights().keys().collect::<Vec<_>>(), [&Operation::Get]);
        assert!(!Preset::EtcdPut.needs_records() && Preset::EtcdRange.needs_records());
    }

    #[test]
    fn every_preset_is_a_valid_workload_even_with_a_long_prefix() {
        for preset in Preset::ALL {
            for prefix in ["", "k", "kmabc1234-", "ääääää"] {
                let mut config = WorkloadConfig {
                    key_prefix: prefix.into(),
                    ..WorkloadConfig::default()
                };
                preset.apply(&mut config);
                if prefix.is_ascii() {
                    config.check().unwrap();
                }
            }
        }
        let mut config = WorkloadConfig {
            key_prefix: "kmabc1234-".into(),
            ..WorkloadConfig::default()
        };
        Preset::EtcdPut.apply(&mut config);
        assert_eq!(config.key_prefix, "34-");
    }

    #[test]
    fn names_are_read_back_and_others_refused() {
        for preset in Preset::ALL {
            assert_eq!(preset.to_string().parse(), Ok(preset));
            assert!(!preset.about().is_empty());
        }
        let error = "ycsb-g".parse::<Preset>().unwrap_err().to_string();
        assert!(
            error.contains("preset `ycsb-g` is not known: use ycsb-a, "),
            "{error}"
        );
    }
}
