//! Every rule, and both sides of every threshold.

use reports::record::{
    BottleneckKind, Counts, FsyncUse, Lag, MachineUse, Operation, Percentiles, ProcessRole, ProcessUse,
};

use super::*;

const MS: Nanos = 1_000_000;
const S: Nanos = 1_000_000_000;

fn process(name: &str, role: ProcessRole) -> ProcessUse {
    ProcessUse {
        name: name.into(),
        role,
        cpu: Some(S),
        cores_used: Some(0.1),
        busiest_thread: Some(0.1),
        run_queue_share: Some(0.01),
        major_faults: Some(0),
        fsync: (role == ProcessRole::Server).then(|| fsync(MS, 1000)),
        ..ProcessUse::default()
    }
}

fn fsync(mean: Nanos, count: u64) -> FsyncUse {
    FsyncUse {
        count,
        total: mean * count,
        mean: Some(mean),
        ..FsyncUse::default()
    }
}

/// Ten seconds in which a client and three servers were bored.
fn bored() -> Resources {
    Resources {
        span: 10 * S,
        samples_taken: 11,
        processes: vec![
            process("loadgen", ProcessRole::Client),
            process("node1", ProcessRole::Server),
            process("node2", ProcessRole::Server),
            process("node3", ProcessRole::Server),
        ],
        machine: MachineUse {
            cores: Some(2),
            busy_share: Some(0.3),
            steal_share: Some(0.0),
            memory_bytes: Some(1000),
            memory_available_min_bytes: Some(600),
            ..MachineUse::default()
        },
        ..Resources::default()
    }
}

/// An open loop that was answered in full.
fn answered() -> Evidence {
    Evidence {
        rate: Some(1000.0),
        ok_per_second: 995.0,
        write_p50: Some(4 * MS),
        service_p50: Some(3 * MS),
        response_p50: Some(3 * MS),
        lateness_p99: Some(MS / 10),
        lateness_limit: crate::verdict::LATENESS_LIMIT,
        client_cores: Some(1),
        round_trip: Some(MS / 10),
        waited: Some(Waited {
            planned: 10_000,
            waited: 0,
        }),
    }
}

/// Changes the bored run, and asserts what is said of it.
fn check(change: impl FnOnce(&mut Resources, &mut Evidence), kind: BottleneckKind, sentence: &str) {
    let (mut resources, mut evidence) = (bored(), answered());
    change(&mut resources, &mut evidence);
    let said = bottleneck(&resources, &evidence);
    assert_eq!((said.kind, said.sentence.as_str()), (kind, sentence));
    assert_eq!(said, bottleneck(&resources, &evidence));
}

const BORED: &str = "nothing was near its limit: the plan asked for less than the store takes";

/// Asserts that a change is not enough for any rule.
fn still_bored(change: impl FnOnce(&mut Resources, &mut Evidence)) {
    check(change, BottleneckKind::None, BORED);
}

#[test]
fn a_run_that_was_answered_in_full_has_no_bottleneck() {
    still_bored(|_, _| {});
    still_bored(|_, evidence| evidence.ok_per_second = 950.0);
    check(
        |_, evidence| (evidence.rate, evidence.waited) = (None, None),
        BottleneckKind::None,
        "nothing was near its limit: clients that wait for their answers asked for no more",
    );
}

#[test]
fn too_little_was_sampled() {
    let said = bottleneck(&Resources::default(), &Evidence::default());
    assert_eq!(
        (said.kind, said.sentence.as_str()),
        (BottleneckKind::Unknown, "not known: nothing was sampled")
    );
    check(
        |resources, _| resources.span = S - MS,
        BottleneckKind::Unknown,
        "not known: only 999 ms were sampled",
    );
    still_bored(|resources, _| {
        resources.span = S;
        // A thousand fsyncs in that second would be another matter.
        resources
            .processes
            .iter_mut()
            .for_each(|process| process.fsync = process.fsync.take().map(|_| fsync(MS, 800)));
    });
}

