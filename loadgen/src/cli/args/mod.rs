//! What can be said on the command line.

mod load;
mod output;
mod pace;
mod target;
mod work;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::agent_command::AgentArgs;
use super::compare_command::CompareArgs;
use super::coordinate_command::CoordinateArgs;
use super::export_command::ExportArgs;
use super::list_command::ListArgs;
use super::load_command::RecordsArgs;
use super::node_command::{EchoArgs, ExecArgs};
use super::schema_command::SchemaArgs;
use super::search_command::SearchArgs;
use super::show_command::ShowArgs;
use super::sweep_command::SweepArgs;

pub(super) use load::LoadArgs;
pub(super) use output::OutputArgs;
pub(super) use pace::{IN_FLIGHT_MAX, PaceArgs};
pub(super) use target::TargetArgs;
pub(super) use work::{LOADED_PREFIX, WorkArgs};

/// Put load on a replicated key-value store and measure what its users would feel.
///
/// Response times count from the moment at which an operation was planned to start, not from when it could be sent: a store
/// that stands still cannot hide the users who arrived meanwhile. What failed counts as infinitely slow. If the generator
/// was the limit, the first line says so.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0    the run was made and recorded
  1    the store returned values that nobody can have written, or `compare` found a regression
  2    wrong usage
  5    the surroundings failed: a node that does not answer, a disk that cannot be written
  97   the run ended itself: --overflow abort, or a threshold with `abort`
  98   the run's verdict is one that --fail-on names
  99   a threshold failed
  130  interrupted; what was measured by then is recorded";

fn run_help() -> String {
    format!(
        "\
Examples:
  loadgen run --target raft:// --rate 500 --duration 10s      a fresh cluster on this machine, at 500 a second
  loadgen run --endpoints a:50051,b:50051 --rate 5k           a cluster that runs already
  loadgen run --target etcd://a:2379 --closed --clients 64    how much it takes when clients wait for answers
  loadgen run --target raft:// --preset ycsb-a --stages '10s@100..1k' --threshold 'response:p99<20ms'

{EXIT_CODES}"
    )
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make one measured run.
    Run(Box<RunArgs>),
    /// Write the records that a workload asks for, and read them back.
    Load(Box<RecordsArgs>),
    /// Print the summary of a recorded run.
    Show(ShowArgs),
    /// List recorded runs, newest first.
    List(ListArgs),
    /// Write a recorded run in the format of another tool.
    Export(ExportArgs),
    /// Print the JSON Schema of what a run writes.
    Schema(SchemaArgs),
    /// Tell whether one set of recorded runs is faster than another.
    Compare(CompareArgs),
    /// Find the highest rate within an objective.
    Search(Box<SearchArgs>),
    /// Measure latency over rate.
    Sweep(Box<SweepArgs>),
    /// Make load when a coordinator says so.
    Agent(AgentArgs),
    /// Make one run together with several agents.
    Coordinate(Box<CoordinateArgs>),
    /// Be a node of a local cluster (this is how this program starts its nodes).
    #[command(hide = true)]
    Node(Box<server::config::Args>),
    /// Be the echo of a local cluster.
    #[command(hide = true)]
    NodeEcho(EchoArgs),
    /// Be another store's node in a local cluster.
    #[command(hide = true)]
    NodeExec(ExecArgs),
}

impl Command {
    /// The word that chose it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Command::Run(_) => "run",
            Command::Load(_) => "load",
            Command::Show(_) => "show",
            Command::List(_) => "list",
            Command::Export(_) => "export",
            Command::Schema(_) => "schema",
            Command::Compare(_) => "compare",
            Command::Search(_) => "search",
            Command::Sweep(_) => "sweep",
            Command::Agent(_) => "agent",
            Command::Coordinate(_) => "coordinate",
            Command::Node(_) => "node",
            Command::NodeEcho(_) => "node-echo",
            Command::NodeExec(_) => "node-exec",
        }
    }
}

/// Verdicts of a run that can decide its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// The generator, not the store, was the limit.
    GeneratorBound,
    /// The machine or the numbers were too unsteady for a repetition to agree.
    Noisy,
    /// The load never settled.
    Unsteady,
    /// Too few operations were answered.
    TooThin,
}

#[derive(Debug, Args)]
#[command(after_help = run_help())]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    #[command(flatten)]
    pub(super) pace: PaceArgs,
    #[command(flatten)]
    pub(super) load: LoadArgs,
    #[command(flatten)]
    pub(super) work: WorkArgs,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}
