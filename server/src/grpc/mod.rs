//! The edge towards clients: checks what they send, asks the node, and puts the answer, or the reason why there is
//! none, into the terms of `kv.proto`. Keeps no state.

use std::sync::Arc;

use proto::metadata;
use proto::raft::key_value_service_server::KeyValueService;
use proto::raft::{
    CompareAndSwapRequest, CompareAndSwapResponse, DeleteRequest, DeleteResponse, GetClusterStatusRequest,
    GetClusterStatusResponse, GetRequest, GetResponse, PeerStatus, PutRequest, PutResponse, ResponseHeader,
    Role,
};
use proto::storage::{Command, CompareAndSwap, Delete, Put, command::Kind};
use tonic::{Code, Request, Response, Status};

use crate::kv::{Applied, Reply};
use crate::node::{Answer, Failure, Handle};
use crate::raft::{RoleKind, Term};

/// Longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 4096;
/// Longest value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;

/// `raft.KeyValueService`, served by one node.
pub(crate) struct KeyValues {
    node: Handle,
    node_id: Arc<str>,
    /// Where clients reach this node, as far as it knows.
    own_address: String,
    incarnation: u64,
}

impl KeyValues {
    pub(crate) fn new(node: Handle, node_id: &str, own_address: String, incarnation: u64) -> KeyValues {
        KeyValues {
            node,
            node_id: node_id.into(),
            own_address,
            incarnation,
        }
    }

    fn header(&self, term: Term) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            node_id: self.node_id.to_string(),
            term,
        })
    }

    async fn write(&self, kind: Kind) -> Result<Answer<Applied>, Status> {
        self.node
            .write(Command {
                kind: Some(kind),
                stamp: None,
            })
            .await
            .map_err(refusal)
    }
}

