//! The driver's loop: notice what is due, start it, collect what ended.
//!
//! One task owns all state. First attempts go straight to the connections and come back as a batch of completions; only
//! what is refused becomes a task of its own. There is no timer for each operation: all have the same time limit, so
//! their deadlines stand in a queue.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reports::record::{Counts, EndpointLoad, Nanos};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::flights::Flights;
use super::operations::{Journeyed, Keys};
use super::source::{Source, plan_length};
use super::{LoadConfig, LoadError, LoadOutcome, Overflow, Progress};
use crate::client::Client;
use crate::clock::{RunClock, nanos};
use crate::cpu::{machine_time, process_cpu};
use crate::history::{HistoryLog, Processes};
use crate::pacer::Pacer;
use crate::preload::preload;
use crate::recorder::{Recorder, headline};
use crate::sampling::MachineStat;
use crate::scribe::{HistoryTarget, IntervalHistograms, Outputs, Scribe, ScribeGone};
use crate::wire::{Completion, Completions};
use crate::workload::Workload;

/// How often history and progress are handed on.
const TICK: Duration = Duration::from_millis(100);
/// Samples of what is open that are kept.
const OPEN_SAMPLES_MAX: usize = 500;
/// Slices that may wait for the writing thread; each takes tens of kilobytes.
const UNWRITTEN_MAX: usize = 10_000;
/// Operations started before answers are looked at again.
const STARTS_AT_ONCE_MAX: usize = 1024;

pub(super) enum Phase {
    Running,
    /// Nothing new is planned; what is open may end until then.
    Draining {
        until: Instant,
    },
}

pub(super) struct Driver {
    pub(super) config: LoadConfig,
    pub(super) client: Client,
    pub(super) workload: Arc<Workload>,
    pub(super) history: Arc<HistoryLog>,
    pub(super) clock: RunClock,
    pub(super) source: Source,
    pub(super) scribe: Scribe,
    pub(super) recorder: Recorder,
    pub(super) warmup: Counts,
    pub(super) processes: Processes,
    pub(super) keys: Keys,
    pub(super) flights: Flights,
    pub(super) journeys: JoinSet<Journeyed>,
    pub(super) completions: Arc<Completions>,
    batch: Vec<Completion>,
    phase: Phase,
    /// It was told to stop, or stopped itself.
    pub(super) stopped: bool,
    /// Why it stopped itself.
    pub(super) aborted: Option<String>,
    /// When the first operation is planned.
    pub(super) begins: Nanos,
    /// Up to when arrivals have been noticed.
    pub(super) noticed_until: Nanos,
    /// Arrivals below this position found the limit of operations in flight reached.
    pub(super) crowded_below: u64,
    pub(super) queued: u64,
    /// What had been used and asked when the first operation after the warm-up began; nothing before.
    pub(super) before: Option<Before>,
    /// CPU time of this process when the plan ended.
    pub(super) cpu_at_plan_end: Option<Nanos>,
    pub(super) machine_before: Option<MachineStat>,
    /// Slices that the writing thread had no room for yet.
    pub(super) unwritten: VecDeque<IntervalHistograms>,
    /// Operations planned and not ended, over the seconds since the plan began, without the warm-up.
    pub(super) open_over_time: Vec<(f64, f64)>,
    reported: (Instant, u64),
    /// Slices that have been reported.
    pub(super) reported_slices: usize,
}

/// What does not belong to the measured time.
pub(super) struct Before {
    pub(super) at: Nanos,
    pub(super) cpu: Option<Nanos>,
    pub(super) endpoints: Vec<EndpointLoad>,
}

