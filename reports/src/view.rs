//! What a run says, before it is known whether a page or a terminal will say it.
//!
//! Promises that page and terminal tell the same story, and that neither makes a run look better than its record: a
//! record that contradicts itself is told as such. Pure: no clock, no disk.

use std::collections::BTreeMap;

use crate::format;
use crate::record::{
    CheckStatus, Counts, FaultWindow, Interval, Load, LoadVerdict, LoopKind, Measure, Nanos, NodeSample,
    Operation, OperationLoad, Outcome, OutcomeKind, Percentiles, Role, Run,
};

/// How a headline is coloured; always together with an icon and a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warning,
    Bad,
    Neutral,
}

/// The first thing to read.
pub(crate) struct Headline {
    pub(crate) tone: Tone,
    pub(crate) word: String,
    pub(crate) reason: String,
}

/// Numbers of the load, wherever they come from.
pub(crate) struct Traffic<'a> {
    pub(crate) counts: Counts,
    /// Absent where nothing is known of a plan.
    pub(crate) planned: Option<u64>,
    /// Operations a second that were planned over the time of the load; absent in a closed loop.
    pub(crate) offered: Option<f64>,
    pub(crate) operations: &'a BTreeMap<Operation, OperationLoad>,
    pub(crate) intervals: &'a [Interval],
    /// What the latencies of the intervals measure.
    pub(crate) measure: Measure,
    /// Length and beginning.
    pub(crate) longest_write_gap: Option<(Nanos, Nanos)>,
    /// Length of the load, without the time in which open operations were waited for at its end.
    pub(crate) duration: Nanos,
    /// Operations that ended well in that time.
    ok_in_time: u64,
}

