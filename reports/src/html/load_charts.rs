//! Throughput and latency over time.
//!
//! Promises: throughput is counted when operations end, latency when they were to start, and the page says so. Where
//! several intervals share a column, counts are added and of each percentile the worst is shown: percentiles cannot be
//! averaged.

use maud::{Markup, html};

use super::axis::{RIGHT, TimeAxis, ValueAxis, px};
use super::chart::{self, Column, Figure, TIME_LABELS, Table};
use crate::format;
use crate::record::{Counts, FaultWindow, Interval, Measure, Nanos, Percentiles};
use crate::view::{Traffic, seconds};

/// Columns of a chart; more could not be told apart.
const SLOTS_MAX: usize = 600;

const TOP: f64 = 14.0;
const HEIGHT: f64 = 170.0;
const BOTTOM: f64 = TOP + HEIGHT;

/// One column: one interval, or several.
#[derive(Debug, Clone, PartialEq)]
struct Slot {
    start: Nanos,
    end: Nanos,
    planned: u64,
    counts: Counts,
    latency: Percentiles,
}

/// Intervals ready to be drawn.
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Intervals in each column.
    merged: usize,
}

impl Slots {
    pub(super) fn of(intervals: &[Interval]) -> Slots {
        let mut whole: Vec<&Interval> = intervals.iter().filter(|i| i.end > i.start).collect();
        whole.sort_by_key(|i| i.start);
        let merged = whole.len().div_ceil(SLOTS_MAX).max(1);
        let mut slots: Vec<Slot> = whole.chunks(merged).filter_map(merge).collect();
        // A stump at the end would show a rate made of a few operations.
        if let [.., before, last] = slots.as_mut_slice()
            && last.end - last.start < (before.end - before.start) / 2
        {
            *before = join(before, last);
            slots.pop();
        }
        Slots { slots, merged }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

fn merge(intervals: &[&Interval]) -> Option<Slot> {
    intervals.iter().map(|i| slot(i)).reduce(|a, b| join(&a, &b))
}

fn slot(i: &Interval) -> Slot {
    Slot {
        start: i.start,
        end: i.end,
        planned: i.planned,
        counts: i.counts,
        latency: i.latency.clone(),
    }
}

fn join(a: &Slot, b: &Slot) -> Slot {
    let (x, y) = (&a.latency, &b.latency);
    Slot {
        start: a.start.min(b.start),
        end: a.end.max(b.end),
        planned: a.planned.saturating_add(b.planned),
        counts: Counts {
            ok: a.counts.ok.saturating_add(b.counts.ok),
            failed: a.counts.failed.saturating_add(b.counts.failed),
            unknown: a.counts.unknown.saturating_add(b.counts.unknown),
            unsent: a.counts.unsent.saturating_add(b.counts.unsent),
        },
        latency: Percentiles {
            count: x.count.saturating_add(y.count),
            min: [x.min, y.min].into_iter().flatten().min(),
            mean: None,
            p50: x.p50.max(y.p50),
            p90: x.p90.max(y.p90),
            p99: x.p99.max(y.p99),
            p999: x.p999.max(y.p999),
            p9999: x.p9999.max(y.p9999),
            max: x.max.max(y.max),
            never: Vec::new(),
            confidence: None,
        },
    }
}

impl Slot {
    fn per_second(&self, n: u64) -> f64 {
        n as f64 / seconds(self.end - self.start)
    }

    fn not_unknown(&self) -> u64 {
        self.counts.ok.saturating_add(self.counts.failed)
    }

    fn ended(&self) -> u64 {
        self.not_unknown().saturating_add(self.counts.unknown)
    }
}

/// Operations a second, by how they ended.
pub(super) fn throughput(
    traffic: &Traffic<'_>,
    slots: &Slots,
    faults: &[FaultWindow],
    time: &TimeAxis,
) -> Figure {
    let all = &slots.slots;
    let offered = traffic.planned.is_some() && traffic.measure == Measure::Response;
    let max = all
        .iter()
        .map(|s| s.per_second(s.ended().max(if offered { s.planned } else { 0 })))
        .fold(0.0, f64::max);
    let axis = ValueAxis::linear(TOP, HEIGHT, max, format::rate);
    let area = |above: fn(&Slot) -> u64, below: fn(&Slot) -> u64| {
        stacked(
            all,
            time,
            &axis,
            |s| s.per_second(below(s)),
            |s| s.per_second(above(s)),
        )
    };
    let body = html! {
        defs { (chart::clip("throughput-clip", TOP, HEIGHT)) }
        (chart::value_grid(&axis))
        (chart::time_grid(time, TOP, BOTTOM))
        g clip-path="url(#throughput-clip)" {
            path.ok d=(area(|s| s.counts.ok, |_| 0)) {}
            path.failed d=(area(Slot::not_unknown, |s| s.counts.ok)) {}
            path.unknown d=(area(Slot::ended, Slot::not_unknown)) {}
            // Over the areas, which would hide them; under the line.
            (chart::fault_bands(faults, time, TOP, HEIGHT))
            @if offered { path.offered d=(steps(all, time, |s| Some(axis.y(s.per_second(s.planned))))) {} }
        }
        // Marks for what is too little to be seen as an area.
        path.failed-mark d=(marks(all, time, TOP - 9.0, |s| s.counts.failed > 0)) {}
        path.unknown-mark d=(marks(all, time, TOP - 4.5, |s| s.counts.unknown > 0)) {}
    };
    Figure {
        id: "throughput",
        heading: "Throughput",
        summary: throughput_summary(traffic, all),
        legend: html! {
            div.legend {
                (chart::key("ok", "ok")) (chart::key("failed", "failed")) (chart::key("unknown", "unknown"))
                @if offered { (chart::line_key("offered", "offered")) }
                @if !faults.is_empty() { (chart::key("band", "fault")) }
            }
        },
        height: BOTTOM + TIME_LABELS,
        body,
        how_to_read: html! {
            "Operations a second, stacked, counted in the interval in which they ended"
            @if offered { "; the dashed line is what the plan wanted to start" }
            ". “Unknown” may have happened: a timeout says nothing. Small marks above the plot show every interval with \
             failed or unknown operations, however few."
            (columns_note(slots))
        },
        table: throughput_table(all, offered),
    }
}

fn throughput_summary(traffic: &Traffic<'_>, slots: &[Slot]) -> String {
    let mut text = String::new();
    if let Some(rate) = traffic.ok_rate() {
        text = format!("{} acknowledged on average", format::rate(rate));
        if let Some(offered) = traffic.offered {
            text += &format!(", {} offered", format::rate(offered));
        }
        text += ".";
    }
    let lowest = slots
        .iter()
        .min_by(|a, b| a.per_second(a.counts.ok).total_cmp(&b.per_second(b.counts.ok)));
    if let Some(lowest) = lowest.filter(|_| slots.len() > 1) {
        text += &format!(
            " Lowest: {} from {} to {}.",
            format::rate(lowest.per_second(lowest.counts.ok)),
            format::moment(lowest.start),
            format::moment(lowest.end)
        );
    }
    text.trim_start().to_owned()
}

fn throughput_table(slots: &[Slot], offered: bool) -> Table {
    let mut head = ["from", "to", "ok", "failed", "unknown"]
        .map(Column::Number)
        .to_vec();
    if offered {
        head.insert(2, Column::Number("planned"));
    }
    let rows = slots.iter().map(|s| {
        let counts = [s.counts.ok, s.counts.failed, s.counts.unknown].map(format::grouped);
        let planned = offered.then(|| format::grouped(s.planned));
        let times = [format::moment(s.start), format::moment(s.end)];
        (
            (s.start, s.end),
            times.into_iter().chain(planned).chain(counts).collect(),
        )
    });
    Table {
        head,
        rows: rows.collect(),
        left_out: None,
    }
}

/// Latency percentiles on a logarithmic axis. Absent where no interval has any.
pub(super) fn latency(
    traffic: &Traffic<'_>,
    slots: &Slots,
    faults: &[FaultWindow],
    time: &TimeAxis,
) -> Option<Figure> {
    let all = &slots.slots;
    let values = || {
        all.iter()
            .flat_map(|s| [s.latency.p50, s.latency.p90, s.latency.p99, s.latency.max])
            .flatten()
    };
    let axis = ValueAxis::log_duration(TOP, HEIGHT, values().min()?, values().max()?);
    let has = |of: fn(&Percentiles) -> Option<Nanos>| all.iter().any(|s| of(&s.latency).is_some());
    // The 90th stands in where intervals are too thin for a 99th.
    let (has_p50, has_p99) = (has(|p| p.p50), has(|p| p.p99));
    let has_p90 = !has_p99 && has(|p| p.p90);
    let line = |of: fn(&Percentiles) -> Option<Nanos>| {
        steps(all, time, |s| of(&s.latency).map(|nanos| axis.y(nanos as f64)))
    };
    let body = html! {
        defs { (chart::clip("latency-clip", TOP, HEIGHT)) }
        (chart::fault_bands(faults, time, TOP, HEIGHT))
        (chart::value_grid(&axis))
        (chart::time_grid(time, TOP, BOTTOM))
        g clip-path="url(#latency-clip)" {
            path.max d=(line(|p| p.max)) {}
            @if has_p90 { path.p90 d=(line(|p| p.p90)) {} }
            path.p99 d=(line(|p| p.p99)) {}
            path.p50 d=(line(|p| p.p50)) {}
        }
    };
    let measure = measure(traffic.measure);
    Some(Figure {
        id: "latency",
        heading: "Latency",
        summary: latency_summary(traffic, all, has_p99),
        legend: html! {
            div.legend {
                @if has_p50 { (chart::line_key("p50", "p50")) }
                @if has_p90 { (chart::line_key("p90", "p90")) }
                @if has_p99 { (chart::line_key("p99", "p99")) }
                (chart::line_key("max", "max"))
                @if !faults.is_empty() { (chart::key("band", "fault")) }
            }
        },
        height: BOTTOM + TIME_LABELS,
        body,
        how_to_read: html! {
            (measure.0) " of operations that happened, in the interval in which they " (measure.1) ". The axis is \
             logarithmic. A percentile is drawn only where at least ten operations lie beyond it; a gap in a line \
             means that there were too few. Failed and unknown operations have no latency here: the table “of \
             scheduled” counts them as infinitely slow."
            (columns_note(slots))
        },
        table: latency_table(all, has_p99),
    })
}

/// What a measure is, and when it places an operation.
fn measure(measure: Measure) -> (&'static str, &'static str) {
    match measure {
        Measure::Response => (
            "Response time, from the planned start to the outcome,",
            "were planned to start",
        ),
        Measure::Service => ("Service time, from the first attempt to the outcome,", "started"),
        Measure::Attempt => ("Time of single attempts, from sending to answer,", "were sent"),
        Measure::Lag => (
            "Lag, from the planned start to the first attempt,",
            "were planned to start",
        ),
    }
}

fn latency_summary(traffic: &Traffic<'_>, slots: &[Slot], has_p99: bool) -> String {
    let kind = if traffic.measure == Measure::Response {
        "Response"
    } else {
        "Service"
    };
    let mut text = format!("{kind} time");
    let worst = slots
        .iter()
        .filter_map(|s| s.latency.max.map(|max| (max, s)))
        .max_by_key(|(max, _)| *max);
    if let Some((max, slot)) = worst {
        text += &format!(
            ": the slowest took {}, and began around {}",
            format::duration(max),
            format::moment(slot.start)
        );
    }
    text += ".";
    if !has_p99 {
        text += " No interval has the 1,000 operations that a 99th percentile needs.";
    }
    text
}

fn latency_table(slots: &[Slot], has_p99: bool) -> Table {
    let mut head = ["from", "to", "samples", "p50", "p90", "p99", "max"]
        .map(Column::Number)
        .to_vec();
    if !has_p99 {
        head.retain(|column| column.name() != "p99");
    }
    let cell = |value: Option<Nanos>| value.map_or_else(|| "–".into(), format::duration);
    let rows = slots.iter().map(|s| {
        let l = &s.latency;
        let mut cells = vec![
            format::moment(s.start),
            format::moment(s.end),
            format::grouped(l.count),
        ];
        cells.extend([cell(l.p50), cell(l.p90)]);
        cells.extend(has_p99.then(|| cell(l.p99)));
        cells.push(cell(l.max));
        ((s.start, s.end), cells)
    });
    Table {
        head,
        rows: rows.collect(),
        left_out: Some("–: too few samples in this interval.".into()),
    }
}

fn columns_note(slots: &Slots) -> Markup {
    html! {
        @if slots.merged > 1 {
            " Each column stands for " (slots.merged) " intervals of the record: counts are added, and of each \
             percentile the worst is shown."
        }
    }
}

/// The area between two step lines.
fn stacked(
    slots: &[Slot],
    time: &TimeAxis,
    axis: &ValueAxis,
    low: impl Fn(&Slot) -> f64,
    high: impl Fn(&Slot) -> f64,
) -> String {
    let mut path = String::new();
    // Neighbours without a gap between them and with something to show share one outline.
    for run in slots.chunk_by(|a, b| a.end == b.start && (high(a) > low(a)) == (high(b) > low(b))) {
        if run.iter().all(|s| high(s) <= low(s)) {
            continue;
        }
        path += &format!("M{} {}", px(time.x(run[0].start)), px(axis.y(low(&run[0]))));
        for s in run {
            path += &format!("V{}H{}", px(axis.y(high(s))), px(time.x(s.end)));
        }
        for s in run.iter().rev() {
            path += &format!("V{}H{}", px(axis.y(low(s))), px(time.x(s.start)));
        }
        path.push('Z');
    }
    path
}

/// A step line, broken where there is no value.
fn steps(slots: &[Slot], time: &TimeAxis, y: impl Fn(&Slot) -> Option<f64>) -> String {
    let mut path = String::new();
    let mut reached = None;
    for slot in slots {
        let Some(y) = y(slot) else {
            reached = None;
            continue;
        };
        if reached == Some(slot.start) {
            path += &format!("V{}", px(y));
        } else {
            path += &format!("M{} {}", px(time.x(slot.start)), px(y));
        }
        path += &format!("H{}", px(time.x(slot.end)));
        reached = Some(slot.end);
    }
    path
}

/// Short dashes at a fixed height over the columns that have something.
fn marks(slots: &[Slot], time: &TimeAxis, y: f64, has: impl Fn(&Slot) -> bool) -> String {
    let mut path = String::new();
    for slot in slots.iter().filter(|s| has(s)) {
        let from = time.x(slot.start).min(RIGHT - 2.0);
        path += &format!("M{} {}H{}", px(from), px(y), px(time.x(slot.end).max(from + 2.0)));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start: Nanos, end: Nanos, ok: u64, p50: Option<Nanos>) -> Interval {
        Interval {
            start,
            end,
            planned: ok,
            counts: Counts {
                ok,
                ..Counts::default()
            },
            latency: Percentiles {
                count: ok,
                p50,
                max: p50,
                ..Percentiles::default()
            },
        }
    }

    #[test]
    fn many_intervals_share_columns_and_the_worst_percentile_wins() {
        let many: Vec<Interval> = (0..1500)
            .map(|n| interval(n, n + 1, 2, (n == 4).then_some(99)))
            .collect();
        let slots = Slots::of(&many);
        assert_eq!(slots.merged, 3);
        assert_eq!(slots.slots.len(), 500);
        assert_eq!(slots.slots.iter().map(|s| s.counts.ok).sum::<u64>(), 3000);
        assert_eq!(slots.slots[1].latency.p50, Some(99));
        assert_eq!(slots.slots[2].latency.p50, None);
    }

    #[test]
    fn a_stump_at_the_end_joins_its_neighbour() {
        let slots = Slots::of(&[interval(0, 100, 10, None), interval(100, 110, 9, None)]).slots;
        assert_eq!((slots.len(), slots[0].end, slots[0].counts.ok), (1, 110, 19));
    }

    #[test]
    fn intervals_without_length_are_not_drawn() {
        assert!(Slots::of(&[interval(5, 5, 1, None), interval(9, 3, 1, None)]).is_empty());
    }

    #[test]
    fn a_line_breaks_where_there_is_no_value() {
        let time = TimeAxis::new(0, 400);
        let all: Vec<Interval> = (0..4)
            .map(|n| interval(n * 100, n * 100 + 100, 1, (n != 1).then_some(7)))
            .collect();
        let path = steps(&Slots::of(&all).slots, &time, |s| s.latency.p50.map(|_| 50.0));
        assert_eq!(path.matches('M').count(), 2, "{path}");
    }
}
