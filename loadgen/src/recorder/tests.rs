#![allow(clippy::unwrap_used)]

use super::*;

const MS: Nanos = 1_000_000;
const S: Nanos = 1_000 * MS;

fn ended(planned: Nanos, first: Nanos, done: Nanos, outcome: OutcomeKind) -> Ended {
    let class = match outcome {
        OutcomeKind::Ok => Class::Ok,
        OutcomeKind::Unavailable => Class::Failed,
        OutcomeKind::TimeoutClient => Class::Unknown,
        other => panic!("{other:?} is not used here"),
    };
    Ended {
        operation: Operation::Put,
        planned,
        first,
        done,
        class,
        outcome,
        error: (class != Class::Ok).then(|| "no answer".into()),
        acknowledged_write: class == Class::Ok,
        term: Some(3),
        redirects: 0,
        retries: 0,
        answered_after: (class == Class::Ok).then(|| done - first),
        refused: Vec::new(),
        parts: None,
    }
}

#[test]
fn every_planned_operation_is_in_exactly_one_count_one_outcome_and_one_interval() {
    let mut books = Recorder::new(true, S, S);
    let outcomes = [
        OutcomeKind::Ok,
        OutcomeKind::Ok,
        OutcomeKind::Unavailable,
        OutcomeKind::TimeoutClient,
    ];
    for n in 0..4000_u64 {
        let at = S + n * MS;
        books.planned(at, 0);
        if n % 100 == 99 {
            books.unsent(Operation::Put, at, 5 * S);
        } else {
            books.ended(&ended(at, at, at + 30 * MS, outcomes[n as usize % 4]));
        }
    }
    let totals = books.finish(5 * S, 5 * S + 20 * MS);
    assert_eq!(totals.planned, 4000);
    assert_eq!(totals.counts.total(), 4000);
    assert_eq!(totals.counts.unsent, 40);
    let put = &totals.summary.operations[&Operation::Put];
    assert_eq!(put.counts, totals.counts);
    assert_eq!(put.errors["no answer"], 1960);
    let outcomes: Vec<_> = put
        .outcomes
        .iter()
        .map(|(kind, load)| (*kind, load.count))
        .collect();
    assert_eq!(
        outcomes,
        [
            (OutcomeKind::Ok, 2000),
            (OutcomeKind::TimeoutClient, 960),
            (OutcomeKind::Unavailable, 1000),
            (OutcomeKind::Shed, 40)
        ]
    );
    assert_eq!(totals.summary.total.outcomes, put.outcomes);
    let sum = totals
        .intervals
        .iter()
        .fold((0, 0), |(planned, ended), interval| {
            (planned + interval.planned, ended + interval.counts.total())
        });
    assert_eq!(sum, (4000, 4000));
    assert_eq!(totals.intervals.len(), 4, "the 20 ms tail joins the last second");
    assert_eq!(totals.intervals[0].start, S);
    assert_eq!(totals.intervals[3].end, 5 * S + 20 * MS);
    assert!(
        totals
            .intervals
            .windows(2)
            .all(|pair| pair[0].end == pair[1].start)
    );
}

#[test]
fn a_stall_shows_in_the_response_time_and_not_in_the_service_time() {
    let mut books = Recorder::new(true, 0, S);
    // 1,000 a second for 10 s, a client that sends one at a time, and a store that stands still from 5.0 to 6.5 s.
    let mut free = 0;
    for n in 0..10_000_u64 {
        let at = n * MS;
        books.planned(at, 0);
        let first = free.max(at);
        let stalled = (5 * S..6 * S + 500 * MS).contains(&first);
        free = if stalled { 6 * S + 500 * MS } else { first + MS / 5 };
        books.ended(&ended(at, first, free, OutcomeKind::Ok));
    }
    let totals = books.finish(10 * S, 10 * S);
    let write = &totals.summary.operations[&Operation::Put];
    let (response, service) = (write.response.clone().unwrap(), write.service.clone().unwrap());
    assert!(service.p99.unwrap() <= MS, "{service:?}");
    assert!(response.p99.unwrap() >= 1_300 * MS, "{response:?}");
    assert_eq!(write.scheduled.as_ref().unwrap().p99, response.p99);
    let gap = (1_500 * MS + MS - MS / 5, 5 * S - MS + MS / 5);
    assert_eq!(totals.longest_write_gap, gap);
    assert!(totals.lag.total.p99.unwrap() >= 1_300 * MS);
}

#[test]
fn an_interval_is_kept_open_until_its_last_operation_ended() {
    let mut books = Recorder::new(true, 0, S);
    books.planned(0, 0);
    books.planned(S / 2, 0);
    books.ended(&ended(0, 0, MS, OutcomeKind::Ok));
    assert!(books.close_intervals(3 * S).is_empty());
    books.ended(&ended(S / 2, S / 2, 2 * S, OutcomeKind::Ok));
    let closed = books.close_intervals(3 * S);
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].all.len(), 2);
    let tags: Vec<String> = closed[0].tagged.iter().map(|(tag, _)| tag.to_string()).collect();
    assert_eq!(
        tags,
        [
            "put.ok.response",
            "put.ok.service",
            "put.ok.attempt",
            "put.ok.lag"
        ]
    );
    let totals = books.finish(3 * S, 3 * S);
    assert_eq!(totals.intervals[0].counts.ok, 1);
    assert_eq!(totals.intervals[2].counts.ok, 1, "counted where it ended");
    assert_eq!(
        totals.intervals[0].latency.count, 2,
        "measured where it was planned"
    );
    assert!(totals.histograms.is_empty());
    assert_eq!(totals.all.count, 2);
}

