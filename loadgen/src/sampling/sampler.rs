//! The two threads behind [`Sampler`]: one reads `/proc`, the other fetches the servers' Prometheus pages, so that a server
//! that does not answer holds up nothing but its own page.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use reports::record::Resources;

use super::books::Books;
use super::proc::{Reader, thread_cpu};
use super::scrape::{Fsyncs, scrape};
use super::watched::Watched;
use crate::clock::{RunClock, nanos};

/// Shortest period that is accepted: below it, looking would itself be load.
pub const PERIOD_MIN: Duration = Duration::from_millis(100);
/// Longest period that is accepted: above it, a short run has no shape.
pub const PERIOD_MAX: Duration = Duration::from_secs(10);
/// Most processes that are watched.
pub const WATCHED_MAX: usize = 64;

/// Shortest time between two requests for a page. Making one costs the server something, and reading etcd's costs more than
/// a sample of everything else.
const SCRAPE_EVERY: Duration = Duration::from_secs(5);
/// Pages of one server that may wait to be taken in; the oldest is dropped beyond that.
const NEWS_MAX: usize = 16;

/// Watches the processes of a run from a thread of its own. Dropping it ends its threads.
#[derive(Debug)]
pub struct Sampler {
    proc: Worker<Books>,
    scraper: Option<Worker<()>>,
    pages: Arc<Pages>,
    clock: RunClock,
    period: Duration,
}

impl Sampler {
    /// Begins to watch; when this returns, the first sample has been taken. Times are those of `clock`.
    ///
    /// Fails if `period` is outside [`PERIOD_MIN`] to [`PERIOD_MAX`], if there are more than [`WATCHED_MAX`] processes to
    /// watch, or if the system refuses a thread. Whatever cannot be read later is absent from the result and named in its
    /// notes.
    pub fn start(watched: Vec<Watched>, clock: RunClock, period: Duration) -> io::Result<Sampler> {
        let refused = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if !(PERIOD_MIN..=PERIOD_MAX).contains(&period) {
            return refused(format!(
                "the sampling period must be from {PERIOD_MIN:?} to {PERIOD_MAX:?}, not {period:?}"
            ));
        }
        if watched.len() > WATCHED_MAX {
            return refused(format!(
                "{} processes are more than can be watched ({WATCHED_MAX}): leave some out",
                watched.len()
            ));
        }
        let pages = Arc::new(Pages::new(watched.len()));
        let mut books = Books::open(watched, Arc::clone(&pages));
        books.sample(clock.now());
        let scraper = {
            let pages = Arc::clone(&pages);
            Worker::start(
                "page-scraper",
                (),
                SCRAPE_EVERY.max(period),
                true,
                move |(), _| pages.refresh(),
            )?
        };
        let proc = Worker::start("proc-sampler", books, period, false, move |books, again| {
            if again {
                books.open_again();
            }
            books.sample(clock.now())
        })?;
        Ok(Sampler {
            proc,
            scraper: Some(scraper),
            pages,
            clock,
            period,
        })
    }

    /// Forgets what has been used so far: the run begins now. Returns at once.
    pub fn restart(&self) {
        // A thread that has ended has panicked, which `finish` passes on.
        let _ = self.proc.again.send(());
    }

    /// Takes a last sample, ends the threads and adds everything up. `ok_operations` are those answered well while this
    /// watched, those of a warm-up included: CPU time is divided by their number.
    ///
    /// Takes up to half a second for each server that has stopped answering on its page.
    pub fn finish(mut self, ok_operations: u64) -> Resources {
        if let Some(scraper) = self.scraper.take() {
            scraper.stop();
            // What a server did since its last page belongs to the run.
            self.pages.refresh();
        }
        let mut books = self.proc.stop();
        books.sample(self.clock.now());
        books.close(nanos(self.period), ok_operations)
    }
}

/// A thread that does something again and again, and gives its state back when it is stopped.
#[derive(Debug)]
struct Worker<S> {
    /// Has it begin again; it stops when this is dropped.
    again: Sender<()>,
    thread: JoinHandle<S>,
}

