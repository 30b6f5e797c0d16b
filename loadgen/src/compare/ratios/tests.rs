//! Ratios whose truth is known, and files that must not be used.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::json;

use super::*;
use file::parse;

const P50: Metric = Metric::Latency(Measure::Service, 500);
const P99: Metric = Metric::Latency(Measure::Service, 990);

/// Trials with these throughputs in thousands, and everything else in proportion.
fn trials(thousands: &[f64]) -> Vec<Trial> {
    let trial = |k: &f64| Trial {
        metrics: [
            (Metric::Throughput, k * 1e3),
            (P50, 1e9 / k),
            (P99, 5e9 / k),
            (Metric::ServerCpu, 1e6 / k),
        ]
        .into(),
        ..Trial::default()
    };
    thousands.iter().map(trial).collect()
}

fn configuration(target: &str) -> Value {
    json!({
        "target": target,
        "connections": 2,
        "retries": null,
        "agents": [{"host": "far.example:1"}],
        "load": {
            "arrivals": {"closed": {"clients": 256}},
            "workload": {"value_size": 256, "mix": {"put": 1}, "key_prefix": "k1-"},
            "seed": 7,
            "duration": "10s",
            "client_cores": 1,
        },
    })
}

fn setup(target: &str, nodes: usize) -> Setup {
    Setup::of(&configuration(target), Some(nodes)).unwrap()
}

fn blank() -> Ratios {
    let raft = setup("raft://: 3 nodes on this machine; data on ext4", 3);
    Ratios::between(&raft, &setup("echo://10.0.0.1:7", 1)).unwrap()
}

fn measured(first: &[f64], second: &[f64]) -> Ratios {
    blank().measured(&trials(first), &trials(second))
}

/// Ratios of which only this one is there.
fn only(quantity: Metric, ratio: f64, low: f64, high: f64) -> Ratios {
    let ratio = Ratio {
        quantity,
        ratio,
        low,
        high,
        confidence: 0.95,
    };
    Ratios {
        ratios: vec![ratio],
        ..blank()
    }
}

fn verdict_of(quantity: Metric, recorded: f64, low: f64, high: f64) -> (RatioVerdict, RatiosVerdict) {
    let middle = (low + high) / 2.0;
    let (recorded, now) = (
        only(quantity, recorded, recorded, recorded),
        only(quantity, middle, low, high),
    );
    let judgement = judge(&recorded, &now, &[], &Quantity::GATES, 0.25);
    (judgement.ratios[0].verdict, judgement.verdict)
}

#[test]
fn a_ratio_is_the_first_targets_number_divided_by_the_seconds() {
    let ratios = measured(&[40.0, 41.0, 42.0, 43.0], &[80.0, 82.0, 84.0, 86.0]);
    let [throughput, p50, p99, cpu] = ratios.ratios[..] else {
        panic!("{ratios:?}")
    };
    assert_eq!(
        [throughput, p50, p99, cpu].map(|ratio| ratio.quantity),
        [Metric::Throughput, P50, P99, Metric::ServerCpu]
    );
    assert!((throughput.ratio - 0.5).abs() < 0.01, "{throughput:?}");
    for twice in [p50, p99, cpu] {
        assert!((twice.ratio - 2.0).abs() < 0.04, "{twice:?}");
        assert!(
            twice.low < 2.0 && twice.high > 2.0 && twice.confidence == 0.95,
            "{twice:?}"
        );
    }
    assert_eq!(ratios.trials, [4, 4]);
    assert_eq!(ratios.pair(), "raft / echo");
}

#[test]
fn few_trials_have_the_range_of_all_pairs_for_an_interval() {
    let ratios = measured(&[40.0, 41.0, 44.0], &[80.0, 84.0, 88.0]);
    let throughput = ratios.ratios[0];
    assert!((throughput.low - 40.0 / 88.0).abs() < 1e-9, "{throughput:?}");
    assert!((throughput.high - 44.0 / 80.0).abs() < 1e-9, "{throughput:?}");
    assert!((throughput.confidence - 0.9).abs() < 1e-9, "{throughput:?}");
}

