//! Comparisons whose truth is known, and runs that must not be compared.

#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use reports::record::{
    Counts, Load, LoadVerdict, LoopKind, Machine, Manifest, Measure, NodeInfo, OperationLoad, Percentiles,
    ProcessRole, Run, RunKind,
};
use serde_json::json;

use super::*;

mod dead;

const P99: Metric = Metric::Latency(Measure::Response, 990);

fn seed() -> u64 {
    let seed = std::env::var("WHITEWATER_SEED").map_or(1, |text| text.parse().unwrap());
    println!("WHITEWATER_SEED={seed}");
    seed
}

/// A store whose runs differ by `noise` (one standard deviation of the logarithm); its latencies vary together, as they do.
struct Store {
    slower: f64,
    noise: f64,
    random: ChaCha8Rng,
}

impl Store {
    fn new(slower: f64, noise: f64, seed: u64) -> Store {
        Store {
            slower,
            noise,
            random: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    fn wobble(&mut self) -> f64 {
        let noise: f64 = StandardNormal.sample(&mut self.random);
        (self.noise * noise).exp()
    }

    fn make(&mut self) -> Trial {
        let common = self.wobble();
        let mut trial = Trial::default();
        for metric in Metric::ALL {
            let own = self.wobble();
            let value = match metric {
                Metric::Throughput => 5000.0 * own,
                Metric::Latency(_, thousandths) => f64::from(thousandths) * 1e4 * common * own * self.slower,
                Metric::ClientCpu | Metric::ServerCpu => 20_000.0 * own,
            };
            trial.metrics.insert(metric, value);
        }
        trial
    }

    fn trials(&mut self, count: usize) -> Vec<Trial> {
        (0..count).map(|_| self.make()).collect()
    }
}

fn change_of(comparison: &Comparison, metric: Metric) -> Change {
    comparison
        .metrics
        .iter()
        .find(|found| found.metric == metric)
        .unwrap()
        .change
}

#[test]
fn equal_stores_are_told_apart_in_no_more_than_five_percent_of_comparisons() {
    for (trials, rounds) in [(6, 800), (10, 200)] {
        let mut store = Store::new(1.0, 0.05, seed());
        let alarms = (0..rounds)
            .filter(|_| {
                let comparison = compare(&store.trials(trials), &store.trials(trials), NOISE);
                assert_ne!(comparison.verdict, ComparisonVerdict::Undecided);
                comparison.verdict != ComparisonVerdict::Unchanged
            })
            .count();
        // At most 5 % in the long run; so few rounds may show more, but not four standard deviations more.
        let expected_max = f64::from(rounds) * 0.05;
        let allowed = expected_max + 4.0 * (expected_max * 0.95).sqrt();
        assert!(
            (alarms as f64) < allowed,
            "{alarms} of {rounds} with {trials} trials a side"
        );
    }
}

#[test]
fn a_tenth_more_latency_is_found() {
    let rounds = 200;
    let mut found = 0;
    let (mut base, mut new) = (Store::new(1.0, 0.02, seed()), Store::new(1.1, 0.02, seed() + 1));
    for _ in 0..rounds {
        let comparison = compare(&base.trials(8), &new.trials(8), NOISE);
        found += u32::from(comparison.verdict == ComparisonVerdict::Regressed);
        let p99 = comparison
            .metrics
            .iter()
            .find(|metric| metric.metric == P99)
            .unwrap();
        assert!((1.0..1.2).contains(&p99.ratio), "{}", p99.ratio);
    }
    assert!(found * 100 >= rounds * 95, "{found} of {rounds}");
    let comparison = compare(&new.trials(8), &base.trials(8), NOISE);
    assert_eq!(comparison.verdict, ComparisonVerdict::Improved);
}

#[test]
fn directions_and_the_noise_threshold_count() {
    let trials = |throughput: f64, p99: f64| -> Vec<Trial> {
        let values = (0..6).map(|i| 1.0 + f64::from(i) * 1e-4);
        values
            .map(|wobble| Trial {
                metrics: [(Metric::Throughput, throughput * wobble), (P99, p99 * wobble)].into(),
                ..Trial::default()
            })
            .collect()
    };
    let base = trials(1000.0, 5e6);
    for (throughput, p99, verdict) in [
        (1000.0, 5e6, ComparisonVerdict::Unchanged),
        (1200.0, 5e6, ComparisonVerdict::Improved),
        (800.0, 5e6, ComparisonVerdict::Regressed),
        (1000.0, 6e6, ComparisonVerdict::Regressed),
        (1000.0, 4e6, ComparisonVerdict::Improved),
        (1200.0, 6e6, ComparisonVerdict::Mixed),
        // Surely different, but by half a percent.
        (1005.0, 5.025e6, ComparisonVerdict::Unchanged),
    ] {
        let comparison = compare(&base, &trials(throughput, p99), NOISE);
        assert_eq!(comparison.verdict, verdict, "{comparison:?}");
        assert_eq!(comparison.trials, (6, 6));
    }
    let half_a_percent = compare(&base, &trials(1005.0, 5.025e6), 0.001);
    assert_eq!(half_a_percent.verdict, ComparisonVerdict::Mixed);
    assert_eq!(change_of(&half_a_percent, P99), Change::Regressed);
    assert!(
        half_a_percent.metrics[0]
            .interval
            .is_some_and(|interval| interval.low > 1.004 && interval.high < 1.006)
    );
    assert!(ComparisonVerdict::Mixed.is_regression() && !ComparisonVerdict::Improved.is_regression());
}

#[test]
fn too_few_runs_decide_nothing_and_say_how_many_would() {
    let mut store = Store::new(1.0, 0.01, seed());
    let mut slow = Store::new(3.0, 0.01, seed() + 1);
    let (mut one, mut other) = (store.trials(1), slow.trials(1));
    one[0].within_run.insert(P99, (1e6, 2e6));
    other[0].within_run.insert(P99, (3e6, 4e6));
    let comparison = compare(&one, &other, NOISE);
    assert_eq!(comparison.verdict, ComparisonVerdict::Undecided);
    let note = comparison.notes.last().unwrap();
    assert!(
        note.contains("within-run only: cannot see run-to-run noise"),
        "{note}"
    );
    assert!(
        note.contains("response p99 differ") && note.contains("6 runs a side"),
        "{note}"
    );

    let comparison = compare(&store.trials(5), &slow.trials(5), NOISE);
    assert_eq!(comparison.verdict, ComparisonVerdict::Undecided);
    assert!(
        comparison
            .notes
            .last()
            .is_some_and(|note| note.contains("6 a side can")),
        "{:?}",
        comparison.notes
    );
    assert_eq!(
        compare(&store.trials(6), &slow.trials(6), NOISE).verdict,
        ComparisonVerdict::Regressed
    );
    assert_eq!((trials_needed(1), trials_needed(5), trials_needed(8)), (4, 5, 6));

    let none = compare(&[], &store.trials(3), NOISE);
    assert_eq!(none.verdict, ComparisonVerdict::NotComparable);
}

#[test]
fn metrics_that_not_all_runs_have_are_left_out_aloud() {
    let mut store = Store::new(1.0, 0.01, seed());
    let (mut base, mut new) = (store.trials(6), store.trials(6));
    base[2].metrics.remove(&P99);
    new[0].metrics.insert(Metric::ClientCpu, 0.0);
    let comparison = compare(&base, &new, NOISE);
    assert_eq!(comparison.metrics.len(), Metric::ALL.len() - 2);
    assert!(
        comparison
            .notes
            .contains(&"response p99 is known in 11 of 12 runs and is left out".to_owned())
    );
    assert!(
        comparison
            .notes
            .contains(&"client CPU per operation is zero in some runs and is left out".to_owned())
    );
}

fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a simulated trial waited"),
    }
}

