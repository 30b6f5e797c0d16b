//! `raft.StateService`: what a node knows, for those who check it from outside.

use std::sync::Arc;

use proto::raft::state_service_server::StateService;
use proto::raft::{
    DumpStateRequest, DumpStateResponse, DumpedMember, RoleChange as WireChange, TermRun, WatchRoleRequest,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

use super::deadline;
use super::key_value::role;
use super::refusal::{not_executed, refusal};
use crate::node::{Dump, Handle, RoleChange, RolesReader};
use crate::raft::NodeId;
use crate::transport::Members;

/// So many may follow the roles of one node at the same time; more are refused.
const READERS_MAX: usize = 256;

/// `raft.StateService`, served by one node.
pub(crate) struct States {
    node: Handle,
    node_id: Arc<str>,
    incarnation: u64,
    members: Arc<Members>,
    readers: Arc<Semaphore>,
}

impl States {
    pub(crate) fn new(node: Handle, node_id: &str, incarnation: u64, members: Arc<Members>) -> States {
        States {
            node,
            node_id: node_id.into(),
            incarnation,
            members,
            readers: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }
}

#[tonic::async_trait]
impl StateService for States {
    type WatchRoleStream = ReceiverStream<Result<WireChange, Status>>;

    async fn dump_state(
        &self,
        request: Request<DumpStateRequest>,
    ) -> Result<Response<DumpStateResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let index = request.into_inner().digest_index;
        let dump = self.node.dump(index, deadline).await.map_err(refusal)?;
        Ok(Response::new(self.to_wire(dump)))
    }

    async fn watch_role(
        &self,
        _: Request<WatchRoleRequest>,
    ) -> Result<Response<Self::WatchRoleStream>, Status> {
        let permit = self.readers.clone().try_acquire_owned().map_err(|_| {
            let text = format!("{READERS_MAX} others follow this node's roles already; try again later");
            not_executed(Code::ResourceExhausted, &text)
        })?;
        let (changes, stream) = mpsc::channel(16);
        let roles = self.node.roles().clone();
        tokio::spawn(follow(roles, self.members.clone(), changes, permit));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl States {
    fn to_wire(&self, dump: Dump) -> DumpStateResponse {
        let (configuration_index, configuration) = dump.configuration.unwrap_or_default();
        let members = configuration.members.values().map(|member| DumpedMember {
            node_id: member.name.to_string(),
            address: member.address.to_string(),
            voter: member.voter,
            outgoing_voter: member.outgoing_voter,
        });
        let (digest_index, digest) = dump.digest.unwrap_or_default();
        DumpStateResponse {
            node_id: self.node_id.to_string(),
            incarnation: self.incarnation,
            term: dump.term,
            voted_for: dump.vote.unwrap_or_default(),
            role: role(dump.role).into(),
            leader_id: dump.leader.unwrap_or_default(),
            commit_index: dump.commit,
            applied_index: dump.applied,
            last_index: dump.last,
            durable_index: dump.durable,
            log: dump
                .runs
                .into_iter()
                .map(|run| TermRun {
                    first_index: run.index,
                    term: run.term,
                })
                .collect(),
            log_start_index: dump.base.index,
            log_start_term: dump.base.term,
            snapshot_index: dump.snapshot.index,
            snapshot_term: dump.snapshot.term,
            members: members.collect(),
            joint: configuration.joint,
            configuration_index,
            digest_index,
            digest,
            suspect_index: dump.suspect,
            unfit: dump.unfit.to_owned(),
            time_ns: dump.time_ns,
        }
    }
}

/// Passes on every change until the reader has gone, or has fallen so far behind that some are lost, or the node stops.
async fn follow(
    roles: RolesReader,
    members: Arc<Members>,
    changes: mpsc::Sender<Result<WireChange, Status>>,
    _permit: OwnedSemaphorePermit,
) {
    let mut latest = roles.latest();
    let mut seen = 0;
    loop {
        let waited = tokio::select! {
            waited = latest.wait_for(|latest| *latest > seen) => waited.map(drop),
            () = changes.closed() => return,
        };
        if waited.is_err() {
            return;
        }
        let Some(news) = roles.behind(seen) else {
            let text = "changes were lost because they were not read in time; begin again";
            let _ = changes.send(Err(Status::out_of_range(text))).await;
            return;
        };
        for change in news {
            seen = change.sequence;
            if changes.send(Ok(change_to_wire(change, &members))).await.is_err() {
                return;
            }
        }
    }
}

fn change_to_wire(change: RoleChange, members: &Members) -> WireChange {
    let name = |id: Option<NodeId>| id.map(|id| members.name_and_address(id).0).unwrap_or_default();
    WireChange {
        sequence: change.sequence,
        time_ns: change.time_ns,
        term: change.term,
        role: role(change.role).into(),
        voted_for: name(change.vote),
        leader_id: name(change.leader),
    }
}
