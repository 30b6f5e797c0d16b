//! The manifest of a chaos run.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use reports::record::{Machine, Manifest, NodeInfo, RunFolder, RunKind, SCHEMA_VERSION};
use reports::record::{binary_sha256, git_commit, rfc3339};

use super::RunOptions;
use crate::cluster::Cluster;
use crate::scenario::Scenario;

/// What is known before anything is started.
pub(super) fn begin(scenario: &Scenario, options: &RunOptions, folder: &RunFolder) -> Manifest {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let executable = std::env::current_exe().ok();
    Manifest {
        schema: SCHEMA_VERSION,
        kind: RunKind::Chaos,
        name: scenario.name.value.clone(),
        about: scenario.about.clone(),
        started_at: rfc3339(since_epoch.as_millis() as u64),
        duration: scenario.duration.0.as_nanos() as u64,
        seed: options.seed,
        command: options.command.clone(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: git_commit(Path::new(".")),
        binary_sha256: executable.and_then(|path| binary_sha256(&path).ok()),
        machine: Machine::probe(folder.path()),
        nodes: Vec::new(),
        configuration: serde_json::to_value(scenario).unwrap_or_default(),
        partial: true,
    }
}

/// The nodes and where clients reach them.
pub(super) fn nodes(cluster: &Cluster) -> Vec<NodeInfo> {
    let endpoints = cluster.client_endpoints();
    let node = |(node, endpoint): (&crate::cluster::NodeProcess, &String)| NodeInfo {
        id: node.name().to_owned(),
        endpoint: endpoint.clone(),
    };
    cluster.nodes().iter().zip(endpoints).map(node).collect()
}
