//! Events paired into operations, and everything refused that is not a history.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use reports::record::{Event, EventKind, Function, Nanos, Value};

/// A well-formed history: every event belongs to exactly one operation.
#[derive(Debug)]
pub struct History<'a> {
    events: &'a [Event],
    operations: Vec<Operation>,
    keys: Vec<&'a str>,
}

/// One operation of a [`History`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Number of the key in [`History::keys`].
    pub key: u32,
    /// Number of the event with which it begins.
    pub invocation: usize,
    /// Number of the event with which it ends; absent if it never did, which is as good as `info`.
    pub completion: Option<usize>,
}

/// What makes a list of events no history. Events are counted from 1, like lines of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// It ends without having begun.
    #[error("event {event}: process {process} completes an operation that it never began")]
    CompletionWithoutInvocation {
        /// Which event.
        event: usize,
        /// Whose.
        process: u64,
    },
    /// A process does one thing after the other.
    #[error(
        "event {event}: process {process} begins an operation while the one of event {open} is still open"
    )]
    TwoOpen {
        /// Which event.
        event: usize,
        /// Whose.
        process: u64,
        /// Where the open one began.
        open: usize,
    },
    /// After an unknown outcome the operation may still be going on, so the process cannot begin another.
    #[error(
        "event {event}: process {process} goes on although its operation of event {unknown} stayed unknown"
    )]
    ReusedAfterInfo {
        /// Which event.
        event: usize,
        /// Whose.
        process: u64,
        /// Where the unknown one ended.
        unknown: usize,
    },
    /// Within a process, time does not go back.
    #[error("event {event}: process {process} goes back in time, from {before} ns to {after} ns")]
    TimeBackwards {
        /// Which event.
        event: usize,
        /// Whose.
        process: u64,
        /// Time of its event before.
        before: Nanos,
        /// Time of this one.
        after: Nanos,
    },
    /// The two ends of an operation say different things.
    #[error("event {event}: process {process} completes something else than it began in event {began}")]
    Mismatch {
        /// Which event.
        event: usize,
        /// Whose.
        process: u64,
        /// Where it began.
        began: usize,
    },
    /// For example a write of two values.
    #[error("event {event}: the value does not fit a {function}")]
    ValueShape {
        /// Which event.
        event: usize,
        /// What for.
        function: &'static str,
    },
    /// The register checker counts in signed nanoseconds.
    #[error("event {event}: {time} ns is beyond any run")]
    TimeTooLarge {
        /// Which event.
        event: usize,
        /// Its time.
        time: Nanos,
    },
}

/// Why a history file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("cannot read history {file}")]
    Unreadable {
        /// Path as given.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// A line is not an event.
    #[error("{file}:{line}: not an event of a history")]
    Line {
        /// Path as given.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

/// Reads `history.jsonl`: one event a line, empty lines ignored.
pub fn read_events(path: &Path) -> Result<Vec<Event>, ReadError> {
    let file = || path.display().to_string();
    let unreadable = |source| ReadError::Unreadable { file: file(), source };
    let mut events = Vec::new();
    for (number, line) in BufReader::new(File::open(path).map_err(unreadable)?)
        .lines()
        .enumerate()
    {
        let line = line.map_err(unreadable)?;
        if !line.trim().is_empty() {
            let refused = |source| ReadError::Line {
                file: file(),
                line: number + 1,
                source,
            };
            events.push(serde_json::from_str(&line).map_err(refused)?);
        }
    }
    Ok(events)
}

/// Where a process stands.
enum Process {
    Idle { time: Nanos },
    Open { operation: usize },
    Retired { event: usize },
}

impl<'a> History<'a> {
    /// Pairs events. Within a process their order counts; events of different processes may be mixed in any way.
    pub fn new(events: &'a [Event]) -> Result<Self, HistoryError> {
        let mut pairing = Pairing::default();
        for (number, event) in events.iter().enumerate() {
            pairing.take(events, number, event)?;
        }
        Ok(Self {
            events,
            operations: pairing.operations,
            keys: pairing.keys,
        })
    }

    /// All operations, in the order in which they begin in the file.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// All keys, in the order in which they first appear.
    pub fn keys(&self) -> &[&'a str] {
        &self.keys
    }

    /// The event with which an operation begins.
    pub fn invocation(&self, operation: &Operation) -> &'a Event {
        &self.events[operation.invocation]
    }

    /// The event with which an operation ends.
    pub fn completion(&self, operation: &Operation) -> Option<&'a Event> {
        operation.completion.map(|number| &self.events[number])
    }

    /// How an operation ended: `Ok`, `Fail`, or `Info` also for one that never ended.
    pub fn outcome(&self, operation: &Operation) -> EventKind {
        self.completion(operation)
            .map_or(EventKind::Info, |event| event.kind)
    }

    /// Both ends of an operation, as a witness holds them.
    pub fn both_ends(&self, operation: &Operation) -> (Event, Option<Event>) {
        (
            self.invocation(operation).clone(),
            self.completion(operation).cloned(),
        )
    }
}