#[test]
fn response_times_go_first_and_what_some_trial_lacks_is_left_out() {
    let mut first = trials(&[40.0, 41.0]);
    let mut second = trials(&[80.0, 82.0]);
    let response = Metric::Latency(Measure::Response, 500);
    for trial in first.iter_mut().chain(&mut second) {
        trial.metrics.insert(response, 7.0);
    }
    second[1].metrics.remove(&Metric::ServerCpu);
    let ratios = blank().measured(&first, &second);
    let names: Vec<Metric> = ratios.ratios.iter().map(|ratio| ratio.quantity).collect();
    assert_eq!(names, [Metric::Throughput, response, P99]);
}

#[test]
fn a_regression_is_worse_even_at_its_better_end_and_by_more_than_the_tolerance() {
    use RatioVerdict::{Better, Ok, Regression, Unsure};
    let (held, open) = (RatiosVerdict::Held, RatiosVerdict::NoConclusion);
    for (quantity, low, high, verdict, all) in [
        // More throughput is better: of 0.4, less than 0.3 is worse and more than 0.5 better.
        (
            Metric::Throughput,
            0.2,
            0.29,
            Regression,
            RatiosVerdict::Regression,
        ),
        (Metric::Throughput, 0.2, 0.31, Unsure, open),
        (Metric::Throughput, 0.2, 0.41, Ok, held),
        (Metric::Throughput, 0.49, 0.7, Ok, held),
        (Metric::Throughput, 0.51, 0.7, Better, held),
        // Less of everything else.
        (P50, 0.51, 0.7, Regression, RatiosVerdict::Regression),
        (P50, 0.49, 0.7, Unsure, open),
        (P50, 0.29, 0.7, Ok, held),
        (P50, 0.2, 0.31, Ok, held),
        (P50, 0.2, 0.29, Better, held),
        (
            Metric::ServerCpu,
            0.51,
            0.7,
            Regression,
            RatiosVerdict::Regression,
        ),
        (Metric::ServerCpu, 0.2, 0.29, Better, held),
        // Only shown.
        (P99, 0.51, 0.7, Regression, held),
        (P99, 0.49, 0.7, Unsure, held),
    ] {
        assert_eq!(
            verdict_of(quantity, 0.4, low, high),
            (verdict, all),
            "{quantity} {low} {high}"
        );
    }
    // Exactly at the limit is not beyond it.
    assert_eq!(verdict_of(Metric::Throughput, 1.0, 0.5, 0.75).0, Unsure);
    assert_eq!(verdict_of(Metric::Throughput, 1.0, 0.5, 1.0).0, Ok);
    assert_eq!(verdict_of(Metric::Throughput, 1.0, 1.25, 2.0).0, Ok);
    assert_eq!(verdict_of(P50, 1.0, 1.25, 2.0).0, Unsure);
    assert_eq!(verdict_of(P50, 1.0, 1.0, 1.5).0, Ok);
    assert_eq!(verdict_of(P50, 1.0, 0.5, 0.75).0, Ok);
}