#[tonic::async_trait]
impl KeyValueService for KeyValues {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let PutRequest { key, value, .. } = request.into_inner();
        check_key(&key)?;
        check_value(&value)?;
        let written = self
            .write(Kind::Put(Put {
                key,
                value: value.into(),
            }))
            .await?;
        let header = self.header(written.term);
        Ok(Response::new(PutResponse {
            header,
            index: written.value.index,
        }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let GetRequest { key, .. } = request.into_inner();
        check_key(&key)?;
        let Answer { term, value: version } = self.node.read(key).await.map_err(refusal)?;
        let found = version.value.is_some();
        let value = version.value.map(text).transpose()?.unwrap_or_default();
        Ok(Response::new(GetResponse {
            header: self.header(term),
            found,
            value,
            index: version.index,
            ..Default::default()
        }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let DeleteRequest { key, .. } = request.into_inner();
        check_key(&key)?;
        let Answer { term, value: written } = self.write(Kind::Delete(Delete { key })).await?;
        let Reply::Delete { existed } = written.reply else {
            return Err(mismatch(&written));
        };
        Ok(Response::new(DeleteResponse {
            header: self.header(term),
            index: written.index,
            existed,
        }))
    }

    async fn compare_and_swap(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapResponse>, Status> {
        let CompareAndSwapRequest {
            key, expected, value, ..
        } = request.into_inner();
        check_key(&key)?;
        check_value(&value)?;
        let swap = CompareAndSwap {
            key,
            expected: expected.map(Into::into),
            value: value.into(),
        };
        let Answer { term, value: written } = self.write(Kind::CompareAndSwap(swap)).await?;
        let header = self.header(term);
        let response = match written.reply {
            Reply::Swapped => CompareAndSwapResponse {
                header,
                swapped: true,
                index: written.index,
                current: None,
            },
            Reply::NotSwapped(version) => {
                let current = version.value.map(text).transpose()?;
                CompareAndSwapResponse {
                    header,
                    swapped: false,
                    index: version.index,
                    current,
                }
            }
            _ => return Err(mismatch(&written)),
        };
        Ok(Response::new(response))
    }

    type WatchStream = tokio_stream::Empty<Result<proto::raft::WatchResponse, Status>>;
    type BatchStream = tokio_stream::Empty<Result<proto::raft::BatchResponse, Status>>;

    async fn scan(
        &self,
        _: Request<proto::raft::ScanRequest>,
    ) -> Result<Response<proto::raft::ScanResponse>, Status> {
        Err(Status::unimplemented("scan"))
    }

    async fn watch(
        &self,
        _: Request<proto::raft::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("watch"))
    }

    async fn batch(
        &self,
        _: Request<tonic::Streaming<proto::raft::BatchRequest>>,
    ) -> Result<Response<Self::BatchStream>, Status> {
        Err(Status::unimplemented("batch"))
    }

    async fn open_session(
        &self,
        _: Request<proto::raft::OpenSessionRequest>,
    ) -> Result<Response<proto::raft::OpenSessionResponse>, Status> {
        Err(Status::unimplemented("sessions"))
    }

    async fn close_session(
        &self,
        _: Request<proto::raft::CloseSessionRequest>,
    ) -> Result<Response<proto::raft::CloseSessionResponse>, Status> {
        Err(Status::unimplemented("sessions"))
    }

    async fn get_cluster_status(
        &self,
        _: Request<GetClusterStatusRequest>,
    ) -> Result<Response<GetClusterStatusResponse>, Status> {
        let status = self.node.status().await.map_err(refusal)?;
        let (leader_id, mut leader_address) = status.leader.unwrap_or_default();
        if leader_id == *self.node_id {
            leader_address = self.own_address.clone();
        }
        let role = match status.role {
            RoleKind::Follower => Role::Follower,
            RoleKind::PreCandidate => Role::PreCandidate,
            RoleKind::Candidate => Role::Candidate,
            RoleKind::Leader => Role::Leader,
        };
        let peers: Vec<PeerStatus> = status
            .peers
            .into_iter()
            .map(|peer| PeerStatus {
                node_id: peer.name,
                address: peer.address,
                connected: peer.connected,
                match_index: peer.matched,
                ..Default::default()
            })
            .collect();
        Ok(Response::new(GetClusterStatusResponse {
            header: self.header(status.term),
            role: role.into(),
            leader_id,
            leader_address,
            commit_index: status.commit,
            applied_index: status.applied,
            last_index: status.last,
            durable_index: status.durable,
            state_digest: status.digest,
            voters: peers.len() as u32 + 1,
            peers,
            incarnation: self.incarnation,
            ..Default::default()
        }))
    }
}

fn check_key(key: &str) -> Result<(), Status> {
    match key.len() {
        0 => Err(not_executed(
            Code::InvalidArgument,
            "the key is empty; a key has at least one byte",
        )),
        length if length > KEY_BYTES_MAX => {
            let text = format!("the key has {length} bytes; at most {KEY_BYTES_MAX} are allowed");
            Err(not_executed(Code::InvalidArgument, &text))
        }
        _ => Ok(()),
    }
}

fn check_value(value: &str) -> Result<(), Status> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let text = format!(
        "the value has {} bytes; at most {VALUE_BYTES_MAX} are allowed",
        value.len()
    );
    Err(not_executed(Code::InvalidArgument, &text))
}

fn text(value: bytes::Bytes) -> Result<String, Status> {
    // Values come in as strings only, so this is a broken invariant rather than a client's mistake.
    String::from_utf8(value.into()).map_err(|_| Status::internal("the stored value is not text"))
}

fn mismatch(written: &Applied) -> Status {
    Status::internal(format!(
        "the entry at {} did something else than was asked: {:?}",
        written.index, written.reply
    ))
}

/// The failure in the terms of the table in `kv.proto`.
fn refusal(failure: Failure) -> Status {
    match failure {
        Failure::NotLeader { term, leader: None } => {
            let text = "this node does not lead, and knows nobody who does; try again, or try another node";
            with(
                not_executed(Code::Unavailable, text),
                metadata::TERM,
                &term.to_string(),
            )
        }
        Failure::NotLeader {
            term,
            leader: Some((id, address)),
        } => {
            let term = term.to_string();
            // A leader that has reached this node, but that this node has not reached, has a name only.
            let at = if address.is_empty() {
                String::new()
            } else {
                format!(", at {address}")
            };
            let text = format!("this node does not lead; {id} does{at}");
            let status = not_executed(Code::FailedPrecondition, &text);
            let status = with(with(status, metadata::TERM, &term), metadata::LEADER_ID, &id);
            if address.is_empty() {
                status
            } else {
                with(status, metadata::LEADER_ADDRESS, &address)
            }
        }
        Failure::Overloaded => not_executed(
            Code::ResourceExhausted,
            "too many requests wait already; wait a moment and try again",
        ),
        Failure::Stopping => not_executed(Code::Unavailable, "this node is stopping; try another"),
        Failure::Replaced { term } => {
            let text = "another leader took over before the write was replicated; it did not happen";
            with(
                not_executed(Code::Unavailable, text),
                metadata::TERM,
                &term.to_string(),
            )
        }
        Failure::Lost { term } => {
            let text = "leadership was lost with the write in the log; it may have happened or may still";
            let status = with(Status::unavailable(text), metadata::OUTCOME, metadata::UNKNOWN);
            with(status, metadata::TERM, &term.to_string())
        }
    }
}

fn not_executed(code: Code, text: &str) -> Status {
    with(Status::new(code, text), metadata::OUTCOME, metadata::NOT_EXECUTED)
}

fn with(mut status: Status, name: &'static str, value: &str) -> Status {
    // Names of nodes and addresses are plain ASCII: `config` lets nothing else in.
    if let Ok(value) = value.parse() {
        status.metadata_mut().insert(name, value);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in `kv.proto`, line by line.
    #[test]
    fn every_failure_says_whether_it_happened() {
        let leader = Some(("node2".to_owned(), "localhost:2".to_owned()));
        let table = [
            (
                Failure::NotLeader { term: 3, leader },
                Code::FailedPrecondition,
                metadata::NOT_EXECUTED,
            ),
            (
                Failure::NotLeader {
                    term: 3,
                    leader: None,
                },
                Code::Unavailable,
                metadata::NOT_EXECUTED,
            ),
            (
                Failure::Overloaded,
                Code::ResourceExhausted,
                metadata::NOT_EXECUTED,
            ),
            (Failure::Stopping, Code::Unavailable, metadata::NOT_EXECUTED),
            (
                Failure::Replaced { term: 3 },
                Code::Unavailable,
                metadata::NOT_EXECUTED,
            ),
            (Failure::Lost { term: 3 }, Code::Unavailable, metadata::UNKNOWN),
        ];
        for (failure, code, outcome) in table {
            let hint = matches!(&failure, Failure::NotLeader { leader: Some(_), .. });
            let status = refusal(failure);
            assert_eq!(status.code(), code);
            let value = status
                .metadata()
                .get(metadata::OUTCOME)
                .map(|value| value.as_bytes());
            assert_eq!(value, Some(outcome.as_bytes()));
            assert_eq!(status.metadata().contains_key(metadata::LEADER_ID), hint);
        }
    }

    #[test]
    fn a_leader_without_a_known_address_is_named_without_one() {
        let leader = Some(("node2".to_owned(), String::new()));
        let status = refusal(Failure::NotLeader { term: 3, leader });
        assert!(status.metadata().contains_key(metadata::LEADER_ID));
        assert!(!status.metadata().contains_key(metadata::LEADER_ADDRESS));
    }

    #[test]
    fn keys_and_values_have_limits() {
        assert!(check_key("k").is_ok() && check_key(&"k".repeat(KEY_BYTES_MAX)).is_ok());
        for bad in [String::new(), "k".repeat(KEY_BYTES_MAX + 1)] {
            assert_eq!(
                check_key(&bad).map_err(|status| status.code()),
                Err(Code::InvalidArgument)
            );
        }
        assert!(check_value(&"v".repeat(VALUE_BYTES_MAX)).is_ok());
        assert!(check_value(&"v".repeat(VALUE_BYTES_MAX + 1)).is_err());
    }
}
