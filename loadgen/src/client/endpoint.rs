//! One address: its connections, what is known of the node behind it, and whether it can be trusted with an operation.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use reports::record::EndpointLoad;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::codegen::http::Uri;

use super::{ClientError, ClientOptions};
use crate::clock::nanos;
use crate::target::{Presence, Target};
use crate::wire::{CallError, Connection, Options};

/// Longest wait for a suspect endpoint to show that it is back.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Shortest time between two questions to a suspect endpoint.
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// Longest connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Calls that may wait on one connection for the far side to allow more streams.
const WAITING_MAX: usize = 100_000;

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: String,
    target: Arc<dyn Target>,
    connections: Vec<Connection>,
    turn: AtomicUsize,
    node_id: RwLock<Option<Arc<str>>>,
    /// It broke a connection or let a deadline pass, and has not answered anything since.
    suspect: AtomicBool,
    /// When it last answered anything, in nanoseconds since `origin` (zero: never), for telling a slow endpoint from a
    /// silent one.
    last_answer: AtomicU64,
    origin: Instant,
    /// Held while somebody asks a suspect endpoint whether it is back; when that was last done.
    probe: Mutex<Option<Instant>>,
    counts: Counts,
}

/// Operations only; questions about its status are not counted.
#[derive(Debug, Default)]
struct Counts {
    attempts: AtomicU64,
    ok: AtomicU64,
    redirects: AtomicU64,
    retries: AtomicU64,
    redirected_away: AtomicU64,
}

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    First,
    Redirect,
    Retry,
}

impl Endpoint {
    /// Prepares connections without opening any.
    pub(super) fn new(
        address: &str,
        target: &Arc<dyn Target>,
        options: &ClientOptions,
    ) -> Result<Endpoint, ClientError> {
        check(address)?;
        let wire = Options {
            connect_timeout: CONNECT_TIMEOUT,
            // A connection that swallows everything is dropped once no operation can be waiting on it in good faith.
            keep_alive: options.timeout,
            waiting_max: WAITING_MAX,
        };
        let connections = (0..options.connections.max(1)).map(|_| Connection::new(address, wire.clone()));
        Ok(Endpoint {
            address: address.to_owned(),
            target: Arc::clone(target),
            connections: connections.collect(),
            turn: AtomicUsize::new(0),
            node_id: RwLock::new(None),
            suspect: AtomicBool::new(false),
            last_answer: AtomicU64::new(0),
            origin: Instant::now(),
            probe: Mutex::new(None),
            counts: Counts::default(),
        })
    }

    /// The next connection, in turn.
    pub(super) fn connection(&self) -> &Connection {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &self.connections[turn % self.connections.len()]
    }

    /// An attempt of an operation begins here.
    pub(super) fn count_attempt(&self, reason: Reason) {
        self.counts.attempts.fetch_add(1, Ordering::Relaxed);
        match reason {
            Reason::First => 0,
            Reason::Redirect => self.counts.redirects.fetch_add(1, Ordering::Relaxed),
            Reason::Retry => self.counts.retries.fetch_add(1, Ordering::Relaxed),
        };
    }

