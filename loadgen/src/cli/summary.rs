//! What a run came to, for a terminal and for a program: the record's own summary, and what only the generator knows.

use std::io::{self, Write};
use std::path::Path;

use reports::record::{
    Bottleneck, EndpointLoad, Lag, Load, Nanos, Percentiles, ProcessRole, Resources, Run, ThresholdResult,
    ThresholdVerdict,
};
use serde_json::{Value, json};

use super::CommandError;
use crate::clock::human;
use crate::run::LoadOutcome;

/// Error texts shown for an operation.
const ERRORS_MAX: usize = 5;

/// What there is to tell.
pub(super) struct Found<'a> {
    pub(super) run: &'a Run,
    pub(super) outcome: &'a LoadOutcome,
    pub(super) resources: Option<&'a Resources>,
    pub(super) folder: &'a Path,
    pub(super) page: Option<&'a Path>,
}

pub(super) fn text(found: &Found<'_>) -> String {
    let Found { run, outcome, .. } = found;
    let load = &outcome.load;
    let mut lines = vec![reports::summary(run).trim_end().to_owned()];
    lines.extend(sure(load));
    lines.extend(scheduled(load));
    lines.extend(load.lag.as_ref().map(lag));
    lines.push(generator(outcome));
    lines.extend(found.resources.map(cost));
    lines.extend(
        found
            .resources
            .and_then(|resources| resources.bottleneck.as_ref())
            .map(limit),
    );
    lines.extend(endpoints(load));
    lines.extend(outage(load));
    lines.extend(errors(load));
    if load.integrity_errors > 0 {
        lines.push(format!(
            "  DAMAGED: {} values came back that nobody can have written under their key; see history.jsonl",
            load.integrity_errors
        ));
    }
    if outcome.warmup.total() > 0 {
        lines.push(format!(
            "  warm-up: {} operations, in none of these numbers",
            outcome.warmup.total()
        ));
    }
    lines.extend(
        outcome
            .aborted
            .as_ref()
            .map(|why| format!("  ended early: {why}")),
    );
    lines.extend(load.thresholds.iter().map(threshold));
    lines.push(format!("  record: {}", found.folder.display()));
    lines.extend(found.page.map(|page| format!("  page:   {}", page.display())));
    lines.join("\n") + "\n"
}

pub(super) fn threshold(result: &ThresholdResult) -> String {
    let word = match result.verdict {
        ThresholdVerdict::Pass => "pass",
        ThresholdVerdict::Inconclusive => "INCONCLUSIVE",
        ThresholdVerdict::Fail => "FAIL",
    };
    format!("  threshold {}: {word}: {}", result.expression, result.reason)
}

pub(super) fn lag(lag: &Lag) -> String {
    format!(
        "  started late by p50 {}, p99 {} (noticed late by p50 {}, p99 {}; then waited to be started p99 {})",
        or_few(lag.total.p50),
        or_few(lag.total.p99),
        or_few(lag.pacer.p50),
        or_few(lag.pacer.p99),
        or_few(lag.queue.p99)
    )
}

/// CPU time for each operation, on both sides.
pub(super) fn cost(resources: &Resources) -> String {
    let side = |role| match resources.cpu_us_per_ok(role) {
        Some(cost) => format!("{cost:.1} µs"),
        None => "n/a".into(),
    };
    format!(
        "  CPU time per ok operation: generator {}, servers together {}",
        side(ProcessRole::Client),
        side(ProcessRole::Server)
    )
}

pub(super) fn limit(bottleneck: &Bottleneck) -> String {
    format!("  bottleneck: {}", bottleneck.sentence)
}

/// Where requests went, if that is worth a line.
pub(super) fn endpoints(load: &Load) -> Option<String> {
    let parts: Vec<String> = load
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.attempts > 0)
        .map(|endpoint| {
            let name = endpoint.node.as_ref().unwrap_or(&endpoint.endpoint);
            let EndpointLoad {
                attempts,
                ok,
                redirects,
                retries,
                ..
            } = endpoint;
            format!("{name} {attempts} ({ok} ok, {redirects} redirected to it, {retries} retries)")
        })
        .collect();
    (load.redirects + load.retries > 0 || parts.len() > 1)
        .then(|| format!("  requests: {}", parts.join(", ")))
}

/// How much of the longest gap was the generator's own waiting.
pub(super) fn outage(load: &Load) -> Option<String> {
    let (length, _) = load.longest_write_gap?;
    let own = load.own_backoff_in_gap.filter(|own| *own > 0)?;
    Some(format!(
        "  of the longest write gap ({}), the generator's own pauses between attempts were {}",
        human(length),
        human(own)
    ))
}

