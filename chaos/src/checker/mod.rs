//! Did the store keep its promises? Answers from the record of a run alone.
//!
//! Everything here is a pure function of events and samples: no clock, no network, no randomness, and the same answer
//! whatever the number of processors. What could not be decided is said to be so, and never a pass.
//!
//! - `linearizable`: one order of all operations explains every answer. Exact in O(n log n) where written values are
//!   unique ([`check_history`] falls back to a search within a budget where they are not).
//! - `lost_writes`: every acknowledged write is there at the end, or overwritten.
//! - `index_order`: the order that the store reports agrees with what clients saw; also usable while the load runs
//!   ([`IndexOrder`]).
//! - `one_leader_per_term`, `same_state`, `converges`: from what nodes say of themselves.

mod history;
mod index;
mod linearizable;
mod lost;
mod naming;
mod register;
mod samples;
mod search;
mod witness;
mod zones;

#[cfg(test)]
mod differential;

use std::path::Path;

use reports::record::{Check, CheckStatus, Event, Nanos, Outcome, Verdict};

pub use history::{History, HistoryError, Operation, ReadError, read_events};
pub use index::{IndexFault, IndexOrder};
pub use lost::{LostWrites, lost_writes};
pub use samples::{converges, one_leader_per_term, same_state};

/// What to check in a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Look for one order that explains every answer.
    pub linearizable: bool,
    /// Look for lost writes: reads that begin at this time or later are the last look at their keys.
    pub final_reads_from: Option<Nanos>,
    /// Check the indexes in answers, if there are any.
    pub index_order: bool,
    /// Steps that the search for one key may take where values are not unique, before it is given up.
    pub search_budget: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            linearizable: true,
            final_reads_from: None,
            index_order: true,
            search_budget: search::BUDGET,
        }
    }
}

/// Runs the checks that were asked for. Events that are no history give a single check, `history`, undecided.
pub fn check_history(events: &[Event], options: &Options) -> Vec<Check> {
    let history = match History::new(events) {
        Ok(history) => history,
        Err(error) => {
            let detail = format!("not a history that could be checked: {error}");
            return vec![Check::new("history", CheckStatus::Inconclusive, detail)];
        }
    };
    let mut checks = Vec::new();
    if options.linearizable {
        checks.push(linearizable::check(&history, options.search_budget));
    }
    checks.extend(options.final_reads_from.map(|from| lost::check(&history, from)));
    if options.index_order {
        checks.extend(index::check(&history));
    }
    checks
}

/// Reads `history.jsonl` and runs the checks that were asked for.
pub fn check_file(path: &Path, options: &Options) -> Result<Vec<Check>, ReadError> {
    Ok(check_history(&read_events(path)?, options))
}

/// The most severe outcome of all checks. No checks at all decide nothing.
pub fn outcome(checks: &[Check]) -> Outcome {
    let outcomes = checks.iter().map(|check| match check.status {
        CheckStatus::Pass => Outcome::Pass,
        CheckStatus::Inconclusive => Outcome::Inconclusive,
        CheckStatus::Liveness => Outcome::Liveness,
        CheckStatus::Violation => Outcome::Violation,
    });
    outcomes.max().unwrap_or(Outcome::Inconclusive)
}

/// All checks as a verdict, with the most severe one as the reason.
pub fn verdict(checks: Vec<Check>) -> Verdict {
    let outcome = outcome(&checks);
    let as_severe = |check: &&Check| self::outcome(std::slice::from_ref(*check)) == outcome;
    let reason = match checks.iter().find(as_severe) {
        None => String::from("nothing was checked"),
        Some(_) if outcome == Outcome::Pass => format!("all {} checks hold", checks.len()),
        Some(check) => match &check.witness {
            Some(witness) => format!("{}: {} ({})", check.name, witness.sentence, witness.key),
            None => format!("{}: {}", check.name, check.detail),
        },
    };
    Verdict {
        outcome,
        reason,
        checks,
    }
}
