//! How fast a cluster came back after each fault, from what clients and nodes were seen to do.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use reports::record::{
    Check, CheckStatus, Event, EventKind, FaultWindow, Function, Nanos, NodeSample, Recovery, Role,
};

use crate::scenario::{Action, PlannedFault, Shape};

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

/// What was done to the cluster, for deciding when it had to serve.
pub(super) struct Storm<'a> {
    /// The names of all nodes.
    pub(super) nodes: &'a [String],
    /// What was injected.
    pub(super) windows: &'a [FaultWindow],
    /// What it was in the plan, in the same order.
    pub(super) plan: &'a [PlannedFault],
}

impl Storm<'_> {
    /// The check `recovers_within`: after each fault that leaves a working majority, and otherwise after the moment at
    /// which there is one again, a write that began then is acknowledged in time. `end` is the end of the load.
    pub(super) fn check(&self, writes: &[AckedWrite], within: Duration, end: Nanos) -> Check {
        let limit = within.as_nanos() as Nanos;
        let mut slowest: Option<(Nanos, &FaultWindow)> = None;
        let mut unseen = Vec::new();
        for window in self.windows {
            let Some(from) = self.must_serve_from(window, writes, limit) else {
                continue;
            };
            let took = match first_write(writes, from) {
                Some(at) => at - from,
                // The load ended before the time was up: nobody can tell.
                None if from.saturating_add(limit) > end => {
                    unseen.push(window.label.as_str());
                    continue;
                }
                None => end - from,
            };
            if slowest.is_none_or(|(slowest, _)| took > slowest) {
                slowest = Some((took, window));
            }
        }
        verdict(slowest, &unseen, self.windows.len(), limit)
    }

    /// From when on the cluster had to serve again after `window` was injected; nothing if it never could.
    fn must_serve_from(&self, window: &FaultWindow, writes: &[AckedWrite], limit: Nanos) -> Option<Nanos> {
        let mut from = window.injected?;
        loop {
            while !self.has_majority_at(from) {
                from = self
                    .in_force_at(from)
                    .filter_map(|(window, _)| window.healed)
                    .min()?;
            }
            // A later fault may take the majority away before the cluster has shown that it is back.
            let until = first_write(writes, from)
                .unwrap_or(Nanos::MAX)
                .min(from.saturating_add(limit));
            let later = self
                .windows
                .iter()
                .filter_map(|window| window.injected)
                .filter(|at| (from..=until).contains(at));
            match later.filter(|at| !self.has_majority_at(*at)).min() {
                Some(broken) => from = broken,
                None => return Some(from),
            }
        }
    }

    fn in_force_at(&self, time: Nanos) -> impl Iterator<Item = (&FaultWindow, &PlannedFault)> {
        let in_force = move |window: &FaultWindow| {
            window.injected.is_some_and(|injected| injected <= time)
                && window.healed.is_none_or(|healed| time < healed)
        };
        self.windows
            .iter()
            .zip(self.plan)
            .filter(move |(window, _)| in_force(window))
    }

    /// Whether a majority of the nodes can serve at that time, with everything in force taken together.
    fn has_majority_at(&self, time: Nanos) -> bool {
        let mut out = BTreeSet::new();
        for (window, fault) in self.in_force_at(time) {
            match self.impaired(window, fault) {
                Some(nodes) => out.extend(nodes),
                None => return false,
            }
        }
        2 * (self.nodes.len() - out.len()) > self.nodes.len()
    }

    /// Which nodes a fault keeps from serving; nothing if it excuses the whole cluster.
    fn impaired(&self, window: &FaultWindow, fault: &PlannedFault) -> Option<BTreeSet<&str>> {
        let hit: BTreeSet<&str> = self
            .nodes
            .iter()
            .map(String::as_str)
            .filter(|node| window.targets.iter().any(|hit| hit == node))
            .collect();
        match fault.action {
            // Clients follow the leader, and can tell that one is out of reach only by silence.
            Action::Partition {
                shape: Shape::ClientsOnly,
                ..
            } => None,
            // Late is not lost, but elections may well fail while links are slow.
            Action::Latency { .. } | Action::Bandwidth { .. } => None,
            // The smaller side of the cut.
            Action::Partition {
                shape: Shape::Split, ..
            } if 2 * hit.len() > self.nodes.len() => Some(
                self.nodes
                    .iter()
                    .map(String::as_str)
                    .filter(|node| !hit.contains(node))
                    .collect(),
            ),
            _ => Some(hit),
        }
    }
}

fn verdict(slowest: Option<(Nanos, &FaultWindow)>, unseen: &[&str], faults: usize, limit: Nanos) -> Check {
    let seconds = |nanos: Nanos| format!("{:.2} s", nanos as f64 / 1e9);
    let (status, detail) = match slowest {
        Some((took, window)) if took > limit => {
            let (label, at) = (&window.label, seconds(window.injecting));
            let (took, limit) = (seconds(took), seconds(limit));
            let detail = format!(
                "after {label} at {at} no new write was acknowledged for {took}; {limit} are allowed"
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
            let (label, took, limit) = (&window.label, seconds(took), seconds(limit));
            let detail = format!(
                "{faults} faults; counted from when a majority could serve, the slowest recovery took {took} of {limit} allowed, \
                 after {label}"
            );
            (CheckStatus::Pass, detail)
        }
        None => (CheckStatus::Pass, "there was nothing to recover from".to_owned()),
    };
    Check::new("recovers_within", status, detail)
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
        judge_writes(faults, &writes(acked), end)
    }

    fn judge_writes(
        faults: &[(FaultWindow, PlannedFault)],
        writes: &[AckedWrite],
        end: Nanos,
    ) -> CheckStatus {
        let (windows, plan): (Vec<_>, Vec<_>) = faults.iter().cloned().unzip();
        let nodes = ["n1", "n2", "n3"].map(str::to_owned);
        let storm = Storm {
            nodes: &nodes,
            windows: &windows,
            plan: &plan,
        };
        storm.check(writes, Duration::from_secs(2), end).status
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
        assert_eq!(judge_writes(&fault, &late, 20 * SECOND), CheckStatus::Liveness);
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
    fn faults_that_only_together_take_the_majority_excuse_together() {
        let faults = [
            kill(&["n1"], 4 * SECOND, 9 * SECOND),
            kill(&["n2"], 5 * SECOND, 10 * SECOND),
        ];
        assert_eq!(
            judge(&faults, &[3.9, 4.5, 9.5], 20 * SECOND),
            CheckStatus::Pass,
            "served again when n1 was back"
        );
        assert_eq!(
            judge(&faults, &[3.9, 9.5], 20 * SECOND),
            CheckStatus::Pass,
            "n2 fell before it could recover from n1"
        );
        assert_eq!(
            judge(&faults, &[3.9, 4.5, 12.0], 20 * SECOND),
            CheckStatus::Liveness
        );
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
