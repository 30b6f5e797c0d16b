//! A scenario's faults, one injection after the other.

use std::fmt;
use std::time::Duration;

use super::{Fault, Mode, Placed, Scenario, Shape, Span, Target};

/// One injection of one fault, at a time of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedFault {
    /// When to inject it, from the start of the load.
    pub at: Duration,
    /// How long until it is healed.
    pub length: Duration,
    /// What to do.
    pub action: Action,
    /// To whom; resolved at injection.
    pub target: Target,
    /// Which line of [`Scenario::faults`] it comes from.
    pub fault: usize,
    /// Which of that line's injections it is, from 0.
    pub repetition: u32,
}

/// What to do to the target of a [`PlannedFault`], and to undo at its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// SIGKILL; at the end a new process over the same data.
    Kill,
    /// SIGTERM; at the end a new process over the same data.
    Stop,
    /// SIGSTOP; at the end SIGCONT.
    Pause,
    /// Cut links.
    Partition {
        /// Which.
        shape: Shape,
        /// How.
        mode: Mode,
    },
    /// Slow links down.
    Latency {
        /// Added in each direction.
        delay: Duration,
        /// Up to this much more or less.
        jitter: Duration,
    },
    /// Narrow links.
    Bandwidth {
        /// What one lets through in each direction.
        bytes_per_second: u64,
    },
}

impl PlannedFault {
    /// When to heal it.
    pub fn end(&self) -> Duration {
        self.at + self.length
    }

    /// Whether it takes the target's process away.
    pub fn is_outage(&self) -> bool {
        matches!(self.action, Action::Kill | Action::Stop | Action::Pause)
    }
}

impl Action {
    /// The fault's name in a scenario file; `stop` for each step of a rolling restart.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Kill => "kill",
            Action::Stop => "stop",
            Action::Pause => "pause",
            Action::Partition { .. } => "partition",
            Action::Latency { .. } => "latency",
            Action::Bandwidth { .. } => "bandwidth",
        }
    }
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, length, target) = (Span(self.at), Span(self.length), self.target);
        match self.action {
            Action::Kill | Action::Stop | Action::Pause => write!(f, "{} {target}", self.action.name())?,
            Action::Partition { shape, mode } => write!(f, "{shape} {target} ({mode})")?,
            Action::Latency { delay, jitter } if jitter.is_zero() => {
                write!(f, "latency {target} {}", Span(delay))?
            }
            Action::Latency { delay, jitter } => {
                write!(f, "latency {target} {} ± {}", Span(delay), Span(jitter))?
            }
            Action::Bandwidth { bytes_per_second } => {
                write!(f, "bandwidth {target} {}", super::ByteRate(bytes_per_second))?;
            }
        }
        write!(f, " at {at} for {length}")
    }
}

impl Scenario {
    /// Every injection, ordered by time; where two begin together, in the order of the file.
    pub fn expand(&self) -> Vec<PlannedFault> {
        let nodes = u8::try_from(self.cluster.nodes.value).unwrap_or(u8::MAX);
        let mut planned: Vec<PlannedFault> = (self.faults.iter().enumerate())
            .flat_map(|(index, fault)| injections(fault, index, nodes, self.duration.0))
            .collect();
        planned.sort_by_key(|fault| (fault.at, fault.fault, fault.repetition));
        planned
    }
}

/// When a fault that may be repeated happens.
struct Times<'a> {
    at: &'a Placed<Span>,
    length: &'a Placed<Span>,
    every: &'a Option<Placed<Span>>,
    times: &'a Option<Placed<u32>>,
}

/// What one line may unroll to; more is refused when the file is read. A limit, so that `every: 1us` stays a mistake
/// instead of a full memory.
pub(super) const INJECTIONS_MAX: u32 = 10_000;

impl Times<'_> {
    fn starts(&self, run: Duration) -> Vec<Duration> {
        let Some(every) = self
            .every
            .as_ref()
            .map(|every| every.0)
            .filter(|every| !every.is_zero())
        else {
            return vec![self.at.0];
        };
        let count = self
            .times
            .as_ref()
            .map_or(INJECTIONS_MAX, |times| times.value.min(INJECTIONS_MAX));
        let fits = |start: &Duration| self.times.is_some() || *start + self.length.0 <= run;
        (0..count)
            .map(|n| self.at.0 + every * n)
            .take_while(fits)
            .collect()
    }
}

fn injections(fault: &Fault, index: usize, nodes: u8, run: Duration) -> Vec<PlannedFault> {
    let one = |at, length, action, target, repetition| PlannedFault {
        at,
        length,
        action,
        target,
        fault: index,
        repetition,
    };
    let unroll = |times: Times<'_>, action: Action, target: Target| -> Vec<PlannedFault> {
        let numbered = (0..).zip(times.starts(run));
        numbered
            .map(|(repetition, at)| one(at, times.length.0, action, target, repetition))
            .collect()
    };
    macro_rules! times {
        ($fault:expr) => {
            Times {
                at: &$fault.at,
                length: &$fault.length,
                every: &$fault.every,
                times: &$fault.times,
            }
        };
    }
    match fault {
        Fault::Kill(fault) => unroll(times!(fault), Action::Kill, fault.target.value),
        Fault::Stop(fault) => unroll(times!(fault), Action::Stop, fault.target.value),
        Fault::Pause(fault) => unroll(times!(fault), Action::Pause, fault.target.value),
        Fault::RollingRestart(fault) => {
            let step = fault.length.0 + fault.between.0;
            let steps = (0u32..).zip(1..=nodes);
            let stop = |(n, node)| {
                one(
                    fault.at.0 + step * n,
                    fault.length.0,
                    Action::Stop,
                    Target::Node(node),
                    n,
                )
            };
            steps.map(stop).collect()
        }
        Fault::Partition(fault) => {
            let action = Action::Partition {
                shape: fault.shape.value,
                mode: fault.mode.value,
            };
            unroll(times!(fault), action, fault.target.value)
        }
        Fault::Latency(fault) => {
            let jitter = fault.jitter.map_or(Duration::ZERO, |jitter| jitter.0);
            unroll(
                times!(fault),
                Action::Latency {
                    delay: fault.delay.0,
                    jitter,
                },
                fault.target.value,
            )
        }
        Fault::Bandwidth(fault) => unroll(
            times!(fault),
            Action::Bandwidth {
                bytes_per_second: fault.rate.0,
            },
            fault.target.value,
        ),
    }
}
