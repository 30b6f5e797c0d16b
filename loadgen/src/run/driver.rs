//! The driver's loop: notice what is due, start it, collect what ended.
//!
//! One task owns all state. Two cursors walk the same plan: one notices arrivals the moment they are due, which measures
//! the generator's own lateness; the other starts them, which may be later when too much is in flight. So a backlog of
//! any length costs no memory.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reports::record::{Counts, Function, Load, Measure, Nanos, Value};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::execute::{Finished, Job, Seen, Shared, execute};
use super::{LoadConfig, LoadError, LoadOutcome, Progress};
use crate::client::{Call, Client};
use crate::clock::{RunClock, nanos};
use crate::cpu::process_cpu;
use crate::history::{HistoryLog, Processes, Wording};
use crate::pacer::Pacer;
use crate::recorder::{Class, Recorder};
use crate::schedule::{Arrivals, Schedule};
use crate::scribe::{HistoryTarget, Outputs, Scribe, ScribeGone};
use crate::verdict::{Evidence, Waits, judge};
use crate::workload::{Inspected, Workload};

/// How often history and progress are handed on.
const TICK: Duration = Duration::from_millis(100);

/// Where operations come from.
enum Source {
    Planned {
        noticed: Schedule,
        started: Schedule,
        _pacer: Pacer,
    },
    Closed {
        clients: usize,
        next: u64,
    },
}

enum Phase {
    Running,
    /// Nothing new is planned; what is open may end until then.
    Draining {
        until: Instant,
    },
}

pub(super) struct Driver {
    config: LoadConfig,
    shared: Arc<Shared>,
    source: Source,
    wake: Arc<Notify>,
    scribe: Scribe,
    recorder: Recorder,
    warmup: Counts,
    processes: Processes,
    seen: Vec<Seen>,
    tasks: JoinSet<Finished>,
    cancel: watch::Sender<bool>,
    phase: Phase,
    stopped: bool,
    /// When the first operation is planned.
    begins: Nanos,
    /// Up to when arrivals have been noticed.
    noticed_until: Nanos,
    /// Arrivals below this number found the limit of operations in flight reached.
    crowded_below: u64,
    queued: u64,
    cpu_before: Option<Nanos>,
    reported: (Instant, u64),
}

impl Driver {
    pub(super) fn start(
        config: LoadConfig,
        workload: Arc<Workload>,
        client: Client,
        clock: RunClock,
        outputs: Outputs,
    ) -> Result<Driver, LoadError> {
        let open_loop = config.arrivals.rate().is_some();
        let headline = if open_loop {
            Measure::Response
        } else {
            Measure::Service
        };
        let keep_history = !matches!(outputs.history, HistoryTarget::Discard);
        let scribe = Scribe::start(outputs, clock, headline).map_err(|source| LoadError::Thread {
            what: "writer",
            source,
        })?;
        let wake = Arc::new(Notify::new());
        let cpu_before = process_cpu();
        let origin = Instant::now();
        let begins = clock.nanos_of(origin);
        let source = match config.arrivals {
            Arrivals::Closed { clients } => Source::Closed { clients, next: 0 },
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => {
                let plan = config
                    .arrivals
                    .schedule(config.warmup + config.duration, config.seed);
                let plan = plan.expect("an open loop has a plan");
                let pacer = Pacer::start(plan.clone(), rate.as_f64(), origin, Arc::clone(&wake)).map_err(
                    |source| LoadError::Thread {
                        what: "pacer",
                        source,
                    },
                )?;
                Source::Planned {
                    noticed: plan.clone(),
                    started: plan,
                    _pacer: pacer,
                }
            }
        };
        Ok(Driver {
            source,
            wake,
            scribe,
            recorder: Recorder::new(open_loop, begins + nanos(config.warmup), nanos(config.interval)),
            warmup: Counts::default(),
            processes: Processes::starting_at(0),
            seen: vec![Seen::default(); workload.key_count() as usize],
            tasks: JoinSet::new(),
            cancel: watch::Sender::new(false),
            phase: Phase::Running,
            stopped: false,
            begins,
            noticed_until: begins,
            crowded_below: 0,
            queued: 0,
            cpu_before,
            reported: (origin, 0),
            shared: Arc::new(Shared {
                client,
                workload,
                history: HistoryLog::new(clock, keep_history),
                timeout: config.timeout,
                clock,
            }),
            config,
        })
    }

