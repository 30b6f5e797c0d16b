//! Lanes under the charts: what was done to the cluster, and what each node said of itself.
//!
//! Promises: a fault is solid only where it was confirmed to be in force; a node's ribbon is coloured only where it was
//! asked, and blank where nobody looked.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::axis::{LEFT, RIGHT, TimeAxis, px};
use super::chart::{self, Column, FaultSpan, Figure, Row, TIME_LABELS, Table};
use crate::format;
use crate::record::{FaultWindow, Nanos, NodeInfo, NodeSample, Phase, Role, Timeline};
use crate::view::rival_leaders;

const TOP: f64 = 6.0;
const ROW: f64 = 24.0;
const BAR: f64 = 17.0;

/// Rows of the fault lane; more would push everything else off the screen.
const ROWS_MAX: usize = 24;

/// Rows of a folded table.
const TABLE_ROWS_MAX: usize = 2000;

/// Faults by kind, and the phases of the run.
pub(super) fn faults(timeline: &Timeline, time: &TimeAxis) -> Figure {
    let (rows, hidden) = fault_rows(&timeline.faults);
    let phase_rows = usize::from(!timeline.phases.is_empty());
    let height = (rows.len() + phase_rows) as f64 * ROW;
    let top_of = |row: usize| TOP + row as f64 * ROW + (ROW - BAR) / 2.0;
    let body = html! {
        (chart::time_grid(time, TOP, TOP + height))
        @if phase_rows > 0 { (phases(&timeline.phases, time, top_of(0))) }
        @for (n, row) in rows.iter().enumerate() {
            @let top = top_of(n + phase_rows);
            @if row.first_of_kind { (row_name(row.kind, top)) }
            @for (place, number) in row.faults.iter().enumerate() {
                @let next = row.faults.get(place + 1).map_or(RIGHT, |n| time.x(timeline.faults[*n].injecting));
                @let before = place.checked_sub(1).map(|before| &timeline.faults[row.faults[before]]);
                (fault_bar(*number, &timeline.faults[*number], before.is_none(), next, time, top))
            }
        }
    };
    let effective = timeline
        .faults
        .iter()
        .filter(|f| crate::view::effective(f))
        .count() as u64;
    Figure {
        id: "faults-lane",
        heading: "Faults",
        summary: format!(
            "{} injected, {} with a measured effect.",
            format::plural(timeline.faults.len() as u64, "fault"),
            format::grouped(effective)
        ),
        legend: html! {
            div.legend {
                (chart::key("fault-solid", "in force"))
                (chart::key("fault-hatch", "being injected or healed"))
            }
        },
        height: TOP + height + TIME_LABELS,
        body,
        how_to_read: html! {
            "One row for each kind of fault. Solid: from the moment the injection was confirmed to the moment healing \
             began. Hatched: under way, so the fault may or may not be in force. The same windows are shaded on every \
             chart; numbers lead to the table of faults below."
        },
        table: Table {
            head: vec![
                Column::Number("#"),
                Column::Text("fault"),
                Column::Number("injecting"),
                Column::Number("in force"),
                Column::Number("healing"),
                Column::Number("healed"),
            ],
            rows: timeline
                .faults
                .iter()
                .enumerate()
                .take(TABLE_ROWS_MAX)
                .map(|(n, f)| ((f.injecting, f.healed.unwrap_or(time.end)), fault_cells(n, f)))
                .collect(),
            left_out: left_out(hidden, timeline.faults.len().saturating_sub(TABLE_ROWS_MAX)),
        },
    }
}

fn left_out(not_drawn: usize, not_listed: usize) -> Option<String> {
    let parts = [
        (not_drawn, "not drawn for want of room"),
        (not_listed, "not listed"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(n, _)| *n > 0)
        .map(|(n, how)| format!("{} {how}", format::plural(n as u64, "fault")))
        .collect();
    (!said.is_empty()).then(|| format!("{}; all are in timeline.json.", said.join(", ")))
}

struct FaultRow<'a> {
    kind: &'a str,
    first_of_kind: bool,
    faults: Vec<usize>,
}

