//! `loadgen load`: fills a store before runs that expect it to be full.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::args::{LOADED_PREFIX, TargetArgs, WorkArgs};
use super::identity::drawn_seed;
use super::interrupt::until_interrupted;
use super::probing::block_on;
use super::session::Session;
use super::{CommandError, DAMAGED, identity::unix_time_ms, summary, units};
use crate::clock::RunClock;
use crate::history::HistoryLog;
use crate::preload::{Verified, preload, verify};
use crate::workload::Workload;

const AFTER_HELP: &str = "\
A later run finds the records with --no-preload and the same --key-prefix (if any), --key-space, --key-size and --preset.

Exit codes:
  0    all records are there, as read back
  1    a record is missing or has another value
  2    wrong usage
  5    a record could not be written
  130  interrupted";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct RecordsArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// Time limit of one attempt at a record.
    #[arg(long, value_parser = units::duration, default_value = "2s", value_name = "DURATION")]
    timeout: Duration,
    /// Everything random follows from it [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the result as one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &RecordsArgs) -> Result<u8, CommandError> {
    let now_ms = unix_time_ms();
    let seed = args.seed.unwrap_or_else(|| drawn_seed(now_ms));
    let mut config = args.work.workload(LOADED_PREFIX);
    if args.work.key_prefix.is_none() {
        config.key_prefix = LOADED_PREFIX.into();
    }
    let workload = Arc::new(Workload::new(config, seed).map_err(CommandError::usage)?);
    let (took, verified) = block_on(async {
        let session = Session::open(&args.target, args.timeout).await?;
        let loaded = until_interrupted(fill(&session, &workload)).await;
        session.close().await?;
        loaded?
    })?;
    let whole = verified.missing.is_empty() && verified.wrong.is_empty();
    let text = match args.json {
        true => format!(
            "{:#}\n",
            json!({
                "records": workload.key_count(),
                "intact": verified.intact,
                "missing": verified.missing,
                "wrong": verified.wrong,
                "seconds": took.as_secs_f64(),
                "seed": seed,
            })
        ),
        false => said(&workload, &verified, took),
    };
    summary::print(&text)?;
    Ok(if whole { 0 } else { DAMAGED })
}

async fn fill(session: &Session, workload: &Arc<Workload>) -> Result<(Duration, Verified), CommandError> {
    let log = Arc::new(HistoryLog::new(RunClock::start(), false));
    let began = Instant::now();
    preload(&session.client, workload, &log, 0, |_| {})
        .await
        .map_err(CommandError::environment)?;
    let took = began.elapsed();
    Ok((took, verify(&session.client, workload).await))
}

fn said(workload: &Workload, verified: &Verified, took: Duration) -> String {
    let records = workload.key_count();
    let mut text = format!(
        "{records} records written in {:.1} s, {} read back intact; keys begin with `{}`\n",
        took.as_secs_f64(),
        verified.intact,
        workload.config().key_prefix
    );
    for (what, keys) in [
        ("missing", &verified.missing),
        ("with another value", &verified.wrong),
    ] {
        if !keys.is_empty() {
            text += &format!("{what}: {} …\n", keys.join(", "));
        }
    }
    text
}
