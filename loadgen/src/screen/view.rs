//! The picture of one moment. Pure: the same snapshot on the same size gives the same cells.
//!
//! Promises to draw something on any size, down to nothing at all: what has no room is left out, the least important
//! first (endpoints and outcomes, then operations, then charts).

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, LineGauge, Paragraph, Row, Sparkline, SparklineBar, Table};

use super::history::{History, Second};
use super::snapshot::{LatencyRow, Snapshot};
use super::text::{count, name, time};

/// Rows of a chart with its frame, at least and where there is room left over.
const CHART_ROWS: u16 = 6;
const CHART_ROWS_MAX: u16 = 16;
/// Fewest rows of a list with its frame: a title and one line.
const LIST_ROWS_MIN: u16 = 3;
/// Lines of the lists at the bottom at most, frame included.
const LIST_ROWS_MAX: u16 = 9;
/// Operations that are listed.
const OPERATIONS_MAX: usize = 8;

/// What is drawn.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    /// The newest report, once there is one.
    pub(super) snapshot: Option<Snapshot>,
    /// The seconds before it.
    pub(super) history: History,
    /// It is held still.
    pub(super) paused: bool,
}

/// Colours, or none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Palette(pub(super) bool);

impl Palette {
    fn of(self, color: Color) -> Style {
        match self.0 {
            true => Style::new().fg(color),
            false => Style::new(),
        }
    }

    fn count(self, number: u64, color: Color) -> Style {
        match number {
            0 => Style::new(),
            _ => self.of(color),
        }
    }
}

/// Draws a picture.
pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, palette: Palette) {
    let Some(snapshot) = &picture.snapshot else {
        let text = Paragraph::new("whitewater: no report yet").alignment(Alignment::Center);
        frame.render_widget(text, frame.area());
        return;
    };
    let rows = Rows::plan(frame.area().height, snapshot);
    let areas: [Rect; 7] = Layout::vertical([
        Constraint::Length(rows.head),
        Constraint::Length(rows.gauge),
        Constraint::Length(rows.counts),
        Constraint::Length(rows.charts),
        Constraint::Length(rows.operations),
        Constraint::Length(rows.lists),
        Constraint::Length(rows.keys),
    ])
    .areas(frame.area());
    let [
        head_area,
        gauge_area,
        counts_area,
        charts_area,
        operations_area,
        lists_area,
        keys_area,
    ] = areas;
    head(frame, head_area, snapshot, picture.paused, palette);
    gauge(frame, gauge_area, snapshot, palette);
    frame.render_widget(counts_line(snapshot, palette), counts_area);
    charts(frame, charts_area, &picture.history, palette);
    operations(frame, operations_area, snapshot);
    lists(frame, lists_area, snapshot, palette);
    let keys = "q stop   p hold the display still";
    frame.render_widget(
        Line::from(keys).style(Style::new().add_modifier(Modifier::DIM)),
        keys_area,
    );
}

/// How many rows each part gets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rows {
    head: u16,
    gauge: u16,
    counts: u16,
    charts: u16,
    operations: u16,
    lists: u16,
    keys: u16,
}

impl Rows {
    /// The most important first, each whole or not at all, except that lists may be cut.
    fn plan(height: u16, snapshot: &Snapshot) -> Rows {
        let mut left = height;
        let mut take = |wanted: u16, least: u16| {
            let given = if left >= least { wanted.min(left) } else { 0 };
            left -= given;
            given
        };
        let operations = snapshot.operations.len().clamp(1, OPERATIONS_MAX) as u16;
        let longest_list = snapshot.outcomes.len().max(snapshot.endpoints.len()).max(2);
        let lists = u16::try_from(longest_list + 2)
            .unwrap_or(u16::MAX)
            .min(LIST_ROWS_MAX);
        let mut rows = Rows {
            head: take(1, 1),
            gauge: take(1, 1),
            counts: take(1, 1),
            keys: take(1, 1),
            charts: take(CHART_ROWS, CHART_ROWS),
            // Two for the frame, one for the titles of the columns.
            operations: take(operations + 3, 4),
            lists: take(lists, LIST_ROWS_MIN),
        };
        if rows.charts > 0 {
            rows.charts = rows.charts.saturating_add(left).min(CHART_ROWS_MAX);
        }
        rows
    }
}

