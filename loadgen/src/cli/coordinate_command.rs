//! `loadgen coordinate`: one run that several agents make together, recorded like any other.
//!
//! Promises that a record which is not marked as partial holds exactly the one plan.

use std::fs;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use clap::Args;
use reports::record::{LATENCY_FILE, NodeInfo, RunFolder};
use serde_json::{Value, json};

use super::CommandError;
use super::agent_command::shared_arguments;
use super::args::{OutputArgs, RunArgs};
use super::identity::{base36, drawn_seed, unix_time_ms};
use super::interrupt::stop_signal;
use super::probing::block_on;
use super::recording::{create_folder, manifest, record_error};
use super::run_command::{Measured, conclude, config_of, refuse_thresholds, thresholds};
use crate::agents::{AgentResult, ClockOffset, CoordinateError, Coordinated, Merged, SharedPlan, coordinate};
use crate::clock::{RunClock, human, nanos};
use crate::run::{LoadConfig, LoadOutcome, told};
use crate::workload::Workload;

/// Slices below this cannot be told apart in the agents' interval logs, which have milliseconds.
const INTERVAL_MIN_MS: u64 = 10;

const AFTER_HELP: &str = "\
Example:
  loadgen coordinate --agents 10.0.0.1:7070,10.0.0.2:7070 -- run --endpoints 10.0.0.9:50051 --rate 100k

Each agent runs every n-th operation of the one plan. The agents' endpoints are seen from the agents.
Exit codes are those of `loadgen run`; 5 if an agent was lost, which leaves a partial record.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct CoordinateArgs {
    /// The agents, as host:port, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT,…")]
    agents: Vec<String>,
    /// Record single operations although several agents have several clocks: the linearizability checker needs one clock, and
    /// may call a history wrong whose times are off by more than the gaps between its operations.
    #[arg(long, conflicts_with = "no_history")]
    history: bool,
    #[command(flatten)]
    output: OutputArgs,
    /// The word `run` and the arguments of a run, without those about output.
    #[arg(last = true, required = true, value_name = "run ARGUMENTS")]
    run: Vec<String>,
}

pub(super) fn run(args: &CoordinateArgs) -> Result<u8, CommandError> {
    let arguments = match args.run.split_first() {
        Some((word, rest)) if word == "run" => rest,
        _ => {
            return Err(CommandError::usage(
                "after `--` comes what the agents do: run --endpoints … --rate …",
            ));
        }
    };
    let run = shared_arguments(arguments).map_err(CommandError::usage)?;
    if run.load.interval.as_millis() < u128::from(INTERVAL_MIN_MS) {
        return Err(CommandError::usage(format!(
            "--interval must be at least {INTERVAL_MIN_MS}ms with agents, whose logs have milliseconds"
        )));
    }
    refuse(&args.output)?;
    let now_ms = unix_time_ms();
    let plan = SharedPlan {
        agents: args.agents.clone(),
        arguments: arguments.to_vec(),
        seed: run.load.seed.unwrap_or_else(|| drawn_seed(now_ms)),
        name: base36(now_ms),
        history: match args.agents.len() {
            1 => !args.output.no_history,
            _ => args.history,
        },
    };
    let config = config_of(&run, &plan.name, plan.seed)?;
    refuse_thresholds(&args.output, &config)?;
    block_on(measure(args, &run, &plan, config, now_ms))
}

/// What needs the numbers of a run while it goes on.
fn refuse(output: &OutputArgs) -> Result<(), CommandError> {
    let aborts = output.threshold.iter().any(|t| t.abort.is_some());
    let refused = [
        (output.stream, "--stream"),
        (output.prometheus.is_some(), "--prometheus"),
        (aborts, "`abort` in --threshold"),
    ];
    match refused.into_iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(CommandError::usage(format!(
            "{name} needs the numbers while the run goes on, and agents send theirs at its end: leave it out"
        ))),
        None => Ok(()),
    }
}

async fn measure(
    args: &CoordinateArgs,
    run: &RunArgs,
    plan: &SharedPlan,
    config: LoadConfig,
    now_ms: u64,
) -> Result<u8, CommandError> {
    let folder = create_folder(&args.output, now_ms)?;
    let clock = RunClock::start();
    let started = SystemTime::now();
    let stop = told(stop_signal()?);
    let coordinated = match coordinate(plan, clock, stop).await {
        Ok(coordinated) => coordinated,
        Err(error) => {
            // Nothing was measured: an empty folder would only be in the way. (It is kept if it holds anything.)
            let _ = fs::remove_dir(folder.path());
            return Err(coordinate_error(error));
        }
    };
    let lines = agent_lines(&coordinated);
    let clocks = clocks(plan, &coordinated);
    let (begins, lost) = (coordinated.begins, coordinated.lost);
    let parts: Vec<(String, AgentResult)> = coordinated
        .agents
        .into_iter()
        .filter_map(|(agent, _, result)| Some((agent, result?)))
        .collect();
    let merged = Merged::of(parts, nanos(config.interval), config.lateness_limit);
    let Some(mut merged) = merged else {
        let _ = fs::remove_dir(folder.path());
        let reason = lost.map_or_else(|| "no agent sent a result".to_owned(), |lost| lost.to_string());
        return Err(CommandError::environment(format!(
            "{reason}; nothing came that could be recorded"
        )));
    };
    merged.log.start = started;
    let partial = merged.stopped || lost.is_some();
    let nodes = nodes(&merged);
    let target = run.target.endpoints().map_err(CommandError::usage)?.to_string();
    let mut manifest = manifest(run, &args.output, &config, nodes, target, &folder, now_ms);
    manifest.configuration["agents"] = clocks;
    manifest.configuration["history"] = json!(plan.history);
    manifest.duration = merged.ended;
    manifest.partial = partial;
    write(&folder, plan, &merged)?;
    folder.write_manifest(&manifest).map_err(record_error)?;
    if !args.output.quiet {
        // Somebody who closed standard error does not want to know.
        let _ = io::stderr().write_all(lines.as_bytes());
    }
    let mut outcome = outcome(merged, begins, &config)?;
    outcome.load.thresholds = thresholds(&args.output, &folder, &outcome, config.warmup)?;
    folder.write_load(&outcome.load).map_err(record_error)?;
    let measured = Measured {
        folder,
        outcome,
        resources: None,
    };
    let code = conclude(&args.output, &measured)?;
    match lost {
        None => Ok(code),
        Some(lost) => Err(CommandError::environment(format!(
            "{lost}; the others were stopped, and {} holds what they had done, which is not the plan",
            measured.folder.path().display()
        ))),
    }
}

