//! One operation on its way through the cluster: attempt by attempt, until it ended or its deadline passed.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reports::record::OutcomeKind;
use tokio::time::{sleep, timeout_at};
use tracing::debug;

use super::endpoint::{Endpoint, Reason};
use super::{AttemptError, Call, Shared};
use crate::outcome::{Answer, Disposition, Failure, OperationResult, Outcome};

/// Where to go after an attempt that brought no answer.
enum Next {
    Now(usize),
    AfterPause(usize),
}

/// One operation on its way.
pub(super) struct Journey<'a> {
    shared: &'a Shared,
    call: &'a Call,
    deadline: Instant,
    attempts: u32,
    redirects: u32,
    retries: u32,
    pauses: u32,
    /// The attempt to come follows a hint.
    redirected: bool,
    /// Redirects since the last pause: two nodes that point at each other must not be asked in a tight loop.
    redirects_in_a_row: u32,
    last_refusal: (OutcomeKind, String),
    refused: Vec<(OutcomeKind, Duration)>,
}

/// What became of an attempt.
#[derive(Debug)]
pub(super) struct Attempted {
    /// Number of the endpoint.
    pub(super) stop: usize,
    /// When it was sent.
    pub(super) began: Instant,
    /// When that was known.
    pub(super) at: Instant,
    /// An answer and its term, or what came instead.
    pub(super) result: Result<(Answer, Option<u64>), AttemptError>,
}

/// Time that must be left for another attempt after a refusal. With less, it would hardly be answered in time, and turn a
/// certain *no* into an *unknown*.
const ATTEMPT_TIME_MIN: Duration = Duration::from_millis(10);
/// Redirects followed without a pause: from whom we asked to the leader, and once more if it just changed.
const REDIRECTS_IN_A_ROW_MAX: u32 = 2;

