//! CPU time of this process. Never guesses: where the kernel does not tell, there is no number.

use reports::record::Nanos;

use crate::sampling::ProcessStat;

/// CPU time used by all threads of this process so far, to 10 ms.
pub(crate) fn process_cpu() -> Option<Nanos> {
    let stat = ProcessStat::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(stat.cpu_user + stat.cpu_system)
}

/// Time of all cores of this machine so far, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MachineTime {
    total: u64,
    steal: u64,
}

impl MachineTime {
    /// Part of the time since then that the host of this machine gave to others.
    pub(crate) fn stolen_since(self, before: MachineTime) -> Option<f64> {
        let total = self.total.checked_sub(before.total).filter(|total| *total > 0)?;
        Some(self.steal.saturating_sub(before.steal) as f64 / total as f64)
    }
}

/// What the cores of this machine did so far; nothing where the kernel does not tell.
pub(crate) fn machine_time() -> Option<MachineTime> {
    parse_machine(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// user nice system idle iowait irq softirq steal; the two for guests are part of user and nice.
fn parse_machine(stat: &str) -> Option<MachineTime> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line
        .split_ascii_whitespace()
        .take(8)
        .map_while(|time| time.parse().ok())
        .collect();
    Some(MachineTime {
        total: times.iter().sum(),
        steal: *times.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_host_took_is_a_part_of_all_time() {
        let at = |line: &str| super::parse_machine(line);
        let before = at("cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1");
        let after = at("cpu  60 0 60 140 0 0 0 40 9 9");
        let stolen = before
            .zip(after)
            .and_then(|(before, after)| after.stolen_since(before));
        assert_eq!(stolen, Some(0.15));
        assert_eq!(at("cpu  1 2 3"), None);
        assert_eq!(at(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_cpu_time() {
        assert!(super::process_cpu().is_some());
    }
}
