//! `loadgen run`: one measured run, from the folder to the summary.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use reports::record::{LoadVerdict, Machine, Manifest, Resources, Run, RunFolder, ThresholdResult};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::args::{FailOn, OutputArgs, RunArgs};
use super::identity::{base36, drawn_seed, unix_time_ms};
use super::interrupt::stop_signal;
use super::recording::{SharedWriter, create_folder, manifest, nodes, outputs, record_error, stream};
use super::session::Session;
use super::watching::Watching;
use super::{ABORTED, CommandError, DAMAGED, INTERRUPTED, INVALID, THRESHOLD, progress, summary};
use crate::clock::{RunClock, nanos};
use crate::export::hlog::IntervalLog;
use crate::export::ndjson;
use crate::recorder::headline;
use crate::run::{self, LoadConfig, LoadError, LoadOutcome};
use crate::sampling::{Evidence, Sampler, Waited, bottleneck};
use crate::screen::Wishes;
use crate::threshold::{self, Foresight, gate};
use crate::verdict::with_others;
use crate::workload::Workload;

pub(super) fn run(args: &RunArgs) -> Result<u8, CommandError> {
    let now_ms = unix_time_ms();
    let config = config(args, now_ms)?;
    // One thread for all operations: on small machines the others belong to the store.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::environment)?;
    let result = runtime.block_on(async {
        let stop = stop_signal()?;
        let measured = measure(args, config, now_ms, stop).await?;
        conclude(&args.output, &measured)
    });
    // Connections may still be closing; the result does not depend on them.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// What the arguments ask for, in a run that begins now.
pub(super) fn config(args: &RunArgs, now_ms: u64) -> Result<LoadConfig, CommandError> {
    let seed = args.load.seed.unwrap_or_else(|| drawn_seed(now_ms));
    let config = config_of(args, &base36(now_ms), seed)?;
    refuse_thresholds(&args.output, &config)?;
    Ok(config)
}

/// Refuses thresholds that a run like this could never be held against, or never be ended by.
pub(super) fn refuse_thresholds(output: &OutputArgs, config: &LoadConfig) -> Result<(), CommandError> {
    let phases = config
        .arrivals
        .phases(config.warmup + config.duration)
        .into_iter();
    let measured = phases.filter(|(_, _, end)| *end > nanos(config.warmup));
    let foresight = Foresight {
        open_loop: config.arrivals.is_open(),
        phases: measured.map(|(name, _, _)| name).collect(),
        interval: config.interval,
    };
    let objection = output
        .threshold
        .iter()
        .find_map(|threshold| foresight.objection(threshold));
    objection.map_or(Ok(()), |objection| Err(CommandError::usage(objection)))
}

/// The same for a run that calls itself `name`, which makes its keys and values its own.
pub(super) fn config_of(args: &RunArgs, name: &str, seed: u64) -> Result<LoadConfig, CommandError> {
    let arrivals = args.pace.arrivals().map_err(CommandError::usage)?;
    let duration = args.load.duration(arrivals.length());
    let config = LoadConfig {
        workload: args.work.workload(name),
        preload: args.work.preload(),
        arrivals,
        duration,
        warmup: args.load.warmup,
        drain: args.load.drain,
        timeout: args.load.timeout,
        max_in_flight: args.load.in_flight().map_err(CommandError::usage)?,
        interval: args.load.interval,
        overflow: args.load.overflow(),
        catch_up: args.load.catch_up,
        seed,
        client_cores: Some(1),
        ..LoadConfig::default()
    };
    run::check(&config).map_err(CommandError::usage)?;
    Workload::new(config.workload.clone(), config.seed).map_err(CommandError::usage)?;
    Ok(config)
}

/// A run that was made and recorded.
pub(super) struct Measured {
    pub(super) folder: RunFolder,
    pub(super) outcome: LoadOutcome,
    pub(super) resources: Option<Resources>,
}

/// Makes one run: starts what has to be started, measures, records, and stops it again.
pub(super) async fn measure(
    args: &RunArgs,
    config: LoadConfig,
    now_ms: u64,
    stop: oneshot::Receiver<()>,
) -> Result<Measured, CommandError> {
    let folder = create_folder(&args.output, now_ms)?;
    let session = match Session::open(&args.target, args.load.timeout).await {
        Ok(session) => session,
        Err(error) => {
            // Nothing was measured: an empty folder would only be in the way. (It is kept if it holds anything.)
            let _ = fs::remove_dir(folder.path());
            return Err(error);
        }
    };
    let measured = record(args, config, now_ms, folder, &session, stop).await;
    let closed = session.close().await;
    let measured = measured?;
    closed?;
    Ok(measured)
}

async fn record(
    args: &RunArgs,
    config: LoadConfig,
    now_ms: u64,
    folder: RunFolder,
    session: &Session,
    stop: oneshot::Receiver<()>,
) -> Result<Measured, CommandError> {
    let nodes_then = nodes(&session.client);
    let target = session.description();
    let mut manifest = manifest(args, &args.output, &config, nodes_then, target, &folder, now_ms);
    folder.write_manifest(&manifest).map_err(record_error)?;
    let history = match args.output.no_history {
        true => None,
        false => Some(SharedWriter::new(folder.history_writer().map_err(record_error)?)),
    };
    let measure = headline(config.arrivals.is_open());
    let watching = Watching::start(args, &config).await?;
    let outputs = outputs(&folder, history.as_ref(), watching.sink())?;
    let wishes = Wishes {
        screen: args.output.screen,
        color: args.output.color,
        quiet: args.output.quiet,
        json: args.output.json || args.output.stream,
    };
    let clock = RunClock::start();
    let sampler = sampler(args, session, clock);
    let mut display = progress::display(wishes, config.warmup + config.duration);
    if args.output.stream {
        stream(&ndjson::start(&manifest));
    }
    let warmup = config.warmup;
    let (mut number, mut begun) = (0, false);
    let outcome = run::run(
        config,
        session.client.clone(),
        clock,
        outputs,
        |progress| {
            if !std::mem::replace(&mut begun, true)
                && let Some(sampler) = &sampler
            {
                // What writing the records has cost is no part of the load.
                sampler.restart();
            }
            display.show(progress);
            watching.note(progress);
            for interval in progress.closed.iter().filter(|_| args.output.stream) {
                stream(&ndjson::line(interval, number, measure));
                number += 1;
            }
        },
        watching.stopped(stop),
    )
    .await;
    display.finish();
    let mut outcome = outcome.map_err(load_error)?;
    if let Some(history) = history {
        history.finish().map_err(record_error)?;
    }
    outcome.aborted = outcome.aborted.or_else(|| watching.reason());
    manifest.duration = outcome.ended;
    manifest.partial = outcome.stopped;
    manifest.nodes = nodes(&session.client);
    folder.write_manifest(&manifest).map_err(record_error)?;
    outcome.load.thresholds = thresholds(&args.output, &folder, &outcome, warmup)?;
    let resources = sampler.map(|sampler| judge_resources(sampler, &outcome, &manifest, warmup));
    if let Some(resources) = &resources {
        outcome.load.verdict = with_others(std::mem::take(&mut outcome.load.verdict), resources);
    }
    folder.write_load(&outcome.load).map_err(record_error)?;
    if let Some(resources) = &resources {
        folder.write_resources(resources).map_err(record_error)?;
    }
    if args.output.stream {
        stream(&ndjson::end(&outcome.load));
    }
    Ok(Measured {
        folder,
        outcome,
        resources,
    })
}

/// Watches client and servers, unless that is not wanted or not possible: then the record lacks it.
fn sampler(args: &RunArgs, session: &Session, clock: RunClock) -> Option<Sampler> {
    if args.output.no_sampling {
        return None;
    }
    Sampler::start(session.watched(), clock, args.output.sampling).ok()
}

fn judge_resources(
    sampler: Sampler,
    outcome: &LoadOutcome,
    manifest: &Manifest,
    warmup: Duration,
) -> Resources {
    let load = &outcome.load;
    let mut resources = sampler.finish(load.counts.ok + outcome.warmup.ok);
    let machine: &Machine = &manifest.machine;
    resources.set_probe(machine);
    // Without the wait for the last answers, which would make the store look slower.
    let load_end = load.phases.iter().map(|phase| phase.end).max();
    let load_end = load_end.unwrap_or(outcome.ended);
    let measured = Duration::from_nanos(load_end.saturating_sub(outcome.begins)).saturating_sub(warmup);
    let open_loop = load.lag.is_some();
    let evidence = Evidence {
        client_cores: Some(1),
        lateness_limit: crate::verdict::LATENESS_LIMIT,
        waited: open_loop.then_some(Waited {
            planned: load.planned,
            waited: outcome.queued,
        }),
        ok_per_second: load.ok_in_time.unwrap_or(load.counts.ok) as f64 / measured.as_secs_f64().max(1e-9),
        ..Evidence::of_load(load, measured)
    };
    resources.bottleneck = Some(bottleneck(&resources, &evidence));
    resources
}

/// Holds the run against its thresholds.
pub(super) fn thresholds(
    output: &OutputArgs,
    folder: &RunFolder,
    outcome: &LoadOutcome,
    warmup: Duration,
) -> Result<Vec<ThresholdResult>, CommandError> {
    let thresholds = &output.threshold;
    if thresholds.is_empty() {
        return Ok(Vec::new());
    }
    let log =
        IntervalLog::open(&folder.file(reports::record::LATENCY_FILE)).map_err(CommandError::environment)?;
    let from = outcome.begins + nanos(warmup);
    let evidence = threshold::evidence_for(thresholds, &outcome.load, &log, from);
    Ok(thresholds
        .iter()
        .map(|threshold| gate(threshold, &evidence))
        .collect())
}

/// Page, summary, exit code.
pub(super) fn conclude(output: &OutputArgs, measured: &Measured) -> Result<u8, CommandError> {
    let Measured {
        folder,
        outcome,
        resources,
    } = measured;
    let run = Run::read(folder).map_err(record_error)?;
    let page: Option<PathBuf> = match output.no_report {
        true => None,
        false => Some(reports::write_report(folder, &run).map_err(record_error)?),
    };
    if output.out.is_none() {
        // A convenience: a file system without links is no reason to fail a finished run.
        let _ = folder.mark_latest();
    }
    let found = summary::Found {
        run: &run,
        outcome,
        resources: resources.as_ref(),
        folder: folder.path(),
        page: page.as_deref(),
    };
    if output.json {
        summary::print(&format!("{:#}\n", summary::json(&found)))?;
    } else if !output.stream {
        summary::print(&summary::text(&found))?;
    }
    let failed = |result: &ThresholdResult| result.verdict.counts_as_failure(output.strict);
    let news = News {
        integrity_errors: outcome.load.integrity_errors,
        aborted: outcome.aborted.is_some(),
        stopped: outcome.stopped,
        verdict: &outcome.load.verdict,
        threshold_failed: outcome.load.thresholds.iter().any(failed),
    };
    Ok(exit_code(&news, &output.fail_on))
}

/// What decides the exit code.
struct News<'a> {
    integrity_errors: u64,
    aborted: bool,
    stopped: bool,
    verdict: &'a LoadVerdict,
    threshold_failed: bool,
}

