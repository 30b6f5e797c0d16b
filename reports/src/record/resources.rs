//! `resources.json`: what the processes of a run and the machine below them used, over time and in all, and what limited
//! the run.
//!
//! Promises: every number is absent where it could not be read, never guessed; counters are what the kernel or the store
//! said, from the first sample on; a process that was killed and started again goes on under its name, with its
//! counters added up. Never holds more than [`SAMPLES_MAX`] samples: at the limit every other one was left out, and from
//! then on samples were kept half as often.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::error::io_error;
use super::{Machine, Nanos, RecordError, RunFolder};

/// Name of the resources in a run folder.
pub const RESOURCES_FILE: &str = "resources.json";

/// Samples kept of one run.
pub const SAMPLES_MAX: usize = 1000;

/// Threads of a process that its summary names, the busiest first.
pub const THREADS_LISTED_MAX: usize = 8;

/// What was used, by whom, and what limited the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Time between two samples that were taken, nanoseconds.
    pub period: Nanos,
    /// Time between two samples that were kept, nanoseconds; longer than `period` after a long run.
    pub period_kept: Nanos,
    /// From the first sample to the last, nanoseconds; what the shares below are shares of.
    pub span: Nanos,
    /// Samples that were taken, those left out since included.
    pub samples_taken: u64,
    /// CPU time that the sampling itself used, nanoseconds.
    pub sampling_cpu: Option<Nanos>,
    /// Operations answered well, by which CPU time is divided.
    pub ok_operations: u64,
    /// The processes and what each used in all.
    pub processes: Vec<ProcessUse>,
    /// What was used on the whole machine.
    pub machine: MachineUse,
    /// What limited the run, if somebody has judged it.
    pub bottleneck: Option<Bottleneck>,
    /// What could not be read, in sentences, each once.
    pub notes: Vec<String>,
    /// How the numbers grew, in the order of their times.
    pub samples: Vec<ResourceSample>,
}

/// Which side of the wire a process is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessRole {
    /// It asks.
    Client,
    /// It answers.
    #[default]
    Server,
}

/// What one process used between the first sample and the last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessUse {
    /// Name of the node or of the generator.
    pub name: String,
    /// Which side it is on.
    pub role: ProcessRole,
    /// Process identifiers that it had, in their order; more than one if it was started again. Empty if it was never seen.
    pub pids: Vec<u32>,
    /// CPU time, user and system, nanoseconds.
    pub cpu: Option<Nanos>,
    /// CPU microseconds for each operation that the run answered well.
    pub cpu_us_per_ok: Option<f64>,
    /// Cores it kept busy on average; 1 is one whole core.
    pub cores_used: Option<f64>,
    /// Cores that it kept busy in its busiest stretch between two samples that were kept.
    pub cores_used_max: Option<f64>,
    /// Cores that its busiest thread kept busy on average, at most 1.
    pub busiest_thread: Option<f64>,
    /// The busiest threads, the busiest first, those of one name added up; at most [`THREADS_LISTED_MAX`].
    pub threads: Vec<ThreadUse>,
    /// Most memory that was resident at any sample, bytes.
    pub rss_max_bytes: Option<u64>,
    /// Page faults that had to wait for the disk.
    pub major_faults: Option<u64>,
    /// Time that its threads were ready to run and had no core, nanoseconds, added up over threads.
    pub run_queue_delay: Option<Nanos>,
    /// The same, of the thread that waited longest, as a share of the span.
    pub run_queue_share: Option<f64>,
    /// Bytes that it made the disk read.
    pub read_bytes: Option<u64>,
    /// Bytes that it made the disk write.
    pub write_bytes: Option<u64>,
    /// What it said of its disk.
    pub fsync: Option<FsyncUse>,
}

/// What the threads of one name used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThreadUse {
    /// Its name, as the kernel knows it (at most 15 bytes).
    pub name: String,
    /// CPU time, nanoseconds.
    pub cpu: Nanos,
    /// Time that it was ready to run and had no core, nanoseconds.
    pub run_queue_delay: Nanos,
}

/// What a store said of the time its log takes to reach the disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FsyncUse {
    /// How many there were.
    pub count: u64,
    /// Time spent in them, nanoseconds.
    pub total: Nanos,
    /// Mean, nanoseconds.
    pub mean: Option<Nanos>,
    /// Half of them took at most this long, nanoseconds: the upper edge of the store's own histogram bucket. Absent where
    /// the store has no histogram.
    pub p50: Option<Nanos>,
    /// 99 % of them took at most this long; see `p50`.
    pub p99: Option<Nanos>,
    /// The longest since the store began, where it says so, nanoseconds.
    pub max: Option<Nanos>,
}

