//! Text into [`Scenario`], and back. The only place that knows which YAML libraries there are.
//!
//! Reading stops at the first thing that is not a scenario at all; what is one is then looked through for everything
//! that makes no sense ([`super::lint`]), and all of that is reported together.

use std::path::Path;

use serde_saphyr::Error as YamlError;

use super::{Place, Placed, Problem, Scenario, ScenarioError, Severity, Workload, lint};

impl Scenario {
    /// Reads and checks a scenario file.
    pub fn load(path: &Path) -> Result<Scenario, ScenarioError> {
        let file = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&file, &text),
            Err(source) => Err(ScenarioError::Unreadable { file, source }),
        }
    }

    /// Reads and checks a scenario; `file` is what messages call it.
    pub fn parse(file: &str, text: &str) -> Result<Scenario, ScenarioError> {
        let refused = |problems| ScenarioError::Wrong {
            file: file.to_owned(),
            text: text.to_owned(),
            problems,
        };
        let options = serde_saphyr::options! { with_snippet: false };
        let mut scenario: Scenario = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| refused(vec![problem(&error, text)]))?;
        let problems = lint::problems(&scenario);
        if problems.iter().any(|problem| problem.severity == Severity::Error) {
            return Err(refused(problems));
        }
        if scenario.workload.rate.is_none() && !scenario.workload.closed.value {
            scenario.workload.rate = Some(Placed::from(Workload::RATE_DEFAULT));
        }
        Ok(scenario)
    }

    /// What is suspicious about it, though not refused; show with [`Problem::render`].
    pub fn warnings(&self) -> Vec<Problem> {
        lint::problems(self)
            .into_iter()
            .filter(|problem| problem.severity == Severity::Warning)
            .collect()
    }

    /// The scenario with every default written out. Reads back as an equal value.
    pub fn to_yaml(&self) -> String {
        let mut bytes = Vec::new();
        let mut writer = serde_yaml::Serializer::new(&mut bytes);
        // The library would write a fault as a YAML tag, `!kill {…}`; a map with one entry is what people write.
        serde_yaml::with::singleton_map_recursive::serialize(self, &mut writer)
            .expect("a scenario has only maps with text keys, and memory does not refuse bytes");
        drop(writer);
        String::from_utf8(bytes).expect("YAML is written as UTF-8")
    }
}

/// The reader's error in our words.
fn problem(error: &YamlError, text: &str) -> Problem {
    let place = error.location().and_then(Place::of);
    match error.without_snippet() {
        YamlError::SerdeUnknownField { field, expected, .. } => {
            unknown(place, format!("unknown field `{field}`"), field, expected)
        }
        YamlError::SerdeUnknownVariant {
            variant, expected, ..
        } => {
            let message = format!("`{variant}` is not known here");
            unknown(onto(place, variant, text), message, variant, expected)
        }
        YamlError::SerdeMissingField { field, .. } => {
            let place = place.map(|place| Place { length: 0, ..place });
            Problem::error(place, format!("missing field `{field}`"))
        }
        YamlError::DuplicateMappingKey { key, .. } => {
            let key = key.clone().unwrap_or_else(|| word_at(place, text));
            Problem::error(place, format!("`{key}` is given twice"))
        }
        YamlError::SerdeInvalidType {
            unexpected, expected, ..
        }
        | YamlError::SerdeInvalidValue {
            unexpected, expected, ..
        } => Problem::error(place, format!("found {unexpected}, expected {expected}")),
        YamlError::InvalidScalar { ty, .. } => {
            let expected = match *ty {
                "bool" => "true or false",
                ty if ty.starts_with('u') => "a whole number, not negative and not too large",
                ty => ty,
            };
            Problem::error(
                place,
                format!("found `{}`, expected {expected}", word_at(place, text)),
            )
        }
        YamlError::Unexpected {
            expected: "mapping start",
            ..
        } => Problem::error(place, "expected `field: value` pairs here")
            .note("indent them further than the line they belong to, or write { field: value, … }"),
        other => {
            let message = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            // The renderer closes with the position, which stands in the next line anyway.
            let message = match message.rfind(" at line ") {
                Some(end) => message[..end].trim_end_matches([' ', ':', ',']).to_owned(),
                None => message,
            };
            Problem::error(place, message)
        }
    }
}

fn unknown(place: Option<Place>, message: String, found: &str, allowed: &[&'static str]) -> Problem {
    let problem = Problem::error(place, message).note(format!("allowed: {}", allowed.join(", ")));
    match closest(found, allowed) {
        Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
        None => problem,
    }
}

fn line_of(place: Place, text: &str) -> &str {
    text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default()
}

/// What stands at a place.
fn word_at(place: Option<Place>, text: &str) -> String {
    let Some(place) = place else {
        return String::from("a value");
    };
    let rest = line_of(place, text).chars().skip(place.column.saturating_sub(1));
    match place.length {
        0 => rest.take_while(|c| c.is_alphanumeric() || *c == '_').collect(),
        length => rest.take(length).collect(),
    }
}

/// The reader places some values at their key: moves on to the value, if it stands later in the same line.
fn onto(place: Option<Place>, value: &str, text: &str) -> Option<Place> {
    let place = place?;
    let rest: String = line_of(place, text)
        .chars()
        .skip(place.column.saturating_sub(1))
        .collect();
    let Some(bytes) = rest.find(value) else {
        return Some(place);
    };
    let column = place.column + rest[..bytes].chars().count();
    Some(Place {
        column,
        length: value.chars().count(),
        ..place
    })
}

/// The allowed word that is nearest to `found`, if it is near: at most a third of the letters differ.
fn closest<'a>(found: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let near = allowed.iter().map(|word| (edits(found, word), *word)).min()?;
    (near.0 <= near.1.chars().count().div_ceil(3)).then_some(near.1)
}

/// Insertions, removals and replacements that turn one word into the other (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
