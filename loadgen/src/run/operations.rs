//! One operation of a run: what it asks for, how it is sent, and what its end means.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reports::record::{Function, Nanos, Operation, OutcomeKind, Value};
use tokio::task::JoinError;

use super::driver::{Before, Driver};
use super::flights::{Flight, Part, ReadPart};
use super::source::{Due, Source};
use crate::client::{Arrived, Call};
use crate::clock::nanos;
use crate::cpu::process_cpu;
use crate::history::Wording;
use crate::outcome::{Answer, Failure, OperationResult, Outcome};
use crate::recorder::{Class, Ended};
use crate::wire::Completion;
use crate::workload::{Inserts, Inspected, Workload};

/// What the run knows of keys: the value last seen, where a compare-and-swap needs one.
#[derive(Debug)]
pub(super) struct Keys {
    /// Empty where the mix has no compare-and-swap.
    seen: HashMap<u64, Seen>,
    swaps: bool,
    /// Keys that the run itself adds.
    inserts: Inserts,
}

/// The value that the run last saw under a key, and the index that places it in time.
#[derive(Debug, Clone, Default)]
struct Seen {
    index: u64,
    value: Option<String>,
}

impl Keys {
    pub(super) fn of(workload: &Workload) -> Keys {
        Keys {
            seen: HashMap::new(),
            swaps: workload.config().mix.has(Operation::Cas),
            inserts: Inserts::beyond(workload.key_count()),
        }
    }

    fn expected(&self, key: u64) -> Option<String> {
        self.seen.get(&key)?.value.clone()
    }

    /// What the key held when the answer was given.
    fn learn(&mut self, key: u64, call: Call, answer: &Answer) {
        if !self.swaps {
            return;
        }
        let known = self.seen.entry(key).or_default();
        let index = answer.index();
        if index < known.index {
            return;
        }
        let value = match (answer, call) {
            (Answer::Read { value, .. } | Answer::Mismatch { current: value, .. }, _) => value.clone(),
            (Answer::Deleted { .. }, _) => None,
            (_, Call::Put { value, .. } | Call::Cas { value, .. }) => Some(value),
            (_, Call::Get { .. } | Call::Delete { .. } | Call::Scan { .. }) => return,
        };
        *known = Seen { index, value };
    }
}

/// An operation that went on as a task of its own, and how it ended.
#[derive(Debug)]
pub(super) struct Journeyed {
    token: u64,
    result: OperationResult,
}

impl Driver {
    /// Starts operation `number`, which was due at `planned` and noticed at `woken`.
    pub(super) fn begin(&mut self, number: u64, planned: Nanos, woken: Nanos, measured: bool) {
        let inserts = &mut self.keys.inserts;
        let operation = self.workload.operation(number, inserts.known());
        let kind = operation.operation;
        let key = match operation.key {
            Some(position) => inserts.key_at(position),
            None => inserts.start(),
        };
        let part = if kind == Operation::Rmw {
            Part::Read
        } else {
            Part::Whole
        };
        let call = self.call(kind, part, number, key);
        let process = self.processes.take();
        if measured && self.before.is_none() {
            self.before = Some(Before {
                at: self.clock.now(),
                cpu: process_cpu(),
                endpoints: self.client.endpoint_loads(),
            });
        }
        let began = Instant::now();
        let now = self.clock.nanos_of(began);
        if measured && self.config.arrivals.is_open() {
            self.recorder.queued(now.saturating_sub(woken));
        }
        let flight = Flight {
            number,
            operation: kind,
            key,
            wording: self.wording(process, &call),
            call,
            process,
            planned,
            first: now,
            measured,
            deadline: began + self.config.timeout,
            departure: None,
            part,
            read: None,
        };
        self.send(flight, began);
    }

    /// What is asked of the store.
    fn call(&self, operation: Operation, part: Part, number: u64, key: u64) -> Call {
        let name = self.workload.key(key);
        let value = || {
            let mut value = String::new();
            self.workload.value_into(&mut value, number, &name);
            value
        };
        match (operation, part) {
            (Operation::Get, _) | (Operation::Rmw, Part::Read) => Call::Get { key: name },
            (Operation::Put | Operation::Insert | Operation::Rmw, _) => Call::Put {
                value: value(),
                key: name,
            },
            (Operation::Cas, _) => Call::Cas {
                expected: self.keys.expected(key),
                value: value(),
                key: name,
            },
            (Operation::Delete, _) => Call::Delete { key: name },
            (Operation::Scan, _) => Call::Scan {
                start: name,
                limit: self.workload.scan_length(number),
            },
        }
    }

