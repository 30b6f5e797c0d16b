//! How far another machine's clock is from ours.
//!
//! The exchange is that of NTP (RFC 5905, section 8): four times, of which the outer two are ours and the inner two theirs. The
//! true offset lies within half the round trip of the estimate, whatever the delays of the two ways were. Of several exchanges
//! the one with the shortest round trip is kept, as NTP's clock filter does (section 10). Never smooths or follows drift: a run
//! is short against the drift of a clock (a clock off by 50 ppm drifts by 3 ms in a minute, which the error does not contain).

use reports::record::Nanos;
use serde::Serialize;

/// One question for the time. All in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Our clock when the question left.
    pub asked: Nanos,
    /// Their clock when it was there.
    pub received: Nanos,
    /// Their clock when the answer left.
    pub sent: Nanos,
    /// Our clock when it was here.
    pub answered: Nanos,
}

/// What their clock shows more than ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ClockOffset {
    /// The estimate in nanoseconds.
    pub offset: i64,
    /// The true offset is at most this far from it, in nanoseconds.
    pub error: Nanos,
}

impl Exchange {
    /// Time on the way, there and back.
    fn round_trip(&self) -> Nanos {
        let away = self.answered.saturating_sub(self.asked);
        away.saturating_sub(self.sent.saturating_sub(self.received))
    }

    fn offset(&self) -> ClockOffset {
        let ahead = |theirs: Nanos, ours: Nanos| i128::from(theirs) - i128::from(ours);
        let twice = ahead(self.received, self.asked) + ahead(self.sent, self.answered);
        ClockOffset {
            offset: i64::try_from(twice / 2).unwrap_or(if twice < 0 { i64::MIN } else { i64::MAX }),
            // Rounding of the two halves.
            error: self.round_trip() / 2 + 1,
        }
    }
}

impl ClockOffset {
    /// The estimate of the exchange with the shortest round trip; nothing without exchanges.
    pub fn estimate(exchanges: &[Exchange]) -> Option<ClockOffset> {
        let best = exchanges.iter().min_by_key(|exchange| exchange.round_trip());
        best.map(Exchange::offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the two ways take, the truth is within the error.
        #[test]
        fn the_true_offset_is_within_the_error(
            offset in -1_000_000_000_i64..1_000_000_000,
            ways in proptest::collection::vec((0_u64..50_000_000, 0_u64..50_000_000, 0_u64..1_000_000), 1..20),
        ) {
            let mut now = 10_000_000_000_u64;
            let exchanges: Vec<Exchange> = ways
                .iter()
                .map(|(there, back, between)| {
                    let asked = now;
                    let received = (asked + there).saturating_add_signed(offset);
                    now = asked + there + between + back;
                    Exchange { asked, received, sent: received + between, answered: now }
                })
                .collect();
            let shortest = ways.iter().map(|(there, back, _)| there + back).min();
            let found = ClockOffset::estimate(&exchanges);
            prop_assert_eq!(found.map(|found| found.error), shortest.map(|shortest| shortest / 2 + 1));
            prop_assert!(found.is_some_and(|found| found.offset.abs_diff(offset) <= found.error));
        }
    }

    #[test]
    fn without_exchanges_there_is_no_estimate() {
        assert_eq!(ClockOffset::estimate(&[]), None);
    }
}
