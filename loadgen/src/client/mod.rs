//! A client of the whole cluster: finds the leader, follows it, and never repeats what may have happened.
//!
//! Promises: every operation has a deadline, told to the node and kept here; an operation is sent again only after a
//! refusal that is certainly without effect ([`Target::disposition`]); anything else ends it at once, a write as
//! unknown and a read as failed. A node that broke a connection or stayed silent is asked for its status before it gets
//! another operation. Never hides an attempt: redirects and retries are counted in the result.

mod backoff;
mod call;
mod direct;
mod endpoint;
mod journey;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reports::record::{EndpointLoad, OutcomeKind};
use thiserror::Error;

use crate::outcome::{Answer, Disposition, Failure, OperationResult, Outcome};
use crate::target::{Presence, Raft, Target};
use crate::wire::CallError;
use crate::workload::mix_bits;
use backoff::Backoff;
use call::AttemptError;
use endpoint::Endpoint;
use journey::Journey;

pub use call::Call;
pub(crate) use direct::{Arrived, Departure, Refused};

/// Usual first range of pauses before a retry.
const PAUSE_FIRST: Duration = Duration::from_millis(10);
/// Usual widest range of pauses before a retry.
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
    /// Attempts after refusals other than redirects, at most; without a number, until the deadline.
    pub retries: Option<u32>,
    /// First range that a pause before a retry is drawn from; each further one is twice as wide.
    pub pause_first: Duration,
    /// Widest range that a pause is drawn from.
    pub pause_max: Duration,
    /// Ask the node that a refusal points to, at once. Off: the next endpoint, after a pause.
    pub follow_redirects: bool,
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
            retries: None,
            pause_first: PAUSE_FIRST,
            pause_max: PAUSE_MAX,
            follow_redirects: true,
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
    RoundRobin,
    /// At this endpoint, counted from zero in the order given.
    Endpoint(usize),
}

/// Why a client cannot be built.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nothing to connect to.
    #[error("no endpoint given: name at least one node as host:port")]
    NoEndpoints,
    /// A route to an endpoint that was not given.
    #[error("there is no endpoint number {number}: {given} given, counted from zero")]
    NoSuchEndpoint {
        /// Asked for.
        number: usize,
        /// How many there are.
        given: usize,
    },
    /// Not an address.
    #[error("`{endpoint}` is not an endpoint: {reason}")]
    InvalidEndpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
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
    target: Arc<dyn Target>,
    backoff: Backoff,
    /// Where requests to a target inside this process are written.
    scratch: Mutex<Vec<u8>>,
}

impl Client {
    /// A client of the reference store: see [`Client::of`].
    pub fn connect<E: AsRef<str>>(endpoints: &[E], options: ClientOptions) -> Result<Client, ClientError> {
        Client::of(Arc::new(Raft), endpoints, options)
    }

