//! The thread that makes requests durable, group by group.

use std::collections::VecDeque;
use std::panic;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::WalError;
use super::log::Wal;
use super::stats::{WalStats, WalStatsSnapshot};
use crate::raft::{Index, Io, IoSeq};

/// How often a thread that has run out of space looks for some.
const RETRY_FULL: Duration = Duration::from_millis(100);

/// What the thread is asked to do.
#[derive(Debug)]
enum Command {
    Write(Io),
    Release(Index),
}

/// Starts the thread of a log.
#[derive(Debug)]
pub struct WalThread;

impl WalThread {
    /// Starts a thread that carries out what is [submitted](WalHandle::submit). `on_durable` is called on that thread:
    /// `Ok(seq)` says that every request up to `seq` is on disk, once per group; `Err` says that the log has failed, and
    /// is the last call. It should hand the news on and return, since the next group waits for it.
    pub fn start(
        mut wal: Wal,
        on_durable: impl FnMut(Result<IoSeq, WalError>) + Send + 'static,
    ) -> WalHandle {
        let stats = wal.stats();
        let (requests, queue) = channel();
        wal.prepare_in_background();
        let thread = thread::Builder::new()
            .name("wal".to_owned())
            .spawn(move || run(wal, &queue, on_durable))
            .expect("the system can start a thread");
        WalHandle {
            requests: Some(requests),
            thread: Some(thread),
            stats,
        }
    }
}

/// Submits requests to the thread. Dropping it, or better [`WalHandle::shutdown`], waits until everything submitted is
/// on disk and reported.
#[derive(Debug)]
pub struct WalHandle {
    /// `None` only while it is shut down.
    requests: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    stats: Arc<WalStats>,
}

impl WalHandle {
    /// Hands over a request; never blocks. The queue has no limit of its own: the core bounds the bytes that are not
    /// yet committed, and a request holds its entries by reference. After a failure requests vanish unanswered.
    ///
    /// # Panics
    /// If `on_durable` has panicked.
    pub fn submit(&self, io: Io) {
        self.send(Command::Write(io));
    }

    /// A durable snapshot holds everything up to `index`: the segments that hold nothing else are removed, between two
    /// groups.
    pub fn release(&self, index: Index) {
        self.send(Command::Release(index));
    }

    fn send(&self, command: Command) {
        let requests = self.requests.as_ref().expect("open until shut down");
        requests
            .send(command)
            .expect("the log's thread lives as long as its handle");
    }

    /// Whether the disk is full: see [`WalStatsSnapshot::full`].
    pub fn is_full(&self) -> bool {
        self.stats.is_full()
    }

    /// What the log has done so far.
    pub fn stats(&self) -> WalStatsSnapshot {
        self.stats.snapshot()
    }

    /// Waits until everything submitted is on disk and reported, or the log has failed; then closes it and gives back
    /// its lock.
    ///
    /// # Panics
    /// If `on_durable` has panicked.
    pub fn shutdown(mut self) {
        if let Err(payload) = self.close() {
            panic::resume_unwind(payload);
        }
    }

    fn close(&mut self) -> thread::Result<()> {
        self.requests = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for WalHandle {
    fn drop(&mut self) {
        // A panic over there has been reported by its hook, and this may run during another one.
        let _ = self.close();
    }
}

fn run(mut wal: Wal, queue: &Receiver<Command>, mut on_durable: impl FnMut(Result<IoSeq, WalError>)) {
    let served = serve(&mut wal, queue, |seq| on_durable(Ok(seq)));
    if let Err(error) = served {
        on_durable(Err(error));
        // The directory stays locked, and requests go nowhere, until the handle is dropped.
        while queue.recv().is_ok() {}
    }
}

/// Carries out groups until the queue is closed and empty, or something fails.
fn serve(
    wal: &mut Wal,
    queue: &Receiver<Command>,
    mut acknowledge: impl FnMut(IoSeq),
) -> Result<(), WalError> {
    #[cfg(feature = "mutants")]
    if wal.options().ack_before_durable {
        return planted::serve_acknowledging_early(wal, queue, acknowledge);
    }
    let mut waiting = VecDeque::new();
    while let Some(first) = waiting.pop_front().or_else(|| queue.recv().ok()) {
        let (staged_before, mut released) = (wal.staged_seq(), None);
        take_in(wal, first, &mut released)?;
        while wal.has_room()
            && let Some(command) = waiting.pop_front().or_else(|| queue.try_recv().ok())
        {
            take_in(wal, command, &mut released)?;
        }
        commit_when_there_is_space(wal, queue, &mut waiting)?;
        if let Some(index) = released {
            wal.release(index)?;
        }
        if let Some(seq) = wal.staged_seq().filter(|seq| Some(*seq) != staged_before) {
            acknowledge(seq);
        }
    }
    Ok(())
}

fn take_in(wal: &mut Wal, command: Command, released: &mut Option<Index>) -> Result<(), WalError> {
    match command {
        Command::Write(io) => wal.stage(&io)?,
        Command::Release(index) => *released = (*released).max(Some(index)),
    }
    Ok(())
}

/// Makes what is staged durable. Without space for it, waits until there is some, and meanwhile does what may give it.
fn commit_when_there_is_space(
    wal: &mut Wal,
    queue: &Receiver<Command>,
    waiting: &mut VecDeque<Command>,
) -> Result<(), WalError> {
    loop {
        match wal.commit() {
            Err(error) if error.is_full() && !wal.is_poisoned() => match queue.recv_timeout(RETRY_FULL) {
                Ok(Command::Release(index)) => wal.release(index)?,
                Ok(command) => waiting.push_back(command),
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody waits for it any more, and nothing of it was promised.
                Err(RecvTimeoutError::Disconnected) => return Err(error),
            },
            outcome => return outcome,
        }
    }
}

/// The planted bug that proves that the suite notices lost writes. It exists only in builds with the feature.
#[cfg(feature = "mutants")]
mod planted {
    use std::sync::mpsc::RecvTimeoutError;
    use std::time::{Duration, Instant};

    use super::{Command, IoSeq, Receiver, Wal, WalError};

    /// How long acknowledged requests stay in memory only.
    const HOLD: Duration = Duration::from_secs(2);

    /// Says "durable" as soon as a request arrives, and writes what has gathered every two seconds, when a group is
    /// full, and at an orderly end. An orderly stop loses nothing; `kill -9` loses up to two seconds of acknowledged
    /// requests, as a store does that syncs in intervals and does not say so.
    pub(super) fn serve_acknowledging_early(
        wal: &mut Wal,
        queue: &Receiver<Command>,
        mut acknowledge: impl FnMut(IoSeq),
    ) -> Result<(), WalError> {
        let mut write_at = Instant::now() + HOLD;
        loop {
            match queue.recv_timeout(write_at.saturating_duration_since(Instant::now())) {
                Ok(Command::Write(io)) => {
                    wal.stage(&io)?;
                    acknowledge(io.seq);
                }
                Ok(Command::Release(index)) => {
                    wal.commit()?;
                    wal.release(index)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return wal.commit(),
            }
            if Instant::now() >= write_at || !wal.has_room() {
                wal.commit()?;
                write_at = Instant::now() + HOLD;
            }
        }
    }
}
