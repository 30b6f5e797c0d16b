//! Faults on a running cluster: injected, proven, healed.
//!
//! A target such as `leader` is resolved when the fault is injected. Every fault records what shows that it took effect:
//! the old process is gone, a request through the link gets no answer, takes as long as it should, or is refused. What
//! cannot be shown is said, and makes the run inconclusive.

mod links;
mod probe;
mod process;
mod targets;

use std::collections::BTreeSet;
use std::time::Duration;

use loadgen::RunClock;
use reports::record::{Evidence, FaultWindow, Recovery};

use crate::cluster::{Cluster, ClusterError};
use crate::scenario::{Action, PlannedFault};
use crate::watch::Watch;

pub use targets::Dice;

/// The connections of probes are closed within this time.
const PROBES_CLOSE: Duration = Duration::from_millis(20);
/// The proof of a fault takes no longer than this, nor than half of the fault.
const PROOF_BUDGET: Duration = Duration::from_millis(1500);

/// Injects and heals the faults of one run, one after the other.
pub struct Injector {
    watch: Watch,
    clock: RunClock,
    dice: Dice,
    active: Vec<Active>,
    windows: Vec<FaultWindow>,
}

/// A fault in force.
struct Active {
    /// Its place in the plan.
    planned: usize,
    window: usize,
    action: Action,
    nodes: Vec<usize>,
    /// What was done to links, to be undone.
    links: Vec<links::Change>,
    /// The counters of those links right before.
    before: links::Snapshot,
    /// And when everything that this suite itself sent to prove the fault had passed.
    proven: links::Snapshot,
}

impl Injector {
    /// An injector whose choices follow from `dice`.
    pub fn new(watch: Watch, clock: RunClock, dice: Dice) -> Injector {
        Injector {
            watch,
            clock,
            dice,
            active: Vec::new(),
            windows: Vec::new(),
        }
    }

    /// Injects a fault. `planned` is its place in the plan, for [`Injector::heal`]. Says what was done to whom.
    pub async fn inject(
        &mut self,
        cluster: &mut Cluster,
        planned: usize,
        fault: &PlannedFault,
    ) -> Result<String, ClusterError> {
        let injecting = self.clock.now();
        let nodes = self
            .dice
            .resolve(fault.target, cluster.nodes(), &self.watch)
            .await;
        let names: Vec<String> = nodes
            .iter()
            .map(|node| cluster.nodes()[*node].name().to_owned())
            .collect();
        let window = self.windows.len();
        self.windows.push(FaultWindow {
            kind: fault.action.name().to_owned(),
            label: label(fault, &names),
            targets: names,
            injecting,
            injected: None,
            healing: None,
            healed: None,
            evidence: Vec::new(),
            recovery: Recovery::default(),
        });
        if nodes.is_empty() {
            let what = format!(
                "no node could be found that is {}; nothing was done",
                fault.target
            );
            self.windows[window].evidence.push(Evidence {
                what,
                effective: false,
            });
            return Ok(self.windows[window].label.clone());
        }
        let mut active = Active {
            planned,
            window,
            action: fault.action,
            nodes,
            links: Vec::new(),
            before: links::Snapshot::default(),
            proven: links::Snapshot::default(),
        };
        let result = self.apply(cluster, &mut active).await;
        self.windows[window].injected = result.is_ok().then(|| self.clock.now());
        // Also after a failure: what was done half must be undone.
        let number = self.active.len();
        self.active.push(active);
        result?;
        self.prove(cluster, number, fault.length).await;
        Ok(self.windows[window].label.clone())
    }

    async fn apply(&mut self, cluster: &mut Cluster, active: &mut Active) -> Result<(), ClusterError> {
        let evidence = &mut self.windows[active.window].evidence;
        match active.action {
            Action::Kill => process::kill(cluster, &active.nodes, &self.watch, evidence).await,
            Action::Stop => process::stop(cluster, &active.nodes, &self.watch, evidence).await,
            Action::Pause => process::pause(cluster, &active.nodes, evidence).await,
            Action::Partition { .. } | Action::Latency { .. } | Action::Bandwidth { .. } => {
                let changes = links::changes(cluster, active.planned, active.action, &active.nodes);
                active.before = links::Snapshot::take(cluster, &changes).await;
                for change in changes {
                    // Noted first: a change that fails half-way is healed like one that did not.
                    active.links.push(change);
                    let change = active.links.last().expect("it was just pushed");
                    let others = self.active.iter().flat_map(|other| &other.links);
                    change.apply(cluster.proxy(), others).await?;
                }
                Ok(())
            }
        }
    }

