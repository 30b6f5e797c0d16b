//! Why an expression is no threshold, with the place.

use std::fmt;

/// An expression that is no threshold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThresholdError {
    /// The whole expression.
    pub expression: String,
    /// Byte at which the wrong part begins; the length of the expression where something is missing at its end.
    pub start: usize,
    /// Byte after the wrong part.
    pub end: usize,
    /// What is wrong with it, and what would be right.
    pub message: String,
}

impl std::error::Error for ThresholdError {}

impl fmt::Display for ThresholdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |text: &str| text.chars().count();
        let before = width(&self.expression[..self.start]);
        let marked = width(&self.expression[self.start..self.end]).max(1);
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {}", self.expression)?;
        write!(f, "  {}{}", " ".repeat(before), "^".repeat(marked))
    }
}
