//! The links between nodes: one long-lived bidirectional stream for each peer and class.
//!
//! Each node dials every peer and sends its requests there; responses come back on the same stream. Votes and
//! heartbeats have a connection of their own, so that they never wait behind log entries. What is queued when a
//! stream becomes writable leaves in one frame.
//!
//! This layer promises order and no repetition within one connection, and nothing else: a message may be lost whenever
//! a connection breaks or a queue is full, and the core copes. It knows who is at the other end: names and
//! stores are exchanged first, learned once, and held on to.

mod accept;
mod convert;
mod dial;
mod frames;
mod identity;
mod members;

pub(crate) use accept::PeerEndpoint;
pub(crate) use dial::dial_forever;
pub(crate) use identity::{IdentityError, forget_without_log, store_id};
pub(crate) use members::{Members, MembersError};

use tokio::sync::mpsc;

use crate::raft::{Epoch, Message, NodeId};

/// Version of the frames; nodes with different ones do not talk.
const PROTOCOL_VERSION: u32 = 2;

/// Messages that may wait for one stream. The core keeps fewer appends than this under way.
const QUEUE_MESSAGES_MAX: usize = 1024;

/// What happens on the links, for the node to act on.
pub(crate) enum LinkEvent {
    /// Both streams to a peer are open.
    Up { peer: NodeId, epoch: Epoch, link: Link },
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
    /// Requests from a peer.
    Requests { peer: NodeId, messages: Vec<Message> },
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