    /// Prepares connections to `endpoints` (host:port) of a store of this kind, without opening any. Must be called within
    /// a tokio runtime.
    pub fn of<E: AsRef<str>>(
        target: Arc<dyn Target>,
        endpoints: &[E],
        options: ClientOptions,
    ) -> Result<Client, ClientError> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|address| Endpoint::new(address.as_ref(), &target, &options).map(Arc::new))
            .collect::<Result<_, _>>()?;
        if endpoints.is_empty() && !target.is_in_process() {
            return Err(ClientError::NoEndpoints);
        }
        if let Route::Endpoint(number) = options.route
            && number >= endpoints.len()
        {
            let given = endpoints.len();
            return Err(ClientError::NoSuchEndpoint { number, given });
        }
        Ok(Client {
            shared: Arc::new(Shared {
                options,
                given: endpoints.len(),
                endpoints: RwLock::new(endpoints),
                preferred: AtomicUsize::new(0),
                turn: AtomicUsize::new(0),
                jitter: AtomicU64::new(0),
                target,
                backoff: Backoff::default(),
                scratch: Mutex::default(),
            }),
        })
    }

    /// Sets a key.
    pub async fn put(&self, key: &str, value: &str, deadline: Instant) -> OperationResult {
        let (key, value) = (key.into(), value.to_owned());
        self.execute(&Call::Put { key, value }, deadline).await
    }

    /// Reads a key.
    pub async fn get(&self, key: &str, deadline: Instant) -> OperationResult {
        self.execute(&Call::Get { key: key.into() }, deadline).await
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
            key: key.into(),
            expected: expected.map(str::to_owned),
            value: value.to_owned(),
        };
        self.execute(&call, deadline).await
    }

    /// Removes a key.
    pub async fn delete(&self, key: &str, deadline: Instant) -> OperationResult {
        self.execute(&Call::Delete { key: key.into() }, deadline).await
    }

    /// The kind of store it talks to.
    pub fn target(&self) -> &Arc<dyn Target> {
        &self.shared.target
    }

    /// Asks every endpoint who it is, at once, which also teaches which node is where and who leads.
    pub async fn presence_of_all(&self, limit: Duration) -> Vec<Result<Presence, CallError>> {
        let asked: Vec<_> = (0..self.shared.given)
            .map(|number| {
                let endpoint = self.shared.endpoint(number);
                tokio::spawn(async move { endpoint.presence(limit).await })
            })
            .collect();
        let mut answers = Vec::with_capacity(asked.len());
        for (number, answer) in asked.into_iter().enumerate() {
            let answer = answer.await.unwrap_or_else(|error| {
                let reason = error.to_string();
                Err(CallError::Lost { reason })
            });
            if let Ok(presence) = &answer
                && presence.node == presence.leader
                && !presence.node.is_empty()
            {
                self.shared.prefer(number);
            }
            answers.push(answer);
        }
        answers
    }

    /// What each endpoint was asked and answered since the client was made, in the order given; questions about its
    /// status are not counted.
    pub fn endpoint_loads(&self) -> Vec<EndpointLoad> {
        let endpoints = self
            .shared
            .endpoints
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        endpoints.iter().map(|endpoint| endpoint.load()).collect()
    }

    /// How much of the time between two instants nothing was out while at least one operation waited between attempts:
    /// the client's own share of an outage.
    pub fn own_backoff(&self, from: Instant, to: Instant) -> Duration {
        self.shared.backoff.within(from, to)
    }

    /// The endpoints given, in order, each with its node's identifier once learned.
    pub fn endpoints(&self) -> Vec<(String, Option<Arc<str>>)> {
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

    /// The answer of a target inside this process; nothing if the target is elsewhere.
    pub(crate) fn at_once(&self, call: &Call) -> Option<OperationResult> {
        let target = &self.shared.target;
        if !target.is_in_process() {
            return None;
        }
        let mut body = self.shared.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        body.clear();
        // What would be sent is written as for any other target: that is part of what the generator costs.
        target.encode(call, &mut body);
        let outcome = match target.answer(call, &[]) {
            Ok(reply) => Outcome::Ok(reply.answer),
            Err(malformed) => {
                call.without_answer(Failure::new(OutcomeKind::Unlabelled, malformed.to_string()))
            }
        };
        Some(OperationResult {
            answered_after: Some(Duration::ZERO),
            ..OperationResult::without_answer(outcome, Instant::now())
        })
    }

    /// Executes an operation, following the leader, until it ended or the deadline passed.
    pub async fn execute(&self, call: &Call, deadline: Instant) -> OperationResult {
        if let Some(result) = self.at_once(call) {
            return result;
        }
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
            Route::RoundRobin => self.turn.fetch_add(1, Ordering::Relaxed) % self.given.max(1),
            Route::Endpoint(number) => number,
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

    /// What an error leaves the client to do.
    fn disposition(&self, error: &AttemptError) -> Disposition {
        match error {
            AttemptError::Deadline => Disposition::Ambiguous(OutcomeKind::TimeoutClient),
            AttemptError::NeverLeft | AttemptError::Wire(CallError::NotSent { .. }) => Disposition::NotSent,
            AttemptError::Wire(CallError::Lost { .. }) => Disposition::Ambiguous(OutcomeKind::Transport),
            AttemptError::Wire(CallError::Protocol { .. }) | AttemptError::Malformed(_) => {
                Disposition::Ambiguous(OutcomeKind::Unlabelled)
            }
            AttemptError::Wire(CallError::Status(status)) => self.target.disposition(status),
        }
    }

    /// Reads an answer, and learns from it who gave it.
    fn read(
        &self,
        endpoint: &Endpoint,
        call: &Call,
        body: &[u8],
        at: Instant,
    ) -> Result<(Answer, Option<u64>), AttemptError> {
        let reply = self.target.answer(call, body).map_err(AttemptError::Malformed)?;
        endpoint.answered(reply.node, at);
        endpoint.count_ok();
        Ok((reply.answer, reply.term))
    }

    /// The endpoint that a refusal points to, if it is one of ours or may become one.
    fn hinted(&self, error: &AttemptError) -> Option<usize> {
        let AttemptError::Wire(CallError::Status(status)) = error else {
            return None;
        };
        let (id, address) = self.target.leader_hint(status);
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        let known = id.and_then(|id| endpoints.iter().position(|endpoint| endpoint.is_node(id)));
        let (None, true, Some(address)) = (known, self.options.dial_hints, address) else {
            return known;
        };
        if let Some(known) = endpoints.iter().position(|endpoint| endpoint.address == address) {
            return Some(known);
        }
        drop(endpoints);
        let added = Endpoint::new(address, &self.target, &self.options).ok()?;
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
        let options = &self.options;
        let range = options
            .pause_first
            .saturating_mul(1 << round.min(16))
            .min(options.pause_max);
        let random = mix_bits(self.jitter.fetch_add(1, Ordering::Relaxed));
        range.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
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
