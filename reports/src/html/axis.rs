//! Where things go on a chart: scales, and ticks at round numbers.
//!
//! Promises that every coordinate is finite and inside the plot, whatever the data: no `NaN` reaches the page.

use crate::format;
use crate::record::Nanos;

/// Width of every drawing; its unit is one CSS pixel on a wide screen.
pub(super) const WIDTH: f64 = 1000.0;
/// Where the plot begins: names and labels are left of it.
pub(super) const LEFT: f64 = 84.0;
/// Where the plot ends.
pub(super) const RIGHT: f64 = WIDTH - 16.0;

/// Ticks on a time axis, at most.
const TIME_TICKS_MAX: f64 = 12.0;

/// The shared time axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeAxis {
    pub(super) start: Nanos,
    pub(super) end: Nanos,
}

impl TimeAxis {
    /// An axis of a length that can be divided by.
    pub(super) fn new(start: Nanos, end: Nanos) -> TimeAxis {
        if end > start {
            TimeAxis { start, end }
        } else {
            TimeAxis {
                start: start.min(Nanos::MAX - 1),
                end: start.saturating_add(1),
            }
        }
    }

    pub(super) fn x(&self, time: Nanos) -> f64 {
        let part = time.saturating_sub(self.start) as f64 / self.span() as f64;
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn span(&self) -> Nanos {
        self.end - self.start
    }

    /// Moments at round times, with their labels.
    pub(super) fn ticks(&self) -> Vec<(Nanos, String)> {
        let step = time_step(self.span());
        let first = self.start.div_ceil(step);
        (first..=self.end / step)
            .map(|n| (n * step, time_label(n * step, step)))
            .collect()
    }
}

/// The smallest round step that does not crowd the axis.
fn time_step(span: Nanos) -> Nanos {
    const SECOND: Nanos = 1_000_000_000;
    let wanted = span as f64 / TIME_TICKS_MAX;
    if wanted <= SECOND as f64 {
        return (nice(wanted).round() as Nanos).max(1);
    }
    let steps = [
        1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400,
    ];
    steps
        .map(|s| s * SECOND)
        .into_iter()
        .find(|s| *s as f64 >= wanted)
        .unwrap_or_else(|| {
            let days = (wanted / (86_400 * SECOND) as f64).ceil().max(1.0) as Nanos;
            days.saturating_mul(86_400 * SECOND)
        })
}

fn time_label(time: Nanos, step: Nanos) -> String {
    let seconds = time / 1_000_000_000;
    if step >= 60_000_000_000 {
        return match (seconds / 3600, seconds / 60 % 60) {
            (0, minutes) => format!("{minutes} min"),
            (hours, minutes) => format!("{hours}:{minutes:02} h"),
        };
    }
    let (unit, size): (&str, Nanos) = match step {
        0..1_000 => ("µs", 1_000),
        1_000..100_000_000 => ("ms", 1_000_000),
        _ => ("s", 1_000_000_000),
    };
    // As many decimals as it takes to tell one tick from the next.
    let mut decimals = 0;
    let mut told = size;
    while told > step {
        decimals += 1;
        told /= 10;
    }
    let whole = format::grouped(time / size);
    match decimals {
        0 => format!("{whole} {unit}"),
        _ => format!("{whole}.{:0decimals$} {unit}", time % size / told.max(1)),
    }
}

/// A vertical axis.
#[derive(Debug, Clone)]
pub(super) struct ValueAxis {
    top: f64,
    height: f64,
    low: f64,
    high: f64,
    log: bool,
    /// Values with their labels, from the bottom up.
    pub(super) ticks: Vec<(f64, String)>,
}

impl ValueAxis {
    /// From zero to a round number above `max`.
    pub(super) fn linear(top: f64, height: f64, max: f64, label: impl Fn(f64) -> String) -> ValueAxis {
        let max = if max.is_finite() && max > 0.0 { max } else { 1.0 };
        let step = nice(max / 4.0);
        let steps = (max / step).ceil().clamp(1.0, 10.0) as u32;
        let ticks = (0..=steps)
            .map(|n| f64::from(n) * step)
            .map(|v| (v, label(v)))
            .collect();
        ValueAxis {
            top,
            height,
            low: 0.0,
            high: f64::from(steps) * step,
            log: false,
            ticks,
        }
    }

    /// Logarithmic, for durations from `min` to `max` nanoseconds.
    pub(super) fn log_duration(top: f64, height: f64, min: Nanos, max: Nanos) -> ValueAxis {
        let low = floor_125(min.max(1) as f64);
        let mut high = ceil_125(max.max(1) as f64);
        if high <= low {
            high = low * 10.0;
        }
        let mut values: Vec<f64> = round_125(low, high).collect();
        if values.len() > 8 {
            values.retain(|v| (v.log10() - v.log10().round()).abs() < 1e-9);
            values = values.iter().copied().step_by(values.len().div_ceil(8)).collect();
        }
        let ticks = values.into_iter().map(|v| (v, tick_duration(v))).collect();
        ValueAxis {
            top,
            height,
            low,
            high,
            log: true,
            ticks,
        }
    }

