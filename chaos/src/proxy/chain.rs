//! The toxics of one direction of one connection, in order, without I/O.
//!
//! A chain takes what was read, keeps it as long as its toxics say, and hands out what is to be written. Nothing is
//! reordered and nothing is lost unless a toxic drops it; taking a toxic away sends on what it held.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::stage::{Around, Ending, Item, Origin, Placed, Stage, What};

/// How many chunks may be ready for a receiver that does not take them.
const OUT_CHUNKS_MAX: usize = 16;

pub(super) struct Chain {
    origin: Origin,
    stages: Vec<Stage>,
    /// `queues[i]` is before stage `i`, the last one is what is ready to be written: always one more than stages.
    queues: Vec<VecDeque<Item>>,
    /// Of the first ready chunk, how much has been written.
    written_of_front: usize,
    held_bytes: u64,
    dropped_bytes: u64,
}

/// What comes out next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ready<'a> {
    Bytes(&'a [u8]),
    End(Ending),
}

impl Chain {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            stages: Vec::new(),
            queues: vec![VecDeque::new()],
            written_of_front: 0,
            held_bytes: 0,
            dropped_bytes: 0,
        }
    }

    /// Whether bytes may bypass the chain: nothing works on them and nothing is before them.
    pub(super) fn is_plain(&self) -> bool {
        self.stages.iter().all(Stage::is_pass) && self.queues.iter().all(VecDeque::is_empty)
    }

    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.queues[0].len() < self.queue_max(0)
    }

    /// Bytes taken in and not yet written or dropped.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Bytes dropped so far.
    pub(super) fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    pub(super) fn push(&mut self, what: What, now: Instant) {
        let item = Item { at: now, what };
        self.held_bytes += item.len() as u64;
        self.queues[0].push_back(item);
    }

    /// Moves everything whose time has come; afterwards says when to come back if nothing else happens.
    pub(super) fn step(&mut self, now: Instant) -> Option<Instant> {
        let dropped_before = self.dropped_bytes;
        loop {
            let mut moved = false;
            // From the far end, so that room made there is used on the way back.
            for at in (0..self.stages.len()).rev() {
                let outbox_max = self.queue_max(at + 1);
                let (before, behind) = self.queues.split_at_mut(at + 1);
                moved |= self.stages[at].step(Around {
                    now,
                    inbox: &mut before[at],
                    outbox: &mut behind[0],
                    outbox_max,
                    dropped_bytes: &mut self.dropped_bytes,
                });
            }
            if !moved {
                break;
            }
        }
        self.held_bytes -= self.dropped_bytes - dropped_before;
        // A moment in the past belongs to a stage that waits for room, not for the clock.
        let wakes = self
            .stages
            .iter()
            .zip(&self.queues)
            .filter_map(|(stage, inbox)| stage.wake_at(inbox));
        wakes.filter(|at| *at > now).min()
    }

    /// Brings the stages in line with the toxics that the proxy has now, in their order.
    pub(super) fn apply<'a>(&mut self, toxics: impl Iterator<Item = &'a Arc<Placed>>, now: Instant) {
        let toxics: Vec<_> = toxics.collect();
        for at in (0..self.stages.len()).rev() {
            if !toxics
                .iter()
                .any(|placed| placed.lineage == self.stages[at].placed.lineage)
            {
                self.remove(at, now);
            }
        }
        for placed in toxics {
            match self
                .stages
                .iter()
                .position(|stage| stage.placed.lineage == placed.lineage)
            {
                Some(at) if self.stages[at].placed.generation != placed.generation => {
                    self.update(at, placed, now);
                }
                Some(_) => {}
                None => {
                    self.stages
                        .push(Stage::new(Arc::clone(placed), &self.origin, now));
                    // In front of what is ready: that has passed all earlier toxics and is before this one in time.
                    self.queues.insert(self.queues.len() - 1, VecDeque::new());
                }
            }
        }
        debug_assert_eq!(self.queues.len(), self.stages.len() + 1);
    }

    /// The next thing to be written.
    pub(super) fn ready(&self) -> Option<Ready<'_>> {
        let out = &self.queues[self.stages.len()];
        Some(match &out.front()?.what {
            What::Data(bytes) => Ready::Bytes(&bytes[self.written_of_front..]),
            What::End(ending) => Ready::End(*ending),
        })
    }

    /// So many of the ready bytes have been written.
    pub(super) fn written(&mut self, len: usize) {
        let out = &mut self.queues[self.stages.len()];
        self.written_of_front += len;
        self.held_bytes -= len as u64;
        if out
            .front()
            .is_some_and(|item| item.len() == self.written_of_front)
        {
            out.pop_front();
            self.written_of_front = 0;
        }
    }

    fn queue_max(&self, at: usize) -> usize {
        self.stages.get(at).map_or(OUT_CHUNKS_MAX, Stage::inbox_max)
    }

    /// What the stage held goes on to the next at once, whether it has room or not: a burst is what ends a jam.
    fn remove(&mut self, at: usize, now: Instant) {
        let stage = self.stages.remove(at);
        let held = self.queues.remove(at);
        let next = &mut self.queues[at];
        next.extend(held);
        if let Some(ending) = stage.farewell() {
            next.push_back(Item {
                at: now,
                what: What::End(ending),
            });
        }
    }

    fn update(&mut self, at: usize, placed: &Arc<Placed>, now: Instant) {
        let (before, behind) = self.queues.split_at_mut(at + 1);
        let mut around = Around {
            now,
            inbox: &mut before[at],
            outbox: &mut behind[0],
            outbox_max: usize::MAX,
            dropped_bytes: &mut self.dropped_bytes,
        };
        self.stages[at].update(Arc::clone(placed), &self.origin, &mut around);
    }
}
