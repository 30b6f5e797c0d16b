//! The side that dials: keeps both streams to one peer open, for ever.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use proto::peer::peer_service_client::PeerServiceClient;
use proto::peer::{Frame, Hello, StreamClass};
use tokio::sync::mpsc;
use tonic::{Code, Request, Status, Streaming};

use super::Link;
use super::frames::Frames;
use super::members::{Introduction, Members, MembersError};
use super::{LinkEvent, PROTOCOL_VERSIONS, QUEUE_MESSAGES_MAX, convert};
use crate::config::NodeName;
use crate::raft::{Epoch, Message, NodeId};
use crate::run::causes;
use crate::tls;

/// Dialling and greeting together may take this long: enough for a link with a round trip of half a second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Waits between attempts double from the first to the second.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// A control connection on which nothing comes back for this long (silence, then an unanswered ping) is given up, and
/// the link with it; heartbeats flow far more often than that.
const KEEP_ALIVE_CONTROL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));
/// On the connection of the log a ping waits behind all entries that were sent before it, which on a narrow link takes
/// long and says nothing about the peer: the control connection tells whether that is alive.
const KEEP_ALIVE_APPEND: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(30));

/// Why a link could not be made or did not last.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("cannot connect")]
    Connect(#[from] tonic::transport::Error),
    #[error("no answer within {HANDSHAKE_TIMEOUT:?}")]
    Timeout,
    #[error("refused: {}", .0.message())]
    Refused(Status),
    #[error("it did not say who it is")]
    NoWelcome,
    /// Passes by itself, and is met at every first start of a cluster.
    #[error("it has not met this node yet")]
    NotMet,
    #[error("the connection broke")]
    Broken(Status),
    #[error("it sent a message that makes no sense ({}); run the same release everywhere", .0.message())]
    Nonsense(Status),
    #[error(transparent)]
    Members(#[from] MembersError),
    #[error("it wants to speak version {0} of the peer protocol, which this release does not know")]
    Version(u32),
    #[error("another process has taken the place of the one at this address")]
    Replaced,
    #[error("the stream ended")]
    Ended,
}

impl LinkError {
    /// Whether waiting will not help: somebody has to correct something.
    fn needs_a_person(&self) -> bool {
        match self {
            LinkError::Members(error) => !matches!(error, MembersError::Late { .. }),
            LinkError::Refused(status) => {
                use Code::{FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated};
                matches!(
                    status.code(),
                    FailedPrecondition | InvalidArgument | PermissionDenied | Unauthenticated
                )
            }
            _ => false,
        }
    }
}

/// One stream with its greeting behind it.
struct Greeted {
    queue: mpsc::Sender<Message>,
    answers: Answers,
    loyal_ms: u64,
}

/// What comes back on a stream, and from which process.
struct Answers {
    frames: Streaming<Frame>,
    incarnation: u64,
}

/// Dials whoever is to be dialled, as that changes. Ends when nobody listens to `events` any more.
pub(crate) async fn dial_members(members: Arc<Members>, events: mpsc::Sender<LinkEvent>) {
    let mut changes = members.changes();
    let mut tasks: BTreeMap<usize, AbortOnDrop> = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        let wanted = members.dialled();
        tasks.retain(|slot, _| wanted.contains(slot));
        for slot in wanted {
            tasks.entry(slot).or_insert_with(|| {
                AbortOnDrop(tokio::spawn(dial_forever(slot, members.clone(), events.clone())))
            });
        }
        tokio::select! {
            changed = changes.changed() => changed.expect("the members outlive their watchers"),
            () = events.closed() => return,
        }
    }
}

