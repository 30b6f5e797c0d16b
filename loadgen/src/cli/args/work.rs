//! What is done to the store.

use clap::Args;

use super::super::units;
use crate::workload::Mix;

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Workload")]
pub(in super::super) struct WorkArgs {
    /// Operations and their weights: put, get, cas, delete.
    #[arg(long, value_parser = units::mix, default_value = "put=50,get=50")]
    pub(in super::super) mix: Mix,
    /// Number of keys; each is equally likely.
    #[arg(long, value_parser = units::count, default_value = "1000", value_name = "N")]
    pub(in super::super) keys: u64,
    /// What keys begin with; their number follows. A history of keys that held values before the run cannot be checked:
    /// the checker takes every key to be absent at the start [default: unique per run]
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) key_prefix: Option<String>,
    /// Bytes of each value (k is 1024).
    #[arg(long, value_parser = units::bytes, default_value = "256", value_name = "BYTES")]
    pub(in super::super) value_size: usize,
}
