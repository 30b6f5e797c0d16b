//! What has been sampled so far, and how it is added up at the end.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use reports::record::{
    MachineSample, MachineUse, Nanos, ProcessSample, ProcessUse, ResourceSample, Resources, SAMPLES_MAX,
    THREADS_LISTED_MAX, ThreadUse,
};

use super::fsync::FsyncBook;
use super::ports::{is_proxy, listening_process};
use super::proc::{MachineStat, Reader, TICK_NS, line_number, thread_cpu};
use super::process::{Missing, ProcessBook, ThreadTotal};
use super::sampler::Pages;
use super::thin::Thinned;
use super::watched::{Watched, metrics_address};

/// Shortest time between two searches for the same process. Each looks at the open files of every process.
const SEARCH_EVERY: Nanos = 1_000_000_000;

/// Notes that are kept.
const NOTES_MAX: usize = 64;

#[derive(Debug)]
struct Entry {
    watched: Watched,
    process: ProcessBook,
    fsync: FsyncBook,
    search_after: Nanos,
}

/// The books on everything that is watched.
#[derive(Debug)]
pub(super) struct Books {
    reader: Reader,
    entries: Vec<Entry>,
    pages: Arc<Pages>,
    samples: Thinned<ResourceSample>,
    notes: Notes,
    /// When the sampling began, in ticks since the machine was started.
    since: u64,
    first: Option<(Nanos, MachineStat)>,
    last: Option<(Nanos, MachineStat)>,
    memory: Option<u64>,
    memory_available_min: Option<u64>,
    own_cpu: Option<Nanos>,
}

/// Sentences, each once.
#[derive(Debug, Default)]
struct Notes {
    said: Vec<String>,
    topics: BTreeSet<(usize, &'static str)>,
}

impl Notes {
    /// Says something about process `index`, unless `topic` has been spoken of.
    fn say(&mut self, index: usize, topic: &'static str, sentence: impl FnOnce() -> String) {
        if self.said.len() < NOTES_MAX && self.topics.insert((index, topic)) {
            self.said.push(sentence());
        }
    }
}

impl Books {
    pub(super) fn open(watched: Vec<Watched>, pages: Arc<Pages>) -> Books {
        let mut reader = Reader::default();
        let uptime = reader.read(format_args!("/proc/uptime")).ok().and_then(|text| {
            let seconds: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
            Some((seconds * 1e9 / TICK_NS as f64) as u64)
        });
        let entries: Vec<Entry> = watched
            .into_iter()
            .map(|watched| Entry {
                watched,
                process: ProcessBook::default(),
                fsync: FsyncBook::default(),
                search_after: 0,
            })
            .collect();
        for (index, entry) in entries.iter().enumerate() {
            pages.set_address(index, entry.watched.metrics);
        }
        Books {
            reader,
            entries,
            pages,
            samples: Thinned::new(SAMPLES_MAX),
            notes: Notes::default(),
            since: uptime.unwrap_or(u64::MAX),
            first: None,
            last: None,
            memory: None,
            memory_available_min: None,
            own_cpu: None,
        }
    }

    /// Begins from nothing, with the same processes.
    pub(super) fn open_again(&mut self) {
        let watched = self.entries.iter().enumerate().map(|(index, entry)| {
            while self.pages.take_news(index).is_some() {}
            let pid = entry.process.pids.last().copied();
            Watched {
                pid: pid.or(entry.watched.pid),
                ..entry.watched.clone()
            }
        });
        let books = Books::open(watched.collect(), Arc::clone(&self.pages));
        let notes = std::mem::take(&mut self.notes);
        *self = Books { notes, ..books };
    }

    /// Takes a sample of everything at `time`.
    pub(super) fn sample(&mut self, time: Nanos) {
        let cpu_before = thread_cpu(&mut self.reader);
        let processes = (0..self.entries.len())
            .map(|index| self.sample_process(index, time))
            .collect();
        let machine = self.sample_machine(time);
        self.samples.push(ResourceSample {
            time,
            processes,
            machine,
        });
        if let Some((before, after)) = cpu_before.zip(thread_cpu(&mut self.reader)) {
            *self.own_cpu.get_or_insert(0) += after.saturating_sub(before);
        }
    }