struct Simulated {
    store: Store,
    fails_at: Option<usize>,
    numbers: Vec<usize>,
}

impl Simulated {
    fn new(slower: f64, seed: u64) -> Simulated {
        Simulated {
            store: Store::new(slower, 0.02, seed),
            fails_at: None,
            numbers: Vec::new(),
        }
    }
}

impl Side for Simulated {
    type Error = String;

    async fn trial(&mut self, number: usize) -> Result<Trial, String> {
        self.numbers.push(number);
        match self.fails_at == Some(number) {
            true => Err(format!("trial {number} did not start")),
            false => Ok(self.store.make()),
        }
    }
}

#[test]
fn sides_take_turns_so_that_drift_weighs_on_both() {
    use SideName::{Base, New};
    assert_eq!(trial_order(3), [Base, New, New, Base, Base, New]);
    assert_eq!(trial_order(0), []);
    for trials in [2, 8, 10] {
        let order = trial_order(trials);
        let sum = |side| -> usize {
            order
                .iter()
                .enumerate()
                .filter(|(_, s)| **s == side)
                .map(|(at, _)| at)
                .sum()
        };
        assert_eq!(sum(Base), sum(New), "{trials}");
    }
    let (mut base, mut new) = (Simulated::new(1.0, seed()), Simulated::new(1.3, seed() + 1));
    let mut seen = Vec::new();
    let made = now(interleave(&mut base, &mut new, 8, |side, number| {
        seen.push((side, number))
    }))
    .unwrap();
    assert_eq!(
        seen.iter().map(|(side, _)| *side).collect::<Vec<_>>(),
        trial_order(8)
    );
    assert_eq!((base.numbers, new.numbers), ((0..8).collect(), (0..8).collect()));
    assert_eq!(
        compare(&made.base, &made.new, NOISE).verdict,
        ComparisonVerdict::Regressed
    );

    let (mut base, mut new) = (Simulated::new(1.0, seed()), Simulated::new(1.0, seed() + 1));
    new.fails_at = Some(1);
    let failed = now(interleave(&mut base, &mut new, 8, |_, _| {}));
    assert_eq!(failed, Err("trial 1 did not start".into()));
    assert_eq!((base.numbers.len(), new.numbers.len()), (1, 2));
}

