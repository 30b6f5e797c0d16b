//! What a scenario says that makes no sense, all of it at once.
//!
//! An error is something that cannot be done or cannot be meant. A warning is something that can be done, but probably
//! shows less than its author thinks.

use super::plan::INJECTIONS_MAX;
use super::{
    Action, Fault, Mode, Outage, Partition, Place, Placed, PlannedFault, Problem, Scenario, Severity, Shape,
    Span, Store, Target,
};

/// Everything that is wrong or suspicious, in the order of the file.
pub(super) fn problems(scenario: &Scenario) -> Vec<Problem> {
    let mut found = Vec::new();
    basics(scenario, &mut found);
    workload(scenario, &mut found);
    for fault in &scenario.faults {
        one_fault(scenario, fault, &mut found);
    }
    // What makes no sense by itself would only be repeated by what is said about the plan.
    let plan = scenario.expand();
    if !refused(&found) {
        ends(scenario, &plan, &mut found);
    }
    if !refused(&found) {
        overlaps(scenario, &plan, &mut found);
        time_to_recover(scenario, &plan, &mut found);
    }
    found.sort_by_key(|problem| problem.place);
    found
}

fn refused(found: &[Problem]) -> bool {
    found.iter().any(|problem| problem.severity == Severity::Error)
}

fn basics(scenario: &Scenario, found: &mut Vec<Problem>) {
    let name = &scenario.name;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(allowed) {
        let message = format!("`{}` cannot name a folder everywhere", name.value);
        let note = "allowed: lower-case letters, digits and hyphens";
        found.push(Problem::error(name.place(), message).note(note));
    }
    let nodes = &scenario.cluster.nodes;
    if !(1..=9).contains(&nodes.value) {
        found.push(
            Problem::error(nodes.place(), format!("a cluster of {} nodes", nodes.value))
                .note("allowed: 1 to 9"),
        );
    }
    let refusal = match scenario.cluster.target.value {
        Store::Raft => None,
        Store::Etcd => Some("etcd is not supported as a target yet"),
        Store::Command(_) => Some("a command of your own is not supported as a target yet"),
    };
    if let Some(message) = refusal {
        found.push(Problem::error(scenario.cluster.target.place(), message).note("allowed: raft"));
    }
    positive(&scenario.duration, "a run", found);
}

fn workload(scenario: &Scenario, found: &mut Vec<Problem>) {
    let workload = &scenario.workload;
    if workload.mix.total() == 0 {
        found.push(Problem::error(
            workload.mix.place(),
            "every weight is zero, so there is nothing to do",
        ));
    } else if workload.mix.get == 0 {
        found.push(
            Problem::warning(workload.mix.place(), "nothing is read before the end")
                .note("stale reads cannot be found; give `get` some weight"),
        );
    } else if workload.mix.put == 0 {
        let message = "without `put` every key stays absent, or is written only by what expects that";
        found.push(Problem::warning(workload.mix.place(), message));
    }
    for (count, what) in [(&workload.keys, "keys"), (&workload.clients, "clients")] {
        if count.value == 0 {
            found.push(Problem::error(
                count.place(),
                format!("no {what}, so there is nothing to do"),
            ));
        }
    }
    if !(16..=1_000_000).contains(&workload.value_size.value) {
        let message = format!("a value of {} bytes", workload.value_size.value);
        let note = "allowed: 16 to 1000000; every value carries who wrote it, so that no two are the same";
        found.push(Problem::error(workload.value_size.place(), message).note(note));
    }
    if let Some(rate) = &workload.rate {
        if workload.closed.value {
            let message = "a closed loop has no rate: the store's answers are its pace";
            found.push(Problem::error(rate.place(), message).note("leave out `rate`, or `closed`"));
        } else if !(rate.0 > 0.0 && rate.0 <= 1e6) {
            found.push(
                Problem::error(rate.place(), format!("a rate of {}", rate.value))
                    .note("allowed: up to 1000000/s"),
            );
        }
    }
    positive(&workload.timeout, "a timeout", found);
}

fn positive(span: &Placed<Span>, what: &str, found: &mut Vec<Problem>) {
    if span.0.is_zero() {
        found.push(Problem::error(span.place(), format!("{what} of no length")));
    }
}

