//! The longest time without an acknowledged write.

use reports::record::Nanos;

/// Follows acknowledged writes.
#[derive(Debug)]
pub(super) struct WriteGap {
    last: Nanos,
    begins: Nanos,
    longest: Option<(Nanos, Nanos)>,
}

impl WriteGap {
    /// Before the first write, the gap counts from here.
    pub(super) fn since(begins: Nanos) -> WriteGap {
        WriteGap {
            last: begins,
            begins,
            longest: None,
        }
    }

    /// A write was acknowledged at `time`, or the load ended.
    pub(super) fn until(&mut self, time: Nanos) {
        let length = time.saturating_sub(self.last);
        if self.longest.is_none_or(|(longest, _)| length > longest) {
            self.longest = Some((length, self.last));
        }
        self.last = self.last.max(time);
    }

    /// When the last one was acknowledged.
    pub(super) fn last(&self) -> Nanos {
        self.last
    }

    /// Length and beginning of the longest gap.
    pub(super) fn longest(&self) -> (Nanos, Nanos) {
        self.longest.unwrap_or((0, self.begins))
    }
}
