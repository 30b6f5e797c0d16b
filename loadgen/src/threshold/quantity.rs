//! Numbers with their unit, for sentences.

use reports::record::ThresholdUnit;

/// A number in `unit`, with three digits: `12.3 ms`, `0.05 %`, `900/s`, `never` for an infinite time.
pub fn quantity(value: f64, unit: ThresholdUnit) -> String {
    match unit {
        ThresholdUnit::Nanoseconds if value.is_infinite() => "never".into(),
        ThresholdUnit::Nanoseconds => {
            let (scale, name) = match value {
                ..1e3 => (1.0, "ns"),
                ..1e6 => (1e3, "µs"),
                ..1e9 => (1e6, "ms"),
                _ => (1e9, "s"),
            };
            format!("{} {name}", three_digits(value / scale))
        }
        ThresholdUnit::Share => format!("{} %", three_digits(value * 100.0)),
        ThresholdUnit::PerSecond => format!("{}/s", three_digits(value)),
        ThresholdUnit::Count => format!("{value:.0}"),
    }
}

fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 => 0,
        ..0.1 => 4,
        ..1.0 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        use ThresholdUnit::*;
        for (value, unit, text) in [
            (0.0, Nanoseconds, "0 ns"),
            (68_400.0, Nanoseconds, "68.4 µs"),
            (12_345_678.0, Nanoseconds, "12.3 ms"),
            (2e9, Nanoseconds, "2 s"),
            (f64::INFINITY, Nanoseconds, "never"),
            (0.001, Share, "0.1 %"),
            (0.000_5, Share, "0.05 %"),
            (900.0, PerSecond, "900/s"),
            (20_000.0, PerSecond, "20000/s"),
            (12.0, Count, "12"),
        ] {
            assert_eq!(quantity(value, unit), text);
        }
    }
}
