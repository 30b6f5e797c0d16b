//! Makes the next segment while the current one fills up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use super::error::WalError;
use super::log::WalOptions;
use super::segment::Segment;
use crate::disk::Disk;

/// A thread that prepares one segment at a time, each on order. Joined when dropped.
pub(super) struct Preparer {
    /// `None` only while it is dropped.
    orders: Option<Sender<u64>>,
    done: Receiver<Result<Segment, WalError>>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    pub(super) fn start(disk: Arc<dyn Disk>, dir: PathBuf, options: WalOptions) -> Preparer {
        let (orders, requested) = channel();
        let (finished, done) = channel();
        let work = move || {
            for number in requested {
                let segment = Segment::prepare(&*disk, &dir, number, &options, 0);
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
        }
    }

    /// Asks for segment `number`.
    pub(super) fn order(&self, number: u64) {
        if let Some(orders) = &self.orders {
            // Fails only after a panic over there, and then `take` says so.
            let _ = orders.send(number);
        }
    }

    /// Waits for what was ordered.
    pub(super) fn take(&self) -> Result<Segment, WalError> {
        self.done
            .recv()
            .expect("preparing a segment returns an error and does not panic")
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
