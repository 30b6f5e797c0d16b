//! What is left of a run, and what decides its exit code.

use std::path::PathBuf;

use clap::Args;

use super::FailOn;

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
    /// Print the summary as one JSON document.
    #[arg(long)]
    pub(in super::super) json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub(in super::super) quiet: bool,
    /// Verdicts of the run that end it with exit code 98.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "VERDICT,…")]
    pub(in super::super) fail_on: Vec<FailOn>,
}
