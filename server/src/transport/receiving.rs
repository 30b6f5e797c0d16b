//! Snapshots from other nodes: one at a time, acknowledged piece by piece, and only for as long as their sender leads. The
//! snapshot of a later leader takes the place of an earlier one's at once, even if that has fallen silent.

use std::sync::Arc;
use std::time::Duration;

use proto::peer::{SnapshotFrame, SnapshotOffer, SnapshotProgress, snapshot_frame::Kind};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::LinkEvent;
use super::convert::NUMBER_MAX;
use crate::raft::{Index, NodeId, Position, Term};
use crate::snapshot::{Incoming, IncomingError, SnapshotDir};

/// A sender that lets so much time pass between two pieces makes room for another.
const NEXT_PIECE: Duration = Duration::from_secs(15);
/// An earlier transfer has so long to finish the piece in its hands.
const ROOM: Duration = Duration::from_secs(5);
/// No snapshot is larger.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 30;

/// Where snapshots arrive.
pub(super) struct Receiving {
    dir: SnapshotDir,
    events: mpsc::Sender<LinkEvent>,
    /// Held by the transfer under way.
    one: Arc<Mutex<()>>,
    /// The latest term in which a snapshot was offered that this node would take.
    newest: watch::Sender<Term>,
}

impl Receiving {
    pub(super) fn new(dir: SnapshotDir, events: mpsc::Sender<LinkEvent>) -> Receiving {
        Receiving {
            dir,
            events,
            one: Arc::default(),
            newest: watch::Sender::new(0),
        }
    }

    /// Begins to take in what a peer offers. Returns what the peer is told of its progress.
    pub(super) async fn begin(
        &self,
        peer: NodeId,
        offer: SnapshotOffer,
        frames: Streaming<SnapshotFrame>,
    ) -> Result<mpsc::Receiver<Result<SnapshotProgress, Status>>, Status> {
        let last = Position {
            term: offer.last_term,
            index: offer.last_index,
        };
        let sensible = offer.term.max(last.term).max(last.index) <= NUMBER_MAX && last.term <= offer.term;
        if !sensible || last.index == 0 || offer.total_bytes > SNAPSHOT_BYTES_MAX {
            return Err(Status::invalid_argument("an offer that no leader makes"));
        }
        let transfer = Transfer {
            peer,
            term: offer.term,
            last,
            events: self.events.clone(),
            newest: self.newest.subscribe(),
        };
        // Only somebody whom this node follows may make another one stop.
        transfer.may_go_on().await?;
        self.newest.send_if_modified(|newest| {
            let is_later = transfer.term > *newest;
            *newest = transfer.term.max(*newest);
            is_later
        });
        let one = timeout(ROOM, self.one.clone().lock_owned()).await;
        let one =
            one.map_err(|_| Status::unavailable("another snapshot is being received; try again later"))?;
        let (progress, told) = mpsc::channel(4);
        tokio::spawn(transfer.run(self.dir.clone(), offer, frames, progress, one));
        Ok(told)
    }
}

/// One snapshot on its way in.
struct Transfer {
    peer: NodeId,
    term: Term,
    last: Position,
    events: mpsc::Sender<LinkEvent>,
    newest: watch::Receiver<Term>,
}

type Progress = mpsc::Sender<Result<SnapshotProgress, Status>>;

impl Transfer {
    /// Takes the pieces until everything is here and the node has it, or something goes wrong, which the sender is told.
    async fn run(
        self,
        dir: SnapshotDir,
        offer: SnapshotOffer,
        frames: Streaming<SnapshotFrame>,
        progress: Progress,
        one: OwnedMutexGuard<()>,
    ) {
        let received = self.receive(&dir, &offer, frames, &progress).await;
        // The next one may begin, whether this sender listens or not.
        drop(one);
        if let Err(status) = received {
            tracing::warn!(peer = %self.peer, term = self.term, "a snapshot was not received: {}", status.message());
            let _ = progress.send(Err(status)).await;
        }
    }

    async fn receive(
        &self,
        dir: &SnapshotDir,
        offer: &SnapshotOffer,
        mut frames: Streaming<SnapshotFrame>,
        progress: &Progress,
    ) -> Result<(), Status> {
        let (dir, last) = (dir.clone(), self.last);
        let (id, total) = (offer.snapshot_id, offer.total_bytes);
        let mut incoming =
            blocking(move || Incoming::begin(&dir, last, id, total).map_err(IncomingError::from)).await?;
        loop {
            self.may_go_on().await?;
            self.tell(progress, incoming.offset(), false).await?;
            if incoming.offset() == total {
                break;
            }
            // Given up only here, between two pieces: no thread writes for a transfer that is over.
            let frame = tokio::select! {
                frame = timeout(NEXT_PIECE, frames.message()) => frame,
                passed = self.term_has_passed() => return Err(passed),
            };
            let frame = frame.map_err(|_| Status::deadline_exceeded("the next piece did not come"))??;
            let Some(Kind::Data(data)) = frame.and_then(|frame| frame.kind) else {
                return Err(Status::invalid_argument("the snapshot ended before its end"));
            };
            incoming = blocking(move || {
                incoming.write(data.offset, &data.bytes, data.crc)?;
                Ok(incoming)
            })
            .await?;
        }
        let (stored, loaded) = blocking(move || incoming.finish()).await?;
        let (peer, term) = (self.peer, self.term);
        self.ask(|taken| LinkEvent::SnapshotArrived {
            peer,
            term,
            stored: Box::new(stored),
            store: Box::new(loaded.store),
            taken,
        })
        .await?;
        self.tell(progress, total, true).await
    }

    /// Tells the node that a part has arrived, and hears whether the sender is still whom it follows.
    async fn may_go_on(&self) -> Result<(), Status> {
        let (peer, term, last) = (self.peer, self.term, self.last);
        self.ask(|wanted| LinkEvent::SnapshotArrives {
            peer,
            term,
            last,
            wanted,
        })
        .await
    }

    /// Completes when a later leader has begun to send its own.
    async fn term_has_passed(&self) -> Status {
        let mut newest = self.newest.clone();
        match newest.wait_for(|newest| *newest > self.term).await {
            Ok(newest) => Status::aborted(format!(
                "the leader of term {} sends its own snapshot now; term {} has passed",
                *newest, self.term
            )),
            Err(_) => stopping(),
        }
    }

    async fn tell(&self, progress: &Progress, offset: Index, done: bool) -> Result<(), Status> {
        let told = tokio::select! {
            told = progress.send(Ok(SnapshotProgress { offset, done })) => told,
            passed = self.term_has_passed() => return Err(passed),
        };
        told.map_err(|_| Status::cancelled("the sender has gone"))
    }

    async fn ask(
        &self,
        event: impl FnOnce(oneshot::Sender<Result<(), Status>>) -> LinkEvent,
    ) -> Result<(), Status> {
        let (reply, answer) = oneshot::channel();
        self.events.send(event(reply)).await.map_err(|_| stopping())?;
        answer.await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> Status {
    Status::unavailable("this node is stopping")
}

/// Works with files on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IncomingError> + Send + 'static,
) -> Result<T, Status> {
    let done = spawn_blocking(work)
        .await
        .map_err(|error| Status::internal(error.to_string()))?;
    done.map_err(|error| {
        let text = format!("{error}{}", crate::run::causes(&error));
        match error {
            IncomingError::Store(_) => Status::internal(text),
            _ => Status::data_loss(text),
        }
    })
}

#[cfg(test)]
mod tests;