    fn sample_process(&mut self, index: usize, time: Nanos) -> Option<ProcessSample> {
        if self.entries[index].process.live.is_none() {
            self.search(index, time);
        }
        let entry = &mut self.entries[index];
        let from_zero = entry.process.pids.len() > 1;
        while let Some(news) = self.pages.take_news(index) {
            match news {
                Ok(page) => entry.fsync.take_in(page, from_zero),
                Err(why) => self.notes.say(index, "page", || {
                    format!(
                        "the Prometheus page of {} could not be read at some time: {why}",
                        entry.watched.name
                    )
                }),
            }
        }
        entry.process.live.as_ref()?;
        match entry.process.sample(&mut self.reader) {
            Ok(mut sample) => {
                let fsyncs = entry.fsync.count_and_total();
                sample.fsyncs = fsyncs.map(|(count, _)| count);
                sample.fsync_time = fsyncs.map(|(_, total)| total);
                if sample.read_bytes.is_none() {
                    self.notes.say(index, "io", || {
                        format!(
                            "what {} reads and writes is hidden from this user; run as the user it runs as",
                            entry.watched.name
                        )
                    });
                }
                Some(sample)
            }
            Err(Missing::Ended) => None,
            Err(Missing::Unreadable(why)) => {
                self.notes.say(index, "unreadable", || {
                    format!("process {} could not be read: {why}", entry.watched.name)
                });
                None
            }
        }
    }

    /// Looks for a process that is not there, or not there any more.
    fn search(&mut self, index: usize, time: Nanos) {
        let entry = &mut self.entries[index];
        if time < entry.search_after {
            return;
        }
        entry.search_after = time + SEARCH_EVERY;
        let name = &entry.watched.name;
        let first_time = entry.process.pids.is_empty();
        let pid = match (entry.watched.pid.filter(|_| first_time), entry.watched.listens) {
            (Some(pid), _) => pid,
            (None, Some(address)) => match found(&mut self.reader, address) {
                Ok(pid) => pid,
                // One that was there and is gone needs no note: `pids` and the samples show it.
                Err(_) if !first_time => return,
                Err((topic, why)) => {
                    self.notes
                        .say(index, topic, || format!("{name} could not be watched: {why}"));
                    return;
                }
            },
            (None, None) if first_time => {
                self.notes.say(index, "elsewhere", || {
                    format!(
                        "{name} could not be watched: it is on another machine, or its address is not known"
                    )
                });
                return;
            }
            (None, None) => return,
        };
        match entry.process.adopt(&mut self.reader, pid, self.since) {
            Ok(()) => {}
            Err(Missing::Ended) => {
                self.notes.say(index, "gone", || {
                    format!("{name} could not be watched: there is no process {pid}")
                });
                return;
            }
            Err(Missing::Unreadable(why)) => {
                self.notes.say(index, "unreadable", || {
                    format!("process {name} could not be read: {why}")
                });
                return;
            }
        }
        if entry.watched.metrics.is_none()
            && let Ok(text) = self.reader.read(format_args!("/proc/{pid}/cmdline"))
        {
            let words: Vec<&str> = text.split('\0').collect();
            self.pages
                .set_address(index, metrics_address(&words, entry.watched.listens));
        }
    }

    fn sample_machine(&mut self, time: Nanos) -> MachineSample {
        let reader = &mut self.reader;
        let load_average = reader
            .read(format_args!("/proc/loadavg"))
            .ok()
            .and_then(|text| text.split_ascii_whitespace().next()?.parse().ok());
        let memory = reader.read(format_args!("/proc/meminfo")).ok().map(|text| {
            let bytes = |name| line_number(text, name).map(|kilobytes| kilobytes.saturating_mul(1024));
            (bytes("MemTotal"), bytes("MemAvailable"))
        });
        let (total, memory_available_bytes) = memory.unwrap_or_default();
        self.memory = self.memory.or(total);
        self.memory_available_min = match (self.memory_available_min, memory_available_bytes) {
            (Some(least), Some(now)) => Some(least.min(now)),
            (least, now) => least.or(now),
        };
        let stat = reader
            .read(format_args!("/proc/stat"))
            .ok()
            .and_then(MachineStat::parse);
        if let Some(stat) = stat {
            self.first.get_or_insert((time, stat));
            self.last = Some((time, stat));
        }
        MachineSample {
            cpu_total: stat.map(|stat| stat.total),
            cpu_idle: stat.map(|stat| stat.idle),
            iowait: stat.map(|stat| stat.iowait),
            steal: stat.map(|stat| stat.steal),
            context_switches: stat.and_then(|stat| stat.context_switches),
            load_average,
            memory_available_bytes,
        }
    }

