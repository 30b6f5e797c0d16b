//! One result from those of several agents.
//!
//! Promises: counts are sums; latencies are computed from histograms that were added up, by the code that computes those of a
//! single run, so that two halves say what the whole would have said; no percentile is ever averaged. What cannot be known from
//! several parts is absent: how long the generators together only waited within a gap, and gaps between writes of less than a
//! tenth of a second (of which only the length that they cannot exceed is told), or beyond the number that each part keeps.
//!
//! How sure the percentiles are is stated carefully: agents see the same store at the same time, so their values are taken to
//! repeat each other, and all together are worth no more than those of the agent whose are worth least.

use std::collections::BTreeMap;
use std::time::Duration;

use reports::record::{
    Counts, EndpointLoad, Event, Interval, Load, LoadVerdict, Nanos, Percentiles, TermLoad,
};

use super::AgentResult;
use crate::export::hlog::{self, IntervalLog};
use crate::percentiles::Latencies;
use crate::recorder::{GAP_MIN, GAPS_MAX, Ledger};
use crate::verdict::{Evidence, OK_MIN, judge, lateness_allowed};

/// Processes of agent number n are numbered from n times this on, in a history of several agents.
pub const PROCESSES_PER_AGENT: u64 = 1 << 32;

/// One result.
#[derive(Debug)]
pub struct Merged {
    /// The numbers.
    pub load: Load,
    /// The interval log.
    pub log: IntervalLog,
    /// The history, in the order of its times, which are off by up to the clocks' errors.
    pub history: Vec<Event>,
    /// Response time in an open loop, service time in a closed one, of all ok operations together.
    pub latency: Percentiles,
    /// How the operations of the warm-up ended.
    pub warmup: Counts,
    /// Arrivals that found too much in flight.
    pub queued: u64,
    /// When the last operation had ended.
    pub ended: Nanos,
    /// At least one was stopped before its plan was over.
    pub stopped: bool,
    /// Why one stopped itself, with its name.
    pub aborted: Option<String>,
    pub(crate) ledger: Ledger,
}

