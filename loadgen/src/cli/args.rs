//! What can be said on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

use super::export_command::ExportArgs;
use super::list_command::ListArgs;
use super::schema_command::SchemaArgs;
use super::show_command::ShowArgs;
use super::units;
use crate::client::Route;
use crate::schedule::{Arrivals, Rate};
use crate::workload::Mix;

/// Put load on a replicated key-value store and measure what its users would feel.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, about, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0    the run was made and recorded
  1    the store returned values that nobody can have written
  2    wrong usage
  5    the surroundings failed: a node that does not answer, a disk that cannot be written
  98   the generator was the limit, and --fail-on generator-bound was given
  130  interrupted; what was measured by then is recorded";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make one measured run.
    Run(RunArgs),
    /// Print the summary of a recorded run.
    Show(ShowArgs),
    /// List recorded runs, newest first.
    List(ListArgs),
    /// Write a recorded run in the format of another tool.
    Export(ExportArgs),
    /// Print the JSON Schema of what a run writes.
    Schema(SchemaArgs),
}

impl Command {
    /// The word that chose it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Command::Run(_) => "run",
            Command::Show(_) => "show",
            Command::List(_) => "list",
            Command::Export(_) => "export",
            Command::Schema(_) => "schema",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ArrivalArg {
    /// Exponential gaps, like independent users.
    Poisson,
    /// Equal gaps.
    Constant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RouteArg {
    /// At the node that answered last.
    Leader,
    /// At all endpoints in turn.
    Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FailOn {
    /// The generator, not the store, was the limit.
    GeneratorBound,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("loop").args(["rate", "closed"]).multiple(false))]
#[command(after_help = EXIT_CODES)]
pub(super) struct RunArgs {
    /// The nodes, as host:port, separated by commas.
    #[arg(long, required = true, value_delimiter = ',', value_name = "HOST:PORT,…")]
    pub(super) endpoints: Vec<String>,

    /// Open loop: operations started a second, whatever the store does (5000, 5k, 2.5/s).
    #[arg(short, long, value_parser = units::rate, value_name = "RATE")]
    pub(super) rate: Option<Rate>,
    /// How the arrivals of an open loop are spaced.
    #[arg(long, value_enum, default_value = "poisson", conflicts_with = "closed")]
    pub(super) arrival: ArrivalArg,
    /// Closed loop: each client starts its next operation when the previous one ended.
    #[arg(long)]
    pub(super) closed: bool,
    /// Clients of a closed loop.
    #[arg(short, long, value_parser = units::count, default_value = "64", value_name = "N", conflicts_with = "rate")]
    pub(super) clients: u64,

    /// How long operations are started.
    #[arg(short, long, value_parser = units::duration, default_value = "30s")]
    pub(super) duration: Duration,
    /// How long operations are started before that, to be left out of the numbers.
    #[arg(long, value_parser = units::duration, default_value = "0s", value_name = "DURATION")]
    pub(super) warmup: Duration,
    /// How long open operations are waited for at the end.
    #[arg(long, value_parser = units::duration, default_value = "5s", value_name = "DURATION")]
    pub(super) drain: Duration,
    /// Time limit of each operation.
    #[arg(long, value_parser = units::duration, default_value = "2s", value_name = "DURATION")]
    pub(super) timeout: Duration,
    /// Operations in flight at most; arrivals beyond it wait, and the wait counts.
    #[arg(long, value_parser = units::count, default_value = "4096", value_name = "N")]
    pub(super) max_in_flight: u64,

    /// Operations and their weights: put, get, cas, delete.
    #[arg(long, value_parser = units::mix, default_value = "put=50,get=50")]
    pub(super) mix: Mix,
    /// Number of keys; each is equally likely.
    #[arg(long, value_parser = units::count, default_value = "1000", value_name = "N")]
    pub(super) keys: u64,
    /// What keys begin with; their number follows. A history of keys that held values before the run cannot be checked:
    /// the checker takes every key to be absent at the start [default: unique per run]
    #[arg(long, value_name = "TEXT")]
    pub(super) key_prefix: Option<String>,
    /// Bytes of each value (k is 1024).
    #[arg(long, value_parser = units::bytes, default_value = "256", value_name = "BYTES")]
    pub(super) value_size: usize,
    /// Everything random follows from it [default: drawn, and recorded]
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,

    /// Connections to each node.
    #[arg(long, value_parser = units::count, default_value = "2", value_name = "N")]
    pub(super) connections: u64,
    /// Where an operation is tried first.
    #[arg(long, value_enum, default_value = "leader")]
    pub(super) route: RouteArg,
    /// Follow a leader hint to an address that is not among the endpoints.
    #[arg(long)]
    pub(super) dial_hints: bool,
    /// Begin although a node does not answer, as long as one does.
    #[arg(long)]
    pub(super) allow_unreachable: bool,

    /// Name of the run.
    #[arg(long, default_value = "load")]
    pub(super) name: String,
    /// Folder for the record, new or empty [default: target/runs/NAME-TIME]
    #[arg(short, long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
    /// Length of the slices in the record.
    #[arg(long, value_parser = units::duration, default_value = "1s", value_name = "DURATION")]
    pub(super) interval: Duration,
    /// Do not record single operations.
    #[arg(long)]
    pub(super) no_history: bool,
    /// Do not write report.html.
    #[arg(long)]
    pub(super) no_report: bool,
    /// Print the summary as one JSON document.
    #[arg(long)]
    pub(super) json: bool,
    /// Show no progress.
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Make the exit code tell.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub(super) fail_on: Vec<FailOn>,
}

/// Said to whoever chose neither loop.
const CHOOSE_A_LOOP: &str = "\
choose who decides when the next operation starts:
  --rate 5000            open loop: arrivals follow a plan, as those of independent users do. If the store stalls, they
                         keep arriving, and their waiting shows in the response time. Use it to measure latency.
  --closed --clients 64  closed loop: each client waits for its answer before it asks again. If the store stalls, so does
                         the load, which hides the stall from the percentiles. Use it to find the highest throughput.";

impl RunArgs {
    pub(super) fn arrivals(&self) -> Result<Arrivals, String> {
        match (self.rate, self.closed) {
            (Some(rate), _) => Ok(match self.arrival {
                ArrivalArg::Poisson => Arrivals::Poisson { rate },
                ArrivalArg::Constant => Arrivals::Constant { rate },
            }),
            (None, true) => Ok(Arrivals::Closed {
                clients: limited(self.clients, "clients")?,
            }),
            (None, false) => Err(CHOOSE_A_LOOP.into()),
        }
    }

    pub(super) fn in_flight(&self) -> Result<usize, String> {
        limited(self.max_in_flight, "operations in flight")
    }

    pub(super) fn route(&self) -> Route {
        match self.route {
            RouteArg::Leader => Route::Leader,
            RouteArg::Spread => Route::Spread,
        }
    }
}

/// Each operation in flight is a task with its request in memory.
const IN_FLIGHT_MAX: u64 = 1_000_000;

fn limited(number: u64, what: &str) -> Result<usize, String> {
    match usize::try_from(number) {
        Ok(fits) if number <= IN_FLIGHT_MAX => Ok(fits),
        _ => Err(format!(
            "{number} {what} are more than this tool takes on ({IN_FLIGHT_MAX})"
        )),
    }
}
