//! Accounts for every operation of the plan.
//!
//! Promises: each planned operation ends in exactly one of ok, failed, unknown and unsent, and the sum of these is the
//! plan; latencies are measured from the planned start and from the first attempt, side by side; whatever did not end
//! well stays in the sample as infinitely slow. Owned by one task: no locks, no atomics. Keeps histograms of an interval
//! only until its last operation has ended.

use std::collections::{BTreeMap, VecDeque};

use hdrhistogram::Histogram;
use reports::record::{Counts, Function, Interval, Measure, Nanos, Operation, OperationLoad, Percentiles};

use crate::percentiles::{Latencies, growing, record};
use crate::scribe::IntervalHistograms;

/// Different error texts counted apart for one operation; further ones are counted together.
const ERROR_TEXTS_MAX: usize = 50;
/// What errors beyond that are counted under.
const OTHER_ERRORS: &str = "other errors";

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
    fn add_to(self, counts: &mut Counts) {
        match self {
            Class::Ok => counts.ok += 1,
            Class::Failed => counts.failed += 1,
            Class::Unknown => counts.unknown += 1,
            Class::Unsent => counts.unsent += 1,
        }
    }
}

/// An operation that ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What it was.
    pub function: Function,
    /// When it should have started; in a closed loop, when it did.
    pub planned: Nanos,
    /// When its first attempt began.
    pub first: Nanos,
    /// When its outcome was known.
    pub done: Nanos,
    /// How it ended.
    pub class: Class,
    /// What to count it under if it did not end well.
    pub error: Option<String>,
    /// Whether it acknowledged a change of the store.
    pub acknowledged_write: bool,
    /// Attempts after a redirect.
    pub redirects: u32,
    /// Further attempts after the first.
    pub retries: u32,
    /// Whether the value that came back, if any, was intact.
    pub intact: bool,
}

/// The books of a run.
#[derive(Debug)]
pub struct Recorder {
    open_loop: bool,
    begins: Nanos,
    interval_ns: Nanos,
    planned: u64,
    counts: Counts,
    functions: BTreeMap<Function, FunctionBooks>,
    all: Latencies,
    lateness: Latencies,
    finished: Vec<Interval>,
    open: VecDeque<OpenInterval>,
    redirects: u64,
    retries: u64,
    integrity_errors: u64,
    gap: WriteGap,
}