#[test]
fn other_guests() {
    still_bored(|resources, _| resources.machine.steal_share = Some(STEAL_SHARE));
    check(
        |resources, _| resources.machine.steal_share = Some(0.071),
        BottleneckKind::Steal,
        "steal: 7 % of the processors' time went to other guests of this host",
    );
}

#[test]
fn the_whole_machine() {
    still_bored(|resources, _| resources.machine.busy_share = Some(MACHINE_BUSY_SHARE));
    check(
        |resources, _| {
            resources.machine.busy_share = Some(0.97);
            resources.processes[0].cores_used = Some(0.7);
            (1..4).for_each(|index| resources.processes[index].cores_used = Some(0.4));
        },
        BottleneckKind::Cpu,
        "cpu: the 2 cores of this machine were 97 % busy, by the client 0.70, by the servers 1.20 of them",
    );
    check(
        |resources, _| {
            resources.machine.busy_share = Some(1.0);
            resources.machine.steal_share = Some(0.04);
        },
        BottleneckKind::Cpu,
        "cpu: the 2 cores of this machine were 100 % busy, by the client 0.10, by the servers 0.30, by other processes \
         1.52 of them",
    );
    check(
        |resources, _| {
            resources.machine.busy_share = Some(0.97);
            resources.machine.cores = Some(1);
            resources.processes.clear();
        },
        BottleneckKind::Cpu,
        "cpu: the one core of this machine was 97 % busy, by other processes 0.97 of it",
    );
}

#[test]
fn the_client() {
    still_bored(|_, evidence| evidence.lateness_p99 = Some(MS));
    check(
        |_, evidence| evidence.lateness_p99 = Some(2 * MS),
        BottleneckKind::Client,
        "client: it noticed 1 % of the arrivals more than 2.0 ms late",
    );
    // A tenth of the median is allowed, too.
    still_bored(|_, evidence| (evidence.lateness_p99, evidence.response_p50) = (Some(2 * MS), Some(20 * MS)));
    still_bored(|resources, _| resources.processes[0].cores_used = Some(CPU_SHARE_MAX));
    check(
        |resources, _| resources.processes[0].cores_used = Some(0.85),
        BottleneckKind::Client,
        "client: it used 85 % of the core that it has",
    );
    check(
        |resources, evidence| {
            evidence.client_cores = Some(4);
            resources.processes[0].cores_used = Some(3.6);
        },
        BottleneckKind::Client,
        "client: it used 90 % of the 4 cores that it has",
    );
    check(
        |resources, evidence| {
            evidence.client_cores = Some(4);
            resources.processes[0].busiest_thread = Some(0.94);
        },
        BottleneckKind::Client,
        "client: one of its threads used 94 % of a core",
    );
    // The process does other work, too.
    still_bored(|resources, evidence| {
        evidence.client_cores = None;
        resources.processes[0].cores_used = Some(1.9);
        resources.processes[0].busiest_thread = Some(0.99);
    });
}

#[test]
fn the_cores_of_a_server() {
    still_bored(|resources, _| resources.processes[2].busiest_thread = Some(THREAD_SHARE));
    check(
        |resources, _| {
            resources.processes[1].busiest_thread = Some(0.91);
            resources.processes[2].busiest_thread = Some(0.98);
        },
        BottleneckKind::Cpu,
        "cpu: one thread of node2 used 98 % of a core",
    );
    still_bored(|resources, _| resources.processes[3].run_queue_share = Some(RUN_QUEUE_SHARE));
    check(
        |resources, _| resources.processes[3].run_queue_share = Some(0.35),
        BottleneckKind::Cpu,
        "cpu: a thread of node3 waited 35 % of the time for a core",
    );
}