impl Driver {
    /// Writes the records that the workload asks for, if that was asked for. The run begins when they are there, and not
    /// before the time that it was told to begin at; not at all if it is told to stop before.
    pub(super) async fn start(
        config: LoadConfig,
        workload: Arc<Workload>,
        client: Client,
        clock: RunClock,
        outputs: Outputs,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Driver, LoadError> {
        let open_loop = config.arrivals.is_open();
        let keep_history = !matches!(outputs.history, HistoryTarget::Discard);
        let history = Arc::new(HistoryLog::new(clock, keep_history));
        let scribe =
            Scribe::start(outputs, clock, headline(open_loop)).map_err(|source| LoadError::Thread {
                what: "writer",
                source,
            })?;
        let mut first_process = 0;
        if config.preload {
            let writing = preload(&client, &workload, &history, first_process, |_| {});
            first_process = tokio::select! {
                written = writing => written?,
                () = &mut *stop => return Err(LoadError::StoppedEarly),
            };
            scribe
                .events(history.take())
                .map_err(|_| LoadError::OutputBehind)?;
        }
        // Made before the clock starts: for many keys it takes a while.
        let (source, keys) = (Source::of(&config), Keys::of(&workload));
        let origin = match config.begin_at {
            None => Instant::now(),
            Some(at) => {
                let origin = clock.instant_of(at);
                tokio::select! {
                    () = sleep_until(origin.into()) => origin,
                    () = &mut *stop => return Err(LoadError::StoppedEarly),
                }
            }
        };
        let begins = clock.nanos_of(origin);
        Ok(Driver {
            source,
            scribe,
            recorder: Recorder::new(open_loop, begins + nanos(config.warmup), nanos(config.interval)),
            warmup: Counts::default(),
            processes: Processes::starting_at(first_process),
            keys,
            flights: Flights::default(),
            journeys: JoinSet::new(),
            completions: Completions::new(),
            batch: Vec::new(),
            phase: Phase::Running,
            stopped: false,
            aborted: None,
            begins,
            noticed_until: begins,
            crowded_below: 0,
            queued: 0,
            before: None,
            cpu_at_plan_end: None,
            unwritten: VecDeque::new(),
            machine_before: machine_time(),
            open_over_time: Vec::new(),
            reported: (origin, 0),
            reported_slices: 0,
            client,
            workload,
            history,
            clock,
            config,
        })
    }

    pub(super) async fn drive(
        mut self,
        mut progress: impl FnMut(&Progress) + Send,
        stop: &mut (impl Future<Output = ()> + Send + Unpin),
    ) -> Result<LoadOutcome, LoadError> {
        progress(&self.report());
        let mut pacer = Pacer::new(Instant::now());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let completions = Arc::clone(&self.completions);
        let boundary = sleep_until(self.next_boundary().into());
        tokio::pin!(boundary);
        let trouble = loop {
            self.notice();
            self.collect();
            let more = self.start_due();
            if self.is_over() {
                break None;
            }
            let next = self.next_boundary().into();
            if boundary.deadline() != next {
                boundary.as_mut().reset(next);
            }
            let due = self.next_due();
            tokio::select! {
                biased;
                () = completions.ready() => {}
                () = pacer.wait_until(due), if due.is_some() => {}
                Some(ended) = self.journeys.join_next() => self.journey_ended(ended),
                () = &mut *stop, if !self.stopped => self.stop(),
                () = &mut boundary => self.expire(),
                _ = ticks.tick() => {
                    if let Err(trouble) = self.hand_on(&mut progress) {
                        break Some(trouble);
                    }
                }
                // There is more to start at once; but others on this thread must get their turn first: the connections.
                () = tokio::task::yield_now(), if more => {}
            }
        };
        self.abandon_the_rest();
        match trouble {
            None => self.finish(&mut progress).await,
            Some(trouble) => Err(self.output_error(trouble).await),
        }
    }

    /// When the plan ends.
    fn plan_end(&self) -> Nanos {
        self.begins + plan_length(&self.config)
    }

    pub(super) fn measured_from(&self) -> Nanos {
        self.begins + nanos(self.config.warmup)
    }

    /// The next arrival's instant.
    fn next_due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running if !self.stopped => {
                let at = self.source.next_at()?;
                Some(self.clock.instant_of(self.begins + at))
            }
            _ => None,
        }
    }

    /// The next instant at which something ends by itself: the plan, the drain, or an operation's time.
    fn next_boundary(&mut self) -> Instant {
        let end = match self.phase {
            Phase::Running => self.clock.instant_of(self.plan_end()),
            Phase::Draining { until } => until,
        };
        self.flights
            .next_deadline()
            .map_or(end, |deadline| deadline.min(end))
    }

    /// Takes note of everything due by now.
    fn notice(&mut self) {
        let Phase::Running = self.phase else {
            return;
        };
        let (measured_from, begins) = (self.measured_from(), self.begins);
        let now = self.clock.now();
        let until = now.min(self.plan_end());
        let recorder = &mut self.recorder;
        if let Source::Planned(plan) = &mut self.source {
            plan.notice(until - begins, now, |at| {
                let planned = begins + at;
                if planned >= measured_from {
                    recorder.planned(planned, now - planned);
                }
            });
        }
        self.noticed_until = until;
        if now >= self.plan_end() {
            self.drain();
        }
    }

    fn drain(&mut self) {
        if let Phase::Running = self.phase {
            self.recorder.load_ends_at(self.noticed_until);
            self.cpu_at_plan_end = process_cpu();
            let until = Instant::now() + self.config.drain;
            self.phase = Phase::Draining { until };
        }
    }

    /// Ends the plan here and now.
    fn stop(&mut self) {
        self.notice();
        self.stopped = true;
        self.drain();
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Running => false,
            Phase::Draining { until } => {
                let idle = self.flights.is_empty() && (self.stopped || self.source.backlog() == 0);
                idle || Instant::now() >= until
            }
        }
    }

    /// Starts what is due; whether there is more to start at once.
    fn start_due(&mut self) -> bool {
        for _ in 0..STARTS_AT_ONCE_MAX {
            if self.stopped || !self.start_next() {
                return false;
            }
        }
        true
    }

    /// Starts one operation; false if none is due or there is no room for it.
    fn start_next(&mut self) -> bool {
        let in_flight = self.flights.len();
        let (measured_from, begins) = (self.measured_from(), self.begins);
        let running = matches!(self.phase, Phase::Running);
        match &mut self.source {
            Source::Planned(plan) => {
                if in_flight >= self.config.max_in_flight {
                    self.crowded_below = plan.noticed();
                    plan.crowded();
                    return self.overflow();
                }
                // The pace of catching up follows the arrivals; when none come any more, nothing holds the rest back.
                let due = if running { plan.start() } else { plan.take() };
                let Some(due) = due else { return false };
                let planned = begins + due.at;
                let measured = planned >= measured_from;
                self.queued += u64::from(measured && due.position < self.crowded_below);
                self.begin(due.number, planned, due.woken, measured);
            }
            Source::Closed {
                clients,
                next,
                stride,
            } => {
                if !running || in_flight >= *clients {
                    return false;
                }
                let number = *next;
                *next += *stride;
                let now = self.clock.now();
                self.noticed_until = self.noticed_until.max(now);
                let measured = now >= measured_from;
                if measured {
                    self.recorder.planned(now, 0);
                }
                self.begin(number, now, now, measured);
            }
        }
        true
    }

    /// There is no room for an arrival. Whether to look for another one.
    fn overflow(&mut self) -> bool {
        let Source::Planned(plan) = &mut self.source else {
            return false;
        };
        match self.config.overflow {
            Overflow::Queue => false,
            Overflow::Shed => match plan.take() {
                Some(due) => {
                    self.shed(due);
                    true
                }
                None => false,
            },
            Overflow::Abort if plan.backlog() == 0 => false,
            Overflow::Abort => {
                self.aborted = Some(format!(
                    "{} operations were in flight, and --overflow abort was given",
                    self.config.max_in_flight
                ));
                self.stop();
                false
            }
        }
    }

    /// Takes what the connections have brought.
    fn collect(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        self.completions.take_into(&mut batch);
        for completion in batch.drain(..) {
            self.arrived(completion);
        }
        self.batch = batch;
    }

    /// Gives up on operations whose time is over.
    fn expire(&mut self) {
        // What came in time counts, also if nobody has looked at it yet.
        self.collect();
        let now = Instant::now();
        while let Some(token) = self.flights.overdue(now) {
            self.timed_out(token, now);
        }
    }

    fn hand_on(&mut self, progress: &mut (impl FnMut(&Progress) + Send)) -> Result<(), ScribeGone> {
        self.note_open();
        self.scribe.events(self.history.take())?;
        let closed = self.recorder.close_intervals(self.noticed_until);
        self.unwritten.extend(closed);
        // One operation that was open for long holds back many slices, which then close all at once.
        while let Some(interval) = self.unwritten.pop_front() {
            if let Some(interval) = self.scribe.interval(interval)? {
                self.unwritten.push_front(interval);
                break;
            }
        }
        if self.unwritten.len() > UNWRITTEN_MAX {
            return Err(ScribeGone::Behind);
        }
        progress(&self.report());
        Ok(())
    }

    /// Keeps how much is open, thinned by half whenever it has become long.
    fn note_open(&mut self) {
        let now = self.clock.now();
        let running = matches!(self.phase, Phase::Running);
        if !running || now < self.measured_from() {
            return;
        }
        let at = now.saturating_sub(self.begins) as f64 / 1e9;
        let open = self.flights.len() as f64 + self.source.backlog() as f64;
        self.open_over_time.push((at, open));
        if self.open_over_time.len() > OPEN_SAMPLES_MAX {
            let mut keep = false;
            self.open_over_time.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    pub(super) fn report(&mut self) -> Progress {
        let counts = self.recorder.counts();
        let now = Instant::now();
        let (then, ok_then) = std::mem::replace(&mut self.reported, (now, counts.ok));
        let seconds = now.saturating_duration_since(then).as_secs_f64().max(1e-9);
        let begins = self.clock.instant_of(self.begins);
        let closed = self.recorder.closed_so_far();
        let closed = closed.get(self.reported_slices..).unwrap_or_default().to_vec();
        self.reported_slices += closed.len();
        Progress {
            elapsed: now.saturating_duration_since(begins),
            total: self.config.warmup + self.config.duration,
            planned: self.recorder.planned_so_far(),
            counts,
            in_flight: self.flights.len(),
            queued: self.source.backlog(),
            ok_per_second: (counts.ok - ok_then) as f64 / seconds,
            interval: self.recorder.closed_so_far().last().cloned(),
            closed,
        }
    }
}