#[derive(Debug, Default)]
struct FunctionBooks {
    counts: Counts,
    response: Latencies,
    service: Latencies,
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct OpenInterval {
    planned: u64,
    /// Of those planned in it, how many have ended.
    ended: u64,
    counts: Counts,
    latency: Latencies,
    histograms: BTreeMap<(Measure, Function), Histogram<u32>>,
}

#[derive(Debug)]
struct WriteGap {
    last: Nanos,
    longest: Option<(Nanos, Nanos)>,
}

impl WriteGap {
    fn until(&mut self, time: Nanos) {
        let length = time.saturating_sub(self.last);
        if self.longest.is_none_or(|(longest, _)| length > longest) {
            self.longest = Some((length, self.last));
        }
        self.last = self.last.max(time);
    }
}

/// Everything the books add up to.
#[derive(Debug)]
pub struct Totals {
    /// Operations planned.
    pub planned: u64,
    /// How they ended.
    pub counts: Counts,
    /// By operation.
    pub operations: BTreeMap<Operation, OperationLoad>,
    /// Slices of the run.
    pub intervals: Vec<Interval>,
    /// Histograms of intervals not handed out before.
    pub histograms: Vec<IntervalHistograms>,
    /// Response time in an open loop, service time in a closed one, of all ok operations together.
    pub all: Percentiles,
    /// How late arrivals were noticed.
    pub lateness: Percentiles,
    /// Attempts after a redirect.
    pub redirects: u64,
    /// Further attempts after the first.
    pub retries: u64,
    /// Values that were not intact.
    pub integrity_errors: u64,
    /// Longest time without an acknowledged write, and when it began.
    pub longest_write_gap: (Nanos, Nanos),
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
            functions: BTreeMap::new(),
            all: Latencies::default(),
            lateness: Latencies::default(),
            finished: Vec::new(),
            open: VecDeque::new(),
            redirects: 0,
            retries: 0,
            integrity_errors: 0,
            gap: WriteGap {
                last: begins,
                longest: None,
            },
        }
    }

    /// An operation was planned to start at `at` (in a closed loop: starts at it), and that was noticed `late`.
    pub fn planned(&mut self, at: Nanos, late: Nanos) {
        self.planned += 1;
        self.lateness.record(late);
        if let Some(open) = self.open_at(at) {
            open.planned += 1;
        }
    }

    /// An operation ended.
    pub fn ended(&mut self, ended: &Ended) {
        self.counts_at(ended.done, ended.class);
        self.redirects += u64::from(ended.redirects);
        self.retries += u64::from(ended.retries);
        self.integrity_errors += u64::from(!ended.intact);
        if ended.acknowledged_write {
            self.gap.until(ended.done);
        }
        let books = self.functions.entry(ended.function).or_default();
        ended.class.add_to(&mut books.counts);
        if let Some(error) = &ended.error {
            count_error(&mut books.errors, error);
        }
        let response = ended.done.saturating_sub(ended.planned);
        let service = ended.done.saturating_sub(ended.first);
        let headline = if self.open_loop { response } else { service };
        let ok = ended.class == Class::Ok;
        if ok {
            books.service.record(service);
            if self.open_loop {
                books.response.record(response);
            }
            self.all.record(headline);
        }
        let open_loop = self.open_loop;
        if let Some(open) = self.open_at(ended.planned) {
            open.ended += 1;
            if ok {
                open.latency.record(headline);
                let lag = ended.first.saturating_sub(ended.planned);
                open.record(Measure::Service, ended.function, service);
                if open_loop {
                    open.record(Measure::Response, ended.function, response);
                    open.record(Measure::Lag, ended.function, lag);
                }
            }
        }
    }

    /// An operation planned for `planned` was given up at `now`, before it was sent.
    pub fn unsent(&mut self, function: Function, planned: Nanos, now: Nanos) {
        self.counts_at(now, Class::Unsent);
        let books = self.functions.entry(function).or_default();
        Class::Unsent.add_to(&mut books.counts);
        if let Some(open) = self.open_at(planned) {
            open.ended += 1;
        }
    }

    /// How all operations ended so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Operations planned so far.
    pub fn planned_so_far(&self) -> u64 {
        self.planned
    }

    /// Closes intervals that are over by `now` and whose operations have all ended.
    pub fn close_intervals(&mut self, now: Nanos) -> Vec<IntervalHistograms> {
        let mut closed = Vec::new();
        while let Some(open) = self.open.front() {
            let end = self.end_of(self.finished.len());
            if end > now || open.ended < open.planned {
                break;
            }
            closed.extend(self.close_front(end));
        }
        closed
    }

    /// Adds everything up. The load lasted until `load_end`, the last operation until `now`.
    pub fn finish(mut self, load_end: Nanos, now: Nanos) -> Totals {
        self.gap.until(load_end.max(self.gap.last));
        // Also intervals in which nothing was planned and nothing ended belong to the run.
        let _ = self.open_at(now.saturating_sub(1).max(self.begins));
        let mut histograms = Vec::new();
        while !self.open.is_empty() {
            let end = self.end_of(self.finished.len()).min(now);
            histograms.extend(self.close_front(end));
        }
        merge_short_tail(&mut self.finished, self.interval_ns);
        let open_loop = self.open_loop;
        let operations = self
            .functions
            .into_iter()
            .map(|(function, books)| (Operation::from(function), books.add_up(open_loop)));
        Totals {
            planned: self.planned,
            counts: self.counts,
            operations: operations.collect(),
            intervals: self.finished,
            histograms,
            all: self.all.percentiles(),
            lateness: self.lateness.percentiles(),
            redirects: self.redirects,
            retries: self.retries,
            integrity_errors: self.integrity_errors,
            longest_write_gap: self.gap.longest.unwrap_or((0, self.begins)),
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
        self.finished.push(Interval {
            start,
            end,
            planned: open.planned,
            counts: open.counts,
            latency: open.latency.percentiles(),
        });
        (open.latency.count() > 0).then(|| IntervalHistograms {
            start,
            length: end.saturating_sub(start),
            all: open.latency.into_histogram(),
            tagged: open.histograms,
        })
    }
}

