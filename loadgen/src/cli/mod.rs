//! The command line of `loadgen`.
//!
//! Promises: the result goes to standard output, everything else to standard error; the exit code tells how it ended
//! (see `--help`); an interrupted run is recorded as far as it came.

mod agent_command;
mod args;
mod compare_command;
mod coordinate_command;
mod export_command;
mod identity;
mod interrupt;
mod list_command;
mod live_compare;
mod load_command;
mod node_command;
mod probing;
mod progress;
mod ratio_file;
mod recorded;
mod recording;
mod run_command;
mod schema_command;
mod search_command;
mod session;
mod show_command;
mod summary;
mod sweep_command;
pub(crate) mod units;
mod watching;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

pub(crate) use agent_command::SharedRun;
use args::{Cli, Command};
pub use node_command::{EchoArgs, ExecArgs, echo as node_echo, exec as node_exec};

/// The store returned values that nobody can have written.
const DAMAGED: u8 = 1;
const USAGE: u8 = 2;
const ENVIRONMENT: u8 = 5;
/// The run ended itself.
const ABORTED: u8 = 97;
/// The run's verdict is one that the user does not accept.
const INVALID: u8 = 98;
/// A threshold failed.
const THRESHOLD: u8 = 99;
const INTERRUPTED: u8 = 130;

/// Runs the command line and tells how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let name = cli.command.name();
    let result = match cli.command {
        Command::Run(args) => run_command::run(&args),
        Command::Load(args) => load_command::run(&args),
        Command::Show(args) => show_command::show(&args),
        Command::List(args) => list_command::list(&args),
        Command::Export(args) => export_command::export(&args),
        Command::Schema(args) => schema_command::print(&args),
        Command::Compare(args) => compare_command::run(&args),
        Command::Search(args) => search_command::run(&args),
        Command::Sweep(args) => sweep_command::run(&args),
        Command::Agent(args) => agent_command::run(&args),
        Command::Coordinate(args) => coordinate_command::run(&args),
        Command::Node(args) => return node_command::node(*args),
        Command::NodeEcho(args) => return node_command::echo(&args),
        Command::NodeExec(args) => return node_command::exec(&args),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // Standard error may be gone; the exit code still tells.
            let _ = writeln!(io::stderr(), "error: {failure}");
            if failure.code == USAGE {
                let mut command = Cli::command();
                // Building puts `loadgen` before the name of each command.
                command.build();
                let usage = command
                    .find_subcommand_mut(name)
                    .map(|command| command.render_usage());
                let usage = usage.map(|usage| usage.to_string()).unwrap_or_default();
                let _ = writeln!(
                    io::stderr(),
                    "\n{usage}\n\nFor more information, try `loadgen {name} --help`."
                );
            }
            ExitCode::from(failure.code)
        }
    }
}

/// Why there is no result.
#[derive(Debug)]
struct CommandError {
    code: u8,
    text: String,
}

impl CommandError {
    fn usage(error: impl Into<Box<dyn Error>>) -> CommandError {
        CommandError {
            code: USAGE,
            text: with_causes(error.into().as_ref()),
        }
    }

    fn environment(error: impl Into<Box<dyn Error>>) -> CommandError {
        CommandError {
            code: ENVIRONMENT,
            text: with_causes(error.into().as_ref()),
        }
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// The error and what caused it, each cause once: some errors say theirs themselves.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&(dyn Error + 'static)| (*cause).source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        match text.ends_with(&cause) {
            true => text,
            false => format!("{text}: {cause}"),
        }
    })
}
