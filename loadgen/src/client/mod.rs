//! A client of the whole cluster: finds the leader, follows it, and never repeats what may have happened.
//!
//! Promises: every operation has a deadline, told to the node and kept here; an operation is sent again only after a
//! refusal that is certainly without effect ([`crate::outcome::classify`]); anything else ends it at once, a write as
//! unknown and a read as failed. A node that broke a connection or stayed silent is asked for its status before it gets
//! another operation. Never hides an attempt: redirects and retries are counted in the result.

mod endpoint;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use proto::raft::{
    CompareAndSwapRequest, DeleteRequest, GetClusterStatusResponse, GetRequest, PutRequest, ResponseHeader,
};
use thiserror::Error;
use tokio::time::{sleep, timeout_at};
use tonic::{Request, Status};
use tracing::debug;

use crate::outcome::{
    Answer, Disposition, Failure, FailureKind, OperationResult, Outcome, classify, describe, leader_hint,
};
use crate::workload::mix_bits;
use endpoint::Endpoint;

/// First pause before a retry; each further one is drawn from a range twice as wide.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
/// Widest range that a pause is drawn from.
const PAUSE_MAX: Duration = Duration::from_millis(200);
/// Endpoints that hints may add beyond those given.
const HINTED_ENDPOINTS_MAX: usize = 16;

/// How a client behaves.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Connections per endpoint, opened when first used.
    pub connections: usize,
    /// The usual time limit of an operation; sets how long a silent connection is kept.
    pub timeout: Duration,
    /// Where an operation is tried first.
    pub route: Route,
    /// Follow a hint to an address that is none of the endpoints. Off by default: under test every client has its own
    /// way to a node, and a direct call would sneak past the faults.
    pub dial_hints: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            connections: 2,
            timeout: Duration::from_secs(2),
            route: Route::Leader,
            dial_hints: false,
        }
    }
}

/// Where an operation is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// At the node that answered last, or was hinted at since.
    Leader,
    /// At all endpoints in turn; those that do not lead redirect. Keeps talking to a leader that others have deposed.
    Spread,
}

/// Why a client cannot be built.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nothing to connect to.
    #[error("no endpoint given: name at least one node as host:port")]
    NoEndpoints,
    /// Not an address.
    #[error("`{endpoint}` is not an endpoint: {reason}")]
    InvalidEndpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One operation to execute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Set a key.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: String,
    },
    /// Read a key.
    Get {
        /// Which.
        key: String,
    },
    /// Set a key if it holds the expected value, or is absent where nothing is expected.
    Cas {
        /// Which.
        key: String,
        /// What it must hold.
        expected: Option<String>,
        /// To what.
        value: String,
    },
    /// Remove a key.
    Delete {
        /// Which.
        key: String,
    },
}

/// A client of the whole cluster. Clones share connections and knowledge.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: ClientOptions,
    endpoints: RwLock<Vec<Arc<Endpoint>>>,
    given: usize,
    /// Where operations are tried first with [`Route::Leader`].
    preferred: AtomicUsize,
    turn: AtomicUsize,
    jitter: AtomicU64,
}

