//! What the story of a run in a few lines says of its load.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;

use common::ten_minutes;
use reports::record::{
    Confidence, Counts, LoadPhase, LoadVerdict, LoopKind, Operation, OutcomeKind, OutcomeLoad, Percentiles,
    Run,
};
use reports::{summary, summary_json};

const S: u64 = 1_000_000_000;

/// Ten seconds of load, of 589 planned operations, with five more in which the last ones were waited for.
fn load() -> Run {
    let mut run = ten_minutes();
    (run.timeline, run.verdict) = (None, None);
    let load = run.load.as_mut().unwrap();
    load.rate = Some(50.0);
    load.planned = 589;
    load.counts = Counts {
        ok: 589,
        ..Counts::default()
    };
    load.ok_in_time = Some(400);
    load.phases = vec![LoadPhase {
        name: "steady".into(),
        start: 2 * S,
        end: 12 * S,
    }];
    load.intervals.truncate(17);
    load.operations.remove(&Operation::Put);
    let get = load.operations.get_mut(&Operation::Get).unwrap();
    get.counts = load.counts;
    get.scheduled = get.response.clone();
    run
}

#[test]
fn throughput_is_what_was_answered_and_planned_while_the_load_lasted() {
    let mut run = load();
    assert!(
        summary(&run).contains("load: 40.0/s ok of 58.9/s offered; 589 ok"),
        "{}",
        summary(&run)
    );
    let json = summary_json(&run);
    assert_eq!(json["load"]["ok_rate"], 40.0);
    assert_eq!(json["load"]["offered_rate"], 58.9);
    // Waiting longer for nothing changes nothing.
    run.load.as_mut().unwrap().intervals.truncate(10);
    assert_eq!(summary_json(&run)["load"]["ok_rate"], 40.0);
}

#[test]
fn reads_of_nothing_are_told_and_warned_of_where_nothing_was_written() {
    let mut run = load();
    assert!(!summary(&run).contains("found nothing"));
    assert!(summary_json(&run)["load"]["reads_missed"].is_null());
    let get = run
        .load
        .as_mut()
        .unwrap()
        .operations
        .get_mut(&Operation::Get)
        .unwrap();
    get.outcomes = BTreeMap::from([(
        OutcomeKind::NotFound,
        OutcomeLoad {
            count: 588,
            latency: Percentiles::default(),
        },
    )]);
    assert!(summary(&run).contains("; 588 of 589 reads found nothing\n"));
    assert!(!summary(&run).contains("note:"));
    assert_eq!(summary_json(&run)["load"]["reads_missed"]["missed"], 588);
    for (preload, warned) in [(true, false), (false, true)] {
        run.manifest.as_mut().unwrap().configuration = serde_json::json!({ "load": { "preload": preload } });
        let text = summary(&run);
        assert_eq!(
            text.contains("note: 588 of 589 reads found nothing"),
            warned,
            "{text}"
        );
    }
}

#[test]
fn percentiles_that_are_infinite_or_hardly_known_are_marked() {
    let mut run = load();
    assert!(!summary(&run).contains("of all planned"));
    let get = run
        .load
        .as_mut()
        .unwrap()
        .operations
        .get_mut(&Operation::Get)
        .unwrap();
    get.scheduled = Some(Percentiles {
        count: 589,
        never: vec!["p99".into()],
        ..Percentiles::default()
    });
    let response = get.response.as_mut().unwrap();
    response.confidence = Some(Box::new(Confidence {
        effective_count: 42.3,
        p50: Some((1, 2)),
        ..Confidence::default()
    }));
    let text = summary(&run);
    assert!(text.contains("; of all planned p99 never\n"), "{text}");
    assert!(
        text.contains("(worth 42 independent values: no interval known)"),
        "{text}"
    );
    assert!(
        text.contains("p50 900 µs  p99 "),
        "the median has an interval: {text}"
    );
    let get = &summary_json(&run)["load"]["operations"]["get"];
    assert_eq!(get["scheduled"]["never"], serde_json::json!(["p99"]));
    assert_eq!(get["response"]["never"], serde_json::json!([]));
    assert_eq!(get["response"]["effective_count"], 42.3);
}

#[test]
fn verdicts_say_who_was_the_limit_and_claim_no_plan_where_there_is_none() {
    let mut run = load();
    assert!(summary(&run).starts_with("VALID") && summary(&run).contains("kept to its plan"));
    let load = run.load.as_mut().unwrap();
    load.verdict = LoadVerdict::Overloaded("many waited".into());
    assert!(
        summary(&run).starts_with("OVERLOADED  The store, not the generator, was the limit: many waited")
    );
    let load = run.load.as_mut().unwrap();
    load.verdict = LoadVerdict::Valid;
    load.kind = LoopKind::Closed;
    let text = summary(&run);
    assert!(text.starts_with("VALID") && !text.contains("plan"), "{text}");
    assert!(!text.contains("offered"), "{text}");
}