impl<S: Send + 'static> Worker<S> {
    /// The first time is one period from now, or at once. `work` is told whether to begin again.
    fn start(
        name: &str,
        mut state: S,
        period: Duration,
        at_once: bool,
        mut work: impl FnMut(&mut S, bool) + Send + 'static,
    ) -> io::Result<Worker<S>> {
        let (again, told) = mpsc::channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            let mut next = Instant::now();
            if at_once {
                work(&mut state, false);
            }
            loop {
                next += period;
                // Somebody who is late does not catch up: two samples at one moment say nothing.
                let wait = next.saturating_duration_since(Instant::now());
                if wait.is_zero() {
                    next = Instant::now();
                }
                match told.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => work(&mut state, false),
                    Ok(()) => {
                        work(&mut state, true);
                        next = Instant::now();
                    }
                    Err(RecvTimeoutError::Disconnected) => return state,
                }
            }
        })?;
        Ok(Worker { again, thread })
    }

    fn stop(self) -> S {
        drop(self.again);
        match self.thread.join() {
            Ok(state) => state,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// What the two threads tell each other: where the pages are, and what they said last.
#[derive(Debug)]
pub(super) struct Pages {
    pages: Mutex<Vec<Page>>,
    /// CPU time that fetching them has used, nanoseconds.
    cpu: AtomicU64,
}

#[derive(Debug, Default, Clone)]
struct Page {
    address: Option<SocketAddr>,
    news: VecDeque<News>,
}

/// What a page said, or why it could not be read.
pub(super) type News = Result<Fsyncs, String>;

impl Pages {
    pub(super) fn new(count: usize) -> Pages {
        Pages {
            pages: Mutex::new(vec![Page::default(); count]),
            cpu: AtomicU64::new(0),
        }
    }

    /// From now on the page of process `index` is at `address`.
    pub(super) fn set_address(&self, index: usize, address: Option<SocketAddr>) {
        self.lock()[index].address = address;
    }

    /// Where the page of process `index` is.
    pub(super) fn address(&self, index: usize) -> Option<SocketAddr> {
        self.lock()[index].address
    }

    /// The oldest news of the page of process `index` that was not taken yet.
    pub(super) fn take_news(&self, index: usize) -> Option<News> {
        self.lock()[index].news.pop_front()
    }

    /// CPU time that fetching pages has used so far, nanoseconds.
    pub(super) fn cpu(&self) -> u64 {
        self.cpu.load(Ordering::Relaxed)
    }

    /// Fetches every page, one after the other.
    fn refresh(&self) {
        let mut reader = Reader::default();
        let before = thread_cpu(&mut reader);
        let count = self.lock().len();
        for index in 0..count {
            if let Some(address) = self.address(index) {
                let news = scrape(address).map_err(|error| error.to_string());
                let waiting = &mut self.lock()[index].news;
                if waiting.len() >= NEWS_MAX {
                    waiting.pop_front();
                }
                waiting.push_back(news);
            }
        }
        if let Some((before, after)) = before.zip(thread_cpu(&mut reader)) {
            self.cpu
                .fetch_add(after.saturating_sub(before), Ordering::Relaxed);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Page>> {
        // Every change is one assignment, so there is nothing half done to be found.
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::atomic::AtomicBool;

    use reports::record::ProcessRole;

    use super::*;

    fn start(watched: Vec<Watched>) -> Sampler {
        Sampler::start(watched, RunClock::start(), PERIOD_MIN).unwrap()
    }

    /// An address that is taken, and at which nobody listens.
    fn nobody_listens() -> (tokio::net::TcpSocket, SocketAddr) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn periods_and_numbers_beyond_the_limits_are_refused() {
        let refused = |watched, period: Duration| {
            let error = Sampler::start(watched, RunClock::start(), period).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            error.to_string()
        };
        assert!(refused(vec![], PERIOD_MIN - Duration::from_nanos(1)).contains("from 100ms to 10s"));
        assert!(refused(vec![], PERIOD_MAX + Duration::from_nanos(1)).contains("from 100ms to 10s"));
        let many = vec![Watched::this_process(); WATCHED_MAX + 1];
        assert!(refused(many, PERIOD_MIN).contains("leave some out"));
    }

    #[test]
    fn a_run_that_ends_at_once_has_its_two_samples() {
        let resources = start(vec![Watched::this_process()]).finish(0);
        assert_eq!((resources.samples.len(), resources.samples_taken), (2, 2));
        assert!(resources.samples[0].time <= resources.samples[1].time);
        let process = &resources.processes[0];
        assert_eq!(process.pids, [std::process::id()]);
        assert_eq!((process.role, process.cpu_us_per_ok), (ProcessRole::Client, None));
        assert!(process.cpu.is_some() && process.rss_max_bytes > Some(0));
        assert!(resources.machine.cores > Some(0));
        assert_eq!(resources.notes, Vec::<String>::new());
        assert!(resources.sampling_cpu.is_some());
    }

    #[test]
    fn work_is_charged_to_operations() {
        let sampler = start(vec![Watched::this_process()]);
        let until = crate::cpu::process_cpu().unwrap() + 50_000_000;
        while crate::cpu::process_cpu().unwrap() < until {
            std::hint::black_box((0..1_000_000_u64).sum::<u64>());
        }
        let resources = sampler.finish(1000);
        let process = &resources.processes[0];
        assert!(process.cpu >= Some(40_000_000), "{process:?}");
        let cpu_us = process.cpu.unwrap() as f64 / 1e3;
        assert_eq!(process.cpu_us_per_ok, Some(cpu_us / 1000.0));
        assert!(process.threads.iter().any(|thread| thread.cpu > 0));
    }

    #[test]
    fn what_was_used_before_the_run_began_is_no_part_of_it() {
        let sampler = start(vec![Watched::this_process()]);
        let before = crate::cpu::process_cpu().unwrap();
        let until = before + 100_000_000;
        while crate::cpu::process_cpu().unwrap() < until {
            std::hint::black_box((0..1_000_000_u64).sum::<u64>());
        }
        sampler.restart();
        let resources = sampler.finish(1);
        let used = crate::cpu::process_cpu().unwrap() - before;
        let counted = resources.processes[0].cpu.unwrap();
        assert!(counted + 90_000_000 <= used, "{counted} of {used}");
        assert_eq!(resources.processes[0].pids, [std::process::id()]);
    }

    #[test]
    fn what_is_not_there_is_absent_and_said_once() {
        let elsewhere = Watched::server("far", "192.0.2.1:50051");
        let (_taken, address) = nobody_listens();
        let address = address.to_string();
        let mut sampler = start(vec![elsewhere, Watched::server("near", &address)]);
        // More samples, without waiting for the thread to take them.
        let mut books = sampler.proc.stop();
        (0..5).for_each(|_| books.sample(sampler.clock.now()));
        let clock = sampler.clock;
        sampler.proc = Worker::start("proc-sampler", books, PERIOD_MIN, false, move |books, _| {
            books.sample(clock.now())
        })
        .unwrap();
        let resources = sampler.finish(10);
        assert_eq!(resources.notes.len(), 2, "{:?}", resources.notes);
        assert!(resources.notes[0].contains("far") && resources.notes[0].contains("another machine"));
        assert!(resources.notes[1].contains("near") && resources.notes[1].contains(&address));
        for process in &resources.processes {
            assert_eq!((process.cpu, process.cpu_us_per_ok), (None, None));
            assert!(process.pids.is_empty());
        }
        assert!(
            resources
                .samples
                .iter()
                .all(|sample| sample.processes == [None, None])
        );
        assert_eq!(resources.cpu_us_per_ok(ProcessRole::Server), None);
    }

    #[test]
    fn a_listener_in_our_own_process_is_no_server_process() {
        let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = proxy.local_addr().unwrap().to_string();
        let watched = vec![Watched::this_process(), Watched::server("n1", &address)];
        let resources = start(watched).finish(1);
        assert!(resources.processes[1].pids.is_empty());
        assert!(
            resources.notes[0].contains("this process itself"),
            "{:?}",
            resources.notes
        );
    }

    /// Serves a page whose counters rise with every request, until it is dropped.
    struct Served {
        address: SocketAddr,
        over: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    }

    impl Served {
        fn start() -> Served {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let over = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&over);
            let thread = thread::spawn(move || {
                for number in 1.. {
                    let (mut stream, _) = listener.accept().unwrap();
                    if seen.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut request = [0; 512];
                    assert!(stream.read(&mut request).unwrap() > 0);
                    let page = format!(
                        "HTTP/1.0 200 OK\r\n\r\nwal_fsync_duration_seconds_count {}\nwal_fsync_duration_seconds_sum {}\n",
                        number * 8,
                        f64::from(number) * 0.5
                    );
                    stream.write_all(page.as_bytes()).unwrap();
                }
            });
            Served {
                address,
                over,
                thread: Some(thread),
            }
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.over.store(true, Ordering::SeqCst);
            let woken = std::net::TcpStream::connect(self.address);
            if let (Ok(_), Some(thread)) = (woken, self.thread.take()) {
                let _ = thread.join();
            }
        }
    }

    #[test]
    fn pages_are_read_at_the_beginning_and_at_the_end() {
        let served = Served::start();
        let watched = Watched {
            metrics: Some(served.address),
            ..Watched::this_process()
        };
        let resources = start(vec![watched]).finish(1);
        assert_eq!(resources.notes, Vec::<String>::new());
        let fsync = resources.processes[0].fsync.as_ref().unwrap();
        assert!(fsync.count >= 8 && fsync.count.is_multiple_of(8), "{fsync:?}");
        assert_eq!((fsync.mean, fsync.p99), (Some(62_500_000), None));
        let last = resources.samples.last().unwrap().processes[0].as_ref().unwrap();
        assert_eq!(
            (last.fsyncs, last.fsync_time),
            (Some(fsync.count), Some(fsync.total))
        );
    }

    #[test]
    fn a_page_that_is_not_there_is_said_once() {
        let (_taken, address) = nobody_listens();
        let watched = Watched {
            metrics: Some(address),
            ..Watched::this_process()
        };
        let resources = start(vec![watched]).finish(1);
        assert_eq!(resources.notes.len(), 1, "{:?}", resources.notes);
        assert!(resources.notes[0].contains("Prometheus page of loadgen"));
        assert_eq!(resources.processes[0].fsync, None);
    }
}
