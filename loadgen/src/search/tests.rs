//! Searches and sweeps on servers whose capacity is known.

#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::algorithm::{Capacity, Unknown};
use super::simulated::{Server, mm1_limit};
use super::*;

fn seed() -> u64 {
    let seed = std::env::var("WHITEWATER_SEED").map_or(1, |text| text.parse().unwrap());
    println!("WHITEWATER_SEED={seed}");
    seed
}

/// A simulation never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a simulated probe waited"),
    }
}

/// p99 < 10 ms, with probes of so many seconds. The longer they are, the closer to its limit a store can be shown to keep it.
fn config(seconds: u64) -> SearchConfig {
    SearchConfig {
        guess: 4000.0,
        precision: 0.02,
        // Short probes contradict each other near the limit, and each contradiction costs a round.
        probes_max: 100,
        length_min: Duration::from_secs(seconds),
        length_max: Duration::from_secs(seconds),
        ..SearchConfig::new(vec!["response:p99<10ms".parse().unwrap()])
    }
}

fn run(server: &mut Server, config: &SearchConfig) -> SearchResult {
    config.check().unwrap();
    let (mut begun, mut ended) = (0, 0);
    let result = now(search(server, config, |step| match step {
        Step::Begins { .. } => begun += 1,
        Step::Ended(_) => ended += 1,
    }));
    let Ok(result) = result;
    assert_eq!((begun, ended), (server.probes, result.probes.len()));
    for probe in &result.probes {
        println!(
            "{:?} {} {:?} {:?}",
            probe.purpose, probe.rate, probe.verdict, probe.reasons
        );
    }
    println!("{:?} {:?}", result.capacity, result.notes);
    result
}

#[track_caller]
fn finds(result: &SearchResult, truth: f64, within: f64) {
    let Capacity::Exactly { rate, fails_at } = result.capacity else {
        panic!("{:?}", result.capacity);
    };
    assert!((rate / truth - 1.0).abs() < within, "{rate} instead of {truth}");
    assert!(fails_at > rate);
    let sustained = result.sustained.as_ref().unwrap();
    assert!((sustained.rate / rate - 0.9).abs() < 0.001);
    assert_eq!(sustained.verdict, ProbeVerdict::Passed, "{:?}", sustained.reasons);
    let confirmations = result
        .probes
        .iter()
        .filter(|probe| probe.purpose == Purpose::Confirm && probe.rate == rate);
    assert!(confirmations.count() >= CONFIRMATIONS);
}

#[test]
fn the_capacity_of_a_random_server_is_found_within_five_percent() {
    let mut server = Server::new(3000.0, true, seed());
    let result = run(&mut server, &config(400));
    finds(&result, mm1_limit(3000.0, 0.01), 0.05);
}

#[test]
fn the_capacity_of_a_regular_server_is_found_within_five_percent() {
    let mut server = Server::new(2000.0, false, seed());
    // Of the response time of 10 ms, the service takes 0.5 ms.
    let late = |rate: f64| 1.0 - md1_waiting(2000.0, rate, 0.0095);
    let (mut low, mut high) = (1000.0, 1999.0);
    while high - low > 0.1 {
        let middle = f64::midpoint(low, high);
        if late(middle) < 0.01 {
            low = middle
        } else {
            high = middle
        }
    }
    finds(&run(&mut server, &config(400)), low, 0.05);
}

/// P(waiting time ≤ `seconds`) of an M/D/1 queue (Erlang 1909; Iversen and Staalhagen, *Waiting Time Distribution in M/D/1 Queueing
/// Systems*, Electronics Letters 35, 1999).
fn md1_waiting(capacity: f64, rate: f64, seconds: f64) -> f64 {
    let rho = rate / capacity;
    let steps = (seconds * capacity).floor() as u32;
    let mut factorial = 1.0;
    let mut sum = 0.0;
    for k in 0..=steps {
        factorial *= f64::from(k.max(1));
        let x = rho * (f64::from(k) - seconds * capacity);
        sum += x.powi(k as i32) / factorial * (-x).exp();
    }
    (1.0 - rho) * sum
}

#[test]
fn noise_does_not_lead_far_astray() {
    let mut server = Server::new(3000.0, true, seed());
    server.noise = 0.02;
    finds(&run(&mut server, &config(60)), mm1_limit(3000.0, 0.01), 0.1);
}

#[test]
fn a_probe_that_a_neighbour_spoilt_is_corrected() {
    // Baseline 200, 400, 800, 1600, 3200: the fourth is spoilt, which would end the search near 1600.
    let mut server = Server::new(3000.0, true, seed());
    server.spoilt = vec![3];
    let result = run(&mut server, &config(30));
    finds(&result, mm1_limit(3000.0, 0.01), 0.12);
    assert!(
        result
            .notes
            .iter()
            .any(|note| note.contains("1600 a second failed once and then passed")),
        "{:?}",
        result.notes
    );
}

