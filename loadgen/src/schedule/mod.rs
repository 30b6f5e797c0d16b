//! The arrival plan: when each operation should start, decided before the first one is sent.
//!
//! Promises:
//! - A plan is a pure function of its parameters and seed, and so the same on every machine of one kind.
//! - Equal gaps are computed from the operation's number in integers, so a long run does not drift. Ramps are inverted
//!   by a form without cancellation. Poisson arrivals are a running sum of unit exponentials, mapped through the inverse
//!   of the cumulative rate: exact for every shape.
//! - A plan can be written down ([`Schedule::write_to`]), read back ([`Replay`]) and divided ([`Schedule::split`]), and
//!   stays the same plan.
//!
//! Never looks at a clock and never at an answer: that is what makes the loop open.

mod arrivals;
mod cursor;
mod curve;
mod error;
mod parse;
mod rate;
mod replay;
mod stages;

pub use arrivals::Arrivals;
pub use cursor::{Arrival, Schedule};
pub use error::PlanError;
pub use parse::{parse_arrival, parse_stages};
pub use rate::{RATE_MAX, Rate};
pub use replay::{ARRIVALS_MAX, Replay};
pub use stages::{STAGES_LENGTH_MAX, STAGES_MAX, Spacing, Stage, Stages};
