//! From everything a run has seen to its verdict.

use reports::record::{
    Check, CheckStatus, Evidence, FaultWindow, LoadVerdict, Manifest, Nanos, NodeSample, Outcome, Phase,
    RecordError, Role, RunFolder, Timeline, Verdict,
};

use super::drive::Seen;
use super::recovery::{self, AckedWrite};
use crate::checker::{self, Options};
use crate::scenario::{Action, LostWrites, PlannedFault, Scenario, Target};

/// Fewer acknowledged operations than this decide nothing, whatever the scenario asks for.
const ACKNOWLEDGED_MIN: u64 = 100;

/// Writes down what was seen, judges it, and writes that down too.
pub(super) fn judge(
    scenario: &Scenario,
    folder: &RunFolder,
    manifest: &mut Manifest,
    mut seen: Seen,
) -> Result<Verdict, RecordError> {
    let writes = recovery::acked_writes(&seen.events);
    let end = seen.load.ended;
    let plan = scenario.expand();
    recovery::measure(&mut seen.windows, &writes, &seen.samples, end);
    leaders_replaced(&mut seen.windows, &plan, &seen.samples);
    manifest.partial = seen.interrupted;
    manifest.duration = end.saturating_sub(seen.load.begins);
    folder.write_load(&seen.load.load)?;
    let timeline = Timeline {
        phases: phases(&seen.windows, seen.load.begins, end),
        faults: seen.windows.clone(),
        samples: seen.samples.clone(),
        final_reads_from: seen.final_reads_from,
    };
    folder.write_timeline(&timeline)?;

    let mut checks = history_checks(scenario, &seen);
    checks.extend(node_checks(scenario, manifest, &seen));
    if !seen.windows.is_empty() {
        checks.push(effective(&seen));
    }
    checks.push(traffic(scenario, &seen, &timeline.phases, &writes));
    if let Some(within) = scenario
        .checks
        .recovers_within
        .deadline()
        .filter(|_| !seen.interrupted && !seen.windows.is_empty())
    {
        let nodes: Vec<String> = manifest.nodes.iter().map(|node| node.id.clone()).collect();
        let storm = recovery::Storm {
            nodes: &nodes,
            windows: &seen.windows,
            plan: &plan,
        };
        checks.push(storm.check(&writes, within, end));
    }
    checks.extend(last_write(&seen));
    let mut verdict = checker::verdict(checks);
    // What the store broke stands, however the run ended; anything milder may only mean that it did not end as planned.
    if verdict.outcome < Outcome::Liveness && !seen.trouble.is_empty() {
        verdict.outcome = Outcome::Error;
        verdict.reason = seen.trouble.join("; ");
    }
    if verdict.outcome < Outcome::Error && seen.interrupted {
        verdict.outcome = Outcome::Interrupted;
        verdict.reason =
            "interrupted; everything was healed, and what was seen until then breaks no promise".to_owned();
    }
    if verdict.outcome == Outcome::Pass && !seen.still_listening.is_empty() {
        verdict.outcome = Outcome::Error;
        verdict.reason = format!("somebody still listens on {}", seen.still_listening.join(", "));
    }
    Ok(verdict)
}

/// Checks of what clients saw.
fn history_checks(scenario: &Scenario, seen: &Seen) -> Vec<Check> {
    let lost = scenario.checks.lost_writes == LostWrites::None;
    let options = Options {
        linearizable: scenario.checks.linearizable,
        final_reads_from: seen.final_reads_from.filter(|_| lost),
        ..Options::default()
    };
    let mut checks = checker::check_history(&seen.events, &options);
    let damaged = seen.load.load.integrity_errors + seen.final_integrity_errors;
    let (status, detail) = match damaged {
        0 => (
            CheckStatus::Pass,
            "every value read was intact and belonged to its key".to_owned(),
        ),
        _ => (
            CheckStatus::Violation,
            format!("{damaged} reads returned a value that nobody wrote to that key"),
        ),
    };
    checks.push(Check::new("integrity", status, detail));
    checks
}

/// Checks of what the nodes said and did.
fn node_checks(scenario: &Scenario, manifest: &Manifest, seen: &Seen) -> Vec<Check> {
    let mut checks = Vec::new();
    if scenario.checks.one_leader_per_term {
        checks.push(checker::one_leader_per_term(&seen.samples));
    }
    if manifest.nodes.len() > 1 {
        checks.push(checker::same_state(&seen.samples));
    }
    if let (Some(within), Some(from)) = (scenario.checks.converges.deadline(), seen.final_reads_from) {
        let nodes: Vec<String> = manifest.nodes.iter().map(|node| node.id.clone()).collect();
        checks.push(checker::converges(
            &seen.samples,
            &nodes,
            from,
            within.as_nanos() as Nanos,
        ));
    }
    let (status, detail) = match &seen.died[..] {
        [] => (CheckStatus::Pass, "no node ended without being told".to_owned()),
        died => (CheckStatus::Liveness, died.join("; ")),
    };
    checks.push(Check::new("no_crashes", status, detail));
    checks
}

