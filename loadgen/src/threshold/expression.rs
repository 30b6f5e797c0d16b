//! What a threshold says, as a type, and how it is written.

use std::fmt;
use std::time::Duration;

use reports::record::{Operation, OutcomeKind, ThresholdUnit};

/// One condition on a run. Made from text with [`str::parse`]; prints back into what parses to the same threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub selector: Selector,
    /// Which number of it.
    pub aggregation: Aggregation,
    /// On which side of the limit that number must be.
    pub comparison: Comparison,
    /// The limit.
    pub limit: Limit,
    /// If set, it must hold in each stretch of this length, one after the other from the beginning of what is looked at; also in
    /// what is left at the end, if that is at least half as long.
    pub over: Option<Duration>,
    /// If set, a run is stopped as soon as it does not hold.
    pub abort: Option<Abort>,
    /// It holds where nothing was measured.
    pub allow_empty: bool,
}

/// When a run is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// Not before this much of the run has passed.
    pub after: Duration,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The metric.
    pub metric: Metric,
    /// Only of this operation.
    pub operation: Option<Operation>,
    /// Only of what ended so.
    pub outcome: Option<OutcomeKind>,
    /// Only in this phase.
    pub phase: Option<String>,
    /// Only of what this endpoint was asked.
    pub endpoint: Option<String>,
}

/// A tag of a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// `op`
    Operation,
    /// `outcome`
    Outcome,
    /// `phase`
    Phase,
    /// `endpoint`
    Endpoint,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// From the planned start to the outcome, of operations that ended ok.
    Response,
    /// From the first attempt to the outcome, of operations that ended ok.
    Service,
    /// From the sending of an attempt to its answer.
    Attempt,
    /// From the planned start to the first attempt.
    Lag,
    /// From the planned start, of all operations; those that did not end ok count as infinitely slow.
    Scheduled,
    /// Operations that did not end ok.
    Errors,
    /// Operations that ended, one way or the other.
    Throughput,
    /// Operations that ended ok.
    Goodput,
    /// Attempts repeated, other than because of a redirect.
    Retries,
    /// Attempts repeated because a node pointed to another one.
    Redirects,
    /// Stretches without any acknowledged write; with `op`, without any acknowledged operation of that kind.
    Unavailable,
}

/// What kind of number a metric gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A time for each operation.
    Latency,
    /// A number of operations, or of what they did.
    Tally,
    /// Stretches of time.
    Outages,
}

/// Which number of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aggregation {
    /// `pN`
    Percentile(Percentile),
    /// `max`
    Max,
    /// `mean`; of a throughput, the same as `rate`.
    Mean,
    /// `min`
    Min,
    /// `rate`: a share of the operations with a limit in `%`, else how often in a second.
    Rate,
    /// `count`
    Count,
    /// `longest`
    Longest,
}

/// A percentile strictly between 0 and 100, with up to four digits after the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percentile {
    millionths: u32,
}

impl Percentile {
    /// From millionths: 990,000 is the 99th percentile. Absent unless it lies between 0 and 1,000,000.
    pub fn from_millionths(millionths: u32) -> Option<Percentile> {
        (1..1_000_000)
            .contains(&millionths)
            .then_some(Percentile { millionths })
    }

    /// As a part of one.
    pub fn quantile(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }

    /// The rank, counted from one, of the value that is this percentile of `total`.
    pub fn rank(self, total: u64) -> u64 {
        (u128::from(total) * u128::from(self.millionths)).div_ceil(1_000_000) as u64
    }
}

/// On which side of the limit a number must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Below,
    /// `<=`
    AtMost,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
}

impl Comparison {
    /// Whether `value` is on the right side of `limit`.
    pub fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Comparison::Below => value < limit,
            Comparison::AtMost => value <= limit,
            Comparison::Above => value > limit,
            Comparison::AtLeast => value >= limit,
        }
    }

    /// Whether small numbers are the good ones.
    pub fn wants_little(self) -> bool {
        matches!(self, Comparison::Below | Comparison::AtMost)
    }
}

/// A limit as it was written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// The number, in `unit`.
    pub number: f64,
    /// Its unit.
    pub unit: Unit,
}

/// Units of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `us`
    Microseconds,
    /// `ms`
    Milliseconds,
    /// `s`
    Seconds,
    /// `%`
    Percent,
    /// `/s`
    PerSecond,
    /// nothing
    Count,
}

impl Limit {
    /// The number in the unit in which it is compared: nanoseconds, a part of one, a number a second, a number.
    pub fn value(self) -> f64 {
        match self.unit {
            Unit::Microseconds => self.number * 1e3,
            Unit::Milliseconds => self.number * 1e6,
            Unit::Seconds => self.number * 1e9,
            Unit::Percent => self.number / 100.0,
            Unit::PerSecond | Unit::Count => self.number,
        }
    }

