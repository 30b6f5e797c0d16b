//! `chaos check`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use reports::record::{CheckStatus, Nanos, RunFolder};

use super::USAGE;
use crate::checker::{self, Options};

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// A `history.jsonl`, or a run folder with one in it.
    history: PathBuf,

    /// Reads that begin from this moment of the run on (such as 31.5s) are the last look at their keys; with it, lost
    /// writes are looked for [default: as recorded in a run folder].
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    final_reads_from: Option<std::time::Duration>,

    /// Print one JSON document on standard output.
    #[arg(long)]
    json: bool,
}

pub(super) fn main(arguments: &CheckArgs) -> ExitCode {
    let path = match arguments.history.is_dir() {
        true => arguments.history.join("history.jsonl"),
        false => arguments.history.clone(),
    };
    let given = arguments.final_reads_from.map(|from| from.as_nanos() as Nanos);
    let final_reads_from = given.or_else(|| recorded(&arguments.history));
    let options = Options {
        final_reads_from,
        ..Options::default()
    };
    let checks = match checker::check_file(&path, &options) {
        Ok(checks) => checks,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let verdict = checker::verdict(checks);
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string(&verdict).expect("a verdict is plain data")
        );
    } else {
        for check in &verdict.checks {
            let status = match check.status {
                CheckStatus::Pass => "pass",
                CheckStatus::Violation => "VIOLATION",
                CheckStatus::Liveness => "LIVENESS",
                CheckStatus::Inconclusive => "inconclusive",
            };
            println!("{status:12} {:14} {}", check.name, check.detail);
            if let Some(witness) = &check.witness {
                println!("{:12} {:14} key {}: {}", "", "", witness.key, witness.sentence);
            }
        }
    }
    ExitCode::from(verdict.outcome.exit_code())
}

/// When the last look at every key began, if this is the folder of a run that had one.
fn recorded(folder: &Path) -> Option<Nanos> {
    let timeline = RunFolder::open(folder).ok()?.read_timeline().ok()??;
    timeline.final_reads_from
}
