//! Label names and values of the exposition format.
//!
//! Promises: a name that Prometheus would refuse, or that this page uses itself, is refused before anything is written;
//! any text may be a value.

use std::fmt::Write;

/// Label names that the page uses itself.
pub const RESERVED: [&str; 8] = [
    "endpoint",
    "le",
    "measure",
    "node",
    "operation",
    "outcome",
    "quantile",
    "result",
];

/// Labels that are put on every sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(Vec<(String, String)>);

/// A name that cannot be a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// Not of the form that Prometheus takes.
    #[error("`{0}` cannot be a label: use letters, digits and _, no digit first, and not two _ first")]
    Name(String),
    /// One of [`RESERVED`].
    #[error("the label `{0}` is used by the page itself; choose another name")]
    Reserved(String),
    /// Given twice.
    #[error("the label `{0}` is given twice")]
    Twice(String),
}

impl Labels {
    /// Checks the names; values may be any text.
    pub fn new<N: Into<String>, V: Into<String>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Labels, LabelError> {
        let mut labels = Labels::default();
        for (name, value) in pairs {
            let name = name.into();
            if !is_name(&name) {
                return Err(LabelError::Name(name));
            }
            if RESERVED.contains(&name.as_str()) {
                return Err(LabelError::Reserved(name));
            }
            if labels.0.iter().any(|(taken, _)| *taken == name) {
                return Err(LabelError::Twice(name));
            }
            labels.0.push((name, value.into()));
        }
        Ok(labels)
    }

    /// These and `more`, as they stand behind a metric's name; an empty value is the same as no label.
    pub(super) fn with(&self, more: &[(&str, &str)]) -> String {
        let own = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut text = String::new();
        for (name, value) in own.chain(more.iter().copied()) {
            if value.is_empty() {
                continue;
            }
            text.push(if text.is_empty() { '{' } else { ',' });
            write!(text, "{name}=\"{}\"", escape_value(value)).expect("a text can grow");
        }
        if !text.is_empty() {
            text.push('}');
        }
        text
    }
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter)
        && !name.starts_with("__")
        && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn escape_value(value: &str) -> String {
    escape_help(value).replace('"', "\\\"")
}

pub(super) fn escape_help(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_values_stay_within_their_quotes() {
        let labels = Labels::new([("run", "a\"b\\c\nd} 1\r")]);
        let text = labels.map(|labels| labels.with(&[("empty", ""), ("le", "+Inf")]));
        assert_eq!(text.as_deref(), Ok("{run=\"a\\\"b\\\\c\\nd} 1\r\",le=\"+Inf\"}"));
        assert_eq!(Labels::default().with(&[]), "");
    }

    #[test]
    fn names_that_prometheus_or_the_page_would_stumble_over_are_refused() {
        for name in ["", "1a", "__name__", "a-b", "é", "a b", "a\"", "a{"] {
            assert_eq!(
                Labels::new([(name, "x")]),
                Err(LabelError::Name(name.into())),
                "{name}"
            );
        }
        assert_eq!(Labels::new([("le", "1")]), Err(LabelError::Reserved("le".into())));
        assert_eq!(
            Labels::new([("a", "1"), ("a", "2")]),
            Err(LabelError::Twice("a".into()))
        );
        assert!(Labels::new([("_run1", "x")]).is_ok());
    }
}
