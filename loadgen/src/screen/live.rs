//! The thread that draws.
//!
//! It wakes ten times a second to take in reports, keys and signals, and draws at most four times a second. Reports come
//! over a channel of [`REPORTS_MAX`]; whoever finds it full drops the report, and the next one is as good.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ratatui::Terminal;
use ratatui::backend::{Backend, CrosstermBackend};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};

use super::snapshot::Snapshot;
use super::terminal::Guard;
use super::view::{Palette, Picture, draw};

/// Reports that may wait to be taken in.
pub(super) const REPORTS_MAX: usize = 4;

/// How often reports and keys are looked for.
const WAKE_EVERY: Duration = Duration::from_millis(100);

/// Shortest time between two frames.
const FRAME_EVERY: Duration = Duration::from_millis(250);

/// The thread, as its caller knows it.
#[derive(Debug)]
pub(super) struct Live {
    reports: SyncSender<Snapshot>,
    thread: JoinHandle<()>,
}

/// The thread has given up the screen.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Live {
    /// Takes over the terminal on standard error.
    pub(super) fn on_terminal(color: bool) -> io::Result<Live> {
        let (reports, receiver) = sync_channel(REPORTS_MAX);
        let guard = Guard::take()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stderr()))?;
        let thread = thread::Builder::new().name("screen".into()).spawn(move || {
            let stop = {
                // Dropped, and the terminal given back, before anybody is told to stop.
                let _guard = guard;
                on_terminal(terminal, &receiver, Palette(color))
            };
            drop(receiver);
            if stop == Some(Stop::Ask) {
                // What Ctrl-C would have done, had the terminal not been ours. To ourselves it can always be sent.
                let _ = kill(Pid::this(), Signal::SIGINT);
            }
        })?;
        Ok(Live { reports, thread })
    }

    /// Draws on any backend, without keys and signals.
    pub(super) fn on_backend<B>(backend: B, color: bool) -> io::Result<Live>
    where
        B: Backend + Send + 'static,
    {
        let (reports, receiver) = sync_channel(REPORTS_MAX);
        let mut terminal = Terminal::new(backend).map_err(|error| io::Error::other(error.to_string()))?;
        let thread = thread::Builder::new().name("screen".into()).spawn(move || {
            let mut screen = Screen::new(Palette(color));
            loop {
                match screen.take_in(&receiver) {
                    Ok(()) => {}
                    Err(Closed) => return,
                }
                if screen.draw_if_due(&mut terminal, Instant::now()).is_err() {
                    return;
                }
                thread::sleep(WAKE_EVERY);
            }
        })?;
        Ok(Live { reports, thread })
    }

    /// Hands a report on, or drops it where too many wait.
    pub(super) fn show(&self, snapshot: Snapshot) -> Result<(), Closed> {
        match self.reports.try_send(snapshot) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(Closed),
        }
    }

    /// One whose thread has given up.
    #[cfg(test)]
    pub(super) fn closed() -> Live {
        Live {
            reports: sync_channel(REPORTS_MAX).0,
            thread: thread::spawn(|| {}),
        }
    }

    /// Ends the thread, and waits until the terminal has been given back.
    pub(super) fn finish(self) {
        drop(self.reports);
        // Its panic has been printed, and the run's result does not depend on the screen.
        let _ = self.thread.join();
    }
}

/// Why the screen closes before the run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Somebody pressed a key for it: the process has to be told.
    Ask,
    /// A signal has told the process already, or the terminal cannot be drawn on any more.
    Told,
}

