//! Writes that have arrived and are not in the log yet. A leader begins none while its disk is busy with one record and another one
//! waits behind it: what comes meanwhile makes one record for the disk and one message for each peer, and not one for each client
//! that happened to be first in its turn. Nothing waits for company: while the disk keeps up, a write is begun at once. And nothing
//! waits long for a slow disk, since a majority may be faster than it.

use std::time::Duration;

use tokio::time::Instant;

use super::requests::ClientRequest;
use crate::raft::IoSeq;

/// Records under way to the disk, the one that it writes included, behind which no more is begun.
const UNDER_WAY_MAX: u64 = 2;

/// So long a write waits for the disk at most: a few times what a sync takes, and little for a client.
const HELD_MAX: Duration = Duration::from_millis(1);

/// Writes from their arrival to their proposal.
#[derive(Default)]
pub(super) struct Gathering {
    writes: Vec<ClientRequest>,
    /// When the first of them must be begun.
    begin_by: Option<Instant>,
    /// The last request handed to the disk.
    submitted: IoSeq,
    /// The last one that it is done with.
    durable: IoSeq,
}

impl Gathering {
    pub(super) fn push(&mut self, write: ClientRequest) {
        self.writes.push(write);
    }

    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    pub(super) fn submitted(&mut self, seq: IoSeq) {
        self.submitted = seq;
    }

    pub(super) fn durable(&mut self, seq: IoSeq) {
        self.durable = seq;
    }

    /// When [`Gathering::take_due`] must be asked again, whatever else happens or does not.
    pub(super) fn begin_by(&self) -> Option<Instant> {
        self.begin_by
    }

    /// The writes to begin now; all of them if this node does not lead, since then they are only refused.
    pub(super) fn take_due(&mut self, leads: bool, now: impl Fn() -> Instant) -> Vec<ClientRequest> {
        if self.writes.is_empty() {
            return Vec::new();
        }
        let busy = self.submitted.saturating_sub(self.durable) >= UNDER_WAY_MAX;
        if leads && busy {
            let now = now();
            if now < *self.begin_by.get_or_insert(now + HELD_MAX) {
                return Vec::new();
            }
        }
        self.take_all()
    }

    pub(super) fn take_all(&mut self) -> Vec<ClientRequest> {
        self.begin_by = None;
        std::mem::take(&mut self.writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(gathering: &mut Gathering, writes: usize) {
        (0..writes).for_each(|_| gathering.push(ClientRequest::Several(Vec::new())));
    }

    #[test]
    fn writes_are_begun_at_once_while_the_disk_keeps_up_and_together_when_it_was_busy() {
        let now = Instant::now();
        let mut gathering = Gathering::default();
        push(&mut gathering, 1);
        assert_eq!(gathering.take_due(true, || now).len(), 1);
        gathering.submitted(1);
        push(&mut gathering, 1);
        assert_eq!(gathering.take_due(true, || now).len(), 1, "one is under way");
        gathering.submitted(2);
        push(&mut gathering, 3);
        assert!(gathering.take_due(true, || now).is_empty(), "and one waits");
        gathering.durable(1);
        assert_eq!(gathering.take_due(true, || now).len(), 3);
        assert_eq!(gathering.begin_by(), None);
    }

    #[test]
    fn a_slow_disk_holds_writes_up_for_a_moment_and_a_node_that_does_not_lead_not_at_all() {
        let start = Instant::now();
        let mut gathering = Gathering::default();
        gathering.submitted(2);
        push(&mut gathering, 2);
        assert_eq!(gathering.take_due(false, || start).len(), 2);
        push(&mut gathering, 1);
        assert!(gathering.take_due(true, || start).is_empty());
        assert_eq!(gathering.begin_by(), Some(start + HELD_MAX));
        push(&mut gathering, 1);
        let soon = start + HELD_MAX / 2;
        assert!(gathering.take_due(true, || soon).is_empty());
        assert_eq!(gathering.take_due(true, || start + HELD_MAX).len(), 2);
        push(&mut gathering, 1);
        let later = start + 2 * HELD_MAX;
        assert!(gathering.take_due(true, || later).is_empty());
        assert_eq!(
            gathering.begin_by(),
            Some(later + HELD_MAX),
            "each has its own moment"
        );
    }
}
