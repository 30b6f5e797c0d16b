//! CPU time of this process, and of the machine. Never guesses: where the kernel does not tell, there is no number.

use reports::record::Nanos;

use crate::sampling::{MachineStat, ProcessStat};

/// CPU time used by all threads of this process so far, to 10 ms.
pub(crate) fn process_cpu() -> Option<Nanos> {
    let stat = ProcessStat::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(stat.cpu_user + stat.cpu_system)
}

/// What the cores of this machine did so far; nothing where the kernel does not tell.
pub(crate) fn machine_time() -> Option<MachineStat> {
    MachineStat::parse(&std::fs::read_to_string("/proc/stat").ok()?)
}

/// Part of the time between two readings that the host of this machine gave to others.
pub(crate) fn stolen(before: MachineStat, after: MachineStat) -> Option<f64> {
    let total = after.total.checked_sub(before.total).filter(|total| *total > 0)?;
    Some(after.steal.saturating_sub(before.steal) as f64 / total as f64)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_the_host_took_is_a_part_of_all_time() {
        let at = |line: &str| super::MachineStat::parse(line);
        let before = at("cpu  10 0 10 70 0 0 0 10 0 0\ncpu0 1");
        let after = at("cpu  60 0 60 140 0 0 0 40 9 9");
        let stolen = before
            .zip(after)
            .and_then(|(before, after)| super::stolen(before, after));
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