/// A task that ends with whoever holds this.
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Dials the peer at `slot` again and again. Ends when nobody listens to `events` any more.
async fn dial_forever(slot: usize, members: Arc<Members>, events: mpsc::Sender<LinkEvent>) {
    let address = members.address(slot);
    let mut delay = RETRY_DELAYS.0;
    let mut complaint = String::new();
    loop {
        let epoch = members.next_epoch();
        let error = match tokio::time::timeout(HANDSHAKE_TIMEOUT, connect(slot, &address, &members)).await {
            Ok(Ok((peer, control, append))) => {
                tracing::info!(%address, peer = members.name_and_address(peer).0, "link up");
                delay = RETRY_DELAYS.0;
                complaint.clear();
                let link = Link {
                    control: control.queue,
                    append: append.queue,
                };
                let up = LinkEvent::Up {
                    peer,
                    epoch,
                    link,
                    loyal_ms: control.loyal_ms,
                };
                if events.send(up).await.is_err() {
                    return;
                }
                let error = tokio::select! {
                    error = forward(peer, epoch, control.answers, &members, &events) => error,
                    error = forward(peer, epoch, append.answers, &members, &events) => error,
                };
                if events.send(LinkEvent::Down { peer, epoch }).await.is_err() {
                    return;
                }
                error
            }
            Ok(Err(error)) => error,
            Err(_) => LinkError::Timeout,
        };
        match &error {
            LinkError::Members(error) if members.report(error) => {}
            error => complain(&address, error, &mut complaint),
        }
        if events.is_closed() {
            return;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(RETRY_DELAYS.1);
    }
}

/// Says what is wrong with a link, once for each new reason.
fn complain(address: &str, error: &LinkError, last: &mut String) {
    let behind = match error {
        // What the transport met on its way says more than the status that was made of it.
        LinkError::Broken(status) if status.source().is_some() => causes(status),
        LinkError::Broken(status) => format!(": {}", status.message()),
        _ => causes(error),
    };
    let text = format!("{error}{behind}");
    if *last == text {
        return;
    }
    if matches!(error, LinkError::NotMet) {
        tracing::debug!(address, "no link to this peer: {text}");
    } else if error.needs_a_person() {
        tracing::error!(address, "no link to this peer: {text}");
    } else {
        tracing::info!(address, "no link to this peer: {text}");
    }
    *last = text;
}

async fn connect(
    slot: usize,
    address: &str,
    members: &Members,
) -> Result<(NodeId, Greeted, Greeted), LinkError> {
    // Side by side: on a slow link each costs two round trips.
    let ((control_peer, control), (append_peer, append)) = tokio::try_join!(
        greet(slot, address, members, StreamClass::Control),
        greet(slot, address, members, StreamClass::Append),
    )?;
    assert_eq!(control_peer, append_peer, "a slot holds one name for ever");
    Ok((control_peer, control, append))
}

async fn greet(
    slot: usize,
    address: &str,
    members: &Members,
    class: StreamClass,
) -> Result<(NodeId, Greeted), LinkError> {
    let (interval, timeout) = keep_alive(class);
    let channel = tls::endpoint(address, members.tls.as_ref())?
        .connect_timeout(HANDSHAKE_TIMEOUT)
        .tcp_nodelay(true)
        .initial_connection_window_size(8 << 20)
        .initial_stream_window_size(4 << 20)
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(timeout)
        .keep_alive_while_idle(true)
        .connect()
        .await?;
    let hello = hello(members, members.expected_at(slot), class);
    let (queue, waiting) = mpsc::channel(QUEUE_MESSAGES_MAX);
    let first = Frame {
        hello: Some(hello),
        ..Default::default()
    };
    let mut client = PeerServiceClient::new(channel).max_decoding_message_size(crate::FRAME_BYTES_MAX);
    let answers = client
        .exchange(members.authorised(Request::new(Frames::new(Some(first), waiting))))
        .await
        .map_err(LinkError::Refused)?;
    let mut frames = answers.into_inner();
    let first = frames.message().await.map_err(LinkError::Refused)?;
    let welcome = first
        .and_then(|frame| frame.welcome)
        .ok_or(LinkError::NoWelcome)?;
    welcome
        .node_id
        .parse::<NodeName>()
        .map_err(|_| LinkError::NoWelcome)?;
    let peer = Introduction {
        name: &welcome.node_id,
        store_id: welcome.store_id,
        incarnation: welcome.incarnation,
    };
    if !PROTOCOL_VERSIONS.contains(&welcome.protocol_version) {
        return Err(LinkError::Version(welcome.protocol_version));
    }
    if !welcome.accepted {
        // It keeps its store to itself until it knows this node.
        members.meet(slot, peer)?;
        return Err(LinkError::NotMet);
    }
    if welcome.store_id == 0 {
        return Err(LinkError::NoWelcome);
    }
    let peer = members.introduce(slot, peer)?;
    let answers = Answers {
        frames,
        incarnation: welcome.incarnation,
    };
    let greeted = Greeted {
        queue,
        answers,
        loyal_ms: welcome.loyal_ms,
    };
    Ok((peer, greeted))
}

/// How a node introduces itself on a stream.
pub(super) fn hello(members: &Members, expected: Option<String>, class: StreamClass) -> Hello {
    Hello {
        protocol_version: *PROTOCOL_VERSIONS.end(),
        protocol_version_min: *PROTOCOL_VERSIONS.start(),
        node_id: members.own_name.clone(),
        expected_node_id: expected.unwrap_or_default(),
        voters: members.voters_to_compare() as u32,
        incarnation: members.incarnation,
        class: class.into(),
        store_id: members.store_id,
    }
}

/// After how much silence to ask whether the other side is there, and how long to wait for its answer.
fn keep_alive(class: StreamClass) -> (Duration, Duration) {
    match class {
        StreamClass::Append => KEEP_ALIVE_APPEND,
        _ => KEEP_ALIVE_CONTROL,
    }
}

/// Hands answers to the node until the stream ends; says why it did.
async fn forward(
    peer: NodeId,
    epoch: Epoch,
    mut answers: Answers,
    members: &Members,
    events: &mpsc::Sender<LinkEvent>,
) -> LinkError {
    loop {
        let frame = match answers.frames.message().await {
            Ok(Some(frame)) => frame,
            Ok(None) => return LinkError::Ended,
            // Said by the peer itself about what it was sent.
            Err(status) if status.code() == Code::InvalidArgument => return LinkError::Refused(status),
            Err(status) => return LinkError::Broken(status),
        };
        if !members.is_current(peer, answers.incarnation) {
            return LinkError::Replaced;
        }
        let messages = match frame.messages.into_iter().map(convert::from_wire).collect() {
            Ok(messages) => messages,
            Err(status) => return LinkError::Nonsense(status),
        };
        if events
            .send(LinkEvent::Responses {
                peer,
                epoch,
                messages,
            })
            .await
            .is_err()
        {
            return LinkError::Ended;
        }
    }
}