fn one_fault(scenario: &Scenario, fault: &Placed<Fault>, found: &mut Vec<Problem>) {
    match &fault.value {
        Fault::Kill(Outage {
            target,
            length,
            every,
            times,
            ..
        })
        | Fault::Stop(Outage {
            target,
            length,
            every,
            times,
            ..
        })
        | Fault::Pause(Outage {
            target,
            length,
            every,
            times,
            ..
        }) => {
            repetition(scenario, length, every.as_ref(), times.as_ref(), found);
            aim(scenario, target, found);
        }
        Fault::RollingRestart(fault) => {
            positive(&fault.length, "a fault", found);
        }
        Fault::Partition(fault) => {
            repetition(
                scenario,
                &fault.length,
                fault.every.as_ref(),
                fault.times.as_ref(),
                found,
            );
            partition(scenario, fault, found);
        }
        Fault::Latency(fault) => {
            repetition(
                scenario,
                &fault.length,
                fault.every.as_ref(),
                fault.times.as_ref(),
                found,
            );
            aim(scenario, &fault.target, found);
            positive(&fault.delay, "a delay", found);
            if let Some(jitter) = fault.jitter.as_ref().filter(|jitter| jitter.0 > fault.delay.0) {
                let message = format!(
                    "a delay of {} ± {} would be negative at times",
                    fault.delay.value, jitter.value
                );
                found.push(Problem::error(jitter.place(), message).note("allowed: a jitter up to the delay"));
            }
        }
        Fault::Bandwidth(fault) => {
            repetition(
                scenario,
                &fault.length,
                fault.every.as_ref(),
                fault.times.as_ref(),
                found,
            );
            aim(scenario, &fault.target, found);
            // Links are narrowed in whole kilobytes a second.
            if fault.rate.0 < 1000 {
                let message = format!("{} is too narrow to be told from a cut", fault.rate.value);
                let note =
                    "allowed: 1KB/s and more; to hold everything back, use `partition` with `mode: jam`";
                found.push(Problem::error(fault.rate.place(), message).note(note));
            }
        }
    }
}

fn repetition(
    scenario: &Scenario,
    length: &Placed<Span>,
    every: Option<&Placed<Span>>,
    times: Option<&Placed<u32>>,
    found: &mut Vec<Problem>,
) {
    positive(length, "a fault", found);
    if let Some(every) = every
        && every.0 <= length.0
    {
        let message = format!(
            "the fault lasts {} and begins again every {}",
            length.value, every.value
        );
        found.push(
            Problem::error(every.place(), message).note("`every` counts from one beginning to the next"),
        );
    }
    if let Some(every) = every.filter(|every| !every.0.is_zero()) {
        let fitting = scenario.duration.0.as_nanos() / every.0.as_nanos();
        let count = times.map_or(fitting, |times| u128::from(times.value));
        if count > u128::from(INJECTIONS_MAX) {
            let note = format!("allowed: up to {INJECTIONS_MAX}");
            found.push(Problem::error(every.place(), format!("{count} injections of one fault")).note(note));
        }
    }
    if let Some(times) = times {
        if times.value == 0 {
            let message = "a fault that never happens";
            found.push(Problem::error(times.place(), message).note("leave the fault out"));
        } else if every.is_none() && times.value > 1 {
            let message = format!("{} times, but it is not said how far apart", times.value);
            found.push(Problem::error(times.place(), message).note("add `every`, for example `every: 6s`"));
        }
    }
}

/// Whether there is anybody to aim at.
fn aim(scenario: &Scenario, target: &Placed<Target>, found: &mut Vec<Problem>) {
    let nodes = scenario.cluster.nodes.value;
    let problem = match target.value {
        Target::Node(number) if u32::from(number) > nodes => {
            let message = format!("there is no {} in a cluster of {nodes}", target.value);
            let last = if nodes > 1 {
                format!("n1 to n{nodes}")
            } else {
                String::from("n1")
            };
            Problem::error(target.place(), message).note(format!("allowed: {last}, or a role"))
        }
        Target::Follower | Target::Minority if target.count(nodes as usize) == 0 => {
            let message = format!("a cluster of {nodes} has no {}", target.value);
            Problem::error(target.place(), message).note("add nodes, or aim at `all`")
        }
        _ => return,
    };
    found.push(problem);
}

fn partition(scenario: &Scenario, fault: &Partition, found: &mut Vec<Problem>) {
    let Partition {
        shape, mode, target, ..
    } = fault;
    if matches!(shape.value, Shape::Ring | Shape::Bridge | Shape::Chain) {
        let message = format!("the shape `{}` is not supported yet", shape.value);
        found.push(
            Problem::error(shape.place(), message).note("allowed: isolate, split, one-way, clients-only"),
        );
        return;
    }
    let between_nodes = shape.value != Shape::ClientsOnly;
    if between_nodes && scenario.cluster.nodes.value < 2 {
        let message = format!(
            "`{}` cuts links between nodes, and there is only one",
            shape.value
        );
        found.push(Problem::error(shape.place(), message).note("add nodes, or use `shape: clients-only`"));
        return;
    }
    let sides = matches!(target.value, Target::Minority | Target::Majority);
    let single = !sides && target.value != Target::All;
    match shape.value {
        Shape::Split if !sides => {
            let message = format!(
                "`split` parts a minority from a majority, not {} from the rest",
                target.value
            );
            let note = "allowed: `target: minority`, `target: majority`; for one node use `shape: isolate`";
            found.push(Problem::error(target.place().or(shape.place()), message).note(note));
        }
        Shape::Isolate | Shape::OneWay if !single => {
            let message = format!("`{}` is for a single node, not for {}", shape.value, target.value);
            let note = "allowed: leader, follower, random, or a node by name; for more use `shape: split`";
            found.push(Problem::error(target.place(), message).note(note));
        }
        _ => aim(scenario, target, found),
    }
    if shape.value == Shape::OneWay && mode.value == Mode::Refuse {
        let message = "a refused connection carries nothing in either direction";
        found.push(Problem::error(mode.place(), message).note("allowed with `one-way`: drop, jam"));
    }
}