    /// An attempt of an operation was answered here.
    pub(super) fn count_ok(&self) {
        self.counts.ok.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt of an operation was sent elsewhere.
    pub(super) fn count_redirected_away(&self) {
        self.counts.redirected_away.fetch_add(1, Ordering::Relaxed);
    }

    /// What it was asked and answered so far.
    pub(super) fn load(&self) -> EndpointLoad {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EndpointLoad {
            endpoint: self.address.clone(),
            node: self.node_id().map(|id| id.to_string()),
            attempts: read(&self.counts.attempts),
            ok: read(&self.counts.ok),
            redirects: read(&self.counts.redirects),
            retries: read(&self.counts.retries),
            redirected_away: read(&self.counts.redirected_away),
        }
    }

    /// Identifier of the node behind it, once learned.
    pub(super) fn node_id(&self) -> Option<Arc<str>> {
        let known = self.node_id.read().unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    pub(super) fn is_node(&self, id: &str) -> bool {
        let known = self.node_id.read().unwrap_or_else(PoisonError::into_inner);
        known.as_deref() == Some(id)
    }

    /// It answered at `at`, refusals included, as this node if it said so.
    pub(super) fn answered(&self, node_id: &str, at: Instant) {
        self.suspect.store(false, Ordering::Relaxed);
        let since = nanos(at.saturating_duration_since(self.origin)).max(1);
        self.last_answer.fetch_max(since, Ordering::Relaxed);
        if !node_id.is_empty() && !self.is_node(node_id) {
            *self.node_id.write().unwrap_or_else(PoisonError::into_inner) = Some(node_id.into());
        }
    }

    /// A connection broke.
    pub(super) fn broke(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// A deadline passed on an attempt begun at `since`. Slow is not silent: if it answered others meanwhile, it stays
    /// trusted.
    pub(super) fn stayed_silent(&self, since: Instant) {
        let last = self.last_answer.load(Ordering::Relaxed);
        if last == 0 || last < nanos(since.saturating_duration_since(self.origin)) {
            self.suspect.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Whether an operation may be sent. A suspect endpoint is first asked for its status, which has no effect, by one
    /// caller at a time: so a dead node costs questions, not writes of unknown outcome.
    pub(super) async fn is_usable(&self, deadline: Instant) -> bool {
        if !self.is_suspect() {
            return true;
        }
        let Ok(mut last) = self.probe.try_lock() else {
            return false;
        };
        if last.is_some_and(|last| last.elapsed() < PROBE_PAUSE) {
            return false;
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        let answer = self.presence(PROBE_TIMEOUT.min(remaining)).await;
        *last = Some(Instant::now());
        answer.is_ok()
    }

    /// Asks the node who it is.
    pub(super) async fn presence(&self, limit: Duration) -> Result<Presence, CallError> {
        let ask = self.connection().call(self.target.probe(), Some(limit), |body| {
            self.target.encode_probe(body)
        });
        let answer = timeout(limit, ask).await.unwrap_or_else(|_| {
            Err(CallError::Lost {
                reason: format!("no answer within {limit:?}"),
            })
        });
        let presence = answer.and_then(|answer| {
            self.target
                .probed(answer.body())
                .map_err(|malformed| CallError::Protocol {
                    reason: malformed.to_string(),
                })
        });
        match &presence {
            Ok(presence) => self.answered(&presence.node, Instant::now()),
            Err(_) => self.broke(),
        }
        presence
    }
}

/// Whether this is host and port and nothing else.
fn check(address: &str) -> Result<(), ClientError> {
    let invalid = |reason: String| ClientError::InvalidEndpoint {
        endpoint: address.to_owned(),
        reason,
    };
    let uri: Uri = format!("http://{address}")
        .parse()
        .map_err(|error: tonic::codegen::http::uri::InvalidUri| invalid(error.to_string()))?;
    let bare = uri
        .authority()
        .is_some_and(|authority| authority.as_str() == address);
    if !bare || uri.port_u16().is_none_or(|port| port == 0) || uri.host().is_none_or(str::is_empty) {
        return Err(invalid("expected host:port".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::target::Raft;

    fn endpoint(address: &str) -> Result<Endpoint, ClientError> {
        let target: Arc<dyn Target> = Arc::new(Raft);
        Endpoint::new(address, &target, &ClientOptions::default())
    }

    #[tokio::test]
    async fn only_host_and_port_make_an_endpoint() {
        for good in ["127.0.0.1:50051", "localhost:1", "[::1]:50051"] {
            assert_eq!(endpoint(good).unwrap().address, good);
        }
        for bad in [
            "",
            "localhost",
            "127.0.0.1:0",
            "a:b",
            ":50051",
            "http://a:1",
            "a:1/path",
            "a b:1",
            "u@a:1/",
        ] {
            assert!(endpoint(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn slow_is_not_silent() {
        let endpoint = endpoint("127.0.0.1:1").unwrap();
        let began = Instant::now();
        endpoint.answered("n1", began + Duration::from_millis(1));
        endpoint.stayed_silent(began);
        assert!(!endpoint.is_suspect());
        endpoint.stayed_silent(began + Duration::from_secs(1));
        assert!(endpoint.is_suspect());
        endpoint.answered("", Instant::now());
        assert!(!endpoint.is_suspect());
        assert_eq!(endpoint.node_id().as_deref(), Some("n1"));
    }
}
