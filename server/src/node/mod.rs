//! The node: one task that owns the core, the map and the way to the disk, and the handle by which others reach it.
//!
//! The task takes everything that has arrived since its last turn, tells the core, and then does what the core asks
//! for: sends, passes the log on to its thread, applies, answers. Nothing in it waits for the disk or for a peer.

mod admin;
mod driver;
mod keeping;
mod leaderless;
mod links;
mod requests;
mod roles;
mod status;
mod waiting;

pub(crate) use admin::{Admin, AdminDone, Membership};
pub(crate) use driver::{Driver, Parts, TICK};
pub(crate) use keeping::Keeping;
pub(crate) use requests::{
    Answer, Answered, ClientRequest, Failure, Found, Query, Read, ReadRequest, Responder,
};
pub(crate) use roles::{RoleChange, Roles};
pub(crate) use status::{Dump, Status};

use proto::raft::Consistency;
use proto::storage::Command;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::kv::{Applied, Events, TooOld};
use crate::raft::{Index, Term};

/// Client requests that may wait for the node's attention; more are refused.
pub(crate) const REQUESTS_MAX: usize = 16 << 10;

/// A way to talk to the node.
#[derive(Clone)]
pub(crate) struct Handle {
    requests: mpsc::Sender<ClientRequest>,
    control: mpsc::UnboundedSender<Control>,
    applied: watch::Receiver<Index>,
    roles: Roles,
}

impl Handle {
    pub(crate) fn new(
        requests: mpsc::Sender<ClientRequest>,
        control: mpsc::UnboundedSender<Control>,
        applied: watch::Receiver<Index>,
        roles: Roles,
    ) -> Handle {
        Handle {
            requests,
            control,
            applied,
            roles,
        }
    }

    /// Writes through the log.
    pub(crate) async fn write(
        &self,
        command: Command,
        deadline: Option<Instant>,
    ) -> Result<Answer<Applied>, Failure> {
        let (reply, answer) = Responder::one();
        self.submit(ClientRequest::Write {
            command,
            deadline,
            reply,
        })?;
        // A node that vanishes with a write in its hands cannot say what became of it.
        let lost = || Err(Failure::Lost { term: 0 });
        let answered = match deadline {
            None => answer.await.unwrap_or_else(|_| lost()),
            Some(deadline) => tokio::time::timeout_at(deadline, answer)
                .await
                .map_or(Err(Failure::TooLate { begun: true }), |answer| {
                    answer.unwrap_or_else(|_| lost())
                }),
        };
        answered.map(Answer::into_applied)
    }

    /// Reads as of now or later, or, if that is enough, as of earlier.
    pub(crate) async fn read(
        &self,
        query: Query,
        consistency: Consistency,
        deadline: Option<Instant>,
    ) -> Result<Answer<Found>, Failure> {
        let (reply, answer) = Responder::one();
        self.submit(ClientRequest::Read(ReadRequest {
            query,
            consistency,
            deadline,
            reply,
        }))?;
        let answered = match deadline {
            None => answer.await.unwrap_or(Err(Failure::Stopping)),
            Some(deadline) => tokio::time::timeout_at(deadline, answer)
                .await
                .map_or(Err(Failure::TooLate { begun: false }), |answer| {
                    answer.unwrap_or(Err(Failure::Stopping))
                }),
        };
        answered.map(Answer::into_found)
    }

    /// Hands over several requests at once; each is answered by its own responder.
    pub(crate) fn batch(&self, requests: Vec<ClientRequest>) -> Result<(), Failure> {
        self.submit(ClientRequest::Several(requests))
    }

    /// Changes from an index on.
    pub(crate) async fn events(
        &self,
        prefix: String,
        from: Index,
        bytes_max: usize,
    ) -> Result<(Term, Result<Events, TooOld>), Failure> {
        let (reply, answer) = oneshot::channel();
        self.submit(ClientRequest::Events {
            prefix,
            from,
            bytes_max,
            reply,
        })?;
        answer.await.map_err(|_| Failure::Stopping)
    }

    /// The last entry applied, as it grows.
    pub(crate) fn applied(&self) -> watch::Receiver<Index> {
        self.applied.clone()
    }

    /// What this node was, is and becomes.
    pub(crate) fn roles(&self) -> &Roles {
        &self.roles
    }

    /// What the node knows of itself and the cluster.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        self.ask(Control::Status).await
    }

    /// The same for those who check it from outside.
    pub(crate) async fn dump(&self, digest_index: Index) -> Result<Dump, Failure> {
        self.ask(|reply| Control::Dump(digest_index, reply)).await
    }

    /// Who belongs to the cluster.
    pub(crate) async fn membership(&self) -> Result<Result<Membership, Failure>, Failure> {
        self.ask(Control::Membership).await
    }

    /// Changes the cluster, or this node's part in it. Answered when it is done.
    pub(crate) async fn admin(&self, admin: Admin) -> Result<AdminDone, Failure> {
        self.ask(|reply| Control::Admin(admin, reply)).await?
    }

    /// Hands the office over if this node has it, finishes what was begun and stops.
    pub(crate) fn stop(&self) {
        // If nobody takes this, the node has stopped already.
        let _ = self.control.send(Control::Stop);
    }

    async fn ask<T>(&self, control: impl FnOnce(oneshot::Sender<T>) -> Control) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.control.send(control(reply)).map_err(|_| Failure::Stopping)?;
        answer.await.map_err(|_| Failure::Stopping)
    }

    fn submit(&self, request: ClientRequest) -> Result<(), Failure> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Failure::Stopping,
        })
    }
}

/// What must get through even when clients crowd the node.
pub(crate) enum Control {
    Status(oneshot::Sender<Status>),
    Dump(Index, oneshot::Sender<Dump>),
    Membership(oneshot::Sender<Result<Membership, Failure>>),
    Admin(Admin, oneshot::Sender<Result<AdminDone, Failure>>),
    Stop,
}
