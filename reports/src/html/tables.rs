//! Tables: checks, faults with their recovery, percentiles, errors, environment.
//!
//! Promises that a number which is not there says why it is not there.

use maud::{Markup, html};

use super::chart::{
    self,
    Column::{Number, Text},
};
use crate::format;
use crate::record::{
    CheckStatus, Counts, FaultWindow, Manifest, Nanos, OperationLoad, Percentiles, Recovery, Verdict,
};
use crate::view::{self, Traffic};

const ERROR_ROWS_MAX: usize = 50;
const FAULT_ROWS_MAX: usize = 200;

/// Cycles of one kind that make a distribution worth a line.
const CYCLES_MIN: usize = 3;

/// Every check with what was found.
pub(super) fn checks(verdict: &Verdict) -> Markup {
    html! {
        section id="checks" {
            h2 { "Checks" }
            div.scroll { table.checks {
                (chart::head(&[Text("check"), Text("result"), Text("what was found")]))
                tbody {
                    @for check in &verdict.checks {
                        tr {
                            th scope="row" { (check.name.replace('_', " ")) }
                            td { (status(check.status)) }
                            td.text {
                                (check.detail)
                                @if check.witness.is_some() { " " a href="#witness" { "Proof below." } }
                            }
                        }
                    }
                }
            } }
        }
    }
}

fn status(status: CheckStatus) -> Markup {
    let (class, icon) = match status {
        CheckStatus::Pass => ("good", "✓"),
        CheckStatus::Violation | CheckStatus::Liveness => ("bad", "✗"),
        CheckStatus::Inconclusive => ("warning", "?"),
    };
    badge(class, icon, format::check_status(status))
}

fn badge(class: &str, icon: &str, word: &str) -> Markup {
    html! { span.badge.(class) { span aria-hidden="true" { (icon) } " " (word) } }
}

/// Every fault: what shows that it was real, and how the cluster came back.
pub(super) fn faults(faults: &[FaultWindow]) -> Markup {
    let cell = |time: Option<Nanos>| time.map_or_else(|| "–".into(), format::duration);
    html! {
        section id="faults" {
            h2 { "Faults and recovery" }
            div.scroll { table.faults {
                (chart::head(&[
                    Number("#"), Text("fault"), Text("window"), Text("was it real?"), Number("new leader"),
                    Number("first write"), Number("longest write gap"), Number("converged"),
                ]))
                tbody {
                    @for (n, fault) in faults.iter().enumerate().take(FAULT_ROWS_MAX) {
                        tr {
                            td.number { (n + 1) }
                            td.text { (fault.label) div.muted { (fault.targets.join(", ")) } }
                            td.text {
                                span.nowrap { "from " (format::moment(fault.injecting)) } " "
                                @match fault.healed {
                                    Some(healed) => {
                                        span.nowrap { "to " (format::moment(healed)) }
                                        div.muted { (format::duration(healed.saturating_sub(fault.injecting))) }
                                    }
                                    None => div.muted { "never confirmed healed" }
                                }
                            }
                            td.text { (evidence(fault)) }
                            td.number { (cell(fault.recovery.new_leader)) }
                            td.number { (cell(fault.recovery.first_write)) }
                            td.number { (cell(fault.recovery.longest_write_gap)) }
                            td.number { (cell(fault.recovery.converged)) }
                        }
                    }
                }
            } }
            @if faults.len() > FAULT_ROWS_MAX {
                p.muted { (format::plural((faults.len() - FAULT_ROWS_MAX) as u64, "more fault")) " in timeline.json." }
            }
            p.muted {
                "New leader and first write: from the beginning of the injection, the write both begun and acknowledged \
                 after it. Converged: from the healing until all nodes were seen with the same state. –: it did not \
                 happen, or was not disturbed."
            }
            (distributions(faults))
        }
    }
}

fn evidence(fault: &FaultWindow) -> Markup {
    html! {
        @if fault.evidence.is_empty() {
            (badge("warning", "?", "not measured"))
        } @else {
            @if view::effective(fault) { (badge("good", "✓", "effective")) } @else { (badge("warning", "?", "no effect shown")) }
            ul.evidence {
                @for evidence in &fault.evidence {
                    li { span.sign aria-hidden="true" { (if evidence.effective { "+" } else { "−" }) } " " (evidence.what) }
                }
            }
        }
    }
}

