//! The faults of a run, each in its time, and the nodes looked after meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use loadgen::RunClock;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::RunEvent;
use super::drive::wait_for;
use crate::cluster::{Cluster, ClusterError, Link};
use crate::fault::Injector;
use crate::proxy::{FaultProxy, ProxyError};
use crate::scenario::PlannedFault;
use crate::watch::Watch;

/// So often it is looked whether a node has died by itself.
const PATROL_EVERY: Duration = Duration::from_millis(100);

/// When, whether to inject or to heal, and which fault of the plan. In this order: where one fault ends as another begins,
/// the end comes first.
type Step = (Duration, bool, usize);

/// The faults of a run and what comes of them.
pub(super) struct Storm<'a> {
    pub(super) injector: Injector,
    watch: &'a Watch,
    pub(super) died: Vec<String>,
    pub(super) trouble: Vec<String>,
}

impl Storm<'_> {
    /// Nothing has happened yet.
    pub(super) fn new(injector: Injector, watch: &Watch) -> Storm<'_> {
        Storm {
            injector,
            watch,
            died: Vec::new(),
            trouble: Vec::new(),
        }
    }

    /// Injects and heals everything in the plan, each at its time after `begin`.
    pub(super) async fn rage(
        &mut self,
        cluster: &mut Cluster,
        plan: &[PlannedFault],
        begin: Instant,
        interrupt: &mut watch::Receiver<bool>,
        clock: RunClock,
        on_event: &(dyn Fn(RunEvent) + Send + Sync),
    ) {
        let mut steps: BTreeSet<Step> = plan
            .iter()
            .enumerate()
            .map(|(number, fault)| (fault.at, true, number))
            .collect();
        while let Some((at, inject, number)) = steps.pop_first() {
            if !self.wait_until(begin + at, cluster, interrupt).await {
                return;
            }
            let fault = &plan[number];
            let mut when = clock.now();
            let (done, result) = if inject {
                let result = self.injector.inject(cluster, number, fault).await;
                when = self.injector.injected_at(number).unwrap_or(when);
                // An injection may have had to wait for a leader, or for its proof: the fault still lasts as long as asked.
                let injected = self
                    .injector
                    .injected_at(number)
                    .map_or(begin, |at| clock.instant_of(at).into());
                let end = (injected + fault.length)
                    .saturating_duration_since(begin)
                    .max(fault.end());
                steps.insert((end, false, number));
                ("injected", result.map(Some))
            } else {
                ("healed", self.injector.heal(cluster, number).await)
            };
            let what = match result {
                Ok(Some(label)) => format!("{done}: {label}"),
                Ok(None) => continue,
                Err(error) => {
                    let what = format!("could not be {done}: {fault}: {error}");
                    self.file(error, &what);
                    what
                }
            };
            on_event(RunEvent::Fault { at: when, what });
        }
    }

    /// Waits, and looks after the nodes meanwhile. False if somebody wants the run to end.
    async fn wait_until(
        &mut self,
        time: Instant,
        cluster: &mut Cluster,
        interrupt: &mut watch::Receiver<bool>,
    ) -> bool {
        loop {
            let patrol = Instant::now() + PATROL_EVERY;
            tokio::select! {
                () = sleep_until(time.min(patrol)) => {}
                _ = wait_for(interrupt) => return false,
            }
            self.patrol(cluster);
            if Instant::now() >= time {
                return true;
            }
        }
    }

    /// Tells a node that failed its users from surroundings that failed the run.
    fn file(&mut self, error: ClusterError, what: &str) {
        match error.is_crash() {
            true => self.died.push(error.to_string()),
            false => self.trouble.push(what.to_owned()),
        }
    }

    /// Notices nodes that have ended without being told.
    pub(super) fn patrol(&mut self, cluster: &mut Cluster) {
        for node in 0..cluster.nodes().len() {
            if let Some(crash) = cluster.node_mut(node).ended_by_itself() {
                self.watch.set_down(node, true);
                self.died.push(crash.to_string());
            }
        }
    }

    /// Heals whatever is still in force.
    pub(super) async fn calm(&mut self, cluster: &mut Cluster) {
        if let Err(error) = self.injector.heal_all(cluster).await {
            let what = format!("not everything could be healed: {error}");
            self.file(error, &what);
        }
        if let Err(error) = cluster.proxy().reset_links(cluster.links()).await {
            self.trouble
                .push(format!("the links could not be reset: {error}"));
        }
        self.patrol(cluster);
    }
}

impl FaultProxy {
    /// Makes every link whole again, whatever was done to it.
    async fn reset_links(&self, links: &[Link]) -> Result<(), ProxyError> {
        for link in links {
            self.reset(&link.name).await?;
        }
        Ok(())
    }
}
