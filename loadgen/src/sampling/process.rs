//! The books on one process: its counters since the first sample, over every process that had its name.
//!
//! Promises: a counter never falls; a process identifier that now belongs to somebody else is noticed by its start time;
//! what a thread used is kept when it ends. What a process used between its last sample and its end is lost, so a process
//! that is killed has used up to one period more than is written here.

use std::collections::HashMap;
use std::fs;
use std::io;

use reports::record::ProcessSample;

use super::proc::{ProcessStat, Reader, line_number, schedstat, thread_name};

/// Threads of one process that are looked at; what further ones use is in the CPU time and in no other number.
pub(super) const THREADS_MAX: usize = 128;

/// Names of threads that are kept apart; the numbers of further ones are added to the one called `others`.
const THREAD_NAMES_MAX: usize = 64;

/// What a thread used, under its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ThreadTotal {
    pub(super) cpu: u64,
    pub(super) delay: u64,
    pub(super) voluntary: u64,
    pub(super) involuntary: u64,
}

/// Why a process could not be sampled.
#[derive(Debug)]
pub(super) enum Missing {
    /// It has ended, or its identifier now belongs to another.
    Ended,
    /// The kernel does not let us look.
    Unreadable(io::Error),
}

/// One process as long as it lives.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) pid: u32,
    started: u64,
    /// What it had used before the first sample.
    before: Counters,
    last: Counters,
    threads: HashMap<u32, Thread>,
    /// It began after the sampling did, so all that it used belongs to the run.
    young: bool,
    first: bool,
}

#[derive(Debug, Default)]
struct Thread {
    name: String,
    base: ThreadTotal,
    last: ThreadTotal,
}

/// Counters that only rise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) user: u64,
    pub(super) system: u64,
    pub(super) major_faults: u64,
    pub(super) read_bytes: Option<u64>,
    pub(super) write_bytes: Option<u64>,
}

impl Counters {
    fn since(self, before: Counters) -> Counters {
        let both = |now: Option<u64>, then: Option<u64>| Some(now?.saturating_sub(then.unwrap_or(0)));
        Counters {
            user: self.user.saturating_sub(before.user),
            system: self.system.saturating_sub(before.system),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
            read_bytes: both(self.read_bytes, before.read_bytes),
            write_bytes: both(self.write_bytes, before.write_bytes),
        }
    }

    fn and(self, more: Counters) -> Counters {
        // Where one process does not tell, the sum is not known either.
        let both = |one: Option<u64>, other: Option<u64>| one.zip(other).map(|(one, other)| one + other);
        Counters {
            user: self.user + more.user,
            system: self.system + more.system,
            major_faults: self.major_faults + more.major_faults,
            read_bytes: both(self.read_bytes, more.read_bytes),
            write_bytes: both(self.write_bytes, more.write_bytes),
        }
    }
}

/// The books.
#[derive(Debug)]
pub(super) struct ProcessBook {
    pub(super) live: Option<Live>,
    pub(super) pids: Vec<u32>,
    /// Used by processes of this name that have ended.
    ended: Counters,
    threads_ended: HashMap<String, ThreadTotal>,
    pub(super) rss_max: Option<u64>,
    /// Nothing of it could be read at some time, so that sums would be too small.
    pub(super) switches_known: bool,
    pub(super) delay_known: bool,
}

impl Default for ProcessBook {
    fn default() -> ProcessBook {
        ProcessBook {
            live: None,
            pids: Vec::new(),
            ended: Counters {
                read_bytes: Some(0),
                write_bytes: Some(0),
                ..Counters::default()
            },
            threads_ended: HashMap::new(),
            rss_max: None,
            switches_known: true,
            delay_known: true,
        }
    }
}

impl ProcessBook {
    /// Goes on with process `pid`. It counts from zero if it began after `sampling_since` (ticks since the machine was
    /// started), else from what its next sample says.
    pub(super) fn adopt(
        &mut self,
        reader: &mut Reader,
        pid: u32,
        sampling_since: u64,
    ) -> Result<(), Missing> {
        let stat = read_stat(reader, pid)?;
        if stat.ended {
            return Err(Missing::Ended);
        }
        if self.pids.last() != Some(&pid) {
            self.pids.push(pid);
        }
        self.live = Some(Live {
            pid,
            started: stat.started,
            before: Counters::default(),
            last: Counters::default(),
            threads: HashMap::new(),
            young: stat.started >= sampling_since,
            first: true,
        });
        Ok(())
    }

