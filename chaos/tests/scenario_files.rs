//! The scenario files that ship with the suite, and what a scenario means once it is read.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use chaos::scenario::{Action, Mode, Pace, Scenario, Shape, Target, Within};

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

fn parse(text: &str) -> Scenario {
    Scenario::parse("test.yaml", text).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_shipped_file_reads_without_a_warning_and_is_named_as_it_calls_itself() {
    let files = shipped();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let scenario = Scenario::load(&file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(scenario.name.value, file.file_stem().unwrap().to_str().unwrap());
        assert!(!scenario.about.is_empty(), "{}", file.display());
        assert!(!scenario.expand().is_empty(), "{}", file.display());
        let warnings = scenario.warnings();
        assert!(warnings.is_empty(), "{}: {warnings:#?}", file.display());
    }
}

#[test]
fn a_scenario_written_out_reads_back_as_the_same_scenario() {
    for file in shipped() {
        let scenario = Scenario::load(&file).unwrap();
        let text = scenario.to_yaml();
        assert_eq!(parse(&text), scenario, "{text}");
        assert!(!text.contains('!'), "a fault must be a map, not a tag:\n{text}");
        let as_json = serde_json::to_value(&scenario).unwrap();
        assert_eq!(
            serde_json::from_value::<Scenario>(as_json).unwrap(),
            scenario,
            "as in a run's manifest"
        );
    }
    let awkward = parse(
        "name: '007'\nabout: 'no: # \"quoted\" \u{1f30a}\n\n  and more'\nduration: 1500us\nseed: 18446744073709551615\n\
         workload: { closed: true, timeout: 250us }\n\
         checks: { converges: false, recovers_within: false, lost_writes: allow, min_acknowledged: 0 }\n",
    );
    assert_eq!(parse(&awkward.to_yaml()), awkward, "{}", awkward.to_yaml());
    assert_eq!(awkward.seed, Some(u64::MAX));
    let as_json = serde_json::to_string(&awkward).unwrap();
    assert_eq!(
        serde_json::from_str::<Scenario>(&as_json).unwrap(),
        awkward,
        "{as_json}"
    );
}

#[test]
fn everything_is_checked_unless_the_file_says_otherwise() {
    let scenario = parse("name: bare\nduration: 10s\n");
    assert_eq!(scenario.cluster.nodes.value, 3);
    assert_eq!(scenario.workload.pace(), Pace::Open(400.0));
    assert!(scenario.workload.rate.is_some(), "the default is written out");
    assert!(scenario.checks.linearizable && scenario.checks.one_leader_per_term);
    assert_eq!(
        scenario.checks.converges.deadline(),
        Some(Duration::from_secs(10))
    );
    assert_eq!(scenario.checks.recovers_within, Within::DEFAULT);
    assert!(scenario.expand().is_empty());

    let off = parse("name: off\nduration: 10s\nchecks: { converges: false, recovers_within: 3s }\n");
    assert_eq!(off.checks.converges, Within::Off);
    assert_eq!(
        off.checks.recovers_within.deadline(),
        Some(Duration::from_secs(3))
    );
    assert_eq!(
        parse("name: c\nduration: 10s\nworkload: { closed: true }\n")
            .workload
            .pace(),
        Pace::Closed
    );
}

#[test]
fn repeated_faults_unroll_into_one_list_in_order_of_time() {
    let scenario =
        Scenario::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/leader-kill.yaml")).unwrap();
    let plan = scenario.expand();
    let lines: Vec<String> = plan.iter().map(ToString::to_string).collect();
    let expected = [
        "kill leader at 5s for 2s",
        "kill leader at 11s for 2s",
        "kill leader at 17s for 2s",
        "isolate leader (drop) at 22s for 3s",
        "latency all 20ms ± 5ms at 25500ms for 2500ms",
        "kill all at 28500ms for 1s",
    ];
    assert_eq!(lines, expected);
    assert_eq!(plan[1].repetition, 1);
    assert_eq!(
        plan[3].action,
        Action::Partition {
            shape: Shape::Isolate,
            mode: Mode::Drop
        }
    );
    assert_eq!(plan[3].fault, 1);
}

#[test]
fn a_fault_without_a_count_repeats_as_long_as_it_fits() {
    let scenario =
        parse("name: often\nduration: 20s\nfaults:\n- pause: { target: n2, at: 1s, for: 2s, every: 6s }\n");
    let starts: Vec<u64> = scenario.expand().iter().map(|fault| fault.at.as_secs()).collect();
    assert_eq!(starts, [1, 7, 13], "the one at 19 s would end after the run");
}

#[test]
fn a_rolling_restart_stops_every_node_once() {
    let scenario =
        parse("name: roll\nduration: 20s\nfaults:\n- rolling-restart: { at: 2s, for: 1s, between: 3s }\n");
    let plan = scenario.expand();
    let targets: Vec<(u64, Target)> = plan
        .iter()
        .map(|fault| (fault.at.as_secs(), fault.target))
        .collect();
    assert_eq!(
        targets,
        [(2, Target::Node(1)), (6, Target::Node(2)), (10, Target::Node(3))]
    );
    assert!(
        plan.iter()
            .all(|fault| fault.action == Action::Stop && fault.length == Duration::from_secs(1))
    );
}

#[test]
fn the_example_in_the_module_documentation_is_a_scenario() {
    let source = include_str!("../src/scenario/mod.rs");
    let (_, rest) = source.split_once("//! ```yaml\n").unwrap();
    let (example, _) = rest.split_once("//! ```\n").unwrap();
    let text: String = example
        .lines()
        .map(|line| format!("{}\n", line.trim_start_matches("//! ")))
        .collect();
    assert_eq!(parse(&text).expand().len(), 2 + 1 + 1 + 1 + 3, "{text}");
}

#[test]
fn suspicious_scenarios_run_with_a_warning() {
    let warnings = |text: &str| -> Vec<String> {
        parse(text)
            .warnings()
            .into_iter()
            .map(|problem| problem.message)
            .collect()
    };
    let found = warnings(
        "name: two-down\nduration: 30s\nfaults:\n\
         - kill: { target: n1, at: 5s, for: 4s }\n\
         - pause: { target: leader, at: 7s, for: 4s }\n",
    );
    assert_eq!(
        found,
        ["`pause leader at 7s for 4s` while `kill n1 at 5s for 4s` may leave no majority"]
    );
    let found = warnings("name: late\nduration: 10s\nfaults:\n- kill: { target: n1, at: 5s, for: 4s }\n");
    assert_eq!(
        found,
        ["the run ends 1s after the last fault, and recovery may take 10s"]
    );
    let found = warnings("name: blind\nduration: 10s\nworkload: { mix: { put: 1 } }\n");
    assert_eq!(found, ["nothing is read before the end"]);
}

#[test]
fn targets_know_how_many_nodes_they_mean() {
    let counts = |target: Target| [1, 2, 3, 4, 5].map(|nodes| target.count(nodes));
    assert_eq!(counts(Target::Minority), [0, 0, 1, 1, 2]);
    assert_eq!(counts(Target::Majority), [1, 2, 2, 3, 3]);
    assert_eq!(counts(Target::All), [1, 2, 3, 4, 5]);
    assert_eq!(counts(Target::Follower), [0, 1, 1, 1, 1]);
}