impl<'a> Traffic<'a> {
    pub(crate) fn of(run: &'a Run) -> Option<Traffic<'a>> {
        let lasted = |intervals: &[Interval]| {
            let measured = intervals.iter().map(|i| i.end).max().unwrap_or(0);
            run.manifest
                .as_ref()
                .map(|m| m.duration)
                .filter(|d| *d > 0)
                .unwrap_or(measured)
        };
        if let Some(load) = &run.load {
            let open_loop = load.kind != LoopKind::Closed;
            let duration = length(load).unwrap_or_else(|| lasted(&load.intervals));
            return Some(Traffic {
                counts: load.counts,
                planned: Some(load.planned),
                offered: (open_loop && duration > 0).then(|| load.planned as f64 / seconds(duration)),
                operations: &load.operations,
                intervals: &load.intervals,
                measure: if open_loop {
                    Measure::Response
                } else {
                    Measure::Service
                },
                longest_write_gap: load.longest_write_gap,
                duration,
                ok_in_time: load.ok_in_time.unwrap_or(load.counts.ok),
            });
        }
        let history = run.history.as_ref()?;
        Some(Traffic {
            counts: history.counts,
            planned: None,
            offered: None,
            operations: &history.operations,
            intervals: &history.intervals,
            measure: Measure::Service,
            longest_write_gap: history.longest_write_gap,
            duration: lasted(&history.intervals),
            ok_in_time: history.counts.ok,
        })
    }

    /// Operations a second that happened while the load lasted.
    pub(crate) fn ok_rate(&self) -> Option<f64> {
        (self.duration > 0).then(|| self.ok_in_time as f64 / seconds(self.duration))
    }

    /// The operation with the most traffic, and its latencies.
    pub(crate) fn main_operation(&self) -> Option<(Operation, &'a Percentiles)> {
        let (f, operation) = self.operations.iter().max_by_key(|(_, o)| o.counts.total())?;
        let percentiles = match self.measure {
            Measure::Response => operation.response.as_ref(),
            _ => operation.service.as_ref(),
        };
        percentiles.filter(|p| p.count > 0).map(|p| (*f, p))
    }
}

/// The time of the load: of its plan, as far as the run came; in older records, which do not tell what was answered in that
/// time, of all slices.
fn length(load: &Load) -> Option<Nanos> {
    let start = load.phases.iter().map(|phase| phase.start).min();
    let end = load.phases.iter().map(|phase| phase.end).max();
    let planned = start.zip(end).and_then(|(start, end)| end.checked_sub(start));
    planned
        .filter(|length| *length > 0 && load.ok_in_time.is_some())
        .or_else(|| span(&load.intervals))
}

/// Of the reads that were answered, those that found nothing, and all of them.
pub(crate) fn missed_reads(load: &Load) -> Option<(u64, u64)> {
    let (missed, all) = load
        .operations
        .iter()
        .filter(|(operation, _)| **operation == Operation::Get)
        .map(|(_, of)| {
            let missed = of.outcomes.get(&OutcomeKind::NotFound);
            (missed.map_or(0, |outcome| outcome.count), of.counts.ok)
        })
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (missed > 0).then_some((missed, all))
}

/// The time that slices cover: without what came before the load, such as a warm-up or the writing of records.
fn span(intervals: &[Interval]) -> Option<Nanos> {
    let start = intervals.iter().map(|i| i.start).min()?;
    let end = intervals.iter().map(|i| i.end).max()?;
    end.checked_sub(start).filter(|length| *length > 0)
}

/// The verdict in a word and a sentence.
pub(crate) fn headline(run: &Run) -> Headline {
    if let Some(verdict) = &run.verdict {
        let (tone, word) = match verdict.outcome {
            Outcome::Pass => (Tone::Good, "Pass"),
            Outcome::Violation => (Tone::Bad, "Violation"),
            Outcome::Liveness => (Tone::Bad, "Liveness violation"),
            Outcome::Inconclusive => (Tone::Warning, "Inconclusive"),
            Outcome::Error => (Tone::Warning, "Error"),
            Outcome::Interrupted => (Tone::Neutral, "Interrupted"),
        };
        return Headline {
            tone,
            word: word.into(),
            reason: verdict.reason.clone(),
        };
    }
    let partial = run.manifest.as_ref().is_some_and(|m| m.partial);
    let (tone, word, reason) = match &run.load {
        // A value out of nowhere outweighs any doubt about the numbers.
        Some(load) if load.integrity_errors > 0 => (
            Tone::Bad,
            "Impossible values",
            format!(
                "{} returned a value that nobody can have written there.",
                format::plural(load.integrity_errors, "read")
            ),
        ),
        Some(load) => match &load.verdict {
            _ if partial => (
                Tone::Neutral,
                "Interrupted",
                "The run was stopped before its end; the numbers cover what there was by then.".into(),
            ),
            LoadVerdict::Valid if load.kind == LoopKind::Closed => {
                (Tone::Good, "Valid", "Nothing speaks against these numbers: the store answered throughout.".into())
            }
            LoadVerdict::Valid => {
                (Tone::Good, "Valid", "Nothing speaks against these numbers: the generator kept to its plan.".into())
            }
            LoadVerdict::Overloaded(why) => (
                Tone::Warning,
                "Overloaded",
                format!("The store, not the generator, was the limit: {why}"),
            ),
            LoadVerdict::GeneratorBound(why) => (
                Tone::Warning,
                "Generator-bound",
                format!("The generator, not the store, was the limit: {why}"),
            ),
            LoadVerdict::Noisy(why) => {
                (Tone::Warning, "Noisy", format!("A repetition may not agree with these numbers: {why}"))
            }
            LoadVerdict::Unsteady(why) => (Tone::Warning, "Unsteady", format!("The load never settled: {why}")),
            LoadVerdict::TooThin(why) => (Tone::Warning, "Too thin", format!("Too little to say anything: {why}")),
        },
        None => (
            Tone::Neutral,
            "No verdict",
            "The run left no verdict: it was interrupted, or never checked. Nothing here says that the store kept its \
             promises."
                .into(),
        ),
    };
    Headline {
        tone,
        word: word.into(),
        reason,
    }
}

/// What a reader must know before believing anything else: gaps and contradictions in the record.
pub(crate) fn notes(run: &Run) -> Vec<String> {
    let mut notes = run.notes.clone();
    if run.manifest.as_ref().is_some_and(|m| m.partial) {
        notes.push("This run was interrupted. What is shown is what there was by then.".into());
    }
    if run.manifest.is_none() {
        notes.push("There is no manifest.json: seed, machine and command of this run are not known.".into());
    }
    if let Some(history) = &run.history {
        notes.push(format!(
            "There is no load.json: the numbers are counted from the {} of history.jsonl. A history knows no planned \
             start, so these are service times, which hide waiting in front of the store.",
            format::plural(history.events, "event")
        ));
        if let Some(torn) = history.torn {
            notes.push(format!(
                "history.jsonl ends inside line {}: its writer was stopped.",
                torn.line
            ));
        }
        if let Some(damaged) = &history.damaged {
            notes.push(format!(
                "history.jsonl is damaged, and nothing after this counts: {damaged}"
            ));
        }
    }
    notes.extend(load_notes(run));
    notes.extend(verdict_notes(run));
    notes
}

fn load_notes(run: &Run) -> Vec<String> {
    let Some(load) = &run.load else { return Vec::new() };
    let mut notes = Vec::new();
    let total = load.counts.total();
    if total != load.planned {
        notes.push(format!(
            "The counts do not add up: {} operations were planned and {} are accounted for.",
            format::grouped(load.planned),
            format::grouped(total)
        ));
    }
    if load.integrity_errors > 0 && run.verdict.is_some() {
        notes.push(format!(
            "{} returned a value that nobody can have written there.",
            format::plural(load.integrity_errors, "read")
        ));
    }
    let partial = run.manifest.as_ref().is_some_and(|m| m.partial);
    // Where the load's own verdict is not the headline, it is a note.
    if run.verdict.is_some() || partial || load.integrity_errors > 0 {
        match &load.verdict {
            LoadVerdict::Valid => {}
            LoadVerdict::Overloaded(why) => notes.push(format!("The store was overloaded: {why}")),
            LoadVerdict::GeneratorBound(why) => {
                notes.push(format!(
                    "Latency and throughput are the generator's, not the store's: {why}"
                ));
            }
            LoadVerdict::Noisy(why) => notes.push(format!("Speed was measured through noise: {why}")),
            LoadVerdict::Unsteady(why) => notes.push(format!("The load never settled: {why}")),
            LoadVerdict::TooThin(why) => {
                notes.push(format!("Too little load to say anything about speed: {why}"))
            }
        }
    }
    notes.extend(missed_note(run, load));
    if load.kind == LoopKind::Closed {
        notes.push(
            "Closed loop: each client waits for its answer before it asks again, so a slow store is asked less. These \
             latencies are service times and must not be compared with response times."
                .into(),
        );
    }
    notes
}

/// Reads of an empty store are no measurement of a full one.
fn missed_note(run: &Run, load: &Load) -> Option<String> {
    let (missed, all) = missed_reads(load)?;
    let configuration = &run.manifest.as_ref()?.configuration;
    let unloaded = configuration.pointer("/load/preload")?.as_bool() == Some(false);
    (unloaded && missed > all / 2).then(|| {
        format!(
            "{} of {} found nothing: no records were written before the load, and a read of nothing is not what a read \
             costs.",
            format::grouped(missed),
            format::plural(all, "read")
        )
    })
}

fn verdict_notes(run: &Run) -> Vec<String> {
    let Some(verdict) = &run.verdict else {
        return Vec::new();
    };
    let mut notes = Vec::new();
    for check in &verdict.checks {
        let at_least = match check.status {
            CheckStatus::Pass => Outcome::Pass,
            CheckStatus::Inconclusive => Outcome::Inconclusive,
            CheckStatus::Liveness => Outcome::Liveness,
            CheckStatus::Violation => Outcome::Violation,
        };
        if at_least > verdict.outcome {
            notes.push(format!(
                "The verdict says “{}”, but the check {} says “{}”.",
                format::outcome(verdict.outcome),
                check.name,
                format::check_status(check.status)
            ));
        }
    }
    if verdict.outcome == Outcome::Pass {
        let idle = run
            .timeline
            .iter()
            .flat_map(|t| &t.faults)
            .filter(|f| !effective(f))
            .count() as u64;
        if idle > 0 {
            notes.push(format!(
                "The verdict says “pass”, but {} showed no effect.",
                format::plural(idle, "fault")
            ));
        }
    }
    for (term, nodes) in rival_leaders(run.timeline.as_ref().map_or(&[], |t| &t.samples)) {
        notes.push(format!(
            "Two leaders in one term: {} all said that they lead in term {term}.",
            nodes.join(", ")
        ));
    }
    notes
}

/// Whether anything measured shows that the fault took effect.
pub(crate) fn effective(fault: &FaultWindow) -> bool {
    fault.evidence.iter().any(|e| e.effective)
}

/// Terms in which more than one node said that it leads.
pub(crate) fn rival_leaders(samples: &[NodeSample]) -> Vec<(u64, Vec<String>)> {
    let mut leaders: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for sample in samples.iter().filter(|s| s.role == Role::Leader) {
        let nodes = leaders.entry(sample.term).or_default();
        if !nodes.contains(&sample.node) {
            nodes.push(sample.node.clone());
        }
    }
    leaders.into_iter().filter(|(_, nodes)| nodes.len() > 1).collect()
}

/// The slowest of one recovery time over all faults, with the fault it belongs to.
pub(crate) fn slowest(
    run: &Run,
    time: impl Fn(&FaultWindow) -> Option<Nanos>,
) -> Option<(Nanos, &FaultWindow)> {
    let faults = &run.timeline.as_ref()?.faults;
    faults
        .iter()
        .filter_map(|f| time(f).map(|t| (t, f)))
        .max_by_key(|(t, _)| *t)
}

/// The end of the shared time axis: the last thing that happened, and never zero.
pub(crate) fn run_end(run: &Run) -> Nanos {
    let manifest = run.manifest.as_ref().map(|m| m.duration);
    let intervals = Traffic::of(run).and_then(|t| t.intervals.iter().map(|i| i.end).max());
    let history = run.history.as_ref().map(|h| h.end);
    let timeline = run.timeline.as_ref().and_then(|t| {
        let phases = t.phases.iter().map(|p| p.end);
        let samples = t.samples.iter().map(|s| s.time);
        let faults = t
            .faults
            .iter()
            .map(|f| f.healed.or(f.healing).or(f.injected).unwrap_or(f.injecting));
        phases.chain(samples).chain(faults).max()
    });
    [manifest, intervals, history, timeline]
        .into_iter()
        .flatten()
        .max()
        .unwrap_or(0)
        .max(1)
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}

/// One of the few numbers at the top.
pub(crate) struct KeyNumber {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) detail: String,
}

