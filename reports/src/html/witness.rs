//! What proves a violation: the sentence, the few operations as bars in real time, and the same as a table.
//!
//! Promises that an operation whose end nobody saw is drawn open, never as if it had ended.

use maud::{Markup, html};

use super::axis::{LEFT, RIGHT, TimeAxis, px};
use super::chart::{
    self,
    Column::{Number, Text},
};
use super::lanes::text_width;
use crate::format;
use crate::record::{Event, EventKind, FaultWindow, Function, Nanos, Value, Witness};

const TOP: f64 = 6.0;
const ROW: f64 = 26.0;
const BAR: f64 = 18.0;

/// Operations drawn and listed; a witness is meant to be a handful.
const OPERATIONS_MAX: usize = 60;

/// One witness; `number` makes its identifiers unique in the page.
pub(super) fn witness(witness: &Witness, number: usize, faults: &[FaultWindow]) -> Markup {
    let mut operations: Vec<&(Event, Option<Event>)> = witness.operations.iter().collect();
    operations.sort_by_key(|(invoke, _)| (invoke.time, invoke.process));
    let hidden = operations.len().saturating_sub(OPERATIONS_MAX);
    operations.truncate(OPERATIONS_MAX);
    html! {
        div.witness {
            p.sentence { (witness.sentence) }
            @if operations.is_empty() {
                p.muted { "The check names no operations." }
            } @else {
                (drawing(witness, &operations, number, faults))
                (table(&operations))
            }
            @if hidden > 0 { p.muted { (format::plural(hidden as u64, "more operation")) " in verdict.json." } }
        }
    }
}

fn drawing(
    witness: &Witness,
    operations: &[&(Event, Option<Event>)],
    number: usize,
    faults: &[FaultWindow],
) -> Markup {
    let time = time_axis(operations);
    let height = operations.len() as f64 * ROW;
    let active: Vec<FaultWindow> = faults
        .iter()
        .filter(|f| f.injecting <= time.end && f.healed.is_none_or(|healed| healed >= time.start))
        .cloned()
        .collect();
    let (title_id, desc_id) = (
        format!("witness-{number}-title"),
        format!("witness-{number}-desc"),
    );
    html! {
        figure {
            div.timeline { div.wide {
                svg.plot viewBox=(format!("0 0 1000 {}", px(TOP + height + chart::TIME_LABELS))) role="img"
                    aria-labelledby=(format!("{title_id} {desc_id}")) {
                    title id=(title_id) { "Operations on key " (witness.key) }
                    desc id=(desc_id) { (witness.sentence) }
                    (chart::fault_bands(&active, &time, TOP, height))
                    (chart::time_grid(&time, TOP, TOP + height))
                    @for (n, (invoke, end)) in operations.iter().enumerate() {
                        (bar(invoke, end.as_ref(), &time, TOP + n as f64 * ROW + (ROW - BAR) / 2.0))
                    }
                }
            } }
            div.legend {
                (chart::key("op-ok", "ok")) (chart::key("op-fail", "failed"))
                (chart::key("op-open", "unknown, may take effect at any later time"))
                @if !active.is_empty() { (chart::key("band", "fault")) }
            }
            @if !active.is_empty() {
                p.muted { "Faults at that time: "
                    @for (n, fault) in active.iter().enumerate() { @if n > 0 { "; " } (fault.label) }
                    "."
                }
            }
        }
    }
}

/// From the first invocation to the last completion, with a margin so that bars do not touch the frame.
fn time_axis(operations: &[&(Event, Option<Event>)]) -> TimeAxis {
    let ends = |(invoke, end): &(Event, Option<Event>)| {
        end.as_ref().map_or(invoke.time, |e| e.time.max(invoke.time))
    };
    let start = operations.iter().map(|o| o.0.time).min().unwrap_or(0);
    let end = operations.iter().map(|o| ends(o)).max().unwrap_or(0);
    let margin = (end - start) / 20 + 1;
    TimeAxis::new(start.saturating_sub(margin), end.saturating_add(margin))
}

