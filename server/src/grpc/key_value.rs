//! `raft.KeyValueService`: one operation a call, and the ways to the streams.

use std::sync::Arc;

use bytes::Bytes;
use proto::raft::key_value_service_server::KeyValueService;
use proto::raft::{
    BatchRequest, BatchResponse, CloseSessionRequest, CloseSessionResponse, CompareAndSwapRequest,
    CompareAndSwapResponse, Consistency, DeleteRequest, DeleteResponse, GetClusterStatusRequest,
    GetClusterStatusResponse, GetRequest, GetResponse, KeyValue, OpenSessionRequest, OpenSessionResponse,
    PeerStatus, PutRequest, PutResponse, ResponseHeader, Role, ScanRequest, ScanResponse, Stamp,
    WatchRequest, WatchResponse,
};
use proto::storage::{self, Command, CompareAndSwap, Delete, Put, command::Kind};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use super::refusal::{check_key, check_value, not_executed, refusal, session_refusal};
use super::{KEY_BYTES_MAX, batch, deadline, watch};
use crate::kv::{Applied, Reply, Scanned, Versioned};
use crate::metrics::{Counters, Operation};
use crate::node::{Answer, Found, Handle, Query, Read};
use crate::raft::{RoleKind, Term};

/// An error shows so much of a key.
const SHOWN_CHARS_MAX: usize = 100;
/// At most so many keys are read at once,
const SCAN_KEYS_MAX: u32 = 1000;
/// if they do not exceed this.
const SCAN_BYTES_MAX: usize = 1 << 20;

/// `raft.KeyValueService`, served by one node.
pub(crate) struct KeyValues {
    node: Handle,
    node_id: Arc<str>,
    /// Where clients reach this node, as far as it knows.
    own_address: String,
    incarnation: u64,
    watchers: watch::Watchers,
    counters: Arc<Counters>,
}

impl KeyValues {
    pub(crate) fn new(
        node: Handle,
        node_id: &str,
        own_address: String,
        incarnation: u64,
        counters: Arc<Counters>,
    ) -> KeyValues {
        KeyValues {
            node,
            node_id: node_id.into(),
            own_address,
            incarnation,
            watchers: watch::Watchers::default(),
            counters,
        }
    }

    fn header(&self, term: Term) -> Option<ResponseHeader> {
        header(&self.node_id, term)
    }

    async fn write(
        &self,
        kind: Kind,
        stamp: Option<Stamp>,
        deadline: Option<Instant>,
    ) -> Result<Answer<Applied>, Status> {
        let command = Command {
            kind: Some(kind),
            stamp: stamp.map(stamp_to_storage),
        };
        let answer = self.node.write(command, deadline).await.map_err(refusal)?;
        match session_refusal(&answer.value.reply) {
            Some(status) => Err(status),
            None => Ok(answer),
        }
    }

    async fn read(
        &self,
        query: Query,
        consistency: Consistency,
        metadata: &MetadataMap,
    ) -> Result<Answer<Found>, Status> {
        let deadline = deadline::of(metadata);
        self.node
            .read(query, consistency, deadline)
            .await
            .map_err(refusal)
    }
}

pub(super) fn header(node_id: &str, term: Term) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        node_id: node_id.to_owned(),
        term,
    })
}

pub(super) fn stamp_to_storage(stamp: Stamp) -> storage::Stamp {
    storage::Stamp {
        session_id: stamp.session_id,
        sequence: stamp.sequence,
        acknowledged: stamp.acknowledged,
    }
}

/// The calls themselves; `KeyValueService` counts how they end.
impl KeyValues {
    async fn put_now(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let PutRequest { key, value, session } = request.into_inner();
        check_key(&key)?;
        check_value(value.as_bytes())?;
        let put = Kind::Put(Put {
            key,
            value: value.into(),
        });
        let Answer { term, value: written } = self.write(put, session, deadline).await?;
        let Reply::Put = written.reply else {
            return Err(mismatch(&written));
        };
        Ok(Response::new(PutResponse {
            header: self.header(term),
            index: written.index,
        }))
    }

