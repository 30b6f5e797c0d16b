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
    /// It said that it should not lead.
    pub(super) unfit: bool,
    /// Heartbeats answered since appends were last acknowledged, while some are under way.
    heartbeats_unmatched: u32,
    /// So many of them mean that the appends were lost. Grows with every time that was believed, because on a narrow
    /// link they were only slow, and what is sent again stands in the way of everything else.
    patience_heartbeats: u32,
    /// Whether the next answer to a heartbeat counts: one for each beat of the clock, however many read rounds there are.
    heartbeat_due: bool,
    /// Weight of appends that may be under way: little until the link has shown what it carries.
    window_bytes: usize,
}

#[derive(Debug)]
enum Mode {
    /// Where the logs agree is not known: one append at a time.
    Probe { waiting: bool },
    /// It lacks entries that only a snapshot still holds: nothing is sent until the snapshot has arrived, or failed and
    /// the time to try again has come.
    Snapshot { retry_after_ticks: Option<u32> },
    /// It is known: appends follow each other without waiting for answers. Holds the last index and the weight of
    /// each append under way.
    Replicate {
        under_way: VecDeque<(Index, usize)>,
        bytes: usize,
    },
}

/// First and longest patience, in answered heartbeats: with the usual 30 ms between them about 1 s and 30 s.
const PATIENCE_HEARTBEATS: (u32, u32) = (34, 1000);

/// The window after a probe. It doubles with every acknowledgement that brings news.
const WINDOW_BYTES_START: usize = 64 << 10;

/// Entries in a probe weigh no more, unless a single one does: it may have to be repeated.
const PROBE_BYTES_MAX: usize = 16 << 10;

impl Progress {
    /// A follower of which nothing is known; the leader's log ends at `last`.
    pub(super) fn unknown(last: Index) -> Progress {
        Progress {
            matched: 0,
            next: last + 1,
            mode: Mode::Probe { waiting: false },
            read_seq: 0,
            ticks_silent: 0,
            unfit: false,
            heartbeats_unmatched: 0,
            patience_heartbeats: PATIENCE_HEARTBEATS.0,
            heartbeat_due: false,
            window_bytes: WINDOW_BYTES_START,
        }
    }

    /// The same follower behind a new connection: what was under way is lost, and the process behind it may be another,
    /// so only what it confirmed about this leader's term stays.
    pub(super) fn reconnected(&self, last: Index) -> Progress {
        Progress {
            read_seq: self.read_seq,
            ticks_silent: self.ticks_silent,
            unfit: self.unfit,
            ..Progress::unknown(last)
        }
    }

    /// Whether another append may be sent now.
    pub(super) fn may_send(&self, messages_max: usize, bytes_max: usize) -> bool {
        match &self.mode {
            Mode::Probe { waiting } => !waiting,
            Mode::Snapshot { .. } => false,
            Mode::Replicate { under_way, bytes } => {
                under_way.len() < messages_max && *bytes < bytes_max.min(self.window_bytes)
            }
        }
    }

    /// What the entries of the next append may weigh, if `bytes_max` is the most that any may.
    pub(super) fn append_bytes_max(&self, bytes_max: usize) -> usize {
        match self.mode {
            Mode::Probe { .. } | Mode::Snapshot { .. } => bytes_max.min(PROBE_BYTES_MAX),
            Mode::Replicate { .. } => bytes_max.min(self.window_bytes),
        }
    }

    /// Whether an append is worth sending even if it holds no entries: to find out where the logs agree.
    pub(super) fn is_probing(&self) -> bool {
        matches!(self.mode, Mode::Probe { .. })
    }

    /// It needs a snapshot, which is asked for now.
    pub(super) fn wait_for_snapshot(&mut self) {
        self.mode = Mode::Snapshot {
            retry_after_ticks: None,
        };
    }

    /// Whether a snapshot is under way to it, or will be.
    pub(super) fn receives_snapshot(&self) -> bool {
        matches!(self.mode, Mode::Snapshot { .. })
    }

    /// A snapshot up to `last` has arrived: the log goes on behind it.
    pub(super) fn continue_behind(&mut self, last: Index) {
        if self.receives_snapshot() {
            self.next = last.max(self.matched) + 1;
            self.probe_again();
        }
    }

    /// The snapshot did not arrive.
    pub(super) fn retry_snapshot_after(&mut self, ticks: u32) {
        if let Mode::Snapshot { retry_after_ticks } = &mut self.mode {
            *retry_after_ticks = Some(ticks);
        }
    }

    /// One unit of time passed.
    pub(super) fn tick(&mut self) {
        self.ticks_silent += 1;
        if let Mode::Snapshot {
            retry_after_ticks: Some(ticks),
        } = &mut self.mode
        {
            *ticks = ticks.saturating_sub(1);
            if *ticks == 0 {
                self.probe_again();
            }
        }
    }

