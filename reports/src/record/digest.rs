//! Load numbers from a bare history, for a run that left no `load.json`.
//!
//! Promises: every operation is counted once, under how it ended; percentiles are exact and left out where the sample
//! cannot support them. What a history cannot know is never invented: there is no planned start in it, so there is
//! no response time here and no count of operations that were never sent.

use std::collections::{BTreeMap, HashMap};

use super::{
    Counts, Event, EventKind, Function, Interval, Nanos, Operation, OperationLoad, Percentiles, RecordError,
};
use super::{HistoryReader, TornLine};

/// A percentile needs this many values beyond it.
const VALUES_BEYOND_MIN: f64 = 10.0;

/// Width of an interval, unless that makes more than [`INTERVALS_MAX`].
const INTERVAL: Nanos = 1_000_000_000;

const INTERVALS_MAX: u64 = 600;

/// What a history says of the load.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HistoryDigest {
    /// Lines read.
    pub events: u64,
    /// When the last event happened.
    pub end: Nanos,
    /// How the operations ended; one still open at the end of the history is unknown.
    pub counts: Counts,
    /// By operation; with service times only.
    pub operations: BTreeMap<Operation, OperationLoad>,
    /// Counted by completion time; latencies are service times, by start.
    pub intervals: Vec<Interval>,
    /// Longest time without any acknowledged write, and when it began; absent where nothing was ever written.
    pub longest_write_gap: Option<(Nanos, Nanos)>,
    /// The history ended inside a line.
    pub torn: Option<TornLine>,
    /// The line at which reading had to stop, and why.
    pub damaged: Option<String>,
}

struct Ended {
    function: Function,
    kind: EventKind,
    start: Nanos,
    end: Nanos,
}

