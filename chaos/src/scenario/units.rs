//! Numbers with units as they stand in a scenario file: `30s`, `400/s`, `64KB/s`.
//!
//! A number without its unit is refused, with the allowed form in the message.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, or a moment after the start of the load: `30s`, `500ms`, `1.5s`, `2m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// Operations a second: `400/s`, `0.5/s`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// Bytes a second: `500B/s`, `64KB/s`, `1MB/s`; a K is 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(pub u64);

/// A deadline that can be switched off: `10s`, `true` (ten seconds) or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Within {
    /// Not looked at.
    Off,
    /// By then.
    By(Span),
}

impl Within {
    /// What `true` stands for.
    pub const DEFAULT: Within = Within::By(Span(Duration::from_secs(10)));

    /// The deadline, if there is one.
    pub fn deadline(self) -> Option<Duration> {
        match self {
            Within::Off => None,
            Within::By(span) => Some(span.0),
        }
    }
}

const SPAN_FORM: &str = "a duration such as 30s, 500ms or 2m";
const RATE_FORM: &str = "operations a second such as 400/s";
const BYTE_RATE_FORM: &str = "bytes a second such as 64KB/s or 1MB/s";

/// Splits `1.5s` into its number and what follows.
fn number_and_unit(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then(|| (number, text[end..].trim_start()))
}

fn refusal(text: &str, form: &str) -> String {
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.') {
        return format!("`{text}` has no unit, expected {form}");
    }
    format!("`{text}` is not {form}")
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text).ok_or_else(|| refusal(text, SPAN_FORM))?;
        let nanos_per_unit = match unit {
            "us" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(refusal(text, SPAN_FORM)),
        };
        let nanos = (number * nanos_per_unit).round();
        // Thirty days: beyond any run, and far below where a sum of two could overflow.
        if nanos > 30.0 * 24.0 * 3600e9 {
            return Err(format!("`{text}` is longer than thirty days"));
        }
        Ok(Span(Duration::from_nanos(nanos as u64)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        match nanos {
            _ if nanos.is_multiple_of(1_000_000_000) => write!(f, "{}s", nanos / 1_000_000_000),
            _ if nanos.is_multiple_of(1_000_000) => write!(f, "{}ms", nanos / 1_000_000),
            _ if nanos.is_multiple_of(1_000) => write!(f, "{}us", nanos / 1_000),
            _ => write!(f, "{}us", nanos as f64 / 1e3),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match number_and_unit(text) {
            Some((number, "/s")) => Ok(Rate(number)),
            _ => Err(refusal(text, RATE_FORM)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.0)
    }
}

impl FromStr for ByteRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text).ok_or_else(|| refusal(text, BYTE_RATE_FORM))?;
        let bytes = match unit {
            "B/s" => number,
            "KB/s" | "kB/s" => number * 1e3,
            "MB/s" => number * 1e6,
            _ => return Err(refusal(text, BYTE_RATE_FORM)),
        };
        Ok(ByteRate(bytes.round() as u64))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes > 0 && bytes.is_multiple_of(1_000_000) => write!(f, "{}MB/s", bytes / 1_000_000),
            bytes if bytes > 0 && bytes.is_multiple_of(1_000) => write!(f, "{}KB/s", bytes / 1_000),
            bytes => write!(f, "{bytes}B/s"),
        }
    }
}

/// Reads text through `FromStr`; a bare number is passed on as its text, so that the message can name the unit.
struct TextVisitor<T> {
    form: &'static str,
    read: fn(&str) -> Result<T, String>,
}

impl<T> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.form)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

macro_rules! as_text {
    ($($type:ty, $form:expr;)*) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(TextVisitor { form: $form, read: <$type>::from_str })
            }
        }
    )*};
}

as_text! {
    Span, SPAN_FORM;
    Rate, RATE_FORM;
    ByteRate, BYTE_RATE_FORM;
}

impl Serialize for Within {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Within::Off => serializer.serialize_bool(false),
            Within::By(span) => span.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WithinVisitor;

        impl Visitor<'_> for WithinVisitor {
            type Value = Within;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a deadline such as 10s, or true or false")
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Within, E> {
                Ok(if on { Within::DEFAULT } else { Within::Off })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Within, E> {
                text.parse().map(Within::By).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Within, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Within, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Within, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(WithinVisitor)
    }
}