/// What was used on the whole machine between the first sample and the last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineUse {
    /// Logical processors that were on line.
    pub cores: Option<u32>,
    /// Share of the processors' time in which they were not idle; waiting for a disk counts as idle, steal as busy.
    pub busy_share: Option<f64>,
    /// Share of the processors' time that the hypervisor gave to others.
    pub steal_share: Option<f64>,
    /// Share of the processors' time that was idle with a disk request out.
    pub iowait_share: Option<f64>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Least memory that was available at any sample, bytes.
    pub memory_available_min_bytes: Option<u64>,
    /// Median of the disk's own probe before the run, nanoseconds; see [`super::Machine::fsync_p50`].
    pub probe_fsync_p50: Option<Nanos>,
    /// 99th percentile of the disk's own probe before the run, nanoseconds.
    pub probe_fsync_p99: Option<Nanos>,
}

/// How far the counters had come at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceSample {
    /// On the clock of the run.
    pub time: Nanos,
    /// One for each of [`Resources::processes`], in their order; absent where the process was not there.
    pub processes: Vec<Option<ProcessSample>>,
    /// The whole machine.
    pub machine: MachineSample,
}

/// How far the counters of one process had come. They count from the first sample of the run, over all processes that
/// had the name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessSample {
    /// Its identifier.
    pub pid: u32,
    /// CPU time in user mode so far, nanoseconds.
    pub cpu_user: Nanos,
    /// CPU time in the kernel so far, nanoseconds.
    pub cpu_system: Nanos,
    /// Memory resident now, bytes.
    pub rss_bytes: u64,
    /// Threads now.
    pub threads: u32,
    /// Page faults so far that had to wait for the disk.
    pub major_faults: u64,
    /// How often its threads have given up a core because they had nothing to do.
    pub voluntary_switches: Option<u64>,
    /// How often a core was taken from its threads.
    pub involuntary_switches: Option<u64>,
    /// Time so far that its threads were ready to run and had no core, nanoseconds.
    pub run_queue_delay: Option<Nanos>,
    /// Bytes so far that it made the disk read.
    pub read_bytes: Option<u64>,
    /// Bytes so far that it made the disk write.
    pub write_bytes: Option<u64>,
    /// Fsyncs so far, as the store says.
    pub fsyncs: Option<u64>,
    /// Time spent in them so far, nanoseconds, as the store says.
    pub fsync_time: Option<Nanos>,
}

/// How far the counters of the machine had come since it was started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSample {
    /// Time of all processors, nanoseconds.
    pub cpu_total: Option<Nanos>,
    /// Of which they were idle, waiting for a disk included.
    pub cpu_idle: Option<Nanos>,
    /// Of which a disk request was out.
    pub iowait: Option<Nanos>,
    /// Of which the hypervisor gave to others.
    pub steal: Option<Nanos>,
    /// Context switches.
    pub context_switches: Option<u64>,
    /// Load average over one minute.
    pub load_average: Option<f64>,
    /// Memory that could be had without swapping, bytes.
    pub memory_available_bytes: Option<u64>,
}

/// What limited a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bottleneck {
    /// What kind of thing.
    pub kind: BottleneckKind,
    /// One line for people, with the numbers that say so.
    pub sentence: String,
}

/// Kinds of things that limit a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BottleneckKind {
    /// The generator itself.
    Client,
    /// Cores of the servers or of the machine.
    Cpu,
    /// The disk of the servers.
    Disk,
    /// The way between client and servers.
    Network,
    /// Operations waited although nothing was near its limit: a lock, a queue or a window in the store.
    Queue,
    /// Memory of the machine.
    Memory,
    /// Other guests of the same host.
    Steal,
    /// Nothing was near its limit.
    None,
    /// The samples do not tell.
    Unknown,
}

impl BottleneckKind {
    /// The name that record, command line and pages share.
    pub fn as_str(self) -> &'static str {
        match self {
            BottleneckKind::Client => "client",
            BottleneckKind::Cpu => "cpu",
            BottleneckKind::Disk => "disk",
            BottleneckKind::Network => "network",
            BottleneckKind::Queue => "queue",
            BottleneckKind::Memory => "memory",
            BottleneckKind::Steal => "steal",
            BottleneckKind::None => "none",
            BottleneckKind::Unknown => "unknown",
        }
    }
}

impl Resources {
    /// Takes over what the probe of the disk said before the run.
    pub fn set_probe(&mut self, machine: &Machine) {
        self.machine.probe_fsync_p50 = machine.fsync_p50;
        self.machine.probe_fsync_p99 = machine.fsync_p99;
    }

