//! Faults on processes. Each is confirmed by the operating system before it counts as injected.

use reports::record::Evidence;

use crate::cluster::{Cluster, ClusterError};
use crate::watch::Watch;

pub(super) async fn kill(
    cluster: &mut Cluster,
    nodes: &[usize],
    watch: &Watch,
    evidence: &mut Vec<Evidence>,
) -> Result<(), ClusterError> {
    // Whom the cluster believed to lead, before anybody notices.
    let leader = watch.leader();
    for node in running(cluster, nodes, evidence) {
        let killed = cluster.node_mut(node).kill().await;
        watch.set_down(node, true);
        let pid = killed?;
        let led = if leader == Some(node) { ", which led," } else { "" };
        let what = format!(
            "process {pid} of {}{led} is gone by SIGKILL",
            cluster.nodes()[node].name()
        );
        evidence.push(shown(what));
    }
    Ok(())
}

pub(super) async fn stop(
    cluster: &mut Cluster,
    nodes: &[usize],
    watch: &Watch,
    evidence: &mut Vec<Evidence>,
) -> Result<(), ClusterError> {
    for node in running(cluster, nodes, evidence) {
        let stopped = cluster.node_mut(node).stop().await;
        watch.set_down(node, true);
        let pid = stopped?;
        let what = format!(
            "process {pid} of {} stopped in order on SIGTERM",
            cluster.nodes()[node].name()
        );
        evidence.push(shown(what));
    }
    Ok(())
}

pub(super) async fn pause(
    cluster: &mut Cluster,
    nodes: &[usize],
    evidence: &mut Vec<Evidence>,
) -> Result<(), ClusterError> {
    for node in running(cluster, nodes, evidence) {
        let pid = cluster.node_mut(node).pause().await?;
        let what = format!(
            "the system shows process {pid} of {} as stopped",
            cluster.nodes()[node].name()
        );
        evidence.push(shown(what));
    }
    Ok(())
}

/// Starts nodes again, all at once, and waits until each listens.
pub(super) async fn restart(
    cluster: &mut Cluster,
    nodes: &[usize],
    watch: &Watch,
    evidence: &mut Vec<Evidence>,
) -> Result<(), ClusterError> {
    let down: Vec<usize> = nodes
        .iter()
        .copied()
        .filter(|node| cluster.nodes()[*node].pid().is_none())
        .collect();
    for &node in &down {
        cluster.node_mut(node).start().await?;
    }
    for &node in &down {
        cluster.node_mut(node).ready().await?;
        watch.set_down(node, false);
        let process = &cluster.nodes()[node];
        let what = format!(
            "{} is back as process {}",
            process.name(),
            process.pid().unwrap_or_default()
        );
        evidence.push(shown(what));
    }
    Ok(())
}

pub(super) async fn resume(
    cluster: &mut Cluster,
    nodes: &[usize],
    evidence: &mut Vec<Evidence>,
) -> Result<(), ClusterError> {
    for &node in nodes {
        if cluster.nodes()[node].is_paused() {
            let pid = cluster.node_mut(node).resume().await?;
            let what = format!("process {pid} of {} goes on", cluster.nodes()[node].name());
            evidence.push(shown(what));
        }
    }
    Ok(())
}

fn shown(what: String) -> Evidence {
    Evidence {
        what,
        effective: true,
    }
}

/// Those of `nodes` that have a process; of the others it is noted that nothing was done to them.
fn running(cluster: &Cluster, nodes: &[usize], evidence: &mut Vec<Evidence>) -> Vec<usize> {
    let (running, absent): (Vec<usize>, Vec<usize>) = nodes
        .iter()
        .partition(|node| cluster.nodes()[**node].pid().is_some());
    evidence.extend(absent.iter().map(|node| Evidence {
        what: format!(
            "{} had no process at that moment; nothing was done to it",
            cluster.nodes()[*node].name()
        ),
        effective: false,
    }));
    running
}