    pub(super) async fn drive(
        mut self,
        mut progress: impl FnMut(&Progress) + Send,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<LoadOutcome, LoadError> {
        tokio::pin!(stop);
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wake = Arc::clone(&self.wake);
        let trouble = loop {
            self.notice();
            self.start_due();
            if self.is_over() {
                break None;
            }
            let boundary = self.next_boundary();
            tokio::select! {
                () = &mut stop, if !self.stopped => self.stop(),
                () = wake.notified() => {}
                Some(finished) = self.tasks.join_next() => self.collect(finished),
                () = sleep_until(boundary.into()) => {}
                _ = ticks.tick() => {
                    if let Err(trouble) = self.hand_on(&mut progress) {
                        break Some(trouble);
                    }
                }
            }
        };
        self.abandon_the_rest().await;
        match trouble {
            None => self.finish(&mut progress).await,
            Some(trouble) => Err(self.output_error(trouble).await),
        }
    }

    /// When the plan ends.
    fn plan_end(&self) -> Nanos {
        self.begins + nanos(self.config.warmup + self.config.duration)
    }

    fn measured_from(&self) -> Nanos {
        self.begins + nanos(self.config.warmup)
    }

    fn next_boundary(&self) -> Instant {
        match self.phase {
            Phase::Running => self.shared.clock.instant_of(self.plan_end()),
            Phase::Draining { until } => until,
        }
    }

    /// Takes note of everything due by now.
    fn notice(&mut self) {
        let measured_from = self.measured_from();
        let Phase::Running = self.phase else {
            return;
        };
        let now = self.shared.clock.now().min(self.plan_end());
        if let Source::Planned { noticed, .. } = &mut self.source {
            let elapsed = now - self.begins;
            while let Some(arrival) = noticed.pop_due(elapsed) {
                let planned = self.begins + arrival.at;
                if planned >= measured_from {
                    self.recorder.planned(planned, now - planned);
                }
            }
        }
        self.noticed_until = now;
        if now >= self.plan_end() {
            self.phase = Phase::Draining {
                until: Instant::now() + self.config.drain,
            };
        }
    }

    /// Ends the plan here and now.
    fn stop(&mut self) {
        self.notice();
        self.stopped = true;
        if let Phase::Running = self.phase {
            self.phase = Phase::Draining {
                until: Instant::now() + self.config.drain,
            };
        }
    }

    fn backlog(&self) -> u64 {
        match &self.source {
            Source::Planned { noticed, started, .. } => noticed.taken() - started.taken(),
            Source::Closed { .. } => 0,
        }
    }

    fn is_over(&self) -> bool {
        match self.phase {
            Phase::Running => false,
            Phase::Draining { until } => {
                let idle = self.tasks.is_empty() && (self.stopped || self.backlog() == 0);
                idle || Instant::now() >= until
            }
        }
    }

    fn start_due(&mut self) {
        if self.stopped {
            return;
        }
        while let Some((number, planned)) = self.next_to_start() {
            let workload = &self.shared.workload;
            let operation = workload.operation(number, workload.key_count());
            let (Some(function), Some(key)) = (operation.operation.function(), operation.key) else {
                unreachable!("the check before the run refuses {}", operation.operation)
            };
            let process = self.processes.take();
            let measured = planned >= self.measured_from();
            let job = self.job(process, function, key, number, planned, measured);
            self.tasks
                .spawn(execute(Arc::clone(&self.shared), job, self.cancel.subscribe()));
        }
    }

    fn next_to_start(&mut self) -> Option<(u64, Nanos)> {
        let in_flight = self.tasks.len();
        let running = matches!(self.phase, Phase::Running);
        let measured_from = self.measured_from();
        match &mut self.source {
            Source::Planned { noticed, started, .. } => {
                if in_flight >= self.config.max_in_flight {
                    self.crowded_below = noticed.taken();
                    return None;
                }
                if started.taken() == noticed.taken() {
                    return None;
                }
                let arrival = started.next()?;
                let planned = self.begins + arrival.at;
                let waited = arrival.number < self.crowded_below && planned >= measured_from;
                self.queued += u64::from(waited);
                Some((arrival.number, planned))
            }
            Source::Closed { clients, next } => {
                if !running || in_flight >= *clients {
                    return None;
                }
                let number = *next;
                *next += 1;
                let now = self.shared.clock.now();
                self.noticed_until = self.noticed_until.max(now);
                if now >= measured_from {
                    self.recorder.planned(now, 0);
                }
                Some((number, now))
            }
        }
    }

    fn job(
        &self,
        process: u64,
        function: Function,
        key_number: u64,
        number: u64,
        planned: Nanos,
        measured: bool,
    ) -> Job {
        let workload = &self.shared.workload;
        let name = workload.key(key_number);
        let key = name.to_string();
        let (call, value) = match function {
            Function::Read => (Call::Get { key }, Value::Absent),
            Function::Delete => (Call::Delete { key }, Value::Absent),
            Function::Write => {
                let (value, short) = workload.value(number, &name);
                (Call::Put { key, value }, Value::One(short))
            }
            Function::Cas => {
                let (value, short) = workload.value(number, &name);
                let expected = self.seen[key_number as usize].value.clone();
                let expected_short =
                    expected
                        .as_ref()
                        .map(|expected| match workload.inspect(&name, expected) {
                            Inspected::Intact(short) => short,
                            Inspected::Corrupt => expected.clone(),
                        });
                (
                    Call::Cas { key, expected, value },
                    Value::Pair(expected_short, Some(short)),
                )
            }
        };
        let wording = Wording {
            process,
            function,
            key: name,
            value,
        };
        Job {
            wording,
            call,
            key: key_number,
            planned,
            measured,
        }
    }

    fn collect(&mut self, finished: Result<Finished, JoinError>) {
        self.collect_one(finished);
        while let Some(finished) = self.tasks.try_join_next() {
            self.collect_one(finished);
        }
    }

    fn collect_one(&mut self, finished: Result<Finished, JoinError>) {
        let finished = match finished {
            Ok(finished) => finished,
            // A bug of ours; to count around it would be a lie.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("operations are cancelled by message only"),
            },
        };
        self.processes
            .give_back(finished.process, &finished.result.outcome);
        if let Some(seen) = finished.seen {
            let known = &mut self.seen[finished.key as usize];
            if seen.index >= known.index {
                *known = seen;
            }
        }
        if finished.measured {
            self.recorder.ended(&finished.ended);
        } else {
            match finished.ended.class {
                Class::Ok => self.warmup.ok += 1,
                Class::Failed => self.warmup.failed += 1,
                Class::Unknown => self.warmup.unknown += 1,
                Class::Unsent => self.warmup.unsent += 1,
            }
        }
    }

