//! Scenario files: what is started, loaded, broken and checked.
//!
//! A scenario is YAML. It is read into [`Scenario`], where every default is filled in and nothing is left that makes
//! no sense: a file with a mistake is refused with line, column, the line itself and what would have been allowed.
//! [`Scenario::expand`] turns the list of faults into single injections in order of time.
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
