//! Arrival plans seen from outside: the right number at the right times, the same again for the same seed, and the same
//! plan when it is written down, read back or divided.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use loadgen::schedule::{Arrival, Replay, Spacing, parse_arrival, parse_stages};
use loadgen::{Arrivals, Rate, Schedule};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const DAY: Duration = Duration::from_secs(86_400);

fn constant(thousandths: u64) -> Arrivals {
    Arrivals::Constant {
        rate: Rate::per_1000_seconds(thousandths),
    }
}

fn poisson(per_second: u64) -> Arrivals {
    Arrivals::Poisson {
        rate: Rate::per_second(per_second),
    }
}

fn staged(text: &str, spacing: Spacing) -> Arrivals {
    Arrivals::Stages {
        stages: parse_stages(text).unwrap(),
        spacing,
    }
}

fn plan(arrivals: &Arrivals, seconds: u64, seed: u64) -> Vec<Arrival> {
    schedule(arrivals, seconds, seed).collect()
}

fn schedule(arrivals: &Arrivals, seconds: u64, seed: u64) -> Schedule {
    arrivals.schedule(Duration::from_secs(seconds), seed).unwrap()
}

/// From `WHITEWATER_SEED`, or the same one every time.
fn seed() -> u64 {
    let seed = std::env::var("WHITEWATER_SEED").ok();
    let seed = seed.map_or(1, |text| text.parse().expect("WHITEWATER_SEED is a whole number"));
    eprintln!("WHITEWATER_SEED={seed}");
    seed
}

/// One of every kind, for the properties that all share.
fn every_kind(folder: &std::path::Path) -> Vec<Arrivals> {
    let file = folder.join("given.ndjson");
    fs::write(
        &file,
        "{\"at\":0}\n{\"at\":7}\n{\"at\":7}\n2000000000\n2999999999\n",
    )
    .unwrap();
    vec![
        constant(333_333),
        poisson(700),
        staged("1s@100,1s->400,500ms@0,1s@50..10", Spacing::Constant),
        staged("1s@100,1s->400,500ms@0,1s@50..10", Spacing::Poisson),
        parse_arrival("burst:7@300ms", None).unwrap(),
        Arrivals::Replay(Replay::read(&file).unwrap()),
    ]
}

/// Kolmogorov-Smirnov distance of `gaps` from the exponential distribution with mean one, times the root of their number.
/// Above 1.95 in one of a thousand correct samples; the seeds here are fixed.
fn distance_from_exponential(mut gaps: Vec<f64>) -> f64 {
    gaps.sort_by(f64::total_cmp);
    let n = gaps.len() as f64;
    let largest = gaps.iter().enumerate().map(|(index, gap)| {
        let expected = 1.0 - (-gap).exp();
        let (below, above) = (index as f64 / n, (index + 1) as f64 / n);
        (expected - below).abs().max((above - expected).abs())
    });
    largest.fold(0.0, f64::max) * n.sqrt()
}

