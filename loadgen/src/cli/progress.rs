//! Shows how a run stands, on standard error: a bar on a terminal, a plain line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::run::Progress;

/// How often a plain line is printed.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

pub(super) enum Display {
    Silent,
    Bar(ProgressBar),
    Plain { next: Duration },
}

impl Display {
    pub(super) fn new(quiet: bool, total: Duration) -> Display {
        if quiet {
            return Display::Silent;
        }
        if !io::stderr().is_terminal() {
            return Display::Plain { next: PLAIN_EVERY };
        }
        let target = ProgressDrawTarget::stderr_with_hz(5);
        let bar = ProgressBar::with_draw_target(Some(total.as_millis() as u64), target);
        let style = ProgressStyle::with_template("{wide_bar} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Display::Bar(bar)
    }

    pub(super) fn show(&mut self, progress: &Progress) {
        match self {
            Display::Silent => {}
            Display::Bar(bar) => {
                bar.set_position(progress.elapsed.min(progress.total).as_millis() as u64);
                bar.set_message(line(progress));
            }
            Display::Plain { next } => {
                if progress.elapsed >= *next {
                    // Somebody who closed standard error does not want to know.
                    let _ = writeln!(io::stderr(), "{}", line(progress));
                    while *next <= progress.elapsed {
                        *next += PLAIN_EVERY;
                    }
                }
            }
        }
    }

    pub(super) fn finish(self) {
        if let Display::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
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
    use super::*;
    use reports::record::Counts;

    #[test]
    fn a_line_names_every_count() {
        let progress = Progress {
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
        };
        assert_eq!(
            line(&progress),
            "12/30s  70 ok, 1 failed, 2 unknown  6 ok/s  7 in flight, 20 waiting"
        );
    }
}
