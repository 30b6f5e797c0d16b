//! What all charts have in common: figure, frame, grid, and the faults shaded behind them.
//!
//! Promises that every chart says in words what it shows (for screen readers and for people in a hurry), and carries
//! its data as a table.

use maud::{Markup, html};

use super::axis::{LEFT, RIGHT, TimeAxis, ValueAxis, WIDTH, px};
use crate::format;
use crate::record::{FaultWindow, Nanos};

/// Space under a plot for the time labels.
pub(super) const TIME_LABELS: f64 = 22.0;

/// One chart with everything that belongs to it.
pub(super) struct Figure {
    /// Unique in the page.
    pub(super) id: &'static str,
    pub(super) heading: &'static str,
    /// What the chart shows, in a sentence or two with numbers.
    pub(super) summary: String,
    pub(super) legend: Markup,
    /// Height of the drawing.
    pub(super) height: f64,
    pub(super) body: Markup,
    pub(super) how_to_read: Markup,
    pub(super) table: Table,
}

/// Data of a chart. Every row says from when to when in the run it holds.
pub(super) struct Table {
    pub(super) head: Vec<Column>,
    pub(super) rows: Vec<Row>,
    /// What was left out, if anything.
    pub(super) left_out: Option<String>,
}

/// Heading of a column, which also says how its cells are set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Left, and may wrap.
    Text(&'static str),
    /// Right, never wraps.
    Number(&'static str),
}

impl Column {
    pub(super) fn name(self) -> &'static str {
        match self {
            Column::Text(name) | Column::Number(name) => name,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Column::Text(_) => "text",
            Column::Number(_) => "number",
        }
    }
}

/// The head of a table.
pub(super) fn head(columns: &[Column]) -> Markup {
    html! {
        thead { tr { @for column in columns { th.(column.class()) scope="col" { (column.name()) } } } }
    }
}

/// Cells, and the stretch of the run that they are about.
pub(super) type Row = ((Nanos, Nanos), Vec<String>);

impl Figure {
    pub(super) fn markup(&self, time: &TimeAxis) -> Markup {
        let (title_id, desc_id) = (format!("{}-title", self.id), format!("{}-desc", self.id));
        html! {
            figure id=(self.id) {
                figcaption {
                    h3 { (self.heading) }
                    p.summary { (self.summary) }
                    (self.legend)
                }
                svg.plot viewBox=(format!("0 0 {} {}", px(WIDTH), px(self.height))) role="img"
                    aria-labelledby=(format!("{title_id} {desc_id}")) data-table=(format!("{}-data", self.id)) data-axis=(time.end / 1_000_000) {
                    title id=(title_id) { (self.heading) }
                    desc id=(desc_id) { (self.summary) }
                    (self.body)
                }
                div.folds {
                    details { summary { "How to read this" } p { (self.how_to_read) } }
                    @if !self.table.rows.is_empty() {
                        details { summary { "Data" } (self.table.markup(&format!("{}-data", self.id))) }
                    }
                }
            }
        }
    }
}

impl Table {
    fn markup(&self, id: &str) -> Markup {
        html! {
            div.scroll {
                table.data id=(id) {
                    (head(&self.head))
                    tbody {
                        @for ((from, to), cells) in &self.rows {
                            tr data-a=(from / 1_000_000) data-b=(to / 1_000_000) {
                                @for (cell, column) in cells.iter().zip(&self.head) { td.(column.class()) { (cell) } }
                            }
                        }
                    }
                }
            }
            @if let Some(left_out) = &self.left_out { p.muted { (left_out) } }
        }
    }
}

/// Horizontal lines with labels left of the plot.
pub(super) fn value_grid(axis: &ValueAxis) -> Markup {
    html! {
        g.grid {
            @for (value, label) in &axis.ticks {
                @let y = axis.y(*value);
                line x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(y)) y2=(px(y)) {}
                text.tick x=(px(LEFT - 8.0)) y=(px(y + 4.0)) text-anchor="end" { (label) }
            }
        }
    }
}