/// Gaps of a plan after its times went through the cumulative rate.
fn rescaled(arrivals: &[Arrival], cumulative: impl Fn(f64) -> f64) -> Vec<f64> {
    let areas: Vec<f64> = arrivals
        .iter()
        .map(|arrival| cumulative(arrival.at as f64 / 1e9))
        .collect();
    areas.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[test]
fn poisson_gaps_are_exponential_at_a_constant_rate() {
    let arrivals = plan(&poisson(10_000), 20, 42);
    // 200,000 expected, standard deviation 447: five of them either way.
    assert!(
        (197_700..=202_300).contains(&arrivals.len()),
        "{}",
        arrivals.len()
    );
    let distance = distance_from_exponential(rescaled(&arrivals, |t| t * 10_000.0));
    assert!(distance < 1.95, "distance {distance}");
}

#[test]
fn poisson_gaps_of_ramps_are_exponential_once_rescaled() {
    // L(t) = a t + (b - a) t^2 / 2D.
    for (text, a, b) in [
        ("20s@0..10k", 0.0, 1e4),
        ("20s@8k..0", 8e3, 0.0),
        ("20s@2k..6k", 2e3, 6e3),
    ] {
        let arrivals = plan(&staged(text, Spacing::Poisson), 20, 42);
        let cumulative = |t: f64| a * t + (b - a) * t * t / 40.0;
        let distance = distance_from_exponential(rescaled(&arrivals, cumulative));
        assert!(distance < 1.95, "{text}: distance {distance}");
        let total = cumulative(20.0);
        let off = (arrivals.len() as f64 - total).abs();
        assert!(off < 5.0 * total.sqrt(), "{text}: {} of {total}", arrivals.len());
    }
}

#[test]
fn the_distance_notices_gaps_that_are_not_exponential() {
    let equal = rescaled(&plan(&constant(10_000_000), 20, 0), |t| t * 10_000.0);
    assert!(distance_from_exponential(equal) > 100.0);
    // A ramp taken for a constant rate.
    let ramp = plan(&staged("20s@0..10k", Spacing::Poisson), 20, 42);
    assert!(distance_from_exponential(rescaled(&ramp, |t| t * 5_000.0)) > 10.0);
}

#[test]
fn awkward_rates_do_not_drift_in_a_day() {
    // In thousandths: none of them divides a second into whole nanoseconds.
    for thousandths in [333, 7_000, 333_333, 2_999_999, 6_999_999] {
        let of = 1_000;
        // Every thousandth arrival is exact by its number alone; walking all would take minutes unoptimised.
        let whole = constant(thousandths).schedule(DAY, 0).unwrap();
        let (mut count, mut last) = (0, None);
        for arrival in whole.split(0, of) {
            let exact = u128::from(arrival.number) * 1_000_000_000_000 / u128::from(thousandths);
            assert_eq!(u128::from(arrival.at), exact);
            count += 1;
            last = Some(arrival);
        }
        let planned = (thousandths * 86_400).div_ceil(1000);
        assert_eq!(count, planned.div_ceil(of), "{thousandths}");
        assert_eq!(last.unwrap().number, (count - 1) * of);
    }
}

#[test]
fn a_staged_plan_of_a_day_has_every_operation_of_its_area() {
    // 43,200 s at 1/3 of a thousandth short of 7/s, then a ramp down, then a trickle.
    let text = "12h@6.999,6h@6.999..0.001,6h@0.333";
    let stages = parse_stages(text).unwrap();
    let area = 43_200.0 * 6.999 + 21_600.0 * (6.999 + 0.001) / 2.0 + 21_600.0 * 0.333;
    let arrivals = plan(&staged(text, Spacing::Constant), 90_000, 0);
    assert!(
        (arrivals.len() as f64 - area).abs() <= 1.0,
        "{} of {area}",
        arrivals.len()
    );
    assert_eq!(arrivals.len() as u64, stages.operations());
    assert_eq!(Arrivals::length(&staged(text, Spacing::Constant)), Some(DAY));
}

#[test]
fn random_stages_are_exact_and_in_order() {
    let mut rng = ChaCha8Rng::seed_from_u64(seed());
    let mut below = |limit: u64| rng.next_u64() % limit;
    for _ in 0..200 {
        let mut text = String::from("1ms@1");
        let mut area = 0.001;
        for _ in 0..below(6) {
            let (ms, from, to) = (1 + below(5_000), below(3_000), below(3_000));
            text += &format!(",{ms}ms@{from}..{to}");
            area += ms as f64 / 1000.0 * (from + to) as f64 / 2.0;
        }
        let arrivals = plan(&staged(&text, Spacing::Constant), 60, 0);
        assert!(
            (arrivals.len() as f64 - area).abs() <= 1.0,
            "{text}: {} of {area}",
            arrivals.len()
        );
        assert_eq!(arrivals.len() as u64, parse_stages(&text).unwrap().operations());
        for spacing in [Spacing::Constant, Spacing::Poisson] {
            let arrivals = plan(&staged(&text, spacing), 60, 3);
            let in_order = arrivals.windows(2).all(|pair| pair[0].at <= pair[1].at);
            assert!(in_order, "{text} with {spacing:?} spacing");
        }
    }
}

#[test]
fn every_prefix_of_a_ramp_has_the_operations_of_its_area() {
    for (text, a, b) in [
        ("10s@0..1k", 0.0, 1e3),
        ("10s@1k..0", 1e3, 0.0),
        ("10s@500..501", 500.0, 501.0),
    ] {
        for arrival in plan(&staged(text, Spacing::Constant), 10, 0) {
            let t = arrival.at as f64 / 1e9;
            let area = a * t + (b - a) * t * t / 20.0;
            // Rounding down costs less than a nanosecond at 1000/s: a millionth of an operation.
            assert!(
                (area - arrival.number as f64).abs() < 1.1e-6,
                "{text}: {arrival:?} at {area}"
            );
        }
    }
}

#[test]
fn a_constant_plan_has_exactly_rate_times_duration_arrivals() {
    for (thousandths, seconds, expected) in [
        (1_000, 3, 3),
        (5_000_000, 3, 15_000),
        (500, 10, 5),
        (400_000, 3, 1200),
    ] {
        let arrivals = plan(&constant(thousandths), seconds, 0);
        assert_eq!(arrivals.len(), expected);
        assert_eq!(arrivals[0], Arrival { number: 0, at: 0 });
    }
}

#[test]
fn one_stage_is_the_plan_of_its_rate() {
    assert_eq!(
        plan(&staged("20s@1.5k", Spacing::Poisson), 20, 9),
        plan(&poisson(1500), 20, 9)
    );
    assert_eq!(
        plan(&staged("20s@1.5k", Spacing::Constant), 20, 0),
        plan(&constant(1_500_000), 20, 0)
    );
}

#[test]
fn bursts_start_together_and_again_after_their_time() {
    let burst = parse_arrival("burst:3@400ms", None).unwrap();
    let at: Vec<_> = plan(&burst, 1, 0).iter().map(|arrival| arrival.at).collect();
    let ms = 1_000_000;
    assert_eq!(
        at,
        [
            0,
            0,
            0,
            400 * ms,
            400 * ms,
            400 * ms,
            800 * ms,
            800 * ms,
            800 * ms
        ]
    );
    assert_eq!(burst.rate(), Some(Rate::per_1000_seconds(7_500)));
}

#[test]
fn the_same_seed_gives_the_same_plan_and_another_seed_another() {
    for arrivals in [poisson(1000), staged("2s@0..2k", Spacing::Poisson)] {
        assert_eq!(plan(&arrivals, 2, 7), plan(&arrivals, 2, 7));
        assert_ne!(plan(&arrivals, 2, 7), plan(&arrivals, 2, 8));
    }
}

#[test]
fn a_plan_survives_being_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    for (index, arrivals) in every_kind(folder.path()).iter().enumerate() {
        let original = schedule(arrivals, 3, 5);
        let mut text = Vec::new();
        let written = original.write_to(&mut text).unwrap();
        let file = folder.path().join(format!("plan-{index}.txt"));
        fs::write(&file, text).unwrap();
        let replay = parse_arrival(&format!("replay:{}", file.display()), None).unwrap();
        let replayed = plan(&replay, 1_000, 99);
        assert_eq!(replayed.len() as u64, written);
        assert_eq!(replayed, original.collect::<Vec<_>>(), "{arrivals:?}");
    }
}