#[test]
fn a_cliff_is_found_at_its_edge() {
    let mut server = Server::new(5000.0, true, seed());
    server.cliff = Some(2500.0);
    let result = run(&mut server, &config(30));
    finds(&result, 2500.0, 0.05);
    assert!(
        result
            .probes
            .iter()
            .any(|probe| probe.reasons.iter().any(|reason| reason.contains("backlog grew")))
    );
}

#[test]
fn errors_are_a_limit_too() {
    let mut server = Server::new(5000.0, true, seed());
    server.errors_above = Some((3000.0, 0.01));
    let result = run(&mut server, &config(30));
    finds(&result, 3000.0, 0.05);
    assert!(result.probes.iter().any(|probe| {
        probe
            .reasons
            .iter()
            .any(|reason| reason.contains("did not end ok"))
    }));
}

#[test]
fn a_generator_at_its_limit_gives_a_lower_bound_and_no_answer_beyond() {
    let mut server = Server::new(5000.0, true, seed());
    server.generator_limit = Some(1500.0);
    let result = run(&mut server, &config(30));
    let Capacity::AtLeast { rate, because } = result.capacity else {
        panic!("{:?}", result.capacity)
    };
    assert_eq!(because, Unknown::GeneratorBound);
    assert!((1425.0..=1500.0).contains(&rate), "{rate}");

    let mut server = Server::new(5000.0, true, seed());
    server.generator_limit = Some(0.0);
    let result = run(&mut server, &config(30));
    assert_eq!(
        result.capacity,
        Capacity::Unknown {
            because: Unknown::GeneratorBound
        }
    );
    assert!(result.sustained.is_none());
}

#[test]
fn a_store_is_given_time_to_recover_and_the_result_says_if_it_did_not() {
    let mut server = Server::new(3000.0, true, seed());
    server.hangover = 3;
    let result = run(&mut server, &config(30));
    finds(&result, mm1_limit(3000.0, 0.01), 0.12);
    assert!(
        result
            .probes
            .iter()
            .filter(|probe| probe.purpose == Purpose::Recovery)
            .count()
            >= 3
    );
    assert!(
        !result
            .notes
            .iter()
            .any(|note| note.contains("did not become as fast")),
        "{:?}",
        result.notes
    );

    let mut server = Server::new(3000.0, true, seed());
    server.hangover = 1000;
    let result = run(&mut server, &config(30));
    assert!(
        result
            .notes
            .iter()
            .any(|note| note.contains("did not become as fast")),
        "{:?}",
        result.notes
    );
}

#[test]
fn a_generator_that_is_late_does_not_go_on_looking_for_recovery() {
    let mut server = Server::new(3000.0, true, seed());
    (server.hangover, server.generator_tires) = (1000, true);
    let result = run(&mut server, &config(30));
    let looks = |record: &ProbeRecord| record.purpose == Purpose::Recovery;
    let longest = result.probes.chunk_by(|a, b| looks(a) == looks(b));
    let longest = longest.filter(|run| looks(&run[0])).map(<[_]>::len).max();
    assert_eq!(longest, Some(BLIND_LOOKS_MAX));
    assert!(
        result
            .notes
            .iter()
            .any(|note| note.contains("too late itself to see")),
        "{:?}",
        result.notes
    );
}

#[test]
fn a_hopeless_store_a_boundless_one_and_a_small_budget_all_come_to_an_end() {
    let mut hopeless = Server::new(50.0, true, seed());
    let config = SearchConfig {
        rate_min: 20.0,
        ..config(30)
    };
    let result = run(&mut hopeless, &config);
    assert!(
        matches!(result.capacity, Capacity::Below { rate } if (20.0..40.0).contains(&rate)),
        "{:?}",
        result.capacity
    );

    let mut boundless = Server::new(1e6, true, seed());
    let limited = SearchConfig {
        rate_max: 1000.0,
        ..config.clone()
    };
    let expected = Capacity::AtLeast {
        rate: 1000.0,
        because: Unknown::RateMax,
    };
    assert_eq!(run(&mut boundless, &limited).capacity, expected);

    let mut server = Server::new(3000.0, true, seed());
    let hurried = SearchConfig {
        probes_max: 3,
        ..config
    };
    let result = run(&mut server, &hurried);
    assert_eq!(
        result.capacity,
        Capacity::AtLeast {
            rate: 800.0,
            because: Unknown::ProbesUsed
        }
    );
    assert_eq!(server.probes, 4);
}

