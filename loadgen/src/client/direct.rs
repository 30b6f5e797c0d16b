//! The short way: the first attempt of an operation is handed straight to a connection, without a task or a timer of its
//! own, and its answer is read where it arrives. Nearly every operation needs no more; one that is refused goes on as a
//! journey.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, Reason};
use super::journey::{Attempted, Journey};
use super::{AttemptError, Call, Client};
use crate::outcome::{OperationResult, Outcome};
use crate::wire::{CallId, Cancelled, Completion, Completions};

/// A first attempt that is out.
#[derive(Debug)]
pub(crate) struct Departure {
    stop: usize,
    endpoint: Arc<Endpoint>,
    id: CallId,
    pub(crate) began: Instant,
}

/// What came of a first attempt.
#[derive(Debug)]
pub(crate) enum Arrived {
    /// The operation has ended.
    Ended(OperationResult),
    /// It was refused, and goes on with [`Client::resume`].
    Refused(Refused),
}

/// A first attempt that brought no answer.
#[derive(Debug)]
pub(crate) struct Refused(Attempted);

impl Client {
    /// Sends the first attempt of an operation, whose answer will be among `completions` under `token`. Nothing if the way
    /// is not clear: then [`Client::execute`] finds one.
    pub(crate) fn depart(
        &self,
        call: &Call,
        timeout: Duration,
        began: Instant,
        token: u64,
        completions: &Arc<Completions>,
    ) -> Option<Departure> {
        let stop = self.shared.first_stop();
        let endpoint = self.shared.endpoint(stop);
        if endpoint.is_suspect() {
            return None;
        }
        endpoint.count_attempt(Reason::First);
        self.shared.backoff.sent();
        let target = &self.shared.target;
        let encode = |body: &mut Vec<u8>| target.encode(call, body);
        let id = endpoint
            .connection()
            .submit(target.method(call), Some(timeout), encode, token, completions);
        Some(Departure {
            stop,
            endpoint,
            id,
            began,
        })
    }

    /// A first attempt was answered, or its connection broke.
    pub(crate) fn arrive(&self, departure: Departure, call: &Call, completion: Completion) -> Arrived {
        self.shared.backoff.returned();
        let Completion { at, result, .. } = completion;
        let result = match result {
            Ok(answer) => self.shared.read(&departure.endpoint, call, answer.body(), at),
            Err(error) => Err(AttemptError::Wire(error)),
        };
        match result {
            Ok((answer, term)) => {
                self.shared.prefer(departure.stop);
                Arrived::Ended(OperationResult {
                    outcome: Outcome::Ok(answer),
                    node: departure.endpoint.node_id(),
                    term,
                    redirects: 0,
                    retries: 0,
                    answered_after: Some(at.saturating_duration_since(departure.began)),
                    refused: Vec::new(),
                    at,
                })
            }
            Err(error) => Arrived::Refused(departure.refused(error, at)),
        }
    }

    /// Gives up on a first attempt, because its deadline passed.
    pub(crate) fn give_up(&self, departure: Departure, now: Instant) -> Result<Refused, Departure> {
        let error = match departure.id.cancel() {
            Cancelled::AlreadyDone => return Err(departure),
            Cancelled::NotSent => AttemptError::NeverLeft,
            Cancelled::MaybeSent => AttemptError::Deadline,
        };
        self.shared.backoff.returned();
        Ok(departure.refused(error, now))
    }

    /// Withdraws a first attempt without asking what became of it.
    pub(crate) fn withdraw(&self, departure: &Departure) {
        let _ = departure.id.cancel();
        self.shared.backoff.returned();
    }

    /// Goes on after a first attempt that brought no answer.
    pub(crate) async fn resume(&self, call: &Call, refused: Refused, deadline: Instant) -> OperationResult {
        Journey::new(&self.shared, call, deadline).resume(refused.0).await
    }
}

impl Departure {
    fn refused(self, error: AttemptError, at: Instant) -> Refused {
        Refused(Attempted {
            stop: self.stop,
            began: self.began,
            at,
            result: Err(error),
        })
    }
}