#[test]
fn the_parts_of_a_plan_are_together_the_plan() {
    let folder = tempfile::tempdir().unwrap();
    for arrivals in every_kind(folder.path()) {
        let whole = plan(&arrivals, 3, 5);
        for of in [1, 2, 3, 8, 1_000] {
            let mut union: Vec<Arrival> = Vec::new();
            for index in 0..of {
                let part: Vec<_> = schedule(&arrivals, 3, 5).split(index, of).collect();
                assert!(part.iter().all(|arrival| arrival.number % of == index));
                union.extend(part);
            }
            union.sort_by_key(|arrival| arrival.number);
            assert_eq!(union, whole, "{arrivals:?} in {of} parts");
        }
    }
}

#[test]
fn what_is_left_of_a_part_can_be_divided_again() {
    let folder = tempfile::tempdir().unwrap();
    for arrivals in every_kind(folder.path()) {
        let mut part = schedule(&arrivals, 3, 5).split(1, 2);
        part.next();
        let left: Vec<_> = part.clone().collect();
        let mut union: Vec<_> = (0..3).flat_map(|index| part.split(index, 3)).collect();
        union.sort_by_key(|arrival| arrival.number);
        assert_eq!(union, left, "{arrivals:?}");
    }
}

#[test]
fn only_what_is_due_is_handed_out_and_a_cut_plan_ends() {
    let mut schedule = schedule(&constant(1_000_000), 1, 0);
    assert_eq!(schedule.pop_due(0).map(|arrival| arrival.number), Some(0));
    assert_eq!(schedule.pop_due(999_999), None);
    assert_eq!(schedule.pop_due(1_000_000).map(|arrival| arrival.number), Some(1));
    schedule.cut(3_000_000);
    assert_eq!(schedule.by_ref().count(), 1);
    assert_eq!((schedule.peek(), schedule.taken()), (None, 3));
    let closed = Arrivals::Closed { clients: 3 };
    assert!(closed.schedule(DAY, 0).is_none() && closed.rate().is_none());
}

#[test]
fn plans_know_their_length_and_phases() {
    let stages = staged("10s@1k,10s->3k", Spacing::Constant);
    let second = 1_000_000_000;
    let phase = |name: &str, from: u64, to: u64| (name.to_string(), from * second, to * second);
    assert_eq!(
        stages.phases(DAY),
        [phase("stage-1", 0, 10), phase("stage-2", 10, 20)]
    );
    assert_eq!(stages.phases(Duration::from_secs(10)), [phase("stage-1", 0, 10)]);
    assert_eq!(poisson(5).phases(Duration::from_secs(9)), [phase("steady", 0, 9)]);
    assert_eq!(stages.rate(), Some(Rate::per_second(1500)));
    assert_eq!(
        (stages.length(), poisson(5).length()),
        (Some(Duration::from_secs(20)), None)
    );
}

#[test]
fn the_manifest_shows_a_replay_by_file_and_count() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.txt");
    fs::write(&file, "5\n1999999999\n").unwrap();
    let replay = Arrivals::Replay(Replay::read(&file).unwrap());
    let expected = serde_json::json!({"replay": {"file": file, "arrivals": 2}});
    assert_eq!(serde_json::to_value(&replay).unwrap(), expected);
    assert_eq!(replay.rate(), Some(Rate::per_second(1)));
    let stages = serde_json::to_value(staged("10s@1..2", Spacing::Poisson)).unwrap();
    let stage = serde_json::json!({"length": "10s", "from": 1000, "to": 2000});
    assert_eq!(
        stages,
        serde_json::json!({"stages": {"stages": [stage], "spacing": "poisson"}})
    );
}