fn write(folder: &RunFolder, plan: &SharedPlan, merged: &Merged) -> Result<(), CommandError> {
    folder.write_load(&merged.load).map_err(record_error)?;
    let mut log = Vec::new();
    merged.log.write(&mut log).map_err(CommandError::environment)?;
    folder.write_file(LATENCY_FILE, &log).map_err(record_error)?;
    if plan.history {
        let mut writer = folder.history_writer().map_err(record_error)?;
        for event in &merged.history {
            writer.append(event).map_err(record_error)?;
        }
        writer.finish().map_err(record_error)?;
    }
    Ok(())
}

/// What the summary of a run is made from.
fn outcome(merged: Merged, begins: u64, config: &LoadConfig) -> Result<LoadOutcome, CommandError> {
    let workload = Workload::new(config.workload.clone(), config.seed).map_err(CommandError::usage)?;
    Ok(LoadOutcome {
        lateness: merged.load.lag.as_ref().map(|lag| lag.pacer.clone()),
        load: merged.load,
        workload: Arc::new(workload),
        next_process: merged
            .history
            .iter()
            .map(|event| event.process + 1)
            .max()
            .unwrap_or(0),
        history: merged.history,
        warmup: merged.warmup,
        latency: merged.latency,
        queued: merged.queued,
        begins,
        ended: merged.ended,
        stopped: merged.stopped,
        aborted: merged.aborted,
        ledger: merged.ledger,
    })
}

fn nodes(merged: &Merged) -> Vec<NodeInfo> {
    let node = |endpoint: &reports::record::EndpointLoad| NodeInfo {
        id: endpoint.node.clone().unwrap_or_else(|| endpoint.endpoint.clone()),
        endpoint: endpoint.endpoint.clone(),
    };
    merged.load.endpoints.iter().map(node).collect()
}

/// What the manifest says of the agents and their clocks.
fn clocks(plan: &SharedPlan, coordinated: &Coordinated) -> Value {
    let each = coordinated.agents.iter().map(|(agent, clock, result)| {
        json!({
            "address": agent,
            "clock_offset": clock.offset,
            "clock_error": clock.error,
            "lost": result.is_none(),
            "cpu": result.as_ref().and_then(|result| result.load.client_cpu),
        })
    });
    let errors = coordinated.agents.iter().map(|(_, clock, _)| clock.error);
    // Two agents may be off in opposite directions.
    let apart = 2 * errors.max().unwrap_or(0);
    let mut agents = json!({
        "each": each.collect::<Vec<_>>(),
        "begins": coordinated.begins,
        "clocks_apart_at_most": apart,
    });
    if plan.history && coordinated.agents.len() > 1 {
        agents["history"] = json!(format!(
            "The times of this history come from several clocks that are up to {} apart. The linearizability checker needs one \
             clock: what it finds holds only where operations lie further apart than that.",
            human(apart)
        ));
    }
    agents
}

/// A line for each agent.
fn agent_lines(coordinated: &Coordinated) -> String {
    let line = |(agent, clock, result): &(String, ClockOffset, Option<AgentResult>)| {
        let sign = if clock.offset < 0 { "-" } else { "+" };
        let clock = format!(
            "clock {sign}{} ± {}",
            human(clock.offset.unsigned_abs()),
            human(clock.error)
        );
        let Some(result) = result else {
            return format!("agent {agent}: {clock}; lost\n");
        };
        let wall = result.ended.saturating_sub(coordinated.begins).max(1);
        let cpu = result.load.client_cpu.map_or_else(String::new, |cpu| {
            format!(", {:.0} % of a core", cpu as f64 / wall as f64 * 100.0)
        });
        let late = result.load.lag.as_ref().and_then(|lag| lag.pacer.p99);
        let late = late.map_or_else(String::new, |p99| {
            format!(", arrivals noticed late by p99 {}", human(p99))
        });
        format!(
            "agent {agent}: {clock}; {} operations{cpu}{late}\n",
            result.load.planned
        )
    };
    coordinated.agents.iter().map(line).collect()
}

fn coordinate_error(error: CoordinateError) -> CommandError {
    match error {
        CoordinateError::Agents(_)
        | CoordinateError::Refused {
            wrong_order: true, ..
        } => CommandError::usage(error),
        CoordinateError::Interrupted => CommandError {
            code: super::INTERRUPTED,
            ..CommandError::usage(error)
        },
        CoordinateError::Unreachable { .. } | CoordinateError::Refused { .. } => {
            CommandError::environment(error)
        }
    }
}
