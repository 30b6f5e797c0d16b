//! The node: one task that owns the core, the map and the way to the disk, and the handle by which others reach it.
//!
//! The task takes everything that has arrived since its last turn, tells the core, and then does what the core asks
//! for: sends, passes the log on to its thread, applies, answers. The task never waits for the disk or for a peer; only writes may
//! be begun a moment later when the disk is busy (`gathering`).

mod admin;
mod driver;
mod gathering;
mod keeping;
mod leaderless;
mod links;
mod pending;
mod requests;
mod roles;
mod status;
mod waiting;

pub(crate) use admin::{Admin, AdminDone, MemberChange, Membership};
pub(crate) use driver::{Driver, Parts, TICK};
pub(crate) use keeping::{Keeping, Limits};
pub(crate) use requests::{
    Answer, Answered, ClientRequest, Failure, Found, Query, Read, ReadRequest, Responder,
};
pub(crate) use roles::{RoleChange, Roles, RolesReader};
pub(crate) use status::{Dump, Status};

use proto::raft::Consistency;
use proto::storage::Command;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::kv::{Applied, Events, TooOld};
use crate::raft::{Index, Term};

/// Client requests that may wait for the node's attention; more are refused.
pub(crate) const REQUESTS_MAX: usize = 16 << 10;
/// The same for questions about the node and for what administrators ask.
pub(crate) const CONTROL_MAX: usize = 256;

/// A way to talk to the node.
#[derive(Clone)]
pub(crate) struct Handle {
    requests: mpsc::Sender<ClientRequest>,
    control: mpsc::Sender<Control>,
    applied: watch::Receiver<Index>,
    roles: RolesReader,
}

impl Handle {
    pub(crate) fn new(
        requests: mpsc::Sender<ClientRequest>,
        control: mpsc::Sender<Control>,
        applied: watch::Receiver<Index>,
        roles: RolesReader,
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
        let lost = || Err(Failure::Vanished);
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
    pub(crate) fn roles(&self) -> &RolesReader {
        &self.roles
    }

    /// Completes when the node has stopped, and answers nothing any more.
    pub(crate) async fn stopped(&self) {
        self.requests.closed().await;
    }

    /// What the node knows of itself and the cluster.
    pub(crate) async fn status(&self, deadline: Option<Instant>) -> Result<Status, Failure> {
        self.ask(Control::Status, deadline).await
    }

    /// The same for those who check it from outside.
    pub(crate) async fn dump(&self, digest_index: Index, deadline: Option<Instant>) -> Result<Dump, Failure> {
        self.ask(|reply| Control::Dump(digest_index, reply), deadline)
            .await
    }

    /// Who belongs to the cluster.
    pub(crate) async fn membership(&self, deadline: Option<Instant>) -> Result<Membership, Failure> {
        self.ask(Control::Membership, deadline).await?
    }

    /// Changes the cluster, or this node's part in it. Answered when it is done.
    pub(crate) async fn admin(&self, admin: Admin, deadline: Option<Instant>) -> Result<AdminDone, Failure> {
        let answer = self.hand_over(|reply| Control::Admin(admin, reply))?;
        // From here on it may be begun at any moment.
        let late = Failure::TooLate { begun: true };
        await_reply(answer, deadline, late, Failure::Vanished).await?
    }

    /// Hands the office over if this node has it, finishes what was begun and stops.
    pub(crate) async fn stop(&self) {
        // If nobody takes this, the node has stopped already.
        let _ = self.control.send(Control::Stop).await;
    }

    async fn ask<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<T>) -> Control,
        deadline: Option<Instant>,
    ) -> Result<T, Failure> {
        let answer = self.hand_over(control)?;
        let late = Failure::TooLate { begun: false };
        await_reply(answer, deadline, late, Failure::Stopping).await
    }

    fn hand_over<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> Result<oneshot::Receiver<T>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.control.try_send(control(reply)).map_err(not_taken)?;
        Ok(answer)
    }

    fn submit(&self, request: ClientRequest) -> Result<(), Failure> {
        self.requests.try_send(request).map_err(not_taken)
    }
}

fn not_taken<T>(error: mpsc::error::TrySendError<T>) -> Failure {
    match error {
        mpsc::error::TrySendError::Full(_) => Failure::Overloaded,
        mpsc::error::TrySendError::Closed(_) => Failure::Stopping,
    }
}

/// Waits for an answer; `late` when the deadline comes first, `dropped` when none will come.
async fn await_reply<T>(
    answer: oneshot::Receiver<T>,
    deadline: Option<Instant>,
    late: Failure,
    dropped: Failure,
) -> Result<T, Failure> {
    match deadline {
        None => answer.await.map_err(|_| dropped),
        Some(deadline) => match tokio::time::timeout_at(deadline, answer).await {
            Ok(answer) => answer.map_err(|_| dropped),
            Err(_) => Err(late),
        },
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

impl Control {
    /// Whether nobody waits for the answer any more: then nothing is begun.
    fn is_abandoned(&self) -> bool {
        match self {
            Control::Status(reply) => reply.is_closed(),
            Control::Dump(_, reply) => reply.is_closed(),
            Control::Membership(reply) => reply.is_closed(),
            Control::Admin(_, reply) => reply.is_closed(),
            Control::Stop => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn handle(room: usize) -> (Handle, mpsc::Receiver<Control>) {
        let (control_in, control) = mpsc::channel(room);
        let (requests, _) = mpsc::channel(1);
        let (_, applied) = watch::channel(0);
        let handle = Handle::new(requests, control_in, applied, Roles::new().reader());
        (handle, control)
    }

    fn snapshot() -> Admin {
        Admin::Snapshot
    }

    #[tokio::test]
    async fn a_change_whose_answer_is_lost_may_have_happened_and_a_question_may_not() {
        let (node, mut control) = handle(4);
        let dropping = tokio::spawn(async move { while control.recv().await.is_some() {} });
        assert_eq!(node.admin(snapshot(), None).await.unwrap_err(), Failure::Vanished);
        assert_eq!(node.status(None).await.unwrap_err(), Failure::Stopping);
        dropping.abort();
        let _ = dropping.await;
        let refused = node.admin(snapshot(), None).await.unwrap_err();
        assert_eq!(refused, Failure::Stopping, "nobody took it, so nothing was begun");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_busy_node_is_told_at_the_deadline() {
        let (node, _control) = handle(8);
        let soon = Some(Instant::now());
        let late = |begun| Failure::TooLate { begun };
        assert_eq!(node.status(soon).await.unwrap_err(), late(false));
        assert_eq!(node.dump(0, soon).await.unwrap_err(), late(false));
        assert!(
            node.membership(soon)
                .await
                .is_err_and(|failure| failure == late(false))
        );
        assert_eq!(node.admin(snapshot(), soon).await.unwrap_err(), late(true));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_does_not_grow() {
        let (node, _control) = handle(2);
        let soon = || Some(Instant::now());
        for _ in 0..2 {
            assert!(matches!(node.status(soon()).await, Err(Failure::TooLate { .. })));
        }
        assert_eq!(node.status(soon()).await.unwrap_err(), Failure::Overloaded);
        assert_eq!(
            node.admin(snapshot(), soon()).await.unwrap_err(),
            Failure::Overloaded
        );
    }
}
