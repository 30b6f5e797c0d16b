//! Makes the next segment while the current one fills up, in step with it: a node that wrote all the zeros at once would make
//! everybody's syncs wait for them, and the nodes of a cluster, which write the same log, would do it at the same moment.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::error::WalError;
use super::log::WalOptions;
use super::segment::{Filling, PIECE_BYTES, Segment, unfinished_name};
use super::stats::WalStats;
use crate::disk::Disk;

/// How long to wait before looking again whether a full disk has space.
const RETRY_FULL: Duration = Duration::from_millis(500);
/// How often whoever waits for a segment looks whether the disk has turned out to be full.
const LOOK_FULL: Duration = Duration::from_millis(5);

/// Zeros that nobody waits for yet are written in pieces of this size; larger ones if they fall behind.
pub(super) const STEP_BYTES: u64 = 128 << 10;

/// What the thread is told.
enum Order {
    /// Make this segment.
    Segment(u64),
    /// So much of the segment before it is used.
    Used(u64),
}

/// A thread that prepares one segment at a time, each on order, and waits for space if there is none. Joined when
/// dropped.
pub(super) struct Preparer {
    /// `None` only while it is dropped.
    orders: Option<Sender<Order>>,
    done: Receiver<Result<Segment, WalError>>,
    thread: Option<JoinHandle<()>>,
    stats: Arc<WalStats>,
    /// What it was last told of the segment in use.
    used_bytes: u64,
}

impl Preparer {
    pub(super) fn start(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: WalOptions,
        stats: Arc<WalStats>,
    ) -> Preparer {
        let (orders, queue) = channel();
        let (finished, done) = channel();
        let work = Work {
            disk,
            dir,
            options,
            stats: Arc::clone(&stats),
            queue,
        };
        let thread = thread::Builder::new()
            .name("wal-prepare".to_owned())
            .spawn(move || work.run(&finished))
            .expect("the system can start a thread");
        Preparer {
            orders: Some(orders),
            done,
            thread: Some(thread),
            stats,
            used_bytes: 0,
        }
    }

    /// Asks for segment `number`.
    pub(super) fn order(&mut self, number: u64) {
        self.used_bytes = 0;
        self.tell(Order::Segment(number));
    }

    /// So much of the segment before the one ordered is used.
    pub(super) fn keep_up(&mut self, used_bytes: u64) {
        if used_bytes >= self.used_bytes + STEP_BYTES {
            self.used_bytes = used_bytes;
            self.tell(Order::Used(used_bytes));
        }
    }

    /// Waits for what was ordered; `None` as long as the disk is full.
    pub(super) fn take(&self) -> Option<Result<Segment, WalError>> {
        self.tell(Order::Used(u64::MAX));
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

    fn tell(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // Fails only after a panic over there, and then `take` says so.
            let _ = orders.send(order);
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

/// The log is being closed.
struct Closed;

/// What the thread works with.
struct Work {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    stats: Arc<WalStats>,
    queue: Receiver<Order>,
}

impl Work {
    fn run(&self, finished: &Sender<Result<Segment, WalError>>) {
        while let Ok(order) = self.queue.recv() {
            // What is said of a segment that is full says nothing of the next one.
            let Order::Segment(number) = order else { continue };
            let Ok(segment) = self.prepare_when_there_is_space(number) else {
                return;
            };
            self.stats.set_full(false);
            if finished.send(segment).is_err() {
                return;
            }
        }
    }

    fn prepare_when_there_is_space(&self, number: u64) -> Result<Result<Segment, WalError>, Closed> {
        let mut used_bytes = 0;
        loop {
            match self.prepare(number, &mut used_bytes)? {
                Err(error) if error.is_full() => {
                    self.stats.set_full(true);
                    // A full log takes no writes whose progress would ask for more.
                    used_bytes = u64::MAX;
                }
                Err(error) if error.is_out_of_files() => {}
                outcome => return Ok(outcome),
            }
            self.wait(RETRY_FULL, &mut used_bytes)?;
        }
    }

    /// Waits so long, whatever is heard of the segment in use meanwhile.
    fn wait(&self, time: Duration, used_bytes: &mut u64) -> Result<(), Closed> {
        let end = Instant::now() + time;
        loop {
            match self
                .queue
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(order) => *used_bytes = order.used_bytes().max(*used_bytes),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => return Err(Closed),
            }
        }
    }

    fn prepare(&self, number: u64, used_bytes: &mut u64) -> Result<Result<Segment, WalError>, Closed> {
        let unfinished = self.dir.join(unfinished_name(number));
        let segment_bytes = self.options.segment_bytes;
        let disk = &*self.disk;
        let mut filling = match Filling::begin(disk, unfinished, number, segment_bytes, &self.options) {
            Ok(filling) => filling,
            Err(error) => return Ok(Err(error)),
        };
        while !filling.is_full() {
            // What was begun stays when the log is closed: a sign, until the next open, that the segment before it must be there.
            let behind_bytes = self.await_need(&filling, used_bytes)?;
            let piece_bytes = behind_bytes.clamp(STEP_BYTES, PIECE_BYTES as u64);
            if let Err(error) = filling.fill(piece_bytes as usize) {
                filling.give_up();
                return Ok(Err(error));
            }
        }
        Ok(filling.finish(&self.dir))
    }

    /// Returns when the segment in use has come so far that more of the next one should be filled: how much.
    fn await_need(&self, filling: &Filling<'_>, used_bytes: &mut u64) -> Result<u64, Closed> {
        loop {
            match self.queue.try_recv() {
                Ok(order) => *used_bytes = order.used_bytes().max(*used_bytes),
                Err(TryRecvError::Empty) => break,
                // The first step is made all the same, so that short segments are complete.
                Err(TryRecvError::Disconnected) if filling.filled_bytes() > 0 => return Err(Closed),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        loop {
            match wanted_bytes(*used_bytes).saturating_sub(filling.filled_bytes()) {
                0 => *used_bytes = self.queue.recv().map_err(|_| Closed)?.used_bytes(),
                behind_bytes => return Ok(behind_bytes),
            }
        }
    }
}

impl Order {
    fn used_bytes(&self) -> u64 {
        match self {
            Order::Used(bytes) => *bytes,
            Order::Segment(_) => unreachable!("one segment is ordered at a time"),
        }
    }
}

/// How much of the next segment should be filled when so much of the current one is used: a quarter more and a step, so that it
/// is complete before it is needed.
fn wanted_bytes(used_bytes: u64) -> u64 {
    used_bytes
        .saturating_add(used_bytes / 4)
        .saturating_add(STEP_BYTES)
}
