//! How fast a cluster came back after each fault, from what clients and nodes were seen to do.

use std::collections::HashMap;
use std::time::Duration;

use reports::record::{
    Check, CheckStatus, Event, EventKind, FaultWindow, Function, Nanos, NodeSample, Recovery, Role,
};

use crate::scenario::{Action, Mode, PlannedFault, Shape};

/// An acknowledged write: when it began and when it was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AckedWrite {
    pub(super) begun: Nanos,
    pub(super) acked: Nanos,
}

/// All acknowledged writes, in order of acknowledgement.
pub(super) fn acked_writes(events: &[Event]) -> Vec<AckedWrite> {
    let mut open: HashMap<u64, Nanos> = HashMap::new();
    let mut writes = Vec::new();
    for event in events {
        match event.kind {
            EventKind::Invoke => {
                open.insert(event.process, event.time);
            }
            EventKind::Ok if event.f != Function::Read => {
                if let Some(begun) = open.remove(&event.process) {
                    writes.push(AckedWrite {
                        begun,
                        acked: event.time,
                    });
                }
            }
            _ => {
                open.remove(&event.process);
            }
        }
    }
    writes.sort_by_key(|write| write.acked);
    writes
}

/// Fills in the recovery of every fault. `end` is the end of the load.
pub(super) fn measure(
    windows: &mut [FaultWindow],
    writes: &[AckedWrite],
    samples: &[NodeSample],
    end: Nanos,
) {
    let starts: Vec<Nanos> = windows.iter().map(|window| window.injecting).collect();
    for window in windows {
        // Confirmed: while processes are being killed one after the other, writes still go through.
        let from = window.injected.unwrap_or(window.injecting);
        // Until the next fault begins: what happens then belongs to that one.
        let until = starts
            .iter()
            .copied()
            .filter(|start| *start > from)
            .min()
            .unwrap_or(end)
            .min(end);
        window.recovery = Recovery {
            new_leader: new_leader(samples, from, until),
            first_write: first_write(writes, from).map(|at| at - from),
            converged: window
                .healed
                .and_then(|healed| converged(samples, healed).map(|at| at - healed)),
            longest_write_gap: longest_gap(writes, from, until),
        };
    }
}

/// The first acknowledgement, at or after `from`, of a write that also began then.
pub(super) fn first_write(writes: &[AckedWrite], from: Nanos) -> Option<Nanos> {
    writes
        .iter()
        .find(|write| write.begun >= from)
        .map(|write| write.acked)
}

/// Until another node than the one that led at `from` was seen to lead a later term.
fn new_leader(samples: &[NodeSample], from: Nanos, until: Nanos) -> Option<Nanos> {
    let leads = |sample: &&NodeSample| sample.role == Role::Leader;
    let old = samples
        .iter()
        .filter(leads)
        .filter(|sample| sample.time <= from)
        .max_by_key(|sample| sample.term)?;
    let mut later = samples
        .iter()
        .filter(leads)
        .filter(|sample| sample.time > from && sample.time <= until);
    later
        .find(|sample| sample.term > old.term && sample.node != old.node)
        .map(|sample| sample.time - from)
}

