//! Watches: each keeps only how far it has come, and asks the node for more when there is more. A slow client costs
//! nothing but the wait.

use std::sync::Arc;
use std::time::Duration;

use proto::metadata;
use proto::raft::{Event, WatchRequest, WatchResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::KEY_BYTES_MAX;
use super::key_value::{header, text_or_bytes};
use super::refusal::{not_executed, refusal, with};
use crate::kv::TooOld;
use crate::node::{Failure, Handle};
use crate::raft::Index;

/// Watches at the same time on one node.
const WATCHERS_MAX: usize = 1024;
/// One message holds about so much.
const MESSAGE_BYTES: usize = 256 << 10;
/// A watch without events says so often how far it has come, however much happens to keys that it does not follow.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// The watches of one node.
pub(super) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Watchers {
        Watchers(Arc::new(Semaphore::new(WATCHERS_MAX)))
    }
}

impl Watchers {
    /// Begins a watch, or says why not.
    pub(super) async fn watch(
        &self,
        node: Handle,
        node_id: &str,
        request: WatchRequest,
    ) -> Result<ReceiverStream<Result<WatchResponse, Status>>, Status> {
        if request.prefix.len() > KEY_BYTES_MAX {
            let text = format!(
                "the prefix has {} bytes; no key has so many",
                request.prefix.len()
            );
            return Err(not_executed(Code::InvalidArgument, &text));
        }
        let permit = self.0.clone().try_acquire_owned().map_err(|_| {
            let text = format!("this node serves {WATCHERS_MAX} watches already; try another node");
            not_executed(Code::ResourceExhausted, &text)
        })?;
        let next = match request.start_index {
            0 => *node.applied().borrow() + 1,
            index => index,
        };
        // A watch that cannot begin says so at once.
        first_available(&node, next).await?;
        let (messages, stream) = mpsc::channel(1);
        let watch = Watch {
            node,
            node_id: node_id.to_owned(),
            prefix: request.prefix,
            next,
            _permit: permit,
        };
        tokio::spawn(watch.run(messages));
        Ok(ReceiverStream::new(stream))
    }
}

async fn first_available(node: &Handle, next: Index) -> Result<(), Status> {
    let (_, available) = node.events(String::new(), next, 0).await.map_err(refusal)?;
    available.map(drop).map_err(too_old)
}

fn too_old(TooOld { first }: TooOld) -> Status {
    let text = format!(
        "changes before index {first} are no longer at hand; read what you need and watch from there"
    );
    with(
        not_executed(Code::OutOfRange, &text),
        metadata::FIRST_INDEX,
        &first.to_string(),
    )
}

struct Watch {
    node: Handle,
    node_id: String,
    prefix: String,
    /// The first index of which the client knows nothing.
    next: Index,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    async fn run(mut self, messages: mpsc::Sender<Result<WatchResponse, Status>>) {
        let mut applied = self.node.applied();
        let mut progress_at = Instant::now() + PROGRESS_EVERY;
        loop {
            let waited = tokio::select! {
                waited = tokio::time::timeout_at(progress_at, applied.wait_for(|applied| *applied >= self.next)) => {
                    waited.map(|applied| applied.is_ok())
                }
                () = messages.closed() => return,
            };
            if waited == Ok(false) {
                let _ = messages.send(Err(refusal(Failure::Stopping))).await;
                return;
            }
            let message = self.more().await;
            let ends = message.is_err();
            let empty = message.as_ref().is_ok_and(|message| message.events.is_empty());
            // Changes of other keys are not worth a message each.
            if empty && Instant::now() < progress_at {
                continue;
            }
            if messages.send(message).await.is_err() || ends {
                return;
            }
            progress_at = Instant::now() + PROGRESS_EVERY;
        }
    }

    async fn more(&mut self) -> Result<WatchResponse, Status> {
        let events = self
            .node
            .events(self.prefix.clone(), self.next, MESSAGE_BYTES)
            .await;
        let (term, found) = events.map_err(refusal)?;
        let found = found.map_err(too_old)?;
        self.next = found.up_to + 1;
        let events = found.events.into_iter().map(|event| {
            let (value, value_bytes) = event.value.map(text_or_bytes).unzip();
            Event {
                key: event.key,
                value,
                value_bytes: value_bytes.flatten(),
                index: event.index,
            }
        });
        Ok(WatchResponse {
            header: header(&self.node_id, term),
            events: events.collect(),
            index: found.up_to,
        })
    }
}
