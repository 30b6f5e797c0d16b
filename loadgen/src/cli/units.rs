//! Numbers as people type them: `5k`, `2.5/s`, `200us`, `put=50,get=50`.
//!
//! Never guesses a unit: a duration without one is refused.

use std::time::Duration;

use reports::record::Operation;

use crate::run::LENGTH_MAX;
use crate::schedule::Rate;
use crate::workload::Mix;

/// A whole number; `k` is a thousand and `m` a million.
pub(super) fn count(text: &str) -> Result<u64, String> {
    scaled(text, 1000, 1)
}

/// A size in bytes; `k` is 1024 and `m` its square.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    scaled(text, 1024, 1).and_then(|bytes| usize::try_from(bytes).map_err(|error| error.to_string()))
}

/// Operations a second, with or without `/s`; down to one in a thousand seconds.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let rate = Rate::per_1000_seconds(scaled(number, 1000, 1000)?);
    if rate.is_zero() {
        return Err("a rate must be above zero (the smallest is 0.001 a second)".into());
    }
    Ok(rate)
}

/// A duration with its unit, a year at most.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error} (write for example 500us, 20ms, 30s, 5m or 1h)"))?;
    match duration <= LENGTH_MAX {
        true => Ok(duration),
        false => Err("nothing may take longer than a year".into()),
    }
}

/// Operations and their weights.
pub(super) fn mix(text: &str) -> Result<Mix, String> {
    let mut weights = Vec::new();
    for part in text.split(',') {
        let (name, weight) = part
            .split_once('=')
            .ok_or_else(|| format!("`{part}` is not of the form operation=weight, as in put=50,get=50"))?;
        let operation = operation(name.trim())?;
        let weight = weight
            .trim()
            .parse()
            .map_err(|_| format!("the weight of `{name}` must be a whole number, not `{weight}`"))?;
        weights.push((operation, weight));
    }
    Mix::new(weights).map_err(|error| error.to_string())
}

/// An operation by its name; `read`, `write` and `update` are understood too.
fn operation(name: &str) -> Result<Operation, String> {
    match name {
        "read" => Ok(Operation::Get),
        "write" | "update" => Ok(Operation::Put),
        _ => {
            let found = Operation::ALL
                .into_iter()
                .find(|operation| operation.as_str() == name);
            let known = Operation::ALL.map(Operation::as_str).join(", ");
            found.ok_or_else(|| format!("there is no operation `{name}`: use {known}"))
        }
    }
}

/// `text` times `unit`, where a suffix multiplies by `kilo` or its square. Exact: no floating point.
fn scaled(text: &str, kilo: u64, unit: u64) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a number such as 500, 20k or 1.5m");
    let (digits, factor) = match text.trim_end_matches(['k', 'K', 'm', 'M']) {
        digits if digits.len() == text.len() => (digits, 1),
        digits if digits.len() + 1 == text.len() => {
            let million = text.ends_with(['m', 'M']);
            (digits, if million { kilo * kilo } else { kilo })
        }
        _ => return Err(wrong()),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
        return Err(wrong());
    }
    let scale = 10_u128.pow(fraction.len() as u32);
    let digits: u128 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let value = digits
        .checked_mul(u128::from(factor) * u128::from(unit))
        .ok_or_else(|| format!("`{text}` is too large"))?;
    if value % scale != 0 {
        return Err(format!(
            "`{text}` has more digits after the point than can be kept"
        ));
    }
    u64::try_from(value / scale).map_err(|_| format!("`{text}` is too large"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numbers_take_suffixes() {
        for (text, expected) in [
            ("0", 0),
            ("12", 12),
            ("5k", 5000),
            ("1.5m", 1_500_000),
            ("2K", 2000),
        ] {
            assert_eq!(count(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "k",
            "-1",
            "1e3",
            "1.5",
            "1.2.3",
            "5kk",
            "5km",
            "0x10",
            " 5",
            "9".repeat(30).as_str(),
        ] {
            assert!(count(text).is_err(), "{text}");
        }
        assert_eq!(
            (bytes("1k"), bytes("1m"), bytes("256")),
            (Ok(1024), Ok(1 << 20), Ok(256))
        );
    }

    #[test]
    fn rates_may_be_fractions_and_never_zero() {
        assert_eq!(rate("5000"), Ok(Rate::per_second(5000)));
        assert_eq!(rate("5k/s"), Ok(Rate::per_second(5000)));
        assert_eq!(rate("2.5"), Ok(Rate::per_1000_seconds(2500)));
        assert!(rate("0").is_err() && rate("0.0001").is_err() && rate("fast").is_err());
    }

    #[test]
    fn durations_need_a_unit() {
        for (text, ms) in [
            ("20ms", 20),
            ("2s", 2000),
            ("1m", 60_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        assert_eq!(duration("500us"), Ok(Duration::from_micros(500)));
        assert!(duration("30").is_err_and(|error| error.contains("30s")));
    }

    #[test]
    fn a_mix_names_operations_and_weights() {
        let expected = Mix::new([(Operation::Put, 50), (Operation::Get, 30), (Operation::Cas, 20)]);
        assert_eq!(mix("put=50, get=30,cas=20").ok(), expected.clone().ok());
        assert_eq!(mix("update=50,read=30,cas=20").ok(), expected.clone().ok());
        assert_eq!(mix("write=25,put=25,read=30,cas=20").ok(), expected.ok());
        let all = Mix::new(Operation::ALL.map(|operation| (operation, 3)));
        assert_eq!(
            mix("get=3,put=3,insert=3,cas=3,delete=3,scan=3,rmw=3").ok(),
            all.ok()
        );
        assert!(mix("put").is_err_and(|error| error.contains("operation=weight")));
        let unknown = mix("swap=5").unwrap_err();
        assert!(
            unknown.contains("no operation `swap`: use get, put, insert, cas"),
            "{unknown}"
        );
        assert!(mix("put=many").is_err_and(|error| error.contains("whole number")));
        assert!(mix("put=0").is_err_and(|error| error.contains("empty")));
    }
}
