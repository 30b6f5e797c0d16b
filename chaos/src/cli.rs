//! The command line of `chaos`.

mod check;
mod list;
mod run;
mod up;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Loads a replicated store, breaks it, and decides whether it kept its promises.
///
/// Exit codes of run and check: 0 pass, 1 safety violation, 2 usage or scenario error, 3 liveness violation,
/// 4 inconclusive, 5 the tool or its surroundings failed, 130 interrupted (healed, partial report written).
#[derive(Debug, Parser)]
#[command(name = "chaos", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run scenarios on clusters of real processes.
    Run(run::RunArgs),
    /// Start a cluster, print its endpoints, and keep it until interrupted.
    Up(up::UpArgs),
    /// Check a saved history.
    Check(check::CheckArgs),
    /// List the scenarios in a folder.
    List {
        /// Where to look.
        #[arg(default_value = "chaos/scenarios")]
        folder: PathBuf,
        /// One JSON document on standard output.
        #[arg(long)]
        json: bool,
    },
    /// Be a node of a cluster (this is how this program starts its nodes).
    #[command(hide = true)]
    Node(server::config::Args),
    /// Be the echo of a local cluster.
    #[command(hide = true)]
    NodeEcho(loadgen::cli::EchoArgs),
    /// Turn into a node that is another program.
    #[command(hide = true)]
    NodeExec(loadgen::cli::ExecArgs),
}

/// What is neither a verdict nor a bug: the user must change something.
const USAGE: u8 = 2;
/// The surroundings or this tool failed.
const FAILED: u8 = 5;

/// Runs the program from the process's own arguments.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        // A node sets up its own logging and runtime.
        Command::Node(arguments) => server::cli::node(arguments),
        Command::NodeEcho(arguments) => loadgen::cli::node_echo(&arguments),
        Command::NodeExec(arguments) => loadgen::cli::node_exec(&arguments),
        Command::Run(arguments) => run::main(arguments),
        Command::Up(arguments) => up::main(arguments),
        Command::Check(arguments) => check::main(&arguments),
        Command::List { folder, json } => list::main(&folder, json),
    }
}

fn start_logging() {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}

/// One thread for load, proxies and observer: the nodes need the others.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// This executable, acting as a node.
fn node_command() -> std::io::Result<Vec<String>> {
    Ok(vec![
        std::env::current_exe()?.display().to_string(),
        "node".to_owned(),
    ])
}

/// Turns true at the first SIGINT or SIGTERM. At the second this process ends at once; its nodes notice and follow.
fn watch_for_interrupt() -> std::io::Result<tokio::sync::watch::Receiver<bool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, receiver) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(130);
            }
            let _ = writeln!(
                std::io::stderr(),
                "interrupted: healing and writing what there is; once more to give up at once"
            );
        }
    });
    Ok(receiver)
}