#[test]
fn memory() {
    still_bored(|resources, _| resources.machine.memory_available_min_bytes = Some(50));
    check(
        |resources, _| resources.machine.memory_available_min_bytes = Some(30),
        BottleneckKind::Memory,
        "memory: at the lowest, 3 % of this machine's memory was available",
    );
    still_bored(|resources, _| resources.processes[1].major_faults = Some(1000));
    check(
        |resources, _| resources.processes[1].major_faults = Some(2500),
        BottleneckKind::Memory,
        "memory: node1 waited for the disk on 250 page faults a second",
    );
}

#[test]
fn the_disk_of_the_majority() {
    let set = |means: [Nanos; 3]| {
        move |resources: &mut Resources, evidence: &mut Evidence| {
            evidence.write_p50 = Some(3_900_000);
            for (process, mean) in resources.processes[1..].iter_mut().zip(means) {
                process.fsync = Some(fsync(mean, 100));
            }
        }
    };
    check(
        set([4_500_000, 3_100_000, 900_000]),
        BottleneckKind::Disk,
        "disk: an fsync takes 3.1 ms of the 3.9 ms that a write takes",
    );
    // One disk that is slow, or fast, is not the majority.
    still_bored(set([1_949_999, 1_000_000, 9_000_000]));
    check(
        set([1_950_000, 1_000_000, 9_000_000]),
        BottleneckKind::Disk,
        "disk: an fsync takes 1.9 ms of the 3.9 ms that a write takes",
    );
    check(
        set([5 * MS, 5 * MS, 5 * MS]),
        BottleneckKind::Disk,
        "disk: an fsync takes 5.0 ms, a write 3.9 ms",
    );
    // With reads alone there is no write to explain.
    still_bored(|resources, evidence| {
        set([5 * MS, 5 * MS, 5 * MS])(resources, evidence);
        evidence.write_p50 = None;
    });
    // Nine fsyncs are no mean.
    still_bored(|resources, evidence| {
        set([5 * MS, 5 * MS, 5 * MS])(resources, evidence);
        resources.processes[1..]
            .iter_mut()
            .for_each(|process| process.fsync = Some(fsync(5 * MS, 9)));
    });
}

#[test]
fn a_disk_that_is_never_idle() {
    let set = |count: u64| {
        move |resources: &mut Resources, evidence: &mut Evidence| {
            evidence.write_p50 = Some(20 * MS);
            resources.processes[1..]
                .iter_mut()
                .for_each(|process| process.fsync = Some(fsync(MS, count)));
        }
    };
    still_bored(set(9000));
    check(
        set(9400),
        BottleneckKind::Disk,
        "disk: the servers spent 94 % of the time in fsync",
    );
}

#[test]
fn one_server_of_three_that_tells_is_taken_for_what_it_says() {
    check(
        |resources, _| {
            resources.processes[1].fsync = Some(fsync(3 * MS, 100));
            resources.processes[2].fsync = None;
            resources.processes[3].fsync = None;
        },
        BottleneckKind::Disk,
        "disk: an fsync takes 3.0 ms of the 4.0 ms that a write takes",
    );
}

#[test]
fn the_network() {
    still_bored(|_, evidence| evidence.round_trip = Some(1_499_999));
    check(
        |_, evidence| evidence.round_trip = Some(1_500_000),
        BottleneckKind::Network,
        "network: a round trip takes 1.5 ms of the 3.0 ms that an operation takes",
    );
}

#[test]
fn a_queue_inside_the_store() {
    check(
        |_, evidence| evidence.ok_per_second = 900.0,
        BottleneckKind::Queue,
        "queue: the store answered 900 operations a second of the 1000 that were planned, although no core, disk, memory \
         or network was near its limit",
    );
    let waited = |waited| {
        Some(Waited {
            planned: 10_000,
            waited,
        })
    };
    still_bored(|_, evidence| evidence.waited = waited(100));
    check(
        |_, evidence| evidence.waited = waited(1200),
        BottleneckKind::Queue,
        "queue: 12 % of the arrivals waited for a place, although no core, disk, memory or network was near its limit",
    );
}

