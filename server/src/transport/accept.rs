//! The side that is dialled.

use std::sync::Arc;

use proto::peer::peer_service_server::PeerService;
use proto::peer::{Frame, Hello, SnapshotFrame, SnapshotProgress, StreamClass, Welcome, snapshot_frame};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::access::{Access, Caller};
use super::frames::{Answers, Frames, StreamEnd};
use super::members::{Introduction, Members, MembersError};
use super::receiving::Receiving;
use super::{LinkEvent, PROTOCOL_VERSIONS, QUEUE_MESSAGES_MAX, convert};
use crate::raft::{Message, NodeId};
use crate::run::causes;
use crate::snapshot::SnapshotDir;

/// Takes in the streams that peers open.
pub(crate) struct PeerEndpoint {
    members: Arc<Members>,
    access: Access,
    events: mpsc::Sender<LinkEvent>,
    receiving: Receiving,
}

impl PeerEndpoint {
    pub(crate) fn new(
        members: Arc<Members>,
        events: mpsc::Sender<LinkEvent>,
        snapshots: SnapshotDir,
    ) -> PeerEndpoint {
        PeerEndpoint {
            access: Access::new(members.clone()),
            receiving: Receiving::new(snapshots, events.clone()),
            members,
            events,
        }
    }

    /// The answering side of a stream, which says first who answers. Which store this is learns only who was recognised:
    /// whoever knows the number can use this node's name.
    fn welcome(
        &self,
        queue: mpsc::Receiver<Message>,
        requests_end: Option<oneshot::Receiver<Status>>,
        version: u32,
    ) -> Response<Answers> {
        let welcome = Welcome {
            node_id: self.members.own_name.clone(),
            incarnation: self.members.incarnation,
            accepted: requests_end.is_some(),
            store_id: requests_end.as_ref().map_or(0, |_| self.members.store_id),
            protocol_version: version,
            loyal_ms: self.members.loyal_ms,
        };
        let first = Frame {
            welcome: Some(welcome),
            ..Default::default()
        };
        Response::new(Answers::new(Frames::new(Some(first), queue), requests_end))
    }

    /// Whom a greeting comes from, or why it is refused.
    fn recognise(&self, caller: &Caller, hello: &Hello) -> Result<NodeId, Status> {
        let members = &self.members;
        let refuse = |why: String| Err(Status::failed_precondition(why));
        if common_version(hello).is_none() {
            return refuse(format!(
                "{} speaks versions {} to {} of the peer protocol, {} speaks {} to {}; upgrade one release at a time",
                members.own_name,
                PROTOCOL_VERSIONS.start(),
                PROTOCOL_VERSIONS.end(),
                hello.node_id,
                hello.protocol_version_min,
                hello.protocol_version
            ));
        }
        if !hello.expected_node_id.is_empty() && hello.expected_node_id != members.own_name {
            return refuse(format!(
                "this is {}, not {}; correct --peers of {}",
                members.own_name, hello.expected_node_id, hello.node_id
            ));
        }
        let counts = (hello.voters as usize, members.voters_to_compare());
        // A node that has it from its log, or waits to be told, counts nobody.
        if counts.0 != 0 && counts.1 != 0 && counts.0 != counts.1 {
            return refuse(format!(
                "{} counts {} nodes in the cluster, {} counts {}; give every node the addresses of all the others",
                members.own_name,
                members.voters(),
                hello.node_id,
                hello.voters
            ));
        }
        let peer = Introduction {
            name: &hello.node_id,
            store_id: hello.store_id,
            incarnation: hello.incarnation,
        };
        if peer.store_id == 0 {
            return Err(Status::invalid_argument("a hello names the store of its node"));
        }
        // Before the store that it names is believed.
        self.access.check_claim(caller, &hello.node_id)?;
        let known = members.recognise(peer).map_err(|error| {
            members.report(&error);
            let text = format!("{}: {error}{}", members.own_name, causes(&error));
            match error {
                // Passes by itself.
                MembersError::Late { .. } => Status::aborted(text),
                MembersError::Disk { .. } => Status::internal(text),
                _ => Status::failed_precondition(text),
            }
        })?;
        match known {
            Some(id) => Ok(id),
            // It may be the node behind an address that has not answered yet.
            // Or it is one that is to be taken in, and wants to know who is here.
            None if members.has_room() || hello.voters == 0 || hello.node_id == members.own_name => {
                Err(Status::unavailable(format!(
                    "{} has not met {} yet; try again",
                    members.own_name, hello.node_id
                )))
            }
            None => refuse(format!(
                "{} is not one of the nodes that {} knows",
                hello.node_id, members.own_name
            )),
        }
    }
}