/// The numbers that tell the run in ten seconds; what there is none of is left out.
pub(crate) fn key_numbers(run: &Run, traffic: Option<&Traffic<'_>>) -> Vec<KeyNumber> {
    let faults = run.timeline.as_ref().map_or(&[][..], |t| &t.faults);
    let mut numbers = traffic.map_or_else(Vec::new, traffic_numbers);
    if !faults.is_empty() {
        // A page about faults is about recovery: of the latencies the median can go.
        numbers.retain(|n| n.name != "p50");
        numbers.extend(fault_numbers(run, faults));
    }
    if let Some((length, began)) = traffic.and_then(|t| t.longest_write_gap) {
        let detail = format!("from {}", format::moment(began));
        numbers.push(KeyNumber {
            name: "longest write gap",
            value: format::duration(length),
            detail,
        });
    }
    numbers
}

fn traffic_numbers(t: &Traffic<'_>) -> Vec<KeyNumber> {
    let all = t.counts.total();
    let kinds = [
        (t.counts.failed, "failed"),
        (t.counts.unknown, "unknown"),
        (t.counts.unsent, "unsent"),
    ];
    let lost = kinds
        .iter()
        .filter(|k| k.0 > 0)
        .map(|(n, kind)| format!("{} {kind}", format::grouped(*n)));
    let mut numbers = vec![KeyNumber {
        name: "acknowledged",
        value: format::grouped(t.counts.ok),
        detail: format!(
            "{} of {} operations",
            format::share(t.counts.ok, all),
            format::grouped(all)
        ),
    }];
    if let Some(rate) = t.ok_rate() {
        let detail = t
            .offered
            .map_or_else(String::new, |r| format!("{} offered", format::rate(r)));
        numbers.push(KeyNumber {
            name: "throughput",
            value: format::rate(rate),
            detail,
        });
    }
    numbers.push(KeyNumber {
        name: "not acknowledged",
        value: format::grouped(all.saturating_sub(t.counts.ok)),
        detail: lost.collect::<Vec<_>>().join(", "),
    });
    if let Some((f, p)) = t.main_operation() {
        let kind = if t.measure == Measure::Response {
            "response"
        } else {
            "service"
        };
        for (name, value) in [("p50", p.p50), ("p99", p.p99), ("slowest", p.max)] {
            numbers.extend(value.map(|value| KeyNumber {
                name,
                value: format::duration(value),
                detail: format!("{kind} time, {}", f),
            }));
        }
    }
    numbers
}