    /// How the history puts it; nothing where none is kept, or where it is no operation on one key.
    fn wording(&self, process: u64, call: &Call) -> Option<Wording> {
        if !self.history.is_kept() {
            return None;
        }
        let short = |key: &Arc<str>, value: &str| match self.workload.inspect(key, value) {
            Inspected::Intact(short) => short,
            Inspected::Corrupt => value.to_owned(),
        };
        let (function, key, value) = match call {
            Call::Get { key } => (Function::Read, key, Value::Absent),
            Call::Delete { key } => (Function::Delete, key, Value::Absent),
            Call::Put { key, value } => (Function::Write, key, Value::One(short(key, value))),
            Call::Cas { key, expected, value } => {
                let expected = expected.as_ref().map(|expected| short(key, expected));
                (Function::Cas, key, Value::Pair(expected, Some(short(key, value))))
            }
            Call::Scan { .. } => return None,
        };
        Some(Wording {
            process,
            function,
            key: Arc::clone(key),
            value,
        })
    }

    /// Sends an operation, or the next part of one.
    fn send(&mut self, mut flight: Flight, began: Instant) {
        if let Some(wording) = &flight.wording {
            self.history.append(wording.invocation());
        }
        let token = self.flights.reserve();
        if let Some(result) = self.client.at_once(&flight.call) {
            self.flights.fill(token, flight);
            self.ended(token, result);
            return;
        }
        let timeout = match flight.part {
            Part::Write => flight.deadline.saturating_duration_since(began),
            Part::Whole | Part::Read => self.config.timeout,
        };
        flight.departure = self
            .client
            .depart(&flight.call, timeout, began, token, &self.completions);
        if flight.departure.is_none() {
            let (client, call, deadline) = (self.client.clone(), flight.call.clone(), flight.deadline);
            self.journeys.spawn(async move {
                let result = client.execute(&call, deadline).await;
                Journeyed { token, result }
            });
        }
        self.flights.fill(token, flight);
    }

    /// A first attempt was answered, or its connection broke.
    pub(super) fn arrived(&mut self, completion: Completion) {
        let token = completion.token;
        // It was given up meanwhile.
        let Some(flight) = self.flights.of(token) else {
            return;
        };
        let Some(departure) = flight.departure.take() else {
            return;
        };
        match self.client.arrive(departure, &flight.call, completion) {
            Arrived::Ended(result) => self.ended(token, result),
            Arrived::Refused(refused) => self.go_on(token, refused),
        }
    }

    /// The time of a first attempt is over.
    pub(super) fn timed_out(&mut self, token: u64, now: Instant) {
        let Some(flight) = self.flights.of(token) else {
            return;
        };
        let Some(departure) = flight.departure.take() else {
            return;
        };
        match self.client.give_up(departure, now) {
            Ok(refused) => self.go_on(token, refused),
            // Its answer is in already and will be looked at next.
            Err(departure) => flight.departure = Some(departure),
        }
    }

    fn go_on(&mut self, token: u64, refused: crate::client::Refused) {
        let Some(flight) = self.flights.of(token) else {
            return;
        };
        let (client, call, deadline) = (self.client.clone(), flight.call.clone(), flight.deadline);
        self.journeys.spawn(async move {
            let result = client.resume(&call, refused, deadline).await;
            Journeyed { token, result }
        });
    }

