//! Clients that were not made for this store: what tools such as grpcurl, health checkers and load generators rely on.
//!
//! * reflection (v1 and v1alpha), and calls made from nothing but what it says;
//! * health (v1), overall and for the key-value service;
//! * thousands of tiny calls on one connection, and the limits of keys and values.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::{Buf as _, BufMut as _};
use common::{Cluster, Node, channel, client, eventually, lone_node, outcome, timed};
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ServiceDescriptor};
use proto::metadata;
use proto::raft::{GetRequest, PutRequest};
use serde_json::{Value, json};
use tempfile::tempdir;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const SERVICE: &str = "raft.KeyValueService";

/// The same questions in both versions of the protocol: a module with `services` and `describe`.
macro_rules! reflection {
    ($version:ident) => {
        mod $version {
            use tonic::transport::Channel;
            use tonic_reflection::pb::$version as pb;

            use pb::server_reflection_client::ServerReflectionClient;
            use pb::server_reflection_request::MessageRequest;
            use pb::server_reflection_response::MessageResponse;

            async fn ask(channel: Channel, question: MessageRequest) -> MessageResponse {
                let request = pb::ServerReflectionRequest {
                    host: String::new(),
                    message_request: Some(question),
                };
                let stream = tokio_stream::once(request);
                let answers = ServerReflectionClient::new(channel)
                    .server_reflection_info(stream)
                    .await;
                let answer = answers
                    .unwrap()
                    .into_inner()
                    .message()
                    .await
                    .unwrap()
                    .unwrap();
                answer.message_response.unwrap()
            }

            /// Names of all services.
            pub(super) async fn services(channel: Channel) -> Vec<String> {
                match ask(channel, MessageRequest::ListServices(String::new())).await {
                    MessageResponse::ListServicesResponse(list) => list
                        .service
                        .into_iter()
                        .map(|service| service.name)
                        .collect(),
                    other => panic!("{other:?}"),
                }
            }

            /// The encoded descriptors of the file that declares `symbol` and of what it imports.
            pub(super) async fn describe(channel: Channel, symbol: &str) -> Vec<Vec<u8>> {
                match ask(
                    channel,
                    MessageRequest::FileContainingSymbol(symbol.to_owned()),
                )
                .await
                {
                    MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
                    other => panic!("{other:?}"),
                }
            }
        }
    };
}

reflection!(v1);
reflection!(v1alpha);

/// Speaks in messages whose shape became known at run time.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = DynamicEncoder;
    type Decoder = DynamicDecoder;

    fn encoder(&mut self) -> DynamicEncoder {
        DynamicEncoder
    }

    fn decoder(&mut self) -> DynamicDecoder {
        DynamicDecoder(self.0.clone())
    }
}

struct DynamicEncoder;

impl Encoder for DynamicEncoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message.encode_to_vec());
        Ok(())
    }
}

struct DynamicDecoder(MessageDescriptor);