/// A fault must be over when the run is: what is not healed under load shows nothing about healing.
fn ends(scenario: &Scenario, plan: &[PlannedFault], found: &mut Vec<Problem>) {
    let run = scenario.duration.value;
    for (index, fault) in scenario.faults.iter().enumerate() {
        let last = plan
            .iter()
            .filter(|planned| planned.fault == index)
            .max_by_key(|planned| planned.end());
        match last {
            Some(last) if last.end() > run.0 => {
                let which = match last.repetition {
                    0 => String::from("the fault"),
                    n => format!("the fault's injection no. {}", n + 1),
                };
                let message = format!("{which} ends at {}, but the run lasts {run}", Span(last.end()));
                found.push(Problem::error(at_of(fault).place(), message));
            }
            Some(_) => {}
            None => {
                let message = format!("the fault never fits into a run of {run}");
                found.push(Problem::error(at_of(fault).place(), message));
            }
        }
    }
}

fn at_of(fault: &Fault) -> &Placed<Span> {
    match fault {
        Fault::Kill(fault) | Fault::Stop(fault) | Fault::Pause(fault) => &fault.at,
        Fault::RollingRestart(fault) => &fault.at,
        Fault::Partition(fault) => &fault.at,
        Fault::Latency(fault) => &fault.at,
        Fault::Bandwidth(fault) => &fault.at,
    }
}

/// Faults that are in force together: some cannot be, and some leave nobody to make progress.
fn overlaps(scenario: &Scenario, plan: &[PlannedFault], found: &mut Vec<Problem>) {
    let nodes = scenario.cluster.nodes.value as usize;
    // One report for each pair of lines, however often they meet.
    let mut reported: Vec<(usize, usize)> = Vec::new();
    for (n, earlier) in plan.iter().enumerate() {
        let meets = |later: &&PlannedFault| later.at < earlier.end();
        for later in plan[n + 1..].iter().take_while(meets) {
            let pair = (earlier.fault, later.fault);
            if reported.contains(&pair) {
                continue;
            }
            if let Some(problem) = conflict(
                earlier,
                later,
                nodes,
                at_of(&scenario.faults[later.fault]).place(),
            ) {
                reported.push(pair);
                found.push(problem);
            }
        }
    }
}

fn conflict(
    earlier: &PlannedFault,
    later: &PlannedFault,
    nodes: usize,
    place: Option<Place>,
) -> Option<Problem> {
    if !earlier.is_outage() || !later.is_outage() {
        let clash =
            same_links(&earlier.action, &later.action) && surely_meet(earlier.target, later.target, nodes);
        return clash.then(|| {
            let message = format!("`{later}` meets `{earlier}` on the same links");
            Problem::error(place, message).note("let one end before the other begins")
        });
    }
    if surely_meet(earlier.target, later.target, nodes) {
        let message = format!("`{later}` needs a process that `{earlier}` has taken away");
        return Some(Problem::error(place, message).note("let one end before the other begins"));
    }
    let gone = (earlier.target.count(nodes) + later.target.count(nodes)).min(nodes);
    let each_leaves_majority = [earlier, later]
        .iter()
        .all(|fault| nodes - fault.target.count(nodes) > nodes / 2);
    (each_leaves_majority && nodes - gone <= nodes / 2).then(|| {
        let message = format!("`{later}` while `{earlier}` may leave no majority");
        Problem::warning(place, message).note("nothing can be acknowledged meanwhile")
    })
}

/// Whether two faults of one kind do the same to the same kind of links.
fn same_links(a: &Action, b: &Action) -> bool {
    match (a, b) {
        (Action::Partition { shape: a, .. }, Action::Partition { shape: b, .. }) => {
            (*a == Shape::ClientsOnly) == (*b == Shape::ClientsOnly)
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

/// Whether two targets have a node in common whatever they resolve to.
fn surely_meet(a: Target, b: Target, nodes: usize) -> bool {
    match (a, b) {
        (Target::Node(a), Target::Node(b)) => a == b,
        // A leader that is gone is followed by another one.
        (Target::Leader, Target::Leader) => nodes == 1,
        _ => a.count(nodes) + b.count(nodes) > nodes,
    }
}

/// A deadline that ends after the run cannot be missed in it, only met.
fn time_to_recover(scenario: &Scenario, plan: &[PlannedFault], found: &mut Vec<Problem>) {
    let Some(deadline) = scenario.checks.recovers_within.deadline() else {
        return;
    };
    let Some(last) = plan.iter().max_by_key(|fault| fault.end()) else {
        return;
    };
    let rest = scenario.duration.0.saturating_sub(last.end());
    if rest < deadline {
        let message = format!(
            "the run ends {} after the last fault, and recovery may take {}",
            Span(rest),
            Span(deadline)
        );
        found.push(
            Problem::warning(scenario.duration.place(), message)
                .note("a store that does not come back leaves the run undecided; make it longer, or the deadline shorter"),
        );
    }
}
