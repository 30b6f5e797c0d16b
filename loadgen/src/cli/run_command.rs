//! `loadgen run`: one measured run, from the folder to the summary.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reports::record::{
    DEFAULT_RUNS_ROOT, HistoryWriter, LATENCY_FILE, LoadVerdict, Machine, Manifest, NodeInfo, RecordError,
    Run, RunFolder, RunKind, SCHEMA_VERSION, binary_sha256, default_run_path, git_commit, rfc3339,
};
use serde_json::json;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::args::{FailOn, OutputArgs, RunArgs};
use super::{CommandError, DAMAGED, INTERRUPTED, INVALID, progress, summary};
use crate::client::Client;
use crate::clock::RunClock;
use crate::run::{self, LoadConfig, LoadError, LoadOutcome};
use crate::screen::Wishes;
use crate::scribe::{HistoryTarget, Outputs};
use crate::workload::Workload;

/// How long a node may take to say that it is there.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn run(args: &RunArgs) -> Result<u8, CommandError> {
    let now_ms = unix_time_ms();
    let seed = args.load.seed.unwrap_or_else(|| drawn_seed(now_ms));
    let config = config_of(args, &base36(now_ms), seed)?;
    // One thread for all operations: on small machines the others belong to the store.
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::environment)?;
    let result = runtime.block_on(measure(args, config, now_ms));
    // Connections may still be closing; the result does not depend on them.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Short, so that it can be read out and typed.
pub(super) fn drawn_seed(now_ms: u64) -> u64 {
    RandomState::new().hash_one(now_ms) & 0xffff_ffff
}

