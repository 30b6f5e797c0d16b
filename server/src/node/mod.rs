//! The node: one task that owns the core, the map and the way to the disk, and the handle by which others reach it.
//!
//! The task takes everything that has arrived since its last turn, tells the core, and then does what the core asks
//! for: sends, passes the log on to its thread, applies, answers. Nothing in it waits for the disk or for a peer.

mod driver;
mod waiting;

pub(crate) use driver::{Driver, Parts, TICK};

use proto::storage::Command;
use tokio::sync::{mpsc, oneshot};

use crate::kv::{Applied, Versioned};
use crate::raft::{Index, RoleKind, Term};

/// Client requests that may wait for the node's attention; more are refused.
pub(crate) const REQUESTS_MAX: usize = 16 << 10;

/// A way to talk to the node.
#[derive(Clone)]
pub(crate) struct Handle {
    requests: mpsc::Sender<ClientRequest>,
    control: mpsc::UnboundedSender<Control>,
}

impl Handle {
    pub(crate) fn new(
        requests: mpsc::Sender<ClientRequest>,
        control: mpsc::UnboundedSender<Control>,
    ) -> Handle {
        Handle { requests, control }
    }

    /// Writes through the log.
    pub(crate) async fn write(&self, command: Command) -> Result<Answer<Applied>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.submit(ClientRequest::Write { command, reply })?;
        // A node that vanishes with a write in its hands cannot say what became of it.
        answer.await.unwrap_or(Err(Failure::Lost { term: 0 }))
    }

    /// Reads the key as of now or later.
    pub(crate) async fn read(&self, key: String) -> Result<Answer<Versioned>, Failure> {
        let (reply, answer) = oneshot::channel();
        self.submit(ClientRequest::Read { key, reply })?;
        answer.await.unwrap_or(Err(Failure::Stopping))
    }

    /// What the node knows of itself and the cluster.
    pub(crate) async fn status(&self) -> Result<Status, Failure> {
        let (reply, answer) = oneshot::channel();
        self.control
            .send(Control::Status(reply))
            .map_err(|_| Failure::Stopping)?;
        answer.await.map_err(|_| Failure::Stopping)
    }

    /// Finishes what was begun and stops.
    pub(crate) fn stop(&self) {
        // If nobody takes this, the node has stopped already.
        let _ = self.control.send(Control::Stop);
    }

    fn submit(&self, request: ClientRequest) -> Result<(), Failure> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Failure::Stopping,
        })
    }
}

/// What clients ask of a node.
pub(crate) enum ClientRequest {
    Write {
        command: Command,
        reply: oneshot::Sender<Result<Answer<Applied>, Failure>>,
    },
    Read {
        key: String,
        reply: oneshot::Sender<Result<Answer<Versioned>, Failure>>,
    },
}

/// What must get through even when clients crowd the node.
pub(crate) enum Control {
    Status(oneshot::Sender<Status>),
    Stop,
}

/// An answer and the term in which the node gave it.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) term: Term,
    pub(crate) value: T,
}

/// Why a request got no answer, and whether it may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Did not happen: this node does not lead.
    NotLeader {
        term: Term,
        leader: Option<(String, String)>,
    },
    /// Did not happen: too much waits already.
    Overloaded,
    /// Did not happen: the node is stopping.
    Stopping,
    /// Did not happen: another leader's entry took its place in the log.
    Replaced { term: Term },
    /// May have happened, or may still: leadership was lost, or the node stopped, with the write in the log.
    Lost { term: Term },
}

/// See `GetClusterStatusResponse`.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) role: RoleKind,
    pub(crate) term: Term,
    pub(crate) leader: Option<(String, String)>,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    pub(crate) last: Index,
    pub(crate) durable: Index,
    pub(crate) digest: u64,
    pub(crate) peers: Vec<PeerStatus>,
}

/// See `PeerStatus` in `kv.proto`.
#[derive(Debug)]
pub(crate) struct PeerStatus {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) connected: bool,
    pub(crate) matched: Index,
}
