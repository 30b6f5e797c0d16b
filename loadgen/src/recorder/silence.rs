//! The longest time in which somebody waited and no operation was answered.
//!
//! Promises to count no time in which a plan asked for nothing, if that was longer than [`PAUSE_MIN`] or what was asked
//! before had been answered. In a closed loop somebody always waits. Knows nothing of what happens after the load.

use reports::record::Nanos;

/// A plan that asks for nothing for longer than this has paused.
const PAUSE_MIN: Nanos = 1_000_000_000;

/// Follows answers.
#[derive(Debug)]
pub(super) struct Silence {
    open_loop: bool,
    /// When it would have begun.
    since: Nanos,
    /// When the last operation ended, however it did.
    last_end: Nanos,
    /// Whether operations ended without an answer since the last answer.
    failed: bool,
    /// Planned operations that have not ended.
    open: u64,
    /// Length and beginning.
    longest: (Nanos, Nanos),
}

impl Silence {
    /// Before the first answer, the silence counts from here.
    pub(super) fn since(open_loop: bool, begins: Nanos) -> Silence {
        Silence {
            open_loop,
            since: begins,
            last_end: begins,
            failed: false,
            open: 0,
            longest: (0, begins),
        }
    }

    /// An operation was planned.
    pub(super) fn planned(&mut self, at: Nanos) {
        let paused = !self.failed || at.saturating_sub(self.last_end) > PAUSE_MIN;
        if self.open_loop && self.open == 0 && paused {
            self.since = self.since.max(at);
            self.failed = false;
        }
        self.open += 1;
    }

    /// An operation ended before the load did.
    pub(super) fn ended(&mut self, at: Nanos, answered: bool) {
        self.open = self.open.saturating_sub(1);
        self.last_end = self.last_end.max(at);
        self.until(at);
        if answered {
            self.since = self.since.max(at);
        }
        self.failed = !answered;
    }

    /// The load ended.
    pub(super) fn finish(mut self, at: Nanos) -> (Nanos, Nanos) {
        if self.open > 0 || !self.open_loop {
            self.until(at);
        }
        self.longest
    }

    fn until(&mut self, at: Nanos) {
        let length = at.saturating_sub(self.since);
        if length > self.longest.0 {
            self.longest = (length, self.since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Nanos = 1_000_000_000;

    #[test]
    fn a_store_that_is_dead_for_a_while_is_silent_for_as_long() {
        let mut open = Silence::since(true, 0);
        open.planned(S);
        open.ended(S + 1, true);
        open.planned(2 * S);
        open.planned(3 * S);
        open.ended(4 * S, false);
        open.ended(6 * S, true);
        assert_eq!(open.finish(20 * S), (4 * S, 2 * S));
        let mut closed = Silence::since(false, 0);
        closed.planned(0);
        closed.ended(S, true);
        assert_eq!(closed.finish(5 * S), (4 * S, S), "nobody answered to the end");
    }

    #[test]
    fn pauses_of_the_plan_are_not_the_stores() {
        let mut bursts = Silence::since(true, 0);
        for n in 0..4 {
            bursts.planned(n * 10 * S);
            bursts.ended(n * 10 * S + S / 10, n != 1);
        }
        assert_eq!(bursts.finish(60 * S).0, S / 10);
    }

    #[test]
    fn operations_refused_at_once_one_after_the_other_are_no_answers() {
        let mut refused = Silence::since(true, 0);
        for n in 0..40 {
            refused.planned(n * S / 10);
            refused.ended(n * S / 10 + 1, false);
        }
        assert_eq!(refused.finish(4 * S).0, 39 * S / 10 + 1);
    }
}