    /// Takes a sample of the process that lives. One that has ended is put into the books with what it had used.
    pub(super) fn sample(&mut self, reader: &mut Reader) -> Result<ProcessSample, Missing> {
        let Some(mut live) = self.live.take() else {
            return Err(Missing::Ended);
        };
        let sampled = self.look(reader, &mut live);
        match sampled {
            Ok(sample) => {
                self.live = Some(live);
                Ok(sample)
            }
            Err(missing) => {
                self.close(live);
                Err(missing)
            }
        }
    }

    fn look(&mut self, reader: &mut Reader, live: &mut Live) -> Result<ProcessSample, Missing> {
        let pid = live.pid;
        let stat = read_stat(reader, pid)?;
        if stat.started != live.started {
            return Err(Missing::Ended);
        }
        let (read_bytes, write_bytes) = match reader.read(format_args!("/proc/{pid}/io")) {
            Ok(text) => (line_number(text, "read_bytes"), line_number(text, "write_bytes")),
            Err(_) => (None, None),
        };
        let counters = Counters {
            user: stat.cpu_user,
            system: stat.cpu_system,
            major_faults: stat.major_faults,
            // One that has ended no longer tells; what it told last is still true.
            read_bytes: read_bytes.or(live.last.read_bytes),
            write_bytes: write_bytes.or(live.last.write_bytes),
        };
        if live.first && !live.young {
            live.before = counters;
        }
        live.last = counters;
        if stat.ended {
            return Err(Missing::Ended);
        }
        self.look_at_threads(reader, live);
        live.first = false;
        let rss_bytes = reader
            .read(format_args!("/proc/{pid}/status"))
            .ok()
            .and_then(|text| line_number(text, "VmRSS"))
            .unwrap_or(0)
            .saturating_mul(1024);
        self.rss_max = self.rss_max.max((rss_bytes > 0).then_some(rss_bytes));
        Ok(self.as_sample(live, &stat, rss_bytes))
    }

    fn as_sample(&self, live: &Live, stat: &ProcessStat, rss_bytes: u64) -> ProcessSample {
        let so_far = self.ended.and(live.last.since(live.before));
        let threads = self.sum_of_threads(Some(live));
        ProcessSample {
            pid: live.pid,
            cpu_user: so_far.user,
            cpu_system: so_far.system,
            rss_bytes,
            threads: stat.threads,
            major_faults: so_far.major_faults,
            voluntary_switches: self.switches_known.then_some(threads.voluntary),
            involuntary_switches: self.switches_known.then_some(threads.involuntary),
            run_queue_delay: self.delay_known.then_some(threads.delay),
            read_bytes: so_far.read_bytes,
            write_bytes: so_far.write_bytes,
            fsyncs: None,
            fsync_time: None,
        }
    }

    fn look_at_threads(&mut self, reader: &mut Reader, live: &mut Live) {
        let pid = live.pid;
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
            return;
        };
        let mut seen = Vec::new();
        for entry in entries.flatten().take(THREADS_MAX) {
            let Some(tid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread may end while we look at it.
            let Ok(times) = reader
                .read(format_args!("/proc/{pid}/task/{tid}/schedstat"))
                .map(schedstat)
            else {
                // The main thread is there as long as the process: a kernel that keeps no such books.
                self.delay_known &= tid != pid;
                continue;
            };
            let Some((cpu, delay)) = times else { continue };
            let Ok(status) = reader.read(format_args!("/proc/{pid}/task/{tid}/status")) else {
                continue;
            };
            let voluntary = line_number(status, "voluntary_ctxt_switches");
            let involuntary = line_number(status, "nonvoluntary_ctxt_switches");
            self.switches_known &= voluntary.is_some() && involuntary.is_some();
            let total = ThreadTotal {
                cpu,
                delay,
                voluntary: voluntary.unwrap_or(0),
                involuntary: involuntary.unwrap_or(0),
            };
            seen.push(tid);
            let name = thread_name(status).unwrap_or("");
            self.thread(live, tid, name, total);
        }
        let ended = live.threads.extract_if(|tid, _| !seen.contains(tid));
        for (_, thread) in ended {
            add(&mut self.threads_ended, &thread);
        }
    }

