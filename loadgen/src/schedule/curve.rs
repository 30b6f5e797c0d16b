//! The cumulative rate function of a plan, and its inverse.
//!
//! `L(t)` is how many operations should have started by `t`; the n-th operation starts at `L^-1(n)`, a Poisson process
//! with that rate at `L^-1` of a sum of unit exponentials (time rescaling; Cinlar, *Introduction to Stochastic
//! Processes*, 1975, §4.7).
//!
//! Promises: areas are integers, so that boundaries between stages and constant stages are exact however long the plan;
//! ramps are inverted in floating point by a form without cancellation, to the nanosecond, for any slope and down to rate
//! zero. Never looks at a clock.

use std::sync::Arc;

use reports::record::Nanos;

use super::Rate;

/// The resolution of areas. A rate counts in thousandths a second and a time in nanoseconds, so their product counts in
/// 10^-12 operations; the mean of a ramp's two rates needs half of that.
pub(super) const AREA_OF_ONE: u128 = 2_000_000_000_000;

/// A stretch with one formula.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    starts: Nanos,
    length: Nanos,
    /// Thousandths of operations a second at the start and at the end.
    from: u64,
    to: u64,
    /// Area below the curve before this piece, and in it.
    before: u128,
    area: u128,
}

/// A rate over time, which is zero after its end.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pieces: Arc<[Piece]>,
}

impl Curve {
    /// Stretches one after another: length, rate at the start, rate at the end. Sums saturate; 584 years is the end of
    /// time here.
    pub(super) fn new(stretches: impl IntoIterator<Item = (Nanos, Rate, Rate)>) -> Curve {
        let (mut starts, mut before) = (0_u64, 0_u128);
        let pieces = stretches.into_iter().map(|(length, from, to)| {
            let (from, to) = (from.thousandths(), to.thousandths());
            let area = (u128::from(from) + u128::from(to)).saturating_mul(u128::from(length));
            let piece = Piece {
                starts,
                length,
                from,
                to,
                before,
                area,
            };
            starts = starts.saturating_add(length);
            before = before.saturating_add(area);
            piece
        });
        Curve {
            pieces: pieces.collect(),
        }
    }

    pub(super) fn piece(&self, index: usize) -> Option<&Piece> {
        self.pieces.get(index)
    }

    /// The whole area, in units of [`AREA_OF_ONE`].
    pub(super) fn area(&self) -> u128 {
        self.pieces
            .last()
            .map_or(0, |last| last.before.saturating_add(last.area))
    }

    /// When operation `number` of an equally spaced plan starts, rounded down; nothing after the end. `hint` is the
    /// piece where the search begins, and is moved on.
    #[inline]
    pub(super) fn time_of(&self, number: u64, hint: &mut usize) -> Option<Nanos> {
        let target = u128::from(number) * AREA_OF_ONE;
        loop {
            let piece = self.pieces.get(*hint)?;
            let inside = target - piece.before;
            if inside < piece.area {
                return Some(piece.time_at(inside));
            }
            *hint += 1;
        }
    }
}

impl Piece {
    /// Operations in this piece.
    pub(super) fn operations(&self) -> f64 {
        self.area as f64 / AREA_OF_ONE as f64
    }

    #[inline]
    fn time_at(&self, area: u128) -> Nanos {
        if self.from == self.to {
            let divisor = 2 * u128::from(self.from);
            // Most areas fit the machine's own division.
            let offset = match (u64::try_from(area), u64::try_from(divisor)) {
                (Ok(area), Ok(divisor)) => area / divisor,
                // Below the length, because the area is below that of the piece.
                _ => (area / divisor) as u64,
            };
            return self.starts + offset;
        }
        self.ramp(area as f64, (self.area - area) as f64)
    }

    /// When `operations` of this piece have passed.
    #[inline]
    pub(super) fn time_after(&self, operations: f64) -> Nanos {
        if self.from == self.to {
            let mean_gap = 1e9 / (self.from as f64 / 1000.0);
            // Saturates, as a float-to-integer cast does.
            return self.starts.saturating_add((operations * mean_gap) as u64);
        }
        let area = operations * AREA_OF_ONE as f64;
        self.ramp(area, (self.area as f64 - area).max(0.0))
    }

    /// The inverse on a ramp. From a rate `a` upwards with slope `(b - a) / D`, the area is `2at + (b - a) t^2 / D`, so
    /// `t = area / (a + sqrt(a^2 + (b - a) area / D))`: the textbook form multiplied by its conjugate, in which nothing is
    /// subtracted. A ramp downwards is one upwards, walked from its end.
    #[inline]
    fn ramp(&self, area: f64, remaining: f64) -> Nanos {
        let length = self.length as f64;
        let climb = |low: u64, high: u64, area: f64| {
            if area <= 0.0 {
                return 0.0;
            }
            let low = low as f64;
            let slope = (high as f64 - low) / length;
            area / (low + (low * low + slope * area).sqrt())
        };
        let offset = if self.from < self.to {
            climb(self.from, self.to, area)
        } else {
            length - climb(self.to, self.from, remaining)
        };
        self.starts + (offset as u64).min(self.length.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn one(length: Nanos, from: u64, to: u64) -> Curve {
        Curve::new([(length, Rate::per_1000_seconds(from), Rate::per_1000_seconds(to))])
    }

    #[test]
    fn a_ramp_is_inverted_to_the_nanosecond_where_the_answer_is_known() {
        // From 0 to 100/s in 10 s: L(t) = 5 t^2.
        let up = one(10 * SECOND, 0, 100_000);
        let down = one(10 * SECOND, 100_000, 0);
        for (number, seconds) in [(5, 1), (45, 3), (320, 8)] {
            let climbing = up.time_of(number, &mut 0).unwrap();
            // The mirror image: 500 operations in all.
            let falling = down.time_of(500 - number, &mut 0).unwrap();
            assert!(climbing.abs_diff(seconds * SECOND) <= 1, "{climbing}");
            assert!(falling.abs_diff((10 - seconds) * SECOND) <= 1, "{falling}");
        }
        for curve in [up, down] {
            assert_eq!(curve.time_of(0, &mut 0), Some(0));
            assert_eq!(curve.time_of(500, &mut 0), None);
        }
    }

    #[test]
    fn a_slope_of_almost_nothing_is_almost_a_constant() {
        let flat = one(86_400 * SECOND, 7_000_000, 7_000_000);
        for steep in [
            one(86_400 * SECOND, 7_000_000, 7_000_001),
            one(86_400 * SECOND, 7_000_001, 7_000_000),
        ] {
            for number in [1, 1_000, 10_000_000, 600_000_000] {
                let expected = flat.time_of(number, &mut 0).unwrap();
                let got = steep.time_of(number, &mut 0).unwrap();
                let relative = (got as f64 - expected as f64).abs() / expected as f64;
                assert!(relative < 2e-7, "{number}: {got} against {expected}");
            }
        }
    }

    #[test]
    fn pauses_are_skipped_and_boundaries_belong_to_what_follows() {
        let curve = Curve::new([
            (SECOND, Rate::per_second(2), Rate::per_second(2)),
            (3 * SECOND, Rate::ZERO, Rate::ZERO),
            (SECOND, Rate::per_second(1), Rate::per_second(1)),
        ]);
        let mut hint = 0;
        let times: Vec<_> = (0..4).map(|number| curve.time_of(number, &mut hint)).collect();
        assert_eq!(times, [Some(0), Some(SECOND / 2), Some(4 * SECOND), None]);
    }
}