/// When every node had answered since `healed` and had applied what was committed by then.
fn converged(samples: &[NodeSample], healed: Nanos) -> Option<Nanos> {
    let committed = samples
        .iter()
        .filter(|sample| sample.time <= healed)
        .map(|sample| sample.commit)
        .max()?;
    let mut nodes: Vec<&str> = samples.iter().map(|sample| sample.node.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let caught_up = |node: &&str| {
        let mut after = samples
            .iter()
            .filter(|sample| sample.time >= healed && sample.node == **node);
        after
            .find(|sample| sample.digest.is_some() && sample.applied >= committed)
            .map(|sample| sample.time)
    };
    nodes
        .iter()
        .map(caught_up)
        .collect::<Option<Vec<_>>>()?
        .into_iter()
        .max()
}

/// The longest time in `from..until` without an acknowledgement.
fn longest_gap(writes: &[AckedWrite], from: Nanos, until: Nanos) -> Option<Nanos> {
    let inside = writes
        .iter()
        .map(|write| write.acked)
        .filter(|acked| (from..until).contains(acked));
    let mut before = from;
    let mut longest = 0;
    for acked in inside.chain([until]) {
        longest = longest.max(acked - before);
        before = acked;
    }
    (until > from).then_some(longest)
}

/// Whether a cluster of `nodes` must go on while the fault is in force: a majority runs, is connected among itself, and
/// can be reached.
fn must_go_on(fault: &PlannedFault, hit: usize, nodes: usize) -> bool {
    let minority = hit <= (nodes - 1) / 2;
    match fault.action {
        Action::Kill | Action::Stop | Action::Pause => minority,
        // Whoever is not hit stays connected.
        Action::Partition {
            shape: Shape::Isolate,
            ..
        } => minority,
        // One side of the cut has the majority, unless it goes through the middle.
        Action::Partition {
            shape: Shape::Split, ..
        } => 2 * hit != nodes,
        // Clients follow the leader, and can tell that one is out of reach only by silence.
        Action::Partition {
            shape: Shape::ClientsOnly,
            ..
        } => false,
        Action::Partition {
            mode: Mode::Jam | Mode::Drop | Mode::Refuse,
            ..
        } => minority,
        // Late is not lost, but elections may well fail while links are slow.
        Action::Latency { .. } | Action::Bandwidth { .. } => false,
    }
}

/// The check `recovers_within`: after each fault that leaves a working majority, and after the end of each that does
/// not, a write that began then is acknowledged in time.
pub(super) fn check(
    windows: &[FaultWindow],
    plan: &[PlannedFault],
    writes: &[AckedWrite],
    nodes: usize,
    within: Duration,
    end: Nanos,
) -> Check {
    let limit = within.as_nanos() as Nanos;
    let mut slowest: Option<(Nanos, &FaultWindow)> = None;
    let mut unseen = Vec::new();
    for (window, fault) in windows.iter().zip(plan) {
        let Some(from) = reference(window, fault, windows, plan, nodes) else {
            continue;
        };
        match first_write(writes, from) {
            Some(at) => {
                let took = at - from;
                if slowest.is_none_or(|(slowest, _)| took > slowest) {
                    slowest = Some((took, window));
                }
            }
            // The load ended before the time was up: nobody can tell.
            None if from + limit > end => unseen.push(window.label.as_str()),
            None => slowest = Some((end - from, window)),
        }
    }
    let seconds = |nanos: Nanos| format!("{:.2} s", nanos as f64 / 1e9);
    let (status, detail) = match slowest {
        Some((took, window)) if took > limit => {
            let detail = format!(
                "after {} at {} no new write was acknowledged for {}; {} are allowed",
                window.label,
                seconds(window.injecting),
                seconds(took),
                seconds(limit)
            );
            (CheckStatus::Liveness, detail)
        }
        _ if !unseen.is_empty() => {
            let detail = format!(
                "the load ended too soon after {}; let it run longer",
                unseen.join(", ")
            );
            (CheckStatus::Inconclusive, detail)
        }
        Some((took, window)) => {
            let detail = format!(
                "{} faults; the slowest recovery took {} of {} allowed, after {}",
                windows.len(),
                seconds(took),
                seconds(limit),
                window.label
            );
            (CheckStatus::Pass, detail)
        }
        None => (CheckStatus::Pass, "there was nothing to recover from".to_owned()),
    };
    Check {
        name: "recovers_within".to_owned(),
        status,
        detail,
        witness: None,
    }
}

/// From when on the cluster has to serve again: at once where it must go on, otherwise when the fault and every other one
/// that excuses it are over.
fn reference(
    window: &FaultWindow,
    fault: &PlannedFault,
    windows: &[FaultWindow],
    plan: &[PlannedFault],
    nodes: usize,
) -> Option<Nanos> {
    let injected = window.injected?;
    let mut from = if must_go_on(fault, window.targets.len(), nodes) {
        injected
    } else {
        window.healed?
    };
    // Another fault may excuse it meanwhile; ordered by injection, so one pass is enough.
    for (other, planned) in windows.iter().zip(plan) {
        if std::ptr::eq(other, window) || must_go_on(planned, other.targets.len(), nodes) {
            continue;
        }
        if let (Some(injected), Some(healed)) = (other.injected, other.healed)
            && injected <= from
            && from < healed
        {
            from = healed;
        }
    }
    Some(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Target;

    const SECOND: Nanos = 1_000_000_000;

    fn kill(hit: &[&str], at: Nanos, healed: Nanos) -> (FaultWindow, PlannedFault) {
        let window = FaultWindow {
            kind: "kill".into(),
            label: format!("kill {}", hit.join(" ")),
            targets: hit.iter().map(|name| (*name).to_owned()).collect(),
            injecting: at,
            injected: Some(at),
            healing: Some(healed),
            healed: Some(healed),
            evidence: Vec::new(),
            recovery: Recovery::default(),
        };
        let planned = PlannedFault {
            at: Duration::from_nanos(at),
            length: Duration::from_nanos(healed - at),
            action: Action::Kill,
            target: Target::Leader,
            fault: 0,
            repetition: 0,
        };
        (window, planned)
    }

    fn writes(acked: &[f64]) -> Vec<AckedWrite> {
        let nanos = |seconds: f64| (seconds * SECOND as f64) as Nanos;
        acked
            .iter()
            .map(|at| AckedWrite {
                begun: nanos(at - 0.01),
                acked: nanos(*at),
            })
            .collect()
    }

    fn judge(faults: &[(FaultWindow, PlannedFault)], acked: &[f64], end: Nanos) -> CheckStatus {
        let (windows, plan): (Vec<_>, Vec<_>) = faults.iter().cloned().unzip();
        check(&windows, &plan, &writes(acked), 3, Duration::from_secs(2), end).status
    }

    #[test]
    fn one_dead_node_of_three_excuses_nothing() {
        let fault = [kill(&["n1"], 5 * SECOND, 9 * SECOND)];
        assert_eq!(judge(&fault, &[4.9, 6.0], 20 * SECOND), CheckStatus::Pass);
        assert_eq!(judge(&fault, &[4.9, 9.5], 20 * SECOND), CheckStatus::Liveness);
        assert_eq!(
            judge(&fault, &[4.9], 20 * SECOND),
            CheckStatus::Liveness,
            "never again"
        );
    }

    #[test]
    fn a_dead_majority_excuses_until_it_is_back() {
        let fault = [kill(&["n1", "n2"], 5 * SECOND, 9 * SECOND)];
        assert_eq!(judge(&fault, &[4.9, 10.0], 20 * SECOND), CheckStatus::Pass);
        assert_eq!(judge(&fault, &[4.9, 12.0], 20 * SECOND), CheckStatus::Liveness);
    }

    #[test]
    fn a_write_that_began_before_the_fault_proves_nothing() {
        let fault = [kill(&["n1"], 5 * SECOND, 9 * SECOND)];
        let late = [AckedWrite {
            begun: 4 * SECOND,
            acked: 6 * SECOND,
        }];
        let (windows, plan): (Vec<_>, Vec<_>) = fault.iter().cloned().unzip();
        let check = check(&windows, &plan, &late, 3, Duration::from_secs(2), 20 * SECOND);
        assert_eq!(check.status, CheckStatus::Liveness);
    }

    #[test]
    fn a_load_that_ends_too_soon_cannot_tell() {
        let fault = [kill(&["n1"], 5 * SECOND, 9 * SECOND)];
        assert_eq!(judge(&fault, &[4.9], 6 * SECOND), CheckStatus::Inconclusive);
    }

    #[test]
    fn a_fault_inside_a_larger_one_is_excused_with_it() {
        let faults = [
            kill(&["n1", "n2", "n3"], 4 * SECOND, 9 * SECOND),
            kill(&["n1"], 5 * SECOND, 6 * SECOND),
        ];
        assert_eq!(judge(&faults, &[3.9, 10.0], 20 * SECOND), CheckStatus::Pass);
    }

    #[test]
    fn the_longest_gap_includes_the_edges() {
        assert_eq!(
            longest_gap(&writes(&[6.0, 6.5]), 5 * SECOND, 8 * SECOND),
            Some(SECOND + SECOND / 2)
        );
        assert_eq!(longest_gap(&[], 5 * SECOND, 8 * SECOND), Some(3 * SECOND));
    }
}
