//! Whether the load generator tells the truth about servers whose behaviour is known exactly: plan, books and percentiles
//! together, in virtual time, so that no busy machine can blur the answer.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use loadgen::recorder::{Class, Ended, Recorder};
use loadgen::{Arrivals, Rate};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, Exp1};
use reports::record::{Operation, OutcomeKind, Percentiles};

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

fn seed() -> u64 {
    let given = std::env::var("WHITEWATER_SEED").ok();
    let seed = given.map_or(20_151_223, |text| text.parse().unwrap());
    println!("WHITEWATER_SEED={seed}");
    seed
}

fn ok(planned: u64, first: u64, done: u64) -> Ended {
    Ended {
        operation: Operation::Put,
        planned,
        first,
        done,
        class: Class::Ok,
        outcome: OutcomeKind::Ok,
        error: None,
        acknowledged_write: true,
        term: None,
        redirects: 0,
        retries: 0,
        answered_after: Some(done - first),
        refused: Vec::new(),
        parts: None,
    }
}

/// The numbers of a run of `arrivals` against a server that ends each operation when `serve` says, given when it
/// arrived.
fn run(
    arrivals: &Arrivals,
    length: Duration,
    seed: u64,
    mut serve: impl FnMut(u64) -> (u64, u64),
) -> [Percentiles; 2] {
    let plan = arrivals.schedule(length, seed).unwrap();
    let mut books = Recorder::new(true, 0, S);
    let mut end = 0;
    for arrival in plan {
        books.planned(arrival.at, 0);
        let (first, done) = serve(arrival.at);
        books.ended(&ok(arrival.at, first, done));
        end = end.max(done);
    }
    let totals = books.finish(length.as_nanos() as u64, end + 1);
    let put = &totals.summary.operations[&Operation::Put];
    [put.response.clone().unwrap(), put.service.clone().unwrap()]
}

fn near(value: u64, expected_ms: f64, tolerance: f64) {
    let value = value as f64 / MS as f64;
    let off = (value - expected_ms).abs() / expected_ms;
    assert!(off <= tolerance, "{value} ms is not {expected_ms} ms");
}

/// A server frozen for S in a run of T: of operations that can all be in flight at once, the part (S - x) / T waits longer
/// than x, so the quantile q is S - (1 - q) T.
#[test]
fn a_frozen_server_shows_in_the_percentiles_exactly_as_it_must() {
    let (length, frozen_from, frozen) = (Duration::from_secs(30), 10 * S, 1_400 * MS);
    let thaw = frozen_from + frozen;
    let serve = |at: u64| {
        let stands_still = (frozen_from..thaw).contains(&at);
        (at, if stands_still { thaw } else { at + MS / 5 })
    };
    for arrivals in [
        Arrivals::Constant {
            rate: Rate::per_second(2000),
        },
        Arrivals::Poisson {
            rate: Rate::per_second(2000),
        },
    ] {
        let [response, _] = run(&arrivals, length, seed(), serve);
        near(response.p99.unwrap(), 1_100.0, 0.05);
        near(response.p999.unwrap(), 1_370.0, 0.05);
        assert!(response.p50.unwrap() <= MS / 4);
    }
}

/// The same server behind a client that sends one at a time: the service time of nearly all is short, and only the response
/// time tells what users felt.
#[test]
fn one_at_a_time_hides_the_stall_from_the_service_time_only() {
    let (frozen_from, thaw) = (10 * S, 11 * S + 400 * MS);
    let mut free = 0;
    let serve = |at: u64| {
        let first = free.max(at);
        free = if (frozen_from..thaw).contains(&first) {
            thaw
        } else {
            first + MS / 5
        };
        (first, free)
    };
    let constant = Arrivals::Constant {
        rate: Rate::per_second(1000),
    };
    let [response, service] = run(&constant, Duration::from_secs(30), 0, serve);
    assert!(service.p999.unwrap() <= MS, "{service:?}");
    assert!(response.p99.unwrap() > 1_000 * MS, "{response:?}");
}

/// M/M/1: the mean response time is 1 / (mu - lambda), and response times are exponential with that mean.
#[test]
fn a_queue_of_known_load_has_the_response_times_of_the_textbook() {
    const MU: f64 = 1000.0;
    for (load, tolerance) in [(0.5, 0.04), (0.8, 0.12)] {
        let lambda = MU * load;
        let mut rng = ChaCha8Rng::seed_from_u64(seed() ^ 7);
        let mut free = 0.0_f64;
        let serve = |at: u64| {
            let work: f64 = Exp1.sample(&mut rng);
            free = free.max(at as f64) + work / MU * 1e9;
            (at, free as u64)
        };
        let poisson = Arrivals::Poisson {
            rate: Rate::per_second(lambda as u64),
        };
        let [response, _] = run(&poisson, Duration::from_secs(2000), seed(), serve);
        let mean_ms = 1000.0 / (MU - lambda);
        near(response.mean.unwrap() as u64, mean_ms, tolerance);
        near(response.p50.unwrap(), mean_ms * 2_f64.ln(), tolerance);
        near(response.p99.unwrap(), mean_ms * 100_f64.ln(), tolerance * 2.0);
        // Answers depend on each other, and more so the fuller the queue is: the intervals must know.
        let confidence = response.confidence.unwrap();
        let worth = confidence.effective_count / response.count as f64;
        assert!(worth < if load > 0.7 { 0.05 } else { 0.4 }, "{worth}");
    }
}

/// What failed has no place among the answers, and cannot improve what is said of everything that was planned.
#[test]
fn failures_make_the_percentiles_of_the_plan_infinite_and_not_better() {
    let constant = Arrivals::Constant {
        rate: Rate::per_second(1000),
    };
    let plan = constant.schedule(Duration::from_secs(10), 0).unwrap();
    let mut books = Recorder::new(true, 0, S);
    for arrival in plan {
        books.planned(arrival.at, 0);
        let mut ended = ok(arrival.at, arrival.at, arrival.at + 5 * MS);
        if arrival.number % 50 == 0 {
            (ended.class, ended.outcome) = (Class::Failed, OutcomeKind::Unavailable);
            (ended.done, ended.answered_after, ended.acknowledged_write) =
                (arrival.at + MS / 10, None, false);
        }
        books.ended(&ended);
    }
    let totals = books.finish(10 * S, 10 * S + 5 * MS);
    let put = &totals.summary.operations[&Operation::Put];
    near(put.response.as_ref().unwrap().p50.unwrap(), 5.0, 0.01);
    let scheduled = put.scheduled.as_ref().unwrap();
    near(scheduled.p50.unwrap(), 5.0, 0.01);
    assert_eq!(scheduled.p99, None, "two in a hundred never got an answer");
    let failed = &put.outcomes[&OutcomeKind::Unavailable];
    assert_eq!(failed.count, 200);
    near(failed.latency.p50.unwrap(), 0.1, 0.01);
}
