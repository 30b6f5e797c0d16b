//! The story of a run for a terminal, and the same for a program.
//!
//! Promises: at most [`LINES_MAX`] lines of plain text, the verdict first and the way to run it again last. What does
//! not fit is counted, not dropped in silence. Control characters from a record never reach the terminal. The JSON form
//! carries a version and only grows.

use serde_json::{Value, json};

use crate::format;
use crate::record::{CheckStatus, FaultWindow, Measure, Operation, OperationLoad, Percentiles, Run, RunKind};
use crate::view::{self, Traffic};

/// Version of [`summary_json`]; fields are added without raising it.
pub const SUMMARY_VERSION: u32 = 1;

/// Lines of a summary, at most.
pub const LINES_MAX: usize = 20;

const CHECKS_MAX: usize = 5;
const NOTES_MAX: usize = 3;

/// The story of a run in at most [`LINES_MAX`] lines.
pub fn summary(run: &Run) -> String {
    let headline = view::headline(run);
    let mut lines = vec![
        format!("{}  {}", headline.word.to_uppercase(), headline.reason),
        about(run),
    ];
    limited(&mut lines, view::notes(run), NOTES_MAX, "note", |note| {
        format!("  note: {note}")
    });
    let mut checks: Vec<_> = run.verdict.iter().flat_map(|v| &v.checks).collect();
    // Where there is no room for all, what went wrong comes first.
    checks.sort_by_key(|c| c.status == CheckStatus::Pass);
    limited(&mut lines, checks, CHECKS_MAX, "check", |c| {
        format!(
            "  {:<12} {}: {}",
            format::check_status(c.status),
            c.name,
            c.detail
        )
    });
    if let Some(traffic) = Traffic::of(run) {
        lines.push(load_line(&traffic) + &missed_reads(run));
        lines.extend(
            traffic
                .operations
                .iter()
                .map(|(f, o)| operation_line(*f, o, traffic.measure)),
        );
    }
    let again = run.manifest.as_ref().filter(|m| !m.command.is_empty());
    let again = again.map(|m| format!("  again: {}", format::command(&m.command)));
    let faults: Vec<_> = run.timeline.iter().flat_map(|t| &t.faults).enumerate().collect();
    let room = LINES_MAX.saturating_sub(lines.len() + usize::from(again.is_some()));
    limited(&mut lines, faults, room, "fault", |(n, fault)| {
        fault_line(n + 1, fault)
    });
    lines.extend(again);
    let mut text = String::new();
    for line in lines {
        text.extend(
            line.trim_end()
                .chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c }),
        );
        text.push('\n');
    }
    text
}

/// Adds at most `max` lines, of which the last counts what is left.
fn limited<T>(lines: &mut Vec<String>, items: Vec<T>, max: usize, noun: &str, line: impl Fn(T) -> String) {
    let total = items.len();
    let shown = if total <= max {
        total
    } else {
        max.saturating_sub(1)
    };
    lines.extend(items.into_iter().take(shown).map(line));
    if total > shown && max > 0 {
        lines.push(format!(
            "  … {}",
            format::plural((total - shown) as u64, &format!("more {noun}"))
        ));
    }
}

fn about(run: &Run) -> String {
    let Some(m) = &run.manifest else {
        return format!("  {}", run.folder);
    };
    format!(
        "  {} {}, {}, {}, seed {}, {}",
        match m.kind {
            RunKind::Chaos => "chaos run",
            RunKind::Load => "load run",
        },
        m.name,
        format::duration(m.duration),
        format::plural(m.nodes.len() as u64, "node"),
        m.seed,
        m.started_at
    )
}

fn load_line(t: &Traffic<'_>) -> String {
    let mut text = String::from("  load: ");
    if let Some(rate) = t.ok_rate() {
        text += &format!("{} ok", format::rate(rate));
        if let Some(offered) = t.offered {
            text += &format!(" of {} offered", format::rate(offered));
        }
        text += "; ";
    }
    let c = t.counts;
    text += &format!("{} ok", format::grouped(c.ok));
    for (n, word) in [(c.failed, "failed"), (c.unknown, "unknown"), (c.unsent, "unsent")] {
        text += &format!(", {} {word}", format::grouped(n));
    }
    if let Some((length, began)) = t.longest_write_gap {
        text += &format!(
            "; longest write gap {} from {}",
            format::duration(length),
            format::moment(began)
        );
    }
    text
}

fn operation_line(f: Operation, operation: &OperationLoad, measure: Measure) -> String {
    let (name, percentiles) = match measure {
        Measure::Response => ("response", &operation.response),
        _ => ("service", &operation.service),
    };
    let mut text = format!("  {f:<7}");
    let Some(p) = percentiles.as_ref().filter(|p| p.count > 0) else {
        return format!("{text}{name} time: no operation ended ok");
    };
    text += &format!("{name} time");
    for (name, value) in [("p50", p.p50), ("p99", p.p99), ("p99.9", p.p999), ("max", p.max)] {
        let value = value.map_or_else(|| "too few samples".into(), format::duration);
        text += &format!("  {name} {value}{}", unsure(p, name));
    }
    text + &of_all_planned(p, operation.scheduled.as_ref())
}

