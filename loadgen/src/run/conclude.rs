//! What a run came to: everything added up, and judged.

use std::sync::Arc;

use reports::record::{EndpointLoad, Interval, Load, LoadPhase, LoadVerdict, Nanos};

use super::driver::Driver;
use super::source::plan_length;
use super::{LoadError, LoadOutcome, Progress};
use crate::clock::nanos;
use crate::cpu::{machine_time, process_cpu, stolen};
use crate::recorder::{Ledger, Totals};
use crate::schedule::Arrivals;
use crate::scribe::ScribeGone;
use crate::verdict::{Evidence, Silence, Steadiness, Waits, judge, lateness_allowed};

/// CPU time is known to 10 ms, so over less than this it says nothing.
const CPU_SPAN_MIN: Nanos = 100_000_000;

impl Driver {
    pub(super) async fn output_error(self, trouble: ScribeGone) -> LoadError {
        match (self.scribe.finish([]).await, trouble) {
            (Err(error), _) => LoadError::Output(error),
            (Ok(_), ScribeGone::Behind) => LoadError::OutputBehind,
            (Ok(_), ScribeGone::Failed) => {
                LoadError::Output(std::io::Error::other("the writing thread ended early"))
            }
        }
    }

    pub(super) async fn finish(
        mut self,
        progress: &mut (impl FnMut(&Progress) + Send),
    ) -> Result<LoadOutcome, LoadError> {
        let ended = self.clock.now();
        let before = self.before.take();
        let cpu_before = before.as_ref().and_then(|before| before.cpu);
        let counted_from = before.as_ref().map_or(ended, |before| before.at);
        let since_before = |after: Option<Nanos>| {
            cpu_before
                .zip(after)
                .map(|(before, after)| after.saturating_sub(before))
        };
        let (cpu, cpu_of_plan) = (since_before(process_cpu()), since_before(self.cpu_at_plan_end));
        let mut last = self.report();
        let load_end = self.noticed_until.max(self.measured_from());
        let recorder = self.recorder.take();
        let mut totals = recorder.finish(load_end, ended.max(load_end));
        let reported = self.reported_slices.min(totals.intervals.len());
        last.closed.extend_from_slice(&totals.intervals[reported..]);
        last.interval = totals.intervals.last().cloned();
        progress(&last);
        let verdict = self.verdict(&totals, (cpu_of_plan, counted_from), load_end);
        let phases = self.phases(load_end);
        let open_loop = self.config.arrivals.is_open();
        let lateness = open_loop.then(|| totals.lag.pacer.clone());
        let handed = self.scribe.events(self.history.take());
        let rest = std::mem::take(&mut self.unwritten).into_iter();
        let rest = rest.chain(std::mem::take(&mut totals.histograms));
        let history = self.scribe.finish(rest).await.map_err(LoadError::Output)?;
        if handed.is_err() {
            return Err(LoadError::OutputBehind);
        }
        let endpoints = self.client.endpoint_loads();
        // Without the warm-up; where nothing was sent after it, nothing was asked.
        let endpoints = match before {
            Some(before) => difference(endpoints, &before.endpoints),
            None => difference(endpoints.clone(), &endpoints),
        };
        let (gap, since) = totals.longest_write_gap;
        let (from, to) = (self.clock.instant_of(since), self.clock.instant_of(since + gap));
        let writes = self.config.workload.mix.writes();
        let backoff = nanos(self.client.own_backoff(from, to));
        let latency = totals.all.clone();
        let longest_write_gap = totals.longest_write_gap;
        let write_gaps = match writes {
            true => std::mem::take(&mut totals.write_gaps),
            false => Vec::new(),
        };
        let lag = open_loop.then(|| totals.lag.clone());
        let (load, ledger) = load_and_ledger(totals);
        let load = Load {
            kind: self.config.arrivals.kind(),
            rate: self.config.arrivals.rate().map(|rate| rate.as_f64()),
            verdict,
            client_cpu: cpu,
            write_gaps,
            longest_write_gap: writes.then_some(longest_write_gap),
            own_backoff_in_gap: writes.then_some(backoff),
            lag,
            phases,
            attempts: endpoints.iter().map(|endpoint| endpoint.attempts).sum(),
            endpoints,
            ..load
        };
        Ok(LoadOutcome {
            load,
            workload: Arc::clone(&self.workload),
            history,
            warmup: self.warmup,
            lateness,
            latency,
            queued: self.queued,
            begins: self.begins,
            ended,
            stopped: self.stopped,
            aborted: self.aborted,
            next_process: self.processes.unused(),
            ledger,
        })
    }
}

