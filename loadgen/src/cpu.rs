//! CPU time of this process. Never guesses: where the kernel does not tell, there is no number.

use reports::record::Nanos;

/// Length of the kernel's clock tick as user space sees it (`USER_HZ`, 100 on every Linux that Rust runs on).
const TICK_NS: u64 = 10_000_000;

/// CPU time used by all threads of this process so far, to 10 ms.
pub(crate) fn process_cpu() -> Option<Nanos> {
    parse(&std::fs::read_to_string("/proc/self/stat").ok()?)
}

/// User and system time are fields 14 and 15; the name in field 2 may hold anything, parentheses included.
fn parse(stat: &str) -> Option<Nanos> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * TICK_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_process_cannot_confuse_the_fields() {
        let line = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1";
        assert_eq!(parse(line), Some(2_000_000_000));
        assert_eq!(parse("42 (x) S 1"), None);
        assert_eq!(parse(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_a_cpu_time() {
        assert!(process_cpu().is_some());
    }
}
