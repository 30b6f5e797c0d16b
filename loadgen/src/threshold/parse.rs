//! Reads thresholds.
//!
//! Promises: every refusal marks the part that is wrong and says what would be right there. Never guesses a unit and never
//! ignores a part that it does not understand.

use std::ops::Range;
use std::str::FromStr;
use std::time::Duration;

use reports::record::{Operation, OutcomeKind};

use super::error::ThresholdError;
use super::expression::{
    Abort, Aggregation, Comparison, Limit, Metric, MetricKind, Percentile, Selector, Tag, Threshold, Unit,
};

/// Bytes that an expression may have.
const LENGTH_MAX: usize = 500;

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(expression: &str) -> Result<Threshold, ThresholdError> {
        Parser::new(expression)?.threshold(None)
    }
}

impl Threshold {
    /// A threshold in which the metric may be left out, as in `p99<20ms`; it is then `metric`.
    pub fn parse_with_default(expression: &str, metric: Metric) -> Result<Threshold, ThresholdError> {
        Parser::new(expression)?.threshold(Some(metric))
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

/// A part of the expression and where it is.
type Word<'a> = (&'a str, Range<usize>);

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Result<Parser<'a>, ThresholdError> {
        let parser = Parser { text, at: 0 };
        match text
            .char_indices()
            .find(|(at, c)| *at >= LENGTH_MAX || c.is_control())
        {
            Some((at, c)) if c.is_control() => {
                // The position would mean nothing on a screen that obeys the character.
                let shown = Parser {
                    text: &text[..at],
                    at,
                };
                Err(shown.error(at..at, "a control character follows here"))
            }
            Some((at, _)) => Err(parser.error(at..text.len(), format!("longer than {LENGTH_MAX} bytes"))),
            None => Ok(parser),
        }
    }

    fn threshold(mut self, default: Option<Metric>) -> Result<Threshold, ThresholdError> {
        let selector = match default {
            Some(metric) if !self.text.contains(':') => Selector {
                metric,
                operation: None,
                outcome: None,
                phase: None,
                endpoint: None,
            },
            _ => {
                let selector = self.selector()?;
                self.expect(':', "a colon and what to take of it, as in `:p99<20ms`")?;
                selector
            }
        };
        let metric = selector.metric;
        let aggregation = self.aggregation(metric)?;
        let comparison = self.comparison()?;
        let limit = self.limit(metric, aggregation)?;
        let mut threshold = Threshold {
            selector,
            aggregation,
            comparison,
            limit,
            over: None,
            abort: None,
            allow_empty: false,
        };
        while self.clause(&mut threshold)? {}
        Ok(threshold)
    }

    fn selector(&mut self) -> Result<Selector, ThresholdError> {
        let (name, place) = self.word(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let metric = Metric::ALL.into_iter().find(|metric| metric.as_str() == name);
        let metric = metric.ok_or_else(|| {
            let names = listed(Metric::ALL.map(Metric::as_str));
            self.unknown("metric", name, place, &names)
        })?;
        let mut selector = Selector {
            metric,
            operation: None,
            outcome: None,
            phase: None,
            endpoint: None,
        };
        if self.take('{') {
            if !self.text[self.at..].contains('}') {
                return Err(self.error(self.at - 1..self.at, "this `{` is never closed"));
            }
            loop {
                self.tag(&mut selector)?;
                if !self.take(',') {
                    break;
                }
            }
            self.expect('}', "`}` or a comma and another tag")?;
        }
        Ok(selector)
    }

    fn tag(&mut self, selector: &mut Selector) -> Result<(), ThresholdError> {
        let (name, place) = self.word(|c| c.is_alphanumeric() || c == '_' || c == '-');
        let allowed = selector.metric.tags();
        let names = listed(allowed.iter().map(|tag| tag.as_str()));
        let Some(tag) = Tag::ALL.into_iter().find(|tag| tag.as_str() == name) else {
            return Err(self.unknown("tag", name, place, &names));
        };
        if !allowed.contains(&tag) {
            let metric = selector.metric;
            return Err(self.error(
                place,
                format!("`{metric}` is not told apart by `{name}`, only by {names}"),
            ));
        }
        self.expect('=', &format!("`=` and which {name}"))?;
        let (text, value) = self.word(|c| !matches!(c, ',' | '}' | '{' | '=' | '<' | '>' | '"' | '\''));
        let (text, value) = (text.trim_end(), value.start..value.start + text.trim_end().len());
        if text.is_empty() {
            return Err(self.error(value, format!("say which {name}, as in `{name}=…`")));
        }
        let again = match tag {
            Tag::Operation => {
                let names = listed(Operation::ALL.map(Operation::as_str));
                let operation = Operation::ALL
                    .into_iter()
                    .find(|operation| operation.as_str() == text);
                let operation = operation.ok_or_else(|| self.unknown("operation", text, value, &names))?;
                selector.operation.replace(operation).is_some()
            }
            Tag::Outcome => {
                let outcome = self.outcome(selector.metric, text, value)?;
                selector.outcome.replace(outcome).is_some()
            }
            Tag::Phase => selector.phase.replace(text.to_owned()).is_some(),
            Tag::Endpoint => selector.endpoint.replace(text.to_owned()).is_some(),
        };
        match again {
            true => Err(self.error(place, format!("`{name}` is given twice"))),
            false => Ok(()),
        }
    }

    fn outcome(
        &self,
        metric: Metric,
        text: &str,
        place: Range<usize>,
    ) -> Result<OutcomeKind, ThresholdError> {
        // An error with a good outcome is none.
        let possible = |outcome: &OutcomeKind| metric != Metric::Errors || !outcome.is_good();
        let outcome = OutcomeKind::ALL
            .into_iter()
            .find(|outcome| outcome.as_str() == text);
        outcome.filter(possible).ok_or_else(|| {
            let names = OutcomeKind::ALL.into_iter().filter(possible);
            let what = if metric == Metric::Errors {
                "error"
            } else {
                "outcome"
            };
            self.unknown(what, text, place, &listed(names.map(OutcomeKind::as_str)))
        })
    }

    fn aggregation(&mut self, metric: Metric) -> Result<Aggregation, ThresholdError> {
        let (name, place) = self.word(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '(' | ')'));
        let allowed = match (metric.kind(), metric) {
            (MetricKind::Latency, _) => "p50, p99, p99.9 and so on, max, mean, min and count",
            (MetricKind::Tally, Metric::Throughput | Metric::Goodput) => "mean, rate and count",
            (MetricKind::Tally, _) => "rate and count",
            (MetricKind::Outages, _) => "longest and count",
        };
        let aggregation = match name {
            "max" => Aggregation::Max,
            "mean" => Aggregation::Mean,
            "min" => Aggregation::Min,
            "rate" => Aggregation::Rate,
            "count" => Aggregation::Count,
            "longest" => Aggregation::Longest,
            "p0" | "p100" => {
                let instead = if name == "p0" { "min" } else { "max" };
                return Err(self.error(place, format!("`{name}` is written `{instead}`")));
            }
            _ => match name.strip_prefix('p').and_then(percentile) {
                Some(percentile) => Aggregation::Percentile(percentile),
                None => return Err(self.unknown("aggregation", name, place, allowed)),
            },
        };
        let fits = match metric.kind() {
            MetricKind::Latency => !matches!(aggregation, Aggregation::Rate | Aggregation::Longest),
            MetricKind::Tally => match aggregation {
                Aggregation::Mean => matches!(metric, Metric::Throughput | Metric::Goodput),
                other => matches!(other, Aggregation::Rate | Aggregation::Count),
            },
            MetricKind::Outages => matches!(aggregation, Aggregation::Longest | Aggregation::Count),
        };
        match fits {
            true => Ok(aggregation),
            false => Err(self.error(place, format!("`{metric}` has no `{name}`, only {allowed}"))),
        }
    }

    fn comparison(&mut self) -> Result<Comparison, ThresholdError> {
        let (sign, place) = self.word(|c| matches!(c, '<' | '>' | '=' | '!' | '~' | '≤' | '≥'));
        Ok(match sign {
            "<" => Comparison::Below,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Above,
            ">=" => Comparison::AtLeast,
            "" => return Err(self.error(self.rest(), "a comparison is missing here: <, <=, > or >=")),
            other => {
                return Err(self.error(
                    place,
                    format!("there is no comparison `{other}`: use <, <=, > or >="),
                ));
            }
        })
    }

    fn limit(&mut self, metric: Metric, aggregation: Aggregation) -> Result<Limit, ThresholdError> {
        let (digits, number_place) = self.word(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | '_'));
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
            && digits.starts_with(|c: char| c.is_ascii_digit());
        let number: Option<f64> = digits.parse().ok().filter(|_| plain);
        let Some(number) = number else {
            let place = if digits.is_empty() {
                self.rest()
            } else {
                number_place
            };
            return Err(self.error(place, "a number is needed here, such as 20 or 0.5"));
        };
        let (suffix, place) = self.word(|c| c.is_alphabetic() || matches!(c, '%' | '/'));
        // Only a count may stand without a unit, and so may be followed by a word; a duration written `20 over 5s` still
        // fails, for want of its unit.
        let word_follows = matches!(suffix, "over" | "abort" | "allow" | "after");
        let (suffix, place) = match word_follows {
            true => {
                self.at = place.start;
                ("", number_place.clone())
            }
            false => (suffix, place),
        };
        let (allowed, help) = units(metric, aggregation);
        let Some((factor, unit)) = unit(suffix).filter(|(_, unit)| allowed.contains(unit)) else {
            let what = match suffix {
                "" => format!("`{digits}` has no unit"),
                _ => format!("`{suffix}` is not a unit of `{metric}:{aggregation}`"),
            };
            let place = if suffix.is_empty() { number_place } else { place };
            return Err(self.error(place, format!("{what}: it is {help}")));
        };
        let limit = Limit {
            number: number * factor,
            unit,
        };
        match limit.value().is_finite() {
            true => Ok(limit),
            false => Err(self.error(number_place, "the number is too large")),
        }
    }

    /// Reads a clause, if there is one.
    fn clause(&mut self, threshold: &mut Threshold) -> Result<bool, ThresholdError> {
        let (name, place) = self.word(|c| !c.is_whitespace());
        let again = match name {
            "" => return Ok(false),
            "over" => threshold.over.replace(self.duration("over")?).is_some(),
            "abort" => {
                let before = self.at;
                let (word, _) = self.word(|c| !c.is_whitespace());
                let after = match word {
                    "after" => self.duration("after")?,
                    _ => {
                        self.at = before;
                        Duration::ZERO
                    }
                };
                threshold.abort.replace(Abort { after }).is_some()
            }
            "allow-empty" => std::mem::replace(&mut threshold.allow_empty, true),
            _ => {
                let message =
                    "what follows a limit is `over 10s`, `abort`, `abort after 5s` or `allow-empty`";
                return Err(self.error(place, message));
            }
        };
        match again {
            true => Err(self.error(place, format!("`{name}` is given twice"))),
            false => Ok(true),
        }
    }

    fn duration(&mut self, after: &str) -> Result<Duration, ThresholdError> {
        let (text, place) = self.word(|c| !c.is_whitespace());
        let place = if text.is_empty() { self.rest() } else { place };
        match humantime::parse_duration(text) {
            Ok(duration) if !duration.is_zero() => Ok(duration),
            _ => Err(self.error(
                place,
                format!("`{after}` needs a duration above zero, such as 500ms, 10s or 2m"),
            )),
        }
    }

    /// The next characters that belong to a word, after any white space.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> Word<'a> {
        self.skip_space();
        let rest = &self.text[self.at..];
        let length = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let place = self.at..self.at + length;
        self.at = place.end;
        (&self.text[place.clone()], place)
    }

    fn take(&mut self, sign: char) -> bool {
        self.skip_space();
        let found = self.text[self.at..].starts_with(sign);
        self.at += if found { sign.len_utf8() } else { 0 };
        found
    }

    fn expect(&mut self, sign: char, what: &str) -> Result<(), ThresholdError> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(self.error(self.next(), format!("expected {what}"))),
        }
    }

    fn skip_space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// The next character, or the end.
    fn next(&self) -> Range<usize> {
        let length = self.text[self.at..].chars().next().map_or(0, char::len_utf8);
        self.at..self.at + length
    }

    /// Everything up to the end.
    fn rest(&self) -> Range<usize> {
        self.at..self.text.trim_end().len().max(self.at)
    }

    fn unknown(&self, what: &str, name: &str, place: Range<usize>, known: &str) -> ThresholdError {
        match name {
            "" => {
                let start = place.start;
                let length = self.text[start..].chars().next().map_or(0, char::len_utf8);
                self.error(
                    start..start + length,
                    format!("expected {}: {known}", article(what)),
                )
            }
            _ => self.error(place, format!("there is no {what} `{name}`: use {known}")),
        }
    }

    fn error(&self, place: Range<usize>, message: impl Into<String>) -> ThresholdError {
        ThresholdError {
            expression: self.text.to_owned(),
            start: place.start,
            end: place.end,
            message: message.into(),
        }
    }
}