/// A word after a percentile of which nobody knows how far off it may be.
fn unsure(p: &Percentiles, name: &str) -> String {
    let Some(confidence) = p.confidence.as_ref() else {
        return String::new();
    };
    let unknown = match name {
        "p50" => p.p50.is_some() && confidence.p50.is_none(),
        "p99" => p.p99.is_some() && confidence.p99.is_none(),
        "p99.9" => p.p999.is_some() && confidence.p999.is_none(),
        _ => false,
    };
    match unknown {
        true => format!(
            " (worth {:.0} independent values: no interval known)",
            confidence.effective_count
        ),
        false => String::new(),
    }
}

/// The 99th percentile of everything that was planned, where what did not end well makes it another one.
fn of_all_planned(ok: &Percentiles, scheduled: Option<&Percentiles>) -> String {
    let Some(scheduled) = scheduled else {
        return String::new();
    };
    match scheduled.p99 {
        _ if scheduled.never.iter().any(|name| name == "p99") => "; of all planned p99 never".into(),
        Some(p99) if ok.p99 != Some(p99) => format!("; of all planned p99 {}", format::duration(p99)),
        _ => String::new(),
    }
}

fn missed_reads(run: &Run) -> String {
    match run.load.as_ref().and_then(view::missed_reads) {
        Some((missed, all)) => format!(
            "; {} of {} found nothing",
            format::grouped(missed),
            format::plural(all, "read")
        ),
        None => String::new(),
    }
}

fn fault_line(number: usize, fault: &FaultWindow) -> String {
    let mut parts = Vec::new();
    parts.push(match (view::effective(fault), fault.evidence.is_empty()) {
        (true, _) => "effective".to_owned(),
        (false, false) => "NO EFFECT SHOWN".to_owned(),
        (false, true) => "effect not measured".to_owned(),
    });
    let r = &fault.recovery;
    for (name, time) in [
        ("new leader", r.new_leader),
        ("first write", r.first_write),
        ("write gap", r.longest_write_gap),
        ("converged", r.converged),
    ] {
        parts.extend(time.map(|t| format!("{name} {}", format::duration(t))));
    }
    if fault.healed.is_none() {
        parts.push("never confirmed healed".to_owned());
    }
    format!(
        "  #{number} {} at {}: {}",
        fault.label,
        format::moment(fault.injecting),
        parts.join(", ")
    )
}

/// The story of a run for a program. `schema` is [`SUMMARY_VERSION`]; times are nanoseconds.
pub fn summary_json(run: &Run) -> Value {
    let headline = view::headline(run);
    let manifest = run.manifest.as_ref();
    json!({
        "schema": SUMMARY_VERSION,
        "name": run.name(),
        "kind": manifest.map(|m| m.kind),
        "partial": manifest.map(|m| m.partial),
        "seed": manifest.map(|m| m.seed),
        "command": manifest.map(|m| &m.command),
        "commit": manifest.and_then(|m| m.commit.as_ref()),
        "duration": manifest.map(|m| m.duration),
        "headline": headline.word,
        "reason": headline.reason,
        "outcome": run.verdict.as_ref().map(|v| v.outcome),
        "exit_code": run.verdict.as_ref().map(|v| v.outcome.exit_code()),
        "notes": view::notes(run),
        "checks": run.verdict.as_ref().map(|v| v.checks.iter().map(|c| json!({
            "name": c.name, "status": c.status, "detail": c.detail,
            "witness": c.witness.as_ref().map(|w| json!({ "key": w.key, "sentence": w.sentence })),
        })).collect::<Vec<_>>()),
        "load": Traffic::of(run).map(|t| load_json(run, &t)),
        "faults": run.timeline.as_ref().map(|t| t.faults.iter().map(|f| json!({
            "kind": f.kind, "label": f.label, "targets": f.targets, "injecting": f.injecting, "injected": f.injected,
            "healing": f.healing, "healed": f.healed, "effective": view::effective(f), "evidence": f.evidence,
            "recovery": f.recovery,
        })).collect::<Vec<_>>()),
    })
}

fn load_json(run: &Run, t: &Traffic<'_>) -> Value {
    json!({
        "source": if run.load.is_some() { "load.json" } else { "history.jsonl" },
        "verdict": run.load.as_ref().map(|l| &l.verdict),
        "kind": run.load.as_ref().map(|l| l.kind),
        "offered_rate": t.offered,
        "ok_rate": t.ok_rate(),
        "planned": t.planned,
        "counts": t.counts,
        "reads_missed": run.load.as_ref().and_then(view::missed_reads).map(|(missed, all)| json!({
            "missed": missed, "of": all,
        })),
        "integrity_errors": run.load.as_ref().map(|l| l.integrity_errors),
        "longest_write_gap": t.longest_write_gap.map(|(length, began)| json!({ "length": length, "began": began })),
        "operations": t.operations.iter().map(|(f, o)| (f.to_string(), json!({
            "counts": o.counts,
            "response": o.response.as_ref().map(percentiles_json),
            "service": o.service.as_ref().map(percentiles_json),
            "scheduled": o.scheduled.as_ref().map(percentiles_json),
            "errors": o.errors,
        }))).collect::<serde_json::Map<_, _>>(),
    })
}

fn percentiles_json(p: &Percentiles) -> Value {
    json!({
        "count": p.count, "min": p.min, "mean": p.mean, "p50": p.p50, "p90": p.p90, "p99": p.p99, "p999": p.p999,
        "max": p.max, "never": p.never,
        "effective_count": p.confidence.as_ref().map(|confidence| confidence.effective_count),
    })
}
