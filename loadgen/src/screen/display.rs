//! Shows how a run stands, on standard error, in whichever way was chosen.

use std::io::{self, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use ratatui::backend::Backend;

use super::live::Live;
use super::mode::DisplayMode;
use super::snapshot::Snapshot;
use crate::run::Progress;

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often the bar is drawn, a second.
const BAR_HZ: u8 = 5;

/// A display. Dropping it gives the terminal back too.
#[derive(Debug)]
pub struct Display(Option<Kind>);

#[derive(Debug)]
enum Kind {
    Silent,
    Screen(Live),
    Bar(ProgressBar),
    Lines { next: Duration },
}

impl Display {
    /// Begins to show a run that will start operations for `total`. A terminal that cannot be taken over gets a bar.
    pub fn new(mode: DisplayMode, total: Duration) -> Display {
        let kind = match mode {
            DisplayMode::Silent => Kind::Silent,
            DisplayMode::Lines => Kind::Lines { next: LINE_EVERY },
            DisplayMode::Bar => Kind::Bar(bar(total)),
            DisplayMode::Screen { color } => match Live::on_terminal(color) {
                Ok(live) => Kind::Screen(live),
                Err(error) => {
                    let _ = writeln!(
                        io::stderr(),
                        "no live screen: {error}; use --screen off to avoid this message"
                    );
                    Kind::Bar(bar(total))
                }
            },
        };
        Display(Some(kind))
    }

    /// The live screen on any backend, without keys and signals: for whoever has a terminal of another kind, and to
    /// measure what showing costs.
    pub fn on_backend<B: Backend + Send + 'static>(backend: B, color: bool) -> io::Result<Display> {
        Ok(Display(Some(Kind::Screen(Live::on_backend(backend, color)?))))
    }

    /// Shows a report. Never waits: on the screen, a report that finds too many waiting is dropped.
    pub fn show(&mut self, progress: &Progress) {
        let Some(kind) = &mut self.0 else { return };
        match kind {
            Kind::Silent => {}
            Kind::Screen(live) => {
                if live.show(Snapshot::from(progress)).is_err() {
                    // Somebody stops the run. What is said about that, and this, is better read line by line.
                    let closed = std::mem::replace(
                        kind,
                        Kind::Lines {
                            next: progress.elapsed,
                        },
                    );
                    finish(closed);
                    self.show(progress);
                }
            }
            Kind::Bar(bar) => {
                bar.set_position(progress.elapsed.min(progress.total).as_millis() as u64);
                bar.set_message(line(progress));
            }
            Kind::Lines { next } => {
                if progress.elapsed >= *next {
                    // Somebody who closed standard error does not want to know.
                    let _ = writeln!(io::stderr(), "{}", line(progress));
                    while *next <= progress.elapsed {
                        *next += LINE_EVERY;
                    }
                }
            }
        }
    }

    /// Ends the display; when this returns, the terminal is as it was before.
    pub fn finish(mut self) {
        self.0.take().into_iter().for_each(finish);
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(finish);
    }
}

fn finish(kind: Kind) {
    match kind {
        Kind::Silent | Kind::Lines { .. } => {}
        Kind::Screen(live) => live.finish(),
        Kind::Bar(bar) => bar.finish_and_clear(),
    }
}

fn bar(total: Duration) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(BAR_HZ);
    let bar = ProgressBar::with_draw_target(Some(total.as_millis() as u64), target);
    let style = ProgressStyle::with_template("{wide_bar} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn line(progress: &Progress) -> String {
    let counts = progress.counts;
    let mut text = format!(
        "{}/{}s  {} ok, {} failed, {} unknown  {:.0} ok/s  {} in flight",
        progress.elapsed.as_secs(),
        progress.total.as_secs(),
        counts.ok,
        counts.failed,
        counts.unknown,
        progress.ok_per_second,
        progress.in_flight
    );
    if progress.queued > 0 {
        text += &format!(", {} waiting", progress.queued);
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ratatui::backend::TestBackend;
    use reports::record::Counts;

    use super::*;

    fn progress() -> Progress {
        Progress {
            elapsed: Duration::from_millis(12_300),
            total: Duration::from_secs(30),
            planned: 100,
            counts: Counts {
                ok: 70,
                failed: 1,
                unknown: 2,
                unsent: 0,
            },
            in_flight: 7,
            queued: 20,
            ok_per_second: 5.6,
            interval: None,
            closed: Vec::new(),
        }
    }

    #[test]
    fn a_line_names_every_count() {
        assert_eq!(
            line(&progress()),
            "12/30s  70 ok, 1 failed, 2 unknown  6 ok/s  7 in flight, 20 waiting"
        );
    }

    #[test]
    fn lines_come_now_and_then() {
        let mut display = Display::new(DisplayMode::Lines, Duration::from_secs(30));
        display.show(&progress());
        let Some(Kind::Lines { next }) = &display.0 else {
            panic!("{display:?}")
        };
        assert_eq!(*next, Duration::from_secs(20));
        display.finish();
    }

    #[test]
    fn a_screen_that_has_closed_gives_way_to_lines() {
        // A backend of no size draws nothing; its thread is ended here from outside.
        let mut display = Display::on_backend(TestBackend::new(0, 0), false).unwrap();
        display.show(&progress());
        assert!(matches!(display.0, Some(Kind::Screen(_))));
        let gone = Live::closed();
        display.0 = Some(Kind::Screen(gone));
        display.show(&progress());
        assert!(matches!(display.0, Some(Kind::Lines { .. })));
        display.finish();
    }
}