    /// Adds everything up.
    pub(super) fn close(self, period: Nanos, ok_operations: u64) -> Resources {
        let (samples_taken, every) = (self.samples.offered(), self.samples.every());
        let samples = self.samples.into_kept();
        let span = match (samples.first(), samples.last()) {
            (Some(first), Some(last)) => last.time.saturating_sub(first.time),
            _ => 0,
        };
        let processes = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| process_use(entry, index, &samples, span, ok_operations))
            .collect();
        let shares = self
            .first
            .zip(self.last)
            .map(|((_, first), (_, last))| (first, last));
        Resources {
            period,
            period_kept: period.saturating_mul(every),
            span,
            samples_taken,
            sampling_cpu: self.own_cpu.map(|cpu| cpu + self.pages.cpu()),
            ok_operations,
            processes,
            machine: MachineUse {
                memory_bytes: self.memory,
                memory_available_min_bytes: self.memory_available_min,
                ..shares.map_or_else(MachineUse::default, |(first, last)| machine_use(&first, &last))
            },
            bottleneck: None,
            notes: self.notes.said,
            samples,
        }
    }
}

/// The server process that listens at `address`, or a topic and why there is none.
fn found(reader: &mut Reader, address: SocketAddr) -> Result<u32, (&'static str, String)> {
    let Some(pid) = listening_process(reader, address) else {
        let why = format!("no process that this user may look at listens at {address}");
        return Err(("nobody", why));
    };
    if pid == std::process::id() {
        let why = format!("{address} is a port of this process itself, which passes on to the server");
        return Err(("own", why));
    }
    let name = reader
        .read(format_args!("/proc/{pid}/comm"))
        .map_or("", str::trim);
    if is_proxy(name) {
        let why = format!("{address} is a port of {name}, which passes on to the server");
        return Err(("proxy", why));
    }
    Ok(pid)
}

fn machine_use(first: &MachineStat, last: &MachineStat) -> MachineUse {
    let total = last.total.saturating_sub(first.total);
    let share = |part: fn(&MachineStat) -> u64| {
        // The kernel may take back a little of idle and iowait.
        let part = part(last).saturating_sub(part(first));
        (total > 0).then(|| (part as f64 / total as f64).min(1.0))
    };
    MachineUse {
        cores: Some(last.cores),
        busy_share: share(|stat| stat.idle).map(|idle| 1.0 - idle),
        steal_share: share(|stat| stat.steal),
        iowait_share: share(|stat| stat.iowait),
        ..MachineUse::default()
    }
}

fn process_use(
    entry: &Entry,
    index: usize,
    samples: &[ResourceSample],
    span: Nanos,
    ok_operations: u64,
) -> ProcessUse {
    let book = &entry.process;
    let mut summary = ProcessUse {
        name: entry.watched.name.clone(),
        role: entry.watched.role,
        pids: book.pids.clone(),
        fsync: entry.fsync.summary(),
        ..ProcessUse::default()
    };
    if book.pids.is_empty() {
        return summary;
    }
    let counters = book.counters();
    let cpu = counters.user + counters.system;
    let share = |time: Nanos| (span > 0).then(|| time as f64 / span as f64);
    let threads = book.threads();
    let busiest = book.busiest();
    summary.cpu = Some(cpu);
    summary.cpu_us_per_ok = (ok_operations > 0).then(|| cpu as f64 / 1e3 / ok_operations as f64);
    summary.cores_used = share(cpu);
    summary.cores_used_max = cores_used_max(samples, index);
    summary.rss_max_bytes = book.rss_max;
    summary.major_faults = Some(counters.major_faults);
    summary.read_bytes = counters.read_bytes;
    summary.write_bytes = counters.write_bytes;
    if book.delay_known {
        summary.busiest_thread = busiest
            .and_then(|(cpu, _)| share(cpu))
            .map(|share| share.min(1.0));
        summary.run_queue_share = busiest.and_then(|(_, delay)| share(delay));
        summary.run_queue_delay = Some(threads.values().map(|thread| thread.delay).sum());
        summary.threads = listed(threads);
    }
    summary
}