fn exit_code(news: &News<'_>, fail_on: &[FailOn]) -> u8 {
    let named = match news.verdict {
        // An overloaded store is a finding, not a run that is not to be believed.
        LoadVerdict::Valid | LoadVerdict::Overloaded(_) => None,
        LoadVerdict::GeneratorBound(_) => Some(FailOn::GeneratorBound),
        LoadVerdict::Noisy(_) => Some(FailOn::Noisy),
        LoadVerdict::Unsteady(_) => Some(FailOn::Unsteady),
        LoadVerdict::TooThin(_) => Some(FailOn::TooThin),
    };
    if news.integrity_errors > 0 {
        // Damage found is damage found, however short the look was.
        DAMAGED
    } else if news.aborted {
        ABORTED
    } else if news.stopped {
        INTERRUPTED
    } else if named.is_some_and(|named| fail_on.contains(&named)) {
        // Thresholds of a run that is not to be believed mean nothing.
        INVALID
    } else if news.threshold_failed {
        THRESHOLD
    } else {
        0
    }
}

pub(super) fn load_error(error: LoadError) -> CommandError {
    match error {
        LoadError::StoppedEarly => CommandError {
            code: INTERRUPTED,
            text: error.to_string(),
        },
        LoadError::Workload(_)
        | LoadError::Zero { .. }
        | LoadError::TooLong { .. }
        | LoadError::ShortInterval(_)
        | LoadError::SlowCatchUp(_)
        | LoadError::EmptyShare { .. }
        | LoadError::SharedInserts
        | LoadError::Unsupported { .. } => CommandError::usage(error),
        LoadError::Preload(_) | LoadError::Thread { .. } | LoadError::Output(_) | LoadError::OutputBehind => {
            CommandError::environment(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_news_decides_the_exit_code() {
        let bound = LoadVerdict::GeneratorBound("late".into());
        let thin = LoadVerdict::TooThin("few".into());
        let gate = [FailOn::GeneratorBound];
        let code = |integrity_errors, aborted, stopped, verdict, threshold_failed, fail_on: &[FailOn]| {
            let news = News {
                integrity_errors,
                aborted,
                stopped,
                verdict,
                threshold_failed,
            };
            exit_code(&news, fail_on)
        };
        assert_eq!(code(0, false, false, &LoadVerdict::Valid, false, &gate), 0);
        let overloaded = LoadVerdict::Overloaded("slow".into());
        assert_eq!(code(0, false, false, &overloaded, false, &gate), 0);
        assert_eq!(code(0, false, false, &thin, false, &gate), 0);
        assert_eq!(code(0, false, false, &thin, false, &[FailOn::TooThin]), 98);
        assert_eq!(code(0, false, false, &bound, false, &[]), 0);
        assert_eq!(code(0, false, false, &bound, true, &gate), 98);
        assert_eq!(code(0, false, false, &LoadVerdict::Valid, true, &gate), 99);
        assert_eq!(code(0, false, true, &bound, true, &gate), 130);
        assert_eq!(code(0, true, true, &bound, true, &gate), 97);
        assert_eq!(code(1, true, true, &bound, true, &gate), 1);
    }
}
