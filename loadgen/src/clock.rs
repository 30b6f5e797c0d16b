//! The run's one clock: monotonic nanoseconds since an origin that everybody who writes into the record shares.
//!
//! Promises never to go backwards and never to follow wall-clock adjustments. Knows nothing of wall time.

use std::time::{Duration, Instant};

use reports::record::Nanos;

/// Nanoseconds since the origin of a run. Copies share the origin.
#[derive(Debug, Clone, Copy)]
pub struct RunClock {
    origin: Instant,
}

impl RunClock {
    /// A clock whose zero is now.
    pub fn start() -> RunClock {
        RunClock::at(Instant::now())
    }

    /// A clock whose zero is `origin`.
    pub fn at(origin: Instant) -> RunClock {
        RunClock { origin }
    }

    /// The instant that reads zero.
    pub fn origin(&self) -> Instant {
        self.origin
    }

    /// Time since the origin.
    pub fn now(&self) -> Nanos {
        self.nanos_of(Instant::now())
    }

    /// What this clock shows at `instant`; zero before the origin.
    pub fn nanos_of(&self, instant: Instant) -> Nanos {
        nanos(instant.saturating_duration_since(self.origin))
    }

    /// The instant at which this clock shows `time`.
    pub fn instant_of(&self, time: Nanos) -> Instant {
        self.origin + Duration::from_nanos(time)
    }
}

/// A duration in nanoseconds; 584 years and longer is the largest number.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A time in its largest fitting unit, with three digits, which is what a histogram keeps.
pub(crate) fn human(nanos: Nanos) -> String {
    let (unit, name) = match nanos {
        0..1_000 => (1.0, "ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = nanos as f64 / unit;
    let decimals = match value {
        _ if unit == 1.0 => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {name}")
}

/// Writes a duration as people do, such as `1m 30s`.
pub(crate) fn humane<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*duration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_readings_translate_both_ways() {
        let clock = RunClock::start();
        assert_eq!(clock.nanos_of(clock.instant_of(1_234_567_890)), 1_234_567_890);
        assert_eq!(clock.nanos_of(clock.origin()), 0);
        let copy = clock;
        assert!(copy.now() >= clock.nanos_of(clock.origin()));
    }

    #[test]
    fn an_instant_before_the_origin_reads_zero() {
        let before = Instant::now();
        let clock = RunClock::at(before + Duration::from_secs(5));
        assert_eq!(clock.nanos_of(before), 0);
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (nanos, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (68_400, "68.4 µs"),
            (5_062_000, "5.06 ms"),
            (515_300_000, "515 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(human(nanos), text);
        }
    }
}
