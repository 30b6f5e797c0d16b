//! What comes from the links between nodes, handed to the core; and what becomes of a peer that breaks the protocol.

use tonic::Status;

use super::driver::Driver;
use crate::raft::{Message, NodeId, Position, Term, Violation};
use crate::transport::{LinkEvent, StreamEnd};

impl Driver {
    pub(super) fn on_link(&mut self, event: LinkEvent) {
        let core = &mut self.parts.core;
        match event {
            LinkEvent::Up {
                peer,
                epoch,
                link,
                loyal_ms,
            } => {
                self.links.insert(peer, (epoch, link));
                core.peer_up(peer, epoch);
                core.set_loyalty(peer, loyal_ms);
            }
            LinkEvent::Down { peer, epoch } => {
                if self
                    .links
                    .get(&peer)
                    .is_some_and(|(current, _)| *current == epoch)
                {
                    self.links.remove(&peer);
                }
                core.peer_down(peer, epoch);
            }
            LinkEvent::Responses {
                peer,
                epoch,
                messages,
            } => {
                messages
                    .into_iter()
                    .for_each(|message| core.receive_response(peer, epoch, message));
            }
            LinkEvent::Accepted {
                peer,
                append,
                answers,
            } => {
                self.answers.insert((peer, append), answers);
            }
            LinkEvent::Requests {
                peer,
                messages,
                stream,
            } => self.on_requests(peer, messages, &stream),
            LinkEvent::SnapshotArrives {
                peer,
                term,
                last,
                wanted,
            } => drop(wanted.send(self.wants_snapshot(peer, term, last))),
            // If the sender has gone, the core tells it all the same.
            LinkEvent::SnapshotArrived {
                peer,
                term,
                stored,
                store,
                taken,
            } => drop(taken.send(self.snapshot_arrived(peer, term, *stored, *store))),
            LinkEvent::SnapshotSent { peer, term, last } => self.snapshot_sent(peer, term, last),
        }
    }

    /// Takes requests until one of them breaks the protocol: that ends the stream, and nothing behind it is believed.
    fn on_requests(&mut self, peer: NodeId, messages: Vec<Message>, stream: &StreamEnd) {
        for message in messages {
            if let Err(violation) = self.parts.core.receive_request(peer, message) {
                return stream.refuse(self.report(peer, violation));
            }
        }
    }

    /// Whether a snapshot is taken from this peer; why not if it is not.
    fn wants_snapshot(&mut self, peer: NodeId, term: Term, last: Position) -> Result<(), Status> {
        match self.parts.core.snapshot_arrives(peer, term, last) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let now = self.parts.core.term();
                Err(Status::aborted(format!(
                    "this snapshot comes from the leader of term {term}, and the term is {now} now"
                )))
            }
            Err(violation) => Err(self.report(peer, violation)),
        }
    }

    /// Says in the log that a peer broke the protocol, once for each way in which it does, and returns what it is told.
    pub(super) fn report(&mut self, peer: NodeId, violation: Violation) -> Status {
        if self.violations.insert(peer, violation) != Some(violation) {
            let name = self.parts.members.name_and_address(peer).0;
            tracing::error!(
                peer = name,
                number = %peer,
                "a peer breaks the protocol, so its stream is closed and nothing of it is taken: {violation}. Either \
                 something else speaks in its name, which --admin-token-file and --tls-cert prevent, or the data of two \
                 nodes contradicts each other: compare their state with `server ctl status`"
            );
        }
        // The code that tells the other side to log it as an error too.
        Status::invalid_argument(format!(
            "{} found a breach of the protocol: {violation}",
            self.parts.members.own_name
        ))
    }
}
