//! Accounts for every operation of the plan.
//!
//! Promises: each planned operation ends in exactly one of ok, failed, unknown and unsent, and in exactly one
//! [`OutcomeKind`]; the sums of both are the plan. Latencies are measured from the planned start, from the first attempt
//! and of single attempts, side by side; whatever did not end well stays in the sample as infinitely slow, and what it
//! took to end badly is kept beside it. Owned by one task: no locks, no atomics. Keeps histograms of an interval only
//! until its last operation has ended.

mod books;
mod gap;
mod interval;
mod ledger;
mod silence;
mod terms;

use std::collections::VecDeque;

use reports::record::{Counts, Interval, Lag, Measure, Nanos, Operation, OutcomeKind, Percentiles};

use crate::percentiles::Latencies;
use crate::scribe::IntervalHistograms;
use crate::statistics::EffectiveSize;
use books::Books;
use gap::WriteGap;
use interval::{OpenInterval, merge_short_tail};
use silence::Silence;
use terms::Terms;

pub use books::Summary;
pub(crate) use gap::{GAP_MIN, GAPS_MAX};
pub(crate) use interval::MEASURES;
pub(crate) use ledger::Ledger;

/// How an operation ended, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The store answered.
    Ok,
    /// It did not happen.
    Failed,
    /// It may have happened.
    Unknown,
    /// It never left.
    Unsent,
}

impl Class {
    /// One more of this class.
    pub fn add_to(self, counts: &mut Counts) {
        match self {
            Class::Ok => counts.ok += 1,
            Class::Failed => counts.failed += 1,
            Class::Unknown => counts.unknown += 1,
            Class::Unsent => counts.unsent += 1,
        }
    }
}

/// An operation that ended. All times are those of the run's clock.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What it was.
    pub operation: Operation,
    /// When it should have started; in a closed loop, when it did.
    pub planned: Nanos,
    /// When its first attempt began.
    pub first: Nanos,
    /// When its outcome was known.
    pub done: Nanos,
    /// How it ended.
    pub class: Class,
    /// How it ended, in detail.
    pub outcome: OutcomeKind,
    /// What to count it under if it did not end well.
    pub error: Option<String>,
    /// Whether it acknowledged a change of the store.
    pub acknowledged_write: bool,
    /// Term in which it was answered, if the answer named it.
    pub term: Option<u64>,
    /// Attempts after a redirect.
    pub redirects: u32,
    /// Further attempts after the first.
    pub retries: u32,
    /// How long the attempt took that was answered.
    pub answered_after: Option<Nanos>,
    /// How every attempt before that one ended, and how long it took.
    pub refused: Vec<(OutcomeKind, Nanos)>,
    /// Where it has two parts, how long each took.
    pub parts: Option<[Nanos; 2]>,
}

/// The books of a run.
#[derive(Debug)]
pub struct Recorder {
    open_loop: bool,
    begins: Nanos,
    interval_ns: Nanos,
    planned: u64,
    counts: Counts,
    books: Books,
    pacer: Latencies,
    queue: Latencies,
    finished: Vec<Interval>,
    open: VecDeque<OpenInterval>,
    redirects: u64,
    retries: u64,
    integrity_errors: u64,
    gap: WriteGap,
    /// When the load is over.
    load_ends: Nanos,
    ok_in_time: u64,
    silence: Silence,
    terms: Terms,
    /// Of the headline, in the order in which operations ended.
    effective: EffectiveSize,
}

