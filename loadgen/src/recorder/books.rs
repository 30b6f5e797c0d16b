//! The whole run by operation, and all operations together.

use std::collections::BTreeMap;

use reports::record::{Counts, Measure, Nanos, Operation, OperationLoad, OutcomeKind, OutcomeLoad};

use super::Ended;
use super::interval::{OpenInterval, SeriesTable, record_all};
use crate::percentiles::Latencies;
use crate::scribe::Tag;

/// Different error texts counted apart for one operation; further ones are counted together.
const ERROR_TEXTS_MAX: usize = 50;
/// What errors beyond that are counted under.
const OTHER_ERRORS: &str = "other errors";

/// Names of what has no tag.
const HEADLINE: &str = "headline";
const RMW_READ: &str = "rmw.read";
const RMW_WRITE: &str = "rmw.write";

/// By operation, and all together.
#[derive(Debug)]
pub struct Summary {
    /// By operation.
    pub operations: BTreeMap<Operation, OperationLoad>,
    /// All operations together.
    pub total: OperationLoad,
}

/// The books of the whole run. Latencies arrive slice by slice, so that an operation is entered once only.
#[derive(Debug)]
pub(crate) struct Books {
    open_loop: bool,
    counts: [Counts; Operation::ALL.len()],
    errors: BTreeMap<Operation, BTreeMap<String, u64>>,
    parts: [Latencies; 2],
    headline: Latencies,
    series: SeriesTable,
}

impl Books {
    pub(super) fn new(open_loop: bool) -> Books {
        Books {
            open_loop,
            counts: Default::default(),
            errors: BTreeMap::new(),
            parts: Default::default(),
            headline: Latencies::default(),
            series: SeriesTable::default(),
        }
    }

    /// An operation ended. Its latencies come with the slice.
    pub(super) fn ended(&mut self, ended: &Ended) {
        ended.class.add_to(&mut self.counts[ended.operation as usize]);
        if let Some(error) = &ended.error {
            count_error(self.errors.entry(ended.operation).or_default(), error, 1);
        }
        if let (Some(parts), true) = (ended.parts, ended.outcome.is_good()) {
            for (part, value) in self.parts.iter_mut().zip(parts) {
                part.record(value);
            }
        }
    }

    /// An operation ended whose slice was closed already.
    pub(super) fn late(&mut self, ended: &Ended, latency: Nanos) {
        if ended.outcome.is_good() {
            self.headline.record(latency);
        }
        record_all(&mut self.series, ended, self.open_loop);
    }

    /// Takes the latencies of a slice.
    pub(super) fn absorb(&mut self, open: &OpenInterval) {
        self.headline.absorb(&open.headline);
        self.series.absorb(&open.series);
    }

    /// Takes counts and errors of one operation, from the record of a run.
    pub(super) fn absorb_counts(&mut self, operation: Operation, load: &OperationLoad) {
        let mine = &mut self.counts[operation as usize];
        mine.ok += load.counts.ok;
        mine.failed += load.counts.failed;
        mine.unknown += load.counts.unknown;
        mine.unsent += load.counts.unsent;
        for (error, times) in &load.errors {
            count_error(self.errors.entry(operation).or_default(), error, *times);
        }
    }

    /// Every set of latencies, by its name.
    pub(super) fn named(&self) -> Vec<(String, &Latencies)> {
        let fixed = [HEADLINE, RMW_READ, RMW_WRITE].map(str::to_owned);
        let sets = [&self.headline, &self.parts[0], &self.parts[1]];
        let tagged = self.series.iter().map(|(tag, series)| (tag.to_string(), series));
        fixed.into_iter().zip(sets).chain(tagged).collect()
    }

    /// Adds latencies to the set of that name; false if there is none.
    pub(super) fn absorb_named(&mut self, name: &str, latencies: &Latencies) -> bool {
        match name {
            HEADLINE => self.headline.absorb(latencies),
            RMW_READ => self.parts[0].absorb(latencies),
            RMW_WRITE => self.parts[1].absorb(latencies),
            _ => match Tag::parse(name) {
                Some(tag) => self.series.absorb_one(tag, latencies),
                None => return false,
            },
        }
        true
    }

