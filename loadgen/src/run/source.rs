//! Where operations come from: the plan, walked by two cursors, or clients that ask again when they have been answered.
//!
//! One cursor notices arrivals the moment they are due, which measures the generator's own lateness; the other starts
//! them, which may be later when too much is in flight. So a backlog of any length costs next to no memory.

use std::collections::VecDeque;
use std::time::Duration;

use reports::record::Nanos;

use super::LoadConfig;
use crate::clock::nanos;
use crate::schedule::{Arrivals, Schedule};

/// Times of noticing that are remembered while their arrivals wait; beyond it, later ones count as noticed with the last
/// of these, which makes their queue wait too long and the pacer's lateness stay right.
const NOTICES_MAX: usize = 100_000;

/// Where operations come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A plan.
    Planned(Box<Plan>),
    /// Clients, each of which waits for its answer; the number of the next operation, and from one to the next.
    Closed { clients: usize, next: u64, stride: u64 },
}

/// A plan and how far it has come.
#[derive(Debug)]
pub(super) struct Plan {
    noticed: Schedule,
    started: Schedule,
    /// Position of the first arrival noticed at a time, and that time.
    notices: VecDeque<(u64, Nanos)>,
    catch_up: CatchUp,
}

/// An arrival to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    /// Of the operation, in the whole plan.
    pub(super) number: u64,
    /// Among the arrivals of this generator, from zero.
    pub(super) position: u64,
    /// After the start of the plan.
    pub(super) at: Nanos,
    /// When it was noticed, on the run's clock.
    pub(super) woken: Nanos,
}

/// How fast a backlog may be worked off: so many starts for each arrival since it began.
#[derive(Debug, Clone, Copy)]
struct CatchUp {
    factor: f64,
    /// Arrivals noticed and started when the backlog began.
    since: Option<(u64, u64)>,
}

impl Source {
    /// From what the configuration says.
    pub(super) fn of(config: &LoadConfig) -> Source {
        let length = config.warmup + config.duration;
        let share = config.share.unwrap_or_default();
        let plan = config.arrivals.schedule(length, config.seed);
        match plan.map(|plan| plan.split(share.index, share.of)) {
            Some(plan) => Source::Planned(Box::new(Plan {
                noticed: plan.clone(),
                started: plan,
                notices: VecDeque::new(),
                catch_up: CatchUp {
                    factor: config.catch_up,
                    since: None,
                },
            })),
            None => Source::Closed {
                clients: match config.arrivals {
                    Arrivals::Closed { clients } => share.part_of(clients),
                    _ => unreachable!("every other kind of arrivals has a plan"),
                },
                next: share.index,
                stride: share.of,
            },
        }
    }

    /// Arrivals noticed and not started.
    pub(super) fn backlog(&self) -> u64 {
        match self {
            Source::Planned(plan) => plan.backlog(),
            Source::Closed { .. } => 0,
        }
    }

    /// When the next arrival is due, after the start of the plan.
    pub(super) fn next_at(&self) -> Option<Nanos> {
        match self {
            Source::Planned(plan) => plan.noticed.peek().map(|arrival| arrival.at),
            Source::Closed { .. } => None,
        }
    }
}

impl Plan {
    /// Arrivals noticed so far.
    pub(super) fn noticed(&self) -> u64 {
        self.noticed.taken()
    }

    pub(super) fn backlog(&self) -> u64 {
        self.noticed.taken() - self.started.taken()
    }

    /// Takes note at `now` of everything due at `elapsed`, and tells `each` when it was planned.
    pub(super) fn notice(&mut self, elapsed: Nanos, now: Nanos, mut each: impl FnMut(Nanos)) {
        let first = self.noticed.taken();
        while let Some(arrival) = self.noticed.pop_due(elapsed) {
            each(arrival.at);
        }
        if self.noticed.taken() > first && self.notices.len() < NOTICES_MAX {
            self.notices.push_back((first, now));
        }
    }