/// Vertical lines from `top` to `bottom` with labels below.
pub(super) fn time_grid(axis: &TimeAxis, top: f64, bottom: f64) -> Markup {
    let ticks: Vec<(f64, String)> = axis
        .ticks()
        .into_iter()
        .map(|(time, label)| (axis.x(time), label))
        .collect();
    html! {
        g.grid {
            @for (x, label) in &ticks {
                line x1=(px(*x)) x2=(px(*x)) y1=(px(top)) y2=(px(bottom)) {}
                // A label at the very edge would stick out of the drawing.
                text.tick x=(px(*x)) y=(px(bottom + 16.0)) text-anchor=(if *x > RIGHT - 20.0 { "end" } else { "middle" }) {
                    (label)
                }
            }
        }
    }
}

/// Limits drawing to the plot: `clip-path="url(#<id>)"`.
pub(super) fn clip(id: &str, top: f64, height: f64) -> Markup {
    html! {
        clipPath id=(id) {
            rect x=(px(LEFT)) y=(px(top)) width=(px(RIGHT - LEFT)) height=(px(height)) {}
        }
    }
}

/// The stages of a fault on the time axis.
pub(super) struct FaultSpan {
    pub(super) from: Nanos,
    /// In force for certain.
    pub(super) solid: Option<(Nanos, Nanos)>,
    pub(super) to: Nanos,
}

impl FaultSpan {
    pub(super) fn of(fault: &FaultWindow, end: Nanos) -> FaultSpan {
        let to = fault.healed.unwrap_or(end).max(fault.injecting);
        let solid = fault.injected.map(|injected| {
            let from = injected.clamp(fault.injecting, to);
            (from, fault.healing.unwrap_or(to).clamp(from, to))
        });
        FaultSpan {
            from: fault.injecting,
            solid,
            to,
        }
    }
}

/// Faults as shades behind a chart.
pub(super) fn fault_bands(faults: &[FaultWindow], axis: &TimeAxis, top: f64, height: f64) -> Markup {
    html! {
        g.bands {
            @for (n, fault) in faults.iter().enumerate() {
                @let span = FaultSpan::of(fault, axis.end);
                @let (x, width) = stretch(axis, span.from, span.to);
                rect.band x=(px(x)) y=(px(top)) width=(px(width)) height=(px(height)) {
                    title { "#" (n + 1) " " (fault.label) ", " (window(fault)) }
                }
                line.edge x1=(px(x)) x2=(px(x)) y1=(px(top)) y2=(px(top + height)) {}
            }
        }
    }
}

/// Left edge and width of a stretch of time; wide enough to be seen, inside the plot.
pub(super) fn stretch(axis: &TimeAxis, from: Nanos, to: Nanos) -> (f64, f64) {
    const SEEN: f64 = 1.5;
    let x = axis.x(from).min(RIGHT - SEEN);
    (x, (axis.x(to.max(from)) - x).max(SEEN))
}

/// When a fault was in force, in words.
pub(super) fn window(fault: &FaultWindow) -> String {
    let from = format::moment(fault.injecting);
    match fault.healed {
        Some(healed) => {
            let length = format::duration(healed.saturating_sub(fault.injecting));
            format!("{from} to {} ({length})", format::moment(healed))
        }
        None => format!("from {from}, never confirmed healed"),
    }
}

/// A word in the legend with its colour.
pub(super) fn key(class: &str, text: &str) -> Markup {
    html! {
        span.key {
            svg viewBox="0 0 14 10" aria-hidden="true" { rect.(class) x="0" y="0" width="14" height="10" rx="2" {} }
            (text)
        }
    }
}

/// A word in the legend with its line.
pub(super) fn line_key(class: &str, text: &str) -> Markup {
    html! {
        span.key {
            svg viewBox="0 0 14 10" aria-hidden="true" { line.(class) x1="0" x2="14" y1="5" y2="5" {} }
            (text)
        }
    }
}

/// Patterns that all drawings share.
pub(super) fn patterns() -> Markup {
    html! {
        svg.patterns width="0" height="0" aria-hidden="true" {
            defs {
                @for name in ["hatch-fault", "hatch-quiet", "hatch-warn", "hatch-bad"] {
                    pattern id=(name) width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
                        rect.(format!("{name}-ground")) width="6" height="6" {}
                        line.(format!("{name}-line")) x1="0" x2="0" y1="0" y2="6" {}
                    }
                }
            }
        }
    }
}