    async fn get_now(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let consistency = request.get_ref().consistency();
        let (metadata, _, GetRequest { key, .. }) = request.into_parts();
        check_key(&key)?;
        let Answer { term, value: found } =
            self.read(Query::Key(key.clone()), consistency, &metadata).await?;
        let version = found_key(found.read)?;
        let value = version.value.map(|value| text(&key, value)).transpose()?;
        Ok(Response::new(GetResponse {
            header: self.header(term),
            found: value.is_some(),
            value: value.unwrap_or_default(),
            index: version.index,
            consistency: found.consistency.into(),
            applied_index: found.applied,
        }))
    }

    async fn delete_now(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let DeleteRequest { key, session } = request.into_inner();
        check_key(&key)?;
        let delete = Kind::Delete(Delete { key });
        let Answer { term, value: written } = self.write(delete, session, deadline).await?;
        let Reply::Delete { existed } = written.reply else {
            return Err(mismatch(&written));
        };
        Ok(Response::new(DeleteResponse {
            header: self.header(term),
            index: written.index,
            existed,
        }))
    }

    async fn compare_and_swap_now(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        check_key(&request.key)?;
        check_value(request.value.as_bytes())?;
        let swap = CompareAndSwap {
            key: request.key.clone(),
            expected: request.expected.map(Into::into),
            value: request.value.into(),
        };
        let swap = Kind::CompareAndSwap(swap);
        let Answer { term, value: written } = self.write(swap, request.session, deadline).await?;
        let mut response = CompareAndSwapResponse {
            header: self.header(term),
            swapped: true,
            index: written.index,
            current: None,
        };
        match written.reply {
            Reply::Swapped => {}
            Reply::NotSwapped(version) => {
                response.swapped = false;
                response.index = version.index;
                response.current = version.value.map(|value| text(&request.key, value)).transpose()?;
            }
            _ => return Err(mismatch(&written)),
        }
        Ok(Response::new(response))
    }

    async fn scan_now(&self, request: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        let consistency = request.get_ref().consistency();
        let (metadata, _, request) = request.into_parts();
        for bound in [&request.start, &request.end] {
            if bound.len() > KEY_BYTES_MAX {
                let text = format!(
                    "a bound of the range has {} bytes; no key has so many",
                    bound.len()
                );
                return Err(not_executed(Code::InvalidArgument, &text));
            }
        }
        let limit = Some(request.limit).filter(|limit| (1..=SCAN_KEYS_MAX).contains(limit));
        let query = Query::Range {
            start: request.start,
            end: Some(request.end).filter(|end| !end.is_empty()),
            keys_max: limit.unwrap_or(SCAN_KEYS_MAX) as usize,
            bytes_max: SCAN_BYTES_MAX,
        };
        let Answer { term, value: found } = self.read(query, consistency, &metadata).await?;
        let Scanned { entries, next } = found_range(found.read)?;
        let entries = entries.into_iter().map(|(key, version)| {
            let (value, value_bytes) = text_or_bytes(version.value.unwrap_or_default());
            KeyValue {
                key,
                value,
                value_bytes,
                index: version.index,
            }
        });
        Ok(Response::new(ScanResponse {
            header: self.header(term),
            entries: entries.collect(),
            next_start: next.unwrap_or_default(),
            consistency: found.consistency.into(),
            applied_index: found.applied,
        }))
    }

    async fn open_session_now(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let open = Kind::OpenSession(storage::OpenSession {});
        let opened = self.write(open, None, deadline).await?;
        Ok(Response::new(OpenSessionResponse {
            header: self.header(opened.term),
            session_id: opened.value.index,
        }))
    }

    async fn close_session_now(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let session_id = request.into_inner().session_id;
        let close = Kind::CloseSession(storage::CloseSession { session_id });
        let Answer { term, value: closed } = self.write(close, None, deadline).await?;
        let Reply::SessionClosed { existed } = closed.reply else {
            return Err(mismatch(&closed));
        };
        Ok(Response::new(CloseSessionResponse {
            header: self.header(term),
            index: closed.index,
            existed,
        }))
    }
}