#[test]
fn a_ratio_that_only_looks_worse_is_no_pass_and_a_regression_beside_it_is_one() {
    let now = only(Metric::Throughput, 2.0, 1.2, 2.7);
    let mut recorded = only(Metric::Throughput, 3.4, 3.2, 3.6);
    let judgement = judge(&recorded, &now, &[], &Quantity::GATES, 0.25);
    assert_eq!(judgement.ratios[0].verdict, RatioVerdict::Unsure);
    assert_eq!(judgement.verdict, RatiosVerdict::NoConclusion);
    assert!(judgement.reasons[0].starts_with("throughput looks worse"));
    assert!(judgement.reasons[0].contains("more trials would tell"));
    // Only the worse end is beyond the limit.
    let near = only(Metric::Throughput, 2.6, 1.2, 2.7);
    let judgement = judge(&recorded, &near, &[], &Quantity::GATES, 0.25);
    assert_eq!(judgement.ratios[0].verdict, RatioVerdict::Ok);
    assert_eq!(judgement.verdict, RatiosVerdict::Held);
    assert_eq!(judgement.reasons, [""; 0]);

    recorded.ratios.extend(only(P50, 1.0, 1.0, 1.0).ratios);
    let mut both = now;
    both.ratios.extend(only(P50, 2.0, 1.9, 2.1).ratios);
    let judgement = judge(&recorded, &both, &[], &Quantity::GATES, 0.25);
    assert_eq!(judgement.verdict, RatiosVerdict::Regression);
}

#[test]
fn tolerance_and_gates_are_those_given() {
    let (recorded, now) = (only(P99, 1.0, 1.0, 1.0), only(P99, 1.3, 1.2, 1.4));
    let verdict = |gates: &[Quantity], tolerance| {
        let judgement = judge(&recorded, &now, &[], gates, tolerance);
        (judgement.ratios[0].verdict, judgement.verdict)
    };
    let gates = [Quantity::P99];
    assert_eq!(
        verdict(&gates, 0.1),
        (RatioVerdict::Regression, RatiosVerdict::Regression)
    );
    assert_eq!(
        verdict(&gates, 0.25),
        (RatioVerdict::Unsure, RatiosVerdict::NoConclusion)
    );
    assert_eq!(verdict(&gates, 0.35), (RatioVerdict::Ok, RatiosVerdict::Held));
    assert_eq!(
        verdict(&Quantity::GATES, 0.1),
        (RatioVerdict::Regression, RatiosVerdict::Held)
    );
    // What decides and is not in the file is told.
    let judgement = judge(&recorded, &now, &[], &Quantity::GATES, 0.1);
    assert_eq!(judgement.notes.len(), 3, "{:?}", judgement.notes);
    assert!(judgement.notes[0].contains("no throughput is recorded"));
}

#[test]
fn what_is_missing_is_no_pass_but_a_regression_beside_it_is_one() {
    let recorded = measured(&[40.0, 41.0], &[80.0, 82.0]);
    let without = |quantity, slower: f64| {
        let mut now = measured(&[40.0 / slower, 41.0 / slower], &[80.0, 82.0]);
        now.ratios.retain(|ratio| ratio.quantity != quantity);
        judge(&recorded, &now, &[], &Quantity::GATES, 0.25)
    };
    let judgement = without(Metric::ServerCpu, 1.0);
    assert_eq!(judgement.verdict, RatiosVerdict::NoConclusion);
    assert_eq!(judgement.ratios[3].verdict, RatioVerdict::Missing);
    assert!(judgement.reasons[0].contains("server CPU per operation is recorded and was not measured"));
    assert_eq!(without(Metric::ServerCpu, 2.0).verdict, RatiosVerdict::Regression);
    let judgement = without(P99, 1.0);
    assert_eq!(judgement.verdict, RatiosVerdict::Held);
    assert_eq!(judgement.ratios[2].verdict, RatioVerdict::Missing);
}

