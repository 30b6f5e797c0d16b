//! Numbers as people read them: three digits that matter, always with a unit.
//!
//! Promises that the same number is written the same way on the page and on the terminal.

use crate::record::{CheckStatus, Function, Nanos, Outcome, Role};

/// A length of time: `850 ns`, `1.23 ms`, `12.3 s`, `4 min 10 s`.
pub(crate) fn duration(nanos: Nanos) -> String {
    let n = nanos as f64;
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..999_500 => format!("{} µs", three_digits(n / 1e3)),
        999_500..999_500_000 => format!("{} ms", three_digits(n / 1e6)),
        999_500_000..119_950_000_000 => format!("{} s", three_digits(n / 1e9)),
        _ => {
            let seconds = nanos.saturating_add(500_000_000) / 1_000_000_000;
            match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
                (0, minutes, 0) => format!("{minutes} min"),
                (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
                (hours, minutes, _) => format!("{} h {minutes} min", grouped(hours)),
            }
        }
    }
}

/// A moment of the run: seconds to the millisecond, as in the logs.
pub(crate) fn moment(nanos: Nanos) -> String {
    format!(
        "{}.{:03} s",
        grouped(nanos / 1_000_000_000),
        nanos / 1_000_000 % 1000
    )
}

/// A count with thin groups: `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Operations a second.
pub(crate) fn rate(per_second: f64) -> String {
    if !per_second.is_finite() {
        "–".into()
    } else if per_second >= 1000.0 {
        format!("{}/s", grouped(per_second.round() as u64))
    } else {
        format!("{}/s", three_digits(per_second))
    }
}

/// A share, which never rounds to all or nothing unless it is.
pub(crate) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".into();
    }
    let percent = part as f64 / whole as f64 * 100.0;
    match percent {
        p if part == 0 || part == whole => format!("{p:.0} %"),
        p if p < 0.01 => "<0.01 %".into(),
        p if p > 99.99 => ">99.99 %".into(),
        p if !(10.0..90.0).contains(&p) => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// A size in memory.
pub(crate) fn bytes(n: u64) -> String {
    let n = n as f64;
    match n {
        n if n < 1024.0 => format!("{n:.0} B"),
        n if n < 1024.0 * 1024.0 => format!("{} KiB", three_digits(n / 1024.0)),
        n if n < 1024.0 * 1024.0 * 1024.0 => format!("{} MiB", three_digits(n / 1024.0 / 1024.0)),
        n => format!("{} GiB", three_digits(n / 1024.0 / 1024.0 / 1024.0)),
    }
}

/// `one fault`, `3 faults`.
pub(crate) fn plural(n: u64, noun: &str) -> String {
    if n == 1 {
        format!("1 {noun}")
    } else {
        format!("{} {noun}s", grouped(n))
    }
}

/// Three digits that matter, without an exponent.
pub(crate) fn three_digits(value: f64) -> String {
    match value.abs() {
        // The bounds are where rounding would make a fourth digit.
        v if v >= 99.95 || v == 0.0 => format!("{value:.0}"),
        v if v >= 9.995 => format!("{value:.1}"),
        v if v >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The word for an operation.
pub(crate) fn function(f: Function) -> &'static str {
    match f {
        Function::Read => "read",
        Function::Write => "write",
        Function::Cas => "cas",
        Function::Delete => "delete",
    }
}

/// The word for a role.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Down => "down",
        Role::Unreachable => "unreachable",
    }
}

/// The word for an outcome.
pub(crate) fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "pass",
        Outcome::Interrupted => "interrupted",
        Outcome::Inconclusive => "inconclusive",
        Outcome::Error => "error",
        Outcome::Liveness => "liveness violation",
        Outcome::Violation => "violation",
    }
}

/// The word for what came of a check.
pub(crate) fn check_status(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Pass => "pass",
        CheckStatus::Violation => "violation",
        CheckStatus::Liveness => "liveness violation",
        CheckStatus::Inconclusive => "inconclusive",
    }
}

/// The command as one can paste it into a shell.
pub(crate) fn command(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits_and_a_unit() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_234, "1.23 µs"),
            (999_499, "999 µs"),
            (999_600, "1.00 ms"),
            (12_345_678, "12.3 ms"),
            (999_499_999, "999 ms"),
            (999_999_999, "1.00 s"),
            (119_000_000_000, "119 s"),
            (120_000_000_000, "2 min"),
            (250_400_000_000, "4 min 10 s"),
            (7_260_000_000_000, "2 h 1 min"),
        ] {
            assert_eq!(duration(nanos), text, "{nanos}");
        }
        assert!(duration(u64::MAX).ends_with("min"));
    }

    #[test]
    fn shares_never_round_to_all_or_nothing() {
        assert_eq!(share(0, 0), "–");
        assert_eq!(share(0, 10), "0 %");
        assert_eq!(share(10, 10), "100 %");
        assert_eq!(share(1, 1_000_000), "<0.01 %");
        assert_eq!(share(999_999, 1_000_000), ">99.99 %");
        assert_eq!(share(1, 3), "33.3 %");
    }

    #[test]
    fn counts_rates_and_sizes() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(123), "123");
        assert_eq!(rate(398.24), "398/s");
        assert_eq!(rate(12_345.6), "12,346/s");
        assert_eq!(rate(f64::NAN), "–");
        assert_eq!(bytes(8 << 30), "8.00 GiB");
        assert_eq!(plural(1, "fault"), "1 fault");
        assert_eq!(plural(1200, "fault"), "1,200 faults");
    }

    #[test]
    fn a_command_survives_the_shell() {
        let words = ["chaos", "run", "my file.yaml", "it's", "$HOME", ""].map(String::from);
        assert_eq!(command(&words), r"chaos run 'my file.yaml' 'it'\''s' '$HOME' ''");
    }
}
