//! Ctrl-C: the first ends the plan, a second the process. A request to terminate counts as one, and so does a terminal that is
//! closed.

use std::fs;
use std::io::{self, Write};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::{CommandError, INTERRUPTED};
use crate::run::told;

/// Listens once for a whole command, however many pieces of work it does.
pub(super) struct Interrupts {
    happened: watch::Receiver<bool>,
}

impl Interrupts {
    /// Listens from now on. Ctrl-C and requests to terminate end the process if they are not the first; a terminal that is closed says
    /// so more than once, and never does.
    pub(super) fn listen() -> Result<Interrupts, CommandError> {
        let on = |kind| signal(kind).map_err(CommandError::environment);
        let (mut interrupts, mut terminations) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
        // Whoever started us with nohup wants us to outlive the terminal.
        let mut hangups = match ignores_hangup() {
            true => None,
            false => Some(on(SignalKind::hangup())?),
        };
        let (tell, happened) = watch::channel(false);
        tokio::spawn(async move {
            loop {
                let hung_up = tokio::select! {
                    Some(()) = interrupts.recv() => false,
                    Some(()) = terminations.recv() => false,
                    Some(()) = next(&mut hangups) => true,
                    else => return,
                };
                match (tell.send_replace(true), hung_up) {
                    (false, _) => {
                        let _ = writeln!(
                            io::stderr(),
                            "interrupted: waiting for what is in flight (again to quit at once)"
                        );
                    }
                    (true, true) => {}
                    (true, false) => {
                        let _ = writeln!(io::stderr(), "interrupted again: the record stays incomplete");
                        std::process::exit(i32::from(INTERRUPTED));
                    }
                }
            }
        });
        Ok(Interrupts { happened })
    }

    /// Whether there was one.
    pub(super) fn happened(&self) -> bool {
        *self.happened.borrow()
    }

    /// Resolves at the first interrupt, at once if there was one already. One for each piece of work.
    pub(super) fn stop(&self) -> oneshot::Receiver<()> {
        let (mut tell, stop) = oneshot::channel();
        let mut happened = self.happened.clone();
        tokio::spawn(async move {
            let told = async { happened.wait_for(|happened| *happened).await.is_ok() };
            let told = tokio::select! {
                told = told => told,
                // The work has ended by itself.
                () = tell.closed() => false,
            };
            if told {
                let _ = tell.send(());
            }
        });
        stop
    }
}

async fn next(signals: &mut Option<Signal>) -> Option<()> {
    match signals {
        Some(signals) => signals.recv().await,
        None => std::future::pending().await,
    }
}

/// Whether this process was started with closed terminals ignored. Where that cannot be told, it was not.
fn ignores_hangup() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| has_hangup_ignored(&status))
}

/// `status` is what Linux says of a process; the lowest bit of what it ignores is the first signal, which is SIGHUP.
fn has_hangup_ignored(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

/// Resolves at the first interrupt; a second one ends the process there and then.
pub(super) fn stop_signal() -> Result<oneshot::Receiver<()>, CommandError> {
    Ok(Interrupts::listen()?.stop())
}

/// Does `work` unless the user interrupts it, which ends it without a result.
pub(super) async fn until_interrupted<T>(work: impl Future<Output = T>) -> Result<T, CommandError> {
    let stop = stop_signal()?;
    tokio::select! {
        done = work => Ok(done),
        () = told(stop) => Err(CommandError {
            code: INTERRUPTED,
            text: "interrupted before there was a result".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_a_process_ignores_is_read_from_its_status() {
        assert!(has_hangup_ignored(
            "Name:\tx\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"
        ));
        assert!(!has_hangup_ignored(
            "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"
        ));
        assert!(!has_hangup_ignored(""));
    }

    #[tokio::test]
    async fn one_interrupt_stops_what_runs_and_all_that_begins_later() {
        let (tell, happened) = watch::channel(false);
        let interrupts = Interrupts { happened };
        let first = interrupts.stop();
        assert!(!interrupts.happened());
        tell.send_replace(true);
        first.await.unwrap();
        assert!(interrupts.happened());
        interrupts.stop().await.unwrap();
    }
}