/// Everything the books add up to.
#[derive(Debug)]
pub struct Totals {
    /// Operations planned.
    pub planned: u64,
    /// How they ended.
    pub counts: Counts,
    /// By operation, and all together.
    pub summary: Summary,
    /// Operations answered before the load was over.
    pub ok_in_time: u64,
    /// Longest time of the load in which somebody waited and no operation was answered, and when it began.
    pub longest_silence: (Nanos, Nanos),
    /// Slices of the run.
    pub intervals: Vec<Interval>,
    /// Histograms of intervals not handed out before.
    pub histograms: Vec<IntervalHistograms>,
    /// Response time in an open loop, service time in a closed one, of all ok operations together.
    pub all: Percentiles,
    /// How late operations were noticed and started; in a closed loop nothing is ever late.
    pub lag: Lag,
    /// By term.
    pub terms: Vec<reports::record::TermLoad>,
    /// Attempts after a redirect.
    pub redirects: u64,
    /// Further attempts after the first.
    pub retries: u64,
    /// Values that were not intact.
    pub integrity_errors: u64,
    /// Longest time without an acknowledged write, and when it began.
    pub longest_write_gap: (Nanos, Nanos),
    /// What the latencies were computed from.
    pub(crate) ledger: Ledger,
    /// Beginning and length of every time without one that is worth telling.
    pub write_gaps: Vec<(Nanos, Nanos)>,
}

impl Recorder {
    /// Empty books, from `begins` on.
    pub fn new(open_loop: bool, begins: Nanos, interval_ns: Nanos) -> Recorder {
        Recorder {
            open_loop,
            begins,
            interval_ns: interval_ns.max(1),
            planned: 0,
            counts: Counts::default(),
            books: Books::new(open_loop),
            pacer: Latencies::default(),
            queue: Latencies::default(),
            finished: Vec::new(),
            open: VecDeque::new(),
            redirects: 0,
            retries: 0,
            integrity_errors: 0,
            gap: WriteGap::since(begins),
            load_ends: Nanos::MAX,
            ok_in_time: 0,
            silence: Silence::since(open_loop, begins),
            terms: Terms::default(),
            effective: EffectiveSize::default(),
        }
    }

    /// The load is over at this time: what ends later was only waited for.
    pub fn load_ends_at(&mut self, time: Nanos) {
        self.load_ends = time;
    }

    /// Takes the books away and leaves empty ones.
    pub(crate) fn take(&mut self) -> Recorder {
        let empty = Recorder::new(self.open_loop, self.begins, self.interval_ns);
        std::mem::replace(self, empty)
    }

    /// An operation was planned to start at `at` (in a closed loop: starts at it), and that was noticed `late`.
    pub fn planned(&mut self, at: Nanos, late: Nanos) {
        self.planned += 1;
        self.pacer.record(late);
        self.silence.planned(at);
        if let Some(open) = self.open_at(at) {
            open.planned += 1;
        }
    }

    /// An operation waited this long for room to be sent, after it had been noticed.
    pub fn queued(&mut self, wait: Nanos) {
        self.queue.record(wait);
    }

    /// An operation ended.
    pub fn ended(&mut self, ended: &Ended) {
        self.counts_at(ended.done, ended.class);
        if ended.done <= self.load_ends {
            let answered = ended.class == Class::Ok;
            self.ok_in_time += u64::from(answered);
            self.silence.ended(ended.done, answered);
        }
        self.redirects += u64::from(ended.redirects);
        self.retries += u64::from(ended.retries);
        self.integrity_errors += u64::from(ended.outcome == OutcomeKind::Integrity);
        if ended.acknowledged_write {
            self.gap.until(ended.done);
        }
        if ended.class == Class::Ok
            && let Some(term) = ended.term
        {
            self.terms.answered(term, ended);
        }
        self.books.ended(ended);
        let headline = if self.open_loop {
            ended.planned
        } else {
            ended.first
        };
        let latency = ended.done.saturating_sub(headline);
        if ended.outcome.is_good() {
            self.effective.record(latency as f64);
        }
        let open_loop = self.open_loop;
        match self.open_at(ended.planned) {
            Some(open) => open.ended(ended, open_loop, latency),
            // Only what ends before it was planned could come here; the totals must have it all the same.
            None => self.books.late(ended, latency),
        }
    }

    /// An operation planned for `planned` was given up at `now`, before it was sent.
    pub fn unsent(&mut self, operation: Operation, planned: Nanos, now: Nanos) {
        self.ended(&Ended {
            operation,
            planned,
            first: now,
            done: now,
            class: Class::Unsent,
            outcome: OutcomeKind::Shed,
            error: None,
            acknowledged_write: false,
            term: None,
            redirects: 0,
            retries: 0,
            answered_after: None,
            refused: Vec::new(),
            parts: None,
        });
    }

