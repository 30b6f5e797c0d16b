//! Ratios of two targets that were measured in turns, kept in a file and held against later ones.
//!
//! Absolute times belong to a machine on a day; the ratio of two targets measured in turns belongs to the programs, as far
//! as anything does. So a project can keep it beside its sources and be told when it gets worse.
//!
//! Promises: a ratio is always the first target's number divided by the second's, and the file says which is which. The
//! file holds no absolute time, no address and no path. A regression is only called so if even the better end of the
//! measured interval is worse than what was recorded, by more than the tolerance; where trials cannot be believed, or
//! differ so much that only their estimate is worse, nothing is concluded from them, and that is never a pass.

mod file;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::conditions::options;
use super::judge::values;
use super::{Doubt, Metric, SideName, Trial};
use crate::statistics::{ratio, smallest_p};
use reports::record::Measure;

pub use file::RatiosError;
pub use verdict::{Judged, Judgement, RatioVerdict, RatiosVerdict, judge};

/// Probability with which an interval of [`ratio`] holds the true value.
const CONFIDENCE: f64 = 0.95;

/// What a ratio can be of, as a user names it to let it decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Quantity {
    /// Operations answered ok, a second.
    Throughput,
    /// Median latency: response times in an open loop, service times in a closed one.
    P50,
    /// The same for the 99th percentile.
    P99,
    /// CPU time of all servers for each answered operation.
    Cpu,
}

impl Quantity {
    /// What decides unless told otherwise. The 99th percentile differs too much between trials to be among them.
    pub const GATES: [Quantity; 3] = [Quantity::Throughput, Quantity::P50, Quantity::Cpu];

    /// All, in the order in which they are listed.
    const ALL: [Quantity; 4] = [Quantity::Throughput, Quantity::P50, Quantity::P99, Quantity::Cpu];

    /// What it is measured by; the first that all trials have is taken.
    fn metrics(self) -> &'static [Metric] {
        match self {
            Quantity::Throughput => &[Metric::Throughput],
            Quantity::P50 => &[
                Metric::Latency(Measure::Response, 500),
                Metric::Latency(Measure::Service, 500),
            ],
            Quantity::P99 => &[
                Metric::Latency(Measure::Response, 990),
                Metric::Latency(Measure::Service, 990),
            ],
            Quantity::Cpu => &[Metric::ServerCpu],
        }
    }

    /// Which one this metric measures, if any.
    fn of(metric: Metric) -> Option<Quantity> {
        let mut all = Quantity::ALL.into_iter();
        all.find(|quantity| quantity.metrics().contains(&metric))
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Quantity::Throughput => "throughput",
            Quantity::P50 => "p50",
            Quantity::P99 => "p99",
            Quantity::Cpu => "server CPU per operation",
        })
    }
}

/// One side's kind of target and what its trials were asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// Its scheme, such as `raft`.
    pub target: String,
    /// By name; without what differs between trials anyway, and without addresses and paths.
    pub options: BTreeMap<String, Value>,
    /// Nodes; absent before there is a run.
    pub nodes: Option<usize>,
}

impl Setup {
    /// Takes it from the configuration in a manifest; absent if that does not say what the target was.
    pub fn of(configuration: &Value, nodes: Option<usize>) -> Option<Setup> {
        let (target, _) = configuration.get("target")?.as_str()?.split_once("://")?;
        Some(Setup {
            target: target.to_owned(),
            options: options(configuration),
            nodes,
        })
    }
}

/// One of the two targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Its scheme, such as `raft`.
    pub target: String,
    /// Nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodes: Option<usize>,
    /// The generator, not the target, was the limit in at least one trial.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generator_bound: bool,
}

/// One number of the first target divided by the same of the second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// Which number.
    #[serde(deserialize_with = "file::quantity")]
    pub quantity: Metric,
    /// The estimate of Hodges and Lehmann.
    pub ratio: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// Probability with which the interval holds the true ratio: 0.95, or what all pairs of so few trials are worth.
    pub confidence: f64,
}

/// All ratios of two targets, and how they were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratios {
    schema: String,
    version: u64,
    #[serde(default)]
    about: String,
    /// Whose numbers are divided.
    pub first: Party,
    /// By whose.
    pub second: Party,
    /// Trials of each.
    pub trials: [usize; 2],
    /// What the trials were asked, by name.
    pub options: BTreeMap<String, Value>,
    /// The ratios that could be measured.
    pub ratios: Vec<Ratio>,
}