/// Draws until there are no more reports or the run is to be stopped.
fn on_terminal<B: Backend>(
    mut terminal: Terminal<B>,
    reports: &Receiver<Snapshot>,
    palette: Palette,
) -> Option<Stop> {
    let mut signals = Listening::start();
    let mut screen = Screen::new(palette);
    loop {
        if screen.take_in(reports).is_err() {
            return None;
        }
        if screen.draw_if_due(&mut terminal, Instant::now()).is_err() {
            return Some(Stop::Told);
        }
        if let Some(stop) = signals.wait(WAKE_EVERY) {
            return Some(stop);
        }
        while event::poll(Duration::ZERO).is_ok_and(|there| there) {
            match event::read().map(|event| key(&event)) {
                Ok(Some(Key::Stop)) => return Some(Stop::Ask),
                Ok(Some(Key::Pause)) => screen.toggle_pause(),
                Ok(Some(Key::Resize)) => screen.next_frame = Instant::now(),
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }
}

/// The signals that end a run. Listening to them also keeps those that nobody else listens to from ending the process with
/// the terminal in our hands.
struct Listening {
    runtime: Option<tokio::runtime::Runtime>,
    /// These stop the run by themselves.
    told: Vec<Signals>,
    /// For these the run has to be asked.
    ask: Vec<Signals>,
}

impl Listening {
    /// Without a runtime or a signal, it listens to less.
    fn start() -> Listening {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .ok();
        let _entered = runtime.as_ref().map(|runtime| runtime.enter());
        let listen = |kinds: [SignalKind; 2]| match _entered {
            Some(_) => kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect(),
            None => Vec::new(),
        };
        let told = listen([SignalKind::interrupt(), SignalKind::terminate()]);
        let ask = listen([SignalKind::hangup(), SignalKind::quit()]);
        drop(_entered);
        Listening { runtime, told, ask }
    }

    /// Waits, and says whether a signal came meanwhile.
    fn wait(&mut self, time: Duration) -> Option<Stop> {
        let Some(runtime) = &self.runtime else {
            thread::sleep(time);
            return None;
        };
        let (told, ask) = (&mut self.told, &mut self.ask);
        runtime.block_on(async {
            tokio::select! {
                () = any(told) => Some(Stop::Told),
                () = any(ask) => Some(Stop::Ask),
                () = tokio::time::sleep(time) => None,
            }
        })
    }
}

/// Resolves when one of them comes.
async fn any(signals: &mut [Signals]) {
    std::future::poll_fn(|context| {
        let came = signals
            .iter_mut()
            .any(|signal| matches!(signal.poll_recv(context), std::task::Poll::Ready(Some(()))));
        if came {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

#[derive(Debug, PartialEq, Eq)]
enum Key {
    Stop,
    Pause,
    Resize,
}

fn key(event: &Event) -> Option<Key> {
    match event {
        Event::Resize(..) => Some(Key::Resize),
        Event::Key(key) if key.kind == KeyEventKind::Press => match key.code {
            KeyCode::Char('c' | 'C') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Stop),
            KeyCode::Char('q' | 'Q') => Some(Key::Stop),
            KeyCode::Char('p' | 'P') => Some(Key::Pause),
            _ => None,
        },
        _ => None,
    }
}

/// What is shown, and when it was drawn.
struct Screen {
    present: Picture,
    /// What is shown while the display is held still.
    held: Option<Picture>,
    next_frame: Instant,
    palette: Palette,
}

impl Screen {
    fn new(palette: Palette) -> Screen {
        Screen {
            present: Picture::default(),
            held: None,
            next_frame: Instant::now(),
            palette,
        }
    }

    /// Takes in what has come; fails when nothing will come any more.
    fn take_in(&mut self, reports: &Receiver<Snapshot>) -> Result<(), Closed> {
        loop {
            match reports.try_recv() {
                Ok(snapshot) => {
                    self.present.history.push(&snapshot);
                    self.present.snapshot = Some(snapshot);
                }
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => return Err(Closed),
            }
        }
    }

    fn toggle_pause(&mut self) {
        self.held = match self.held.take() {
            Some(_) => None,
            None => Some(Picture {
                paused: true,
                ..self.present.clone()
            }),
        };
        self.next_frame = Instant::now();
    }

    fn draw_if_due<B: Backend>(
        &mut self,
        terminal: &mut Terminal<B>,
        now: Instant,
    ) -> Result<bool, B::Error> {
        if now < self.next_frame {
            return Ok(false);
        }
        self.next_frame = now + FRAME_EVERY;
        let picture = self.held.as_ref().unwrap_or(&self.present);
        terminal.draw(|frame| draw(frame, picture, self.palette))?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::KeyEvent;

    use super::*;

    fn snapshot(ok: u64) -> Snapshot {
        let mut snapshot = Snapshot {
            elapsed: Duration::from_secs(ok),
            total: Duration::from_secs(100),
            ..Snapshot::default()
        };
        snapshot.counts.ok = ok;
        snapshot
    }

    fn shown(terminal: &Terminal<TestBackend>) -> String {
        terminal.backend().to_string()
    }

    #[test]
    fn whoever_finds_the_channel_full_drops_the_report_and_goes_on() {
        let (reports, receiver) = sync_channel(REPORTS_MAX);
        let live = Live {
            reports,
            thread: thread::spawn(|| {}),
        };
        for number in 0..1000 {
            assert_eq!(live.show(snapshot(number)), Ok(()));
        }
        assert_eq!(receiver.try_iter().count(), REPORTS_MAX);
        drop(receiver);
        assert_eq!(live.show(snapshot(0)), Err(Closed));
        live.finish();
    }

    #[test]
    fn four_frames_a_second_and_no_more() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let mut screen = Screen::new(Palette(false));
        let start = screen.next_frame;
        let drawn = (0..100)
            .filter(|step| {
                let now = start + Duration::from_millis(10) * *step;
                screen.draw_if_due(&mut terminal, now).unwrap()
            })
            .count();
        assert_eq!(drawn, 4);
    }

    #[test]
    fn a_display_that_is_held_still_goes_on_where_the_run_is() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        let (reports, receiver) = sync_channel(REPORTS_MAX);
        let mut screen = Screen::new(Palette(false));
        let mut show = |screen: &mut Screen, ok| {
            reports.try_send(snapshot(ok)).unwrap();
            screen.take_in(&receiver).unwrap();
            screen.next_frame = Instant::now();
            screen.draw_if_due(&mut terminal, screen.next_frame).unwrap();
            shown(&terminal)
        };
        assert!(show(&mut screen, 11).contains("11 ok"));
        screen.toggle_pause();
        let held = show(&mut screen, 12);
        assert!(held.contains("11 ok") && held.contains("held still"));
        screen.toggle_pause();
        let again = show(&mut screen, 13);
        assert!(again.contains("13 ok") && !again.contains("held still"));
        // The seconds that passed meanwhile are in the charts.
        assert_eq!(screen.present.history.last(usize::MAX).count(), 13);
        drop(reports);
        assert_eq!(screen.take_in(&receiver), Err(Closed));
    }

    #[test]
    fn keys_are_told_apart() {
        let press = |code, modifiers| key(&Event::Key(KeyEvent::new(code, modifiers)));
        let none = KeyModifiers::NONE;
        assert_eq!(press(KeyCode::Char('q'), none), Some(Key::Stop));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Stop));
        assert_eq!(press(KeyCode::Char('c'), none), None);
        assert_eq!(press(KeyCode::Char('p'), none), Some(Key::Pause));
        assert_eq!(press(KeyCode::Esc, none), None);
        assert_eq!(key(&Event::Resize(10, 10)), Some(Key::Resize));
        let mut release = KeyEvent::new(KeyCode::Char('q'), none);
        release.kind = KeyEventKind::Release;
        assert_eq!(key(&Event::Key(release)), None);
    }

    #[test]
    fn the_thread_ends_when_it_is_told() {
        let live = Live::on_backend(TestBackend::new(80, 24), true).unwrap();
        assert_eq!(live.show(snapshot(5)), Ok(()));
        live.finish();
    }
}
