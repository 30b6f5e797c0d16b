//! The page: one self-contained HTML file that shows a run.
//!
//! Promises: a pure function of the record (same run, same bytes); complete without a script, without a network and on
//! paper; everything from the record is escaped; what the run does not have is left out, and a verdict is never
//! made up or changed here. The content policy in the page forbids every request.

mod axis;
mod chart;
mod lanes;
mod load_charts;
mod tables;
mod witness;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use self::axis::TimeAxis;
use self::chart::Figure;
use self::load_charts::Slots;
use crate::format;
use crate::record::{Run, RunKind, Timeline};
use crate::view::{self, Headline, Tone, Traffic};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("page.js");

/// Witnesses shown in full.
const WITNESSES_MAX: usize = 10;

/// The page for a run.
pub fn render(run: &Run) -> String {
    let headline = view::headline(run);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(content_policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (headline.word) ": " (run.name()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (body(run, &headline))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// Nothing may be fetched, and no script may run but the one below, by its checksum.
fn content_policy() -> String {
    format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()))
    )
}

fn body(run: &Run, headline: &Headline) -> Markup {
    let traffic = Traffic::of(run);
    let no_timeline = Timeline::default();
    let timeline = run.timeline.as_ref().unwrap_or(&no_timeline);
    html! {
        (chart::patterns())
        main {
            (title(run))
            (banner(headline))
            (notes(run))
            @if let Some(verdict) = run.verdict.as_ref().filter(|v| !v.checks.is_empty()) { (tables::checks(verdict)) }
            (key_numbers(run, traffic.as_ref()))
            (charts(run, traffic.as_ref(), timeline))
            (witnesses(run, timeline))
            @if !timeline.faults.is_empty() { (tables::faults(&timeline.faults)) }
            @if let Some(traffic) = traffic.as_ref().filter(|t| !t.operations.is_empty()) {
                (tables::percentiles(traffic))
                @if let Some(effort) = view::effort(run, traffic) { p.muted.after { (effort) } }
                @if let Some(errors) = tables::errors(traffic) { (errors) }
            }
            @if let Some(manifest) = &run.manifest { (tables::environment(manifest)) }
            footer { p.muted { "Made by Whitewater’s reports " (env!("CARGO_PKG_VERSION"))
                " from the run’s record alone. Opens without a network; asks for nothing." } }
        }
    }
}

fn title(run: &Run) -> Markup {
    html! {
        header {
            p.kind {
                @match run.manifest.as_ref().map(|m| m.kind) {
                    Some(RunKind::Chaos) => "Chaos run",
                    Some(RunKind::Load) => "Load run",
                    None => "Run",
                }
                @if let Some(manifest) = &run.manifest {
                    " · " (manifest.started_at) " · " (format::duration(manifest.duration)) " · seed " (manifest.seed)
                }
            }
            h1 { (run.name()) }
            @if let Some(about) = run.manifest.as_ref().map(|m| &m.about).filter(|a| !a.is_empty()) { p.about { (about) } }
        }
    }
}

fn banner(headline: &Headline) -> Markup {
    let (class, icon) = match headline.tone {
        Tone::Good => ("good", "✓"),
        Tone::Warning => ("warning", "?"),
        Tone::Bad => ("bad", "✗"),
        Tone::Neutral => ("neutral", "–"),
    };
    html! {
        section.banner.(class) aria-label="Verdict" {
            span.icon aria-hidden="true" { (icon) }
            div { p.word { (headline.word) } p.reason { (headline.reason) } }
        }
    }
}

fn notes(run: &Run) -> Markup {
    let notes = view::notes(run);
    html! {
        @if !notes.is_empty() {
            section.caveats aria-label="Read this first" {
                h2 { "Read this first" }
                ul { @for note in &notes { li { (note) } } }
            }
        }
    }
}

/// Four to eight numbers, of those that there are.
fn key_numbers(run: &Run, traffic: Option<&Traffic<'_>>) -> Markup {
    let mut numbers: Vec<view::KeyNumber> = view::key_numbers(run, traffic);
    numbers.truncate(8);
    html! {
        @if !numbers.is_empty() {
            section.numbers aria-label="Key numbers" {
                dl {
                    @for number in &numbers {
                        div { dt { (number.name) } dd { strong { (number.value) } span { (number.detail) } } }
                    }
                }
            }
        }
    }
}

fn charts(run: &Run, traffic: Option<&Traffic<'_>>, timeline: &Timeline) -> Markup {
    let time = TimeAxis::new(0, view::run_end(run));
    let known = run.manifest.as_ref().map_or(&[][..], |m| &m.nodes);
    let mut figures: Vec<Figure> = Vec::new();
    if !timeline.faults.is_empty() {
        figures.push(lanes::faults(timeline, &time));
    }
    if let Some(traffic) = traffic {
        let slots = Slots::of(traffic.intervals);
        if !slots.is_empty() {
            figures.push(load_charts::throughput(traffic, &slots, &timeline.faults, &time));
            figures.extend(load_charts::latency(traffic, &slots, &timeline.faults, &time));
        }
    }
    figures.extend(lanes::nodes(timeline, known, &time));
    html! {
        @if !figures.is_empty() {
            section id="charts" {
                h2 { "What happened" }
                div.timeline { div.wide { @for figure in &figures { (figure.markup(&time)) } } }
            }
        }
    }
}

fn witnesses(run: &Run, timeline: &Timeline) -> Markup {
    let checks = run.verdict.iter().flat_map(|v| &v.checks);
    let found: Vec<_> = checks
        .filter_map(|c| c.witness.as_ref().map(|w| (c, w)))
        .collect();
    html! {
        @if !found.is_empty() {
            section id="witness" {
                h2 { "Proof" }
                @for (n, (check, witness)) in found.iter().enumerate().take(WITNESSES_MAX) {
                    h3 { (check.name.replace('_', " ")) ", key " code { (witness.key) } }
                    (witness::witness(witness, n, &timeline.faults))
                }
                @if found.len() > WITNESSES_MAX {
                    p.muted { (format::plural((found.len() - WITNESSES_MAX) as u64, "more proof")) " in verdict.json." }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_small_careful_and_agrees_about_the_plot() {
        assert!(SCRIPT.len() < 15_000);
        let plot = format!("LEFT = {}, RIGHT = {};", axis::LEFT, axis::RIGHT);
        assert!(SCRIPT.contains(&plot), "the script must say {plot}");
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "fetch(",
            "</script",
        ] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
    }
}
