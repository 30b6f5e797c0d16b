//! Answers by the term in which they were given.

use std::collections::BTreeMap;

use reports::record::TermLoad;

use super::Ended;

/// Different terms that are told apart; answers of further ones are in all other numbers and not here.
const TERMS_MAX: usize = 1000;

/// Answers by term.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// The one that the last answer named: nearly always that of the next one.
    current: Option<TermLoad>,
    others: BTreeMap<u64, TermLoad>,
}

impl Terms {
    /// An operation was answered in `term`.
    pub(super) fn answered(&mut self, term: u64, ended: &Ended) {
        if self.current.as_ref().is_none_or(|current| current.term != term) {
            self.switch_to(term, ended);
        }
        if let Some(current) = &mut self.current {
            current.ok += 1;
            current.redirected += u64::from(ended.redirects > 0);
            current.retried += u64::from(ended.retries > 0);
            current.first = current.first.min(ended.done);
            current.last = current.last.max(ended.done);
        }
    }

    fn switch_to(&mut self, term: u64, ended: &Ended) {
        if let Some(previous) = self.current.take() {
            self.others.insert(previous.term, previous);
        }
        self.current = match self.others.remove(&term) {
            None if self.others.len() >= TERMS_MAX => None,
            None => Some(TermLoad {
                term,
                ok: 0,
                redirected: 0,
                retried: 0,
                first: ended.done,
                last: ended.done,
            }),
            known => known,
        };
    }

    /// All of them, in the order of terms.
    pub(super) fn into_sorted(mut self) -> Vec<TermLoad> {
        if let Some(current) = self.current.take() {
            self.others.insert(current.term, current);
        }
        self.others.into_values().collect()
    }
}
