//! What limited a run, in one sentence.
//!
//! The rules, in order; the first that applies is the answer:
//!
//! 0. **unknown** where less than [`SPAN_MIN`] was sampled.
//! 1. **steal**: more than [`STEAL_SHARE`] of the processors' time went to other guests of the host.
//! 2. **cpu** of the machine: its processors were busy more than [`MACHINE_BUSY_SHARE`] of the time.
//! 3. **client**: arrivals were noticed late by the verdict's own rule ([`crate::verdict`]), the generator used more than
//!    [`CPU_SHARE_MAX`] of its cores, or one of its threads more than [`THREAD_SHARE`] of a core.
//! 4. **cpu** of a server: one of its threads used more than [`THREAD_SHARE`] of a core, or waited for a core more than
//!    [`RUN_QUEUE_SHARE`] of the time.
//! 5. **memory**: less than [`MEMORY_LEFT_SHARE`] of the machine's memory was available at some time, or a server waited
//!    for the disk on more than [`MAJOR_FAULTS_PER_SECOND`] page faults.
//! 6. **disk**: an fsync, as the servers measured it, takes at least [`FSYNC_SHARE`] of the median write, or fsyncs filled
//!    more than [`FSYNC_BUSY_SHARE`] of the time. A write waits for a majority, so the server that counts is the last one
//!    of the fastest majority; where not all tell, the fastest that does.
//! 7. **network**: a round trip takes at least [`ROUND_TRIP_SHARE`] of the median operation.
//! 8. **queue**: nothing of all this, every server was seen and tells its fsyncs, and yet the store took less than the
//!    plan asked for ([`PLAN_MET_SHARE`]) or arrivals waited ([`WAITED_SHARE_MAX`]).
//! 9. **none**: as 8, and the plan was met; or the loop is closed.
//! 10. **unknown**: what is left, with what would have to be known.
//!
//! Shares are averages over the whole time that was sampled: a limit that was reached for a moment only does not show.
//! Pure: the same numbers give the same sentence.

mod rules;

use std::time::Duration;

use reports::record::{Bottleneck, Load, Nanos, OperationLoad, Resources};

pub use crate::verdict::{CPU_SHARE_MAX, WAITED_SHARE_MAX};

/// Less than this shows no average worth the name.
pub const SPAN_MIN: Duration = Duration::from_secs(1);
/// Share of the processors' time that may go to other guests.
pub const STEAL_SHARE: f64 = 0.05;
/// Share of the time in which all processors together may be busy.
pub const MACHINE_BUSY_SHARE: f64 = 0.95;
/// Part of a core that one thread may use.
pub const THREAD_SHARE: f64 = 0.9;
/// Share of the time that a server's thread may be ready to run without a core.
pub const RUN_QUEUE_SHARE: f64 = 0.2;
/// Part of the machine's memory that must stay available.
pub const MEMORY_LEFT_SHARE: f64 = 0.05;
/// Page faults a second that had to wait for the disk; above it, memory is being read back from there all the time.
pub const MAJOR_FAULTS_PER_SECOND: f64 = 100.0;
/// Part of the median write from which on an fsync explains it.
pub const FSYNC_SHARE: f64 = 0.5;
/// Share of the time that may be spent in fsyncs: with more, there is hardly a moment without one.
pub const FSYNC_BUSY_SHARE: f64 = 0.9;
/// Fewer fsyncs than this have no mean worth the name.
pub const FSYNCS_MIN: u64 = 10;
/// Part of the median operation from which on a round trip explains it.
pub const ROUND_TRIP_SHARE: f64 = 0.5;
/// Part of the planned rate that counts as all of it: a Poisson plan is never met to the last operation.
pub const PLAN_MET_SHARE: f64 = 0.95;

/// What the load itself says, for [`bottleneck`]. The default knows nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Operations a second that the plan asked for; absent in a closed loop.
    pub rate: Option<f64>,
    /// Operations a second that were answered well.
    pub ok_per_second: f64,
    /// Median service time of writes that were answered well, nanoseconds.
    pub write_p50: Option<Nanos>,
    /// Median service time of all operations that were answered well, nanoseconds.
    pub service_p50: Option<Nanos>,
    /// Median response time, nanoseconds; absent in a closed loop.
    pub response_p50: Option<Nanos>,
    /// How late 1 % of the arrivals were noticed, nanoseconds; absent in a closed loop.
    pub lateness_p99: Option<Nanos>,
    /// Lateness up to this is never held against the generator; see [`crate::LoadConfig::lateness_limit`].
    pub lateness_limit: Duration,
    /// Cores that the generator may use; absent where its process does other work too.
    pub client_cores: Option<u32>,
    /// A round trip to the servers without work, nanoseconds, if one was measured.
    pub round_trip: Option<Nanos>,
    /// How arrivals waited; absent in a closed loop and where waiting was expected.
    pub waited: Option<Waited>,
}

/// How the arrivals of an open loop found the limit of operations in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waited {
    /// Arrivals.
    pub planned: u64,
    /// Those that had to wait for a place.
    pub waited: u64,
}

impl Evidence {
    /// What the numbers of a load say that was measured for `measured`. What they do not say (cores of the client, round
    /// trip, lateness limit, waiting) is left at its default. The median write is that of the write that was answered most
    /// often.
    pub fn of_load(load: &Load, measured: Duration) -> Evidence {
        let service = |operation: &OperationLoad| operation.service.as_ref().and_then(|times| times.p50);
        let writes = load
            .operations
            .iter()
            .filter(|(operation, _)| operation.is_write());
        let most = writes.max_by_key(|(_, of_write)| of_write.counts.ok);
        let total = load.total.as_ref();
        Evidence {
            rate: load.rate,
            ok_per_second: load.counts.ok as f64 / measured.as_secs_f64().max(1e-9),
            write_p50: most.and_then(|(_, of_write)| service(of_write)),
            service_p50: total.and_then(service),
            response_p50: total.and_then(|total| total.response.as_ref()?.p50),
            lateness_p99: load.lag.as_ref().and_then(|lag| lag.pacer.p99),
            ..Evidence::default()
        }
    }
}

/// Says what limited the run.
pub fn bottleneck(resources: &Resources, evidence: &Evidence) -> Bottleneck {
    rules::ORDER
        .iter()
        .find_map(|rule| rule(resources, evidence))
        .unwrap_or_else(|| rules::not_known(resources, evidence))
}

#[cfg(test)]
mod tests;