#[test]
fn what_was_not_seen_is_not_excluded() {
    check(
        |resources, evidence| {
            evidence.ok_per_second = 500.0;
            resources.processes[2].cpu = None;
            resources.processes[1].fsync = None;
            resources.processes[2].fsync = None;
        },
        BottleneckKind::Unknown,
        "not known: the CPU time of node2 could not be seen; node1, node2 did not tell how long an fsync takes",
    );
    check(
        |resources, evidence| {
            (evidence.rate, evidence.round_trip, evidence.write_p50) = (None, None, None);
            resources.machine.busy_share = None;
            resources.processes.truncate(1);
        },
        BottleneckKind::Unknown,
        "not known: no server was watched; how busy this machine was could not be read; no round trip was measured",
    );
    // What the plan asked for was given all the same.
    check(
        |_, evidence| evidence.round_trip = None,
        BottleneckKind::None,
        "nothing held the run back: the store took what the plan asked for (not known: no round trip was measured)",
    );
}

#[test]
fn the_cause_is_named_before_what_follows_from_it() {
    let all = |resources: &mut Resources, evidence: &mut Evidence| {
        resources.machine.steal_share = Some(0.5);
        resources.machine.busy_share = Some(1.0);
        resources.machine.memory_available_min_bytes = Some(1);
        resources.processes[0].cores_used = Some(1.0);
        resources.processes[1].busiest_thread = Some(1.0);
        resources.processes[1..]
            .iter_mut()
            .for_each(|process| process.fsync = Some(fsync(4 * MS, 100)));
        evidence.round_trip = Some(3 * MS);
        evidence.ok_per_second = 1.0;
    };
    let (mut resources, mut evidence) = (bored(), answered());
    all(&mut resources, &mut evidence);
    let mut order = Vec::new();
    for cure in 0..8 {
        order.push(bottleneck(&resources, &evidence).kind);
        match cure {
            0 => resources.machine.steal_share = Some(0.0),
            1 => resources.machine.busy_share = Some(0.5),
            2 => resources.processes[0].cores_used = Some(0.1),
            3 => resources.processes[1].busiest_thread = Some(0.1),
            4 => resources.machine.memory_available_min_bytes = Some(600),
            5 => resources.processes[1..]
                .iter_mut()
                .for_each(|process| process.fsync = Some(fsync(MS, 100))),
            _ => evidence.round_trip = Some(1),
        }
    }
    use BottleneckKind::*;
    assert_eq!(order, [Steal, Cpu, Client, Cpu, Memory, Disk, Network, Queue]);
}

#[test]
fn the_evidence_of_a_load_is_what_its_numbers_say() {
    let median = |p50| {
        Some(Percentiles {
            p50: Some(p50),
            p99: Some(p50 * 10),
            ..Percentiles::default()
        })
    };
    let operation = |ok, p50| OperationLoad {
        counts: Counts {
            ok,
            ..Counts::default()
        },
        service: median(p50),
        response: median(p50 + 1),
        ..OperationLoad::default()
    };
    let load = Load {
        rate: Some(500.0),
        counts: Counts {
            ok: 1000,
            failed: 50,
            ..Counts::default()
        },
        operations: [
            (Operation::Get, operation(900, MS)),
            (Operation::Put, operation(90, 4 * MS)),
            (Operation::Cas, operation(10, 9 * MS)),
        ]
        .into(),
        total: Some(operation(1000, 2 * MS)),
        lag: Some(Lag {
            total: Percentiles::default(),
            pacer: median(50_000).unwrap_or_default(),
            queue: Percentiles::default(),
        }),
        ..Load::default()
    };
    let expected = Evidence {
        rate: Some(500.0),
        ok_per_second: 500.0,
        write_p50: Some(4 * MS),
        service_p50: Some(2 * MS),
        response_p50: Some(2 * MS + 1),
        lateness_p99: Some(500_000),
        ..Evidence::default()
    };
    assert_eq!(Evidence::of_load(&load, Duration::from_secs(2)), expected);
    assert_eq!(
        Evidence::of_load(&Load::default(), Duration::ZERO),
        Evidence::default()
    );
}