    fn thread(&mut self, live: &mut Live, tid: u32, name: &str, total: ThreadTotal) {
        let old_process = live.first && !live.young;
        let thread = live.threads.entry(tid).or_insert_with(|| Thread {
            name: String::new(),
            // A thread that came after the first sample counts from its beginning.
            base: if old_process {
                total.clone()
            } else {
                ThreadTotal::default()
            },
            last: ThreadTotal::default(),
        });
        if total.cpu < thread.last.cpu {
            // Another thread with the same number.
            add(&mut self.threads_ended, thread);
            thread.base = ThreadTotal::default();
        }
        if thread.name != name {
            thread.name = name.to_owned();
        }
        thread.last = total;
    }

    fn close(&mut self, live: Live) {
        self.ended = self.ended.and(live.last.since(live.before));
        for thread in live.threads.values() {
            add(&mut self.threads_ended, thread);
        }
    }

    /// What the processes of this name have used so far.
    pub(super) fn counters(&self) -> Counters {
        match &self.live {
            Some(live) => self.ended.and(live.last.since(live.before)),
            None => self.ended,
        }
    }

    /// What the threads have used so far, by name.
    pub(super) fn threads(&self) -> HashMap<String, ThreadTotal> {
        let mut all = self.threads_ended.clone();
        for thread in self.live.iter().flat_map(|live| live.threads.values()) {
            add(&mut all, thread);
        }
        all
    }

    /// The most that a single thread has used of a core, and the longest that one waited for one, nanoseconds. Of those
    /// that ended only sums by name are known, so only threads that live are looked at.
    pub(super) fn busiest(&self) -> Option<(u64, u64)> {
        let live = self.live.as_ref()?;
        let used = live.threads.values().map(Thread::used);
        used.map(|used| (used.cpu, used.delay))
            .reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    fn sum_of_threads(&self, live: Option<&Live>) -> ThreadTotal {
        let living = live
            .into_iter()
            .flat_map(|live| live.threads.values())
            .map(Thread::used);
        self.threads_ended
            .values()
            .cloned()
            .chain(living)
            .fold(ThreadTotal::default(), |mut sum, used| {
                sum.add(&used);
                sum
            })
    }
}

impl Thread {
    fn used(&self) -> ThreadTotal {
        ThreadTotal {
            cpu: self.last.cpu.saturating_sub(self.base.cpu),
            delay: self.last.delay.saturating_sub(self.base.delay),
            voluntary: self.last.voluntary.saturating_sub(self.base.voluntary),
            involuntary: self.last.involuntary.saturating_sub(self.base.involuntary),
        }
    }
}

impl ThreadTotal {
    fn add(&mut self, more: &ThreadTotal) {
        self.cpu += more.cpu;
        self.delay += more.delay;
        self.voluntary += more.voluntary;
        self.involuntary += more.involuntary;
    }
}

fn add(totals: &mut HashMap<String, ThreadTotal>, thread: &Thread) {
    let full = totals.len() >= THREAD_NAMES_MAX && !totals.contains_key(&thread.name);
    let name = if full { "others" } else { thread.name.as_str() };
    totals.entry(name.to_owned()).or_default().add(&thread.used());
}

fn read_stat(reader: &mut Reader, pid: u32) -> Result<ProcessStat, Missing> {
    match reader.read(format_args!("/proc/{pid}/stat")) {
        Ok(text) => ProcessStat::parse(text).ok_or_else(|| {
            Missing::Unreadable(io::Error::new(
                io::ErrorKind::InvalidData,
                "its stat file is not understood",
            ))
        }),
        // Gone before it was opened, or between that and reading.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH) => {
            Err(Missing::Ended)
        }
        Err(error) => Err(Missing::Unreadable(error)),
    }
}