    /// An operation that went on as a task has ended.
    pub(super) fn journey_ended(&mut self, ended: Result<Journeyed, JoinError>) {
        match ended {
            Ok(Journeyed { token, result }) => self.ended(token, result),
            // A bug of ours; to count around it would be a lie.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => unreachable!("journeys are aborted only when the run is over"),
            },
        }
    }

    /// An operation, or a part of one, has ended.
    fn ended(&mut self, token: u64, mut result: OperationResult) {
        let Some(flight) = self.flights.take(token) else {
            return;
        };
        let intact = match &flight.wording {
            Some(wording) => {
                let (event, intact) = wording.completion(&result, &self.workload);
                self.history.append(event);
                intact
            }
            None => self.is_intact(&flight.call, &result),
        };
        if let (Part::Read, true, true) = (flight.part, result.is_ok(), intact) {
            self.write_after_read(flight, result);
            return;
        }
        self.processes.give_back(flight.process, &result.outcome);
        let ended = self.books_entry(&flight, &mut result, intact);
        if flight.operation == Operation::Insert {
            self.keys.inserts.end(flight.key, result.is_ok());
        }
        if let Outcome::Ok(answer) = &result.outcome {
            self.keys.learn(flight.key, flight.call, answer);
        }
        self.enter(&ended, flight.measured);
    }

    fn is_intact(&self, call: &Call, result: &OperationResult) -> bool {
        let value = match (result.answer(), call) {
            (
                Some(Answer::Read {
                    value: Some(value), ..
                }),
                Call::Get { key },
            )
            | (
                Some(Answer::Mismatch {
                    current: Some(value), ..
                }),
                Call::Cas { key, .. },
            ) => (key, value),
            _ => return true,
        };
        self.workload.name_of(value.0, value.1).is_some()
    }

    /// The read of a read-modify-write was answered: its write follows at once, and has the time that is left.
    fn write_after_read(&mut self, flight: Flight, read: OperationResult) {
        let part = Part::Write;
        let read = ReadPart {
            took: self.clock.nanos_of(read.at).saturating_sub(flight.first),
            outcome: read.answer().map_or(OutcomeKind::Ok, Answer::kind),
            result: read,
        };
        let call = self.call(flight.operation, part, flight.number, flight.key);
        let began = Instant::now();
        let next = Flight {
            wording: self.wording(flight.process, &call),
            call,
            part,
            departure: None,
            read: Some(Box::new(read)),
            ..flight
        };
        self.send(next, began);
    }

    fn books_entry(&self, flight: &Flight, result: &mut OperationResult, intact: bool) -> Ended {
        let done = self.clock.nanos_of(result.at).max(flight.first);
        let (class, outcome, error) = match &result.outcome {
            Outcome::Ok(_) if !intact => (Class::Ok, OutcomeKind::Integrity, None),
            Outcome::Ok(answer) => (Class::Ok, answer.kind(), None),
            Outcome::Failed(failure) => (Class::Failed, failure.kind, Some(failure.label())),
            Outcome::Unknown(failure) => (Class::Unknown, failure.kind, Some(failure.label())),
        };
        let parts = flight.read.as_ref().map(|read| {
            include_read(result, read);
            [read.took, done.saturating_sub(flight.first + read.took)]
        });
        let refused = std::mem::take(&mut result.refused);
        Ended {
            operation: flight.operation,
            planned: flight.planned,
            first: flight.first,
            done,
            class,
            outcome,
            error,
            acknowledged_write: result.answer().is_some_and(Answer::is_acknowledged_write),
            term: result.term,
            redirects: result.redirects,
            retries: result.retries,
            answered_after: result.answered_after.map(nanos),
            refused: refused
                .into_iter()
                .map(|(kind, took)| (kind, nanos(took)))
                .collect(),
            parts,
        }
    }

    fn enter(&mut self, ended: &Ended, measured: bool) {
        if measured {
            self.recorder.ended(ended);
        } else {
            ended.class.add_to(&mut self.warmup);
        }
    }

    /// An arrival is given up without being sent.
    pub(super) fn shed(&mut self, due: Due) {
        let planned = self.begins + due.at;
        if planned >= self.measured_from() {
            let operation = self.workload.kind(due.number);
            self.recorder
                .unsent(operation, planned, self.clock.now().max(planned));
            self.queued += u64::from(due.position < self.crowded_below);
        } else {
            self.warmup.unsent += 1;
        }
    }

    /// Ends what is still open as unknown, and what never started as unsent.
    pub(super) fn abandon_the_rest(&mut self) {
        while let Some(ended) = self.journeys.try_join_next() {
            self.journey_ended(ended);
        }
        self.journeys.abort_all();
        for token in self.flights.tokens() {
            let Some(flight) = self.flights.of(token) else {
                continue;
            };
            if let Some(departure) = flight.departure.take() {
                self.client.withdraw(&departure);
            }
            let now = Instant::now();
            let age = Duration::from_nanos(self.clock.nanos_of(now).saturating_sub(flight.first));
            let failure = Failure::new(OutcomeKind::Unfinished, format!("open for {age:?}"));
            self.ended(
                token,
                OperationResult::without_answer(Outcome::Unknown(failure), now),
            );
        }
        while let Source::Planned(plan) = &mut self.source {
            let Some(due) = plan.take() else { break };
            self.shed(due);
        }
    }
}

/// The attempts of a read-modify-write are those of both its parts; the one that ended the read comes before the write's.
fn include_read(write: &mut OperationResult, read: &ReadPart) {
    let OperationResult {
        redirects,
        retries,
        answered_after,
        refused,
        ..
    } = &read.result;
    write.redirects += redirects;
    write.retries += retries;
    let answered = answered_after.map(|took| (read.outcome, took));
    let before = refused.iter().copied().chain(answered);
    write.refused.splice(0..0, before);
}