#[test]
fn nothing_is_concluded_from_trials_that_cannot_be_believed() {
    let mut recorded = measured(&[40.0, 41.0], &[80.0, 82.0]);
    let of = |recorded: &Ratios, doubt: Doubt, side, slower: f64| {
        let now = measured(&[40.0 / slower, 41.0 / slower], &[80.0, 82.0]);
        judge(recorded, &now, &[(side, &doubt)], &Quantity::GATES, 0.25)
    };
    let bound = || Doubt::GeneratorBound("new-1 was limited by the generator: late".into());
    for slower in [1.0, 2.0] {
        for doubt in [bound(), Doubt::Invalid("new-1 is too thin".into())] {
            let judgement = of(&recorded, doubt.clone(), SideName::New, slower);
            assert_eq!(judgement.verdict, RatiosVerdict::NoConclusion, "{doubt}");
            assert_eq!(judgement.reasons, [doubt.to_string()]);
        }
    }
    let damaged = of(&recorded, Doubt::Damaged("2 damaged".into()), SideName::Base, 1.0);
    assert_eq!(damaged.verdict, RatiosVerdict::Damaged);
    // The second target ran into the generator also when it was recorded: still the same limit. The first did not.
    recorded.second.generator_bound = true;
    let judgement = of(&recorded, bound(), SideName::New, 1.0);
    assert_eq!(judgement.verdict, RatiosVerdict::Held);
    assert!(judgement.notes[0].contains("as when it was recorded"));
    assert_eq!(
        of(&recorded, bound(), SideName::New, 2.0).verdict,
        RatiosVerdict::Regression
    );
    assert_eq!(
        of(&recorded, bound(), SideName::Base, 1.0).verdict,
        RatiosVerdict::NoConclusion
    );
}

#[test]
fn the_generator_as_the_limit_is_recorded_for_the_side_whose_it_was() {
    let mut second = trials(&[80.0, 82.0]);
    second[1].doubts = vec![Doubt::GeneratorBound("busy".into())];
    let first = trials(&[40.0, 41.0]);
    let ratios = blank().measured(&first, &second);
    assert!(!ratios.first.generator_bound && ratios.second.generator_bound);
    assert_eq!(
        doubts(&first, &second),
        [(SideName::New, &Doubt::GeneratorBound("busy".into()))]
    );
}

#[test]
fn a_file_is_read_as_it_was_written_and_tells_no_places_and_times() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("ratios.json");
    let ratios = measured(&[40.0, 41.0, 43.0], &[80.0, 82.0, 84.0]);
    ratios.write(&path).unwrap();
    let read = Ratios::read(&path).unwrap();
    let text = read.text().unwrap();
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
    assert_eq!(read.differences(&ratios), Vec::<String>::new());
    for (read, written) in read.ratios.iter().zip(&ratios.ratios) {
        assert_eq!(read.quantity, written.quantity);
        assert!((read.ratio / written.ratio - 1.0).abs() < 1e-3);
    }
    assert_eq!(
        json!(read.options),
        json!({"arrivals.closed.clients": 256, "connections": 2, "mix.put": 1, "value_size": 256})
    );
    for place in ["10.0.0.1", "far.example", "ext4", "k1-"] {
        assert!(!text.contains(place), "{place}: {text}");
    }
    let throughput = &text[text.find("throughput\"").unwrap()..];
    assert!(throughput.contains("\"ratio\": 0.5,"), "{throughput}");
    assert!(text.contains("first target's number divided by the second's"));
}

#[test]
fn only_recorded_ratios_are_written_over_and_as_a_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    let ratios = measured(&[40.0, 41.0], &[80.0, 82.0]);
    let refused = |path: &Path, reason: &str| {
        for refused in [Ratios::check_writable(path), ratios.write(path)] {
            let error = refused.unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            let said = format!("{error} {source:?}");
            assert!(said.contains(reason), "{reason}: {said}");
        }
    };
    refused(root, "it is a folder");
    refused(&root.join("new/"), "that of a folder");
    refused(Path::new("/dev/null"), "no ordinary file");
    let other = root.join("Cargo.toml");
    for text in ["[package]\n", "", "{\"schema\": \"other\"}"] {
        std::fs::write(&other, text).unwrap();
        refused(&other, "something else than recorded ratios");
        assert_eq!(std::fs::read_to_string(&other).unwrap(), text);
    }
    // A file where a folder would have to be.
    refused(&other.join("puts.json"), "cannot write");
    refused(&other.join("deeper/puts.json"), "cannot write");

    // To look makes nothing, not even the folder.
    let path = root.join("kept/here/puts.json");
    Ratios::check_writable(&path).unwrap();
    assert!(!root.join("kept").exists());
    ratios.write(&path).unwrap();
    // Of whatever version, and through a link that stays one.
    std::fs::write(
        &path,
        format!("{{\"schema\": \"{}\", \"version\": 9}}", file::SCHEMA),
    )
    .unwrap();
    let link = root.join("link.json");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    Ratios::check_writable(&link).unwrap();
    ratios.write(&link).unwrap();
    assert!(link.is_symlink());
    assert!(Ratios::read(&path).is_ok());
    let left = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "nothing temporary stays");
}

