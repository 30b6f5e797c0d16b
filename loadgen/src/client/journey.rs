//! One operation on its way through the cluster: attempt by attempt, until it ended or its deadline passed.

use std::time::{Duration, Instant};

use proto::raft::{CompareAndSwapRequest, DeleteRequest, GetRequest, PutRequest, ResponseHeader};
use tokio::time::{sleep, timeout_at};
use tonic::{Request, Status};
use tracing::debug;

use super::endpoint::Endpoint;
use super::{Call, Shared};
use crate::outcome::{
    Answer, Disposition, Failure, FailureKind, OperationResult, Outcome, classify, describe, leader_hint,
};

/// Where to go after a refusal.
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
    last_refusal: String,
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
            last_refusal: "never tried".into(),
        }
    }

    pub(super) async fn travel(mut self) -> OperationResult {
        let mut stop = self.shared.first_stop();
        loop {
            let endpoint = self.shared.endpoint(stop);
            let next = if endpoint.is_usable(self.deadline).await {
                let began = Instant::now();
                if began >= self.deadline {
                    return self.nobody_took_it();
                }
                self.count_attempt();
                match attempt(&endpoint, self.call, self.deadline).await {
                    Ok((answer, header)) => {
                        endpoint.answered(header.as_ref().map(|header| header.node_id.as_str()));
                        self.shared.prefer(stop);
                        return self.end(Outcome::Ok(answer), header);
                    }
                    Err(status) => match self.refused(stop, &endpoint, &status, began) {
                        Ok(next) => next,
                        Err(outcome) => return self.end(outcome, None),
                    },
                }
            } else {
                self.last_refusal = format!("{} does not answer", endpoint.address);
                // A hint to a dead node leads nowhere: the attempt to come is a retry.
                self.redirected = false;
                Next::AfterPause(self.shared.turn_away(stop))
            };
            stop = match next {
                Next::Now(stop) => stop,
                Next::AfterPause(stop) => {
                    if !self.pause().await {
                        return self.nobody_took_it();
                    }
                    stop
                }
            };
        }
    }

    /// What to do after an error: go on, or end with an outcome.
    fn refused(
        &mut self,
        stop: usize,
        endpoint: &Endpoint,
        status: &Status,
        began: Instant,
    ) -> Result<Next, Outcome> {
        let disposition = classify(status);
        debug!(
            endpoint = endpoint.address,
            ?disposition,
            error = describe(status),
            "attempt refused"
        );
        self.last_refusal = format!("{}: {}", endpoint.address, describe(status));
        match disposition {
            Disposition::Redirect => {
                endpoint.answered(None);
                Ok(self.follow_hint(stop, status))
            }
            Disposition::Elsewhere => {
                endpoint.answered(None);
                Ok(Next::AfterPause(self.shared.turn_away(stop)))
            }
            Disposition::Again => {
                endpoint.answered(None);
                Ok(Next::AfterPause(stop))
            }
            Disposition::NotSent => {
                endpoint.broke();
                Ok(Next::AfterPause(self.shared.turn_away(stop)))
            }
            Disposition::Rejected => {
                endpoint.answered(None);
                Err(Outcome::Failed(Failure::new(
                    FailureKind::Rejected,
                    describe(status),
                )))
            }
            Disposition::Ambiguous(kind) => {
                match kind {
                    FailureKind::NoAnswer => endpoint.stayed_silent(began),
                    FailureKind::ConnectionLost => endpoint.broke(),
                    _ => endpoint.answered(None),
                }
                self.shared.turn_away(stop);
                Err(self.ambiguous(kind, endpoint, status))
            }
        }
    }

    fn follow_hint(&mut self, stop: usize, status: &Status) -> Next {
        let (id, address) = leader_hint(status);
        match self.shared.hinted(id, address) {
            Some(leader) if leader != stop => {
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

    fn count_attempt(&mut self) {
        match (self.attempts, std::mem::take(&mut self.redirected)) {
            (0, _) => {}
            (_, true) => self.redirects += 1,
            (_, false) => self.retries += 1,
        }
        self.attempts += 1;
    }

    /// Waits before the next attempt; false if the deadline comes first.
    async fn pause(&mut self) -> bool {
        let pause = self.shared.pause(self.pauses);
        self.pauses += 1;
        self.redirects_in_a_row = 0;
        if Instant::now() + pause + ATTEMPT_TIME_MIN >= self.deadline {
            return false;
        }
        sleep(pause).await;
        true
    }

    fn ambiguous(&self, kind: FailureKind, endpoint: &Endpoint, status: &Status) -> Outcome {
        // Only what the store said is worth counting by its words; of the rest the place is told.
        let detail = match kind {
            FailureKind::StoreUnsure | FailureKind::Unlabelled => describe(status),
            _ => format!("{}: {}", endpoint.address, describe(status)),
        };
        let failure = Failure::new(kind, detail);
        match self.call {
            Call::Get { .. } => Outcome::Failed(failure),
            Call::Put { .. } | Call::Cas { .. } | Call::Delete { .. } => Outcome::Unknown(failure),
        }
    }

    /// Every attempt was refused before execution, so it certainly did not happen.
    fn nobody_took_it(self) -> OperationResult {
        let failure = Failure::new(FailureKind::NobodyTookIt, self.last_refusal.clone());
        self.end(Outcome::Failed(failure), None)
    }

    fn end(self, outcome: Outcome, header: Option<ResponseHeader>) -> OperationResult {
        OperationResult {
            outcome,
            term: header.as_ref().map(|header| header.term),
            node: header.map(|header| header.node_id).filter(|id| !id.is_empty()),
            redirects: self.redirects,
            retries: self.retries,
        }
    }
}

/// Sends the operation once.
async fn attempt(
    endpoint: &Endpoint,
    call: &Call,
    deadline: Instant,
) -> Result<(Answer, Option<ResponseHeader>), Status> {
    match timeout_at(deadline.into(), send(endpoint, call, deadline)).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("no answer before the deadline")),
    }
}

