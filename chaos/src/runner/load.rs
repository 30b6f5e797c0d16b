//! From the workload of a scenario to the load generator's configuration.

use std::time::Duration;

use loadgen::{Arrivals, LoadConfig, Mix, Rate, WorkloadConfig};
use reports::record::Function;

use crate::scenario::{Pace, Scenario};

/// Lateness of the load itself up to this is small against what a fault does.
const LATENESS_LIMIT: Duration = Duration::from_millis(20);

pub(super) fn load_config(scenario: &Scenario, seed: u64) -> LoadConfig {
    let workload = &scenario.workload;
    let mix = workload.mix.value;
    let weights = [
        (Function::Write, mix.put),
        (Function::Read, mix.get),
        (Function::Cas, mix.cas),
        (Function::Delete, mix.delete),
    ];
    let clients = workload.clients.value as usize;
    let arrivals = match workload.pace() {
        Pace::Open(rate) => Arrivals::Poisson {
            rate: Rate::per_1000_seconds((rate * 1000.0) as u64),
        },
        Pace::Closed => Arrivals::Closed { clients },
    };
    LoadConfig {
        workload: WorkloadConfig {
            mix: Mix::new(weights).expect("a scenario with an empty mix was refused"),
            keys: u64::from(workload.keys.value),
            value_size: (workload.value_size.value as usize).into(),
            ..WorkloadConfig::default()
        },
        arrivals,
        duration: scenario.duration.0,
        timeout: workload.timeout.0,
        max_in_flight: clients.max(1),
        // A run takes turns with proxies and observers on its thread, and what it measures are outages of hundreds of
        // milliseconds, in which arrivals pile up because they are meant to.
        lateness_limit: LATENESS_LIMIT,
        waits_are_expected: true,
        seed,
        ..LoadConfig::default()
    }
}
