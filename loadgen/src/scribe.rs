//! Writes the history and the histogram log while the run goes on, on a thread of its own: compressing a histogram takes
//! about a millisecond, which the driver's loop must not lose.
//!
//! Promises: what was handed over is written, in order, or the run ends with an error. Never lets a slow disk grow the
//! memory without limit, and never slows the load down to wait for it: a writer too far behind is an error.

use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use reports::record::{Event, Measure, Nanos, Operation, OutcomeKind};
use tokio::sync::oneshot;

use crate::clock::RunClock;
use crate::export::hlog::LogWriter;
use crate::recorder::MEASURES;

/// Batches that may wait: at ten a second, more than a minute and a half of a disk that stands still.
const BACKLOG_BATCHES: usize = 1000;

/// At the end of a run, the wait for room.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// An interval log in memory: the writing thread fills it, and whoever holds a clone takes it when the run is over.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogBuffer(Arc<Mutex<Vec<u8>>>);

impl LogBuffer {
    /// What has been written since it was last taken.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for LogBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut buffer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes events one by one.
pub type EventSink = Box<dyn FnMut(&Event) -> io::Result<()> + Send>;

/// Takes the histograms of slices, one by one.
pub type IntervalSink = Box<dyn FnMut(&IntervalHistograms) + Send>;

/// Where the history goes.
pub enum HistoryTarget {
    /// Nowhere.
    Discard,
    /// Into [`crate::LoadOutcome::history`].
    Memory,
    /// Event by event to whoever this is; called on a thread of its own.
    Stream(EventSink),
}

/// Where a run writes what does not fit into its outcome.
pub struct Outputs {
    /// Where the history goes.
    pub history: HistoryTarget,
    /// Receives `latency.hlog`.
    pub latency_log: Option<Box<dyn Write + Send>>,
    /// Looks at the histograms of every slice, in order, while the run goes on; called on a thread of its own.
    pub intervals: Option<IntervalSink>,
}

impl Outputs {
    /// History in memory, no histogram log.
    pub fn in_memory() -> Outputs {
        Outputs {
            history: HistoryTarget::Memory,
            latency_log: None,
            intervals: None,
        }
    }
}

impl fmt::Debug for Outputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let history = match self.history {
            HistoryTarget::Discard => "discard",
            HistoryTarget::Memory => "memory",
            HistoryTarget::Stream(_) => "stream",
        };
        f.debug_struct("Outputs")
            .field("history", &history)
            .field("latency_log", &self.latency_log.is_some())
            .field("intervals", &self.intervals.is_some())
            .finish()
    }
}

/// What the values of a series have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag {
    /// What was done.
    pub operation: Operation,
    /// How it ended.
    pub outcome: OutcomeKind,
    /// What was measured.
    pub measure: Measure,
}

impl Tag {
    /// From `operation.outcome.measure`; nothing if that is none.
    pub(crate) fn parse(text: &str) -> Option<Tag> {
        let mut words = text.split('.');
        let (operation, outcome, measure) = (words.next()?, words.next()?, words.next()?);
        let tag = Tag {
            operation: Operation::ALL.into_iter().find(|o| o.as_str() == operation)?,
            outcome: OutcomeKind::ALL.into_iter().find(|o| o.as_str() == outcome)?,
            measure: MEASURES.into_iter().find(|m| m.as_str() == measure)?,
        };
        words.next().is_none().then_some(tag)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.operation, self.outcome, self.measure.as_str())
    }
}

/// Latencies of the operations planned in one interval.
#[derive(Debug)]
pub struct IntervalHistograms {
    /// When the interval begins, on the run's clock.
    pub start: Nanos,
    /// How long it is.
    pub length: Nanos,
    /// The headline: response time in an open loop, service time in a closed one, of all good operations together.
    pub all: Histogram<u64>,
    /// By operation, outcome and measure, in this order.
    pub tagged: Vec<(Tag, Histogram<u64>)>,
}

enum Page {
    Events(Vec<Event>),
    Interval(Box<IntervalHistograms>),
}

/// The driver's end of the writing thread.
#[derive(Debug)]
pub(crate) struct Scribe {
    pages: SyncSender<Page>,
    done: oneshot::Receiver<io::Result<Vec<Event>>>,
}

