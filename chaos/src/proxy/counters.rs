//! What a proxy did, counted: the proof that a fault had an effect.
//!
//! For each direction, every byte that was read is in exactly one place: forwarded, dropped or held.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Stream;

/// Bytes of one direction since the proxy was created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCounters {
    /// Written to the other side.
    pub forwarded_bytes: u64,
    /// Read, then discarded: by a toxic, or because the connection ended before they could be delivered.
    pub dropped_bytes: u64,
    /// Read and not yet delivered, at this moment.
    pub held_bytes: u64,
}

impl StreamCounters {
    /// Everything that was ever read from the sending side.
    pub fn received_bytes(&self) -> u64 {
        self.forwarded_bytes + self.dropped_bytes + self.held_bytes
    }
}

/// A snapshot of what one proxy did since it was created.
///
/// A connection attempt that meets a disabled proxy is refused by the operating system and seen by nobody here; what
/// `refuse` did to connections that were open shows in `connections_cut`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Taken from the listener.
    pub connections_accepted: u64,
    /// Accepted and closed at once because the upstream could not be reached.
    pub connections_refused: u64,
    /// Accepted and over, for whatever reason; includes the refused and the cut.
    pub connections_closed: u64,
    /// Ended by a toxic, by disabling or by deleting; part of the closed.
    pub connections_cut: u64,
    /// Client to server.
    pub upstream: StreamCounters,
    /// Server to client.
    pub downstream: StreamCounters,
}

impl Counters {
    /// Connections that are open at this moment.
    pub fn connections_open(&self) -> u64 {
        self.connections_accepted.saturating_sub(self.connections_closed)
    }

    /// One direction.
    pub fn stream(&self, stream: Stream) -> &StreamCounters {
        match stream {
            Stream::Upstream => &self.upstream,
            Stream::Downstream => &self.downstream,
        }
    }

    /// What happened since an earlier snapshot of the same proxy. What is held is not a difference: it is held now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let stream = |now: &StreamCounters, before: &StreamCounters| StreamCounters {
            forwarded_bytes: now.forwarded_bytes.saturating_sub(before.forwarded_bytes),
            dropped_bytes: now.dropped_bytes.saturating_sub(before.dropped_bytes),
            held_bytes: now.held_bytes,
        };
        Self {
            connections_accepted: self
                .connections_accepted
                .saturating_sub(earlier.connections_accepted),
            connections_refused: self
                .connections_refused
                .saturating_sub(earlier.connections_refused),
            connections_closed: self.connections_closed.saturating_sub(earlier.connections_closed),
            connections_cut: self.connections_cut.saturating_sub(earlier.connections_cut),
            upstream: stream(&self.upstream, &earlier.upstream),
            downstream: stream(&self.downstream, &earlier.downstream),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct StreamTally {
    pub(crate) forwarded: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) held: AtomicU64,
}

/// The live side of [`Counters`].
///
/// Relaxed throughout: each number is only ever added to, and nobody derives an order of events from them.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) cut: AtomicU64,
    upstream: StreamTally,
    downstream: StreamTally,
}

impl Tally {
    pub(crate) fn stream(&self, stream: Stream) -> &StreamTally {
        match stream {
            Stream::Upstream => &self.upstream,
            Stream::Downstream => &self.downstream,
        }
    }

    pub(crate) fn snapshot(&self) -> Counters {
        let stream = |tally: &StreamTally| StreamCounters {
            forwarded_bytes: tally.forwarded.load(Relaxed),
            dropped_bytes: tally.dropped.load(Relaxed),
            held_bytes: tally.held.load(Relaxed),
        };
        // Closed before accepted, so that a connection in between is seen as open rather than closed twice.
        let connections_closed = self.closed.load(Relaxed);
        Counters {
            connections_accepted: self.accepted.load(Relaxed),
            connections_refused: self.refused.load(Relaxed),
            connections_closed,
            connections_cut: self.cut.load(Relaxed),
            upstream: stream(&self.upstream),
            downstream: stream(&self.downstream),
        }
    }
}
