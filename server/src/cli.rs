//! The command line: `server` itself, and the same node inside other executables of this project, which start
//! themselves as nodes so that nothing has to be found on the path.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Args, LogFormat};
use crate::ctl::{self, CtlArgs};
use crate::run::{NodeError, causes, run};

#[derive(Debug, Parser)]
#[command(
    name = "server",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    node: Option<Args>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Look at a running cluster, or change it.
    Ctl(CtlArgs),
}

/// Runs a node, or `ctl`, from the process's own arguments.
pub fn main() -> ExitCode {
    match Cli::parse() {
        Cli {
            command: Some(Command::Ctl(args)),
            ..
        } => ctl::run(args),
        Cli { node: Some(args), .. } => node(args),
        // clap lets nothing through that has neither.
        Cli { .. } => node(Args::parse()),
    }
}

/// Runs a node until it is told to stop (SIGINT or SIGTERM), and says how it ended.
pub fn node(args: Args) -> ExitCode {
    let log = tracing_subscriber::fmt()
        .with_max_level(args.log)
        .with_writer(io::stderr)
        .with_target(false);
    match args.log_format {
        LogFormat::Json => log.json().init(),
        LogFormat::Text => {
            let colours =
                io::IsTerminal::is_terminal(&io::stderr()) && std::env::var_os("NO_COLOR").is_none();
            log.with_ansi(colours).init();
        }
    }
    if args.exit_with_stdin {
        std::thread::spawn(exit_with_stdin);
    }
    // One thread for everything but the disk: on small machines that is twice as fast as spreading requests over two.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(args)),
        Err(error) => Err(NodeError::Members(format!("cannot start the runtime: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}{}", causes(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

async fn serve(args: Args) -> Result<(), NodeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(signals_unavailable)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(signals_unavailable)?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
    };
    let listening = |address: String| {
        // For whoever started this node with `--port 0`. A closed pipe is no reason to stop.
        let _ = writeln!(io::stdout(), "{address}").and_then(|()| io::stdout().flush());
    };
    run(args, listening, stop).await
}

fn signals_unavailable(error: io::Error) -> NodeError {
    NodeError::Members(format!("cannot listen for signals: {error}"))
}

/// Waits for standard input to end and takes the process with it, as abruptly as a power cut: the log copes.
fn exit_with_stdin() {
    let mut buffer = [0; 64];
    while !matches!(io::stdin().read(&mut buffer), Ok(0) | Err(_)) {}
    std::process::exit(0);
}