/// A row for each kind, and more where faults of one kind overlap. Also how many found no row.
fn fault_rows(faults: &[FaultWindow]) -> (Vec<FaultRow<'_>>, usize) {
    let mut kinds: Vec<&str> = Vec::new();
    for fault in faults {
        if !kinds.contains(&fault.kind.as_str()) {
            kinds.push(&fault.kind);
        }
    }
    let mut rows: Vec<FaultRow<'_>> = Vec::new();
    let mut hidden = 0;
    for kind in kinds {
        let first = rows.len();
        let mut of_kind: Vec<usize> = (0..faults.len()).filter(|n| faults[*n].kind == kind).collect();
        of_kind.sort_by_key(|n| faults[*n].injecting);
        for number in of_kind {
            let fits = |row: &FaultRow<'_>| {
                let last = row.faults.last().map(|last| &faults[*last]);
                last.and_then(|last| last.healed)
                    .is_some_and(|healed| healed <= faults[number].injecting)
            };
            if let Some(row) = rows[first..].iter_mut().find(|row| fits(row)) {
                row.faults.push(number);
            } else if rows.len() < ROWS_MAX {
                rows.push(FaultRow {
                    kind,
                    first_of_kind: rows.len() == first,
                    faults: vec![number],
                });
            } else {
                hidden += 1;
            }
        }
    }
    (rows, hidden)
}

fn fault_bar(
    number: usize,
    fault: &FaultWindow,
    first_in_row: bool,
    next_x: f64,
    time: &TimeAxis,
    top: f64,
) -> Markup {
    let span = FaultSpan::of(fault, time.end);
    let (x, width) = chart::stretch(time, span.from, span.to);
    let end = x + width;
    let long = format!("#{} {}", number + 1, fault.label);
    let short = format!("#{}", number + 1);
    let label = place_label(
        &long,
        &short,
        x,
        end,
        if first_in_row { x - LEFT } else { 0.0 },
        next_x - end,
    );
    html! {
        g.fault {
            title { (long) ", " (chart::window(fault)) }
            rect.fault-hatch x=(px(x)) y=(px(top)) width=(px(width)) height=(px(BAR)) rx="2" {}
            @if let Some((from, to)) = span.solid {
                @let (x, width) = chart::stretch(time, from, to);
                rect.fault-solid x=(px(x)) y=(px(top)) width=(px(width)) height=(px(BAR)) rx="2" {}
            }
            @if let Some(label) = label {
                text.(label.class) x=(px(label.x)) y=(px(top + 12.5)) text-anchor=(label.anchor) { (label.text) }
            }
        }
    }
}

struct Label<'a> {
    text: &'a str,
    x: f64,
    anchor: &'static str,
    class: &'static str,
}

/// Inside the bar if the text fits, else behind or before it, else the short text, else nothing.
fn place_label<'a>(
    long: &'a str,
    short: &'a str,
    start: f64,
    end: f64,
    room_before: f64,
    room_behind: f64,
) -> Option<Label<'a>> {
    [long, short].into_iter().find_map(|text| {
        let needed = text_width(text) + 8.0;
        if needed < end - start {
            Some(Label {
                text,
                x: start + 4.0,
                anchor: "start",
                class: "on-bar",
            })
        } else if needed < room_behind {
            Some(Label {
                text,
                x: end + 4.0,
                anchor: "start",
                class: "beside",
            })
        } else if needed < room_before {
            Some(Label {
                text,
                x: start - 4.0,
                anchor: "end",
                class: "beside",
            })
        } else {
            None
        }
    })
}

fn phases(phases: &[Phase], time: &TimeAxis, top: f64) -> Markup {
    html! {
        (row_name("phase", top))
        @for phase in phases {
            @let (x, width) = chart::stretch(time, phase.start, phase.end);
            rect.phase x=(px(x)) y=(px(top)) width=(px(width)) height=(px(BAR)) {
                title { (phase.name) ", " (format::moment(phase.start)) " to " (format::moment(phase.end)) }
            }
            @if text_width(&phase.name) + 8.0 < width {
                text.beside x=(px(x + 5.0)) y=(px(top + 12.5)) { (phase.name) }
            }
        }
    }
}