    /// An append ending at `last` was sent.
    pub(super) fn sent(&mut self, last: Index, weight: usize) {
        match &mut self.mode {
            Mode::Probe { waiting } => *waiting = true,
            Mode::Snapshot { .. } => {}
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
            // A late answer: what it matches lies before what the snapshot brings.
            Mode::Snapshot { .. } if !news => {}
            Mode::Probe { .. } | Mode::Snapshot { .. } => {
                self.next = self.matched + 1;
                self.mode = Mode::Replicate {
                    under_way: VecDeque::new(),
                    bytes: 0,
                };
            }
            Mode::Replicate { under_way, bytes } => {
                if news {
                    self.window_bytes = self.window_bytes.saturating_mul(2);
                }
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
            Mode::Snapshot { .. } => false,
            Mode::Replicate { .. } => rejected > self.matched,
        };
        if open {
            self.next = hint.min(rejected.saturating_sub(1)).max(self.matched) + 1;
            self.probe_again();
        }
        open
    }

    /// A heartbeat is sent because it is time for one.
    pub(super) fn heartbeat_due(&mut self) {
        self.heartbeat_due = true;
    }

    /// A heartbeat was answered. Appends that stay unanswered for long were lost: start over from what is known.
    pub(super) fn heartbeat_answered(&mut self) {
        let under_way = match &self.mode {
            Mode::Probe { waiting } => *waiting,
            Mode::Snapshot { .. } => false,
            Mode::Replicate { under_way, .. } => !under_way.is_empty(),
        };
        if !under_way {
            self.heartbeats_unmatched = 0;
            return;
        }
        self.heartbeats_unmatched += u32::from(std::mem::take(&mut self.heartbeat_due));
        if self.heartbeats_unmatched >= self.patience_heartbeats {
            self.patience_heartbeats = (self.patience_heartbeats * 2).min(PATIENCE_HEARTBEATS.1);
            if matches!(self.mode, Mode::Replicate { .. }) {
                self.next = self.matched + 1;
            }
            self.probe_again();
        }
    }

    fn probe_again(&mut self) {
        self.heartbeats_unmatched = 0;
        self.window_bytes = WINDOW_BYTES_START;
        self.mode = Mode::Probe { waiting: false };
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

    /// Answers heartbeats until the appends under way are believed to be lost; says how many it took.
    fn lose_patience(progress: &mut Progress) -> u32 {
        for beats in 1..=PATIENCE_HEARTBEATS.1 {
            progress.heartbeat_due();
            progress.heartbeat_answered();
            if progress.may_send(1, 1) {
                return beats;
            }
        }
        panic!("patience never ends");
    }

    #[test]
    fn lost_appends_are_sent_again() {
        let mut progress = Progress::unknown(3);
        progress.matched(0);
        progress.sent(3, 1);
        assert_eq!(progress.next, 4);
        lose_patience(&mut progress);
        assert!(progress.is_probing());
        assert_eq!(progress.next, 1);
    }

    #[test]
    fn patience_doubles_with_each_loss_up_to_its_limit_and_starts_over_behind_a_new_connection() {
        let mut progress = Progress::unknown(3);
        for expected in [34, 68, 136, 272, 544, 1000, 1000] {
            progress.sent(3, 1);
            assert_eq!(lose_patience(&mut progress), expected);
            assert_eq!(progress.next, 4, "the probe itself is repeated");
        }
        let mut progress = progress.reconnected(3);
        progress.sent(3, 1);
        assert_eq!(lose_patience(&mut progress), PATIENCE_HEARTBEATS.0);
    }

    #[test]
    fn read_rounds_do_not_cost_patience() {
        let mut progress = Progress::unknown(3);
        progress.sent(3, 1);
        progress.heartbeat_due();
        (0..10 * PATIENCE_HEARTBEATS.1).for_each(|_| progress.heartbeat_answered());
        assert!(!progress.may_send(1, 1));
    }

    #[test]
    fn the_window_grows_with_news_and_falls_back_after_a_loss() {
        let mut progress = Progress::unknown(100);
        assert_eq!(progress.append_bytes_max(usize::MAX), PROBE_BYTES_MAX);
        progress.matched(1);
        for (index, times) in (2..).zip([1, 2, 4, 8]) {
            assert_eq!(progress.append_bytes_max(usize::MAX), times * WINDOW_BYTES_START);
            progress.sent(index, times * WINDOW_BYTES_START);
            assert!(
                !progress.may_send(9, usize::MAX),
                "{times} times the start is under way"
            );
            progress.matched(index);
            progress.matched(index);
        }
        assert!(
            progress.append_bytes_max(1000) == 1000,
            "the configured limit holds"
        );
        progress.sent(9, 1);
        lose_patience(&mut progress);
        progress.matched(5);
        assert_eq!(progress.append_bytes_max(usize::MAX), WINDOW_BYTES_START);
    }
}
