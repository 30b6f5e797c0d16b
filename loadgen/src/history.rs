//! The history as it happens: operations begin and end here, in the order of their times.
//!
//! Promises: an event's time is taken and the event appended under one lock, so the order of events is the order of
//! their times; a logical client (*process*) has at most one operation open; after an operation of unknown outcome its
//! process is never used again. Never drops an event.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reports::record::{Event, EventKind, Function, Nanos, Value};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::{Call, Client};
use crate::clock::RunClock;
use crate::outcome::{Answer, OperationResult, Outcome};
use crate::workload::{Inspected, Workload};

/// Events since they were last taken away.
#[derive(Debug)]
pub struct HistoryLog {
    clock: RunClock,
    events: Mutex<Vec<Event>>,
    keep: bool,
}

impl HistoryLog {
    /// An empty history on `clock`. With `keep` off it only tells the times.
    pub fn new(clock: RunClock, keep: bool) -> HistoryLog {
        HistoryLog {
            clock,
            events: Mutex::new(Vec::new()),
            keep,
        }
    }

    /// Appends an event with the present time, which is returned.
    pub fn append(&self, mut event: Event) -> Nanos {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        event.time = now;
        if self.keep {
            events.push(event);
        }
        now
    }

    /// Whether events are kept.
    pub fn is_kept(&self) -> bool {
        self.keep
    }

    /// Takes away what has been appended.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hands out logical clients.
#[derive(Debug)]
pub struct Processes {
    next: u64,
    free: Vec<u64>,
}

impl Processes {
    /// Identifiers from `first` on.
    pub fn starting_at(first: u64) -> Processes {
        Processes {
            next: first,
            free: Vec::new(),
        }
    }

    /// A process without an open operation.
    pub fn take(&mut self) -> u64 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// Gives a process back after its operation ended; one whose operation may still take effect is retired.
    pub fn give_back(&mut self, process: u64, outcome: &Outcome) {
        if !matches!(outcome, Outcome::Unknown(_)) {
            self.free.push(process);
        }
    }

    /// The first identifier never handed out.
    pub fn unused(&self) -> u64 {
        self.next
    }
}

/// What an operation looks like in the history.
#[derive(Debug, Clone)]
pub(crate) struct Wording {
    pub(crate) process: u64,
    pub(crate) function: Function,
    pub(crate) key: Arc<str>,
    /// The value at invocation, by the names of values.
    pub(crate) value: Value,
}

impl Wording {
    pub(crate) fn invocation(&self) -> Event {
        Event {
            process: self.process,
            kind: EventKind::Invoke,
            f: self.function,
            key: self.key.to_string(),
            value: self.value.clone(),
            time: 0,
            index: None,
            node: None,
            term: None,
            error: None,
        }
    }

