//! `loadgen show`: the summary of a recorded run.

use std::path::PathBuf;

use clap::Args;
use reports::record::Run;
use serde_json::json;

use super::{CommandError, recorded, summary};

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The run's folder, its name in target/runs, or `latest`.
    #[arg(default_value = "latest")]
    run: PathBuf,
    /// Print the summary as one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn show(args: &ShowArgs) -> Result<u8, CommandError> {
    let folder = recorded::open(&args.run)?;
    let run = Run::read(&folder).map_err(recorded::record_error)?;
    let text = if args.json {
        let mut document = reports::summary_json(&run);
        document["folder"] = json!(folder.path());
        format!("{document:#}\n")
    } else {
        format!(
            "{}  record: {}\n",
            reports::summary(&run),
            summary::printable(&folder.path().display().to_string())
        )
    };
    summary::print(&text)?;
    Ok(0)
}