/// `99.9` and the like.
fn percentile(text: &str) -> Option<Percentile> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 2 || fraction.len() > 4 {
        return None;
    }
    let number = format!("{whole}{fraction:0<4}").parse().ok()?;
    Percentile::from_millionths(number)
}

/// What a suffix multiplies by, and the unit that it names.
fn unit(suffix: &str) -> Option<(f64, Unit)> {
    Some(match suffix {
        "us" | "µs" | "μs" => (1.0, Unit::Microseconds),
        "ms" => (1.0, Unit::Milliseconds),
        "s" => (1.0, Unit::Seconds),
        "%" => (1.0, Unit::Percent),
        "/s" => (1.0, Unit::PerSecond),
        "k/s" => (1e3, Unit::PerSecond),
        "m/s" => (1e6, Unit::PerSecond),
        "" => (1.0, Unit::Count),
        "k" => (1e3, Unit::Count),
        "m" => (1e6, Unit::Count),
        _ => return None,
    })
}

/// The units that a limit may have, and what to say to others.
fn units(metric: Metric, aggregation: Aggregation) -> (&'static [Unit], &'static str) {
    const TIME: &[Unit] = &[Unit::Microseconds, Unit::Milliseconds, Unit::Seconds];
    match (metric, aggregation) {
        (_, Aggregation::Count) => (&[Unit::Count], "a number without a unit, such as 10 or 5k"),
        (Metric::Throughput | Metric::Goodput, _) => (&[Unit::PerSecond], "a number a second, such as 900/s"),
        (_, Aggregation::Rate) => (
            &[Unit::Percent, Unit::PerSecond],
            "a share of the operations, such as 0.1%, or a number a second, such as 5/s",
        ),
        _ => (TIME, "a time, such as 500us, 20ms or 3s"),
    }
}

fn article(what: &str) -> String {
    match what.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {what}"),
        false => format!("a {what}"),
    }
}

/// `a, b and c`
fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
