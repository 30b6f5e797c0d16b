//! How much of an outage is the client's own: the times in which operations waited between attempts and nothing was out.
//!
//! A store may be back long before a client that pauses asks it again. Promises to count only time in which no attempt
//! of any operation was out. Keeps a bounded number of stretches: beyond it the shortest are forgotten first, so the
//! result is then too low, never too high.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Stretches kept; a pause lasts 10 ms and longer, so this is minutes of nothing but pauses.
const STRETCHES_MAX: usize = 20_000;

#[derive(Debug, Default)]
pub(super) struct Backoff {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Attempts that are out.
    out: usize,
    /// Operations that wait between attempts.
    waiting: usize,
    /// Since when operations wait and nothing is out.
    since: Option<Instant>,
    stretches: Vec<(Instant, Instant)>,
}

impl Backoff {
    /// An attempt goes out; it is back when the guard is dropped.
    pub(super) fn send(&self) -> Out<'_> {
        self.sent();
        Out(self)
    }

    /// An operation waits until the guard is dropped.
    pub(super) fn wait(&self) -> Waiting<'_> {
        self.change(|state| state.waiting += 1);
        Waiting(self)
    }

    /// An attempt goes out.
    pub(super) fn sent(&self) {
        self.change(|state| state.out += 1);
    }

    /// An attempt is back.
    pub(super) fn returned(&self) {
        self.change(|state| state.out = state.out.saturating_sub(1));
    }

    /// How much of the time between two instants was such time.
    pub(super) fn within(&self, from: Instant, to: Instant) -> Duration {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = state.since.map(|since| (since, Instant::now()));
        let overlap =
            |(start, end): &(Instant, Instant)| (*end).min(to).saturating_duration_since((*start).max(from));
        state.stretches.iter().chain(&open).map(overlap).sum()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let idle = state.waiting > 0 && state.out == 0;
        match (idle, state.since) {
            (true, None) => state.since = Some(Instant::now()),
            (false, Some(since)) => {
                state.since = None;
                state.keep((since, Instant::now()));
            }
            _ => {}
        }
    }
}

impl State {
    fn keep(&mut self, stretch: (Instant, Instant)) {
        if self.stretches.len() >= STRETCHES_MAX {
            self.stretches
                .sort_by_key(|(start, end)| std::cmp::Reverse(*end - *start));
            self.stretches.truncate(STRETCHES_MAX / 2);
        }
        self.stretches.push(stretch);
    }
}

/// An attempt that is out.
pub(super) struct Out<'a>(&'a Backoff);

impl Drop for Out<'_> {
    fn drop(&mut self) {
        self.0.returned();
    }
}

/// An operation between attempts.
pub(super) struct Waiting<'a>(&'a Backoff);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_waiting_with_nothing_out_counts() {
        let backoff = Backoff::default();
        let before = Instant::now();
        let sum = |backoff: &Backoff| backoff.within(before, Instant::now());
        let out = backoff.send();
        let waiting = backoff.wait();
        assert_eq!(sum(&backoff), Duration::ZERO, "something is out");
        drop(out);
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
        drop(waiting);
        let whole = sum(&backoff);
        assert!(whole >= Duration::from_millis(2));
        assert_eq!(sum(&backoff), whole, "nobody waits any more");
        assert_eq!(backoff.within(before, before), Duration::ZERO);
    }

    #[test]
    fn the_longest_stretches_are_kept() {
        let (mut state, origin) = (State::default(), Instant::now());
        for n in 0..STRETCHES_MAX as u64 + 10 {
            let length = if n == 5 { 1_000 } else { 1 };
            state.keep((origin, origin + Duration::from_millis(length)));
        }
        assert!(state.stretches.len() <= STRETCHES_MAX);
        let longest = state.stretches.iter().map(|(start, end)| *end - *start).max();
        assert_eq!(longest, Some(Duration::from_secs(1)));
    }
}
