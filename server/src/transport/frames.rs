//! From a queue of messages to a stream of frames.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use proto::peer::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::Stream;
use tonic::Status;

use super::convert;
use crate::raft::Message;

/// A frame takes no further message once it holds this much.
const FRAME_BYTES: usize = 512 << 10;

/// Turns whatever waits in a queue into one frame, each time the stream may send. The first frame, if given, goes
/// ahead of everything.
pub(super) struct Frames {
    first: Option<Frame>,
    queue: mpsc::Receiver<Message>,
}

impl Frames {
    pub(super) fn new(first: Option<Frame>, queue: mpsc::Receiver<Message>) -> Frames {
        Frames { first, queue }
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let mut frame = Frame::default();
        let mut bytes = 0;
        while bytes < FRAME_BYTES {
            match self.queue.poll_recv(context) {
                Poll::Ready(Some(message)) => {
                    bytes += convert::weight(&message);
                    frame.messages.push(convert::to_wire(message));
                }
                Poll::Ready(None) if frame.messages.is_empty() => return Poll::Ready(None),
                Poll::Pending if frame.messages.is_empty() => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(Some(frame))
    }
}

/// What a node sends on a stream that it dialled.
impl Stream for Frames {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Frame>> {
        self.poll_frame(context)
    }
}

/// Ends a stream that this node accepted, for whoever finds fault with what came in on it.
#[derive(Clone)]
pub(crate) struct StreamEnd(Arc<Mutex<Option<oneshot::Sender<Status>>>>);

impl StreamEnd {
    /// The other half is for [`Answers`].
    pub(super) fn new() -> (StreamEnd, oneshot::Receiver<Status>) {
        let (end, ended) = oneshot::channel();
        (StreamEnd(Arc::new(Mutex::new(Some(end)))), ended)
    }

    /// Tells the peer why nothing more is taken from it on this stream, and closes it.
    pub(crate) fn refuse(&self, why: Status) {
        if let Some(end) = self.take() {
            let _ = end.send(why);
        }
    }

    /// Closes the stream without a reason: the peer's side has ended.
    pub(super) fn close(&self) {
        drop(self.take());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().is_none()
    }

    fn take(&self) -> Option<oneshot::Sender<Status>> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<oneshot::Sender<Status>>> {
        self.0.lock().expect("nobody panics while ending a stream")
    }
}

/// What a node sends on a stream that it accepted, for as long as it takes requests from it: a peer must not go on
/// talking to somebody who has stopped listening.
pub(crate) struct Answers {
    frames: Frames,
    /// Completes with the reason when this node has found fault with a request, and without one when they end.
    requests_end: Option<oneshot::Receiver<Status>>,
    ended: bool,
}

impl Answers {
    /// Without `requests_end` no requests are taken at all, and the stream ends with `frames`.
    pub(super) fn new(frames: Frames, requests_end: Option<oneshot::Receiver<Status>>) -> Answers {
        Answers {
            frames,
            requests_end,
            ended: false,
        }
    }
}

impl Stream for Answers {
    type Item = Result<Frame, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let end = self.requests_end.as_mut().map(|end| Pin::new(end).poll(context));
        if let Some(Poll::Ready(reason)) = end {
            self.ended = true;
            return Poll::Ready(reason.ok().map(Err));
        }
        self.frames.poll_frame(context).map(|frame| frame.map(Ok))
    }
}
