//! The folder of a run while it is made: what is written into it, and by whom.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use reports::record::{
    DEFAULT_RUNS_ROOT, HistoryWriter, LATENCY_FILE, Machine, Manifest, NodeInfo, RecordError, RunFolder,
    RunKind, SCHEMA_VERSION, binary_sha256, default_run_path, git_commit, rfc3339,
};
use serde_json::{Value, json};

use super::CommandError;
use super::args::{OutputArgs, RunArgs};
use crate::client::Client;
use crate::run::LoadConfig;
use crate::scribe::{HistoryTarget, IntervalSink, Outputs};

/// Creates the folder of a run.
pub(super) fn create_folder(args: &OutputArgs, now_ms: u64) -> Result<RunFolder, CommandError> {
    let path = match &args.out {
        Some(path) => path.clone(),
        None => default_run_path(Path::new(DEFAULT_RUNS_ROOT), &args.name, now_ms).map_err(record_error)?,
    };
    RunFolder::create(path).map_err(record_error)
}

/// What is known before the run. Until its end is written, it looks like one that was interrupted.
pub(super) fn manifest(
    args: &RunArgs,
    output: &OutputArgs,
    config: &LoadConfig,
    nodes: Vec<NodeInfo>,
    target: String,
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
        configuration: configuration(args, output, config, &target),
        partial: true,
    }
}

/// What was asked for, as the record has it.
pub(super) fn configuration(args: &RunArgs, output: &OutputArgs, config: &LoadConfig, target: &str) -> Value {
    json!({
        "load": config,
        "target": target,
        "connections": args.target.connections,
        "route": args.target.route.to_string(),
        "retries": args.target.retries,
        "redirects": !args.target.no_redirects,
        "dial_hints": args.target.dial_hints,
        "history": !output.no_history,
    })
}

pub(super) fn nodes(client: &Client) -> Vec<NodeInfo> {
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
pub(super) struct SharedWriter(Arc<Mutex<Option<HistoryWriter>>>);

impl SharedWriter {
    pub(super) fn new(writer: HistoryWriter) -> SharedWriter {
        SharedWriter(Arc::new(Mutex::new(Some(writer))))
    }

    pub(super) fn finish(self) -> Result<(), RecordError> {
        let writer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        writer.map_or(Ok(()), HistoryWriter::finish)
    }
}

/// Where the run writes: into its folder, and to whoever looks at its slices.
pub(super) fn outputs(
    folder: &RunFolder,
    history: Option<&SharedWriter>,
    intervals: Option<IntervalSink>,
) -> Result<Outputs, CommandError> {
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
        intervals,
    })
}

pub(super) fn record_error(error: RecordError) -> CommandError {
    match error {
        RecordError::NotEmpty { .. } => CommandError::usage(error),
        _ => CommandError::environment(error),
    }
}

/// A line of the stream, to standard output. Whoever reads it may have seen enough.
pub(super) fn stream(line: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
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
}
