//! What a node is told before it begins.

use std::ops::Range;

use super::types::NodeId;

/// What a core must be told before it begins. Times are in ticks, whose length is the caller's business.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// How many nodes vote, this one included, as long as no configuration in the log says who does. 0 for a node that
    /// waits to be taken in by a cluster: it does nothing of its own accord.
    pub voters: usize,
    /// Everything random follows from it.
    pub seed: u64,
    /// An election timeout is drawn from this range, anew for each wait. Its start is also for how long a follower
    /// that heard from its leader refuses to help anybody else to the office; its end, for how long a leader keeps it
    /// without hearing from a majority.
    pub election_ticks: Range<u32>,
    /// Between two heartbeats. Well below `election_ticks.start`.
    pub heartbeat_ticks: u32,
    /// Entries in one append weigh no more, unless a single one does.
    pub append_bytes_max: usize,
    /// Appends under way to one follower.
    pub append_messages_max: usize,
    /// Weight of appends under way to one follower.
    pub window_bytes_max: usize,
    /// Weight of accepted proposals that are not committed yet or not on the leader's own disk; above it proposals are
    /// refused.
    pub pending_bytes_max: usize,
    /// Answer reads within this many milliseconds after the send time of a heartbeat round that a quorum answered,
    /// without asking again; 0: never. Below the time between `election_ticks.start` ticks on the fastest clock of the
    /// cluster, which is that of one tick less. Not 0 on any node if it is not on all: a restarted node honours the leases
    /// that it may have granted before.
    pub lease_ms: u64,
    /// A lease holds only while every voter is known to be loyal for as long as this, see
    /// [`Core::set_loyalty`](super::Core::set_loyalty).
    pub loyal_ms: u64,
    /// A learner gets a vote if it lacks no more entries than this.
    pub promote_lag_max: u64,
    /// Planted bug: the leader commits what its own disk has, without waiting for a majority.
    #[cfg(feature = "mutants")]
    pub ack_before_majority: bool,
}

impl Config {
    /// The defaults for nodes on one network, with ticks of 10 ms: elections after 150–300 ms, heartbeats every 30 ms.
    pub fn new(id: NodeId, voters: usize, seed: u64) -> Config {
        Config {
            id,
            voters,
            seed,
            election_ticks: 15..31,
            heartbeat_ticks: 3,
            append_bytes_max: 256 << 10,
            append_messages_max: 64,
            window_bytes_max: 4 << 20,
            pending_bytes_max: 64 << 20,
            lease_ms: 0,
            loyal_ms: 150,
            promote_lag_max: 1000,
            #[cfg(feature = "mutants")]
            ack_before_majority: false,
        }
    }
}
