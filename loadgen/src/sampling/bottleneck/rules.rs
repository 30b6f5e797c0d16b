//! The rules one by one; see the parent for their order and thresholds.

use reports::record::{Bottleneck, BottleneckKind, FsyncUse, Nanos, ProcessRole, ProcessUse, Resources};

use super::{
    CPU_SHARE_MAX, Evidence, FSYNC_BUSY_SHARE, FSYNC_SHARE, FSYNCS_MIN, MACHINE_BUSY_SHARE,
    MAJOR_FAULTS_PER_SECOND, MEMORY_LEFT_SHARE, PLAN_MET_SHARE, ROUND_TRIP_SHARE, RUN_QUEUE_SHARE, SPAN_MIN,
    STEAL_SHARE, THREAD_SHARE, WAITED_SHARE_MAX,
};
use crate::clock::nanos;

/// Cores that other processes must have used to be named: below it lies the error of counting in ticks.
const OTHERS_MIN: f64 = 0.05;

type Rule = fn(&Resources, &Evidence) -> Option<Bottleneck>;

/// All of them, in the order in which they are asked.
pub(super) const ORDER: [Rule; 15] = [
    too_short,
    steal,
    machine_cpu,
    client_late,
    client_cpu,
    client_thread,
    server_thread,
    run_queue,
    memory_left,
    page_faults,
    fsync_of_write,
    fsync_busy,
    network,
    queue,
    nothing,
];

fn is(kind: BottleneckKind, sentence: impl Into<String>) -> Option<Bottleneck> {
    Some(Bottleneck {
        kind,
        sentence: sentence.into(),
    })
}

fn too_short(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    if resources.span >= nanos(SPAN_MIN) {
        return None;
    }
    let sampled = match resources.samples_taken {
        0 | 1 => "nothing was sampled".to_owned(),
        _ => format!("only {} were sampled", time(resources.span)),
    };
    is(BottleneckKind::Unknown, format!("not known: {sampled}"))
}

fn steal(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    let share = resources
        .machine
        .steal_share
        .filter(|share| *share > STEAL_SHARE)?;
    let text = format!(
        "steal: {} of the processors' time went to other guests of this host",
        percent(share)
    );
    is(BottleneckKind::Steal, text)
}

fn machine_cpu(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    let busy = resources
        .machine
        .busy_share
        .filter(|share| *share > MACHINE_BUSY_SHARE)?;
    let cores = resources.machine.cores?;
    let mut text = match cores {
        1 => format!("cpu: the one core of this machine was {} busy", percent(busy)),
        _ => format!(
            "cpu: the {cores} cores of this machine were {} busy",
            percent(busy)
        ),
    };
    let used = |role| {
        of_role(resources, role)
            .filter_map(|process| process.cores_used)
            .reduce(|a, b| a + b)
    };
    let (client, servers) = (used(ProcessRole::Client), used(ProcessRole::Server));
    // Steal is in none of these: the kernel counts it as busy, and nobody here had it.
    let unstolen = busy - resources.machine.steal_share.unwrap_or(0.0);
    let others = unstolen * f64::from(cores) - client.unwrap_or(0.0) - servers.unwrap_or(0.0);
    // Processes that were not seen are among the others, too.
    let others = (others >= OTHERS_MIN).then_some(others);
    let parts = [
        ("the client", client),
        ("the servers", servers),
        ("other processes", others),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(who, cores)| Some(format!("by {who} {:.2}", cores?)))
        .collect();
    if !parts.is_empty() {
        let whole = if cores == 1 { "it" } else { "them" };
        text += &format!(", {} of {whole}", parts.join(", "));
    }
    is(BottleneckKind::Cpu, text)
}

fn client_late(_: &Resources, evidence: &Evidence) -> Option<Bottleneck> {
    let limit = nanos(evidence.lateness_limit).max(evidence.response_p50? / 10);
    let late = evidence.lateness_p99.filter(|late| *late > limit)?;
    let text = format!(
        "client: it noticed 1 % of the arrivals more than {} late",
        time(late)
    );
    is(BottleneckKind::Client, text)
}