impl Client {
    /// Prepares connections to `endpoints` (host:port) without opening any. Must be called within a tokio runtime.
    pub fn connect<E: AsRef<str>>(endpoints: &[E], options: ClientOptions) -> Result<Client, ClientError> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|address| Endpoint::new(address.as_ref(), &options).map(Arc::new))
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(ClientError::NoEndpoints);
        }
        Ok(Client {
            shared: Arc::new(Shared {
                options,
                given: endpoints.len(),
                endpoints: RwLock::new(endpoints),
                preferred: AtomicUsize::new(0),
                turn: AtomicUsize::new(0),
                jitter: AtomicU64::new(0),
            }),
        })
    }

    /// Sets a key.
    pub async fn put(&self, key: &str, value: &str, deadline: Instant) -> OperationResult {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.execute(&Call::Put { key, value }, deadline).await
    }

    /// Reads a key.
    pub async fn get(&self, key: &str, deadline: Instant) -> OperationResult {
        self.execute(&Call::Get { key: key.to_owned() }, deadline).await
    }

    /// Sets a key if it holds `expected`; with nothing expected, if it is absent.
    pub async fn cas(
        &self,
        key: &str,
        expected: Option<&str>,
        value: &str,
        deadline: Instant,
    ) -> OperationResult {
        let call = Call::Cas {
            key: key.to_owned(),
            expected: expected.map(str::to_owned),
            value: value.to_owned(),
        };
        self.execute(&call, deadline).await
    }

    /// Removes a key.
    pub async fn delete(&self, key: &str, deadline: Instant) -> OperationResult {
        self.execute(&Call::Delete { key: key.to_owned() }, deadline)
            .await
    }

    /// Asks the node behind endpoint number `endpoint`, and no other, for its status.
    ///
    /// # Panics
    /// If there is no such endpoint.
    pub async fn status(&self, endpoint: usize, limit: Duration) -> Result<GetClusterStatusResponse, Status> {
        let endpoint = self.shared.endpoint(endpoint);
        endpoint.status(limit).await
    }

    /// Asks every endpoint for its status at once, which also teaches which node is where.
    pub async fn status_of_all(&self, limit: Duration) -> Vec<Result<GetClusterStatusResponse, Status>> {
        let asked: Vec<_> = (0..self.shared.given)
            .map(|number| {
                let endpoint = self.shared.endpoint(number);
                tokio::spawn(async move { endpoint.status(limit).await })
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (number, answer) in asked.into_iter().enumerate() {
            let answer = answer
                .await
                .unwrap_or_else(|error| Err(Status::internal(error.to_string())));
            if let Ok(status) = &answer
                && let Some(header) = &status.header
                && header.node_id == status.leader_id
                && !header.node_id.is_empty()
            {
                self.shared.prefer(number);
            }
            answers.push(answer);
        }
        answers
    }

    /// The endpoints given, in order, each with its node's identifier once learned.
    pub fn endpoints(&self) -> Vec<(String, Option<String>)> {
        let endpoints = self
            .shared
            .endpoints
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let given = endpoints.iter().take(self.shared.given);
        given
            .map(|endpoint| (endpoint.address.clone(), endpoint.node_id()))
            .collect()
    }

    /// Number of the endpoint where the next operation is tried first with [`Route::Leader`].
    pub fn preferred(&self) -> usize {
        self.shared.preferred.load(Ordering::Relaxed)
    }

    /// Executes an operation, following the leader, until it ended or the deadline passed.
    pub async fn execute(&self, call: &Call, deadline: Instant) -> OperationResult {
        Journey::new(&self.shared, call, deadline).travel().await
    }
}

impl Shared {
    fn endpoint(&self, number: usize) -> Arc<Endpoint> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&endpoints[number])
    }

    fn first_stop(&self) -> usize {
        match self.options.route {
            Route::Leader => self.preferred.load(Ordering::Relaxed),
            Route::Spread => self.turn.fetch_add(1, Ordering::Relaxed) % self.given,
        }
    }

    fn prefer(&self, number: usize) {
        self.preferred.store(number, Ordering::Relaxed);
    }

    /// Turns away from an endpoint, unless somebody else already did.
    fn turn_away(&self, from: usize) -> usize {
        let next = (from + 1) % self.given;
        let _ = self
            .preferred
            .compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
        next
    }

    /// The endpoint that a refusal points to, if it is one of ours or may become one.
    fn hinted(&self, id: Option<&str>, address: Option<&str>) -> Option<usize> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        let known = id.and_then(|id| endpoints.iter().position(|endpoint| endpoint.is_node(id)));
        let (None, true, Some(address)) = (known, self.options.dial_hints, address) else {
            return known;
        };
        if let Some(known) = endpoints.iter().position(|endpoint| endpoint.address == address) {
            return Some(known);
        }
        drop(endpoints);
        let added = Endpoint::new(address, &self.options).ok()?;
        let mut endpoints = self.endpoints.write().unwrap_or_else(PoisonError::into_inner);
        if endpoints.len() >= self.given + HINTED_ENDPOINTS_MAX {
            return None;
        }
        endpoints.push(Arc::new(added));
        Some(endpoints.len() - 1)
    }

    /// A pause drawn from zero to twice the previous range ("full jitter"), so that refused clients do not return as
    /// one crowd.
    fn pause(&self, round: u32) -> Duration {
        let range = PAUSE_FIRST.saturating_mul(1 << round.min(10)).min(PAUSE_MAX);
        let random = mix_bits(self.jitter.fetch_add(1, Ordering::Relaxed));
        range.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// Where to go after a refusal.
enum Next {
    Now(usize),
    AfterPause(usize),
}

/// One operation on its way.
struct Journey<'a> {
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

/// Redirects followed without a pause: from whom we asked to the leader, and once more if it just changed.
const REDIRECTS_IN_A_ROW_MAX: u32 = 2;

impl<'a> Journey<'a> {
    fn new(shared: &'a Shared, call: &'a Call, deadline: Instant) -> Journey<'a> {
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

    async fn travel(mut self) -> OperationResult {
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
        if Instant::now() + pause >= self.deadline {
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
            let request = with_deadline(PutRequest { key, value }, deadline);
            let response = connection.put(request).await?.into_inner();
            Ok((
                Answer::Written {
                    index: response.index,
                },
                response.header,
            ))
        }
        Call::Get { key } => {
            let request = with_deadline(GetRequest { key }, deadline);
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
            let request = with_deadline(CompareAndSwapRequest { key, expected, value }, deadline);
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
            let request = with_deadline(DeleteRequest { key }, deadline);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn pauses_double_up_to_their_limit_and_are_spread_out() {
        let client = Client::connect(&["127.0.0.1:1"], ClientOptions::default()).unwrap();
        for (round, limit_ms) in [(0, 10), (1, 20), (2, 40), (4, 160), (5, 200), (40, 200)] {
            let limit = Duration::from_millis(limit_ms);
            let drawn: Vec<_> = (0..200).map(|_| client.shared.pause(round)).collect();
            assert!(drawn.iter().all(|pause| *pause <= limit));
            assert!(drawn.iter().any(|pause| *pause > limit / 2));
            assert!(drawn.iter().any(|pause| *pause < limit / 2));
        }
    }

    #[tokio::test]
    async fn no_endpoint_is_an_error() {
        let none: [&str; 0] = [];
        assert!(matches!(
            Client::connect(&none, ClientOptions::default()),
            Err(ClientError::NoEndpoints)
        ));
    }
}