    /// Response time in an open loop, service time in a closed one, of all good operations together.
    pub(super) fn headline(&self) -> &Latencies {
        &self.headline
    }

    /// From planned to first attempt, of everything that was sent.
    pub(super) fn lag(&self) -> Latencies {
        self.sum(|tag| tag.measure == Measure::Lag)
    }

    /// `worth` says what part of its number a sample is worth in independent values.
    pub(super) fn add_up(&self, worth: f64) -> Summary {
        let present: Vec<Operation> = Operation::ALL
            .into_iter()
            .filter(|operation| self.counts[*operation as usize].total() > 0)
            .collect();
        let errors = &self.errors;
        let mut all_errors = BTreeMap::new();
        for (text, count) in errors.values().flatten() {
            *all_errors.entry(text.clone()).or_default() += count;
        }
        let mut total = self.load(self.total_counts(), worth, |_| true);
        total.errors = all_errors;
        let operations = present.into_iter().map(|operation| {
            let mut load = self.load(self.counts[operation as usize], worth, |tag| {
                tag.operation == operation
            });
            load.errors = errors.get(&operation).cloned().unwrap_or_default();
            if operation == Operation::Rmw {
                let parts = ["read", "write"].into_iter().zip(&self.parts);
                load.parts = parts
                    .map(|(name, part)| (name.to_owned(), part.percentiles()))
                    .collect();
            }
            (operation, load)
        });
        Summary {
            operations: operations.collect(),
            total,
        }
    }

    fn total_counts(&self) -> Counts {
        self.counts.iter().fold(Counts::default(), |sum, counts| Counts {
            ok: sum.ok + counts.ok,
            failed: sum.failed + counts.failed,
            unknown: sum.unknown + counts.unknown,
            unsent: sum.unsent + counts.unsent,
        })
    }

    /// All series that match, in one.
    fn sum(&self, matches: impl Fn(Tag) -> bool) -> Latencies {
        let mut sum = Latencies::default();
        for (tag, series) in self.series.iter() {
            if matches(tag) {
                sum.absorb(series);
            }
        }
        sum
    }

    fn load(&self, counts: Counts, worth: f64, matches: impl Fn(Tag) -> bool) -> OperationLoad {
        let good = |measure| self.sum(|tag| matches(tag) && tag.measure == measure && tag.outcome.is_good());
        let service = good(Measure::Service);
        let response = self.open_loop.then(|| good(Measure::Response));
        let attempt = good(Measure::Attempt);
        let some =
            |latencies: &Latencies| (latencies.count() > 0).then(|| latencies.percentiles_worth(worth));
        let mut outcomes = BTreeMap::new();
        for outcome in OutcomeKind::ALL {
            let measure = super::headline(self.open_loop);
            let latency = self.sum(|tag| matches(tag) && tag.outcome == outcome && tag.measure == measure);
            if latency.count() > 0 {
                let count = latency.count();
                let latency = latency.percentiles();
                outcomes.insert(outcome, OutcomeLoad { count, latency });
            }
        }
        OperationLoad {
            counts,
            scheduled: response
                .as_ref()
                .map(|response| response.percentiles_among(counts.total(), worth)),
            response: response.map(|response| response.percentiles_worth(worth)),
            service: some(&service),
            attempt: some(&attempt),
            outcomes,
            ..OperationLoad::default()
        }
    }
}

fn count_error(errors: &mut BTreeMap<String, u64>, error: &str, times: u64) {
    if let Some(known) = errors.get_mut(error) {
        *known += times;
        return;
    }
    let text = if errors.len() < ERROR_TEXTS_MAX {
        error
    } else {
        OTHER_ERRORS
    };
    *errors.entry(text.to_owned()).or_default() += times;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_limited() {
        let mut errors = BTreeMap::new();
        for n in 0..1000 {
            count_error(&mut errors, &format!("error {n}"), 1);
            count_error(&mut errors, "error 1", 1);
        }
        assert_eq!(errors.len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(errors.values().sum::<u64>(), 2000);
        assert_eq!(errors["error 1"], 1001);
    }
}
