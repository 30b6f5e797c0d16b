//! The links between nodes: one long-lived bidirectional stream for each peer and class.
//!
//! Each node dials every peer and sends its requests there; responses come back on the same stream. Votes and
//! heartbeats have a connection of their own, so that they never wait behind log entries. What is queued when a
//! stream becomes writable leaves in one frame.
//!
//! This layer promises order and no repetition within one connection, and nothing else: a message may be lost whenever
//! a connection breaks or a queue is full, and the core copes. It knows who is at the other end: names and
//! stores are exchanged first, learned once, and held on to. Who may speak as a node at all is a matter of the token and of
//! certificates: see `access`. The number of a store is told to nobody who is not recognised.

mod accept;
mod access;
mod convert;
mod dial;
mod frames;
mod identity;
mod members;
mod receiving;
mod snapshots;

pub(crate) use accept::PeerEndpoint;
pub(crate) use dial::{AbortOnDrop, dial_members};
pub(crate) use frames::StreamEnd;
pub(crate) use identity::{IdentityError, forget_without_log, store_id};
pub(crate) use members::{Members, MembersError};
pub(crate) use snapshots::send_snapshot;

use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use crate::kv::Store;
use crate::raft::{Epoch, Index, Message, NodeId, Position, Term};
use crate::snapshot::Stored;

/// The versions of the peer protocol that this release speaks. Two nodes talk in the newest that both know, so that the
/// nodes of a cluster can be upgraded one by one.
const PROTOCOL_VERSIONS: std::ops::RangeInclusive<u32> = 3..=3;

/// Messages that may wait for one stream. The core keeps fewer appends than this under way.
const QUEUE_MESSAGES_MAX: usize = 1024;

/// Converts what is in a frame and throws it away: for fuzzing.
pub(crate) fn check_frame(frame: proto::peer::Frame) {
    for message in frame.messages {
        if let Ok(message) = convert::from_wire(message) {
            let weight = convert::weight(&message);
            assert_eq!(
                convert::from_wire(convert::to_wire(message))
                    .map(|again| convert::weight(&again))
                    .ok(),
                Some(weight)
            );
        }
    }
}

/// What happens on the links, for the node to act on.
pub(crate) enum LinkEvent {
    /// Both streams to a peer are open. It says for how many milliseconds it is loyal to its leader; 0 if it does not.
    Up {
        peer: NodeId,
        epoch: Epoch,
        link: Link,
        loyal_ms: u64,
    },
    /// One of them is not any more.
    Down { peer: NodeId, epoch: Epoch },
    /// Answers from a peer on the streams of that epoch.
    Responses {
        peer: NodeId,
        epoch: Epoch,
        messages: Vec<Message>,
    },
    /// A peer has dialled this node; answers to it go here.
    Accepted {
        peer: NodeId,
        append: bool,
        answers: mpsc::Sender<Message>,
    },
    /// Requests from a peer, on this stream.
    Requests {
        peer: NodeId,
        messages: Vec<Message>,
        stream: StreamEnd,
    },
    /// A snapshot that ends at `last` was offered by the leader of `term`, or a part of it has arrived. The peer goes on if
    /// it is wanted.
    SnapshotArrives {
        peer: NodeId,
        term: Term,
        last: Position,
        wanted: oneshot::Sender<Result<(), Status>>,
    },
    /// All of it has, and is on disk. The peer is told that it is done, or why it was not taken.
    SnapshotArrived {
        peer: NodeId,
        term: Term,
        stored: Box<Stored>,
        store: Box<Store>,
        taken: oneshot::Sender<Result<(), Status>>,
    },
    /// A snapshot for a peer, sent as the leader of `term`, was sent up to this entry, or not sent.
    SnapshotSent {
        peer: NodeId,
        term: Term,
        last: Option<Index>,
    },
}

/// The sending ends of the two streams to a peer.
pub(crate) struct Link {
    control: mpsc::Sender<Message>,
    append: mpsc::Sender<Message>,
}

impl Link {
    /// Queues a message. It is dropped when the queue is full, as on any network.
    pub(crate) fn send(&self, message: Message) {
        let queue = if message.is_append() {
            &self.append
        } else {
            &self.control
        };
        let _ = queue.try_send(message);
    }
}