impl<'a> Journey<'a> {
    pub(super) fn new(shared: &'a Shared, call: &'a Call, deadline: Instant) -> Journey<'a> {
        Journey {
            shared,
            call,
            deadline,
            attempts: 0,
            redirects: 0,
            retries: 0,
            pauses: 0,
            redirected: false,
            redirects_in_a_row: 0,
            last_refusal: (OutcomeKind::Unavailable, "never tried".into()),
            refused: Vec::new(),
        }
    }

    /// Goes on until the operation has ended.
    pub(super) async fn travel(self) -> OperationResult {
        let first = self.shared.first_stop();
        self.travel_from(first).await
    }

    /// Goes on after a first attempt that was made without a journey.
    pub(super) async fn resume(mut self, attempted: Attempted) -> OperationResult {
        let endpoint = self.shared.endpoint(attempted.stop);
        self.attempts = 1;
        match self.judge(&endpoint, attempted) {
            ControlFlow::Break(ended) => self.end(ended),
            ControlFlow::Continue(next) => match self.step(next).await {
                Some(stop) => self.travel_from(stop).await,
                None => self.nobody_took_it(),
            },
        }
    }

    async fn travel_from(mut self, mut stop: usize) -> OperationResult {
        loop {
            let endpoint = self.shared.endpoint(stop);
            let next = if endpoint.is_usable(self.deadline).await {
                if Instant::now() >= self.deadline {
                    return self.nobody_took_it();
                }
                self.count_attempt(&endpoint);
                let attempted = attempt(self.shared, stop, &endpoint, self.call, self.deadline).await;
                match self.judge(&endpoint, attempted) {
                    ControlFlow::Break(ended) => return self.end(ended),
                    ControlFlow::Continue(next) => next,
                }
            } else {
                let refusal = format!("{} does not answer", endpoint.address);
                self.last_refusal = (OutcomeKind::Unavailable, refusal);
                // A hint to a dead node leads nowhere: the attempt to come is a retry.
                self.redirected = false;
                Next::AfterPause(self.shared.turn_away(stop))
            };
            stop = match self.step(next).await {
                Some(stop) => stop,
                None => return self.nobody_took_it(),
            };
        }
    }

    /// The endpoint to ask next, after the pause that it takes; nothing if there is no time or no try left.
    async fn step(&mut self, next: Next) -> Option<usize> {
        let retries_left = self.shared.options.retries.is_none_or(|most| self.retries < most);
        if !self.redirected && self.attempts > 0 && !retries_left {
            return None;
        }
        match next {
            Next::Now(stop) => Some(stop),
            Next::AfterPause(stop) => self.pause().await.then_some(stop),
        }
    }

    /// What to do after an attempt: go on, or end.
    fn judge(&mut self, endpoint: &Endpoint, attempted: Attempted) -> ControlFlow<Ended, Next> {
        let Attempted {
            stop,
            began,
            at,
            result,
        } = attempted;
        let error = match result {
            Ok((answer, term)) => {
                return ControlFlow::Break(Ended {
                    outcome: Outcome::Ok(answer),
                    node: endpoint.node_id(),
                    term,
                    answered_after: Some(at.saturating_duration_since(began)),
                    at,
                });
            }
            Err(error) => error,
        };
        let disposition = self.shared.disposition(&error);
        debug!(endpoint = endpoint.address, ?disposition, %error, "attempt refused");
        self.refused
            .push((disposition.kind(), at.saturating_duration_since(began)));
        self.last_refusal = (disposition.kind(), format!("{}: {}", endpoint.address, error));
        note(endpoint, disposition, began, at);
        ControlFlow::Continue(match disposition {
            Disposition::Redirect => {
                endpoint.count_redirected_away();
                self.follow_hint(stop, &error)
            }
            Disposition::Elsewhere | Disposition::NotSent => Next::AfterPause(self.shared.turn_away(stop)),
            Disposition::Again => Next::AfterPause(stop),
            Disposition::Rejected => {
                let failure = Failure::new(OutcomeKind::Rejected, error.to_string()).at(&endpoint.address);
                return ControlFlow::Break(Ended::without_answer(Outcome::Failed(failure), at));
            }
            Disposition::Ambiguous(kind) => {
                self.shared.turn_away(stop);
                return ControlFlow::Break(Ended::without_answer(self.ambiguous(kind, endpoint, &error), at));
            }
        })
    }

    fn follow_hint(&mut self, stop: usize, error: &AttemptError) -> Next {
        match self.shared.hinted(error) {
            Some(leader) if leader != stop && self.shared.options.follow_redirects => {
                self.shared.prefer(leader);
                self.redirected = true;
                self.redirects_in_a_row += 1;
                if self.redirects_in_a_row > REDIRECTS_IN_A_ROW_MAX {
                    Next::AfterPause(leader)
                } else {
                    Next::Now(leader)
                }
            }
            _ => Next::AfterPause(self.shared.turn_away(stop)),
        }
    }

    fn count_attempt(&mut self, endpoint: &Endpoint) {
        let reason = match (self.attempts, std::mem::take(&mut self.redirected)) {
            (0, _) => Reason::First,
            (_, true) => Reason::Redirect,
            (_, false) => Reason::Retry,
        };
        self.redirects += u32::from(reason == Reason::Redirect);
        self.retries += u32::from(reason == Reason::Retry);
        self.attempts += 1;
        endpoint.count_attempt(reason);
    }

    /// Waits before the next attempt; false if the deadline comes first.
    async fn pause(&mut self) -> bool {
        let pause = self.shared.pause(self.pauses);
        self.pauses += 1;
        self.redirects_in_a_row = 0;
        if Instant::now() + pause + ATTEMPT_TIME_MIN >= self.deadline {
            return false;
        }
        let _waiting = self.shared.backoff.wait();
        sleep(pause).await;
        true
    }

    fn ambiguous(&self, kind: OutcomeKind, endpoint: &Endpoint, error: &AttemptError) -> Outcome {
        let failure = Failure::new(kind, error.to_string());
        self.call.without_answer(failure.at(&endpoint.address))
    }

    /// Every attempt was refused before execution, so it certainly did not happen.
    fn nobody_took_it(self) -> OperationResult {
        let (kind, detail) = self.last_refusal.clone();
        let outcome = Outcome::Failed(Failure::new(kind, detail));
        self.end(Ended::without_answer(outcome, Instant::now()))
    }

    fn end(self, ended: Ended) -> OperationResult {
        OperationResult {
            outcome: ended.outcome,
            node: ended.node,
            term: ended.term,
            redirects: self.redirects,
            retries: self.retries,
            answered_after: ended.answered_after,
            refused: self.refused,
            at: ended.at,
        }
    }
}

/// How a journey ended.
struct Ended {
    outcome: Outcome,
    node: Option<Arc<str>>,
    term: Option<u64>,
    answered_after: Option<Duration>,
    at: Instant,
}

impl Ended {
    fn without_answer(outcome: Outcome, at: Instant) -> Ended {
        Ended {
            outcome,
            node: None,
            term: None,
            answered_after: None,
            at,
        }
    }
}

/// What an error says about the endpoint that it came from.
fn note(endpoint: &Endpoint, disposition: Disposition, began: Instant, at: Instant) {
    match disposition {
        Disposition::NotSent | Disposition::Ambiguous(OutcomeKind::Transport) => endpoint.broke(),
        Disposition::Ambiguous(OutcomeKind::TimeoutClient) => endpoint.stayed_silent(began),
        _ => endpoint.answered("", at),
    }
}

/// Sends the operation once and waits for what comes of it.
async fn attempt(
    shared: &Shared,
    stop: usize,
    endpoint: &Endpoint,
    call: &Call,
    deadline: Instant,
) -> Attempted {
    let began = Instant::now();
    let target = &shared.target;
    let remaining = deadline.saturating_duration_since(began);
    let _out = shared.backoff.send();
    let sent = endpoint
        .connection()
        .call(target.method(call), Some(remaining), |body| {
            target.encode(call, body)
        });
    let result = match timeout_at(deadline.into(), sent).await {
        Ok(Ok(answer)) => shared.read(endpoint, call, answer.body(), Instant::now()),
        Ok(Err(error)) => Err(AttemptError::Wire(error)),
        // It may have left, and so it may happen.
        Err(_) => Err(AttemptError::Deadline),
    };
    Attempted {
        stop,
        began,
        at: Instant::now(),
        result,
    }
}