    /// Looks for the effect of a fault on links. Faults on processes have proven theirs already.
    async fn prove(&mut self, cluster: &Cluster, active: usize, length: Duration) {
        let others = self.active[..active].iter().flat_map(|other| &other.links);
        let taken: BTreeSet<String> = others.map(|change| change.link.clone()).collect();
        let active = &mut self.active[active];
        if !active.links.is_empty() {
            let budget = (length / 2).min(PROOF_BUDGET);
            let found = probe::effects(cluster, active.action, &active.links, &taken, budget).await;
            self.windows[active.window].evidence.extend(found);
            // What the probes' connections still say when they close is not the cluster's own traffic.
            tokio::time::sleep(PROBES_CLOSE).await;
            active.proven = links::Snapshot::take(cluster, &active.links).await;
        }
    }

    /// Ends a fault, and says which it was. One that was not injected, or has been healed, is healed already.
    pub async fn heal(
        &mut self,
        cluster: &mut Cluster,
        planned: usize,
    ) -> Result<Option<String>, ClusterError> {
        let Some(at) = self.active.iter().position(|active| active.planned == planned) else {
            return Ok(None);
        };
        let active = self.active.remove(at);
        self.windows[active.window].healing = Some(self.clock.now());
        let evidence = &mut self.windows[active.window].evidence;
        match active.action {
            Action::Kill | Action::Stop => {
                process::restart(cluster, &active.nodes, &self.watch, evidence).await?;
            }
            Action::Pause => process::resume(cluster, &active.nodes, evidence).await?,
            Action::Partition { .. } | Action::Latency { .. } | Action::Bandwidth { .. } => {
                evidence.extend(
                    active
                        .proven
                        .difference(&active.before, cluster, active.action)
                        .await,
                );
                for change in active.links.iter().rev() {
                    let others = self.active.iter().flat_map(|other| &other.links);
                    change.undo(cluster.proxy(), others).await?;
                }
            }
        }
        self.windows[active.window].healed = Some(self.clock.now());
        Ok(Some(self.windows[active.window].label.clone()))
    }

    /// When a fault that is in force was confirmed.
    pub fn injected_at(&self, planned: usize) -> Option<reports::record::Nanos> {
        let active = self.active.iter().find(|active| active.planned == planned)?;
        self.windows[active.window].injected
    }

    /// Ends whatever is still in force. Goes on after a failure, and returns the first.
    pub async fn heal_all(&mut self, cluster: &mut Cluster) -> Result<(), ClusterError> {
        let mut result = Ok(());
        while let Some(planned) = self.active.last().map(|active| active.planned) {
            result = result.and(self.heal(cluster, planned).await.map(drop));
        }
        result
    }

    /// What was injected, in order.
    pub fn into_windows(self) -> Vec<FaultWindow> {
        self.windows
    }
}

/// One line for people: the plan with the targets as they turned out.
fn label(fault: &PlannedFault, names: &[String]) -> String {
    let targets = names.join(" ");
    let asked = fault.target.to_string();
    let whom = if asked == targets {
        targets
    } else {
        format!("{asked} {targets}")
    };
    match fault.action {
        Action::Kill | Action::Stop | Action::Pause => format!("{} {whom}", fault.action.name()),
        Action::Partition { shape, mode } => format!("{shape} {whom} ({mode})"),
        Action::Latency { delay, jitter } if jitter.is_zero() => format!("latency {whom} {delay:?}"),
        Action::Latency { delay, jitter } => format!("latency {whom} {delay:?} ± {jitter:?}"),
        Action::Bandwidth { bytes_per_second } => {
            format!("bandwidth {whom} {} kB/s", bytes_per_second / 1000)
        }
    }
}