fn run() -> Run {
    let percentiles = Percentiles {
        count: 50_000,
        p50: Some(1_000_000),
        p99: Some(5_000_000),
        p999: Some(9_000_000),
        ..Percentiles::default()
    };
    let total = OperationLoad {
        response: Some(percentiles.clone()),
        service: Some(percentiles),
        ..OperationLoad::default()
    };
    Run {
        folder: "run".into(),
        manifest: Some(Manifest {
            schema: 1,
            kind: RunKind::Load,
            name: "load".into(),
            about: String::new(),
            started_at: "2026-01-01T00:00:00Z".into(),
            duration: 10_000_000_000,
            seed: 7,
            command: Vec::new(),
            tool_version: "0.1.0".into(),
            commit: None,
            binary_sha256: None,
            machine: Machine {
                cores: Some(2),
                memory_bytes: Some(4 << 30),
                fsync_p50: Some(1_000_000),
                ..Machine::default()
            },
            nodes: vec![NodeInfo {
                id: "n1".into(),
                endpoint: "a:1".into(),
            }],
            configuration: json!({"load": {"workload": {"keys": 1000, "value_size": 256}, "seed": 7, "duration": "10s"}}),
            partial: false,
        }),
        load: Some(Load {
            kind: LoopKind::Poisson,
            rate: Some(5000.0),
            counts: Counts {
                ok: 50_000,
                ..Counts::default()
            },
            total: Some(total),
            client_cpu: Some(1_000_000_000),
            phases: vec![reports::record::LoadPhase {
                name: "steady".into(),
                start: 2_000_000_000,
                end: 12_000_000_000,
            }],
            verdict: LoadVerdict::Valid,
            ..Load::default()
        }),
        ..Run::default()
    }
}

#[test]
fn a_trial_takes_its_numbers_from_the_record() {
    let trial = Trial::of("a", &run()).unwrap();
    assert_eq!(trial.metrics.len(), 8);
    assert_eq!(trial.metrics[&Metric::Throughput], 5000.0);
    assert_eq!(trial.metrics[&P99], 5e6);
    assert_eq!(trial.metrics[&Metric::ClientCpu], 20_000.0);
    assert!(trial.warnings.is_empty(), "{:?}", trial.warnings);

    let process = |role, cpu_us_per_ok| reports::record::ProcessUse {
        role,
        cpu_us_per_ok,
        ..Default::default()
    };
    let mut resources = reports::record::Resources {
        processes: vec![
            process(ProcessRole::Client, Some(20.0)),
            process(ProcessRole::Server, Some(4.5)),
            process(ProcessRole::Server, Some(1.5)),
        ],
        ..Default::default()
    };
    let seen = trial.clone().with_resources(Some(&resources));
    assert_eq!(seen.metrics[&Metric::ServerCpu], 6_000.0);
    resources.processes[1].cpu_us_per_ok = None;
    let partly_seen = trial.clone().with_resources(Some(&resources));
    assert_eq!(
        partly_seen, trial,
        "a node that was not seen makes the sum unknown"
    );

    let mut bad = run();
    let load = bad.load.as_mut().unwrap();
    load.verdict = LoadVerdict::GeneratorBound("late".into());
    load.counts.failed = 100;
    load.total = None;
    let trial = Trial::of("b", &bad).unwrap();
    assert_eq!(trial.metrics.len(), 2);
    for words in [
        "limited by the generator: late",
        "100 of 50100 operations",
        "only throughput and CPU",
    ] {
        assert!(
            trial.warnings.iter().any(|warning| warning.contains(words)),
            "{words}: {:?}",
            trial.warnings
        );
    }
    bad.load = None;
    assert!(
        Trial::of("c", &bad)
            .unwrap_err()
            .to_string()
            .contains("c holds no load numbers")
    );
}