/// A leader whose process ended cannot go on in its term: that another term began shows that it was one.
fn leaders_replaced(windows: &mut [FaultWindow], plan: &[PlannedFault], samples: &[NodeSample]) {
    for (window, fault) in windows.iter_mut().zip(plan) {
        if fault.target != Target::Leader || !matches!(fault.action, Action::Kill | Action::Stop) {
            continue;
        }
        let Some(injected) = window.injected else { continue };
        let leads = |sample: &&NodeSample| sample.role == Role::Leader;
        let before = samples
            .iter()
            .filter(leads)
            .filter(|sample| sample.time <= injected)
            .map(|sample| sample.term)
            .max();
        let mut after = samples
            .iter()
            .filter(leads)
            .filter(|sample| sample.time > injected);
        let later = after.find(|sample| Some(sample.term) > before);
        let what = match later {
            Some(leader) => format!("{} leads in term {} afterwards", leader.node, leader.term),
            None => "nobody was seen to lead a later term".to_owned(),
        };
        window.evidence.push(Evidence {
            what,
            effective: later.is_some(),
        });
    }
}

/// Whether every fault showed an effect: one that did nothing proves nothing.
fn effective(seen: &Seen) -> Check {
    let windows = &seen.windows;
    let mut idle = Vec::new();
    for window in windows {
        let contradicted = window.evidence.iter().find(|evidence| !evidence.effective);
        if window.injected.is_none() || window.healed.is_none() {
            idle.push(format!("{} was not carried through", window.label));
        } else if let Some(evidence) = contradicted {
            idle.push(format!("{}: {}", window.label, evidence.what));
        } else if window.evidence.is_empty() {
            idle.push(format!("{}: nothing shows that it did anything", window.label));
        }
    }
    match &idle[..] {
        [] => {
            let count = windows.len();
            let detail = format!("each of {count} faults took effect, measured, and was healed");
            Check::new("faults_effective", CheckStatus::Pass, detail)
        }
        idle => Check::new("faults_effective", CheckStatus::Inconclusive, idle.join("; ")),
    }
}

/// Whether there was enough traffic, and in every phase, to see anything.
fn traffic(scenario: &Scenario, seen: &Seen, phases: &[Phase], writes: &[AckedWrite]) -> Check {
    let counts = seen.load.load.counts;
    let wanted = scenario.checks.min_acknowledged.unwrap_or(ACKNOWLEDGED_MIN);
    let silent = phases.iter().filter(|phase| {
        let inside = |write: &&AckedWrite| (phase.start..=phase.end).contains(&write.acked);
        writes.iter().find(inside).is_none()
    });
    let silent: Vec<&str> = silent.map(|phase| phase.name.as_str()).collect();
    let limit = match &seen.load.load.verdict {
        LoadVerdict::GeneratorBound(why) => {
            format!("; the generator was at its limit ({why}), so latencies are too high")
        }
        _ => String::new(),
    };
    if counts.ok < wanted {
        let detail = format!("{} operations acknowledged, {wanted} are needed", counts.ok);
        return Check::new("traffic", CheckStatus::Inconclusive, detail);
    }
    if !silent.is_empty() {
        let detail = format!("no write was acknowledged {} the faults", silent.join(" and "));
        return Check::new("traffic", CheckStatus::Inconclusive, detail);
    }
    let detail = format!(
        "{} operations acknowledged, {} failed, {} unknown, {} not sent{limit}",
        counts.ok, counts.failed, counts.unknown, counts.unsent
    );
    Check::new("traffic", CheckStatus::Pass, detail)
}

fn last_write(seen: &Seen) -> Option<Check> {
    let (status, detail) = match seen.last_write? {
        true => (CheckStatus::Pass, "a write after everything was acknowledged"),
        false => (
            CheckStatus::Liveness,
            "with everything healed, no write was acknowledged any more",
        ),
    };
    Some(Check::new("serves_again", status, detail.to_owned()))
}

/// Before the first fault, until the last is healed, and after. Phases of no length are left out.
fn phases(windows: &[FaultWindow], begin: Nanos, end: Nanos) -> Vec<Phase> {
    let first = windows
        .iter()
        .map(|window| window.injecting)
        .min()
        .unwrap_or(end)
        .clamp(begin, end);
    let last = windows
        .iter()
        .filter_map(|window| window.healed)
        .max()
        .unwrap_or(end)
        .clamp(first, end);
    let edges = [
        ("before", begin, first),
        ("during", first, last),
        ("after", last, end),
    ];
    let phases = edges.into_iter().filter(|(_, start, end)| start < end);
    phases
        .map(|(name, start, end)| Phase {
            name: name.to_owned(),
            start,
            end,
        })
        .collect()
}