/// Probes of one second, at most two.
fn short() -> SearchConfig {
    SearchConfig {
        guess: 2000.0,
        length_min: Duration::from_secs(1),
        length_max: Duration::from_secs(2),
        ..config(30)
    }
}

#[test]
fn short_probes_begin_where_there_are_enough_operations() {
    let mut server = Server::new(1e6, true, seed());
    let limited = SearchConfig {
        rate_max: 8000.0,
        probes_max: 6,
        ..short()
    };
    let result = run(&mut server, &limited);
    let expected = Capacity::AtLeast {
        rate: 8000.0,
        because: Unknown::RateMax,
    };
    assert_eq!(result.capacity, expected);
    assert!(
        result
            .probes
            .iter()
            .all(|probe| probe.verdict == ProbeVerdict::Passed)
    );
    assert!(result.notes.iter().any(|note| note.contains("--max-probes")));

    // The same for long ones where the guess is low.
    let mut server = Server::new(1e6, true, seed());
    let low = SearchConfig {
        guess: 200.0,
        rate_max: 100.0,
        ..SearchConfig::new(config(30).limits.objectives)
    };
    let result = run(&mut server, &low);
    let expected = Capacity::AtLeast {
        rate: 100.0,
        because: Unknown::RateMax,
    };
    assert_eq!(result.capacity, expected);
}

#[test]
fn a_store_that_fails_where_lower_rates_cannot_be_judged_is_told_apart() {
    let mut slow = Server::new(400.0, true, seed());
    let result = run(&mut slow, &short());
    let Capacity::Below { rate } = result.capacity else {
        panic!("{:?}", result.capacity);
    };
    let failed = |probe: &ProbeRecord| probe.rate == rate && probe.verdict == ProbeVerdict::Failed;
    assert!(result.probes.iter().any(failed), "{rate} was measured");
    let note = result.notes.last().unwrap();
    assert!(
        note.contains("were not tried") && note.contains("--max-probe-length"),
        "{note}"
    );
}

#[test]
fn too_few_operations_of_a_kind_lead_to_longer_probes_and_then_up() {
    // 600 a second make 60 of the kind in a second, and 1200 in two at 6000.
    let mut server = Server::new(20_000.0, true, seed());
    server.one_in = 10;
    let result = run(&mut server, &short());
    let thin = |probe: &&ProbeRecord| probe.verdict == ProbeVerdict::TooThin;
    assert!(
        result
            .probes
            .iter()
            .any(|probe| thin(&probe) && probe.seconds == 2.0)
    );
    assert!(
        result
            .probes
            .iter()
            .all(|probe| probe.purpose != Purpose::Descend)
    );
    let (Capacity::Exactly { rate, .. } | Capacity::AtLeast { rate, .. }) = result.capacity else {
        panic!("{:?}", result.capacity);
    };
    assert!(rate > 6000.0, "{rate}");

    let mut server = Server::new(20_000.0, true, seed());
    server.one_in = 10;
    let limited = SearchConfig {
        rate_max: 2000.0,
        ..short()
    };
    let result = run(&mut server, &limited);
    let expected = Capacity::Unknown {
        because: Unknown::TooThin,
    };
    assert_eq!(result.capacity, expected);
    assert!(result.sustained.is_none());
    assert!(
        result.notes.iter().any(|note| note.contains("1000 operations")),
        "{:?}",
        result.notes
    );
}

#[test]
fn the_budget_holds_for_all_but_looks_for_recovery_and_the_last_probe_and_the_real_limit_is_named() {
    for probes_max in 1..30 {
        let mut server = Server::new(3000.0, true, seed());
        server.generator_limit = Some(1500.0);
        let result = run(
            &mut server,
            &SearchConfig {
                probes_max,
                ..config(30)
            },
        );
        let apart = [Purpose::Recovery, Purpose::Sustained];
        let made = result
            .probes
            .iter()
            .filter(|probe| !apart.contains(&probe.purpose));
        assert!(made.count() <= probes_max, "{probes_max}");
        // 200, 400, 800 pass; the fourth and its repetition meet the generator's limit.
        if probes_max >= 5 {
            assert!(
                matches!(
                    result.capacity,
                    Capacity::AtLeast {
                        because: Unknown::GeneratorBound,
                        ..
                    }
                ),
                "{probes_max}: {:?}",
                result.capacity
            );
        }
    }
}

#[test]
fn wild_stores_never_make_a_search_run_for_ever() {
    for stream in 0..6 {
        let mut server = Server::new(2000.0, true, seed() + stream);
        server.noise = 0.9;
        server.hangover = stream as usize;
        let config = SearchConfig {
            length_min: Duration::from_secs(2),
            probes_max: 40,
            ..config(30)
        };
        run(&mut server, &config);
        // Confirmations are not begun past the budget, but a begun round ends: three, their like, and the last point.
        let most = (config.probes_max + CONFIRMATIONS + 2) * (1 + RECOVERY_TRIES_MAX);
        assert!(server.probes <= most, "{}", server.probes);
    }
}