/// What the arguments ask for, in a run that calls itself `name`, which makes its keys and values its own.
pub(super) fn config_of(args: &RunArgs, name: &str, seed: u64) -> Result<LoadConfig, CommandError> {
    let config = LoadConfig {
        workload: args.work.workload(name),
        preload: args.work.preload(),
        arrivals: args.pace.arrivals().map_err(CommandError::usage)?,
        duration: args.load.duration,
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

async fn measure(args: &RunArgs, config: LoadConfig, now_ms: u64) -> Result<u8, CommandError> {
    let options = args.target.client_options(args.load.timeout);
    let client = Client::connect(&args.target.endpoints, options).map_err(CommandError::usage)?;
    let folder = create_folder(&args.output, now_ms)?;
    if let Err(error) = greet(&client, args.target.allow_unreachable).await {
        // Nothing was measured: an empty folder would only be in the way. (It is kept if it holds anything.)
        let _ = fs::remove_dir(folder.path());
        return Err(error);
    }
    let mut manifest = manifest(args, &args.output, &config, nodes(&client), &folder, now_ms);
    folder.write_manifest(&manifest).map_err(record_error)?;
    let stop = stop_signal()?;
    let history = match args.output.no_history {
        true => None,
        false => Some(SharedWriter::new(folder.history_writer().map_err(record_error)?)),
    };
    let outputs = outputs(&folder, history.as_ref())?;
    let wishes = Wishes {
        quiet: args.output.quiet,
        json: args.output.json,
        ..Wishes::default()
    };
    let mut display = progress::display(wishes, config.warmup + config.duration);
    let outcome = run::run(
        config,
        client.clone(),
        RunClock::start(),
        outputs,
        |progress| display.show(progress),
        async {
            // If the task that listens is gone, so are the signals: go on to the end.
            if stop.await.is_err() {
                std::future::pending::<()>().await;
            }
        },
    )
    .await;
    display.finish();
    let outcome = outcome.map_err(load_error)?;
    if let Some(history) = history {
        history.finish().map_err(record_error)?;
    }
    manifest.duration = outcome.ended;
    manifest.partial = outcome.stopped;
    manifest.nodes = nodes(&client);
    folder.write_load(&outcome.load).map_err(record_error)?;
    folder.write_manifest(&manifest).map_err(record_error)?;
    conclude(&args.output, &folder, &outcome)
}

pub(super) fn create_folder(output: &OutputArgs, now_ms: u64) -> Result<RunFolder, CommandError> {
    let path = match &output.out {
        Some(path) => path.clone(),
        None => default_run_path(Path::new(DEFAULT_RUNS_ROOT), &output.name, now_ms).map_err(record_error)?,
    };
    RunFolder::create(path).map_err(record_error)
}

/// Asks every node whether it is there, before the clock starts.
pub(super) async fn greet(client: &Client, allow_unreachable: bool) -> Result<(), CommandError> {
    let answers = client.presence_of_all(GREETING_TIMEOUT).await;
    let some_answer = answers.iter().any(Result::is_ok);
    for ((endpoint, _), answer) in client.endpoints().iter().zip(&answers) {
        let Err(status) = answer else { continue };
        let reason = crate::outcome::describe(status);
        if !(allow_unreachable && some_answer) {
            let otherwise = if some_answer {
                ", or pass --allow-unreachable to begin without it"
            } else {
                ""
            };
            return Err(CommandError::environment(format!(
                "endpoint {endpoint} does not answer ({reason}); start the node or correct --endpoints{otherwise}"
            )));
        }
        let _ = writeln!(
            io::stderr(),
            "warning: endpoint {endpoint} does not answer ({reason}); beginning without it"
        );
    }
    Ok(())
}

pub(super) fn manifest(
    args: &RunArgs,
    output: &OutputArgs,
    config: &LoadConfig,
    nodes: Vec<NodeInfo>,
    folder: &RunFolder,
    now_ms: u64,
) -> Manifest {
    let executable = std::env::current_exe();
    Manifest {
        schema: SCHEMA_VERSION,
        kind: RunKind::Load,
        name: output.name.clone(),
        about: String::new(),
        started_at: rfc3339(now_ms),
        duration: 0,
        seed: config.seed,
        command: command_to_repeat(std::env::args().skip(1), config.seed),
        tool_version: env!("CARGO_PKG_VERSION").into(),
        commit: git_commit(Path::new(".")),
        binary_sha256: executable.and_then(|path| binary_sha256(&path)).ok(),
        machine: Machine::probe(folder.path()),
        nodes,
        configuration: json!({
            "load": config,
            "endpoints": args.target.endpoints,
            "connections": args.target.connections,
            "route": format!("{:?}", args.target.route.0).to_lowercase(),
            "dial_hints": args.target.dial_hints,
            "history": !output.no_history,
        }),
        // Until the end is written, this is what an interrupted run looks like.
        partial: true,
    }
}

fn nodes(client: &Client) -> Vec<NodeInfo> {
    let endpoints = client.endpoints().into_iter();
    endpoints
        .map(|(endpoint, id)| NodeInfo {
            id: id.map_or_else(|| endpoint.clone(), |id| id.to_string()),
            endpoint,
        })
        .collect()
}

/// The arguments as given, with the seed that was drawn and without the folder, which is taken now.
fn command_to_repeat(arguments: impl Iterator<Item = String>, seed: u64) -> Vec<String> {
    let mut command = vec!["loadgen".to_owned()];
    let mut skip_value = false;
    let mut seeded = false;
    for argument in arguments {
        if std::mem::take(&mut skip_value) {
            continue;
        }
        let short = argument.starts_with("-o") && !argument.starts_with("--");
        if argument == "--out" || argument == "-o" {
            skip_value = true;
        } else if !argument.starts_with("--out=") && !short {
            seeded |= argument == "--seed" || argument.starts_with("--seed=");
            command.push(argument);
        }
    }
    if !seeded {
        command.extend(["--seed".to_owned(), seed.to_string()]);
    }
    command
}

/// A history file that the writing thread fills and this one closes.
#[derive(Clone)]
struct SharedWriter(Arc<Mutex<Option<HistoryWriter>>>);

impl SharedWriter {
    fn new(writer: HistoryWriter) -> SharedWriter {
        SharedWriter(Arc::new(Mutex::new(Some(writer))))
    }

    fn finish(self) -> Result<(), RecordError> {
        let writer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map_or(Ok(()), HistoryWriter::finish)
    }
}

fn outputs(folder: &RunFolder, history: Option<&SharedWriter>) -> Result<Outputs, CommandError> {
    let path = folder.file(LATENCY_FILE);
    let log = File::create_new(&path)
        .map_err(|error| CommandError::environment(format!("cannot create {}: {error}", path.display())))?;
    let history = match history.cloned() {
        None => HistoryTarget::Discard,
        Some(SharedWriter(writer)) => HistoryTarget::Stream(Box::new(move |event| {
            let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            match writer.as_mut() {
                Some(writer) => writer.append(event).map_err(io::Error::other),
                None => Err(io::Error::other("the history was closed already")),
            }
        })),
    };
    Ok(Outputs {
        history,
        latency_log: Some(Box::new(BufWriter::new(log))),
    })
}

/// Resolves at the first interrupt; a second one ends the process there and then.
pub(super) fn stop_signal() -> Result<oneshot::Receiver<()>, CommandError> {
    let mut interrupts = signal(SignalKind::interrupt()).map_err(CommandError::environment)?;
    let mut terminations = signal(SignalKind::terminate()).map_err(CommandError::environment)?;
    let (tell, stop) = oneshot::channel();
    tokio::spawn(async move {
        let mut tell = Some(tell);
        loop {
            tokio::select! {
                Some(()) = interrupts.recv() => {}
                Some(()) = terminations.recv() => {}
                else => return,
            }
            let Some(tell) = tell.take() else {
                let _ = writeln!(io::stderr(), "interrupted again: the record stays incomplete");
                std::process::exit(i32::from(INTERRUPTED));
            };
            let _ = writeln!(
                io::stderr(),
                "interrupted: waiting for what is in flight (again to quit at once)"
            );
            // Nobody listens any more if the run has just ended by itself.
            let _ = tell.send(());
        }
    });
    Ok(stop)
}

/// Page, summary, exit code.
pub(super) fn conclude(
    output: &OutputArgs,
    folder: &RunFolder,
    outcome: &LoadOutcome,
) -> Result<u8, CommandError> {
    let run = Run::read(folder).map_err(record_error)?;
    let page: Option<PathBuf> = match output.no_report {
        true => None,
        false => Some(reports::write_report(folder, &run).map_err(record_error)?),
    };
    if output.out.is_none() {
        // A convenience: a file system without links is no reason to fail a finished run.
        let _ = folder.mark_latest();
    }
    let text = if output.json {
        format!(
            "{:#}\n",
            summary::json(&run, outcome, folder.path(), page.as_deref())
        )
    } else {
        summary::text(&run, outcome, folder.path(), page.as_deref())
    };
    summary::print(&text)?;
    Ok(exit_code(
        outcome.stopped,
        outcome.load.integrity_errors,
        &outcome.load.verdict,
        &output.fail_on,
    ))
}

fn exit_code(stopped: bool, integrity_errors: u64, verdict: &LoadVerdict, fail_on: &[FailOn]) -> u8 {
    let named = match verdict {
        LoadVerdict::Valid => None,
        LoadVerdict::GeneratorBound(_) => Some(FailOn::GeneratorBound),
        LoadVerdict::Noisy(_) => Some(FailOn::Noisy),
        LoadVerdict::Unsteady(_) => Some(FailOn::Unsteady),
        LoadVerdict::TooThin(_) => Some(FailOn::TooThin),
    };
    if integrity_errors > 0 {
        // Damage found is damage found, however short the look was.
        DAMAGED
    } else if stopped {
        INTERRUPTED
    } else if named.is_some_and(|named| fail_on.contains(&named)) {
        INVALID
    } else {
        0
    }
}

pub(super) fn record_error(error: RecordError) -> CommandError {
    match error {
        RecordError::NotEmpty { .. } => CommandError::usage(error),
        _ => CommandError::environment(error),
    }
}

fn load_error(error: LoadError) -> CommandError {
    match error {
        LoadError::Workload(_)
        | LoadError::Zero { .. }
        | LoadError::SlowCatchUp(_)
        | LoadError::EmptyShare { .. }
        | LoadError::SharedInserts
        | LoadError::Unsupported { .. } => CommandError::usage(error),
        LoadError::Preload(_) => CommandError::environment(error),
        LoadError::Thread { .. } | LoadError::Output(_) | LoadError::OutputBehind => {
            CommandError::environment(error)
        }
    }
}

pub(super) fn unix_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(char::from_digit((number % 36) as u32, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return digits.iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repeating_command_has_a_seed_and_no_folder() {
        let repeat =
            |arguments: &[&str]| command_to_repeat(arguments.iter().map(|a| (*a).to_owned()), 7).join(" ");
        assert_eq!(
            repeat(&["run", "--out", "x", "--rate", "5"]),
            "loadgen run --rate 5 --seed 7"
        );
        assert_eq!(
            repeat(&["run", "-ox", "--out=y", "--seed", "3"]),
            "loadgen run --seed 3"
        );
        assert_eq!(repeat(&["run", "-o", "x", "--seed=3"]), "loadgen run --seed=3");
    }

    #[test]
    fn the_worst_news_decides_the_exit_code() {
        let bound = LoadVerdict::GeneratorBound("late".into());
        let gate = [FailOn::GeneratorBound];
        assert_eq!(exit_code(false, 0, &LoadVerdict::Valid, &gate), 0);
        assert_eq!(exit_code(false, 0, &LoadVerdict::TooThin("few".into()), &gate), 0);
        assert_eq!(exit_code(false, 0, &bound, &[]), 0);
        assert_eq!(exit_code(false, 0, &bound, &gate), 98);
        assert_eq!(exit_code(true, 0, &bound, &gate), 130);
        assert_eq!(exit_code(true, 1, &bound, &gate), 1);
    }

    #[test]
    fn base36_is_short_and_unique() {
        assert_eq!(
            (base36(0).as_str(), base36(35).as_str(), base36(36).as_str()),
            ("0", "z", "10")
        );
    }
}