impl HistoryDigest {
    /// Reads a history to its end, or to the first line that is no event.
    pub fn of(mut reader: HistoryReader) -> Result<HistoryDigest, RecordError> {
        let mut collector = Collector::default();
        let mut damaged = None;
        for event in reader.by_ref() {
            match event {
                Ok(event) => collector.event(event),
                Err(RecordError::HistoryLine { line, source, .. }) => {
                    damaged = Some(format!("line {line} is not an event: {source}"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(HistoryDigest {
            torn: reader.torn(),
            damaged,
            ..collector.finish()
        })
    }
}

impl FromIterator<Event> for HistoryDigest {
    fn from_iter<T: IntoIterator<Item = Event>>(events: T) -> Self {
        let mut collector = Collector::default();
        events.into_iter().for_each(|event| collector.event(event));
        collector.finish()
    }
}

#[derive(Default)]
struct Collector {
    events: u64,
    end: Nanos,
    open: HashMap<u64, (Function, Nanos)>,
    ended: Vec<Ended>,
    errors: BTreeMap<Function, BTreeMap<String, u64>>,
}

impl Collector {
    fn event(&mut self, event: Event) {
        self.events += 1;
        self.end = self.end.max(event.time);
        if event.kind == EventKind::Invoke {
            // A process that begins again without having ended left its operation unknown.
            if let Some((function, start)) = self.open.insert(event.process, (event.f, event.time)) {
                self.ended.push(Ended {
                    function,
                    kind: EventKind::Info,
                    start,
                    end: event.time,
                });
            }
            return;
        }
        // An end without a beginning (the history was cut at the front) has no duration to tell, but it happened.
        let (function, start) = self.open.remove(&event.process).unwrap_or((event.f, event.time));
        if event.kind != EventKind::Ok {
            let error = event.error.unwrap_or_else(|| "no error text recorded".into());
            *self.errors.entry(function).or_default().entry(error).or_default() += 1;
        }
        self.ended.push(Ended {
            function,
            kind: event.kind,
            start,
            end: event.time,
        });
    }

    fn finish(mut self) -> HistoryDigest {
        let end = self.end;
        let open = std::mem::take(&mut self.open);
        self.ended
            .extend(open.into_values().map(|(function, start)| Ended {
                function,
                kind: EventKind::Info,
                start,
                end,
            }));
        let mut operations = BTreeMap::new();
        for function in [Function::Read, Function::Write, Function::Cas, Function::Delete] {
            let of_it = || self.ended.iter().filter(move |e| e.function == function);
            if of_it().next().is_some() {
                let latencies = of_it()
                    .filter(|e| e.kind == EventKind::Ok)
                    .map(|e| e.end.saturating_sub(e.start));
                operations.insert(
                    Operation::from(function),
                    OperationLoad {
                        counts: of_it().fold(Counts::default(), |counts, e| add(counts, e.kind)),
                        service: Some(percentiles(latencies.collect())),
                        errors: self.errors.remove(&function).unwrap_or_default(),
                        ..OperationLoad::default()
                    },
                );
            }
        }
        HistoryDigest {
            events: self.events,
            end,
            counts: self
                .ended
                .iter()
                .fold(Counts::default(), |counts, e| add(counts, e.kind)),
            operations,
            intervals: intervals(&self.ended, end),
            longest_write_gap: longest_write_gap(&self.ended, end),
            torn: None,
            damaged: None,
        }
    }
}

fn add(mut counts: Counts, kind: EventKind) -> Counts {
    match kind {
        EventKind::Ok => counts.ok += 1,
        EventKind::Fail => counts.failed += 1,
        EventKind::Info => counts.unknown += 1,
        EventKind::Invoke => {}
    }
    counts
}

fn intervals(ended: &[Ended], end: Nanos) -> Vec<Interval> {
    if ended.is_empty() {
        return Vec::new();
    }
    let width = INTERVAL.saturating_mul((end / INTERVAL / INTERVALS_MAX).saturating_add(1));
    // An end that falls on a boundary belongs to the interval before it; one of no width has no rate.
    let last = end.saturating_sub(1) / width;
    let place = |time: Nanos| (time / width).min(last) as usize;
    let mut latencies = vec![Vec::new(); place(end) + 1];
    let mut all: Vec<Interval> = (0..=last)
        .map(|n| Interval {
            start: n * width,
            end: (n * width).saturating_add(width).min(end),
            planned: 0,
            counts: Counts::default(),
            latency: Percentiles::default(),
        })
        .collect();
    for e in ended {
        all[place(e.start)].planned += 1;
        let counts = &mut all[place(e.end)].counts;
        *counts = add(*counts, e.kind);
        if e.kind == EventKind::Ok {
            latencies[place(e.start)].push(e.end.saturating_sub(e.start));
        }
    }
    for (interval, latencies) in all.iter_mut().zip(latencies) {
        interval.latency = percentiles(latencies);
    }
    all
}

fn percentiles(mut values: Vec<Nanos>) -> Percentiles {
    values.sort_unstable();
    let n = values.len() as f64;
    let at = |q: f64| {
        let rank = (q * n).ceil().max(1.0);
        (n - rank >= VALUES_BEYOND_MIN).then(|| values[rank as usize - 1])
    };
    Percentiles {
        count: values.len() as u64,
        min: values.first().copied(),
        mean: (!values.is_empty()).then(|| values.iter().map(|v| *v as f64).sum::<f64>() / n),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        p9999: at(0.9999),
        max: values.last().copied(),
        never: Vec::new(),
        confidence: None,
    }
}

fn longest_write_gap(ended: &[Ended], end: Nanos) -> Option<(Nanos, Nanos)> {
    let mut acknowledged: Vec<Nanos> = ended
        .iter()
        .filter(|e| e.kind == EventKind::Ok && e.function != Function::Read)
        .map(|e| e.end)
        .collect();
    if acknowledged.is_empty() {
        return None;
    }
    acknowledged.push(end);
    acknowledged.sort_unstable();
    let mut longest = (0, 0);
    let mut last = 0;
    for time in acknowledged {
        if time - last > longest.0 {
            longest = (time - last, last);
        }
        last = time;
    }
    Some(longest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::record::Value;

    fn event(process: u64, kind: EventKind, f: Function, time: Nanos) -> Event {
        let value = Value::Absent;
        Event {
            process,
            kind,
            f,
            key: "k".into(),
            value,
            time,
            index: None,
            node: None,
            term: None,
            error: None,
        }
    }

    #[test]
    fn every_operation_is_counted_once() {
        use EventKind::{Fail, Info, Invoke, Ok};
        let write = |p, kind, t| event(p, kind, Function::Write, t);
        let digest: HistoryDigest = [
            write(1, Invoke, 0),
            write(2, Invoke, 10),
            write(1, Ok, 100),
            write(3, Invoke, 110),
            write(2, Fail, 120),
            write(4, Invoke, 130),
            write(4, Info, 3_000_000_000),
        ]
        .into_iter()
        .collect();
        // Process 3 is still open: it may have happened.
        assert_eq!(
            digest.counts,
            Counts {
                ok: 1,
                failed: 1,
                unknown: 2,
                unsent: 0
            }
        );
        assert_eq!(
            digest.counts.total(),
            digest.intervals.iter().map(|i| i.counts.total()).sum::<u64>()
        );
        // The last event falls on a boundary and belongs to the interval before it.
        assert_eq!(digest.intervals.len(), 3);
        assert_eq!(digest.longest_write_gap, Some((2_999_999_900, 100)));
        let service = digest.operations[&Operation::Put].service.clone().unwrap();
        assert_eq!((service.count, service.max, service.p50), (1, Some(100), None));
    }

    #[test]
    fn a_percentile_needs_ten_values_beyond_it() {
        assert_eq!(percentiles((1..=19).collect()).p50, None);
        assert_eq!(percentiles((1..=20).collect()).p50, Some(10));
        assert_eq!(percentiles((1..=999).collect()).p99, None);
        assert_eq!(percentiles((1..=1000).collect()).p99, Some(990));
        assert_eq!(percentiles(Vec::new()), Percentiles::default());
    }

    #[test]
    fn odd_histories_do_not_break_it() {
        let none: HistoryDigest = [].into_iter().collect();
        assert_eq!(none, HistoryDigest::default());
        let far: HistoryDigest = [event(1, EventKind::Ok, Function::Read, u64::MAX)]
            .into_iter()
            .collect();
        assert!(far.intervals.len() as u64 <= INTERVALS_MAX + 1);
        assert_eq!(far.counts.ok, 1);
    }
}