/// What reading a file of a process says that has just ended.
const ESRCH: i32 = nix::errno::Errno::ESRCH as i32;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::process::{Child, Command, Stdio};

    use super::*;

    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A process that waits for input that never comes.
    fn waiting() -> Killed {
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Killed(child.unwrap())
    }

    #[test]
    fn this_process_counts_from_its_first_sample() {
        let (mut reader, mut book) = (Reader::default(), ProcessBook::default());
        book.adopt(&mut reader, std::process::id(), u64::MAX).unwrap();
        let first = book.sample(&mut reader).unwrap();
        assert_eq!((first.cpu_user, first.cpu_system, first.major_faults), (0, 0, 0));
        assert_eq!(first.run_queue_delay.unwrap_or(0), 0);
        assert!(first.rss_bytes > 0 && first.threads > 0);
        // Work until the kernel has counted some of it; it counts in steps of 10 ms.
        let mut last = first;
        while last.cpu_user + last.cpu_system == 0 {
            std::hint::black_box((0..1_000_000_u64).sum::<u64>());
            last = book.sample(&mut reader).unwrap();
        }
        assert_eq!(book.counters().user, last.cpu_user);
        assert!(book.threads().values().any(|thread| thread.cpu > 0));
        assert!(book.busiest().unwrap().0 > 0);
        assert_eq!(book.pids, [std::process::id()]);
    }

    #[test]
    fn a_process_that_was_killed_goes_on_under_its_name() {
        let (mut reader, mut book) = (Reader::default(), ProcessBook::default());
        let mut one = waiting();
        book.adopt(&mut reader, one.0.id(), 0).unwrap();
        let before = book.sample(&mut reader).unwrap();
        one.0.kill().unwrap();
        one.0.wait().unwrap();
        assert!(matches!(book.sample(&mut reader), Err(Missing::Ended)));
        assert!(matches!(book.sample(&mut reader), Err(Missing::Ended)));
        let two = waiting();
        book.adopt(&mut reader, two.0.id(), 0).unwrap();
        let after = book.sample(&mut reader).unwrap();
        assert_eq!(book.pids, [one.0.id(), two.0.id()]);
        assert!(after.cpu_user >= before.cpu_user && after.cpu_system >= before.cpu_system);
        assert!(after.voluntary_switches >= before.voluntary_switches);
    }

    #[test]
    fn a_zombie_has_ended() {
        let (mut reader, mut book) = (Reader::default(), ProcessBook::default());
        let mut child = waiting();
        book.adopt(&mut reader, child.0.id(), 0).unwrap();
        book.sample(&mut reader).unwrap();
        child.0.kill().unwrap();
        // Not reaped yet: its identifier is still there, as that of a dead process, at the latest after a moment.
        while book.sample(&mut reader).is_ok() {}
        assert!(book.adopt(&mut reader, child.0.id(), 0).is_err());
    }

    #[test]
    fn an_identifier_that_belongs_to_somebody_else_is_noticed() {
        let (mut reader, mut book) = (Reader::default(), ProcessBook::default());
        book.adopt(&mut reader, std::process::id(), 0).unwrap();
        book.sample(&mut reader).unwrap();
        book.live.as_mut().unwrap().started += 1;
        assert!(matches!(book.sample(&mut reader), Err(Missing::Ended)));
    }

    #[test]
    fn what_a_thread_used_stays_when_it_ends_or_its_number_is_used_again() {
        let mut book = ProcessBook::default();
        let mut live = Live {
            pid: 1,
            started: 0,
            before: Counters::default(),
            last: Counters::default(),
            threads: HashMap::new(),
            young: false,
            first: true,
        };
        let used = |cpu| ThreadTotal {
            cpu,
            ..ThreadTotal::default()
        };
        book.thread(&mut live, 7, "wal", used(100));
        live.first = false;
        book.thread(&mut live, 7, "wal", used(150));
        book.thread(&mut live, 8, "wal", used(20));
        assert_eq!(book.sum_of_threads(Some(&live)).cpu, 70);
        // Number 7 now belongs to a younger thread.
        book.thread(&mut live, 7, "wal", used(5));
        assert_eq!(book.sum_of_threads(Some(&live)).cpu, 75);
        book.close(live);
        assert_eq!(book.threads()["wal"].cpu, 75);
    }

    #[test]
    fn names_of_threads_are_bounded() {
        let mut totals = HashMap::new();
        for number in 0..1000 {
            let thread = Thread {
                name: format!("t{number}"),
                base: ThreadTotal::default(),
                last: ThreadTotal {
                    cpu: 1,
                    ..ThreadTotal::default()
                },
            };
            add(&mut totals, &thread);
        }
        assert_eq!(totals.len(), THREAD_NAMES_MAX + 1);
        assert_eq!(totals.values().map(|total| total.cpu).sum::<u64>(), 1000);
    }
}
