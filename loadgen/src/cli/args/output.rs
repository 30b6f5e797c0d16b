//! What is left of a run, and what decides its exit code.

use std::path::PathBuf;

use std::time::Duration;

use clap::Args;

use super::super::units;
use super::FailOn;
use crate::screen::{ColorMode, ScreenMode};
use crate::threshold::Threshold;

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(in super::super) struct OutputArgs {
    /// Name of the run.
    #[arg(long, default_value = "load")]
    pub(in super::super) name: String,
    /// Folder for the record, new or empty [default: target/runs/NAME-TIME]
    #[arg(short, long, value_name = "DIR")]
    pub(in super::super) out: Option<PathBuf>,
    /// Do not record single operations.
    #[arg(long)]
    pub(in super::super) no_history: bool,
    /// Do not write report.html.
    #[arg(long)]
    pub(in super::super) no_report: bool,
    /// What must hold, such as 'response{op=put}:p99<20ms', 'errors:rate<0.1%', 'unavailable:longest<3s',
    /// 'goodput{phase=stage-2}:rate>900/s', 'scheduled:p99<50ms abort after 5s'; may be given several times. Without
    /// samples it fails, unless it ends in `allow-empty`. With `over 10s` it must hold in each ten seconds, and in a rest of
    /// at least half of that. What is measured on the wrong side of the limit fails, also where a longer run might end on the
    /// right one.
    #[arg(short, long, value_parser = threshold, value_name = "EXPRESSION", help_heading = "Gates")]
    pub(in super::super) threshold: Vec<Threshold>,
    /// Count a threshold as failed also if it holds, but not for certain: its limit lies within the uncertainty of what was
    /// measured.
    #[arg(long, help_heading = "Gates")]
    pub(in super::super) strict: bool,
    /// Print the summary as one JSON document.
    #[arg(long)]
    pub(in super::super) json: bool,
    /// Print one JSON document a line while the run goes on: start, every slice, end.
    #[arg(long, conflicts_with = "json")]
    pub(in super::super) stream: bool,
    /// Serve the numbers of the run for Prometheus while it goes on, on a port such as :9100.
    #[arg(long, value_name = "[HOST]:PORT")]
    pub(in super::super) prometheus: Option<String>,
    /// How often CPU, memory and disk of the generator and of servers on this machine are sampled.
    #[arg(long, value_parser = units::duration, default_value = "1s", value_name = "DURATION")]
    pub(in super::super) sampling: Duration,
    /// Do not sample CPU, memory and disk.
    #[arg(long)]
    pub(in super::super) no_sampling: bool,
    /// Whether the run is shown on a live screen.
    #[arg(long, value_enum, default_value = "auto")]
    pub(in super::super) screen: ScreenMode,
    /// Whether what is shown has colours.
    #[arg(long, value_enum, default_value = "auto")]
    pub(in super::super) color: ColorMode,
    /// Show no progress.
    #[arg(short, long)]
    pub(in super::super) quiet: bool,
    /// Verdicts of the run that end it with exit code 98.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "VERDICT,…",
        help_heading = "Gates"
    )]
    pub(in super::super) fail_on: Vec<FailOn>,
}

fn threshold(text: &str) -> Result<Threshold, String> {
    text.parse()
        .map_err(|error: crate::threshold::ThresholdError| error.to_string())
}