impl Decoder for DynamicDecoder {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = DynamicMessage::decode(self.0.clone(), bytes);
        message
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// `grpcurl -d '<json>' <address> <service>/<method>`.
async fn call(channel: Channel, service: &ServiceDescriptor, method: &str, json: Value) -> Value {
    let method = service.methods().find(|known| known.name() == method).unwrap();
    let message = DynamicMessage::deserialize(method.input(), json).unwrap();
    let path = PathAndQuery::try_from(format!("/{}/{}", service.full_name(), method.name())).unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let answer = grpc
        .unary(Request::new(message), path, Dynamic(method.output()))
        .await;
    serde_json::to_value(answer.unwrap().into_inner()).unwrap()
}

async fn described(files: Vec<Vec<u8>>) -> ServiceDescriptor {
    let mut pool = DescriptorPool::new();
    for file in files {
        pool.decode_file_descriptor_proto(file.as_slice()).unwrap();
    }
    pool.get_service_by_name(SERVICE).unwrap()
}

#[tokio::test]
async fn a_client_that_knows_only_reflection_can_write_and_read() {
    let dir = tempdir().unwrap();
    let (_node, port) = lone_node(&dir).await;
    until_it_serves(port).await;
    for services in [
        v1::services(channel(port)).await,
        v1alpha::services(channel(port)).await,
    ] {
        for expected in [SERVICE, "grpc.health.v1.Health", "raft.peer.PeerService"] {
            assert!(
                services.iter().any(|name| name == expected),
                "{expected} in {services:?}"
            );
        }
    }
    let old = described(v1alpha::describe(channel(port), SERVICE).await).await;
    let new = described(v1::describe(channel(port), SERVICE).await).await;
    for (service, value) in [(old, "bar"), (new, "snow ☃")] {
        let put = call(
            channel(port),
            &service,
            "Put",
            json!({"key": "foo", "value": value}),
        )
        .await;
        assert_eq!(put["header"]["nodeId"], "node1", "{put}");
        let get = call(channel(port), &service, "Get", json!({"key": "foo"})).await;
        assert_eq!(
            (&get["value"], &get["found"], &get["index"]),
            (&json!(value), &json!(true), &put["index"])
        );
        let swap = json!({"key": "foo", "expected": value, "value": "new"});
        assert_eq!(
            call(channel(port), &service, "CompareAndSwap", swap).await["swapped"],
            true
        );
        let status = call(channel(port), &service, "GetClusterStatus", json!({})).await;
        assert_eq!(
            (&status["role"], &status["voters"]),
            (&json!("LEADER"), &json!(1))
        );
        assert_eq!(
            call(channel(port), &service, "Delete", json!({"key": "foo"})).await["existed"],
            true
        );
    }
}

async fn health(port: u16, service: &str) -> Result<ServingStatus, Status> {
    let request = timed(HealthCheckRequest {
        service: service.to_owned(),
    });
    Ok(HealthClient::new(channel(port))
        .check(request)
        .await?
        .into_inner()
        .status())
}

#[tokio::test]
async fn every_node_is_healthy_once_a_leader_is_known() {
    let cluster = Cluster::start(3).await;
    cluster.leader().await;
    for port in &cluster.ports {
        assert_eq!(health(*port, "").await.unwrap(), ServingStatus::Serving);
        // Reported by a task of its own, right after the leader became known.
        eventually("the service to be healthy", async || {
            match health(*port, SERVICE).await {
                Ok(ServingStatus::Serving) => Ok(()),
                other => Err(other),
            }
        })
        .await;
        assert_eq!(
            health(*port, "no.such.Service").await.unwrap_err().code(),
            Code::NotFound
        );
    }
}

#[tokio::test]
async fn a_node_without_a_leader_runs_but_does_not_serve() {
    let dir = tempdir().unwrap();
    let line = ["--port", "0", "--peers", "localhost:1,localhost:2"].map(str::to_owned);
    let mut node = Node::start("node1", &dir.path().join("node1"), &line);
    let port = node.port().await;
    assert_eq!(health(port, "").await.unwrap(), ServingStatus::Serving);
    assert_eq!(health(port, SERVICE).await.unwrap(), ServingStatus::NotServing);
}

/// Frames of a few bytes use up an allowance that the HTTP/2 library keeps for each connection; a peer that exceeds it
/// is cut off. The receive window is chosen so that no honest client gets there.
#[tokio::test]
async fn thousands_of_tiny_calls_on_one_connection_all_succeed() {
    let dir = tempdir().unwrap();
    let (_node, port) = lone_node(&dir).await;
    until_it_serves(port).await;
    let client = client(port);
    let calls: Vec<_> = (0..5000)
        .map(|number: u32| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let key = format!("{}", number % 100);
                match number % 2 {
                    0 => client
                        .put(PutRequest {
                            key,
                            value: "v".into(),
                            ..Default::default()
                        })
                        .await
                        .map(drop),
                    _ => client
                        .get(GetRequest {
                            key,
                            ..Default::default()
                        })
                        .await
                        .map(drop),
                }
            })
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        let answer = tokio::time::timeout(common::PATIENCE, call)
            .await
            .expect("an answer to each call");
        answer
            .unwrap()
            .unwrap_or_else(|status| panic!("call {number}: {status:?}"));
    }
}

#[tokio::test]
async fn limits_are_told_and_values_up_to_them_are_replicated() {
    let cluster = Cluster::start(3).await;
    let mut client = cluster.client(cluster.leader().await);
    let put = |key: String, value: String| {
        timed(PutRequest {
            key,
            value,
            ..Default::default()
        })
    };
    for (what, request) in [
        ("empty", put(String::new(), "v".into())),
        ("4097 bytes", put("k".repeat(4097), "v".into())),
        ("1048577 bytes", put("k".into(), "v".repeat((1 << 20) + 1))),
    ] {
        let status = client.put(request).await.unwrap_err();
        assert_eq!(
            (status.code(), outcome(&status)),
            (Code::InvalidArgument, Some(metadata::NOT_EXECUTED))
        );
        assert!(status.message().contains(what), "{status}");
    }
    let key = "ключ".repeat(512);
    for letter in ["a", "b", "c"] {
        let value = letter.repeat(1 << 20);
        client.put(put(key.clone(), value.clone())).await.unwrap();
        let read = client
            .get(timed(GetRequest {
                key: key.clone(),
                ..Default::default()
            }))
            .await
            .unwrap()
            .into_inner();
        assert!(read.value == value, "a value of 1 MiB comes back whole");
    }
    cluster.converge().await;
}

async fn until_it_serves(port: u16) {
    eventually("the node to lead", async || {
        client(port)
            .get(timed(GetRequest {
                key: "k".into(),
                ..Default::default()
            }))
            .await
    })
    .await;
}
