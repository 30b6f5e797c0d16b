//! What the latencies of a run were computed from, so that the runs of several generators can be computed as one.
//!
//! Promises: parts of a run that are added up say exactly what the whole would have said, because the same code computes
//! both from the same histograms; percentiles are never averaged. How sure the percentiles are is the one exception: see
//! [`Ledger::absorb`].

use reports::record::{Lag, Load, LoopKind, Nanos, Percentiles};

use super::books::{Books, Summary};
use crate::percentiles::Latencies;

/// Names of what has no tag.
const PACER: &str = "lag.pacer";
const QUEUE: &str = "lag.queue";

/// The latencies of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    books: Books,
    pacer: Latencies,
    queue: Latencies,
    /// What part of their number the latencies are worth in independent values.
    worth: f64,
}

impl Ledger {
    pub(super) fn new(books: Books, pacer: Latencies, queue: Latencies, worth: f64) -> Ledger {
        Ledger {
            books,
            pacer,
            queue,
            worth,
        }
    }

    /// From the record of a run and its [`Ledger::series`]; the name of one that is unknown is the error.
    pub(crate) fn rebuild(load: &Load, worth: f64, series: &[(String, Latencies)]) -> Result<Ledger, String> {
        let books = Books::new(load.kind != LoopKind::Closed);
        let worth = if worth.is_finite() {
            worth.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let mut ledger = Ledger::new(books, Latencies::default(), Latencies::default(), worth);
        for (operation, load) in &load.operations {
            ledger.books.absorb_counts(*operation, load);
        }
        for (name, latencies) in series {
            match name.as_str() {
                PACER => ledger.pacer.absorb(latencies),
                QUEUE => ledger.queue.absorb(latencies),
                _ if ledger.books.absorb_named(name, latencies) => {}
                _ => return Err(name.clone()),
            }
        }
        Ok(ledger)
    }

    /// Every set of latencies that is not empty, by its name.
    pub(crate) fn series(&self) -> Vec<(String, &Latencies)> {
        let mut all = self.books.named();
        all.push((PACER.to_owned(), &self.pacer));
        all.push((QUEUE.to_owned(), &self.queue));
        all.retain(|(_, latencies)| latencies.count() > 0);
        all
    }

    /// What part of their number the latencies are worth in independent values.
    pub(crate) fn worth(&self) -> f64 {
        self.worth
    }

    /// Says what part of their number the latencies are worth.
    pub(crate) fn set_worth(&mut self, worth: f64) {
        self.worth = worth;
    }

    /// Adds the latencies of another part of the run, whose counts and errors are in `load`. What the sample is worth stays
    /// as it is: that depends on the order of values over all parts, which nobody knows.
    pub(crate) fn absorb(&mut self, other: &Ledger, load: &Load) {
        for (operation, load) in &load.operations {
            self.books.absorb_counts(*operation, load);
        }
        for (name, latencies) in other.books.named() {
            self.books.absorb_named(&name, latencies);
        }
        self.pacer.absorb(&other.pacer);
        self.queue.absorb(&other.queue);
    }

    /// Response time in an open loop, service time in a closed one, of all good operations together.
    pub(crate) fn headline(&self) -> Percentiles {
        self.books.headline().percentiles_worth(self.worth)
    }

    /// Arrivals that were noticed later than that.
    pub(crate) fn noticed_later_than(&self, limit: Nanos) -> u64 {
        self.pacer.above(limit)
    }

    /// How late operations were started.
    pub(crate) fn lag(&self) -> Lag {
        Lag {
            total: self.books.lag().percentiles(),
            pacer: self.pacer.percentiles(),
            queue: self.queue.percentiles(),
        }
    }

    /// By operation, and all together.
    pub(crate) fn summary(&self) -> Summary {
        self.books.add_up(self.worth)
    }
}