#[tonic::async_trait]
impl PeerService for PeerEndpoint {
    type ExchangeStream = Answers;

    type SendSnapshotStream = ReceiverStream<Result<SnapshotProgress, Status>>;

    async fn send_snapshot(
        &self,
        request: Request<Streaming<SnapshotFrame>>,
    ) -> Result<Response<Self::SendSnapshotStream>, Status> {
        let caller = self.access.admit(&request)?;
        let mut frames = request.into_inner();
        let offer = match frames.message().await?.and_then(|frame| frame.kind) {
            Some(snapshot_frame::Kind::Offer(offer)) => offer,
            _ => return Err(Status::invalid_argument("a snapshot begins with an offer")),
        };
        let hello = offer.hello.as_ref();
        let hello = hello.ok_or_else(|| Status::invalid_argument("an offer begins with a hello"))?;
        let peer = self.recognise(&caller, hello)?;
        let told = self.receiving.begin(peer, offer, frames).await?;
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn exchange(&self, request: Request<Streaming<Frame>>) -> Result<Response<Answers>, Status> {
        let caller = self.access.admit(&request)?;
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|frame| frame.hello);
        let hello = first.ok_or_else(|| Status::invalid_argument("a stream begins with a hello"))?;
        let version = common_version(&hello).unwrap_or_default();
        let (answers, queue) = mpsc::channel(QUEUE_MESSAGES_MAX);
        // A node that this one has not met yet is told who answers: that is how it is learned. It gets nothing else.
        let peer = match self.recognise(&caller, &hello) {
            Ok(peer) => peer,
            Err(status) if status.code() == tonic::Code::Unavailable => {
                return Ok(self.welcome(queue, None, version));
            }
            Err(status) => return Err(status),
        };
        let append = hello.class() == StreamClass::Append;
        let accepted = LinkEvent::Accepted {
            peer,
            append,
            answers,
        };
        self.events
            .send(accepted)
            .await
            .map_err(|_| Status::unavailable("this node is stopping"))?;
        let (stream, requests_end) = StreamEnd::new();
        let (members, events) = (self.members.clone(), self.events.clone());
        let is_current = move || members.is_current(peer, hello.incarnation);
        tokio::spawn(async move {
            forward(peer, is_current, requests, events, &stream).await;
            stream.close();
        });
        Ok(self.welcome(queue, Some(requests_end), version))
    }
}

/// The newest version of the protocol that both sides speak.
fn common_version(hello: &Hello) -> Option<u32> {
    let version = hello.protocol_version.min(*PROTOCOL_VERSIONS.end());
    (version >= hello.protocol_version_min && PROTOCOL_VERSIONS.contains(&version)).then_some(version)
}

/// Hands requests to the node until the stream ends, for whatever reason, or one of them makes no sense: then the peer
/// is told why before the stream is closed. Nothing is taken any more from a process once another has its place.
async fn forward(
    peer: NodeId,
    is_current: impl Fn() -> bool,
    mut requests: Streaming<Frame>,
    events: mpsc::Sender<LinkEvent>,
    stream: &StreamEnd,
) {
    while let Ok(Some(frame)) = requests.message().await {
        if stream.is_closed() {
            // The node found fault with an earlier request.
            return;
        }
        if !is_current() {
            return stream.refuse(Status::aborted(
                "another process has taken the place of this one, or its node was removed",
            ));
        }
        let messages: Result<_, Status> = frame.messages.into_iter().map(convert::from_wire).collect();
        let messages = match messages {
            Ok(messages) => messages,
            Err(status) => {
                let why = status.message();
                tracing::error!(%peer, "a peer sent a message that makes no sense, closing its stream: {why}");
                return stream.refuse(status);
            }
        };
        let requests = LinkEvent::Requests {
            peer,
            messages,
            stream: stream.clone(),
        };
        if events.send(requests).await.is_err() {
            return;
        }
    }
}
