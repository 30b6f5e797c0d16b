//! Trials of two sides in turns.
//!
//! In the order A B B A, a drift of the machine that is linear in time weighs on both sides alike (exactly so for an even number of trials), and no side always goes first (tango's
//! paired benchmarks rest on the same idea).

use std::future::Future;

use serde::Serialize;

use super::trial::Trial;

/// Which side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SideName {
    /// The one that the other is held against.
    Base,
    /// The other.
    New,
}

/// Makes trials of one side: each starts what is to be measured afresh, runs the load, and takes everything down again.
pub trait Side {
    /// Why a trial could not be made.
    type Error;

    /// Makes trial `number`, counted from zero on each side. When this resolves, nothing of it is left running.
    fn trial(&mut self, number: usize) -> impl Future<Output = Result<Trial, Self::Error>>;
}

/// The trials of both sides, as [`super::compare`] takes them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trials {
    /// Of the first side.
    pub base: Vec<Trial>,
    /// Of the second side.
    pub new: Vec<Trial>,
}

/// The order of `trials` trials a side: A B B A A B B A and so on.
pub fn trial_order(trials: usize) -> Vec<SideName> {
    let pairs = (0..trials).flat_map(|pair| match pair % 2 {
        0 => [SideName::Base, SideName::New],
        _ => [SideName::New, SideName::Base],
    });
    pairs.collect()
}

/// Makes `trials` trials a side in turns, one at a time, and tells `watch` before each. The first error ends it.
pub async fn interleave<B: Side, N: Side<Error = B::Error>>(
    base: &mut B,
    new: &mut N,
    trials: usize,
    mut watch: impl FnMut(SideName, usize),
) -> Result<Trials, B::Error> {
    let mut made = Trials::default();
    for side in trial_order(trials) {
        match side {
            SideName::Base => {
                let number = made.base.len();
                watch(side, number);
                made.base.push(base.trial(number).await?);
            }
            SideName::New => {
                let number = made.new.len();
                watch(side, number);
                made.new.push(new.trial(number).await?);
            }
        }
    }
    Ok(made)
}