#[test]
fn other_targets_and_options_are_named() {
    let mut other = configuration("etcd://");
    other["load"]["workload"]["value_size"] = json!(1024);
    other["load"]["overflow"] = json!("shed");
    // Changes nothing.
    other["load"]["duration"] = json!("3s");
    other["load"]["seed"] = json!(8);
    let etcd = Setup::of(&other, Some(3)).unwrap();
    let mut raft = etcd.clone();
    raft.target = "raft".into();
    raft.nodes = Some(5);
    let now = Ratios::between(&raft, &etcd).unwrap();
    assert_eq!(
        blank().differences(&now),
        [
            "nodes of raft: 3 recorded, 5 now",
            "second target: echo recorded, etcd now",
            "overflow: not given recorded, shed now",
            "value_size: 256 recorded, 1024 now",
        ]
    );
    // Before there is a run, nobody knows how many nodes there will be.
    raft.nodes = None;
    raft.options = blank().options;
    let early = Ratios::between(&raft, &raft).unwrap();
    assert_eq!(
        blank().differences(&early),
        ["second target: echo recorded, raft now"]
    );
    assert_eq!(
        Ratios::between(&raft, &etcd).unwrap_err(),
        ["overflow: not given and shed", "value_size: 256 and 1024"]
    );
    assert_eq!(Setup::of(&json!({"load": {}}), None), None);
}

#[test]
fn what_is_no_file_of_ratios_is_refused_with_the_reason() {
    let good = measured(&[40.0, 41.0], &[80.0, 82.0]).text().unwrap();
    assert!(parse(good.as_bytes()).is_ok());
    let edited = |edit: &dyn Fn(&mut Value)| {
        let mut document: Value = serde_json::from_str(&good).unwrap();
        edit(&mut document);
        document.to_string()
    };
    for (text, reason) in [
        ("{".to_owned(), "EOF"),
        ("[]".to_owned(), "no schema"),
        (edited(&|d| d["schema"] = json!("other")), "its schema is `other`"),
        (edited(&|d| d["version"] = json!(2)), "its version is 2"),
        (
            edited(&|d| drop(d.as_object_mut().unwrap().remove("version"))),
            "no version",
        ),
        (edited(&|d| d["ratios"] = json!([])), "no ratio"),
        (edited(&|d| d["ratios"][0]["ratio"] = json!(0.0)), "above zero"),
        (edited(&|d| d["ratios"][0]["low"] = json!(-1)), "above zero"),
        (
            edited(&|d| d["ratios"][0]["high"] = json!(0.1)),
            "within its interval",
        ),
        (
            edited(&|d| d["ratios"][0]["confidence"] = json!(95)),
            "part of one",
        ),
        (
            edited(&|d| d["ratios"][0]["quantity"] = json!("speed")),
            "`speed` is no quantity",
        ),
        (
            edited(&|d| d["ratios"][1] = d["ratios"][0].clone()),
            "throughput twice",
        ),
        (edited(&|d| d["surprise"] = json!(1)), "surprise"),
        (
            edited(&|d| drop(d.as_object_mut().unwrap().remove("options"))),
            "options",
        ),
    ] {
        let refused = parse(text.as_bytes()).unwrap_err();
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
}