impl Merged {
    /// Adds up what agents of these names sent, whose slices are of this length. Nothing from nothing.
    pub fn of(
        mut parts: Vec<(String, AgentResult)>,
        interval: Nanos,
        lateness_limit: Duration,
    ) -> Option<Merged> {
        let ledger = ledger(&parts)?;
        let mut load = sums(&parts);
        let latency = ledger.headline();
        let summary = ledger.summary();
        load.operations = summary.operations;
        load.total = Some(summary.total);
        load.lag = load.lag.is_some().then(|| ledger.lag());
        load.intervals = intervals(&parts, interval.max(1));
        let late = ledger.noticed_later_than(lateness_allowed(lateness_limit, latency.p50));
        load.verdict = verdict(&parts, &load, &latency, late, lateness_limit);
        let log = log(&mut parts);
        let aborted = parts
            .iter()
            .find_map(|(agent, part)| Some(format!("agent {agent}: {}", part.aborted.as_ref()?)));
        let mut merged = Merged {
            load,
            log,
            history: Vec::new(),
            latency,
            warmup: Counts::default(),
            queued: 0,
            ended: 0,
            stopped: false,
            aborted,
            ledger,
        };
        for (number, (_, part)) in parts.into_iter().enumerate() {
            add(&mut merged.warmup, part.warmup);
            merged.queued += part.queued;
            merged.ended = merged.ended.max(part.ended);
            merged.stopped |= part.stopped;
            let first = number as u64 * PROCESSES_PER_AGENT;
            let events = part.history.into_iter();
            merged.history.extend(events.map(|event| Event {
                process: first + event.process,
                ..event
            }));
        }
        // Stable: events of one agent stay in their order.
        merged.history.sort_by_key(|event| event.time);
        Some(merged)
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.ok += counts.ok;
    sum.failed += counts.failed;
    sum.unknown += counts.unknown;
    sum.unsent += counts.unsent;
}

fn ledger(parts: &[(String, AgentResult)]) -> Option<Ledger> {
    let (_, first) = parts.first()?;
    let mut sum = Ledger::rebuild(&first.load, first.ledger.worth(), &[]).ok()?;
    let mut worth = first.ledger.worth();
    // The counts of the first are in it already; its latencies are not.
    sum.absorb(&first.ledger, &Load::default());
    for (_, part) in &parts[1..] {
        sum.absorb(&part.ledger, &part.load);
        worth = worth.min(part.ledger.worth());
    }
    sum.set_worth(worth / parts.len() as f64);
    Some(sum)
}

/// What is only added up.
fn sums(parts: &[(String, AgentResult)]) -> Load {
    let loads: Vec<&Load> = parts.iter().map(|(_, part)| &part.load).collect();
    let mut sum = Load {
        kind: loads[0].kind,
        rate: loads[0].rate,
        ok_in_time: Some(0),
        lag: loads[0].lag.clone(),
        phases: loads[0].phases.clone(),
        client_cpu: loads.iter().map(|load| load.client_cpu).sum(),
        endpoints: endpoints(&loads),
        terms: terms(&loads),
        write_gaps: write_gaps(&loads),
        ..Load::default()
    };
    for load in loads {
        sum.planned += load.planned;
        add(&mut sum.counts, load.counts);
        sum.ok_in_time = sum.ok_in_time.zip(load.ok_in_time).map(|(sum, more)| sum + more);
        sum.redirects += load.redirects;
        sum.retries += load.retries;
        sum.attempts += load.attempts;
        sum.integrity_errors += load.integrity_errors;
        for (mine, theirs) in sum.phases.iter_mut().zip(&load.phases) {
            mine.end = mine.end.max(theirs.end);
        }
    }
    if let [(_, only)] = parts {
        sum.longest_write_gap = only.load.longest_write_gap;
        sum.own_backoff_in_gap = only.load.own_backoff_in_gap;
    } else if parts
        .iter()
        .all(|(_, part)| part.load.write_gaps.len() < GAPS_MAX)
    {
        let longest = sum.write_gaps.iter().max_by_key(|(_, length)| *length);
        sum.longest_write_gap = longest.map(|(begin, length)| (*length, *begin));
    }
    if sum.longest_write_gap.is_none() {
        sum.write_gap_at_most = gap_at_most(parts);
    }
    sum
}

fn endpoints(loads: &[&Load]) -> Vec<EndpointLoad> {
    let mut sum: Vec<EndpointLoad> = Vec::new();
    for endpoint in loads.iter().flat_map(|load| &load.endpoints) {
        let Some(known) = sum.iter_mut().find(|known| known.endpoint == endpoint.endpoint) else {
            sum.push(endpoint.clone());
            continue;
        };
        known.node = known.node.take().or_else(|| endpoint.node.clone());
        known.attempts += endpoint.attempts;
        known.ok += endpoint.ok;
        known.redirects += endpoint.redirects;
        known.retries += endpoint.retries;
        known.redirected_away += endpoint.redirected_away;
    }
    sum
}

fn terms(loads: &[&Load]) -> Vec<TermLoad> {
    let mut sum = BTreeMap::<u64, TermLoad>::new();
    for term in loads.iter().flat_map(|load| &load.terms) {
        let known = sum.entry(term.term).or_insert_with(|| TermLoad {
            ok: 0,
            redirected: 0,
            retried: 0,
            ..term.clone()
        });
        known.ok += term.ok;
        known.redirected += term.redirected;
        known.retried += term.retried;
        known.first = known.first.min(term.first);
        known.last = known.last.max(term.last);
    }
    sum.into_values().collect()
}

/// Where none of the agents had a write acknowledged: a gap of all lies within a gap of each.
fn write_gaps(loads: &[&Load]) -> Vec<(Nanos, Nanos)> {
    let mut common = loads[0].write_gaps.clone();
    for load in &loads[1..] {
        common = common_gaps(&common, &load.write_gaps);
    }
    common
}

/// How long a gap of all can be at most, where none that is worth telling is known. Not known where an agent wrote nothing.
fn gap_at_most(parts: &[(String, AgentResult)]) -> Option<Nanos> {
    let mut at_most = Nanos::MAX;
    for (_, part) in parts {
        let (longest, _) = part.load.longest_write_gap?;
        at_most = at_most.min(longest);
    }
    let complete = |(_, part): &(String, AgentResult)| part.load.write_gaps.len() < GAPS_MAX;
    Some(match parts.iter().all(complete) {
        true => at_most.min(GAP_MIN - 1),
        false => at_most,
    })
}

/// The stretches that are in both, as far as they are worth telling. Both are in order.
fn common_gaps(left: &[(Nanos, Nanos)], right: &[(Nanos, Nanos)]) -> Vec<(Nanos, Nanos)> {
    let (mut l, mut r, mut common) = (0, 0, Vec::new());
    while let (Some((left_from, left_length)), Some((right_from, right_length))) = (left.get(l), right.get(r))
    {
        let (left_to, right_to) = (left_from + left_length, right_from + right_length);
        let (from, to) = (*left_from.max(right_from), left_to.min(right_to));
        if to >= from + GAP_MIN {
            common.push((from, to - from));
        }
        if left_to <= right_to {
            l += 1;
        } else {
            r += 1;
        }
    }
    common
}

/// Slices of the same beginning become one. Its latencies come from the histograms of the log, with the exact extremes and
/// mean of the slices.
fn intervals(parts: &[(String, AgentResult)], length: Nanos) -> Vec<Interval> {
    let starts = parts
        .iter()
        .filter_map(|(_, part)| Some(part.load.intervals.first()?.start));
    let Some(base) = starts.min() else {
        return Vec::new();
    };
    let place = |start: Nanos| (start.saturating_sub(base) + length / 2) / length;
    let mut slices = BTreeMap::<Nanos, (Interval, Latencies)>::new();
    for (_, part) in parts {
        let mut histograms = BTreeMap::new();
        for entry in part.log.tagged(None) {
            let start = u64::try_from(entry.start).unwrap_or(0);
            histograms.insert(place(start), entry);
        }
        for slice in &part.load.intervals {
            let at = place(slice.start);
            let (sum, latencies) = slices.entry(at).or_insert_with(|| {
                let empty = Interval {
                    planned: 0,
                    counts: Counts::default(),
                    latency: Percentiles::default(),
                    ..slice.clone()
                };
                (empty, Latencies::default())
            });
            sum.end = sum.end.max(slice.end);
            sum.planned += slice.planned;
            add(&mut sum.counts, slice.counts);
            let values = histograms
                .get(&at)
                .and_then(|entry| exact(entry.histogram(), &slice.latency));
            if let Some(values) = values {
                latencies.absorb(&values);
            }
        }
    }
    let begins: Vec<Nanos> = slices.values().map(|(slice, _)| slice.start).collect();
    let following = begins.into_iter().skip(1).map(Some).chain([None]);
    slices
        .into_values()
        .zip(following)
        .map(|((slice, latencies), next)| Interval {
            // One agent's last slice takes in a short rest that is another's next one.
            end: next.unwrap_or(slice.end),
            latency: latencies.percentiles(),
            ..slice
        })
        .collect()
}

/// The values of a slice, with what its histogram has only to three digits. A sum beyond 2^51 ns (26 days) is rounded.
fn exact(histogram: hdrhistogram::Histogram<u64>, known: &Percentiles) -> Option<Latencies> {
    let sum = known.mean? * known.count as f64;
    Latencies::from_parts(histogram, known.min?, known.max?, sum.round() as u128)
}

/// The worst of all agents, with its name, and what only all together show.
fn verdict(
    parts: &[(String, AgentResult)],
    load: &Load,
    latency: &Percentiles,
    late: u64,
    lateness_limit: Duration,
) -> LoadVerdict {
    let together = judge(&Evidence {
        ok: load.counts.ok,
        lateness: load.lag.as_ref().map(|lag| lag.pacer.clone()),
        late: load.lag.is_some().then_some(late),
        lateness_limit,
        response_p50: latency.p50,
        cpu: None,
        waits: None,
        silence: None,
        steadiness: None,
    });
    let each = parts.iter().map(|(agent, part)| named(agent, &part.load.verdict));
    let thin = load.counts.ok < OK_MIN;
    // A part may be too thin by itself where the whole is not.
    let counts = |verdict: &LoadVerdict| thin || !matches!(verdict, LoadVerdict::TooThin(_));
    let all = std::iter::once(together).chain(each).filter(counts);
    // The first of the worst, so that what all together show comes before what one agent shows.
    all.reduce(|worst, next| match severity(&next) > severity(&worst) {
        true => next,
        false => worst,
    })
    .unwrap_or_default()
}

fn severity(verdict: &LoadVerdict) -> u8 {
    match verdict {
        LoadVerdict::Valid => 0,
        LoadVerdict::Noisy(_) => 1,
        LoadVerdict::Unsteady(_) => 2,
        LoadVerdict::Overloaded(_) => 3,
        LoadVerdict::GeneratorBound(_) => 4,
        LoadVerdict::TooThin(_) => 5,
    }
}

fn named(agent: &str, verdict: &LoadVerdict) -> LoadVerdict {
    let name = |reason: &String| format!("agent {agent}: {reason}");
    match verdict {
        LoadVerdict::Valid => LoadVerdict::Valid,
        LoadVerdict::Noisy(reason) => LoadVerdict::Noisy(name(reason)),
        LoadVerdict::Unsteady(reason) => LoadVerdict::Unsteady(name(reason)),
        LoadVerdict::Overloaded(reason) => LoadVerdict::Overloaded(name(reason)),
        LoadVerdict::GeneratorBound(reason) => LoadVerdict::GeneratorBound(name(reason)),
        LoadVerdict::TooThin(reason) => LoadVerdict::TooThin(name(reason)),
    }
}

/// Histograms of the same beginning and tag become one. The last slices of agents end when each of them ended; they are of one
/// slice all the same.
fn log(parts: &mut [(String, AgentResult)]) -> IntervalLog {
    let mut longest = BTreeMap::<i64, i64>::new();
    for entry in parts.iter().flat_map(|(_, part)| &part.log.entries) {
        let length = longest.entry(entry.start).or_default();
        *length = entry.length.max(*length);
    }
    let logs: Vec<IntervalLog> = parts
        .iter_mut()
        .map(|(_, part)| {
            let mut log = std::mem::replace(&mut part.log, IntervalLog::empty(std::time::UNIX_EPOCH));
            for entry in &mut log.entries {
                entry.length = longest.get(&entry.start).copied().unwrap_or(entry.length);
            }
            log
        })
        .collect();
    hlog::merge(&logs)
}

#[cfg(test)]
mod tests;
