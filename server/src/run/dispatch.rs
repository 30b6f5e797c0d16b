//! Which service a call is for.
//!
//! Promises: what clients call most goes to its service directly; everything else, and what nobody serves, goes through the
//! routes. The path decides, never what is in the call.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use proto::raft::key_value_service_server::KeyValueServiceServer;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::server::NamedService as _;
use tonic::service::Routes;

use crate::grpc::KeyValues;

/// All services of a node.
#[derive(Clone)]
pub(super) struct Dispatch {
    pub(super) key_values: KeyValueServiceServer<KeyValues>,
    pub(super) others: Routes,
}

impl Service<Request<Body>> for Dispatch {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Neither side ever holds a call back.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let path = request.uri().path().strip_prefix('/');
        let service = path
            .and_then(|path| path.split_once('/'))
            .map(|(service, _)| service);
        match service == Some(KeyValueServiceServer::<KeyValues>::NAME) {
            true => self.key_values.call(request),
            false => Box::pin(self.others.call(request)),
        }
    }
}