#[derive(Default)]
struct Pairing<'a> {
    operations: Vec<Operation>,
    keys: Vec<&'a str>,
    key_numbers: HashMap<&'a str, u32>,
    processes: HashMap<u64, Process>,
}

impl<'a> Pairing<'a> {
    fn take(&mut self, events: &'a [Event], number: usize, event: &'a Event) -> Result<(), HistoryError> {
        if event.time > i64::MAX as Nanos {
            return Err(HistoryError::TimeTooLarge {
                event: number + 1,
                time: event.time,
            });
        }
        fits(number, event)?;
        match event.kind {
            EventKind::Invoke => self.begin(number, event),
            EventKind::Ok | EventKind::Fail | EventKind::Info => self.end(events, number, event),
        }
    }

    fn begin(&mut self, number: usize, event: &'a Event) -> Result<(), HistoryError> {
        let process = event.process;
        match self.processes.get(&process) {
            Some(Process::Open { operation }) => {
                let open = self.operations[*operation].invocation + 1;
                return Err(HistoryError::TwoOpen {
                    event: number + 1,
                    process,
                    open,
                });
            }
            Some(Process::Retired { event: unknown }) => {
                let unknown = unknown + 1;
                return Err(HistoryError::ReusedAfterInfo {
                    event: number + 1,
                    process,
                    unknown,
                });
            }
            Some(Process::Idle { time }) => not_before(number, event, *time)?,
            None => {}
        }
        let key = *self.key_numbers.entry(&event.key).or_insert_with(|| {
            self.keys.push(&event.key);
            u32::try_from(self.keys.len() - 1).expect("more keys than events fit into memory")
        });
        self.processes.insert(
            process,
            Process::Open {
                operation: self.operations.len(),
            },
        );
        self.operations.push(Operation {
            key,
            invocation: number,
            completion: None,
        });
        Ok(())
    }

    fn end(&mut self, events: &'a [Event], number: usize, event: &'a Event) -> Result<(), HistoryError> {
        let process = event.process;
        let open = match self.processes.get(&process) {
            Some(Process::Open { operation }) => *operation,
            Some(Process::Retired { event: unknown }) => {
                let unknown = unknown + 1;
                return Err(HistoryError::ReusedAfterInfo {
                    event: number + 1,
                    process,
                    unknown,
                });
            }
            Some(Process::Idle { .. }) | None => {
                return Err(HistoryError::CompletionWithoutInvocation {
                    event: number + 1,
                    process,
                });
            }
        };
        let operation = &mut self.operations[open];
        let began = &events[operation.invocation];
        if !same_operation(began, event) {
            let began = operation.invocation + 1;
            return Err(HistoryError::Mismatch {
                event: number + 1,
                process,
                began,
            });
        }
        not_before(number, event, began.time)?;
        operation.completion = Some(number);
        let state = match event.kind {
            EventKind::Info => Process::Retired { event: number },
            _ => Process::Idle { time: event.time },
        };
        self.processes.insert(process, state);
        Ok(())
    }
}

fn not_before(number: usize, event: &Event, before: Nanos) -> Result<(), HistoryError> {
    if event.time >= before {
        return Ok(());
    }
    Err(HistoryError::TimeBackwards {
        event: number + 1,
        process: event.process,
        before,
        after: event.time,
    })
}

/// A successful write must echo what it wrote: an answer to another request would otherwise go unnoticed.
fn same_operation(began: &Event, ended: &Event) -> bool {
    let echoes = match (ended.kind, ended.f) {
        (EventKind::Ok, Function::Write | Function::Cas) => began.value == ended.value,
        _ => true,
    };
    began.f == ended.f && began.key == ended.key && echoes
}

fn fits(number: usize, event: &Event) -> Result<(), HistoryError> {
    use EventKind::{Invoke, Ok as Done};
    let (function, fits) = match (event.f, event.kind, &event.value) {
        (Function::Read, Invoke, Value::One(_) | Value::Pair(..)) => ("read that begins", false),
        (Function::Read, Done, Value::Pair(..)) => ("read", false),
        (Function::Write, Invoke | Done, Value::Absent | Value::Pair(..)) => ("write", false),
        (Function::Cas, Invoke | Done, Value::Absent | Value::One(_)) => ("cas", false),
        _ => ("", true),
    };
    if fits {
        Ok(())
    } else {
        Err(HistoryError::ValueShape {
            event: number + 1,
            function,
        })
    }
}