fn head(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, paused: bool, palette: Palette) {
    let counts = snapshot.counts;
    let (verdict, color) = match &snapshot.verdict {
        Some(verdict) => (name(verdict), Color::Yellow),
        None if counts.failed + counts.unknown > 0 => {
            ("so far: not every operation was answered".into(), Color::Yellow)
        }
        None if counts.ok > 0 => ("so far: every answer was ok".into(), Color::Green),
        None => ("so far: no answer".into(), Color::Yellow),
    };
    let mut line = vec![
        Span::styled("whitewater", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw("  "),
        Span::styled(verdict, palette.of(color)),
    ];
    if paused {
        let style = Style::new().add_modifier(Modifier::REVERSED);
        line.push(Span::raw("  "));
        line.push(Span::styled("held still", style));
    }
    frame.render_widget(Line::from(line), area);
}

fn gauge(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, palette: Palette) {
    let (elapsed, total) = (snapshot.elapsed.as_secs_f64(), snapshot.total.as_secs_f64());
    let ratio = if total > 0.0 {
        (elapsed / total).clamp(0.0, 1.0)
    } else {
        0.0
    };
    let draining = if elapsed > total {
        ", waiting for what is in flight"
    } else {
        ""
    };
    let label = format!(
        "{} of {} s{draining}",
        snapshot.elapsed.as_secs(),
        snapshot.total.as_secs()
    );
    let gauge = LineGauge::default()
        .ratio(ratio)
        .label(label)
        .filled_style(palette.of(Color::Cyan).add_modifier(Modifier::BOLD))
        .unfilled_style(Style::new().add_modifier(Modifier::DIM))
        .filled_symbol("━")
        .unfilled_symbol("─");
    frame.render_widget(gauge, area);
}

fn counts_line(snapshot: &Snapshot, palette: Palette) -> Line<'static> {
    let counts = snapshot.counts;
    let mut parts = vec![
        Span::raw(format!("{} planned  ", count(snapshot.planned))),
        Span::styled(
            format!("{} ok", count(counts.ok)),
            palette.count(counts.ok, Color::Green),
        ),
        Span::raw("  "),
        Span::styled(
            format!("{} failed", count(counts.failed)),
            palette.count(counts.failed, Color::Red),
        ),
        Span::raw("  "),
        Span::styled(
            format!("{} unknown", count(counts.unknown)),
            palette.count(counts.unknown, Color::Yellow),
        ),
        Span::raw(format!("  {} in flight", count(snapshot.in_flight))),
    ];
    if snapshot.queued > 0 {
        let text = format!("  {} waiting", count(snapshot.queued));
        parts.push(Span::styled(text, palette.of(Color::Yellow)));
    }
    Line::from(parts)
}

fn charts(frame: &mut Frame<'_>, area: Rect, history: &History, palette: Palette) {
    let [left, right] = Layout::horizontal([Constraint::Ratio(1, 2); 2]).areas(area);
    let rate = |second: &Second| second.ok_per_second.map(|rate| rate.round() as u64);
    chart(
        frame,
        left,
        history,
        palette.of(Color::Green),
        "ok/s",
        rate,
        count,
    );
    let p99 = |second: &Second| second.p99;
    chart(
        frame,
        right,
        history,
        palette.of(Color::Magenta),
        "p99",
        p99,
        |nanos| time(Some(nanos)),
    );
}

/// One column for each whole second, the newest at the right of those that fit.
fn chart(
    frame: &mut Frame<'_>,
    area: Rect,
    history: &History,
    style: Style,
    title: &str,
    value: impl Fn(&Second) -> Option<u64>,
    show: impl Fn(u64) -> String,
) {
    let columns = usize::from(area.width.saturating_sub(2));
    let values: Vec<Option<u64>> = history.last(columns).map(value).collect();
    let newest = values.last().copied().flatten();
    let highest = values.iter().copied().flatten().max();
    let title = match (newest, highest) {
        (Some(newest), Some(highest)) => format!(" {title} {}, highest {} ", show(newest), show(highest)),
        (None, Some(highest)) => format!(" {title} -, highest {} ", show(highest)),
        _ => format!(" {title}: no whole second yet "),
    };
    let bars: Vec<SparklineBar> = values.into_iter().map(SparklineBar::from).collect();
    let sparkline = Sparkline::default()
        .block(framed(title))
        .data(bars)
        .style(style)
        .absent_value_symbol(" ");
    frame.render_widget(sparkline, area);
}

