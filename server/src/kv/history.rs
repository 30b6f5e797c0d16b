//! What happened lately: the changes, for those who watch, and the digests, for those who compare. Bounded in both.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::raft::Index;

/// So many changes are kept, if they are not too large,
const EVENTS_MAX: usize = 64 << 10;
/// which they are beyond this.
const EVENT_BYTES_MAX: usize = 16 << 20;
/// So many digests are kept.
const DIGESTS_MAX: usize = 64 << 10;

/// A key changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Index of the entry that changed it; at most one key changes with an entry.
    pub index: Index,
    /// The key.
    pub key: String,
    /// Its value; `None` after a deletion.
    pub value: Option<Bytes>,
}

impl Event {
    fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + 48
    }
}

/// Some events in order, and how far they reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The events.
    pub events: Vec<Event>,
    /// Every event up to this index is among them, or was asked for before.
    pub up_to: Index,
}

/// The events from the index asked for on are no longer all at hand; those from here on are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOld {
    /// The first index from which a watch can begin.
    pub first: Index,
}

/// The latest past.
#[derive(Debug, Default)]
pub(super) struct History {
    events: VecDeque<Event>,
    event_bytes: usize,
    /// All events behind this index are at hand.
    events_from: Index,
    /// The digest after the entry `digests_from + 1 + position`.
    digests: VecDeque<u64>,
    digests_from: Index,
}

impl History {
    /// A past that begins behind `index`.
    pub(super) fn behind(index: Index) -> History {
        History {
            events_from: index,
            digests_from: index,
            ..History::default()
        }
    }

    pub(super) fn changed(&mut self, event: Event) {
        self.event_bytes += event.bytes();
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.event_bytes > EVENT_BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else {
                return;
            };
            self.event_bytes -= oldest.bytes();
            self.events_from = oldest.index;
        }
    }

    pub(super) fn applied(&mut self, digest: u64) {
        self.digests.push_back(digest);
        if self.digests.len() > DIGESTS_MAX {
            self.digests.pop_front();
            self.digests_from += 1;
        }
    }

    pub(super) fn digest_at(&self, index: Index) -> Option<u64> {
        let at = index.checked_sub(self.digests_from + 1)?;
        self.digests.get(usize::try_from(at).ok()?).copied()
    }

    /// The events of keys that begin with `prefix`, from index `from` on, up to `applied`; fewer if they exceed
    /// `bytes_max`.
    pub(super) fn events(
        &self,
        prefix: &str,
        from: Index,
        applied: Index,
        bytes_max: usize,
    ) -> Result<Events, TooOld> {
        if from <= self.events_from {
            return Err(TooOld {
                first: self.events_from + 1,
            });
        }
        let mut found = Events {
            events: Vec::new(),
            up_to: applied.max(from - 1),
        };
        let mut bytes = 0;
        let first = self.events.partition_point(|event| event.index < from);
        let wanted = self
            .events
            .range(first..)
            .filter(|event| event.key.starts_with(prefix));
        for event in wanted {
            if bytes > 0 && bytes + event.bytes() > bytes_max {
                found.up_to = event.index - 1;
                break;
            }
            bytes += event.bytes();
            found.events.push(event.clone());
        }
        Ok(found)
    }
}