    /// That unit.
    pub fn measured_in(self) -> ThresholdUnit {
        match self.unit {
            Unit::Microseconds | Unit::Milliseconds | Unit::Seconds => ThresholdUnit::Nanoseconds,
            Unit::Percent => ThresholdUnit::Share,
            Unit::PerSecond => ThresholdUnit::PerSecond,
            Unit::Count => ThresholdUnit::Count,
        }
    }
}

impl Metric {
    /// All of them, in the order in which they are listed.
    pub const ALL: [Metric; 11] = [
        Metric::Response,
        Metric::Service,
        Metric::Attempt,
        Metric::Lag,
        Metric::Scheduled,
        Metric::Errors,
        Metric::Throughput,
        Metric::Goodput,
        Metric::Retries,
        Metric::Redirects,
        Metric::Unavailable,
    ];

    /// The name in expressions and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::Response => "response",
            Metric::Service => "service",
            Metric::Attempt => "attempt",
            Metric::Lag => "lag",
            Metric::Scheduled => "scheduled",
            Metric::Errors => "errors",
            Metric::Throughput => "throughput",
            Metric::Goodput => "goodput",
            Metric::Retries => "retries",
            Metric::Redirects => "redirects",
            Metric::Unavailable => "unavailable",
        }
    }

    /// What kind of number it gives.
    pub fn kind(self) -> MetricKind {
        match self {
            Metric::Response | Metric::Service | Metric::Attempt | Metric::Lag | Metric::Scheduled => {
                MetricKind::Latency
            }
            Metric::Errors | Metric::Throughput | Metric::Goodput | Metric::Retries | Metric::Redirects => {
                MetricKind::Tally
            }
            Metric::Unavailable => MetricKind::Outages,
        }
    }

    /// The tags by which it can be told apart.
    pub fn tags(self) -> &'static [Tag] {
        use Tag::{Endpoint, Operation, Outcome, Phase};
        match self {
            Metric::Response | Metric::Service | Metric::Attempt | Metric::Errors => {
                &[Operation, Outcome, Phase, Endpoint]
            }
            Metric::Lag | Metric::Scheduled | Metric::Unavailable => &[Operation, Phase],
            Metric::Throughput | Metric::Goodput => &[Operation, Phase, Endpoint],
            Metric::Retries | Metric::Redirects => &[Phase, Endpoint],
        }
    }
}

impl Tag {
    /// All of them.
    pub const ALL: [Tag; 4] = [Tag::Operation, Tag::Outcome, Tag::Phase, Tag::Endpoint];

    /// The name in expressions.
    pub fn as_str(self) -> &'static str {
        match self {
            Tag::Operation => "op",
            Tag::Outcome => "outcome",
            Tag::Phase => "phase",
            Tag::Endpoint => "endpoint",
        }
    }
}

impl Unit {
    /// How it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Microseconds => "us",
            Unit::Milliseconds => "ms",
            Unit::Seconds => "s",
            Unit::Percent => "%",
            Unit::PerSecond => "/s",
            Unit::Count => "",
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Threshold {
            selector,
            aggregation,
            comparison,
            limit,
            ..
        } = self;
        write!(f, "{selector}:{aggregation}{comparison}{limit}")?;
        if let Some(over) = self.over {
            write!(
                f,
                " over {}",
                humantime::format_duration(over).to_string().replace(' ', "")
            )?;
        }
        if let Some(abort) = self.abort {
            f.write_str(" abort")?;
            if !abort.after.is_zero() {
                let after = humantime::format_duration(abort.after).to_string();
                write!(f, " after {}", after.replace(' ', ""))?;
            }
        }
        f.write_str(if self.allow_empty { " allow-empty" } else { "" })
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric.as_str())?;
        let tags = [
            (
                Tag::Operation,
                self.operation.map(|operation| operation.to_string()),
            ),
            (Tag::Outcome, self.outcome.map(|outcome| outcome.to_string())),
            (Tag::Phase, self.phase.clone()),
            (Tag::Endpoint, self.endpoint.clone()),
        ];
        let tags = tags
            .into_iter()
            .filter_map(|(tag, text)| Some(format!("{}={}", tag.as_str(), text?)));
        let tags: Vec<String> = tags.collect();
        match tags.is_empty() {
            true => Ok(()),
            false => write!(f, "{{{}}}", tags.join(",")),
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Aggregation::Percentile(percentile) => return write!(f, "{percentile}"),
            Aggregation::Max => "max",
            Aggregation::Mean => "mean",
            Aggregation::Min => "min",
            Aggregation::Rate => "rate",
            Aggregation::Count => "count",
            Aggregation::Longest => "longest",
        })
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("p{}.{:04}", self.millionths / 10_000, self.millionths % 10_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Comparison::Below => "<",
            Comparison::AtMost => "<=",
            Comparison::Above => ">",
            Comparison::AtLeast => ">=",
        })
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, self.unit.as_str())
    }
}
