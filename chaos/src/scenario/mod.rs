//! Scenario files: what is started, loaded, broken and checked.
//!
//! A scenario is YAML. It is read into [`Scenario`], where every default is filled in and nothing is left that makes
//! no sense: a file with a mistake is refused with line, column, the line itself and what would have been allowed.
//! [`Scenario::expand`] turns the list of faults into single injections in order of time.
//!
//! ```yaml
//! name: leader-kill                          # lower-case letters, digits, hyphens
//! about: Kill the leader again and again.    # one sentence
//! cluster:  { nodes: 3 }                     # 1 to 9
//! workload:
//!   mix: { put: 50, get: 40, cas: 10, delete: 0 }   # weights
//!   keys: 16
//!   clients: 8
//!   rate: 400/s                              # or `closed: true`
//!   value_size: 64                           # bytes
//!   timeout: 1s
//! duration: 30s
//! seed: 7                                    # drawn for each run if left out
//! faults:
//!   - kill:      { target: leader, at: 5s, for: 2s, every: 6s, times: 2 }      # also stop, pause
//!   - partition: { shape: isolate, mode: drop, target: n1, at: 16s, for: 2s }  # split, one-way, clients-only
//!   - latency:   { target: all, delay: 20ms, jitter: 5ms, at: 19s, for: 2s }
//!   - bandwidth: { target: follower, rate: 64KB/s, at: 19s, for: 2s }
//!   - rolling-restart: { at: 22s, for: 500ms, between: 1s }
//! checks:                                    # everything is on by default
//!   linearizable: true
//!   lost_writes: none                        # or `allow`
//!   one_leader_per_term: true
//!   converges: 10s                           # or true (ten seconds), false
//!   recovers_within: 3s                      # the same
//!   min_acknowledged: 1000
//! ```
//!
//! Nothing here touches a process, a network or a clock; targets such as `leader` stay names until a fault is injected.

mod fault;
mod lint;
mod model;
mod parse;
mod place;
mod plan;
mod problem;
mod units;

pub use fault::{Bandwidth, Fault, Latency, Mode, Outage, Partition, RollingRestart, Shape, Target};
pub use model::{Checks, Cluster, LostWrites, Mix, Pace, Scenario, Store, Workload};
pub use place::{Place, Placed};
pub use plan::{Action, PlannedFault};
pub use problem::{Problem, ScenarioError, Severity};
pub use units::{ByteRate, Rate, Span, Within};