    /// The next arrival to start, if one is due and the pace of catching up allows it.
    pub(super) fn start(&mut self) -> Option<Due> {
        let (noticed, started) = (self.noticed.taken(), self.started.taken());
        if started == noticed {
            self.catch_up.since = None;
            return None;
        }
        if !self.catch_up.allows(noticed, started) {
            return None;
        }
        self.take()
    }

    /// The next arrival that is due, whatever the pace.
    pub(super) fn take(&mut self) -> Option<Due> {
        if self.started.taken() == self.noticed.taken() {
            return None;
        }
        let position = self.started.taken();
        let arrival = self.started.next()?;
        while self.notices.get(1).is_some_and(|(first, _)| *first <= position) {
            self.notices.pop_front();
        }
        let woken = self.notices.front().map_or(0, |(_, woken)| *woken);
        Some(Due {
            number: arrival.number,
            position,
            at: arrival.at,
            woken,
        })
    }

    /// There was no room for an arrival: from here on it is a backlog.
    pub(super) fn crowded(&mut self) {
        let (noticed, started) = (self.noticed.taken(), self.started.taken());
        if noticed > started {
            self.catch_up.since.get_or_insert((noticed, started));
        }
    }
}

impl CatchUp {
    fn allows(&self, noticed: u64, started: u64) -> bool {
        let Some((noticed_then, started_then)) = self.since else {
            return true;
        };
        if self.factor.is_infinite() {
            return true;
        }
        let arrived = (noticed - noticed_then) as f64;
        ((started - started_then) as f64) < arrived * self.factor
    }
}

/// When the plan is over, after its start.
pub(super) fn plan_length(config: &LoadConfig) -> Nanos {
    nanos(
        config
            .warmup
            .saturating_add(config.duration)
            .min(Duration::from_nanos(u64::MAX / 4)),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::schedule::Rate;

    const MS: Nanos = 1_000_000;

    fn plan(catch_up: f64) -> Plan {
        let config = LoadConfig {
            arrivals: Arrivals::Constant {
                rate: Rate::per_second(1000),
            },
            duration: Duration::from_secs(10),
            catch_up,
            ..LoadConfig::default()
        };
        match Source::of(&config) {
            Source::Planned(plan) => *plan,
            Source::Closed { .. } => unreachable!(),
        }
    }

    #[test]
    fn each_arrival_knows_when_it_was_noticed() {
        let mut plan = plan(f64::INFINITY);
        let mut planned = Vec::new();
        plan.notice(3 * MS, 100, |at| planned.push(at));
        plan.notice(5 * MS, 200, |at| planned.push(at));
        plan.notice(5 * MS, 300, |_| panic!("nothing is due"));
        assert_eq!(planned, [0, MS, 2 * MS, 3 * MS, 4 * MS, 5 * MS]);
        let woken: Vec<_> = std::iter::from_fn(|| plan.start()).map(|due| due.woken).collect();
        assert_eq!(woken, [100, 100, 100, 100, 200, 200]);
        assert_eq!(plan.backlog(), 0);
    }

    #[test]
    fn a_backlog_is_worked_off_at_the_pace_allowed() {
        let mut plan = plan(2.0);
        plan.notice(99 * MS, 0, |_| {});
        plan.crowded();
        assert!(plan.start().is_none(), "nothing has arrived since");
        plan.notice(109 * MS, 0, |_| {});
        let started = std::iter::from_fn(|| plan.start()).count();
        assert_eq!(started, 20, "two for each of the ten that came since");
        plan.notice(2 * 99 * MS + MS, 0, |_| {});
        while plan.start().is_some() {}
        assert_eq!(plan.backlog(), 0);
        plan.notice(300 * MS, 0, |_| {});
        assert_eq!(
            std::iter::from_fn(|| plan.start()).count(),
            101,
            "caught up: as planned again"
        );
    }

    #[test]
    fn without_a_limit_everything_starts_at_once() {
        let mut plan = plan(f64::INFINITY);
        plan.notice(99 * MS, 0, |_| {});
        plan.crowded();
        assert_eq!(std::iter::from_fn(|| plan.start()).count(), 100);
    }
}