fn fault_cells(number: usize, fault: &FaultWindow) -> Vec<String> {
    let at = |time: Option<Nanos>| time.map_or_else(|| "–".into(), format::moment);
    vec![
        format!("{}", number + 1),
        fault.label.clone(),
        format::moment(fault.injecting),
        at(fault.injected),
        at(fault.healing),
        at(fault.healed),
    ]
}

/// One ribbon per node. Absent where no node was ever asked.
pub(super) fn nodes(timeline: &Timeline, known: &[NodeInfo], time: &TimeAxis) -> Option<Figure> {
    let ribbons = ribbons(&timeline.samples, known);
    if ribbons.is_empty() {
        return None;
    }
    let rivals: Vec<u64> = rival_leaders(&timeline.samples)
        .into_iter()
        .map(|(term, _)| term)
        .collect();
    let height = ribbons.len() as f64 * ROW;
    let body = html! {
        (chart::fault_bands(&timeline.faults, time, TOP, height))
        (chart::time_grid(time, TOP, TOP + height))
        @for (n, (node, segments)) in ribbons.iter().enumerate() {
            @let top = TOP + n as f64 * ROW + (ROW - BAR) / 2.0;
            (row_name(node, top))
            @for (place, segment) in segments.iter().enumerate() {
                @let before = place.checked_sub(1).and_then(|before| segments.get(before));
                (ribbon_segment(segment, before, &rivals, time, top))
            }
        }
    };
    let roles = [
        Role::Leader,
        Role::Follower,
        Role::Candidate,
        Role::PreCandidate,
        Role::Down,
        Role::Unreachable,
    ];
    let seen = |role: Role| ribbons.iter().flat_map(|(_, s)| s).any(|s| s.role == role);
    let rows: Vec<_> = table_rows(&ribbons);
    let hidden = rows.len().saturating_sub(TABLE_ROWS_MAX);
    Some(Figure {
        id: "nodes-lane",
        heading: "Nodes",
        summary: nodes_summary(&timeline.samples),
        legend: html! {
            div.legend {
                @for role in roles.into_iter().filter(|role| seen(*role)) {
                    (chart::key(role_class(role), format::role(role)))
                }
                @if !rivals.is_empty() { (chart::key("rival", "two leaders in one term")) }
            }
        },
        height: TOP + height + TIME_LABELS,
        body,
        how_to_read: html! {
            "What each node said of itself when asked, until the next answer. The term is printed where it changes; a \
             dark line is a new process. Blank: nobody asked. A node may have held a role between two answers without \
             being seen in it."
        },
        table: Table {
            head: vec![
                Column::Number("from"),
                Column::Number("to"),
                Column::Text("node"),
                Column::Text("role"),
                Column::Number("term"),
            ],
            rows: rows.into_iter().take(TABLE_ROWS_MAX).collect(),
            left_out: (hidden > 0).then(|| format!("{} more rows.", format::grouped(hidden as u64))),
        },
    })
}

/// A stretch in which a node said the same of itself.
struct Segment {
    from: Nanos,
    to: Nanos,
    role: Role,
    term: u64,
    incarnation: Option<String>,
}

/// In the order of the manifest; a node that only the samples know comes last.
fn ribbons(samples: &[NodeSample], known: &[NodeInfo]) -> Vec<(String, Vec<Segment>)> {
    let mut by_node: BTreeMap<&str, Vec<&NodeSample>> = BTreeMap::new();
    for sample in samples {
        by_node.entry(&sample.node).or_default().push(sample);
    }
    if by_node.is_empty() {
        return Vec::new();
    }
    let mut order: Vec<&str> = known.iter().map(|node| node.id.as_str()).collect();
    order.extend(
        by_node
            .keys()
            .copied()
            .filter(|node| !known.iter().any(|k| k.id == *node)),
    );
    let all = order.into_iter().map(|node| {
        let mut samples = by_node.remove(node).unwrap_or_default();
        samples.sort_by_key(|s| s.time);
        (node.to_owned(), segments(&samples))
    });
    all.collect()
}