impl OpenInterval {
    fn record(&mut self, measure: Measure, function: Function, value: Nanos) {
        let histogram = self.histograms.entry((measure, function)).or_insert_with(growing);
        record(histogram, value);
    }
}

impl FunctionBooks {
    fn add_up(self, open_loop: bool) -> OperationLoad {
        let scheduled = self.response.percentiles_among(self.counts.total());
        OperationLoad {
            counts: self.counts,
            response: open_loop.then(|| self.response.percentiles()),
            service: (self.counts.ok > 0).then(|| self.service.percentiles()),
            scheduled: open_loop.then_some(scheduled),
            errors: self.errors,
            ..OperationLoad::default()
        }
    }
}

fn count_error(errors: &mut BTreeMap<String, u64>, error: &str) {
    let known = errors.contains_key(error) || errors.len() < ERROR_TEXTS_MAX;
    let text = if known { error } else { OTHER_ERRORS };
    *errors.entry(text.to_owned()).or_default() += 1;
}

/// A last interval shorter than half of the others, in which nothing was planned, would show as a spike: its few late
/// answers belong to the one before.
fn merge_short_tail(intervals: &mut Vec<Interval>, interval_ns: Nanos) {
    let short = |last: &Interval| last.planned == 0 && last.end.saturating_sub(last.start) < interval_ns / 2;
    if intervals.len() < 2 || !intervals.last().is_some_and(short) {
        return;
    }
    if let (Some(tail), Some(last)) = (intervals.pop(), intervals.last_mut()) {
        last.end = tail.end;
        last.counts.ok += tail.counts.ok;
        last.counts.failed += tail.counts.failed;
        last.counts.unknown += tail.counts.unknown;
        last.counts.unsent += tail.counts.unsent;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MS: Nanos = 1_000_000;
    const S: Nanos = 1_000 * MS;

    fn ended(planned: Nanos, first: Nanos, done: Nanos, class: Class) -> Ended {
        Ended {
            function: Function::Write,
            planned,
            first,
            done,
            class,
            error: (class != Class::Ok).then(|| "no answer".into()),
            acknowledged_write: class == Class::Ok,
            redirects: 0,
            retries: 0,
            intact: true,
        }
    }

    #[test]
    fn every_planned_operation_is_in_exactly_one_count_and_one_interval() {
        let mut books = Recorder::new(true, S, S);
        let classes = [Class::Ok, Class::Ok, Class::Failed, Class::Unknown];
        for n in 0..4000_u64 {
            let at = S + n * MS;
            books.planned(at, 0);
            if n % 100 == 99 {
                books.unsent(Function::Write, at, 5 * S);
            } else {
                books.ended(&ended(at, at, at + 30 * MS, classes[n as usize % 4]));
            }
        }
        let totals = books.finish(5 * S, 5 * S + 20 * MS);
        assert_eq!(totals.planned, 4000);
        assert_eq!(totals.counts.total(), 4000);
        assert_eq!(totals.counts.unsent, 40);
        assert_eq!(totals.operations[&Operation::Put].counts, totals.counts);
        assert_eq!(totals.operations[&Operation::Put].errors["no answer"], 1960);
        let sum = totals
            .intervals
            .iter()
            .fold((0, 0), |(planned, ended), interval| {
                (planned + interval.planned, ended + interval.counts.total())
            });
        assert_eq!(sum, (4000, 4000));
        assert_eq!(totals.intervals.len(), 4, "the 20 ms tail joins the last second");
        assert_eq!(totals.intervals[0].start, S);
        assert_eq!(totals.intervals[3].end, 5 * S + 20 * MS);
        assert!(
            totals
                .intervals
                .windows(2)
                .all(|pair| pair[0].end == pair[1].start)
        );
    }

    #[test]
    fn a_stall_shows_in_the_response_time_and_not_in_the_service_time() {
        let mut books = Recorder::new(true, 0, S);
        // 1,000 a second for 10 s, a client that sends one at a time, and a store that stands still from 5.0 to 6.5 s.
        let mut free = 0;
        for n in 0..10_000_u64 {
            let at = n * MS;
            books.planned(at, 0);
            let first = free.max(at);
            let stalled = (5 * S..6 * S + 500 * MS).contains(&first);
            free = if stalled { 6 * S + 500 * MS } else { first + MS / 5 };
            books.ended(&ended(at, first, free, Class::Ok));
        }
        let totals = books.finish(10 * S, 10 * S);
        let write = &totals.operations[&Operation::Put];
        let (response, service) = (write.response.clone().unwrap(), write.service.clone().unwrap());
        assert!(service.p99.unwrap() <= MS, "{service:?}");
        assert!(response.p99.unwrap() >= 1_300 * MS, "{response:?}");
        assert_eq!(write.scheduled.as_ref().unwrap().p99, response.p99);
        assert_eq!(
            totals.longest_write_gap,
            (1_500 * MS + MS - MS / 5, 5 * S - MS + MS / 5)
        );
    }

    #[test]
    fn an_interval_is_kept_open_until_its_last_operation_ended() {
        let mut books = Recorder::new(true, 0, S);
        books.planned(0, 0);
        books.planned(S / 2, 0);
        books.ended(&ended(0, 0, MS, Class::Ok));
        assert!(books.close_intervals(3 * S).is_empty());
        books.ended(&ended(S / 2, S / 2, 2 * S, Class::Ok));
        let closed = books.close_intervals(3 * S);
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].all.len(), 2);
        assert_eq!(closed[0].tagged.len(), 3);
        let totals = books.finish(3 * S, 3 * S);
        assert_eq!(totals.intervals[0].counts.ok, 1);
        assert_eq!(totals.intervals[2].counts.ok, 1, "counted where it ended");
        assert_eq!(
            totals.intervals[0].latency.count, 2,
            "measured where it was planned"
        );
        assert!(totals.histograms.is_empty());
    }

    #[test]
    fn a_closed_loop_has_no_response_time() {
        let mut books = Recorder::new(false, 0, S);
        books.planned(5, 0);
        books.ended(&ended(5, 5, 10, Class::Ok));
        let totals = books.finish(S, S);
        let write = &totals.operations[&Operation::Put];
        assert!(write.response.is_none() && write.scheduled.is_none() && write.service.is_some());
    }

    #[test]
    fn without_any_acknowledged_write_the_gap_is_the_whole_load() {
        let mut books = Recorder::new(true, S, S);
        books.planned(S, 0);
        books.ended(&ended(S, S, 2 * S, Class::Unknown));
        let totals = books.finish(4 * S, 5 * S);
        assert_eq!(totals.longest_write_gap, (3 * S, S));
    }

    #[test]
    fn error_texts_are_limited() {
        let mut errors = BTreeMap::new();
        for n in 0..1000 {
            count_error(&mut errors, &format!("error {n}"));
            count_error(&mut errors, "error 1");
        }
        assert_eq!(errors.len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(errors.values().sum::<u64>(), 2000);
        assert_eq!(errors["error 1"], 1001);
    }
}
