//! Times without an acknowledged write.
//!
//! Promises that the longest one is exact; of the others, those that matter are kept, up to a limit.

use reports::record::Nanos;

/// Shorter times between two writes are no gap worth telling.
pub(crate) const GAP_MIN: Nanos = 100_000_000;
/// Gaps kept; further ones are not told apart.
pub(crate) const GAPS_MAX: usize = 10_000;

/// Follows acknowledged writes.
#[derive(Debug)]
pub(super) struct WriteGap {
    last: Nanos,
    begins: Nanos,
    longest: Option<(Nanos, Nanos)>,
    /// Beginning and length of those that matter.
    gaps: Vec<(Nanos, Nanos)>,
}

impl WriteGap {
    /// Before the first write, the gap counts from here.
    pub(super) fn since(begins: Nanos) -> WriteGap {
        WriteGap {
            last: begins,
            begins,
            longest: None,
            gaps: Vec::new(),
        }
    }

    /// A write was acknowledged at `time`, or the load ended.
    pub(super) fn until(&mut self, time: Nanos) {
        let length = time.saturating_sub(self.last);
        if self.longest.is_none_or(|(longest, _)| length > longest) {
            self.longest = Some((length, self.last));
        }
        if length >= GAP_MIN && self.gaps.len() < GAPS_MAX {
            self.gaps.push((self.last, length));
        }
        self.last = self.last.max(time);
    }

    /// When the last one was acknowledged.
    pub(super) fn last(&self) -> Nanos {
        self.last
    }

    /// Beginning and length of every gap that matters.
    pub(super) fn all(&self) -> &[(Nanos, Nanos)] {
        &self.gaps
    }

    /// Length and beginning of the longest gap.
    pub(super) fn longest(&self) -> (Nanos, Nanos) {
        self.longest.unwrap_or((0, self.begins))
    }
}
