//! Decides what the silence of a far side means.
//!
//! Promises to give up only after a whole limit of silence since the far side was asked whether it is there, and only if
//! this process was awake to hear an answer: one that stood still itself has learned nothing about anybody else. Silence
//! while nothing is expected does not count, however long it lasted. Never looks at a clock itself.

use std::time::{Duration, Instant};

/// How late an alarm may be, as a part of the limit, before it says that this process stood still.
const LATE_PART: u32 = 2;

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    Wait,
    /// Ask whether the far side is there.
    Ask,
    /// The far side is gone.
    GiveUp,
}

/// What is known of a silence.
#[derive(Debug)]
pub(super) struct Silence {
    limit: Duration,
    /// When to look again.
    due: Instant,
    /// When something was last heard, or began to be expected.
    since: Instant,
    asked: bool,
    expects: bool,
}

impl Silence {
    /// Nothing is expected yet.
    pub(super) fn new(limit: Duration, now: Instant) -> Silence {
        Silence {
            limit,
            due: now + limit,
            since: now,
            asked: false,
            expects: false,
        }
    }

    /// When to call [`Silence::look`] next.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether anything is expected now. The time is asked for only if that has changed.
    pub(super) fn expects(&mut self, expects: bool, now: impl FnOnce() -> Instant) {
        if expects != self.expects {
            self.expects = expects;
            (self.since, self.asked) = (now(), false);
        }
    }

    /// Something was heard.
    pub(super) fn broken(&mut self, now: Instant) {
        (self.since, self.asked) = (now, false);
    }

    /// What the silence means now.
    pub(super) fn look(&mut self, now: Instant) -> Look {
        let late = now.saturating_duration_since(self.due) > self.limit / LATE_PART;
        let heard_lately = now < self.since + self.limit;
        if !self.expects || (heard_lately && !self.asked) {
            self.asked = false;
            self.due = if self.expects { self.since } else { now } + self.limit;
            return Look::Wait;
        }
        if self.asked && now < self.due {
            return Look::Wait;
        }
        let gone = self.asked && !late;
        self.asked = true;
        self.due = now + self.limit;
        if gone { Look::GiveUp } else { Look::Ask }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    /// Looks at every moment that it asks for, and tells what it saw until it gave up.
    fn looks(silence: &mut Silence, most: usize) -> Vec<Look> {
        let mut seen = Vec::new();
        while seen.len() < most && seen.last() != Some(&Look::GiveUp) {
            let due = silence.due();
            seen.push(silence.look(due));
        }
        seen
    }

    #[test]
    fn silence_is_asked_about_and_then_given_up() {
        let now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        assert_eq!(looks(&mut silence, 5), [Look::Wait; 5], "nothing is expected");
        let then = silence.due() - LIMIT / 2;
        silence.expects(true, || then);
        assert_eq!(
            silence.look(silence.due()),
            Look::Wait,
            "it has had half its time"
        );
        assert_eq!(silence.due(), then + LIMIT);
        assert_eq!(looks(&mut silence, 9), [Look::Ask, Look::GiveUp]);
    }

    #[test]
    fn whatever_is_heard_begins_it_anew() {
        let now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        silence.expects(true, || now);
        silence.broken(now + LIMIT / 2);
        assert_eq!(silence.look(now + LIMIT), Look::Wait);
        assert_eq!(silence.due(), now + LIMIT * 3 / 2);
        assert_eq!(silence.look(silence.due()), Look::Ask);
        silence.broken(now + LIMIT * 2);
        assert_eq!(silence.look(silence.due()), Look::Wait);
        assert_eq!(looks(&mut silence, 9), [Look::Ask, Look::GiveUp]);
    }

    #[test]
    fn a_process_that_stood_still_asks_again_before_it_gives_up() {
        let now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        silence.expects(true, || now);
        silence.broken(now);
        let woken = now + LIMIT * 10;
        assert_eq!(silence.look(woken), Look::Ask);
        assert_eq!(silence.due(), woken + LIMIT, "a whole limit from the question on");
        let again = woken + LIMIT * 10;
        assert_eq!(
            silence.look(again),
            Look::Ask,
            "it was not awake to hear the answer"
        );
        assert_eq!(silence.look(again + LIMIT), Look::GiveUp);
    }

    #[test]
    fn silence_before_anything_was_expected_does_not_count() {
        let now = Instant::now();
        let mut silence = Silence::new(LIMIT, now);
        silence.broken(now);
        // It stands still while idle; then there is a call.
        let late = now + LIMIT * 10;
        silence.expects(true, || late);
        assert_eq!(silence.look(late), Look::Wait);
        assert_eq!(looks(&mut silence, 9), [Look::Ask, Look::GiveUp]);
    }
}
