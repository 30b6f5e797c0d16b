//! When the caller stops waiting.

use std::time::Duration;

use tokio::time::Instant;
use tonic::metadata::MetadataMap;

/// The answer leaves so much before the deadline, or a tenth of it if that is less: the transport cuts calls off at the
/// deadline itself and says only that they were cancelled.
const AHEAD_MAX: Duration = Duration::from_millis(5);

/// The deadline in `grpc-timeout`, a little ahead of it. `None` if there is none, or none that makes sense.
pub(super) fn of(metadata: &MetadataMap) -> Option<Instant> {
    let timeout = parse(metadata.get("grpc-timeout")?.to_str().ok()?)?;
    Instant::now().checked_add(timeout - AHEAD_MAX.min(timeout / 10))
}

/// At most eight digits and a unit, as the protocol of gRPC has it.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let valid = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| valid)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them_and_nothing_else_is() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("4m", Some(Duration::from_millis(4))),
            ("5u", Some(Duration::from_micros(5))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("100000000n", None),
            ("-1S", None),
            ("+1S", None),
            ("S", None),
            ("", None),
            ("1", None),
            ("1x", None),
            ("1\u{e9}", None),
        ] {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }
}