#[test]
fn a_closed_loop_has_no_response_time() {
    let mut books = Recorder::new(false, 0, S);
    books.planned(5, 0);
    books.ended(&ended(5, 5, 10, OutcomeKind::Ok));
    let totals = books.finish(S, S);
    let write = &totals.summary.operations[&Operation::Put];
    assert!(write.response.is_none() && write.scheduled.is_none() && write.service.is_some());
    assert_eq!(write.outcomes[&OutcomeKind::Ok].count, 1);
}

#[test]
fn without_any_acknowledged_write_the_gap_is_the_whole_load() {
    let mut books = Recorder::new(true, S, S);
    books.planned(S, 0);
    books.ended(&ended(S, S, 2 * S, OutcomeKind::TimeoutClient));
    let totals = books.finish(4 * S, 5 * S);
    assert_eq!(totals.longest_write_gap, (3 * S, S));
}

#[test]
fn attempts_that_were_refused_are_kept_apart_from_the_one_that_was_answered() {
    let mut books = Recorder::new(true, 0, S);
    books.planned(0, 0);
    let mut operation = ended(0, MS, 10 * MS, OutcomeKind::Ok);
    operation.answered_after = Some(2 * MS);
    operation.refused = vec![(OutcomeKind::NotLeader, MS / 2), (OutcomeKind::Overloaded, MS)];
    (operation.redirects, operation.retries) = (1, 1);
    books.ended(&operation);
    let mut totals = books.finish(S, S);
    let closed = totals.histograms.remove(0);
    let counts: Vec<_> = closed
        .tagged
        .iter()
        .map(|(tag, h)| (tag.to_string(), h.len()))
        .collect();
    assert!(
        counts.contains(&("put.not_leader.attempt".into(), 1)),
        "{counts:?}"
    );
    assert!(
        counts.contains(&("put.overloaded.attempt".into(), 1)),
        "{counts:?}"
    );
    let put = &totals.summary.operations[&Operation::Put];
    assert_eq!(put.attempt.as_ref().unwrap().max, Some(2 * MS));
    assert_eq!(put.service.as_ref().unwrap().max, Some(9 * MS));
    assert_eq!(put.outcomes.len(), 1, "it ended once");
    assert_eq!((totals.terms[0].term, totals.terms[0].redirected), (3, 1));
}

#[test]
fn what_never_left_has_an_age_and_no_service_time() {
    let mut books = Recorder::new(true, 0, S);
    for n in 0..20 {
        books.planned(n * MS, 0);
        books.unsent(Operation::Get, n * MS, S);
    }
    let totals = books.finish(S, S);
    let get = &totals.summary.operations[&Operation::Get];
    assert!(get.service.is_none());
    let shed = &get.outcomes[&OutcomeKind::Shed];
    assert_eq!((shed.count, shed.latency.max), (20, Some(S)));
    assert_eq!(get.scheduled.as_ref().unwrap().p50, None);
}

#[test]
fn terms_come_in_order_whatever_order_they_were_seen_in() {
    let mut books = Recorder::new(true, 0, S);
    for (n, term) in [5, 4, 5, 6].into_iter().enumerate() {
        let at = n as u64 * MS;
        books.planned(at, 0);
        let mut operation = ended(at, at, at + MS, OutcomeKind::Ok);
        operation.term = Some(term);
        books.ended(&operation);
    }
    let terms: Vec<_> = books
        .finish(S, S)
        .terms
        .iter()
        .map(|t| (t.term, t.ok, t.first, t.last))
        .collect();
    assert_eq!(
        terms,
        [(4, 1, 2 * MS, 2 * MS), (5, 2, MS, 3 * MS), (6, 1, 4 * MS, 4 * MS)]
    );
}

#[test]
fn what_is_answered_after_the_load_is_counted_and_not_in_time() {
    let mut books = Recorder::new(true, 0, S);
    for n in 0..10 {
        books.planned(n * S, 0);
    }
    books.ended(&ended(0, 0, S, OutcomeKind::Ok));
    books.load_ends_at(10 * S);
    // Stamped before the end, and looked at after it.
    books.ended(&ended(S, S, 10 * S, OutcomeKind::Ok));
    for n in 2..10 {
        books.ended(&ended(n * S, n * S, 11 * S, OutcomeKind::Ok));
    }
    let totals = books.finish(10 * S, 11 * S);
    assert_eq!((totals.counts.ok, totals.ok_in_time), (10, 2));
    assert_eq!(totals.longest_silence, (9 * S, S));
}