#[tonic::async_trait]
impl KeyValueService for KeyValues {
    type WatchStream = ReceiverStream<Result<WatchResponse, Status>>;
    type BatchStream = ReceiverStream<Result<BatchResponse, Status>>;

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.counters.count(Operation::Write, self.put_now(request)).await
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.counters.count(Operation::Read, self.get_now(request)).await
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        self.counters
            .count(Operation::Write, self.delete_now(request))
            .await
    }

    async fn compare_and_swap(
        &self,
        request: Request<CompareAndSwapRequest>,
    ) -> Result<Response<CompareAndSwapResponse>, Status> {
        self.counters
            .count(Operation::Write, self.compare_and_swap_now(request))
            .await
    }

    async fn scan(&self, request: Request<ScanRequest>) -> Result<Response<ScanResponse>, Status> {
        self.counters.count(Operation::Read, self.scan_now(request)).await
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let watched = self
            .watchers
            .watch(self.node.clone(), &self.node_id, request.into_inner());
        watched.await.map(Response::new)
    }

    async fn batch(
        &self,
        request: Request<Streaming<BatchRequest>>,
    ) -> Result<Response<Self::BatchStream>, Status> {
        let results = batch::serve(
            self.node.clone(),
            self.node_id.clone(),
            self.counters.clone(),
            request.into_inner(),
        );
        Ok(Response::new(results))
    }

    async fn open_session(
        &self,
        request: Request<OpenSessionRequest>,
    ) -> Result<Response<OpenSessionResponse>, Status> {
        self.counters
            .count(Operation::Write, self.open_session_now(request))
            .await
    }

    async fn close_session(
        &self,
        request: Request<CloseSessionRequest>,
    ) -> Result<Response<CloseSessionResponse>, Status> {
        self.counters
            .count(Operation::Write, self.close_session_now(request))
            .await
    }

    async fn get_cluster_status(
        &self,
        request: Request<GetClusterStatusRequest>,
    ) -> Result<Response<GetClusterStatusResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let status = self.node.status(deadline).await.map_err(refusal)?;
        let (leader_id, mut leader_address) = status.leader.unwrap_or_default();
        if leader_id == *self.node_id {
            leader_address = self.own_address.clone();
        }
        let peers = status.peers.into_iter().map(|peer| PeerStatus {
            node_id: peer.name,
            address: peer.address,
            connected: peer.connected,
            match_index: peer.matched,
            role: peer.role.into(),
            receives_snapshot: peer.receives_snapshot,
        });
        Ok(Response::new(GetClusterStatusResponse {
            header: self.header(status.term),
            role: role(status.role).into(),
            leader_id,
            leader_address,
            commit_index: status.commit,
            applied_index: status.applied,
            last_index: status.last,
            durable_index: status.durable,
            state_digest: status.digest,
            voters: status.voters as u32,
            peers: peers.collect(),
            incarnation: self.incarnation,
            log_start_index: status.log_start,
            snapshot_index: status.snapshot,
            unfit: status.unfit.to_owned(),
            suspect_index: status.suspect,
            own_role: status.own_role.into(),
        }))
    }
}

pub(super) fn role(role: RoleKind) -> Role {
    match role {
        RoleKind::Follower => Role::Follower,
        RoleKind::PreCandidate => Role::PreCandidate,
        RoleKind::Candidate => Role::Candidate,
        RoleKind::Leader => Role::Leader,
    }
}

pub(super) fn found_key(read: Read) -> Result<Versioned, Status> {
    match read {
        Read::Key(version) => Ok(version),
        Read::Range(_) => Err(Status::internal("a key was asked for and a range was read")),
    }
}

fn found_range(read: Read) -> Result<Scanned, Status> {
    match read {
        Read::Range(scanned) => Ok(scanned),
        Read::Key(_) => Err(Status::internal("a range was asked for and a key was read")),
    }
}

/// Values that came in over a batch may be any bytes; the calls for one key carry text only.
fn text(key: &str, value: Bytes) -> Result<String, Status> {
    String::from_utf8(value.into()).map_err(|_| {
        // A status has to fit into the headers of an answer.
        let shown: String = key.chars().take(SHOWN_CHARS_MAX).collect();
        let rest = if shown.len() < key.len() { "…" } else { "" };
        let text = format!(
            "the value of {shown:?}{rest} is no UTF-8 text; read it with a batch, a scan or a watch, which carry bytes"
        );
        not_executed(Code::FailedPrecondition, &text)
    })
}

/// A value as text, or, if it is none, an empty text and its bytes.
pub(super) fn text_or_bytes(value: Bytes) -> (String, Option<Bytes>) {
    match std::str::from_utf8(&value) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::new(), Some(value)),
    }
}

pub(super) fn mismatch(written: &Applied) -> Status {
    // Only a retry under a stamp that belongs to another command ends up here.
    Status::failed_precondition(format!(
        "the stamp belongs to another command, carried out at {}: {:?}",
        written.index, written.reply
    ))
}
