//! All services on one port, until the node is to stop or its log has failed. Every stream ends with the node: none is
//! left for the transport to cut, but those of clients that do not read.

use std::future::Future;
use std::time::Duration;

use proto::peer::peer_service_server::PeerServiceServer;
use proto::raft::admin_service_server::AdminServiceServer;
use proto::raft::key_value_service_server::KeyValueServiceServer;
use proto::raft::state_service_server::StateServiceServer;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::{Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::dispatch::Dispatch;
use super::{NodeError, causes, connections};
use crate::grpc::{Admins, KeyValues, States};
use crate::node::{Driver, Handle};
use crate::transport::PeerEndpoint;

/// Requests under way on one client connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;
/// Silence after which a connection is asked whether anybody is there, and the wait for its answer, which on a narrow
/// link comes behind all the log entries that the peer sent before it.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(30));
/// What remains open so long after the node has stopped is cut.
const CONNECTIONS_TIMEOUT: Duration = Duration::from_secs(2);

/// What clients look at before they send anything.
const KEY_VALUES: &str = <KeyValueServiceServer<KeyValues> as NamedService>::NAME;

/// The parts of a node that meet when it serves.
pub(super) struct Serving {
    pub(super) server: Server,
    pub(super) listener: TcpListener,
    pub(super) connections_max: usize,
    pub(super) service: KeyValues,
    pub(super) admins: Admins,
    pub(super) states: States,
    pub(super) peers: PeerEndpoint,
    pub(super) leader_known: watch::Receiver<bool>,
    pub(super) node: Handle,
    pub(super) driver: Driver,
}

impl Serving {
    /// Serves until `stop`, or until the log fails.
    pub(super) async fn until(self, stop: impl Future<Output = ()>) -> Result<(), NodeError> {
        let (close, closed) = watch::channel(false);
        let (health_reporter, health) = tonic_health::server::health_reporter();
        let health_reports = Health(health_reporter);
        let reporting = tokio::spawn(health_reports.clone().report(self.leader_known));
        let service = Dispatch {
            key_values: KeyValueServiceServer::new(self.service)
                .max_decoding_message_size(crate::grpc::REQUEST_BYTES_MAX),
            others: others(self.admins, self.states, self.peers)
                .add_service(health)
                .prepare(),
        };
        let incoming = connections::incoming(self.listener, self.connections_max);
        let mut serving = tokio::spawn(self.server.serve_with_incoming_shutdown(
            service,
            incoming,
            wait_until(closed),
        ));

        let mut running = tokio::spawn(self.driver.run());
        let (mut ended, mut served) = (None, None);
        tokio::select! {
            result = &mut running => ended = Some(result),
            result = &mut serving => served = Some(result),
            () = stop => {}
        }
        reporting.abort();
        let _ = reporting.await;
        // Whoever looks at the health of a node sends nothing more to this one from here on.
        health_reports.stop().await;
        self.node.stop().await;
        let _ = close.send(true);
        // Requests in hand are answered while the node finishes; the streams of peers end with it.
        let ended = match ended {
            Some(ended) => ended,
            None => running.await,
        };
        health_reports.forget().await;
        if served.is_none() {
            served = tokio::time::timeout(CONNECTIONS_TIMEOUT, &mut serving).await.ok();
        }
        serving.abort();
        match ended {
            Ok(result) => result?,
            // A broken invariant of ours: let it end the process as panics do, with its message already printed.
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
        match served {
            Some(Ok(Err(error))) => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// The transport of all services.
pub(super) fn server(tls: Option<ServerTlsConfig>) -> Result<Server, NodeError> {
    let server = Server::builder()
        .initial_connection_window_size(8 << 20)
        .initial_stream_window_size(1 << 20)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEP_ALIVE.0))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.1));
    match tls {
        None => Ok(server),
        Some(tls) => server.tls_config(tls).map_err(|error| {
            let causes = causes(&error);
            NodeError::Usage(format!(
                "the certificate, its key and the authority make no TLS: {error}{causes}"
            ))
        }),
    }
}

/// Every service but those of clients, and health.
fn others(admins: Admins, states: States, peers: PeerEndpoint) -> Routes {
    let peers = PeerServiceServer::new(peers).max_decoding_message_size(crate::FRAME_BYTES_MAX);
    Routes::new(AdminServiceServer::new(admins))
        .add_service(StateServiceServer::new(states))
        .add_service(peers)
        .add_service(reflection_v1())
        .add_service(reflection_v1alpha())
}

async fn wait_until(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|set| *set).await;
}

/// `grpc.health.v1`: the process serves as soon as it runs, the key-value service while a leader is known, and neither
/// once the node is to stop.
#[derive(Clone)]
struct Health(HealthReporter);

impl Health {
    async fn report(self, mut leader_known: watch::Receiver<bool>) {
        loop {
            let status = match *leader_known.borrow_and_update() {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            self.0.set_service_status(KEY_VALUES, status).await;
            if leader_known.changed().await.is_err() {
                return;
            }
        }
    }

    async fn stop(&self) {
        for service in ["", KEY_VALUES] {
            self.0
                .set_service_status(service, ServingStatus::NotServing)
                .await;
        }
    }

    /// Ends the streams of those who watch.
    async fn forget(mut self) {
        for service in ["", KEY_VALUES] {
            self.0.clear_service_status(service).await;
        }
    }
}

/// What both versions of the reflection service know: every `.proto` of this project, and health.
fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn reflection_v1()
-> tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection> {
    reflection()
        .build_v1()
        .expect("the descriptors were made by this build")
}

fn reflection_v1alpha() -> tonic_reflection::server::v1alpha::ServerReflectionServer<
    impl tonic_reflection::server::v1alpha::ServerReflection,
> {
    reflection()
        .build_v1alpha()
        .expect("the descriptors were made by this build")
}