fn segments(samples: &[&NodeSample]) -> Vec<Segment> {
    // An answer speaks for the time until the next one, but not for much longer than answers usually take.
    let mut gaps: Vec<Nanos> = samples
        .windows(2)
        .map(|pair| pair[1].time - pair[0].time)
        .collect();
    gaps.sort_unstable();
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or(0);
    let mut segments: Vec<Segment> = Vec::new();
    for (n, sample) in samples.iter().enumerate() {
        let next = samples.get(n + 1).map_or(sample.time, |next| next.time);
        let spoken_for = sample.time.saturating_add(usual.saturating_mul(5));
        let to = next.min(spoken_for);
        match segments.last_mut() {
            Some(last)
                if last.role == sample.role
                    && last.term == sample.term
                    && last.incarnation == sample.incarnation
                    && last.to == sample.time =>
            {
                last.to = to;
            }
            _ => segments.push(Segment {
                from: sample.time,
                to,
                role: sample.role,
                term: sample.term,
                incarnation: sample.incarnation.clone(),
            }),
        }
    }
    segments
}

fn ribbon_segment(
    segment: &Segment,
    before: Option<&Segment>,
    rivals: &[u64],
    time: &TimeAxis,
    top: f64,
) -> Markup {
    let (x, width) = chart::stretch(time, segment.from, segment.to);
    let answered = !matches!(segment.role, Role::Down | Role::Unreachable);
    let term_changed = answered && before.is_none_or(|b| b.term != segment.term || before_was_silent(b));
    let news =
        term_changed || (segment.role == Role::Leader && before.is_none_or(|b| b.role != Role::Leader));
    let long = format!("{} t{}", format::role(segment.role), segment.term);
    let short = format!("t{}", segment.term);
    let label = [long, short]
        .into_iter()
        .find(|text| news && text_width(text) + 8.0 < width);
    let restarted = match (before.and_then(|b| b.incarnation.as_ref()), &segment.incarnation) {
        (Some(old), Some(new)) => old != new,
        (None, Some(_)) => before.is_some(),
        _ => false,
    };
    html! {
        g {
            title {
                (format::role(segment.role)) @if answered { ", term " (segment.term) }
                ", " (format::moment(segment.from)) " to " (format::moment(segment.to))
            }
            rect.(role_class(segment.role)) x=(px(x)) y=(px(top)) width=(px(width)) height=(px(BAR)) {}
            @if segment.role == Role::Leader && rivals.contains(&segment.term) {
                rect.rival x=(px(x)) y=(px(top)) width=(px(width)) height=(px(BAR)) {}
            }
            @if restarted { line.restart x1=(px(x)) x2=(px(x)) y1=(px(top - 3.0)) y2=(px(top + BAR + 3.0)) {} }
            @if let Some(label) = label {
                text.(format!("on-{}", role_class(segment.role))) x=(px(x + 4.0)) y=(px(top + 12.5)) { (label) }
            }
        }
    }
}

fn before_was_silent(before: &Segment) -> bool {
    matches!(before.role, Role::Down | Role::Unreachable)
}

fn table_rows(ribbons: &[(String, Vec<Segment>)]) -> Vec<Row> {
    let mut all: Vec<(&String, &Segment)> = ribbons
        .iter()
        .flat_map(|(n, s)| s.iter().map(move |s| (n, s)))
        .collect();
    all.sort_by_key(|(node, s)| (s.from, node.as_str()));
    let rows = all.into_iter().map(|(node, s)| {
        let term = if before_was_silent(s) {
            "–".into()
        } else {
            s.term.to_string()
        };
        let times = [format::moment(s.from), format::moment(s.to)];
        let rest = [node.clone(), format::role(s.role).to_owned(), term];
        ((s.from, s.to), times.into_iter().chain(rest).collect())
    });
    rows.collect()
}

