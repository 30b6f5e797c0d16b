//! What this executable does as a part of a local cluster, rather than as a load generator: be a node of the reference store, be
//! the echo, or turn into a store that is installed.
//!
//! Promises that nothing of it outlives the process that started it. These commands are not for people and not in the help.
//! Other executables of this project that start local clusters have them as well, under the same names.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use clap::Args;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getppid};
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, ENVIRONMENT};
use crate::target::serve_echo;

/// Be the echo.
#[derive(Debug, Args)]
pub struct EchoArgs {
    /// Port on 127.0.0.1; 0 takes a free one. The first line on standard output tells which.
    #[arg(long)]
    port: u16,
}

/// Turn into another program that is killed when the parent ends.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The process id of the parent.
    #[arg(long, value_name = "PID")]
    parent: i32,
    /// The program and its arguments.
    #[arg(required = true, last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
}

/// A node of the reference store, as `server` is.
pub(super) fn node(args: server::config::Args) -> ExitCode {
    server::cli::node(args)
}

/// The echo, until it is told to stop or its standard input ends.
pub fn echo(args: &EchoArgs) -> ExitCode {
    match serve(args.port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(&failure),
    }
}

/// Turns into the program. Returns only if that fails.
pub fn exec(args: &ExecArgs) -> ExitCode {
    match turn_into(args) {
        Ok(never) => match never {},
        Err(failure) => fail(&failure),
    }
}

fn fail(failure: &CommandError) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {failure}");
    ExitCode::from(ENVIRONMENT)
}

fn serve(port: u16) -> Result<(), CommandError> {
    std::thread::spawn(exit_with_stdin);
    // One thread, as a node of the reference store has for its clients.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::environment)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(CommandError::environment)?;
        let listening = |port| {
            // A closed pipe is no reason to stop.
            let mut out = io::stdout();
            let _ = writeln!(out, "listening on 127.0.0.1:{port}").and_then(|()| out.flush());
        };
        let served = serve_echo(port, listening, async move {
            terminate.recv().await;
        });
        served.await.map_err(CommandError::environment)
    })
}

/// Waits for standard input to end and takes the process with it.
fn exit_with_stdin() {
    let mut buffer = [0; 64];
    while !matches!(io::stdin().read(&mut buffer), Ok(0) | Err(_)) {}
    std::process::exit(0);
}

fn turn_into(args: &ExecArgs) -> Result<Infallible, CommandError> {
    set_pdeathsig(Signal::SIGKILL).map_err(CommandError::environment)?;
    // If the parent ended before that, nobody will send the signal.
    if getppid() != Pid::from_raw(args.parent) {
        return Err(CommandError::environment(format!(
            "process {} is not the parent of this one, or has ended",
            args.parent
        )));
    }
    let (program, arguments) = args
        .program
        .split_first()
        .expect("the command line demands a program");
    let error = Command::new(program).args(arguments).exec();
    Err(CommandError::environment(format!(
        "cannot run {}: {error}",
        program.display()
    )))
}
