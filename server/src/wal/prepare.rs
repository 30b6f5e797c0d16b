//! Makes the next segment while the current one fills up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::error::WalError;
use super::log::WalOptions;
use super::segment::Segment;
use super::stats::WalStats;
use crate::disk::Disk;

/// How long to wait before looking again whether a full disk has space.
const RETRY_FULL: Duration = Duration::from_millis(500);
/// How often whoever waits for a segment looks whether the disk has turned out to be full.
const LOOK_FULL: Duration = Duration::from_millis(5);

/// A thread that prepares one segment at a time, each on order, and waits for space if there is none. Joined when
/// dropped.
pub(super) struct Preparer {
    /// `None` only while it is dropped.
    orders: Option<Sender<u64>>,
    done: Receiver<Result<Segment, WalError>>,
    thread: Option<JoinHandle<()>>,
    stats: Arc<WalStats>,
}

impl Preparer {
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: WalOptions,
        stats: Arc<WalStats>,
    ) -> Preparer {
        let (orders, requested) = channel();
        let (finished, done) = channel();
        let told = Arc::clone(&stats);
        let work = move || {
            while let Ok(number) = requested.recv() {
                let segment = loop {
                    match Segment::prepare(&*disk, &dir, number, &options, 0) {
                        Err(error) if error.is_full() => told.set_full(true),
                        Err(error) if error.is_out_of_files() => {}
                        outcome => break outcome,
                    }
                    // One segment is on order, so what may come now is the end only.
                    if requested.recv_timeout(RETRY_FULL) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                };
                told.set_full(false);
                if finished.send(segment).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new()
            .name("wal-prepare".to_owned())
            .spawn(work)
            .expect("the system can start a thread");
        Preparer {
            orders: Some(orders),
            done,
            thread: Some(thread),
            stats,
        }
    }

    /// Asks for segment `number`.
    pub(super) fn order(&self, number: u64) {
        if let Some(orders) = &self.orders {
            // Fails only after a panic over there, and then `take` says so.
            let _ = orders.send(number);
        }
    }

    /// Waits for what was ordered; `None` as long as the disk is full.
    pub(super) fn take(&self) -> Option<Result<Segment, WalError>> {
        loop {
            match self.done.recv_timeout(LOOK_FULL) {
                Ok(segment) => return Some(segment),
                Err(RecvTimeoutError::Timeout) if self.stats.is_full() => return None,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("preparing a segment returns an error and does not panic")
                }
            }
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there has been reported by its hook, and this may run during another one.
            let _ = thread.join();
        }
    }
}
