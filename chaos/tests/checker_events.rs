//! What is a history and what is not, and the index checker as it is used while the load runs.

#![allow(clippy::unwrap_used)]

use chaos::checker::{History, HistoryError, IndexOrder, Options, check_history, lost_writes, outcome};
use reports::record::{Event, EventKind, Function, Outcome, Value};

fn event(process: u64, kind: EventKind, f: Function, value: Value, time: u64) -> Event {
    let key = String::from("k");
    Event {
        process,
        kind,
        f,
        key,
        value,
        time,
        index: None,
        node: None,
        term: None,
        error: None,
    }
}

fn write(process: u64, kind: EventKind, value: &str, time: u64) -> Event {
    event(process, kind, Function::Write, Value::One(value.into()), time)
}

fn refused(events: &[Event]) -> HistoryError {
    let error = History::new(events).unwrap_err();
    let checks = check_history(events, &Options::default());
    assert_eq!(outcome(&checks), Outcome::Inconclusive);
    assert!(
        checks[0].detail.contains(&error.to_string()),
        "{}",
        checks[0].detail
    );
    error
}

use EventKind::{Fail, Info, Invoke, Ok as Done};

#[test]
fn operations_are_paired_by_process() {
    let events = [
        write(1, Invoke, "a", 10),
        write(2, Invoke, "b", 11),
        write(1, Done, "a", 12),
        write(1, Invoke, "c", 12),
        write(2, Info, "b", 13),
        write(3, Invoke, "d", 5),
    ];
    let history = History::new(&events).unwrap();
    let ends: Vec<Option<usize>> = history.operations().iter().map(|one| one.completion).collect();
    assert_eq!(ends, [Some(2), Some(4), None, None]);
    let outcomes = history
        .operations()
        .iter()
        .map(|one| history.outcome(one))
        .collect::<Vec<_>>();
    assert_eq!(outcomes, [Done, Info, Info, Info]);
    assert_eq!(history.keys(), ["k"]);
}

#[test]
fn what_is_no_history_is_named() {
    let lone = [write(1, Invoke, "a", 1), write(2, Done, "a", 2)];
    assert_eq!(
        refused(&lone),
        HistoryError::CompletionWithoutInvocation { event: 2, process: 2 }
    );
    let twice = [
        write(1, Invoke, "a", 1),
        write(1, Done, "a", 2),
        write(1, Done, "a", 3),
    ];
    assert_eq!(
        refused(&twice),
        HistoryError::CompletionWithoutInvocation { event: 3, process: 1 }
    );
    let open = [write(1, Invoke, "a", 1), write(1, Invoke, "b", 2)];
    assert_eq!(
        refused(&open),
        HistoryError::TwoOpen {
            event: 2,
            process: 1,
            open: 1
        }
    );
    let reused = [
        write(1, Invoke, "a", 1),
        write(1, Info, "a", 2),
        write(1, Invoke, "b", 3),
    ];
    assert_eq!(
        refused(&reused),
        HistoryError::ReusedAfterInfo {
            event: 3,
            process: 1,
            unknown: 2
        }
    );
    let back = [write(1, Invoke, "a", 5), write(1, Done, "a", 4)];
    assert_eq!(
        refused(&back),
        HistoryError::TimeBackwards {
            event: 2,
            process: 1,
            before: 5,
            after: 4
        }
    );
    let back = [
        write(1, Invoke, "a", 5),
        write(1, Done, "a", 6),
        write(1, Invoke, "b", 5),
    ];
    assert_eq!(
        refused(&back),
        HistoryError::TimeBackwards {
            event: 3,
            process: 1,
            before: 6,
            after: 5
        }
    );
    let other = [write(1, Invoke, "a", 5), write(1, Done, "b", 6)];
    assert_eq!(
        refused(&other),
        HistoryError::Mismatch {
            event: 2,
            process: 1,
            began: 1
        }
    );
    let shape = [event(1, Invoke, Function::Cas, Value::One("a".into()), 1)];
    assert_eq!(
        refused(&shape),
        HistoryError::ValueShape {
            event: 1,
            function: "cas"
        }
    );
    let late = [write(1, Invoke, "a", u64::MAX)];
    assert_eq!(
        refused(&late),
        HistoryError::TimeTooLarge {
            event: 1,
            time: u64::MAX
        }
    );
}