    fn hand_on(&mut self, progress: &mut (impl FnMut(&Progress) + Send)) -> Result<(), ScribeGone> {
        self.scribe.events(self.shared.history.take())?;
        for interval in self.recorder.close_intervals(self.noticed_until) {
            self.scribe.interval(interval)?;
        }
        progress(&self.report());
        Ok(())
    }

    fn report(&mut self) -> Progress {
        let counts = self.recorder.counts();
        let now = Instant::now();
        let (then, ok_then) = std::mem::replace(&mut self.reported, (now, counts.ok));
        let seconds = now.saturating_duration_since(then).as_secs_f64().max(1e-9);
        let begins = self.shared.clock.instant_of(self.begins);
        Progress {
            elapsed: now.saturating_duration_since(begins),
            total: self.config.warmup + self.config.duration,
            planned: self.recorder.planned_so_far(),
            counts,
            in_flight: self.tasks.len(),
            queued: self.backlog(),
            ok_per_second: (counts.ok - ok_then) as f64 / seconds,
        }
    }

    /// Ends what is still open as unknown, and what never started as unsent.
    async fn abandon_the_rest(&mut self) {
        self.cancel.send_replace(true);
        while let Some(finished) = self.tasks.join_next().await {
            self.collect_one(finished);
        }
        let now = self.shared.clock.now();
        let measured_from = self.measured_from();
        if let Source::Planned { noticed, started, .. } = &mut self.source {
            while started.taken() < noticed.taken() {
                let Some(arrival) = started.next() else { break };
                let planned = self.begins + arrival.at;
                if planned >= measured_from {
                    let operation = self.shared.workload.kind(arrival.number);
                    let function = operation.function();
                    let function = function.expect("the check before the run refuses operations without one");
                    self.recorder.unsent(function, planned, now);
                    self.queued += u64::from(arrival.number < self.crowded_below);
                } else {
                    self.warmup.unsent += 1;
                }
            }
        }
    }