    /// How all operations ended so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Operations planned so far.
    pub fn planned_so_far(&self) -> u64 {
        self.planned
    }

    /// The slices that are over, in order.
    pub fn closed_so_far(&self) -> &[Interval] {
        &self.finished
    }

    /// Closes intervals that are over by `now` and whose operations have all ended.
    pub fn close_intervals(&mut self, now: Nanos) -> Vec<IntervalHistograms> {
        let mut closed = Vec::new();
        while let Some(open) = self.open.front() {
            let end = self.end_of(self.finished.len());
            if end > now || !open.is_complete() {
                break;
            }
            closed.extend(self.close_front(end));
        }
        closed
    }

    /// Adds everything up. The load lasted until `load_end`, the last operation until `now`.
    pub fn finish(mut self, load_end: Nanos, now: Nanos) -> Totals {
        self.gap.until(load_end.max(self.gap.last()));
        // Also intervals in which nothing was planned and nothing ended belong to the run.
        let _ = self.open_at(now.saturating_sub(1).max(self.begins));
        let mut histograms = Vec::new();
        while !self.open.is_empty() {
            let end = self.end_of(self.finished.len()).min(now);
            histograms.extend(self.close_front(end));
        }
        merge_short_tail(&mut self.finished, self.interval_ns);
        let worth = 1.0 / self.effective.autocorrelation_time();
        let ledger = Ledger::new(self.books, self.pacer, self.queue, worth);
        Totals {
            planned: self.planned,
            counts: self.counts,
            ok_in_time: self.ok_in_time,
            longest_silence: self.silence.finish(load_end),
            all: ledger.headline(),
            lag: ledger.lag(),
            summary: ledger.summary(),
            ledger,
            intervals: self.finished,
            histograms,
            terms: self.terms.into_sorted(),
            redirects: self.redirects,
            retries: self.retries,
            integrity_errors: self.integrity_errors,
            longest_write_gap: self.gap.longest(),
            write_gaps: self.gap.all().to_vec(),
        }
    }

    fn index_of(&self, time: Nanos) -> usize {
        (time.saturating_sub(self.begins) / self.interval_ns) as usize
    }

    fn start_of(&self, index: usize) -> Nanos {
        self.begins + index as u64 * self.interval_ns
    }

    fn end_of(&self, index: usize) -> Nanos {
        self.start_of(index + 1)
    }

    /// The interval that `time` lies in, unless it has been closed.
    fn open_at(&mut self, time: Nanos) -> Option<&mut OpenInterval> {
        let at = self.index_of(time).checked_sub(self.finished.len())?;
        while self.open.len() <= at {
            self.open.push_back(OpenInterval::default());
        }
        self.open.get_mut(at)
    }

    fn counts_at(&mut self, time: Nanos, class: Class) {
        class.add_to(&mut self.counts);
        let index = self.index_of(time);
        match self.finished.get_mut(index) {
            // Stamped just before the interval was closed, and handed over just after.
            Some(finished) => class.add_to(&mut finished.counts),
            None => {
                if let Some(open) = self.open_at(time) {
                    class.add_to(&mut open.counts);
                }
            }
        }
    }

    fn close_front(&mut self, end: Nanos) -> Option<IntervalHistograms> {
        let open = self.open.pop_front()?;
        let start = self.start_of(self.finished.len());
        self.books.absorb(&open);
        self.finished.push(Interval {
            start,
            end,
            planned: open.planned,
            counts: open.counts,
            latency: open.headline.percentiles(),
        });
        open.into_histograms(start, end.saturating_sub(start))
    }
}

/// What the untagged series and the slices show.
pub(crate) fn headline(open_loop: bool) -> Measure {
    if open_loop {
        Measure::Response
    } else {
        Measure::Service
    }
}

#[cfg(test)]
mod tests;
