//! What is wrong with a scenario file, shown at the spot.

use std::fmt;

use super::Place;

/// One thing that is wrong, or at least suspicious.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the scenario is refused for it.
    pub severity: Severity,
    /// Where; absent if it is about something that is not in the file.
    pub place: Option<Place>,
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// Written behind the caret: what was probably meant.
    pub hint: Option<String>,
    /// Further lines: what is allowed, what to do.
    pub notes: Vec<String>,
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The scenario is refused.
    Error,
    /// It runs, and may show less than its author thinks.
    Warning,
}

impl Problem {
    pub(super) fn error(place: Option<Place>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place,
            message: message.into(),
            hint: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn warning(place: Option<Place>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(place, message)
        }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// The problem with the line it is about, for a terminal without colours.
    pub fn render(&self, file: &str, source: &str) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let mut text = format!("{severity}[scenario]: {}\n", self.message);
        let mut margin = 0;
        if let Some(place) = self.place {
            let number = place.line.to_string();
            margin = number.len();
            text += &format!("{:margin$} ┌ {file}:{}:{}\n", "", place.line, place.column);
            if let Some(line) = source.lines().nth(place.line.saturating_sub(1)) {
                let before = place.column.saturating_sub(1).min(line.chars().count());
                let rest = line.chars().count() - before;
                // A value that goes over several lines is marked by its first.
                let carets = "^".repeat(place.length.min(rest).max(1));
                let hint = self
                    .hint
                    .as_deref()
                    .map(|hint| format!(" {hint}"))
                    .unwrap_or_default();
                text += &format!("{number} │ {}\n", line.trim_end());
                text += &format!("{:margin$} │ {:before$}{carets}{hint}\n", "", "");
            }
        } else {
            text += &format!("{:margin$} ┌ {file}\n", "");
            if let Some(hint) = &self.hint {
                text += &format!("{:margin$} = {hint}\n", "");
            }
        }
        for note in &self.notes {
            text += &format!("{:margin$} = {note}\n", "");
        }
        text
    }
}

/// A scenario file that cannot be used. Its text is complete: every problem with line, column and snippet.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It could not be read at all.
    #[error("cannot read scenario {file}")]
    Unreadable {
        /// Path as given.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// It was read, and is wrong.
    #[error("{}", Rendered { file, text, problems })]
    Wrong {
        /// Path as given.
        file: String,
        /// What stands in it.
        text: String,
        /// Everything that was found, errors and warnings, in the order of the file.
        problems: Vec<Problem>,
    },
}

struct Rendered<'a> {
    file: &'a str,
    text: &'a str,
    problems: &'a [Problem],
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let gap = if n > 0 { "\n" } else { "" };
            let rendered = problem.render(self.file, self.text);
            let rendered = if n + 1 == self.problems.len() {
                rendered.trim_end()
            } else {
                &rendered
            };
            write!(f, "{gap}{rendered}")?;
        }
        Ok(())
    }
}
