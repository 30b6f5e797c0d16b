//! The fault suite of Whitewater: scenarios, faults, checkers and verdicts.

pub mod checker;
pub mod scenario;