impl Scribe {
    pub(crate) fn start(outputs: Outputs, clock: RunClock, headline: Measure) -> io::Result<Scribe> {
        let (pages, inbox) = sync_channel(BACKLOG_BATCHES);
        let (report, done) = oneshot::channel();
        let base_time = SystemTime::now() - Duration::from_nanos(clock.now());
        thread::Builder::new()
            .name("loadgen-scribe".into())
            .spawn(move || {
                // Nobody listens any more if the run was dropped.
                let _ = report.send(write_all(outputs, base_time, headline, inbox));
            })?;
        Ok(Scribe { pages, done })
    }

    pub(crate) fn events(&self, events: Vec<Event>) -> Result<(), ScribeGone> {
        if events.is_empty() {
            Ok(())
        } else {
            self.send(Page::Events(events))
        }
    }

    /// Hands over a slice; gives it back if there is no room at the moment.
    pub(crate) fn interval(
        &self,
        interval: IntervalHistograms,
    ) -> Result<Option<IntervalHistograms>, ScribeGone> {
        match self.pages.try_send(Page::Interval(Box::new(interval))) {
            Ok(()) => Ok(None),
            Err(TrySendError::Full(Page::Interval(interval))) => Ok(Some(*interval)),
            Err(TrySendError::Full(Page::Events(_))) => unreachable!("a slice was sent"),
            Err(TrySendError::Disconnected(_)) => Err(ScribeGone::Failed),
        }
    }

    fn send(&self, page: Page) -> Result<(), ScribeGone> {
        self.pages.try_send(page).map_err(|error| match error {
            TrySendError::Full(_) => ScribeGone::Behind,
            TrySendError::Disconnected(_) => ScribeGone::Failed,
        })
    }

    /// Hands over the last slices and waits until everything is written; the history, if it was to be kept in memory.
    pub(crate) async fn finish(
        self,
        rest: impl IntoIterator<Item = IntervalHistograms>,
    ) -> io::Result<Vec<Event>> {
        for mut interval in rest {
            // The thread that has failed says why below.
            while let Ok(Some(same)) = self.interval(interval) {
                interval = same;
                tokio::time::sleep(FULL_PAUSE).await;
            }
        }
        drop(self.pages);
        self.done
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the writing thread ended without a word")))
    }
}

/// Why nothing more can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScribeGone {
    /// Too much waits to be written.
    Behind,
    /// Writing failed; [`Scribe::finish`] tells how.
    Failed,
}

fn write_all(
    mut outputs: Outputs,
    base_time: SystemTime,
    headline: Measure,
    inbox: Receiver<Page>,
) -> io::Result<Vec<Event>> {
    let mut kept = Vec::new();
    let comment = format!(
        "[Nanoseconds, by planned start; untagged lines: {} time of all good answers together]",
        headline.as_str()
    );
    let begin = |out| LogWriter::begin(out, base_time, &[comment]);
    let mut log = outputs.latency_log.take().map(begin).transpose()?;
    for page in inbox {
        match page {
            Page::Events(events) => match &mut outputs.history {
                HistoryTarget::Discard => {}
                HistoryTarget::Memory => kept.extend(events),
                HistoryTarget::Stream(sink) => events.iter().try_for_each(sink)?,
            },
            Page::Interval(interval) => {
                if let Some(log) = &mut log {
                    write_interval(log, &interval)?;
                }
                if let Some(sink) = &mut outputs.intervals {
                    sink(&interval);
                }
            }
        }
    }
    if let Some(log) = log {
        log.finish()?;
    }
    Ok(kept)
}

fn write_interval<W: Write>(log: &mut LogWriter<W>, interval: &IntervalHistograms) -> io::Result<()> {
    let whole = |nanos: Nanos| i64::try_from(nanos).unwrap_or(i64::MAX);
    let (start, length) = (whole(interval.start), whole(interval.length));
    log.interval(None, start, length, &interval.all)?;
    for (tag, histogram) in &interval.tagged {
        log.interval(Some(&tag.to_string()), start, length, histogram)?;
    }
    Ok(())
}