#[test]
fn every_difference_is_named_and_only_what_matters_blocks() {
    assert_eq!(differences(&run(), &run()), vec![]);
    let check = |change: &dyn Fn(&mut Run), expected: &str, blocks: bool| {
        let mut new = run();
        change(&mut new);
        let found = differences(&run(), &new);
        let texts: Vec<String> = found.iter().map(Difference::to_string).collect();
        assert_eq!(texts, [expected]);
        assert_eq!(found[0].blocks, blocks, "{expected}");
        assert_eq!(differences(&new, &run()).len(), 1, "{expected}");
    };
    let manifest = |run: &mut Run, change: fn(&mut Manifest)| change(run.manifest.as_mut().unwrap());
    check(
        &|run| manifest(run, |m| m.kind = RunKind::Chaos),
        "kind of run: Load and Chaos",
        true,
    );
    check(
        &|run| manifest(run, |m| m.partial = true),
        "run to its end: yes and no",
        true,
    );
    check(
        &|run| manifest(run, |m| m.tool_version = "0.2.0".into()),
        "generator version: 0.1.0 and 0.2.0",
        true,
    );
    check(
        &|run| manifest(run, |m| m.machine.cores = Some(4)),
        "cores: 2 and 4",
        true,
    );
    check(
        &|run| manifest(run, |m| m.machine.cpu = Some("x".into())),
        "processor: not known and x",
        true,
    );
    check(
        &|run| manifest(run, |m| m.machine.memory_bytes = Some(8 << 30)),
        "memory: 4096 MiB and 8192 MiB",
        true,
    );
    check(
        &|run| manifest(run, |m| m.machine.fsync_p50 = Some(9_000_000)),
        "median fdatasync of the disk: 1000 µs and 9000 µs",
        false,
    );
    check(&|run| manifest(run, |m| m.seed = 8), "seed: 7 and 8", false);
    check(
        &|run| manifest(run, |m| m.nodes[0].endpoint = "b:1".into()),
        "endpoints: a:1 and b:1",
        false,
    );
    check(
        &|run| manifest(run, |m| m.configuration["load"]["workload"]["keys"] = json!(9)),
        "keys: 1000 and 9",
        true,
    );
    check(
        &|run| manifest(run, |m| m.configuration["server"] = json!({"fsync": "off"})),
        "server.fsync: not given and off",
        true,
    );
    check(
        &|run| manifest(run, |m| m.configuration["load"]["duration"] = json!("20s")),
        "duration: 10s and 20s",
        false,
    );
    check(
        &|run| run.load.as_mut().unwrap().rate = Some(6000.0),
        "rate: 5000/s and 6000/s",
        true,
    );
    check(
        &|run| run.load.as_mut().unwrap().kind = LoopKind::Constant,
        "loop: Poisson and Constant",
        true,
    );
    check(
        &|run| run.manifest = None,
        "manifest.json: there and missing",
        true,
    );
    // Memory that a kernel update took is no other machine.
    let mut new = run();
    new.manifest.as_mut().unwrap().machine.memory_bytes = Some((4 << 30) - (10 << 20));
    assert_eq!(differences(&run(), &new), vec![]);
    let nothing = Run::default();
    assert!(differences(&nothing, &nothing)[0].blocks);
}

#[test]
fn both_interrupted_is_one_difference() {
    let mut cut = run();
    cut.manifest.as_mut().unwrap().partial = true;
    let found = differences(&cut, &cut.clone());
    assert_eq!(found.len(), 1);
    assert!(found[0].blocks);
}

#[test]
fn what_blocks_is_told_first() {
    let mut new = run();
    new.manifest.as_mut().unwrap().seed = 8;
    new.load.as_mut().unwrap().rate = Some(1.0);
    let blocks: Vec<bool> = differences(&run(), &new)
        .iter()
        .map(|difference| difference.blocks)
        .collect();
    assert_eq!(blocks, [true, false]);
}