pub(super) fn errors(load: &Load) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, operation) in &load.operations {
        let mut errors: Vec<_> = operation.errors.iter().collect();
        errors.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = errors.iter().take(ERRORS_MAX);
        lines.extend(shown.map(|(text, count)| format!("  {count} {name}: {text}")));
        if errors.len() > ERRORS_MAX {
            let rest: u64 = errors[ERRORS_MAX..].iter().map(|(_, count)| **count).sum();
            lines.push(format!("  {rest} {name}: other errors, see load.json"));
        }
    }
    lines
}

/// Where the percentiles of a repetition under the same conditions would lie.
pub(super) fn sure(load: &Load) -> Option<String> {
    let total = load.total.as_ref()?;
    let (name, latency) = match &total.response {
        Some(response) => ("response", response),
        None => ("service", total.service.as_ref()?),
    };
    let confidence = latency.confidence.as_ref()?;
    let part = |name: &str, value: Option<Nanos>, interval: Option<(Nanos, Nanos)>| {
        value.map(|_| match interval {
            Some((low, high)) => format!("{name} {} to {}", human(low), human(high)),
            None => format!("{name} none known"),
        })
    };
    let parts = [
        part("p50", latency.p50, confidence.p50),
        part("p99", latency.p99, confidence.p99),
        part("p99.9", latency.p999, confidence.p999),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    Some(format!(
        "  95 % intervals of the {name} time of all operations: {} ({} values, worth {:.0} independent ones)",
        parts.join(", "),
        latency.count,
        confidence.effective_count
    ))
}

/// The 99th percentile of everything that was planned, which failures cannot improve.
pub(super) fn scheduled(load: &Load) -> Option<String> {
    let parts: Vec<_> = load
        .operations
        .iter()
        .filter_map(|(function, operation)| {
            let p = operation.scheduled.as_ref()?;
            let p99 = match p.p99 {
                Some(p99) => human(p99),
                None if p.never.iter().any(|name| name == "p99") => "never (too many did not end ok)".into(),
                None => format!("n/a (1000 operations needed, {} planned)", p.count),
            };
            Some(format!("{} {p99}", function.as_str()))
        })
        .collect();
    (!parts.is_empty()).then(|| format!("  p99 of all planned, ok or not: {}", parts.join(", ")))
}

fn generator(outcome: &LoadOutcome) -> String {
    let load = &outcome.load;
    let mut text = String::from("  generator:");
    if let Some(cpu) = load.client_cpu {
        let wall = outcome.ended.saturating_sub(outcome.begins).max(1);
        text += &format!(" {:.0} % of a core;", cpu as f64 / wall as f64 * 100.0);
    }
    text += &format!(" {} redirects, {} retries", load.redirects, load.retries);
    if outcome.queued > 0 {
        text += &format!(
            "; {} arrivals waited because too much was in flight",
            outcome.queued
        );
    }
    text
}

fn or_few(value: Option<Nanos>) -> String {
    value.map_or_else(|| "n/a".into(), human)
}

pub(super) fn json(found: &Found<'_>) -> Value {
    let outcome = found.outcome;
    let mut document = reports::summary_json(found.run);
    document["folder"] = json!(found.folder);
    document["page"] = json!(found.page);
    document["generator"] = json!({
        "lateness": outcome.lateness.as_ref().map(percentiles),
        "latency": percentiles(&outcome.latency),
        "cpu": outcome.load.client_cpu,
        "queued": outcome.queued,
        "redirects": outcome.load.redirects,
        "retries": outcome.load.retries,
        "warmup": outcome.warmup,
    });
    document["aborted"] = json!(outcome.aborted);
    document["thresholds"] = json!(outcome.load.thresholds);
    document["outcomes"] = json!(outcome.load.total.as_ref().map(|total| &total.outcomes));
    document["endpoints"] = json!(outcome.load.endpoints);
    document["terms"] = json!(outcome.load.terms);
    document["cpu_us_per_ok"] = json!({
        "generator": found.resources.and_then(|of| of.cpu_us_per_ok(ProcessRole::Client)),
        "servers": found.resources.and_then(|of| of.cpu_us_per_ok(ProcessRole::Server)),
    });
    document["bottleneck"] = json!(found.resources.and_then(|of| of.bottleneck.as_ref()));
    document
}

fn percentiles(percentiles: &Percentiles) -> Value {
    json!(percentiles)
}

pub(super) fn print(text: &str) -> Result<(), CommandError> {
    print_bytes(text.as_bytes())
}

/// The text without what would move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(visible).collect()
}

pub(super) fn print_bytes(text: &[u8]) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        // Whoever reads us has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CommandError::environment(error)),
        Ok(()) => Ok(()),
    }
}
