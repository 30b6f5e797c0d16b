//! `verdict.json`: whether the store kept its promises.

use serde::{Deserialize, Serialize};

/// The outcome of a run, check by check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The most severe outcome of all checks.
    pub outcome: Outcome,
    /// Why, in a sentence.
    pub reason: String,
    /// Every check that was asked for.
    pub checks: Vec<Check>,
}

/// Outcomes, the most severe last. The process exit code is [`Outcome::exit_code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every check passed, every fault showed an effect, and there was enough traffic to tell.
    Pass,
    /// Stopped by hand; everything was healed, and what is here is partial.
    Interrupted,
    /// It could not be decided.
    Inconclusive,
    /// The tool or its surroundings failed, not the store.
    Error,
    /// The store did not come back in time.
    Liveness,
    /// The store broke a promise.
    Violation,
}

impl Outcome {
    /// Exit code of `chaos` for this outcome.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Pass => 0,
            Outcome::Violation => 1,
            Outcome::Liveness => 3,
            Outcome::Inconclusive => 4,
            Outcome::Error => 5,
            Outcome::Interrupted => 130,
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// For example `linearizable`, `lost_writes`.
    pub name: String,
    /// What came of it.
    pub status: CheckStatus,
    /// What was looked at and found, as a sentence with numbers.
    pub detail: String,
    /// What proves a violation.
    pub witness: Option<Witness>,
}

impl Check {
    /// A check that needs no operations to prove what it found.
    pub fn new(name: &str, status: CheckStatus, detail: String) -> Check {
        Check {
            name: name.to_owned(),
            status,
            detail,
            witness: None,
        }
    }
}

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
    /// Holds.
    Pass,
    /// A safety promise is broken.
    Violation,
    /// A liveness promise is broken.
    Liveness,
    /// Could not be decided, for the reason in `detail`.
    Inconclusive,
}

/// The few operations that prove a violation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Witness {
    /// The key they are about.
    pub key: String,
    /// What is wrong, in one sentence with nodes, values and times.
    pub sentence: String,
    /// The operations, each as its invocation and, if it completed, its completion.
    pub operations: Vec<(super::Event, Option<super::Event>)>,
}
