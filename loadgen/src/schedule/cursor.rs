//! Walking a plan.
//!
//! Promises constant memory for every plan, whatever its length, and order: no arrival before the one it follows.

use std::io::{self, Write};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1};
use reports::record::Nanos;

use super::curve::Curve;
use super::replay::ARRIVALS_MAX;

/// The stream of the seed that only arrivals draw from; workloads use stream 0.
const ARRIVAL_STREAM: u64 = 1;

/// After the end of every plan.
const NEVER: Nanos = Nanos::MAX;

/// A cursor over a plan. Clones walk the same plan from where the original stood.
#[derive(Debug, Clone)]
pub struct Schedule {
    walk: Walk,
    end: Nanos,
    next_number: u64,
    next_at: Nanos,
    /// From one arrival of this cursor to the next, in operation numbers.
    stride: u64,
    taken: u64,
}

/// One planned start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Number of the operation, from zero.
    pub number: u64,
    /// Nanoseconds after the start of the plan.
    pub at: Nanos,
}

#[derive(Debug, Clone)]
enum Walk {
    Equal { curve: Curve, piece: usize },
    Poisson(Box<Poisson>),
    Burst { size: u64, every: Nanos },
    Replay { offsets: Arc<[Nanos]> },
}

#[derive(Debug, Clone)]
struct Poisson {
    curve: Curve,
    piece: usize,
    /// Operations since the start of the piece: the running sum of gaps.
    inside: f64,
    /// Operations that the piece has room for; nothing fits after the last one.
    room: f64,
    rng: ChaCha8Rng,
}

impl Schedule {
    /// The next arrival, without taking it.
    #[inline]
    pub fn peek(&self) -> Option<Arrival> {
        (self.next_at < self.end).then_some(Arrival {
            number: self.next_number,
            at: self.next_at,
        })
    }

    /// How many arrivals have been taken from this cursor.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next arrival if it is due at `elapsed`.
    pub fn pop_due(&mut self, elapsed: Nanos) -> Option<Arrival> {
        if self.next_at <= elapsed {
            self.next()
        } else {
            None
        }
    }

    /// Ends the plan early: what would start at `at` or later is no longer planned.
    pub fn cut(&mut self, at: Nanos) {
        self.end = self.end.min(at);
    }

    /// A cursor over every `of`-th arrival that is left here, beginning with the one at position `index`. Numbers and
    /// times are those of the whole plan; the `of` parts together are exactly what is left.
    ///
    /// Panics if `index` is not below `of`.
    pub fn split(&self, index: u64, of: u64) -> Schedule {
        assert!(index < of, "part {index} of {of} parts: parts count from zero");
        let mut part = self.clone();
        part.taken = 0;
        part.advance(self.stride.saturating_mul(index));
        part.stride = self.stride.saturating_mul(of);
        part
    }

    /// Writes what is left of the plan, one decimal offset in nanoseconds a line, as [`Replay`](super::Replay) reads
    /// it; the cursor stays where it is. Returns how many arrivals there were. Fails with `InvalidInput` once there are
    /// more than [`ARRIVALS_MAX`], which could not be read back.
    pub fn write_to(&self, output: &mut impl Write) -> io::Result<u64> {
        let mut written = 0;
        for arrival in self.clone() {
            if written == ARRIVALS_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("the plan has more than {ARRIVALS_MAX} arrivals; export a shorter one"),
                ));
            }
            writeln!(output, "{}", arrival.at)?;
            written += 1;
        }
        Ok(written)
    }

    pub(super) fn equal(curve: Curve, end: Nanos) -> Schedule {
        Schedule::start(Walk::Equal { curve, piece: 0 }, end)
    }

    pub(super) fn poisson(curve: Curve, end: Nanos, seed: u64) -> Schedule {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(ARRIVAL_STREAM);
        let walk = Poisson {
            room: curve.piece(0).map_or(0.0, |piece| piece.operations()),
            curve,
            piece: 0,
            inside: 0.0,
            rng,
        };
        Schedule::start(Walk::Poisson(Box::new(walk)), end)
    }

    pub(super) fn burst(size: u64, every: Nanos, end: Nanos) -> Schedule {
        Schedule::start(Walk::Burst { size, every }, end)
    }

    pub(super) fn replay(offsets: Arc<[Nanos]>, end: Nanos) -> Schedule {
        Schedule::start(Walk::Replay { offsets }, end)
    }

    fn start(mut walk: Walk, end: Nanos) -> Schedule {
        let next_at = match &mut walk {
            Walk::Poisson(poisson) => poisson.draw(1),
            other => other.time_of(0),
        };
        Schedule {
            walk,
            end,
            next_number: 0,
            next_at,
            stride: 1,
            taken: 0,
        }
    }

    /// Moves `steps` operation numbers on.
    #[inline]
    fn advance(&mut self, steps: u64) {
        if steps == 0 || self.next_at == NEVER {
            return;
        }
        self.next_number = self.next_number.saturating_add(steps);
        let at = match &mut self.walk {
            Walk::Poisson(poisson) => poisson.draw(steps),
            other => other.time_of(self.next_number),
        };
        // Rounding must not turn two arrivals around.
        self.next_at = at.max(self.next_at);
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    #[inline]
    fn next(&mut self) -> Option<Arrival> {
        let arrival = self.peek()?;
        self.taken += 1;
        self.advance(self.stride);
        Some(arrival)
    }
}

impl Walk {
    /// When operation `number` starts, where that does not depend on those before it. Numbers only grow.
    #[inline]
    fn time_of(&mut self, number: u64) -> Nanos {
        match self {
            Walk::Equal { curve, piece } => curve.time_of(number, piece).unwrap_or(NEVER),
            Walk::Burst { size, every } if *size > 0 && *every > 0 => {
                (number / *size).checked_mul(*every).unwrap_or(NEVER)
            }
            Walk::Replay { offsets } => usize::try_from(number)
                .ok()
                .and_then(|number| offsets.get(number).copied())
                .unwrap_or(NEVER),
            Walk::Burst { .. } | Walk::Poisson(_) => NEVER,
        }
    }
}

impl Poisson {
    /// The arrival that comes `gaps` gaps later.
    #[inline]
    fn draw(&mut self, gaps: u64) -> Nanos {
        for _ in 0..gaps {
            let gap: f64 = Exp1.sample(&mut self.rng);
            self.inside += gap;
            while self.inside >= self.room {
                if !self.next_piece() {
                    return NEVER;
                }
            }
        }
        self.curve
            .piece(self.piece)
            .map_or(NEVER, |piece| piece.time_after(self.inside))
    }

    #[cold]
    fn next_piece(&mut self) -> bool {
        let Some(next) = self.curve.piece(self.piece + 1) else {
            return false;
        };
        self.inside -= self.room;
        self.room = next.operations();
        self.piece += 1;
        true
    }
}
