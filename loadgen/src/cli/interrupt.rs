//! Ctrl-C: the first ends the plan, a second the process.

use std::io::{self, Write};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use super::{CommandError, INTERRUPTED};
use crate::run::told;

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
