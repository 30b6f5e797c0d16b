//! What the nodes said of themselves, held against what they promise.
//!
//! A sample is a look through a keyhole: what is not in one was not seen, and may have happened. So a pass here means
//! that nothing wrong was seen, and the number of looks is told with it.

use std::collections::{BTreeMap, HashMap};

use reports::record::{Check, CheckStatus, Nanos, NodeSample, Role};

use super::witness::seconds;

/// The check `one_leader_per_term`: no term has two leaders, and within the life of a process neither its term nor
/// its commit index ever goes back.
pub fn one_leader_per_term(samples: &[NodeSample]) -> Check {
    let samples = answers(samples);
    let mut leaders: BTreeMap<u64, &NodeSample> = BTreeMap::new();
    let mut last: HashMap<(&str, &str), &NodeSample> = HashMap::new();
    for sample in &samples {
        if sample.role == Role::Leader {
            let first = *leaders.entry(sample.term).or_insert(sample);
            if first.node != sample.node {
                let detail = format!(
                    "two leaders in term {}: {} at {} and {} at {}",
                    sample.term,
                    first.node,
                    seconds(first.time),
                    sample.node,
                    seconds(sample.time)
                );
                return Check::new("one_leader_per_term", CheckStatus::Violation, detail);
            }
        }
        let Some(incarnation) = &sample.incarnation else {
            continue;
        };
        if let Some(before) = last.insert((&sample.node, incarnation), sample)
            && let Some((what, from, to)) = went_back(before, sample)
        {
            let detail = format!(
                "{what} of {} went back from {from} at {} to {to} at {}",
                sample.node,
                seconds(before.time),
                seconds(sample.time)
            );
            return Check::new("one_leader_per_term", CheckStatus::Violation, detail);
        }
    }
    if leaders.is_empty() {
        let detail = format!("no node was seen leading in {} looks", samples.len());
        return Check::new("one_leader_per_term", CheckStatus::Inconclusive, detail);
    }
    let detail = format!(
        "{} looks, {} terms with a leader: never two in one, and no process went back",
        samples.len(),
        leaders.len()
    );
    Check::new("one_leader_per_term", CheckStatus::Pass, detail)
}

fn went_back(before: &NodeSample, after: &NodeSample) -> Option<(&'static str, u64, u64)> {
    let numbers = [
        ("the term", before.term, after.term),
        ("the commit index", before.commit, after.commit),
        ("the applied index", before.applied, after.applied),
    ];
    numbers.into_iter().find(|(_, from, to)| to < from)
}

/// The check `same_state`: whoever has applied as much has the same state.
pub fn same_state(samples: &[NodeSample]) -> Check {
    let samples = answers(samples);
    let mut first_at: HashMap<u64, &NodeSample> = HashMap::new();
    let mut compared = 0;
    for sample in samples.iter().filter(|sample| sample.digest.is_some()) {
        let first = *first_at.entry(sample.applied).or_insert(sample);
        compared += u64::from(first.node != sample.node);
        if first.digest != sample.digest {
            let detail = format!(
                "{} and {} differ after applying up to index {}: {} at {}, {} at {}",
                first.node,
                sample.node,
                sample.applied,
                first.digest.as_deref().unwrap_or_default(),
                seconds(first.time),
                sample.digest.as_deref().unwrap_or_default(),
                seconds(sample.time)
            );
            return Check::new("same_state", CheckStatus::Violation, detail);
        }
    }
    if compared == 0 {
        let detail = format!(
            "no two nodes were seen at the same applied index in {} looks",
            samples.len()
        );
        return Check::new("same_state", CheckStatus::Inconclusive, detail);
    }
    Check::new(
        "same_state",
        CheckStatus::Pass,
        format!("{compared} looks at equal indexes found equal states"),
    )
}

/// The check `converges`: after `from` (the end of the load) a moment comes, within `within`, at which every one of
/// `nodes` is up and all have applied the same, to the same state.
pub fn converges(samples: &[NodeSample], nodes: &[String], from: Nanos, within: Nanos) -> Check {
    let mut after: Vec<&NodeSample> = samples.iter().filter(|sample| sample.time >= from).collect();
    after.sort_by_key(|sample| sample.time);
    let deadline = from.saturating_add(within);
    // Agreeing on less than what was committed by then is forgetting together.
    let committed = samples
        .iter()
        .filter(|sample| sample.time <= from)
        .map(|sample| sample.commit)
        .max();
    let mut latest: BTreeMap<&str, &NodeSample> = BTreeMap::new();
    for sample in after.iter().filter(|sample| sample.time <= deadline) {
        latest.insert(&sample.node, sample);
        if sample.applied >= committed.unwrap_or(0) && agree(&latest, nodes) {
            let detail = format!(
                "all {} nodes had applied up to index {} to the same state {} after the load",
                nodes.len(),
                sample.applied,
                seconds(sample.time - from)
            );
            return Check::new("converges", CheckStatus::Pass, detail);
        }
    }
    let standing: Vec<String> = nodes
        .iter()
        .map(|node| standing(node, latest.get(node.as_str())))
        .collect();
    let (status, lead) = match after.last() {
        Some(last) if last.time >= deadline => {
            (CheckStatus::Liveness, format!("not within {}", seconds(within)))
        }
        _ => (
            CheckStatus::Inconclusive,
            String::from("the looks ended before the time was up"),
        ),
    };
    Check::new("converges", status, format!("{lead}: {}", standing.join(", ")))
}

fn agree(latest: &BTreeMap<&str, &NodeSample>, nodes: &[String]) -> bool {
    let mut states = nodes.iter().map(|node| {
        let sample = latest.get(node.as_str()).filter(|sample| is_answer(sample))?;
        Some((sample.applied, sample.digest.as_deref()?))
    });
    match states.next().flatten() {
        Some(first) => states.all(|state| state == Some(first)),
        None => false,
    }
}

fn standing(node: &str, sample: Option<&&NodeSample>) -> String {
    match sample {
        None => format!("{node} was not looked at"),
        Some(sample) if sample.role == Role::Down => format!("{node} is down"),
        Some(sample) if sample.role == Role::Unreachable => format!("{node} does not answer"),
        Some(sample) => {
            let digest = sample.digest.as_deref().unwrap_or("no digest");
            format!("{node} has applied {} ({digest})", sample.applied)
        }
    }
}

fn is_answer(sample: &NodeSample) -> bool {
    !matches!(sample.role, Role::Down | Role::Unreachable)
}

/// The samples that are a node's own word, oldest first.
fn answers(samples: &[NodeSample]) -> Vec<&NodeSample> {
    let mut answers: Vec<&NodeSample> = samples.iter().filter(|sample| is_answer(sample)).collect();
    answers.sort_by_key(|sample| sample.time);
    answers
}