fn nodes_summary(samples: &[NodeSample]) -> String {
    let mut leaders: Vec<(&str, u64)> = Vec::new();
    let mut in_order: Vec<&NodeSample> = samples.iter().filter(|s| s.role == Role::Leader).collect();
    in_order.sort_by_key(|s| s.time);
    for sample in in_order {
        if !leaders.contains(&(sample.node.as_str(), sample.term)) {
            leaders.push((&sample.node, sample.term));
        }
    }
    match leaders.as_slice() {
        [] => "No node was ever seen leading.".into(),
        [(node, term)] => format!("{node} led throughout, in term {term}."),
        all => {
            let named: Vec<String> = all
                .iter()
                .take(8)
                .map(|(node, term)| format!("{node} (term {term})"))
                .collect();
            let more = all.len().saturating_sub(8);
            let tail = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!("Seen leading, in order: {}{tail}.", named.join(", "))
        }
    }
}

fn role_class(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::PreCandidate => "pre-candidate",
        Role::Down => "down",
        Role::Unreachable => "unreachable",
    }
}

/// Name left of a row, cut to the margin.
fn row_name(name: &str, top: f64) -> Markup {
    const CHARS_MAX: usize = 12;
    let cut: String = if name.chars().count() > CHARS_MAX {
        // The end tells nodes apart: a port, a number.
        let skip = name.chars().count() - (CHARS_MAX - 1);
        std::iter::once('…').chain(name.chars().skip(skip)).collect()
    } else {
        name.to_owned()
    };
    html! {
        text.row-name x=(px(LEFT - 8.0)) y=(px(top + 12.5)) text-anchor="end" {
            (cut)
            @if cut != name { title { (name) } }
        }
    }
}

/// Width of a label in the drawing, on the safe side.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars().count() as f64 * 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(time: Nanos, role: Role, term: u64) -> NodeSample {
        NodeSample {
            time,
            node: "n1".into(),
            role,
            term,
            leader: None,
            commit: 0,
            applied: 0,
            digest: None,
            incarnation: None,
        }
    }

    #[test]
    fn equal_answers_become_one_segment_and_silence_stays_blank() {
        let samples: Vec<NodeSample> = [
            (0, Role::Follower, 1),
            (10, Role::Follower, 1),
            (20, Role::Leader, 2),
            (30, Role::Leader, 2),
            (1000, Role::Leader, 2),
        ]
        .map(|(time, role, term)| sample(time, role, term))
        .into();
        let refs: Vec<&NodeSample> = samples.iter().collect();
        let found: Vec<(Nanos, Nanos)> = segments(&refs).iter().map(|s| (s.from, s.to)).collect();
        assert_eq!(found, [(0, 20), (20, 80), (1000, 1000)]);
    }

    #[test]
    fn overlapping_faults_of_a_kind_get_rows_of_their_own() {
        let fault = |kind: &str, from, to| FaultWindow {
            kind: kind.into(),
            label: kind.into(),
            targets: vec![],
            injecting: from,
            injected: None,
            healing: None,
            healed: to,
            evidence: vec![],
            recovery: Default::default(),
        };
        let faults = [
            fault("kill", 0, Some(10)),
            fault("kill", 20, None),
            fault("kill", 25, Some(30)),
            fault("latency", 5, Some(6)),
        ];
        let (rows, hidden) = fault_rows(&faults);
        let shape: Vec<(&str, bool, Vec<usize>)> = rows
            .into_iter()
            .map(|r| (r.kind, r.first_of_kind, r.faults))
            .collect();
        assert_eq!(
            shape,
            [
                ("kill", true, vec![0, 1]),
                ("kill", false, vec![2]),
                ("latency", true, vec![3])
            ]
        );
        assert_eq!(hidden, 0);
    }
}
