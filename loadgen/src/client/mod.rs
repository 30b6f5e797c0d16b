//! A client of the whole cluster: finds the leader, follows it, and never repeats what may have happened.
//!
//! Promises: every operation has a deadline, told to the node and kept here; an operation is sent again only after a
//! refusal that is certainly without effect ([`crate::outcome::classify`]); anything else ends it at once, a write as
//! unknown and a read as failed. A node that broke a connection or stayed silent is asked for its status before it gets
//! another operation. Never hides an attempt: redirects and retries are counted in the result.

mod endpoint;
mod journey;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use proto::raft::GetClusterStatusResponse;
use thiserror::Error;
use tonic::Status;

use crate::outcome::OperationResult;
use crate::workload::mix_bits;
use endpoint::Endpoint;
use journey::Journey;

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
