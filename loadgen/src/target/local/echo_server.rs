//! The server behind `echo://`: tonic with prost, one unary method, nothing else, as a user of tonic would write it.
//!
//! Promises answers as large as a store's (see [`crate::target::Echo`]). Never keeps more than the last message.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use prost::bytes::Bytes;
use thiserror::Error;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http::{Request as HttpRequest, Response as HttpResponse};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::target::echo::{PATH, READ, WRITE, WRITTEN_BYTES};

/// What is sent, and sent back.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct EchoMessage {
    /// Anything.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) payload: Bytes,
    /// Whether all of it is sent back (0), its beginning (1), or what was sent last to be kept (2).
    #[prost(uint32, tag = "2")]
    pub(crate) kind: u32,
}

/// Why there is no echo.
#[derive(Debug, Error)]
pub(crate) enum EchoServerError {
    /// The port is taken, or not ours to take.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// Which.
        port: u16,
        /// What the system said.
        source: std::io::Error,
    },
    /// It could not go on.
    #[error("cannot serve")]
    Serve(#[from] tonic::transport::Error),
}

/// Serves on this port of 127.0.0.1 (0: a free one) until `stop`; calls `listening` with the port once it listens.
pub(crate) async fn serve_echo(
    port: u16,
    listening: impl FnOnce(u16),
    stop: impl Future<Output = ()>,
) -> Result<(), EchoServerError> {
    let failed = |source| EchoServerError::Listen { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .await
        .map_err(failed)?;
    listening(listener.local_addr().map_err(failed)?.port());
    // Without it, the end of an answer waits for the acknowledgement of its beginning, and so for the next request.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(EchoService::default())
        .serve_with_incoming_shutdown(incoming, stop)
        .await?;
    Ok(())
}

#[derive(Debug, Clone, Default)]
struct EchoService {
    /// The payload of the last write.
    last: Arc<Mutex<Bytes>>,
}

impl NamedService for EchoService {
    const NAME: &'static str = "whitewater.Echo";
}

impl UnaryService<EchoMessage> for EchoService {
    type Response = EchoMessage;
    type Future = std::future::Ready<Result<Response<EchoMessage>, Status>>;

    fn call(&mut self, request: Request<EchoMessage>) -> Self::Future {
        let EchoMessage { payload, kind } = request.into_inner();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let payload = match kind {
            WRITE => {
                let beginning = payload.slice(..payload.len().min(WRITTEN_BYTES));
                *last = payload;
                beginning
            }
            READ if !last.is_empty() => last.clone(),
            _ => payload,
        };
        ready(Ok(Response::new(EchoMessage { payload, kind: 0 })))
    }
}

impl Service<HttpRequest<Body>> for EchoService {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::new(Code::Unimplemented, "there is only an echo here").into_http());
            }
            let mut grpc = Grpc::new(ProstCodec::<EchoMessage, EchoMessage>::default());
            Ok(grpc.unary(service, request).await)
        })
    }
}
