//! `raft.AdminService`: changing the cluster while it runs.

use std::sync::Arc;

use proto::raft::admin_service_server::AdminService;
use proto::raft::{
    AddMemberRequest, ClusterMember, GetMembershipRequest, GetMembershipResponse, MembershipChanged,
    PromoteMemberRequest, RemoveMemberRequest, TakeSnapshotRequest, TakeSnapshotResponse,
    TransferLeadershipRequest, TransferLeadershipResponse,
};
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

use super::deadline;
use super::key_value::header;
use super::refusal::{not_executed, refusal};
use crate::config::NodeName;
use crate::node::{Admin, AdminDone, Handle, MemberChange};
use crate::token::{BadToken, Token};

/// Who may change the cluster.
pub(crate) enum AdminAccess {
    /// Whoever reaches the node.
    Open,
    /// Whoever knows the token.
    Token(Token),
    /// Nobody: the node can be reached from elsewhere, and no token was given.
    Closed,
}

impl AdminAccess {
    /// For a node with this token, or none, that can be reached from its own machine only, or from elsewhere.
    pub(crate) fn new(token: Option<Token>, local: bool) -> AdminAccess {
        match token {
            Some(token) => AdminAccess::Token(token),
            None if local => AdminAccess::Open,
            None => AdminAccess::Closed,
        }
    }

    fn check<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let token = match self {
            AdminAccess::Open => return Ok(()),
            AdminAccess::Token(token) => token,
            AdminAccess::Closed => {
                let text = "this node can be reached from other machines and was started without --admin-token-file, so \
                            it takes no calls that change the cluster";
                return Err(not_executed(Code::PermissionDenied, text));
            }
        };
        match token.check(request.metadata()) {
            Ok(()) => Ok(()),
            Err(BadToken::Wrong) => Err(not_executed(
                Code::PermissionDenied,
                "the token is not the one of this node",
            )),
            Err(BadToken::Missing) => {
                let text = "this call needs the metadata `authorization: Bearer <token>`; `server ctl` sends it with --token-file";
                Err(not_executed(Code::Unauthenticated, text))
            }
        }
    }
}

/// `raft.AdminService`, served by one node.
pub(crate) struct Admins {
    node: Handle,
    node_id: Arc<str>,
    access: AdminAccess,
}

impl Admins {
    pub(crate) fn new(node: Handle, node_id: &str, access: AdminAccess) -> Admins {
        Admins {
            node,
            node_id: node_id.into(),
            access,
        }
    }

    async fn change(
        &self,
        change: MemberChange,
        expected: Option<u64>,
        deadline: Option<Instant>,
    ) -> Result<Response<MembershipChanged>, Status> {
        let admin = Admin::Change { change, expected };
        match self.node.admin(admin, deadline).await.map_err(refusal)? {
            AdminDone::Changed { index, term } => Ok(Response::new(MembershipChanged {
                header: header(&self.node_id, term),
                index,
            })),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(done: &AdminDone) -> Status {
    Status::internal(format!("the node did something else than it was asked: {done:?}"))
}

fn check_name(name: &str) -> Result<String, Status> {
    let parsed = name.parse::<NodeName>();
    parsed
        .map(|name| name.0)
        .map_err(|why| not_executed(Code::InvalidArgument, &why))
}

#[tonic::async_trait]
impl AdminService for Admins {
    async fn get_membership(
        &self,
        request: Request<GetMembershipRequest>,
    ) -> Result<Response<GetMembershipResponse>, Status> {
        self.access.check(&request)?;
        let deadline = deadline::of(request.metadata());
        let membership = self.node.membership(deadline).await.map_err(refusal)?;
        let members = membership.members.into_iter().map(|member| ClusterMember {
            node_id: member.name,
            address: member.address,
            role: member.role.into(),
            match_index: member.matched,
            connected: member.connected,
        });
        Ok(Response::new(GetMembershipResponse {
            header: header(&self.node_id, membership.term),
            index: membership.index,
            committed: membership.committed,
            joint: membership.joint,
            members: members.collect(),
            removed: membership.removed,
        }))
    }

    async fn add_member(
        &self,
        request: Request<AddMemberRequest>,
    ) -> Result<Response<MembershipChanged>, Status> {
        self.access.check(&request)?;
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let (name, address) = (check_name(&request.node_id)?, request.address);
        let change = MemberChange::Add { name, address };
        self.change(change, request.expected_index, deadline).await
    }

    async fn promote_member(
        &self,
        request: Request<PromoteMemberRequest>,
    ) -> Result<Response<MembershipChanged>, Status> {
        self.access.check(&request)?;
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let name = check_name(&request.node_id)?;
        self.change(MemberChange::Promote { name }, request.expected_index, deadline)
            .await
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<MembershipChanged>, Status> {
        self.access.check(&request)?;
        let deadline = deadline::of(request.metadata());
        let request = request.into_inner();
        let name = check_name(&request.node_id)?;
        self.change(MemberChange::Remove { name }, request.expected_index, deadline)
            .await
    }

    async fn transfer_leadership(
        &self,
        request: Request<TransferLeadershipRequest>,
    ) -> Result<Response<TransferLeadershipResponse>, Status> {
        self.access.check(&request)?;
        let deadline = deadline::of(request.metadata());
        let name = request.into_inner().node_id;
        let name = match name.is_empty() {
            true => None,
            false => Some(check_name(&name)?),
        };
        let transfer = Admin::Transfer { name };
        match self.node.admin(transfer, deadline).await.map_err(refusal)? {
            AdminDone::Transferred { term, leader } => Ok(Response::new(TransferLeadershipResponse {
                header: header(&self.node_id, term),
                leader_id: leader,
            })),
            other => Err(unexpected(&other)),
        }
    }

    async fn take_snapshot(
        &self,
        request: Request<TakeSnapshotRequest>,
    ) -> Result<Response<TakeSnapshotResponse>, Status> {
        self.access.check(&request)?;
        let deadline = deadline::of(request.metadata());
        let taken = self.node.admin(Admin::Snapshot, deadline).await;
        match taken.map_err(refusal)? {
            AdminDone::Snapshot { last, bytes } => Ok(Response::new(TakeSnapshotResponse {
                header: header(&self.node_id, last.term),
                last_index: last.index,
                last_term: last.term,
                bytes,
            })),
            other => Err(unexpected(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn every_kind_of_access_is_checked() {
        let request = |authorization: Option<&str>| {
            let mut request = Request::new(());
            if let Some(value) = authorization {
                request
                    .metadata_mut()
                    .insert("authorization", value.parse().unwrap());
            }
            request
        };
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        fs::write(&file, "secret").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let token = AdminAccess::new(Some(Token::read(&file).unwrap()), true);
        assert!(matches!(AdminAccess::new(None, true), AdminAccess::Open));
        assert!(matches!(AdminAccess::new(None, false), AdminAccess::Closed));
        let code =
            |access: &AdminAccess, value| access.check(&request(value)).map_err(|status| status.code());
        assert_eq!(code(&AdminAccess::Open, None), Ok(()));
        assert_eq!(
            code(&AdminAccess::Closed, Some("Bearer secret")),
            Err(Code::PermissionDenied)
        );
        assert_eq!(code(&token, Some("Bearer secret")), Ok(()));
        assert_eq!(code(&token, Some("Bearer wrong")), Err(Code::PermissionDenied));
        for value in [None, Some("secret"), Some("Basic secret")] {
            assert_eq!(code(&token, value), Err(Code::Unauthenticated));
        }
    }
}
