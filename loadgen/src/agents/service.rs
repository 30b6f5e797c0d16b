//! The agent's side of the wire: takes orders, one run at a time.

use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use proto::agent::agent_service_server::{AgentService, AgentServiceServer};
use proto::agent::{ClockRequest, ClockResponse, Order, Report};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::session::Session;
use crate::clock::RunClock;

/// Reports that may wait for the coordinator to take them.
const REPORTS_WAITING: usize = 16;
/// How often a silent coordinator is asked whether it is there, and how long it may take to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Serves orders on `listener` until the future is dropped, which ends a run that is going on. `clock` is what coordinators
/// are told when they ask for the time.
pub async fn serve(listener: TcpListener, clock: RunClock) -> Result<(), tonic::transport::Error> {
    let sessions = Sessions::default();
    // Connections may outlive this future; what they were told to do must not.
    let _end = EndOf(Sessions::clone(&sessions));
    let agent = Agent {
        clock,
        busy: Arc::new(Mutex::new(())),
        sessions,
    };
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(AgentServiceServer::new(agent))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
}

struct Agent {
    clock: RunClock,
    busy: Arc<Mutex<()>>,
    sessions: Sessions,
}

/// Runs that are going on, or are over and sending their result.
type Sessions = Arc<std::sync::Mutex<JoinSet<()>>>;

/// Ends them when it is dropped.
struct EndOf(Sessions);

impl Drop for EndOf {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[tonic::async_trait]
impl AgentService for Agent {
    type RunStream = Pin<Box<dyn Stream<Item = Result<Report, Status>> + Send>>;

    async fn clock(&self, _: Request<ClockRequest>) -> Result<Response<ClockResponse>, Status> {
        let received = self.clock.now();
        Ok(Response::new(ClockResponse {
            received,
            sent: self.clock.now(),
        }))
    }

    async fn run(&self, request: Request<Streaming<Order>>) -> Result<Response<Self::RunStream>, Status> {
        let busy = Arc::clone(&self.busy).try_lock_owned().map_err(|_| {
            Status::failed_precondition(
                "this agent is busy with the run of another coordinator; wait for its end, or use another agent",
            )
        })?;
        let (reports, stream) = mpsc::channel(REPORTS_WAITING);
        let session = Session {
            clock: self.clock,
            orders: request.into_inner(),
            reports: reports.clone(),
        };
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        while sessions.try_join_next().is_some() {}
        sessions.spawn(async move {
            if let Err(status) = session.serve(busy).await {
                // Nobody listens any more if the coordinator is gone.
                let _ = reports.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
