//! One follower as its leader sees it, with every transition it can make.

use std::collections::VecDeque;

use super::types::Index;

/// How far a follower has come and how fast it may be fed.
///
/// `matched < next` always; `matched` only grows while a connection lasts.
#[derive(Debug)]
pub(super) struct Progress {
    /// Highest index known to match and to be on the follower's disk.
    pub(super) matched: Index,
    /// Next index to send.
    pub(super) next: Index,
    mode: Mode,
    /// Highest read round that the follower has confirmed in this term.
    pub(super) read_seq: u64,
    /// Ticks since anything was heard from it.
    pub(super) ticks_silent: u32,
    /// Heartbeats answered since appends were last acknowledged, while some are under way.
    heartbeats_unmatched: u32,
}

#[derive(Debug)]
enum Mode {
    /// Where the logs agree is not known: one append at a time.
    Probe { waiting: bool },
    /// It is known: appends follow each other without waiting for answers. Holds the last index and the weight of
    /// each append under way.
    Replicate {
        under_way: VecDeque<(Index, usize)>,
        bytes: usize,
    },
}

/// So many answered heartbeats without an acknowledged append mean that the appends were lost.
const HEARTBEATS_UNMATCHED_MAX: u32 = 10;

impl Progress {
    /// A follower of which nothing is known; the leader's log ends at `last`.
    pub(super) fn unknown(last: Index) -> Progress {
        Progress {
            matched: 0,
            next: last + 1,
            mode: Mode::Probe { waiting: false },
            read_seq: 0,
            ticks_silent: 0,
            heartbeats_unmatched: 0,
        }
    }

    /// The same follower behind a new connection: what was under way is lost, and the process behind it may be another,
    /// so only what it confirmed about this leader's term stays.
    pub(super) fn reconnected(&self, last: Index) -> Progress {
        Progress {
            read_seq: self.read_seq,
            ticks_silent: self.ticks_silent,
            ..Progress::unknown(last)
        }
    }

    /// Whether another append may be sent now.
    pub(super) fn may_send(&self, messages_max: usize, bytes_max: usize) -> bool {
        match &self.mode {
            Mode::Probe { waiting } => !waiting,
            Mode::Replicate { under_way, bytes } => under_way.len() < messages_max && *bytes < bytes_max,
        }
    }

    /// Whether an append is worth sending even if it holds no entries: to find out where the logs agree.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.mode, Mode::Probe { .. })
    }

    /// An append ending at `last` was sent.
    pub(super) fn sent(&mut self, last: Index, weight: usize) {
        match &mut self.mode {
            Mode::Probe { waiting } => *waiting = true,
            Mode::Replicate { under_way, bytes } => {
                under_way.push_back((last, weight));
                *bytes += weight;
                self.next = last + 1;
            }
        }
    }

    /// The follower holds everything up to `index`, durably. Says whether that is news.
    pub(super) fn matched(&mut self, index: Index) -> bool {
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched + 1);
        self.heartbeats_unmatched = 0;
        match &mut self.mode {
            Mode::Probe { .. } => {
                self.next = self.matched + 1;
                self.mode = Mode::Replicate {
                    under_way: VecDeque::new(),
                    bytes: 0,
                };
            }
            Mode::Replicate { under_way, bytes } => {
                while under_way.front().is_some_and(|(last, _)| *last <= self.matched) {
                    *bytes -= under_way.pop_front().map_or(0, |(_, weight)| weight);
                }
            }
        }
        news
    }

    /// The follower refused an append after `rejected`; the logs may agree at `hint`. Says whether that was the answer
    /// to something still open rather than a late one.
    pub(super) fn rejected(&mut self, rejected: Index, hint: Index) -> bool {
        let open = match self.mode {
            Mode::Probe { .. } => rejected + 1 == self.next,
            Mode::Replicate { .. } => rejected > self.matched,
        };
        if open {
            self.next = hint.min(rejected.saturating_sub(1)).max(self.matched) + 1;
            self.mode = Mode::Probe { waiting: false };
        }
        open
    }

    /// A heartbeat was answered. Appends that stay unanswered for long were lost: start over from what is known.
    pub(super) fn heartbeat_answered(&mut self) {
        match &mut self.mode {
            Mode::Probe { waiting } => *waiting = false,
            Mode::Replicate { under_way, .. } if under_way.is_empty() => self.heartbeats_unmatched = 0,
            Mode::Replicate { .. } => {
                self.heartbeats_unmatched += 1;
                if self.heartbeats_unmatched >= HEARTBEATS_UNMATCHED_MAX {
                    self.heartbeats_unmatched = 0;
                    self.next = self.matched + 1;
                    self.mode = Mode::Probe { waiting: false };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_waits_for_its_answer() {
        let mut progress = Progress::unknown(10);
        assert!(progress.may_send(4, 100));
        progress.sent(10, 1);
        assert!(!progress.may_send(4, 100));
        assert_eq!(progress.next, 11, "a probe does not advance");
    }

    #[test]
    fn the_window_is_limited_in_messages_and_in_bytes() {
        let mut progress = Progress::unknown(0);
        progress.matched(0);
        progress.sent(1, 60);
        assert!(progress.may_send(2, 100));
        progress.sent(2, 60);
        assert!(!progress.may_send(2, 1000), "two messages");
        assert!(!progress.may_send(9, 100), "120 bytes");
        progress.matched(1);
        assert!(progress.may_send(2, 100));
    }

    #[test]
    fn a_late_rejection_changes_nothing() {
        let mut progress = Progress::unknown(10);
        progress.matched(8);
        assert!(!progress.rejected(5, 2));
        assert_eq!((progress.matched, progress.next), (8, 9));
    }

    #[test]
    fn a_rejection_falls_back_to_the_hint_but_never_below_the_match() {
        let mut progress = Progress::unknown(10);
        assert!(progress.rejected(10, 4));
        assert_eq!(progress.next, 5);
        progress.matched(4);
        progress.sent(9, 1);
        assert!(progress.rejected(9, 1));
        assert_eq!(progress.next, 5);
    }

    #[test]
    fn lost_appends_are_sent_again() {
        let mut progress = Progress::unknown(3);
        progress.matched(0);
        progress.sent(3, 1);
        assert_eq!(progress.next, 4);
        for _ in 0..HEARTBEATS_UNMATCHED_MAX {
            progress.heartbeat_answered();
        }
        assert!(progress.is_probing());
        assert_eq!(progress.next, 1);
    }
}