impl Ratios {
    /// Of two targets of which nothing was measured yet. The error names the options in which their trials differ.
    pub fn between(first: &Setup, second: &Setup) -> Result<Ratios, Vec<String>> {
        let party = |setup: &Setup| Party {
            target: setup.target.clone(),
            nodes: setup.nodes,
            generator_bound: false,
        };
        let differences = option_differences(&first.options, &second.options);
        if !differences.is_empty() {
            let line = |(name, a, b): (String, String, String)| format!("{name}: {a} and {b}");
            return Err(differences.into_iter().map(line).collect());
        }
        Ok(Ratios {
            schema: file::SCHEMA.into(),
            version: file::VERSION,
            about: file::ABOUT.into(),
            first: party(first),
            second: party(second),
            trials: [0, 0],
            options: first.options.clone(),
            ratios: Vec::new(),
        })
    }

    /// Fills in what the trials of both say. What not all trials have is left out.
    pub fn measured(mut self, first: &[Trial], second: &[Trial]) -> Ratios {
        let bound = |trials: &[Trial]| {
            let mut doubts = trials.iter().flat_map(|trial| &trial.doubts);
            doubts.any(|doubt| matches!(doubt, Doubt::GeneratorBound(_)))
        };
        self.first.generator_bound = bound(first);
        self.second.generator_bound = bound(second);
        self.trials = [first.len(), second.len()];
        let quantities = Quantity::ALL.into_iter();
        self.ratios = quantities
            .filter_map(|quantity| {
                let mut metrics = quantity.metrics().iter();
                metrics.find_map(|metric| one(*metric, first, second))
            })
            .collect();
        self
    }

    /// In what the trials of the two differ, so that their ratios must not be held against each other; a sentence each.
    pub fn differences(&self, now: &Ratios) -> Vec<String> {
        let told = |name: &str, recorded: &str, now: &str| format!("{name}: {recorded} recorded, {now} now");
        let mut found = Vec::new();
        for (side, recorded, now) in [
            ("first", &self.first, &now.first),
            ("second", &self.second, &now.second),
        ] {
            if recorded.target != now.target {
                found.push(told(&format!("{side} target"), &recorded.target, &now.target));
            } else if let (Some(recorded), Some(nodes)) = (recorded.nodes, now.nodes)
                && recorded != nodes
            {
                let name = format!("nodes of {}", now.target);
                found.push(told(&name, &recorded.to_string(), &nodes.to_string()));
            }
        }
        let options = option_differences(&self.options, &now.options).into_iter();
        found.extend(options.map(|(name, recorded, now)| told(&name, &recorded, &now)));
        found
    }

    /// Both targets, as in `raft / echo`.
    pub fn pair(&self) -> String {
        format!("{} / {}", self.first.target, self.second.target)
    }

    /// One of them is of this quantity.
    pub fn has(&self, quantity: Quantity) -> bool {
        let mut quantities = self.ratios.iter().map(|ratio| Quantity::of(ratio.quantity));
        quantities.any(|of| of == Some(quantity))
    }

    fn of(&self, metric: Metric) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.quantity == metric)
    }
}

/// What speaks against trials, and whose they are.
pub fn doubts<'a>(first: &'a [Trial], second: &'a [Trial]) -> Vec<(SideName, &'a Doubt)> {
    let of = |side, trials: &'a [Trial]| {
        let doubts = trials.iter().flat_map(|trial| &trial.doubts);
        doubts.map(move |doubt| (side, doubt))
    };
    of(SideName::Base, first)
        .chain(of(SideName::New, second))
        .collect()
}

/// The first side's numbers divided by the second's.
fn one(metric: Metric, first: &[Trial], second: &[Trial]) -> Option<Ratio> {
    let (first, second) = (values(metric, first)?, values(metric, second)?);
    let found = ratio(&second, &first)?;
    let (low, high, confidence) = match found.interval {
        Some(interval) => (interval.low, interval.high, CONFIDENCE),
        // Too few for 95 %. From the smallest to the largest of all pairs is what there is, and is told for what it is worth.
        None => {
            let pairs = || second.iter().flat_map(|b| first.iter().map(move |a| a / b));
            let low = pairs().fold(f64::INFINITY, f64::min);
            let high = pairs().fold(0.0, f64::max);
            (low, high, 1.0 - smallest_p(first.len(), second.len()))
        }
    };
    Some(Ratio {
        quantity: metric,
        ratio: found.estimate,
        // Logarithms and quotients round differently.
        low: low.min(found.estimate),
        high: high.max(found.estimate),
        confidence,
    })
}

/// Name and both values of every option that is not the same.
fn option_differences(
    one: &BTreeMap<String, Value>,
    other: &BTreeMap<String, Value>,
) -> Vec<(String, String, String)> {
    let text = |value: Option<&Value>| match value {
        None => "not given".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    };
    let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
    names.sort();
    names.dedup();
    names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name))
        .map(|name| (name.clone(), text(one.get(name)), text(other.get(name))))
        .collect()
}