/// Spread of the recovery times, for kinds of fault that were injected again and again.
fn distributions(faults: &[FaultWindow]) -> Markup {
    let mut kinds: Vec<&str> = faults.iter().map(|f| f.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    type Time = (&'static str, fn(&Recovery) -> Option<Nanos>);
    let times: [Time; 4] = [
        ("new leader", |r| r.new_leader),
        ("first write", |r| r.first_write),
        ("longest write gap", |r| r.longest_write_gap),
        ("converged", |r| r.converged),
    ];
    let mut rows = Vec::new();
    for kind in kinds {
        for (name, time) in times {
            let of_kind = faults.iter().filter(|f| f.kind == kind);
            let total = of_kind.clone().count();
            let mut values: Vec<Nanos> = of_kind.filter_map(|f| time(&f.recovery)).collect();
            if values.len() >= CYCLES_MIN {
                values.sort_unstable();
                rows.push((kind, name, total, values));
            }
        }
    }
    html! {
        @if !rows.is_empty() {
            h3 { "Over all cycles" }
            div.scroll { table.data {
                (chart::head(&[
                    Text("fault"), Text("time to"), Number("measured"), Number("shortest"), Number("median"), Number("longest"),
                ]))
                tbody {
                    @for (kind, name, total, values) in &rows {
                        tr {
                            td.text { (kind) } td.text { (name) }
                            td.number { (values.len()) " of " (total) }
                            td.number { (format::duration(values[0])) }
                            td.number { (format::duration(values[values.len() / 2])) }
                            td.number { (format::duration(values[values.len() - 1])) }
                        }
                    }
                }
            } }
        }
    }
}

/// Percentiles and counts, operation by operation.
pub(super) fn percentiles(traffic: &Traffic<'_>) -> Markup {
    html! {
        section id="latencies" {
            h2 { "Latency by operation" }
            div.scroll { table.data.percentiles {
                (chart::head(&[
                    Text("operation"), Text("measured"), Number("samples"), Number("min"), Number("p50"), Number("p90"),
                    Number("p99"), Number("p99.9"), Number("max"),
                ]))
                tbody {
                    @for (f, operation) in traffic.operations {
                        @for (n, (measure, percentiles)) in measures(operation).into_iter().enumerate() {
                            tr.first[n == 0] {
                                th scope="row" { @if n == 0 { (f.as_str()) } }
                                td.text { (measure) }
                                (percentile_cells(percentiles, (measure == OF_SCHEDULED).then_some(&operation.counts)))
                            }
                        }
                    }
                }
            } }
            dl.notes {
                dt { "response" } dd { "planned start to outcome, of operations that happened: what a user waits" }
                dt { "service" } dd { "first attempt to outcome, of operations that happened: hides waiting before the store" }
                @if traffic.operations.values().any(|o| o.scheduled.is_some()) {
                    dt { (OF_SCHEDULED) } dd { "as response, but of everything that was planned: whatever is not ok counts as infinitely slow (∞)" }
                }
            }
            h3 { "Outcomes" }
            div.scroll { table.data {
                (chart::head(&[
                    Text("operation"), Number("all"), Number("ok"), Number("failed"), Number("unknown"), Number("unsent"),
                ]))
                tbody {
                    @for (f, operation) in traffic.operations { (count_row(f.as_str(), &operation.counts)) }
                    @if traffic.operations.len() > 1 { (count_row("all", &traffic.counts)) }
                }
            } }
        }
    }
}

const OF_SCHEDULED: &str = "of scheduled";

fn measures(operation: &OperationLoad) -> Vec<(&'static str, &Percentiles)> {
    let all = [
        ("response", &operation.response),
        ("service", &operation.service),
        (OF_SCHEDULED, &operation.scheduled),
    ];
    all.into_iter()
        .filter_map(|(name, p)| p.as_ref().map(|p| (name, p)))
        .collect()
}

/// `scheduled` holds the counts where operations that are not ok are part of the sample.
fn percentile_cells(p: &Percentiles, scheduled: Option<&Counts>) -> Markup {
    // Absent for want of samples, or because the percentile falls among what never came back: told apart by the
    // number of operations that ended well.
    let infinite = |q: f64| {
        scheduled.is_some_and(|c| {
            let all = c.total() as f64;
            all * (1.0 - q) >= 10.0 && (c.ok as f64) < q * all
        })
    };
    let any_lost = scheduled.is_some_and(|c| c.ok < c.total());
    let cell = |value: Option<Nanos>, infinite: bool| match value {
        Some(nanos) => html! { td.number { (format::duration(nanos)) } },
        None if infinite => html! { td.number title="falls among operations that did not end ok" { "∞" } },
        None => html! { td.muted { "too few samples" } },
    };
    html! {
        td.number { (format::grouped(p.count)) }
        (cell(p.min, false))
        (cell(p.p50, infinite(0.5))) (cell(p.p90, infinite(0.9)))
        (cell(p.p99, infinite(0.99))) (cell(p.p999, infinite(0.999)))
        (cell(p.max, any_lost))
    }
}

fn count_row(name: &str, counts: &Counts) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            @for n in [counts.total(), counts.ok, counts.failed, counts.unknown, counts.unsent] { td.number { (format::grouped(n)) } }
        }
    }
}

