//! Decimal numbers as the Java tools write and read them.
//!
//! Promises: what is read is exact to the nanosecond; what is written has the digits that `java.util.Formatter` gives
//! it, which rounds the shortest decimal form of a double half up, while Rust rounds its binary value half to even.

/// Nanoseconds in a second.
const SECOND_NS: i64 = 1_000_000_000;

/// `%.<digits>f` of Java's formatter, for finite numbers from zero up.
pub(super) fn fixed(value: f64, digits: usize) -> String {
    // Rust's shortest form that reads back as the same double is Java's too, and never has an exponent.
    let shortest = format!("{value}");
    let (whole, fraction) = shortest.split_once('.').unwrap_or((&shortest, ""));
    if fraction.len() <= digits {
        let point = if digits > 0 { "." } else { "" };
        return format!("{whole}{point}{fraction:0<digits$}");
    }
    let up = fraction.as_bytes()[digits] >= b'5';
    let mut kept: Vec<u8> = whole.bytes().chain(fraction.bytes().take(digits)).collect();
    if up {
        increment(&mut kept);
    }
    let at = kept.len() - digits;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if digits == 0 {
        text(&kept)
    } else {
        format!("{}.{}", text(&kept[..at]), text(&kept[at..]))
    }
}

/// Adds one to a number of decimal digits.
fn increment(digits: &mut Vec<u8>) {
    for digit in digits.iter_mut().rev() {
        if *digit == b'9' {
            *digit = b'0';
        } else if digit.is_ascii_digit() {
            *digit += 1;
            return;
        }
    }
    digits.insert(0, b'1');
}

/// Seconds with three decimals, as an interval log has them; rounds half up to the millisecond.
pub(super) fn seconds(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ms = (ns.unsigned_abs() + 500_000) / 1_000_000;
    format!("{sign}{}.{:03}", ms / 1000, ms % 1000)
}

/// Seconds to nanoseconds; digits beyond the ninth are cut off. Nothing if it is no plain decimal number or more than
/// 64 bits of nanoseconds.
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let kept = &fraction[..fraction.len().min(9)];
    let below: i64 = format!("{kept:0<9}").parse().ok()?;
    let ns = whole
        .parse::<i64>()
        .ok()?
        .checked_mul(SECOND_NS)?
        .checked_add(below)?;
    Some(if negative { -ns } else { ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_rounded_up_as_java_does() {
        for (value, digits, text) in [
            (0.0625, 3, "0.063"),
            (1.0005, 3, "1.001"),
            (0.0, 3, "0.000"),
            (9.9996, 3, "10.000"),
            (2.5, 0, "3"),
            (1e21, 1, "1000000000000000000000.0"),
            (0.999_938_964_843_75, 12, "0.999938964844"),
            (1e-9, 3, "0.000"),
            (12.0, 2, "12.00"),
        ] {
            assert_eq!(fixed(value, digits), text, "{value}");
        }
    }

    #[test]
    fn seconds_are_read_to_the_nanosecond() {
        for (text, ns) in [
            ("0", Some(0)),
            ("1441812279.474", Some(1_441_812_279_474_000_000)),
            ("0.127", Some(127_000_000)),
            ("0.1234567899", Some(123_456_789)),
            ("-0.5", Some(-500_000_000)),
            ("", None),
            ("1.", None),
            (".5", None),
            ("1e3", None),
            ("+1", None),
            ("NaN", None),
            ("99999999999", None),
        ] {
            assert_eq!(nanoseconds(text), ns, "{text}");
        }
    }

    #[test]
    fn seconds_are_written_with_three_decimals() {
        assert_eq!(seconds(0), "0.000");
        assert_eq!(seconds(1_999_500_000), "2.000");
        assert_eq!(seconds(1_999_499_999), "1.999");
        assert_eq!(seconds(-7_000_000), "-0.007");
        assert_eq!(seconds(i64::MAX), "9223372036.855");
    }
}
