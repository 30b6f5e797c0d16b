//! CPU time of this process. Never guesses: where the kernel does not tell, there is no number.

use reports::record::Nanos;

use crate::sampling::ProcessStat;

/// CPU time used by all threads of this process so far, to 10 ms.
pub(crate) fn process_cpu() -> Option<Nanos> {
    let stat = ProcessStat::parse(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(stat.cpu_user + stat.cpu_system)
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_cpu_time() {
        assert!(super::process_cpu().is_some());
    }
}
