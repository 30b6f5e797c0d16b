//! Operations a second, exact to a thousandth.
//!
//! Promises that what was typed is what is planned: no floating point between the text and the number. Never rounds; a
//! text that cannot be kept exactly is refused.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::PlanError;

/// The highest rate that a staged plan may have: one operation a nanosecond, which is the resolution of a plan.
pub const RATE_MAX: Rate = Rate::per_second(1_000_000_000);

/// Operations a second, in thousandths, so that plans are computed in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Rate {
    per_1000_seconds: u64,
}

impl Rate {
    /// Nothing ever starts.
    pub const ZERO: Rate = Rate::per_second(0);

    /// Whole operations a second.
    pub const fn per_second(operations: u64) -> Rate {
        Rate {
            per_1000_seconds: operations * 1000,
        }
    }

    /// Operations in a thousand seconds: 2500 is 2.5 a second.
    pub const fn per_1000_seconds(operations: u64) -> Rate {
        Rate {
            per_1000_seconds: operations,
        }
    }

    /// Operations a second as a plain number.
    pub fn as_f64(self) -> f64 {
        self.per_1000_seconds as f64 / 1000.0
    }

    /// Whether nothing would ever start.
    pub fn is_zero(self) -> bool {
        self.per_1000_seconds == 0
    }

    /// Operations in a thousand seconds.
    pub(super) const fn thousandths(self) -> u64 {
        self.per_1000_seconds
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", self.as_f64())
    }
}

/// Reads `500`, `2.5`, `20k` and `1.5m`, each with or without `/s`. Zero is a rate here: a stage may be a pause.
impl FromStr for Rate {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Rate, PlanError> {
        let refuse = |reason: &str| PlanError::text(text, reason);
        let number = text.strip_suffix("/s").unwrap_or(text);
        let (digits, factor) = match number.as_bytes().last() {
            Some(b'k' | b'K') => (&number[..number.len() - 1], 1_000),
            Some(b'm' | b'M') => (&number[..number.len() - 1], 1_000_000),
            _ => (number, 1),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) || fraction.len() > 9 {
            return Err(refuse("is not a rate such as 500, 2.5, 20k or 1.5m"));
        }
        let scale = 10_u128.pow(fraction.len() as u32);
        let digits: u128 = format!("{whole}{fraction}")
            .parse()
            .map_err(|_| refuse("is too large for a rate"))?;
        let value = digits
            .checked_mul(factor * 1000)
            .ok_or_else(|| refuse("is too large for a rate"))?;
        if value % scale != 0 {
            return Err(refuse(
                "has more digits than a thousandth of an operation a second",
            ));
        }
        let rate = u64::try_from(value / scale).map(Rate::per_1000_seconds);
        rate.ok()
            .filter(|rate| *rate <= RATE_MAX)
            .ok_or_else(|| refuse("is above the highest rate, 1000m (one operation a nanosecond)"))
    }
}