#[test]
fn nonsense_is_refused_before_anything_runs() {
    let wrong = |change: fn(&mut SearchConfig)| {
        let mut config = config(30);
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    assert!(wrong(|c| c.limits.objectives.clear()).contains("--slo"));
    assert!(wrong(|c| c.precision = 0.0).contains("precision"));
    assert!(wrong(|c| c.guess = f64::NAN).contains("above zero"));
    assert!(wrong(|c| c.rate_max = 0.5).contains("lowest rate is above"));
    assert!(wrong(|c| c.length_max = Duration::ZERO).contains("shortest probe"));
    assert!(wrong(|c| c.probes_max = 0).contains("probe"));
    let thin = wrong(|c| c.rate_max = 20.0);
    for words in [
        "fewer than 1000 operations",
        "about 600 in 30 s",
        "--max-probe-length",
        "--max-rate",
    ] {
        assert!(thin.contains(words), "{thin}");
    }
    let windows = wrong(|c| {
        c.limits.objectives = vec!["response:p99<10ms over 1s".parse().unwrap()];
        c.rate_max = 900.0;
    });
    assert!(windows.contains("`over`"), "{windows}");
}

#[test]
fn a_backlog_grows_only_if_it_surely_does() {
    let line = |slope: f64| -> Vec<(f64, f64)> {
        (0..200)
            .map(|i| (f64::from(i), slope * f64::from(i) + f64::from(i * 7 % 5)))
            .collect()
    };
    assert!(backlog_growth(&line(2.0)).is_some_and(|growth| (1.9..2.1).contains(&growth)));
    assert_eq!(backlog_growth(&line(0.0)), None);
    assert_eq!(backlog_growth(&line(-2.0)), None);
    assert_eq!(backlog_growth(&[]), None);
    // One stall in the middle is no growth.
    let mut stalled = line(0.0);
    stalled[90..130].iter_mut().for_each(|point| point.1 += 1000.0);
    assert_eq!(backlog_growth(&stalled), None);
}

#[test]
fn a_sweep_shows_the_curve_in_order_and_where_it_bends() {
    let rates = geometric(200.0, 1900.0, 9);
    let order = order(&rates, 3, seed());
    let mut server = Server::new(2000.0, true, seed());
    let limits = config(30).limits;
    let Ok(sweep) = now(sweep(
        &mut server,
        &order,
        Duration::from_secs(20),
        &limits,
        |_| {},
    ));
    assert_eq!(
        sweep.points.iter().map(|point| point.rate).collect::<Vec<_>>(),
        rates
    );
    assert_eq!((sweep.probes.len(), server.probes), (27, 27));
    for pair in sweep.points.windows(2) {
        assert!(pair[0].p99 < pair[1].p99 && pair[0].p50 < pair[1].p50, "{pair:?}");
    }
    // Power of an M/M/1 queue is rate · (capacity - rate), largest at half the capacity.
    let knee = sweep.knee.unwrap();
    assert!((750.0..1300.0).contains(&knee), "{knee}");
    assert_eq!(sweep.points[0].verdict, ProbeVerdict::Passed);
    assert_eq!(sweep.points[8].verdict, ProbeVerdict::Failed);
    assert!(!sweep.points[8].reasons.is_empty());
    // Without its upper half the curve has no bend to show.
    assert_eq!(super::knee(&sweep.points[..3]), None);
    assert_eq!(super::knee(&[]), None);
}

#[test]
fn a_sweep_is_shuffled_anew_in_each_repetition_and_the_same_for_the_same_seed() {
    let rates = geometric(1000.0, 20_000.0, 8);
    assert_eq!((rates.len(), rates[0], rates[7]), (8, 1000.0, 20_000.0));
    assert!(
        rates
            .windows(2)
            .all(|pair| (pair[1] / pair[0] - 20_f64.powf(1.0 / 7.0)).abs() < 1e-9)
    );
    assert_eq!(geometric(5.0, 9.0, 1), vec![5.0]);
    let order = order(&rates, 2, 42);
    assert_eq!(order, super::order(&rates, 2, 42));
    assert_ne!(order, super::order(&rates, 2, 43));
    assert_ne!(order[..8], order[8..]);
    for round in order.chunks(8) {
        let mut sorted = round.to_vec();
        sorted.sort_by(f64::total_cmp);
        assert_eq!(sorted, rates);
    }
}