    async fn output_error(self, trouble: ScribeGone) -> LoadError {
        match (self.scribe.finish().await, trouble) {
            (Err(error), _) => LoadError::Output(error),
            (Ok(_), ScribeGone::Behind) => LoadError::OutputBehind,
            (Ok(_), ScribeGone::Failed) => {
                LoadError::Output(std::io::Error::other("the writing thread ended early"))
            }
        }
    }

    async fn finish(
        mut self,
        progress: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<LoadOutcome, LoadError> {
        let ended = self.shared.clock.now();
        let cpu = self
            .cpu_before
            .zip(process_cpu())
            .map(|(before, after)| after.saturating_sub(before));
        progress(&self.report());
        let load_end = self.noticed_until.max(self.measured_from());
        let totals = self.recorder.finish(load_end, ended.max(load_end));
        let mut handed = self.scribe.events(self.shared.history.take());
        for interval in totals.histograms {
            handed = handed.and_then(|()| self.scribe.interval(interval));
        }
        let history = self.scribe.finish().await.map_err(LoadError::Output)?;
        if handed.is_err() {
            return Err(LoadError::OutputBehind);
        }
        let open_loop = self.config.arrivals.rate().is_some();
        let lateness = open_loop.then_some(totals.lateness);
        let waits = Waits {
            planned: totals.planned,
            waited: self.queued,
            unsent: totals.counts.unsent,
            stopped: self.stopped,
            max_in_flight: self.config.max_in_flight,
        };
        let verdict = judge(&Evidence {
            ok: totals.counts.ok,
            lateness: lateness.clone(),
            lateness_limit: self.config.lateness_limit,
            response_p50: totals.all.p50,
            cpu: cpu
                .zip(self.config.client_cores)
                .map(|(used, cores)| (used, ended - self.begins, cores)),
            waits: (open_loop && !self.config.waits_are_expected).then_some(waits),
        });
        let load = Load {
            kind: self.config.arrivals.kind(),
            rate: self.config.arrivals.rate().map(|rate| rate.as_f64()),
            planned: totals.planned,
            counts: totals.counts,
            operations: totals.operations,
            intervals: totals.intervals,
            verdict,
            redirects: totals.redirects,
            retries: totals.retries,
            client_cpu: cpu,
            longest_write_gap: self
                .config
                .workload
                .mix
                .writes()
                .then_some(totals.longest_write_gap),
            integrity_errors: totals.integrity_errors,
            ..Load::default()
        };
        Ok(LoadOutcome {
            load,
            workload: Arc::clone(&self.shared.workload),
            history,
            warmup: self.warmup,
            lateness,
            latency: totals.all,
            queued: self.queued,
            begins: self.begins,
            ended,
            stopped: self.stopped,
            next_process: self.processes.unused(),
        })
    }
}