fn client_cpu(resources: &Resources, evidence: &Evidence) -> Option<Bottleneck> {
    let cores = f64::from(evidence.client_cores.filter(|cores| *cores > 0)?);
    let share = of_role(resources, ProcessRole::Client)
        .filter_map(|process| Some(process.cores_used? / cores))
        .reduce(f64::max)
        .filter(|share| *share > CPU_SHARE_MAX)?;
    let whose = if cores == 1.0 {
        "the core".to_owned()
    } else {
        format!("the {cores} cores")
    };
    let text = format!("client: it used {} of {whose} that it has", percent(share));
    is(BottleneckKind::Client, text)
}

fn client_thread(resources: &Resources, evidence: &Evidence) -> Option<Bottleneck> {
    // Where the process does other work too, its threads say nothing about the generator.
    evidence.client_cores?;
    let busiest = most(resources, ProcessRole::Client, |process| process.busiest_thread)?;
    (busiest.1 > THREAD_SHARE).then_some(())?;
    let text = format!("client: one of its threads used {} of a core", percent(busiest.1));
    is(BottleneckKind::Client, text)
}

fn server_thread(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    let (name, share) = most(resources, ProcessRole::Server, |process| process.busiest_thread)?;
    (share > THREAD_SHARE).then_some(())?;
    let text = format!("cpu: one thread of {name} used {} of a core", percent(share));
    is(BottleneckKind::Cpu, text)
}

fn run_queue(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    let (name, share) = most(resources, ProcessRole::Server, |process| process.run_queue_share)?;
    (share > RUN_QUEUE_SHARE).then_some(())?;
    let text = format!(
        "cpu: a thread of {name} waited {} of the time for a core",
        percent(share)
    );
    is(BottleneckKind::Cpu, text)
}

fn memory_left(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    let all = resources.machine.memory_bytes.filter(|bytes| *bytes > 0)?;
    let left = resources.machine.memory_available_min_bytes? as f64 / all as f64;
    (left < MEMORY_LEFT_SHARE).then_some(())?;
    let text = format!(
        "memory: at the lowest, {} of this machine's memory was available",
        percent(left)
    );
    is(BottleneckKind::Memory, text)
}

fn page_faults(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    let seconds = resources.span as f64 / 1e9;
    let (name, rate) = most(resources, ProcessRole::Server, |process| {
        Some(process.major_faults? as f64 / seconds)
    })?;
    (rate > MAJOR_FAULTS_PER_SECOND).then_some(())?;
    let text = format!("memory: {name} waited for the disk on {rate:.0} page faults a second");
    is(BottleneckKind::Memory, text)
}

fn fsync_of_write(resources: &Resources, evidence: &Evidence) -> Option<Bottleneck> {
    let write = evidence.write_p50.filter(|write| *write > 0)?;
    let fsync = of_majority(resources, |fsync| fsync.mean)?;
    (fsync as f64 >= write as f64 * FSYNC_SHARE).then_some(())?;
    let text = if fsync <= write {
        format!(
            "disk: an fsync takes {} of the {} that a write takes",
            time(fsync),
            time(write)
        )
    } else {
        // A mean against a median, and a write may share an fsync that has begun.
        format!("disk: an fsync takes {}, a write {}", time(fsync), time(write))
    };
    is(BottleneckKind::Disk, text)
}

fn fsync_busy(resources: &Resources, _: &Evidence) -> Option<Bottleneck> {
    let busy = of_majority(resources, |fsync| Some(fsync.total))?;
    let share = busy as f64 / resources.span as f64;
    (share > FSYNC_BUSY_SHARE).then_some(())?;
    let text = format!(
        "disk: the servers spent {} of the time in fsync",
        percent(share.min(1.0))
    );
    is(BottleneckKind::Disk, text)
}

fn network(_: &Resources, evidence: &Evidence) -> Option<Bottleneck> {
    let (trip, operation) = (
        evidence.round_trip?,
        evidence.service_p50.filter(|time| *time > 0)?,
    );
    (trip as f64 >= operation as f64 * ROUND_TRIP_SHARE).then_some(())?;
    let text = format!(
        "network: a round trip takes {} of the {} that an operation takes",
        time(trip.min(operation)),
        time(operation)
    );
    is(BottleneckKind::Network, text)
}

fn queue(resources: &Resources, evidence: &Evidence) -> Option<Bottleneck> {
    missing(resources, evidence).is_empty().then_some(())?;
    let what = not_taken(evidence)?;
    let text = format!("queue: {what}, although no core, disk, memory or network was near its limit");
    is(BottleneckKind::Queue, text)
}