impl Driver {
    /// `cpu` is what was used from then to the end of the plan.
    fn verdict(
        &self,
        totals: &Totals,
        (cpu, counted_from): (Option<Nanos>, Nanos),
        load_end: Nanos,
    ) -> LoadVerdict {
        let from = self.measured_from();
        let (length, began) = totals.longest_silence;
        let silence = Silence {
            length,
            from: began.saturating_sub(from),
            measured: load_end.saturating_sub(from),
        };
        let silence_counts = !self.config.waits_are_expected && !self.stopped;
        let limit = lateness_allowed(self.config.lateness_limit, totals.all.p50);
        let open_loop = self.config.arrivals.is_open();
        let lateness = open_loop.then(|| totals.lag.pacer.clone());
        let waits = Waits {
            planned: totals.planned,
            waited: self.queued,
            unsent: totals.counts.unsent,
            stopped: self.stopped,
            max_in_flight: self.config.max_in_flight,
        };
        judge(&Evidence {
            ok: totals.counts.ok,
            lateness,
            late: open_loop.then(|| totals.ledger.noticed_later_than(limit)),
            lateness_limit: self.config.lateness_limit,
            response_p50: totals.all.p50,
            cpu: cpu
                .zip(self.config.client_cores)
                .map(|(used, cores)| (used, load_end.saturating_sub(counted_from), cores))
                .filter(|(_, wall, _)| *wall >= CPU_SPAN_MIN),
            silence: silence_counts.then_some(silence),
            waits: (open_loop && !self.config.waits_are_expected).then_some(waits),
            steadiness: self.steadiness(totals),
        })
    }

    /// How steady it was, where that is a fair question.
    fn steadiness(&self, totals: &Totals) -> Option<Steadiness> {
        let rate = match &self.config.arrivals {
            Arrivals::Constant { rate } | Arrivals::Poisson { rate } => {
                Some(rate.as_f64() / self.config.share.unwrap_or_default().of as f64)
            }
            Arrivals::Closed { .. } => None,
            _ => return None,
        };
        if self.config.waits_are_expected || self.stopped {
            return None;
        }
        let load_end = self.begins + plan_length(&self.config);
        let inside = |slice: &&Interval| slice.end <= load_end;
        Some(Steadiness {
            slices: totals.intervals.iter().filter(inside).cloned().collect(),
            backlog: match rate {
                Some(_) => self.open_over_time.clone(),
                None => Vec::new(),
            },
            latency: totals.all.clone(),
            steal: self
                .machine_before
                .zip(machine_time())
                .and_then(|(before, after)| stolen(before, after)),
            rate,
        })
    }

    /// The phases of the plan on the run's clock, without the warm-up, as far as the run came.
    fn phases(&self, load_end: Nanos) -> Vec<LoadPhase> {
        let whole = self.config.warmup + self.config.duration;
        let phases = self.config.arrivals.phases(whole).into_iter();
        let from = self.measured_from();
        phases
            .map(|(name, start, end)| LoadPhase {
                name,
                start: (self.begins + start).max(from),
                end: (self.begins + end).min(load_end),
            })
            .filter(|phase| phase.start < phase.end)
            .collect()
    }
}

/// What the books alone know.
fn load_and_ledger(totals: Totals) -> (Load, Ledger) {
    let load = Load {
        planned: totals.planned,
        counts: totals.counts,
        ok_in_time: Some(totals.ok_in_time),
        operations: totals.summary.operations,
        total: Some(totals.summary.total),
        intervals: totals.intervals,
        terms: totals.terms,
        redirects: totals.redirects,
        retries: totals.retries,
        integrity_errors: totals.integrity_errors,
        ..Load::default()
    };
    (load, totals.ledger)
}

/// What endpoints were asked since then. Endpoints are only ever added. What was asked before and answered since counts as
/// answered.
fn difference(now: Vec<EndpointLoad>, before: &[EndpointLoad]) -> Vec<EndpointLoad> {
    let nothing = EndpointLoad::default();
    let one = |(number, now): (usize, EndpointLoad)| {
        let before = before.get(number).unwrap_or(&nothing);
        EndpointLoad {
            attempts: now.attempts - before.attempts,
            ok: now.ok - before.ok,
            redirects: now.redirects - before.redirects,
            retries: now.retries - before.retries,
            redirected_away: now.redirected_away - before.redirected_away,
            ..now
        }
    };
    now.into_iter().enumerate().map(one).collect()
}