#[test]
fn a_history_without_answers_decides_nothing() {
    assert_eq!(
        outcome(&check_history(&[], &Options::default())),
        Outcome::Inconclusive
    );
    let unknown = [write(1, Invoke, "a", 1)];
    let options = Options {
        final_reads_from: Some(10),
        ..Options::default()
    };
    let checks = check_history(&unknown, &options);
    assert_eq!(outcome(&checks), Outcome::Inconclusive);
    assert_eq!(checks.len(), 2, "{checks:?}");
}

#[test]
fn a_key_that_nobody_read_at_the_end_leaves_lost_writes_undecided() {
    let mut failed_read = event(2, Invoke, Function::Read, Value::Absent, 10);
    let mut events = vec![
        write(1, Invoke, "a", 1),
        write(1, Done, "a", 2),
        failed_read.clone(),
    ];
    (failed_read.kind, failed_read.time) = (Fail, 11);
    events.push(failed_read);
    let found = lost_writes(&History::new(&events).unwrap(), 10);
    assert_eq!((found.unread, found.lost.len()), (vec![String::from("k")], 0));
    let options = Options {
        final_reads_from: Some(10),
        ..Options::default()
    };
    let checks = check_history(&events, &options);
    assert_eq!(outcome(&checks), Outcome::Inconclusive);
    assert!(checks[1].detail.contains("at the end: k"), "{}", checks[1].detail);
}

#[test]
fn the_index_checker_speaks_at_the_very_answer() {
    let mut order = IndexOrder::default();
    let answer = |index, mut event: Event| {
        event.index = Some(index);
        event.node = Some("n2".into());
        event
    };
    order.invoke(0, &write(1, Invoke, "a", 1));
    assert_eq!(order.complete(0, &answer(3, write(1, Done, "a", 2))), Ok(()));
    order.invoke(1, &event(3, Invoke, Function::Read, Value::Absent, 3));
    order.invoke(2, &write(1, Invoke, "b", 4));
    assert_eq!(order.complete(2, &answer(5, write(1, Done, "b", 5))), Ok(()));
    // Began before `b` was acknowledged: it may have seen either.
    let seen = |value: &str, time| event(3, Done, Function::Read, Value::One(value.into()), time);
    assert_eq!(order.complete(1, &answer(3, seen("a", 6))), Ok(()));
    order.invoke(3, &event(3, Invoke, Function::Read, Value::Absent, 7));
    let fault = order.complete(3, &answer(3, seen("a", 8))).unwrap_err();
    assert_eq!(fault.operations, [2, 3]);
    assert!(
        fault.sentence.contains("after index 5 had been answered"),
        "{}",
        fault.sentence
    );
    assert_eq!((order.checked, order.unchecked), (4, 0));
    // An answer without an index is counted, not judged.
    order.invoke(4, &event(3, Invoke, Function::Read, Value::Absent, 9));
    assert_eq!(order.complete(4, &seen("a", 10)), Ok(()));
    assert_eq!(order.unchecked, 1);
}

#[test]
fn a_delete_of_nothing_may_leave_the_index_of_the_key_alone() {
    let mut order = IndexOrder::default();
    let delete = |kind, time, index| {
        let mut event = event(1, kind, Function::Delete, Value::Absent, time);
        event.index = index;
        event
    };
    order.invoke(0, &delete(Invoke, 1, None));
    assert_eq!(order.complete(0, &delete(Done, 2, Some(4))), Ok(()));
    let mut read = event(2, Invoke, Function::Read, Value::Absent, 3);
    order.invoke(1, &read);
    (read.kind, read.time, read.index) = (Done, 4, Some(0));
    assert_eq!(order.complete(1, &read), Ok(()));
}
