//! What `/proc` says of a process, a thread and the machine. Formats are those of proc(5).
//!
//! Parsing is pure; reading uses one buffer again and again. Never guesses: a field that is not there is absent.

use std::fmt::{Arguments, Write as _};
use std::fs::File;
use std::io::{self, Read};

/// Length of the kernel's clock tick as user space sees it (`USER_HZ`, 100 on every Linux that Rust runs on).
pub(super) const TICK_NS: u64 = 10_000_000;

/// Longest file that is read; what is behind that is left out. `/proc/stat` has a word for each interrupt.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads small files into a buffer that it keeps.
#[derive(Debug, Default)]
pub(super) struct Reader {
    path: String,
    bytes: Vec<u8>,
}

impl Reader {
    /// The text of a file, with a question mark for every byte that is not ASCII (only names of programs have any).
    pub(super) fn read(&mut self, path: Arguments<'_>) -> io::Result<&str> {
        self.path.clear();
        self.path
            .write_fmt(path)
            .expect("a path of text and numbers can be written into a string");
        self.bytes.clear();
        File::open(&self.path)?
            .take(FILE_BYTES_MAX)
            .read_to_end(&mut self.bytes)?;
        for byte in &mut self.bytes {
            if !byte.is_ascii() {
                *byte = b'?';
            }
        }
        Ok(std::str::from_utf8(&self.bytes).expect("everything but ASCII has been replaced"))
    }
}

/// `/proc/PID/stat`, as far as it is of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// The process has ended and waits for its parent.
    pub(super) ended: bool,
    pub(super) major_faults: u64,
    /// Nanoseconds, to 10 ms.
    pub(crate) cpu_user: u64,
    /// Nanoseconds, to 10 ms.
    pub(crate) cpu_system: u64,
    pub(super) threads: u32,
    /// Ticks since the machine was started.
    pub(super) started: u64,
}

impl ProcessStat {
    pub(crate) fn parse(stat: &str) -> Option<ProcessStat> {
        // The name in field 2 may hold anything, parentheses included; what follows starts with field 3.
        let (_, after_name) = stat.rsplit_once(')')?;
        let mut fields = after_name.split_ascii_whitespace();
        let state = fields.next()?;
        // Relative to the field after the one that was taken last.
        let mut number = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
        let major_faults = number(8)?;
        let cpu_user = number(1)?.saturating_mul(TICK_NS);
        let cpu_system = number(0)?.saturating_mul(TICK_NS);
        let threads = number(4)?;
        let started = number(1)?;
        Some(ProcessStat {
            ended: matches!(state, "Z" | "X" | "x"),
            major_faults,
            cpu_user,
            cpu_system,
            threads: u32::try_from(threads).ok()?,
            started,
        })
    }
}

/// The number behind `name` in a file of lines such as `VmRSS:   1760 kB`.
pub(super) fn line_number(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.split_ascii_whitespace().next()?.parse().ok()
    })
}

/// The word behind `Name:` in `/proc/PID/status`.
pub(super) fn thread_name(status: &str) -> Option<&str> {
    status.lines().next()?.strip_prefix("Name:").map(str::trim)
}

/// `schedstat` of a thread: nanoseconds on a core, and nanoseconds ready to run without one.
pub(super) fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut fields = text.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// CPU time of the thread that calls, nanoseconds.
pub(super) fn thread_cpu(reader: &mut Reader) -> Option<u64> {
    let text = reader.read(format_args!("/proc/thread-self/schedstat")).ok()?;
    schedstat(text).map(|(cpu, _)| cpu)
}

/// `/proc/stat`, times in nanoseconds over all processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MachineStat {
    pub(crate) total: u64,
    /// With `iowait`.
    pub(super) idle: u64,
    pub(super) iowait: u64,
    pub(crate) steal: u64,
    pub(super) cores: u32,
    pub(super) context_switches: Option<u64>,
}

impl MachineStat {
    pub(crate) fn parse(stat: &str) -> Option<MachineStat> {
        let mut lines = stat.lines();
        let all = lines.next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; the two for guests are part of user and nice.
        let mut times = [0; 8];
        let mut fields = all.split_ascii_whitespace();
        for time in &mut times {
            *time = fields.next()?.parse::<u64>().ok()?.saturating_mul(TICK_NS);
        }
        let (mut cores, mut context_switches) = (0, None);
        for line in lines {
            if line.starts_with("cpu") {
                cores += 1;
            } else if let Some(count) = line.strip_prefix("ctxt ") {
                context_switches = count.trim().parse().ok();
            }
        }
        Some(MachineStat {
            total: times.iter().sum(),
            idle: times[3] + times[4],
            iowait: times[4],
            steal: times[7],
            cores,
            context_switches,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_name_of_a_process_cannot_confuse_its_fields() {
        let line =
            "42 (a) b (c) S 1 2 3 -1 -1 6 7 8 9 10 150 50 0 0 20 0 5 0 777 1000 33 18446744073709551615";
        let stat = ProcessStat::parse(line).unwrap();
        let expected = ProcessStat {
            ended: false,
            major_faults: 9,
            cpu_user: 1_500_000_000,
            cpu_system: 500_000_000,
            threads: 5,
            started: 777,
        };
        assert_eq!(stat, expected);
        assert!(ProcessStat::parse(&line.replace(") S ", ") Z ")).unwrap().ended);
        for torn in [
            "",
            "42 (x",
            "42 (x) S 1 2",
            "42 (x) S 1 2 3 -1 -1 6 7 8 9 10 many 50 0 0 20 0 5 0 777",
        ] {
            assert_eq!(ProcessStat::parse(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn the_line_of_all_processors_is_added_up_without_the_guests() {
        let text = "cpu  10 20 30 400 50 6 7 80 9 9\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\nintr 5 5\nctxt 246\n";
        let stat = MachineStat::parse(text).unwrap();
        assert_eq!(stat.total, 603 * TICK_NS);
        assert_eq!(
            (stat.idle, stat.iowait, stat.steal),
            (450 * TICK_NS, 50 * TICK_NS, 80 * TICK_NS)
        );
        assert_eq!((stat.cores, stat.context_switches), (2, Some(246)));
        for torn in ["", "cpu  1 2 3\n", "intr 1\n", "cpu  1 2 3 4 5 6 7 x\n"] {
            assert_eq!(MachineStat::parse(torn), None, "{torn:?}");
        }
    }

    #[test]
    fn lines_are_found_by_their_whole_name() {
        let text = "Name:\tload gen\nVmRSSx:\t1 kB\nVmRSS:\t 1760 kB\nvoluntary_ctxt_switches:\t12\n";
        assert_eq!(line_number(text, "VmRSS"), Some(1760));
        assert_eq!(line_number(text, "voluntary_ctxt_switches"), Some(12));
        assert_eq!(line_number(text, "VmR"), None);
        assert_eq!(thread_name(text), Some("load gen"));
        assert_eq!(schedstat("12 34 5\n"), Some((12, 34)));
        assert_eq!(schedstat("12"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_files_of_this_kernel_are_understood() {
        let mut reader = Reader::default();
        let stat = ProcessStat::parse(reader.read(format_args!("/proc/self/stat")).unwrap()).unwrap();
        assert!(!stat.ended && stat.threads > 0 && stat.started > 0);
        let machine = MachineStat::parse(reader.read(format_args!("/proc/stat")).unwrap()).unwrap();
        assert!(machine.total > machine.idle && machine.cores > 0 && machine.context_switches > Some(0));
        assert!(reader.read(format_args!("/proc/self/no-such-file")).is_err());
    }
}