    /// CPU microseconds that one side used for each operation answered well; absent unless every process of that side
    /// was seen.
    pub fn cpu_us_per_ok(&self, role: ProcessRole) -> Option<f64> {
        let mut of_role = self
            .processes
            .iter()
            .filter(|process| process.role == role)
            .peekable();
        of_role.peek()?;
        of_role.map(|process| process.cpu_us_per_ok).sum()
    }
}

impl RunFolder {
    /// Writes `resources.json`.
    pub fn write_resources(&self, resources: &Resources) -> Result<(), RecordError> {
        let path = self.file(RESOURCES_FILE);
        // Without indentation, unlike the other documents: nine tenths of it are numbers for a chart.
        let text = serde_json::to_vec(resources).map_err(|source| RecordError::Malformed { path, source })?;
        self.write_file(RESOURCES_FILE, &text).map(drop)
    }

    /// Reads `resources.json`, if there is one.
    pub fn read_resources(&self) -> Result<Option<Resources>, RecordError> {
        let path = self.file(RESOURCES_FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|source| RecordError::Malformed { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn process(role: ProcessRole, cpu_us_per_ok: Option<f64>) -> ProcessUse {
        ProcessUse {
            role,
            cpu_us_per_ok,
            ..ProcessUse::default()
        }
    }

    #[test]
    fn a_side_has_a_cost_only_if_all_of_it_was_seen() {
        let mut resources = Resources::default();
        assert_eq!(resources.cpu_us_per_ok(ProcessRole::Server), None);
        resources.processes = vec![
            process(ProcessRole::Client, Some(30.0)),
            process(ProcessRole::Server, Some(40.0)),
            process(ProcessRole::Server, Some(20.0)),
        ];
        assert_eq!(resources.cpu_us_per_ok(ProcessRole::Client), Some(30.0));
        assert_eq!(resources.cpu_us_per_ok(ProcessRole::Server), Some(60.0));
        resources.processes.push(process(ProcessRole::Server, None));
        assert_eq!(resources.cpu_us_per_ok(ProcessRole::Server), None);
    }

    #[test]
    fn the_probe_of_the_disk_is_taken_over() {
        let mut resources = Resources::default();
        resources.set_probe(&Machine {
            fsync_p50: Some(3),
            fsync_p99: Some(9),
            ..Machine::default()
        });
        let machine = resources.machine;
        assert_eq!(
            (machine.probe_fsync_p50, machine.probe_fsync_p99),
            (Some(3), Some(9))
        );
    }

    #[test]
    fn the_document_comes_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path().join("run")).unwrap();
        assert_eq!(folder.read_resources().unwrap(), None);
        let resources = Resources {
            span: 5,
            processes: vec![process(ProcessRole::Client, Some(1.5))],
            samples: vec![ResourceSample {
                time: 3,
                processes: vec![None, Some(ProcessSample::default())],
                ..ResourceSample::default()
            }],
            bottleneck: Some(Bottleneck {
                kind: BottleneckKind::Disk,
                sentence: "disk: it is slow".into(),
            }),
            ..Resources::default()
        };
        folder.write_resources(&resources).unwrap();
        assert_eq!(folder.read_resources().unwrap(), Some(resources));
    }

    #[test]
    fn fields_of_other_versions_are_ignored_and_absent_ones_have_their_default() {
        let text = r#"{"span": 7, "later": true, "processes": [{"name": "n1", "colour": "red"}]}"#;
        let resources: Resources = serde_json::from_str(text).unwrap();
        assert_eq!((resources.span, resources.processes[0].name.as_str()), (7, "n1"));
        assert_eq!(resources.processes[0].cpu, None);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_absence() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RunFolder::create(dir.path().join("run")).unwrap();
        fs::write(folder.file(RESOURCES_FILE), "{\"span\": ").unwrap();
        let error = folder.read_resources().unwrap_err();
        assert!(matches!(error, RecordError::Malformed { .. }), "{error}");
    }

    #[test]
    fn kinds_are_called_the_same_in_the_record_and_in_words() {
        for kind in [
            BottleneckKind::Client,
            BottleneckKind::Cpu,
            BottleneckKind::Disk,
            BottleneckKind::Network,
            BottleneckKind::Queue,
            BottleneckKind::Memory,
            BottleneckKind::Steal,
            BottleneckKind::None,
            BottleneckKind::Unknown,
        ] {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(text, format!("\"{}\"", kind.as_str()));
        }
    }
}
