//! Writes that have arrived and are not in the log yet. A leader begins none while its own disk is busy with those before: what
//! comes meanwhile makes one entry for the disk and one message for each peer, and not one for each client that happened to be
//! first in its turn. Nothing waits for company: when the disk is idle a write is begun at once.

use super::requests::ClientRequest;
use crate::raft::IoSeq;

/// Writes from their arrival to their proposal.
#[derive(Default)]
pub(super) struct Gathering {
    writes: Vec<ClientRequest>,
    /// The last request handed to the disk.
    submitted: IoSeq,
    /// The last one that it is done with.
    durable: IoSeq,
    overdue: bool,
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

    /// Time passes: what waits now waits no longer. A majority can be faster than this node's disk.
    pub(super) fn tick(&mut self) {
        self.overdue = true;
    }

    /// The writes to begin now; all of them if this node does not lead, since then they are only refused.
    pub(super) fn take_due(&mut self, leads: bool) -> Vec<ClientRequest> {
        let overdue = std::mem::take(&mut self.overdue);
        match leads && self.durable < self.submitted && !overdue {
            true => Vec::new(),
            false => self.take_all(),
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<ClientRequest> {
        std::mem::take(&mut self.writes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(writes: usize) -> Gathering {
        let mut gathering = Gathering::default();
        (0..writes).for_each(|_| gathering.push(ClientRequest::Several(Vec::new())));
        gathering
    }

    #[test]
    fn writes_are_begun_at_once_when_the_disk_is_idle_and_together_when_it_was_busy() {
        let mut gathering = with(1);
        assert_eq!(gathering.take_due(true).len(), 1);
        gathering.submitted(7);
        (0..3).for_each(|_| gathering.push(ClientRequest::Several(Vec::new())));
        assert!(gathering.take_due(true).is_empty());
        gathering.durable(6);
        assert!(gathering.take_due(true).is_empty());
        gathering.durable(7);
        assert_eq!(gathering.take_due(true).len(), 3);
    }

    #[test]
    fn a_slow_disk_holds_writes_up_until_the_next_tick_only_and_a_node_that_does_not_lead_none() {
        let mut gathering = with(2);
        gathering.submitted(1);
        assert_eq!(gathering.take_due(false).len(), 2);
        gathering.push(ClientRequest::Several(Vec::new()));
        assert!(gathering.take_due(true).is_empty());
        gathering.tick();
        assert_eq!(gathering.take_due(true).len(), 1);
        gathering.push(ClientRequest::Several(Vec::new()));
        assert!(gathering.take_due(true).is_empty());
    }
}
