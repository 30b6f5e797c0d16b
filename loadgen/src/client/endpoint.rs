//! One address: its connections, what is known of the node behind it, and whether it can be trusted with an operation.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use proto::raft::key_value_service_client::KeyValueServiceClient;
use proto::raft::{GetClusterStatusRequest, GetClusterStatusResponse};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Uri};

use super::{ClientError, ClientOptions};

/// Longest wait for a suspect endpoint to show that it is back.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Shortest time between two questions to a suspect endpoint.
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// Longest connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: String,
    connections: Vec<KeyValueServiceClient<Channel>>,
    turn: AtomicUsize,
    node_id: RwLock<Option<String>>,
    /// It broke a connection or let a deadline pass, and has not answered anything since.
    suspect: AtomicBool,
    /// When it last answered anything, for telling a slow endpoint from a silent one.
    last_answer: RwLock<Option<Instant>>,
    /// Held while somebody asks a suspect endpoint whether it is back; when that was last done.
    probe: Mutex<Option<Instant>>,
}

impl Endpoint {
    /// Prepares connections without opening any.
    pub(super) fn new(address: &str, options: &ClientOptions) -> Result<Endpoint, ClientError> {
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
        let channel = Channel::builder(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            // A connection that swallows everything is dropped once no operation can be waiting on it in good faith.
            .http2_keep_alive_interval(options.timeout)
            .keep_alive_timeout(options.timeout);
        let connections = (0..options.connections.max(1))
            .map(|_| KeyValueServiceClient::new(channel.connect_lazy()))
            .collect();
        Ok(Endpoint {
            address: address.to_owned(),
            connections,
            turn: AtomicUsize::new(0),
            node_id: RwLock::new(None),
            suspect: AtomicBool::new(false),
            last_answer: RwLock::new(None),
            probe: Mutex::new(None),
        })
    }

    /// The next connection, in turn.
    pub(super) fn connection(&self) -> KeyValueServiceClient<Channel> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.connections[turn % self.connections.len()].clone()
    }

    /// Identifier of the node behind it, once learned.
    pub(super) fn node_id(&self) -> Option<String> {
        self.node_id
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn is_node(&self, id: &str) -> bool {
        let known = self.node_id.read().unwrap_or_else(PoisonError::into_inner);
        known.as_deref() == Some(id)
    }

    /// It answered, refusals included.
    pub(super) fn answered(&self, node_id: Option<&str>) {
        self.suspect.store(false, Ordering::Relaxed);
        *self.last_answer.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        if let Some(id) = node_id.filter(|id| !id.is_empty())
            && !self.is_node(id)
        {
            *self.node_id.write().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
        }
    }

    /// A connection broke.
    pub(super) fn broke(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    /// A deadline passed on an attempt begun at `since`. Slow is not silent: if it answered others meanwhile, it stays
    /// trusted.
    pub(super) fn stayed_silent(&self, since: Instant) {
        let last = *self.last_answer.read().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last < since) {
            self.suspect.store(true, Ordering::Relaxed);
        }
    }

    /// Whether an operation may be sent. A suspect endpoint is first asked for its status, which has no effect, by one
    /// caller at a time: so a dead node costs questions, not writes of unknown outcome.
    pub(super) async fn is_usable(&self, deadline: Instant) -> bool {
        if !self.suspect.load(Ordering::Relaxed) {
            return true;
        }
        let Ok(mut last) = self.probe.try_lock() else {
            return false;
        };
        if last.is_some_and(|last| last.elapsed() < PROBE_PAUSE) {
            return false;
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        let answer = self.status(PROBE_TIMEOUT.min(remaining)).await;
        *last = Some(Instant::now());
        answer.is_ok()
    }

    /// Asks the node for its status.
    pub(super) async fn status(&self, limit: Duration) -> Result<GetClusterStatusResponse, Status> {
        let mut request = tonic::Request::new(GetClusterStatusRequest {});
        request.set_timeout(limit);
        let mut connection = self.connection();
        let answer = timeout(limit, connection.get_cluster_status(request))
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no answer within {limit:?}"))));
        match answer {
            Ok(response) => {
                let response = response.into_inner();
                self.answered(response.header.as_ref().map(|header| header.node_id.as_str()));
                Ok(response)
            }
            Err(status) => {
                self.broke();
                Err(status)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn only_host_and_port_make_an_endpoint() {
        let options = ClientOptions::default();
        for good in ["127.0.0.1:50051", "localhost:1", "[::1]:50051"] {
            assert_eq!(Endpoint::new(good, &options).unwrap().address, good);
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
            assert!(Endpoint::new(bad, &options).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn slow_is_not_silent() {
        let endpoint = Endpoint::new("127.0.0.1:1", &ClientOptions::default()).unwrap();
        let began = Instant::now();
        endpoint.answered(Some("n1"));
        endpoint.stayed_silent(began);
        assert!(!endpoint.suspect.load(Ordering::Relaxed));
        let later = Instant::now() + Duration::from_secs(1);
        endpoint.stayed_silent(later);
        assert!(endpoint.suspect.load(Ordering::Relaxed));
        endpoint.answered(None);
        assert!(!endpoint.suspect.load(Ordering::Relaxed));
        assert_eq!(endpoint.node_id().as_deref(), Some("n1"));
    }
}
