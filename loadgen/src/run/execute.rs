//! One operation of a run, from its invocation in the history to its completion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reports::record::Nanos;
use tokio::sync::watch;

use crate::client::{Call, Client};
use crate::clock::RunClock;
use crate::history::{HistoryLog, Wording};
use crate::outcome::{Answer, Failure, FailureKind, OperationResult, Outcome};
use crate::recorder::{Class, Ended};
use crate::workload::Workload;

/// What the tasks share.
pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) workload: Arc<Workload>,
    pub(super) history: HistoryLog,
    pub(super) timeout: Duration,
    pub(super) clock: RunClock,
}

/// The value that the run last saw under a key, and the index that places it in time.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) index: u64,
    pub(super) value: Option<String>,
}

/// An operation about to be executed.
pub(super) struct Job {
    pub(super) wording: Wording,
    pub(super) call: Call,
    pub(super) key: u64,
    pub(super) planned: Nanos,
    pub(super) measured: bool,
}

/// An operation that was executed.
pub(super) struct Finished {
    pub(super) process: u64,
    pub(super) key: u64,
    pub(super) measured: bool,
    pub(super) ended: Ended,
    pub(super) result: OperationResult,
    /// What the key now holds, as far as this operation can tell.
    pub(super) seen: Option<Seen>,
}

/// Executes one operation and writes its history.
pub(super) async fn execute(shared: Arc<Shared>, job: Job, mut cancel: watch::Receiver<bool>) -> Finished {
    let first = shared.history.append(job.wording.invocation());
    let deadline = Instant::now() + shared.timeout;
    let mut result = tokio::select! {
        biased;
        result = shared.client.execute(&job.call, deadline) => result,
        // Also when the sender is gone.
        _ = cancel.wait_for(|cancelled| *cancelled) => unfinished(shared.clock.now() - first),
    };
    let (event, intact) = job.wording.completion(&result, &shared.workload);
    let done = shared.history.append(event);
    let seen = seen(job.call, &mut result);
    let (class, error) = match &result.outcome {
        Outcome::Ok(_) => (Class::Ok, None),
        Outcome::Failed(failure) => (Class::Failed, Some(failure.label())),
        Outcome::Unknown(failure) => (Class::Unknown, Some(failure.label())),
    };
    let ended = Ended {
        function: job.wording.function,
        planned: job.planned,
        first,
        done,
        class,
        error,
        acknowledged_write: result.answer().is_some_and(Answer::is_acknowledged_write),
        redirects: result.redirects,
        retries: result.retries,
        intact,
    };
    Finished {
        process: job.wording.process,
        key: job.key,
        measured: job.measured,
        ended,
        result,
        seen,
    }
}

fn unfinished(age: Nanos) -> OperationResult {
    let age = Duration::from_nanos(age);
    let detail = format!("open for {age:?}");
    OperationResult {
        outcome: Outcome::Unknown(Failure {
            kind: FailureKind::Unfinished,
            detail,
        }),
        node: None,
        term: None,
        redirects: 0,
        retries: 0,
    }
}

/// What the key held when the answer was given.
fn seen(call: Call, result: &mut OperationResult) -> Option<Seen> {
    let Outcome::Ok(answer) = &mut result.outcome else {
        return None;
    };
    let index = answer.index();
    let value = match (answer, call) {
        (Answer::Read { value, .. } | Answer::Mismatch { current: value, .. }, _) => value.take(),
        (Answer::Deleted { .. }, _) => None,
        (_, Call::Put { value, .. } | Call::Cas { value, .. }) => Some(value),
        (_, Call::Get { .. } | Call::Delete { .. }) => None,
    };
    Some(Seen { index, value })
}