fn nothing(resources: &Resources, evidence: &Evidence) -> Option<Bottleneck> {
    if not_taken(evidence).is_some() {
        return None;
    }
    let unseen = missing(resources, evidence);
    let open_loop = evidence.rate.is_some();
    let text = match (open_loop, unseen.is_empty()) {
        (true, true) => "nothing was near its limit: the plan asked for less than the store takes".into(),
        // What was asked for was given, whatever cannot be seen.
        (true, false) => format!(
            "nothing held the run back: the store took what the plan asked for (not known: {})",
            unseen.join("; ")
        ),
        (false, true) => {
            "nothing was near its limit: clients that wait for their answers asked for no more".into()
        }
        (false, false) => return None,
    };
    is(BottleneckKind::None, text)
}

/// What is said when no rule applies.
pub(super) fn not_known(resources: &Resources, evidence: &Evidence) -> Bottleneck {
    let sentence = format!("not known: {}", missing(resources, evidence).join("; "));
    Bottleneck {
        kind: BottleneckKind::Unknown,
        sentence,
    }
}

/// How the store took less than the plan asked for.
fn not_taken(evidence: &Evidence) -> Option<String> {
    let rate = evidence.rate?;
    if evidence.ok_per_second < rate * PLAN_MET_SHARE {
        return Some(format!(
            "the store answered {:.0} operations a second of the {rate:.0} that were planned",
            evidence.ok_per_second
        ));
    }
    let waited = evidence.waited.filter(|waited| waited.planned > 0)?;
    let share = waited.waited as f64 / waited.planned as f64;
    (share > WAITED_SHARE_MAX).then(|| format!("{} of the arrivals waited for a place", percent(share)))
}

/// What would have to be known to exclude everything.
fn missing(resources: &Resources, evidence: &Evidence) -> Vec<String> {
    let mut missing = Vec::new();
    let servers: Vec<&ProcessUse> = of_role(resources, ProcessRole::Server).collect();
    let names = |of: &dyn Fn(&ProcessUse) -> bool| -> Option<String> {
        let names: Vec<&str> = servers
            .iter()
            .filter(|server| of(server))
            .map(|server| server.name.as_str())
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    if servers.is_empty() {
        missing.push("no server was watched".into());
    }
    if let Some(names) = names(&|server| server.cpu.is_none()) {
        missing.push(format!("the CPU time of {names} could not be seen"));
    }
    // A server that was told of no write need not have synced anything.
    if let (Some(names), true) = (
        names(&|server| server.fsync.is_none()),
        evidence.write_p50.is_some(),
    ) {
        missing.push(format!("{names} did not tell how long an fsync takes"));
    }
    if resources.machine.busy_share.is_none() {
        missing.push("how busy this machine was could not be read".into());
    }
    if evidence.round_trip.is_none() {
        missing.push("no round trip was measured".into());
    }
    missing
}

fn of_role(resources: &Resources, role: ProcessRole) -> impl Iterator<Item = &ProcessUse> {
    resources
        .processes
        .iter()
        .filter(move |process| process.role == role)
}

/// The process of a side for which a number is largest.
fn most(
    resources: &Resources,
    role: ProcessRole,
    number: impl Fn(&ProcessUse) -> Option<f64>,
) -> Option<(&str, f64)> {
    of_role(resources, role)
        .filter_map(|process| Some((process.name.as_str(), number(process)?)))
        .reduce(|a, b| if b.1 > a.1 { b } else { a })
}

/// The number of the server that completes the fastest majority; of the fastest one where not all tell.
fn of_majority(resources: &Resources, number: fn(&FsyncUse) -> Option<Nanos>) -> Option<Nanos> {
    let servers = of_role(resources, ProcessRole::Server).count();
    let mut told: Vec<Nanos> = of_role(resources, ProcessRole::Server)
        .filter_map(|server| server.fsync.as_ref())
        .filter(|fsync| fsync.count >= FSYNCS_MIN)
        .filter_map(number)
        .collect();
    told.sort_unstable();
    let index = if told.len() == servers { servers / 2 } else { 0 };
    told.get(index).copied()
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// With two digits, or three before the point.
fn time(nanos: Nanos) -> String {
    let (unit, name) = match nanos {
        0..1_000 => (1.0, "ns"),
        1_000..1_000_000 => (1e3, "µs"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = nanos as f64 / unit;
    let decimals = usize::from(value < 9.95 && unit > 1.0);
    format!("{value:.decimals$} {name}")
}