/// Why operations did not end well. Absent where all did.
pub(super) fn errors(traffic: &Traffic<'_>) -> Option<Markup> {
    let mut rows: Vec<(u64, &str, &str)> = Vec::new();
    for (f, operation) in traffic.operations {
        rows.extend(
            operation
                .errors
                .iter()
                .map(|(text, n)| (*n, f.as_str(), text.as_str())),
        );
    }
    if rows.is_empty() {
        return None;
    }
    rows.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    let hidden = rows.len().saturating_sub(ERROR_ROWS_MAX);
    Some(html! {
        section id="errors" {
            h2 { "Errors" }
            div.scroll { table.data {
                (chart::head(&[Number("times"), Text("operation"), Text("error")]))
                tbody {
                    @for (n, f, text) in rows.iter().take(ERROR_ROWS_MAX) {
                        tr { td.number { (format::grouped(*n)) } td.text { (f) } td.text { (text) } }
                    }
                }
            } }
            @if hidden > 0 { p.muted { (format::plural(hidden as u64, "rarer error")) " in load.json." } }
        }
    })
}

/// How to run it again, and what it ran on.
pub(super) fn environment(manifest: &Manifest) -> Markup {
    let m = &manifest.machine;
    let fsync = m.fsync_p50.map(|p50| {
        let p99 = m
            .fsync_p99
            .map(|p99| format!(", p99 {}", format::duration(p99)))
            .unwrap_or_default();
        format!(
            "median {}{p99}, probed in the run's folder before the run",
            format::duration(p50)
        )
    });
    let rows: Vec<(&str, String)> = [
        ("seed", Some(manifest.seed.to_string())),
        ("started", Some(manifest.started_at.clone())),
        ("duration", Some(format::duration(manifest.duration))),
        ("commit", manifest.commit.clone()),
        ("tool version", Some(manifest.tool_version.clone())),
        ("binary SHA-256", manifest.binary_sha256.clone()),
        ("processor", m.cpu.clone()),
        ("cores", m.cores.map(|n| n.to_string())),
        ("memory", m.memory_bytes.map(format::bytes)),
        ("kernel", m.os.clone()),
        ("load average before", m.load_average.map(|l| format!("{l:.2}"))),
        ("fdatasync of 4 KiB", fsync),
        ("nodes", Some(nodes(manifest)).filter(|text| !text.is_empty())),
    ]
    .into_iter()
    .filter_map(|(name, value)| value.map(|value| (name, value)))
    .collect();
    html! {
        section id="environment" {
            h2 { "Run it again" }
            @if !manifest.command.is_empty() { pre.command { code { (format::command(&manifest.command)) } } }
            dl.facts { @for (name, value) in &rows { dt { (name) } dd { (value) } } }
            @if !manifest.configuration.is_null() {
                details { summary { "Configuration, as the tool understood it" }
                    pre { code { (serde_json::to_string_pretty(&manifest.configuration).unwrap_or_default()) } }
                }
            }
        }
    }
}

fn nodes(manifest: &Manifest) -> String {
    let named = manifest.nodes.iter().map(|n| {
        if n.id == n.endpoint {
            n.id.clone()
        } else {
            format!("{} at {}", n.id, n.endpoint)
        }
    });
    named.collect::<Vec<_>>().join(", ")
}