fn bar(invoke: &Event, end: Option<&Event>, time: &TimeAxis, top: f64) -> Markup {
    let (class, to) = match end {
        Some(e) if e.kind == EventKind::Ok => ("op-ok", e.time),
        Some(e) if e.kind == EventKind::Fail => ("op-fail", e.time),
        _ => ("op-open", time.end),
    };
    let (x, width) = chart::stretch(time, invoke.time, to);
    let label = sentence(invoke, end);
    let inside = text_width(&label) + 8.0 < width;
    // Beside the bar on the side that has more room.
    let (text_x, anchor) = match (inside, RIGHT - (x + width) >= x - LEFT) {
        (true, _) => (x + 5.0, "start"),
        (false, true) => (x + width + 4.0, "start"),
        (false, false) => (x - 4.0, "end"),
    };
    let room = if inside {
        width
    } else if anchor == "start" {
        RIGHT - text_x
    } else {
        text_x - LEFT
    };
    html! {
        g {
            title { "process " (invoke.process) ": " (label) }
            text.row-name x=(px(LEFT - 8.0)) y=(px(top + 13.0)) text-anchor="end" { "p" (invoke.process) }
            rect.(class) x=(px(x)) y=(px(top)) width=(px(width)) height=(px(BAR)) rx="2" {}
            text.(if !inside { "beside" } else if class == "op-ok" { "on-ok" } else { "on-op" }) x=(px(text_x)) y=(px(top + 13.0)) text-anchor=(anchor) {
                (cut(&label, room))
            }
        }
    }
}

fn cut(text: &str, room: f64) -> String {
    let fits = (room / 6.3).max(4.0) as usize;
    if text.chars().count() <= fits {
        return text.to_owned();
    }
    text.chars().take(fits - 1).chain(['…']).collect()
}

/// `read → "a"`, `write "b"`, `cas "a" to "b" → failed`.
fn sentence(invoke: &Event, end: Option<&Event>) -> String {
    let asked = match (&invoke.f, &invoke.value) {
        (Function::Cas, Value::Pair(expected, new)) => {
            format!(
                "cas {} to {}",
                quoted(expected.as_deref()),
                quoted(new.as_deref())
            )
        }
        (f, Value::One(value)) => format!("{} {}", format::function(*f), quoted(Some(value))),
        (f, _) => format::function(*f).to_owned(),
    };
    match end {
        Some(e) if e.kind == EventKind::Ok && e.f == Function::Read => {
            format!("{asked} → {}", seen(&e.value))
        }
        Some(e) if e.kind == EventKind::Ok => format!("{asked} → ok"),
        Some(e) if e.kind == EventKind::Fail => format!("{asked} → failed"),
        _ => format!("{asked} → unknown"),
    }
}

fn seen(value: &Value) -> String {
    match value {
        Value::Absent => "absent".into(),
        Value::One(value) => quoted(Some(value)),
        Value::Pair(a, b) => format!("{}, {}", quoted(a.as_deref()), quoted(b.as_deref())),
    }
}

fn quoted(value: Option<&str>) -> String {
    value.map_or_else(|| "absent".into(), |v| format!("“{v}”"))
}

fn table(operations: &[&(Event, Option<Event>)]) -> Markup {
    let moment_ns = |time: Nanos| format!("{}.{:09} s", time / 1_000_000_000, time % 1_000_000_000);
    html! {
        div.scroll {
            table.data {
                (chart::head(&[
                    Number("process"), Text("operation"), Text("key"), Number("begins"), Number("ends"), Text("node"),
                    Number("term"), Number("index"), Text("error"),
                ]))
                tbody {
                    @for (invoke, end) in operations.iter().copied() {
                        @let answered = end.as_ref();
                        tr {
                            td.number { (invoke.process) }
                            td.text { (sentence(invoke, answered)) }
                            td.text { (invoke.key) }
                            td.number { (moment_ns(invoke.time)) }
                            td.number { @match answered { Some(e) => (moment_ns(e.time)), None => "never" } }
                            td.text { (answered.and_then(|e| e.node.as_deref()).unwrap_or("–")) }
                            td.number { (optional(answered.and_then(|e| e.term))) }
                            td.number { (optional(answered.and_then(|e| e.index))) }
                            td.text { (answered.and_then(|e| e.error.as_deref()).unwrap_or("")) }
                        }
                    }
                }
            }
        }
    }
}

fn optional(number: Option<u64>) -> String {
    number.map_or_else(|| "–".into(), |n| n.to_string())
}