    pub(super) fn y(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        let part = if part.is_finite() {
            part.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self.top + self.height * (1.0 - part)
    }
}

/// A coordinate in the page: finite, a tenth of a pixel.
pub(super) fn px(value: f64) -> String {
    let value = if value.is_finite() {
        (value * 10.0).round() / 10.0
    } else {
        0.0
    };
    // Minus zero is zero, and whole numbers need no point.
    if value == value.trunc() {
        format!("{:.0}", value + 0.0)
    } else {
        format!("{value:.1}")
    }
}

/// The next of 1, 2, 5, 10 … at or above the value.
fn nice(value: f64) -> f64 {
    if value.is_finite() && value > 0.0 {
        ceil_125(value)
    } else {
        1.0
    }
}

fn ceil_125(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    // A little slack, or 1000 becomes 2000 where the logarithm was rounded down.
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * decade)
        .find(|v| *v >= value * (1.0 - 1e-9))
        .unwrap_or(10.0 * decade)
}

fn floor_125(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    [5.0, 2.0, 1.0]
        .into_iter()
        .map(|m| m * decade)
        .find(|v| *v <= value * (1.0 + 1e-9))
        .unwrap_or(decade)
}

fn round_125(low: f64, high: f64) -> impl Iterator<Item = f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    (first..=last)
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(decade)))
        .filter(move |v| *v >= low * (1.0 - 1e-9) && *v <= high * (1.0 + 1e-9))
}

fn tick_duration(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 0.999e3 => (n, "ns"),
        n if n < 0.999e6 => (n / 1e3, "µs"),
        n if n < 0.999e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    format!("{} {unit}", format::grouped(value.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: TimeAxis) -> Vec<String> {
        axis.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn time_ticks_are_round() {
        assert_eq!(
            labels(TimeAxis::new(0, 30_000_000_000)),
            ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]
        );
        assert_eq!(labels(TimeAxis::new(0, 2_000_000_000))[..2], ["0.0 s", "0.2 s"]);
        assert_eq!(
            labels(TimeAxis::new(12_031_000_000, 12_034_000_000))[0],
            "12,031.0 ms"
        );
        assert_eq!(labels(TimeAxis::new(0, 1_800_000_000_000))[1], "5 min");
        assert_eq!(labels(TimeAxis::new(0, 40_000_000))[1], "5 ms");
        assert_eq!(labels(TimeAxis::new(0, 3))[..2], ["0.000 µs", "0.001 µs"]);
    }

    #[test]
    fn an_axis_without_length_still_has_a_place_for_everything() {
        for axis in [
            TimeAxis::new(0, 0),
            TimeAxis::new(7, 3),
            TimeAxis::new(u64::MAX, u64::MAX),
        ] {
            for time in [0, 3, 7, u64::MAX] {
                assert!((LEFT..=RIGHT).contains(&axis.x(time)));
            }
            assert!(axis.ticks().len() <= 14);
        }
        assert!(TimeAxis::new(0, u64::MAX).ticks().len() <= 14);
    }

    #[test]
    fn values_stay_inside_whatever_they_are() {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -5.0, 0.0, 3.0, 1e300];
        let mut axes: Vec<ValueAxis> = odd
            .iter()
            .map(|max| ValueAxis::linear(10.0, 100.0, *max, |v| v.to_string()))
            .collect();
        for (min, max) in [(0, 0), (5, 5), (9, 3), (1, u64::MAX)] {
            axes.push(ValueAxis::log_duration(10.0, 100.0, min, max));
        }
        for axis in &axes {
            assert!((2..=12).contains(&axis.ticks.len()), "{:?}", axis.ticks);
            for value in odd {
                let y = axis.y(value);
                assert!((10.0..=110.0).contains(&y), "{value} is at {y} on {axis:?}");
            }
        }
    }

    #[test]
    fn log_ticks_are_round() {
        let axis = ValueAxis::log_duration(0.0, 1.0, 300_000, 42_000_000);
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, l)| l.as_str()).collect();
        assert_eq!(
            labels,
            [
                "200 µs", "500 µs", "1 ms", "2 ms", "5 ms", "10 ms", "20 ms", "50 ms"
            ]
        );
        let wide = ValueAxis::log_duration(0.0, 1.0, 1_000, 10_000_000_000);
        assert_eq!(wide.ticks.first().map(|t| t.1.as_str()), Some("1 µs"));
        assert_eq!(wide.ticks.last().map(|t| t.1.as_str()), Some("10 s"));
    }

    #[test]
    fn coordinates_are_short_and_finite() {
        assert_eq!(px(12.04), "12");
        assert_eq!(px(12.06), "12.1");
        assert_eq!(px(-0.01), "0");
        assert_eq!(px(f64::NAN), "0");
    }
}