fn framed(title: String) -> Block<'static> {
    Block::new().borders(Borders::ALL).title(title)
}

fn operations(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot) {
    let cells = |title: String, ok: String, latency: &LatencyRow| {
        let LatencyRow {
            p50,
            p90,
            p99,
            p999,
            max,
        } = *latency;
        let times = [p50, p90, p99, p999, max].map(time);
        let right = |text: String| Line::from(text).alignment(Alignment::Right);
        let mut row = vec![Line::from(title), right(ok)];
        row.extend(times.map(right));
        Row::new(row)
    };
    let mut rows: Vec<Row<'_>> = snapshot
        .operations
        .iter()
        .take(OPERATIONS_MAX)
        .map(|row| cells(name(&row.name), count(row.ok), &row.latency))
        .collect();
    if rows.is_empty() {
        // All operations together are better than an empty frame.
        let latency = snapshot.latency.unwrap_or_default();
        rows.push(cells("all".into(), count(snapshot.counts.ok), &latency));
    }
    let titles = ["operation", "ok", "p50", "p90", "p99", "p99.9", "max"];
    let header = titles.iter().enumerate().map(|(index, title)| {
        let alignment = if index == 0 {
            Alignment::Left
        } else {
            Alignment::Right
        };
        Line::from(*title).alignment(alignment)
    });
    let widths = [
        Constraint::Min(9),
        Constraint::Length(12),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    let table = Table::new(rows, widths)
        .header(Row::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(framed(" operations ".into()));
    frame.render_widget(table, area);
}

fn lists(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, palette: Palette) {
    let [left, middle, right] = Layout::horizontal([
        Constraint::Ratio(1, 3),
        Constraint::Ratio(1, 3),
        Constraint::Fill(1),
    ])
    .areas(area);
    let outcomes = snapshot.outcomes.iter().map(|row| {
        let good = row.name == "ok" || row.count == 0;
        let style = if good {
            Style::new()
        } else {
            palette.of(Color::Yellow)
        };
        (name(&row.name), count(row.count), style)
    });
    list(frame, left, " outcomes ", outcomes.collect());
    let lag = match snapshot.lag {
        Some(lag) => vec![
            ("pacer p99".into(), time(lag.pacer_p99), Style::new()),
            ("queue p99".into(), time(lag.queue_p99), Style::new()),
        ],
        None => vec![("not reported".into(), String::new(), Style::new())],
    };
    list(frame, middle, " lag ", lag);
    let mut endpoints: Vec<(String, String, Style)> = snapshot
        .endpoints
        .iter()
        .map(|row| {
            let style = if row.ok < row.attempts {
                palette.of(Color::Yellow)
            } else {
                Style::new()
            };
            (
                name(&row.name),
                format!("{} of {}", count(row.ok), count(row.attempts)),
                style,
            )
        })
        .collect();
    if endpoints.is_empty() {
        endpoints.push(("not reported".into(), String::new(), Style::new()));
    }
    list(frame, right, " endpoints, ok of sent ", endpoints);
}

/// A name on the left and a number on the right of each line. What does not fit below is counted in the last line.
fn list(frame: &mut Frame<'_>, area: Rect, title: &str, mut lines: Vec<(String, String, Style)>) {
    let room = usize::from(area.height.saturating_sub(2));
    let width = usize::from(area.width.saturating_sub(2));
    if lines.len() > room && room > 0 {
        let hidden = lines.len() - room + 1;
        lines.truncate(room - 1);
        lines.push((format!("and {hidden} more"), String::new(), Style::new()));
    }
    let lines: Vec<Line<'_>> = lines
        .into_iter()
        .map(|(name, number, style)| {
            let room = width.saturating_sub(number.chars().count() + 1);
            let mut shown = name;
            while Line::from(shown.as_str()).width() > room {
                shown.pop();
            }
            let gap = width.saturating_sub(Line::from(shown.as_str()).width() + number.chars().count());
            Line::styled(format!("{shown}{}{number}", " ".repeat(gap)), style)
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(framed(title.into())), area);
}

#[cfg(test)]
mod tests;