fn listed(threads: HashMap<String, ThreadTotal>) -> Vec<ThreadUse> {
    let mut all: Vec<ThreadUse> = threads
        .into_iter()
        .map(|(name, total)| ThreadUse {
            name,
            cpu: total.cpu,
            run_queue_delay: total.delay,
        })
        .collect();
    all.sort_by(|a, b| b.cpu.cmp(&a.cpu).then_with(|| a.name.cmp(&b.name)));
    all.truncate(THREADS_LISTED_MAX);
    all
}

/// Of the stretches between samples that were kept and have the process at both ends.
fn cores_used_max(samples: &[ResourceSample], index: usize) -> Option<f64> {
    let cpu = |sample: &ResourceSample| {
        let process = sample.processes.get(index)?.as_ref()?;
        Some(process.cpu_user + process.cpu_system)
    };
    samples
        .windows(2)
        .filter_map(|pair| {
            let used = cpu(&pair[1])?.saturating_sub(cpu(&pair[0])?);
            let time = pair[1].time.saturating_sub(pair[0].time);
            // The kernel counts CPU time in ticks: in less than ten of them the error is too large.
            (time >= 10 * TICK_NS).then(|| used as f64 / time as f64)
        })
        .reduce(f64::max)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn sample(time: Nanos, cpu: Option<Nanos>) -> ResourceSample {
        let process = cpu.map(|cpu_user| ProcessSample {
            cpu_user,
            ..ProcessSample::default()
        });
        ResourceSample {
            time,
            processes: vec![process],
            ..ResourceSample::default()
        }
    }

    #[test]
    fn the_busiest_stretch_is_long_enough_to_mean_something() {
        const S: Nanos = 1_000_000_000;
        let samples = [
            sample(0, Some(0)),
            sample(S, Some(S / 2)),
            sample(2 * S, Some(S / 2 + 3 * S / 4)),
            // A millisecond in which a whole tick was counted.
            sample(2 * S + 1_000_000, Some(S / 2 + 3 * S / 4 + TICK_NS)),
            sample(3 * S, None),
            sample(4 * S, Some(9 * S)),
        ];
        assert_eq!(cores_used_max(&samples, 0), Some(0.75));
        assert_eq!(cores_used_max(&samples[..1], 0), None);
        assert_eq!(cores_used_max(&samples, 1), None);
    }

    #[test]
    fn shares_of_the_machine_are_differences() {
        let first = MachineStat {
            total: 1000,
            idle: 500,
            iowait: 100,
            steal: 50,
            cores: 2,
            context_switches: None,
        };
        let last = MachineStat {
            total: 2000,
            idle: 700,
            iowait: 90,
            steal: 150,
            ..first
        };
        let used = machine_use(&first, &last);
        assert_eq!(
            (used.busy_share, used.steal_share, used.iowait_share),
            (Some(0.8), Some(0.1), Some(0.0))
        );
        assert_eq!(machine_use(&first, &first).busy_share, None);
    }

    #[test]
    fn a_note_is_made_once_and_notes_have_a_limit() {
        let mut notes = Notes::default();
        notes.say(0, "io", || "first".into());
        notes.say(0, "io", || unreachable!("it has been said"));
        notes.say(1, "io", || "second".into());
        assert_eq!(notes.said, ["first", "second"]);
        (2..1000).for_each(|index| notes.say(index, "io", || "more".into()));
        assert_eq!(notes.said.len(), NOTES_MAX);
    }

    #[test]
    fn threads_are_listed_by_what_they_used() {
        let thread = |cpu| ThreadTotal {
            cpu,
            ..ThreadTotal::default()
        };
        let threads: HashMap<String, ThreadTotal> = (0..20).map(|n| (format!("t{n}"), thread(n))).collect();
        let listed = listed(threads);
        assert_eq!(listed.len(), THREADS_LISTED_MAX);
        assert_eq!((listed[0].name.as_str(), listed[0].cpu), ("t19", 19));
    }
}