fn fault_numbers(run: &Run, faults: &[FaultWindow]) -> Vec<KeyNumber> {
    let (real, all) = (
        faults.iter().filter(|f| effective(f)).count() as u64,
        faults.len() as u64,
    );
    let detail = if real == all {
        "all with a measured effect".into()
    } else {
        format!("{} with a measured effect", format::grouped(real))
    };
    let mut numbers = vec![KeyNumber {
        name: "faults",
        value: format::grouped(all),
        detail,
    }];
    numbers.extend(
        slowest(run, |f| f.recovery.first_write).map(|(time, fault)| KeyNumber {
            name: "slowest to first write",
            value: format::duration(time),
            detail: fault.label.clone(),
        }),
    );
    numbers
}

/// How the generator got there, in a sentence: attempts beyond the first, and its own processor time.
pub(crate) fn effort(run: &Run, traffic: &Traffic<'_>) -> Option<String> {
    let load = run.load.as_ref()?;
    let mut text = format!(
        "{} because a node redirected, {} for other reasons.",
        format::plural(load.redirects, "further attempt"),
        format::grouped(load.retries)
    );
    if let Some(cpu) = load.client_cpu.filter(|_| traffic.duration > 0) {
        let cores = cpu as f64 / traffic.duration as f64;
        text += &format!(" The generator itself kept {cores:.2} processors busy.");
    }
    Some(text)
}
