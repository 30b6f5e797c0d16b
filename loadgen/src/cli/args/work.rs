//! What is done to the store.

use clap::Args;

use super::super::units;
use crate::workload::{KeyChoice, Mix, Preset, ValueSize, WorkloadConfig};

/// What the keys that `loadgen load` writes begin with.
pub(in super::super) const LOADED_PREFIX: &str = "k";

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workload")]
pub(in super::super) struct WorkArgs {
    /// A workload by name, whose parts the other flags override: ycsb-a to ycsb-f, ycsb-f-cas, etcd-put, etcd-range.
    #[arg(long, value_parser = preset, value_name = "NAME", long_help = preset_help())]
    pub(in super::super) preset: Option<Preset>,
    /// Operations and their weights: get, put, insert, cas, delete, scan, rmw (read-modify-write)
    /// [default: put=50,get=50]
    #[arg(long, value_parser = units::mix, value_name = "OP=WEIGHT,…")]
    pub(in super::super) mix: Option<Mix>,
    /// Which keys are chosen how often: uniform, zipfian or zipfian:THETA, zipfian-ycsb, latest, hotspot:KEYS/OPERATIONS,
    /// sequential, exponential or exponential:PERCENTILE,FRACTION [default: uniform]
    #[arg(long, value_parser = key_choice, value_name = "CHOICE")]
    pub(in super::super) keys: Option<KeyChoice>,
    /// Number of keys [default: 1000]
    #[arg(long, value_parser = units::count, value_name = "N", alias = "key-space-size")]
    pub(in super::super) key_space: Option<u64>,
    /// Bytes of each key, filled up with zeros in front of its number [default: as short as they come]
    #[arg(long, value_parser = units::bytes, value_name = "BYTES")]
    pub(in super::super) key_size: Option<usize>,
    /// What keys begin with; their number follows. A history of keys that held values before the run cannot be checked:
    /// the checker takes every key to be absent at the start [default: unique per run]
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) key_prefix: Option<String>,
    /// Bytes of each value: 256, a range (64..4096), sizes with weights (64:70,1024:30), or lognormal:MEDIAN,SIGMA
    /// [default: 256]
    #[arg(long, value_parser = value_size, value_name = "SIZE", alias = "val-size")]
    pub(in super::super) value_size: Option<ValueSize>,
    /// Part of each value's padding that is random, from 0 to 1; the rest repeats and can be compressed [default: 1]
    #[arg(long, value_name = "SHARE")]
    pub(in super::super) entropy: Option<f64>,
    /// Most keys that a scan asks for; each asks for 1 to so many [default: 100]
    #[arg(long, value_name = "N")]
    pub(in super::super) scan_length_max: Option<u32>,
    /// Write all records before the clock starts; presets that ask for records do so by themselves.
    #[arg(long, conflicts_with = "no_preload")]
    pub(in super::super) preload: bool,
    /// Do not write the records that a preset asks for: `loadgen load` has put them there, under its key prefix `k`
    /// unless --key-prefix says another.
    #[arg(long)]
    pub(in super::super) no_preload: bool,
}

impl WorkArgs {
    /// The workload of a run that calls itself `name`, which makes its keys and values its own.
    pub(in super::super) fn workload(&self, name: &str) -> WorkloadConfig {
        let mut config = WorkloadConfig {
            key_prefix: match (&self.key_prefix, self.no_preload) {
                (Some(prefix), _) => prefix.clone(),
                (None, true) => LOADED_PREFIX.into(),
                // Keys of its own, so that none holds a value of an earlier run: the checker takes them to be absent.
                (None, false) => format!("k{name}-"),
            },
            tag: format!("{name}-"),
            ..WorkloadConfig::default()
        };
        if let Some(preset) = self.preset {
            preset.apply(&mut config);
        }
        let WorkArgs {
            mix,
            keys,
            value_size,
            ..
        } = self.clone();
        config.mix = mix.unwrap_or(config.mix);
        config.key_choice = keys.unwrap_or(config.key_choice);
        config.keys = self.key_space.unwrap_or(config.keys);
        config.key_size = self.key_size.or(config.key_size);
        config.value_size = value_size.unwrap_or(config.value_size);
        config.entropy = self.entropy.unwrap_or(config.entropy);
        config.scan_length_max = self.scan_length_max.unwrap_or(config.scan_length_max);
        config
    }

    /// Whether the records are written first.
    pub(in super::super) fn preload(&self) -> bool {
        let wanted = self.preset.is_some_and(Preset::needs_records);
        self.preload || (wanted && !self.no_preload)
    }
}

fn preset_help() -> String {
    let mut help = String::from("A workload by name, whose parts the other flags override:");
    for preset in Preset::ALL {
        help.push_str(&format!("\n- {}: {}", preset.as_str(), preset.about()));
    }
    help
}

fn preset(text: &str) -> Result<Preset, String> {
    text.parse()
        .map_err(|error: crate::WorkloadError| error.to_string())
}

fn key_choice(text: &str) -> Result<KeyChoice, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "`{text}` is a number: --keys says how keys are chosen, --key-space {text} how many there are"
        ));
    }
    text.parse()
        .map_err(|error: crate::WorkloadError| error.to_string())
}

fn value_size(text: &str) -> Result<ValueSize, String> {
    text.parse()
        .map_err(|error: crate::WorkloadError| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        work: WorkArgs,
    }

    #[test]
    fn a_run_without_preload_reads_what_was_loaded_and_any_other_has_keys_of_its_own() {
        let prefix = |words: &[&str]| {
            let words = ["loadgen"].iter().chain(words);
            Words::try_parse_from(words)
                .unwrap()
                .work
                .workload("tag")
                .key_prefix
        };
        assert_eq!(prefix(&["--preset", "ycsb-c"]), "ktag-");
        assert_eq!(prefix(&["--preset", "ycsb-c", "--no-preload"]), LOADED_PREFIX);
        assert_eq!(prefix(&["--no-preload", "--key-prefix", "mine"]), "mine");
    }
}
