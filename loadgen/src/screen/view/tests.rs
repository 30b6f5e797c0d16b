//! Golden screens, and sizes and names that must do no harm. `WHITEWATER_BLESS=1` writes the golden screens anew.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;
use reports::record::Counts;

use super::*;
use crate::screen::snapshot::{EndpointRow, LagRow, OperationRow, OutcomeRow};

const MS: u64 = 1_000_000;

fn latency(p50: u64) -> LatencyRow {
    LatencyRow {
        p50: Some(p50),
        p90: Some(p50 * 2),
        p99: Some(p50 * 5),
        p999: None,
        max: Some(p50 * 30),
    }
}

fn snapshot(second: u64) -> Snapshot {
    let ok = second * 1000 + (second % 7) * 150;
    let operation = |name: &str, ok, p50| OperationRow {
        name: name.into(),
        ok,
        latency: latency(p50),
    };
    let outcome = |name: &str, count| OutcomeRow {
        name: name.into(),
        count,
    };
    let endpoint = |name: &str, attempts, ok| EndpointRow {
        name: name.into(),
        attempts,
        ok,
    };
    Snapshot {
        elapsed: Duration::from_secs(second),
        total: Duration::from_secs(60),
        planned: ok + 40,
        counts: Counts {
            ok,
            failed: 3,
            unknown: 12,
            unsent: 0,
        },
        in_flight: 25,
        queued: 4,
        ok_per_second: 1000.0,
        verdict: None,
        latency: Some(latency(MS + (second % 5) * MS / 2)),
        operations: vec![
            operation("get", ok / 2, MS / 2),
            operation("put", ok / 2, 3 * MS),
            operation("cas", 77, 4 * MS),
        ],
        outcomes: vec![
            outcome("ok", ok),
            outcome("no answer before the deadline", 12),
            outcome("rejected", 3),
        ],
        lag: Some(LagRow {
            pacer_p99: Some(70_000),
            queue_p99: Some(0),
        }),
        endpoints: vec![
            endpoint("node1", 20_400, 20_385),
            endpoint("node2", 12, 12),
            endpoint("127.0.0.1:50053", 0, 0),
        ],
    }
}

/// A run in its 42nd second; nothing was reported in the 20th to 22nd.
fn running() -> Picture {
    let mut picture = Picture::default();
    for second in (0..=42).filter(|second| !(20..=22).contains(second)) {
        let snapshot = snapshot(second);
        picture.history.push(&snapshot);
        picture.snapshot = Some(snapshot);
    }
    picture
}

fn drawn(picture: &Picture, width: u16, height: u16, palette: Palette) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, picture, palette)).unwrap();
    terminal
}

fn text(picture: &Picture, width: u16, height: u16) -> String {
    let terminal = drawn(picture, width, height, Palette(false));
    let buffer = terminal.backend().buffer();
    let line = |y| {
        let cells = (0..width).map(|x| buffer[(x, y)].symbol());
        format!("{}\n", cells.collect::<String>().trim_end())
    };
    (0..height).map(line).collect()
}

fn golden(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/screen/golden")
        .join(name);
    if std::env::var_os("WHITEWATER_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        found,
        expected,
        "{} differs; see the head of this file",
        path.display()
    );
}

#[test]
fn the_usual_terminal() {
    golden("running-80x24.txt", &text(&running(), 80, 24));
}

#[test]
fn a_large_terminal() {
    golden("running-120x40.txt", &text(&running(), 120, 40));
}

#[test]
fn the_first_report_has_no_seconds_behind_it() {
    let mut picture = Picture {
        snapshot: Some(Snapshot {
            total: Duration::from_secs(60),
            ..Snapshot::default()
        }),
        ..Picture::default()
    };
    golden("first-80x24.txt", &text(&picture, 80, 24));
    picture.snapshot = None;
    assert!(text(&picture, 80, 24).contains("no report yet"));
}

#[test]
fn after_its_plan_a_run_waits_for_what_is_in_flight() {
    let mut picture = running();
    let snapshot = picture.snapshot.as_mut().unwrap();
    snapshot.elapsed = Duration::from_secs(61);
    snapshot.verdict = Some("generator-bound".into());
    let text = text(&picture, 80, 24);
    assert!(text.contains("61 of 60 s, waiting for what is in flight"));
    assert!(text.contains("whitewater  generator-bound"));
}

#[test]
fn no_size_is_too_small() {
    let (running, none) = (running(), Picture::default());
    for height in 0..=26 {
        for width in [0, 1, 2, 3, 8, 21, 79, 80, 200] {
            drawn(&running, width, height, Palette(true));
            drawn(&none, width, height, Palette(true));
        }
    }
    drawn(&running, 1, u16::MAX / 64, Palette(true));
    drawn(&running, u16::MAX / 64, 1, Palette(true));
}

#[test]
fn what_has_no_room_is_left_out_the_least_important_first() {
    let picture = running();
    for (height, there, gone) in [
        (19, "outcomes", "none of that"),
        (16, "operations", "outcomes"),
        (10, "ok/s", "operations"),
        (9, "q stop", "ok/s"),
        (3, "in flight", "q stop"),
        (2, "42 of 60 s", "in flight"),
        (1, "whitewater", "42 of 60 s"),
    ] {
        let text = text(&picture, 80, height);
        assert!(text.contains(there) && !text.contains(gone), "{height}:\n{text}");
    }
}

#[test]
fn names_from_outside_cannot_harm_the_terminal() {
    let mut picture = running();
    let snapshot = picture.snapshot.as_mut().unwrap();
    let hostile = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{202e}\r\n漢字🦀".repeat(50);
    snapshot.verdict = Some(hostile.clone());
    snapshot
        .endpoints
        .iter_mut()
        .for_each(|row| row.name = hostile.clone());
    snapshot
        .operations
        .iter_mut()
        .for_each(|row| row.name = hostile.clone());
    snapshot.outcomes = vec![
        OutcomeRow {
            name: hostile,
            count: u64::MAX,
        };
        500
    ];
    for (width, height) in [(80, 24), (120, 40), (20, 24), (7, 24)] {
        let terminal = drawn(&picture, width, height, Palette(true));
        for cell in terminal.backend().buffer().content() {
            let harmless = |character: char| !character.is_control() && character != '\u{202e}';
            assert!(cell.symbol().chars().all(harmless), "{:?}", cell.symbol());
        }
    }
    assert!(text(&picture, 120, 40).contains("and 494 more"));
}

#[test]
fn without_colours_there_are_none() {
    let picture = running();
    let colours = |palette| {
        let terminal = drawn(&picture, 120, 40, palette);
        let cells = terminal.backend().buffer().content().to_vec();
        cells
            .iter()
            .filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
            .count()
    };
    assert_eq!(colours(Palette(false)), 0);
    assert!(colours(Palette(true)) > 0);
}