async fn send(
    endpoint: &Endpoint,
    call: &Call,
    deadline: Instant,
) -> Result<(Answer, Option<ResponseHeader>), Status> {
    let mut connection = endpoint.connection();
    match call.clone() {
        Call::Put { key, value } => {
            let request = with_deadline(
                PutRequest {
                    key,
                    value,
                    session: None,
                },
                deadline,
            );
            let response = connection.put(request).await?.into_inner();
            Ok((
                Answer::Written {
                    index: response.index,
                },
                response.header,
            ))
        }
        Call::Get { key } => {
            let request = with_deadline(
                GetRequest {
                    key,
                    ..Default::default()
                },
                deadline,
            );
            let response = connection.get(request).await?.into_inner();
            let value = response.found.then_some(response.value);
            Ok((
                Answer::Read {
                    value,
                    index: response.index,
                },
                response.header,
            ))
        }
        Call::Cas { key, expected, value } => {
            let request = with_deadline(
                CompareAndSwapRequest {
                    key,
                    expected,
                    value,
                    session: None,
                },
                deadline,
            );
            let response = connection.compare_and_swap(request).await?.into_inner();
            let index = response.index;
            let answer = if response.swapped {
                Answer::Swapped { index }
            } else {
                Answer::Mismatch {
                    current: response.current,
                    index,
                }
            };
            Ok((answer, response.header))
        }
        Call::Delete { key } => {
            let request = with_deadline(DeleteRequest { key, session: None }, deadline);
            let response = connection.delete(request).await?.into_inner();
            let answer = Answer::Deleted {
                index: response.index,
                existed: response.existed,
            };
            Ok((answer, response.header))
        }
    }
}

/// Tells the node how long the answer will be waited for.
fn with_deadline<T>(message: T, deadline: Instant) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline.saturating_duration_since(Instant::now()));
    request
}
