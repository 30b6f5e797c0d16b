//! Snapshots to other nodes: on a connection of their own, in pieces that are acknowledged, never more than a little under
//! way and no faster than allowed, so that heartbeats and log entries hardly notice.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::peer::peer_service_client::PeerServiceClient;
use proto::peer::{
    SnapshotData, SnapshotFrame, SnapshotOffer, SnapshotProgress, StreamClass, snapshot_frame::Kind,
};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::LinkEvent;
use super::dial::hello;
use super::members::Members;
use crate::raft::{NodeId, Term};
use crate::snapshot::Reader;
use crate::tls;

/// How much is sent at once, and how much may be on its way without an acknowledgement.
const PIECE_BYTES: usize = 256 << 10;
const WINDOW_BYTES: u64 = 1 << 20;
/// A receiver that is silent for so long is given up. Checking a large snapshot at the end takes a while.
const SILENCE: Duration = Duration::from_secs(60);

/// Why a snapshot did not reach a peer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("its address is not known")]
    NoAddress,
    #[error("cannot connect")]
    Connect(#[from] tonic::transport::Error),
    #[error("{}", .0.message())]
    Refused(#[from] Status),
    #[error("cannot read the snapshot")]
    Read(#[from] std::io::Error),
    #[error("nothing was heard for {SILENCE:?}")]
    Silence,
    #[error("the stream ended before everything had arrived")]
    Ended,
}

/// Sends a snapshot to a peer as the leader of `term`, at no more than so many bytes a second (0: no limit), and tells the
/// node how it ended. Dropping the future ends the transfer on both sides.
pub(crate) async fn send_snapshot(
    peer: NodeId,
    term: Term,
    reader: Reader,
    rate: u64,
    members: Arc<Members>,
    events: mpsc::Sender<LinkEvent>,
) {
    let index = reader.stored.meta.last.index;
    let name = members.name_and_address(peer).0;
    tracing::info!(
        peer = name,
        index,
        bytes = reader.stored.bytes,
        "sending a snapshot"
    );
    let last = match send(peer, term, Arc::new(reader), rate, &members).await {
        Ok(()) => Some(index),
        Err(error) => {
            tracing::warn!(
                peer = name,
                index,
                "the snapshot was not sent: {error}{}",
                crate::run::causes(&error)
            );
            None
        }
    };
    let _ = events.send(LinkEvent::SnapshotSent { peer, term, last }).await;
}

async fn send(
    peer: NodeId,
    term: Term,
    reader: Arc<Reader>,
    rate: u64,
    members: &Members,
) -> Result<(), SendError> {
    let address = members.address_of(peer).ok_or(SendError::NoAddress)?;
    let channel = tls::endpoint(&address, members.tls.as_ref())?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect()
        .await?;
    let stored = &reader.stored;
    let total = stored.bytes;
    let offer = SnapshotOffer {
        hello: Some(hello(
            members,
            Some(members.name_and_address(peer).0),
            StreamClass::Append,
        )),
        term,
        last_term: stored.meta.last.term,
        last_index: stored.meta.last.index,
        snapshot_id: stored.id,
        total_bytes: total,
    };
    let (frames, queue) = mpsc::channel(1);
    let first = SnapshotFrame {
        kind: Some(Kind::Offer(offer)),
    };
    frames.send(first).await.map_err(|_| SendError::Ended)?;
    let request = members.authorised(Request::new(ReceiverStream::new(queue)));
    let answers = PeerServiceClient::new(channel).send_snapshot(request).await?;
    let mut answers = answers.into_inner();
    let mut arrived = next(&mut answers).await?;
    let (mut sent, mut next_at) = (arrived.offset, Instant::now());
    while !arrived.done {
        if sent < total && sent - arrived.offset.min(sent) < WINDOW_BYTES {
            sleep_until(next_at).await;
            let bytes = read(&reader, sent).await?;
            if let Some(seconds) = (bytes.len() as f64 / rate as f64)
                .is_finite()
                .then_some(bytes.len() as f64 / rate as f64)
            {
                next_at = next_at.max(Instant::now()) + Duration::from_secs_f64(seconds);
            }
            let data = SnapshotData {
                offset: sent,
                crc: crc32c::crc32c(&bytes),
                bytes: bytes.clone(),
            };
            let frame = SnapshotFrame {
                kind: Some(Kind::Data(data)),
            };
            frames.send(frame).await.map_err(|_| SendError::Ended)?;
            sent += bytes.len() as u64;
        } else {
            arrived = next(&mut answers).await?;
        }
    }
    Ok(())
}

async fn next(answers: &mut Streaming<SnapshotProgress>) -> Result<SnapshotProgress, SendError> {
    let answer = timeout(SILENCE, answers.message())
        .await
        .map_err(|_| SendError::Silence)?;
    answer?.ok_or(SendError::Ended)
}

async fn read(reader: &Arc<Reader>, at: u64) -> Result<Bytes, SendError> {
    let reader = Arc::clone(reader);
    let read = spawn_blocking(move || reader.read(at, PIECE_BYTES)).await;
    let bytes = read.map_err(std::io::Error::other)??;
    match bytes.is_empty() {
        true => Err(SendError::Read(std::io::ErrorKind::UnexpectedEof.into())),
        false => Ok(bytes),
    }
}