    /// The event that ends the operation, and whether a value that came back was intact.
    pub(crate) fn completion(&self, result: &OperationResult, workload: &Workload) -> (Event, bool) {
        let mut event = self.invocation();
        event.node = result.node.as_deref().map(str::to_owned);
        event.term = result.term;
        let mut intact = true;
        match &result.outcome {
            Outcome::Ok(answer) => {
                event.kind = EventKind::Ok;
                event.index = Some(answer.index());
                let mut seen = |value: &Option<String>| {
                    let (name, fine) = name_of(workload, &self.key, value.as_deref());
                    intact = fine;
                    name
                };
                match answer {
                    Answer::Read { value, .. } => {
                        event.value = seen(value).map_or(Value::Absent, Value::One);
                    }
                    Answer::Mismatch { current, .. } => {
                        event.kind = EventKind::Fail;
                        event.error = Some("mismatch".into());
                        let current = seen(current);
                        if let Value::Pair(_, new) = &self.value {
                            event.value = Value::Pair(current, new.clone());
                        }
                    }
                    Answer::Written { .. }
                    | Answer::Deleted { .. }
                    | Answer::Swapped { .. }
                    | Answer::Scanned { .. } => {}
                }
            }
            Outcome::Failed(failure) => {
                event.kind = EventKind::Fail;
                event.error = Some(failure.to_string());
            }
            Outcome::Unknown(failure) => {
                event.kind = EventKind::Info;
                event.error = Some(failure.to_string());
            }
        }
        (event, intact)
    }
}

/// The name a value goes by in the history. A corrupt value goes by its whole text, which no write has.
fn name_of(workload: &Workload, key: &str, value: Option<&str>) -> (Option<String>, bool) {
    match value {
        None => (None, true),
        Some(value) => match workload.inspect(key, value) {
            Inspected::Intact(name) => (Some(name), true),
            Inspected::Corrupt => (Some(value.to_owned()), false),
        },
    }
}

/// What the last look at every key found.
#[derive(Debug)]
pub struct FinalReads {
    /// Invocations and completions, in the order of their times: append them to the history.
    pub events: Vec<Event>,
    /// Keys that nobody answered for before the deadline.
    pub unread: Vec<String>,
    /// Values that were not intact.
    pub integrity_errors: u64,
}

/// Keys read at the same time by [`final_reads`].
const FINAL_READS_AT_ONCE: usize = 16;
/// Longest that one read may hold up the next try for its key.
const FINAL_READ_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two tries for a key.
const FINAL_READ_PAUSE: Duration = Duration::from_millis(50);

/// Reads every key of the workload until it is answered or the deadline passed. Processes are numbered from
/// `first_process` on, which must be beyond those of the run ([`crate::LoadOutcome::next_process`]).
pub async fn final_reads(
    client: &Client,
    workload: &Arc<Workload>,
    clock: RunClock,
    first_process: u64,
    deadline: Instant,
) -> FinalReads {
    let log = Arc::new(HistoryLog::new(clock, true));
    let mut lanes = JoinSet::new();
    let count = workload.key_count().min(FINAL_READS_AT_ONCE as u64) as usize;
    for lane in 0..count {
        let (client, workload, log) = (client.clone(), Arc::clone(workload), Arc::clone(&log));
        let process = first_process + lane as u64;
        lanes.spawn(async move {
            let mut unread = Vec::new();
            let mut errors = 0;
            for number in (lane as u64..workload.key_count()).step_by(count) {
                let key = workload.key(number);
                match read_until(&client, &workload, &log, process, &key, deadline).await {
                    Some(intact) => errors += u64::from(!intact),
                    None => unread.push(key.to_string()),
                }
            }
            (unread, errors)
        });
    }
    let mut unread = BTreeSet::new();
    let mut integrity_errors = 0;
    for (missing, errors) in lanes.join_all().await {
        unread.extend(missing);
        integrity_errors += errors;
    }
    FinalReads {
        events: log.take(),
        unread: unread.into_iter().collect(),
        integrity_errors,
    }
}

/// Reads one key until it is answered: whether its value was intact, or nothing if nobody answered.
async fn read_until(
    client: &Client,
    workload: &Workload,
    log: &HistoryLog,
    process: u64,
    key: &Arc<str>,
    deadline: Instant,
) -> Option<bool> {
    let wording = Wording {
        process,
        function: Function::Read,
        key: Arc::clone(key),
        value: Value::Absent,
    };
    let call = Call::Get { key: Arc::clone(key) };
    while Instant::now() < deadline {
        log.append(wording.invocation());
        let limit = deadline.min(Instant::now() + FINAL_READ_TIMEOUT);
        let result = client.execute(&call, limit).await;
        let (event, intact) = wording.completion(&result, workload);
        log.append(event);
        if result.is_ok() {
            return Some(intact);
        }
        sleep(FINAL_READ_PAUSE).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use reports::record::OutcomeKind;

    use crate::outcome::Failure;

    #[test]
    fn a_process_is_retired_only_when_its_operation_may_still_happen() {
        let mut processes = Processes::starting_at(5);
        let failure = Failure::new(OutcomeKind::TimeoutClient, "");
        let (one, two) = (processes.take(), processes.take());
        assert_eq!((one, two), (5, 6));
        processes.give_back(one, &Outcome::Unknown(failure.clone()));
        processes.give_back(two, &Outcome::Failed(failure));
        assert_eq!((processes.take(), processes.take()), (6, 7));
        assert_eq!(processes.unused(), 8);
    }
}
