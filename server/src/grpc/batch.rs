//! Many operations on one stream. What arrives in one message goes to the node as one request, and what the node has done
//! since the last message leaves in one message.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message as _;
use proto::metadata;
use proto::raft::{BatchRequest, BatchResponse, Operation, OperationResult, ResponseHeader, operation};
use proto::storage::{Command, CompareAndSwap, Delete, Put, command::Kind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::key_value::{found_key, header, mismatch, stamp_to_storage};
use super::refusal::{check_key, check_value, not_executed, operation_error, refusal, session_refusal, with};
use crate::kv::Reply;
use crate::metrics::{self, Counters};
use crate::node::{Answer, Answered, ClientRequest, Failure, Handle, Query, ReadRequest, Responder};
use crate::raft::Term;

/// Operations of one stream that may be under way; it is not read further until some are done.
const UNDER_WAY_MAX: usize = 4096;
/// Operations in one message.
const OPERATIONS_MAX: usize = 1024;
/// A message holds about so much, or one result: clients refuse messages beyond 4 MiB unless told otherwise.
const MESSAGE_BYTES: usize = 1 << 20;
/// Messages that wait for the client to read them.
const RESPONSES_MAX: usize = 16;

type Outcome = (u64, Result<Answer<Answered>, Failure>);

/// Serves one stream until its client has nothing more to ask and has every answer, or has gone.
pub(super) fn serve(
    node: Handle,
    node_id: Arc<str>,
    counters: Arc<Counters>,
    requests: Streaming<BatchRequest>,
) -> ReceiverStream<Result<BatchResponse, Status>> {
    let (responses, answers) = mpsc::channel(RESPONSES_MAX);
    let (results, done) = mpsc::unbounded_channel();
    let stream = Stream {
        node,
        node_id,
        results,
        under_way: HashMap::new(),
        counters,
        term: None,
    };
    tokio::spawn(stream.run(requests, done, responses));
    ReceiverStream::new(answers)
}

struct Stream {
    node: Handle,
    node_id: Arc<str>,
    results: mpsc::UnboundedSender<Outcome>,
    /// Operations without an answer.
    under_way: HashMap<u64, Asked>,
    counters: Arc<Counters>,
    /// The term that the client was told last.
    term: Option<Term>,
}

impl Stream {
    async fn run(
        mut self,
        mut requests: Streaming<BatchRequest>,
        mut done: mpsc::UnboundedReceiver<Outcome>,
        responses: mpsc::Sender<Result<BatchResponse, Status>>,
    ) {
        let (mut end, mut outcomes) = (None, Vec::new());
        while end.is_none() || !self.under_way.is_empty() {
            let room = end.is_none() && self.under_way.len() + OPERATIONS_MAX <= UNDER_WAY_MAX;
            let found = tokio::select! {
                count = done.recv_many(&mut outcomes, UNDER_WAY_MAX), if !self.under_way.is_empty() => {
                    debug_assert!(count > 0, "this stream holds a sender itself");
                    self.collect(outcomes.drain(..))
                }
                request = requests.message(), if room => match request {
                    Ok(Some(request)) => match self.submit(request.operations) {
                        Ok(refused) => in_messages(refused),
                        Err(status) => {
                            end = Some(Err(status));
                            continue;
                        }
                    },
                    Ok(None) => {
                        end = Some(Ok(()));
                        continue;
                    }
                    // A message that cannot be read, or a client that has gone.
                    Err(status) => {
                        end = Some(Err(with(status, metadata::OUTCOME, metadata::NOT_EXECUTED)));
                        continue;
                    }
                },
                () = responses.closed() => return,
                // A client that keeps its side open must not hold up the end of the node.
                () = self.node.stopped(), if end.is_none() => {
                    end = Some(Err(refusal(Failure::Stopping)));
                    continue;
                }
            };
            for response in found {
                if responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        }
        // Everything that was begun has its result by now, so what has none did not happen.
        if let Some(Err(status)) = end {
            // A client that has gone needs no reason.
            let _ = responses.send(Err(status)).await;
        }
    }

    /// Hands the operations of one message to the node. Returns the results of those that are not even begun.
    fn submit(&mut self, operations: Vec<Operation>) -> Result<Vec<OperationResult>, Status> {
        if operations.len() > OPERATIONS_MAX {
            let text = format!(
                "a batch has at most {OPERATIONS_MAX} operations, not {}",
                operations.len()
            );
            return Err(not_executed(Code::InvalidArgument, &text));
        }
        let (mut begun, mut refused) = (Vec::with_capacity(operations.len()), Vec::new());
        let mut numbers = Vec::with_capacity(operations.len());
        for operation in operations {
            let id = operation.id;
            match self.request(operation) {
                Ok(request) => {
                    self.under_way.insert(id, Asked::of(&request));
                    numbers.push(id);
                    begun.push(request);
                }
                Err((asked, status)) => refused.push(self.refused(id, asked, &status)),
            }
        }
        if let Err(failure) = self.node.batch(begun) {
            let status = refusal(failure);
            for id in numbers {
                if let Some(asked) = self.under_way.remove(&id) {
                    refused.push(self.refused(id, asked, &status));
                }
            }
        }
        Ok(refused)
    }

    fn request(&self, operation: Operation) -> Result<ClientRequest, (Asked, Status)> {
        let asked = Asked::in_operation(&operation);
        self.checked(operation).map_err(|status| (asked, status))
    }

    fn checked(&self, operation: Operation) -> Result<ClientRequest, Status> {
        let Operation { id, kind, session } = operation;
        if self.under_way.contains_key(&id) {
            let text = format!("operation {id} of this stream is not done yet; choose another id");
            return Err(not_executed(Code::InvalidArgument, &text));
        }
        let reply = Responder::Batch(id, self.results.clone());
        let kind = kind.ok_or_else(|| not_executed(Code::InvalidArgument, "the operation says nothing"))?;
        let command = match kind {
            operation::Kind::Get(get) => {
                check_key(&get.key)?;
                return Ok(ClientRequest::Read(ReadRequest {
                    consistency: get.consistency(),
                    query: Query::Key(get.key),
                    deadline: None,
                    reply,
                }));
            }
            operation::Kind::Put(put) => {
                check_key(&put.key)?;
                check_value(&put.value)?;
                Kind::Put(Put {
                    key: put.key,
                    value: put.value,
                })
            }
            operation::Kind::Delete(delete) => {
                check_key(&delete.key)?;
                Kind::Delete(Delete { key: delete.key })
            }
            operation::Kind::CompareAndSwap(swap) => {
                check_key(&swap.key)?;
                check_value(&swap.value)?;
                Kind::CompareAndSwap(CompareAndSwap {
                    key: swap.key,
                    expected: swap.expected,
                    value: swap.value,
                })
            }
        };
        Ok(ClientRequest::Write {
            command: Command {
                kind: Some(command),
                stamp: session.map(stamp_to_storage),
            },
            deadline: None,
            reply,
        })
    }

    fn collect(&mut self, outcomes: impl Iterator<Item = Outcome>) -> Vec<BatchResponse> {
        let mut term = None;
        let results = outcomes.map(|(id, outcome)| {
            let asked = self
                .under_way
                .remove(&id)
                .expect("only what is under way is answered, once");
            let found = outcome.map_err(refusal).and_then(|answer| {
                term = Some(answer.term);
                result(id, asked, answer.value)
            });
            self.counters.answered(asked.operation(), &found);
            found.unwrap_or_else(|status| failed(id, &status))
        });
        let mut responses = in_messages(results.collect());
        if term.is_some() && term != self.term {
            self.term = term;
            if let Some(first) = responses.first_mut() {
                first.header = self.header();
            }
        }
        responses
    }

    /// The result of an operation that was not even begun.
    fn refused(&self, id: u64, asked: Asked, status: &Status) -> OperationResult {
        self.counters.refused(asked.operation(), status);
        failed(id, status)
    }

    fn header(&self) -> Option<ResponseHeader> {
        header(&self.node_id, self.term?)
    }
}

impl Drop for Stream {
    /// A client that has gone never learns what became of the rest.
    fn drop(&mut self) {
        for asked in self.under_way.values() {
            self.counters.cut_off(asked.operation());
        }
    }
}

/// Puts results into as few messages as hold them.
fn in_messages(results: Vec<OperationResult>) -> Vec<BatchResponse> {
    let mut messages: Vec<BatchResponse> = Vec::new();
    let mut room = 0;
    for result in results {
        let bytes = result.encoded_len();
        match messages.last_mut().filter(|_| bytes <= room) {
            Some(message) => {
                room -= bytes;
                message.results.push(result);
            }
            None => {
                room = MESSAGE_BYTES.saturating_sub(bytes);
                messages.push(BatchResponse {
                    header: None,
                    results: vec![result],
                });
            }
        }
    }
    messages
}

fn failed(id: u64, status: &Status) -> OperationResult {
    OperationResult {
        id,
        error: Some(operation_error(status)),
        ..OperationResult::default()
    }
}

/// What an operation asks for, as far as its answer must fit.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Get,
    Put,
    Delete,
    Swap,
}

impl Asked {
    fn of(request: &ClientRequest) -> Asked {
        let ClientRequest::Write { command, .. } = request else {
            return Asked::Get;
        };
        match command.kind {
            Some(Kind::Delete(_)) => Asked::Delete,
            Some(Kind::CompareAndSwap(_)) => Asked::Swap,
            _ => Asked::Put,
        }
    }

    /// One that says nothing counts as a write: it may have been meant as one.
    fn in_operation(operation: &Operation) -> Asked {
        match operation.kind {
            Some(operation::Kind::Get(_)) => Asked::Get,
            Some(operation::Kind::Delete(_)) => Asked::Delete,
            Some(operation::Kind::CompareAndSwap(_)) => Asked::Swap,
            Some(operation::Kind::Put(_)) | None => Asked::Put,
        }
    }

    fn operation(self) -> metrics::Operation {
        match self {
            Asked::Get => metrics::Operation::Read,
            _ => metrics::Operation::Write,
        }
    }

    /// Whether a reply is one to this: under a stamp that was used for something else it is not.
    fn fits(self, reply: &Reply) -> bool {
        match self {
            Asked::Get => false,
            Asked::Put => matches!(reply, Reply::Put),
            Asked::Delete => matches!(reply, Reply::Delete { .. }),
            Asked::Swap => matches!(reply, Reply::Swapped | Reply::NotSwapped(_)),
        }
    }
}

fn result(id: u64, asked: Asked, answered: Answered) -> Result<OperationResult, Status> {
    let (index, done, value) = match answered {
        Answered::Found(found) => {
            let version = found_key(found.read)?;
            (version.index, version.value.is_some(), version.value)
        }
        Answered::Applied(applied) => {
            if let Some(status) = session_refusal(&applied.reply) {
                return Err(status);
            }
            if !asked.fits(&applied.reply) {
                return Err(mismatch(&applied));
            }
            match applied.reply {
                Reply::Delete { existed } => (applied.index, existed, None),
                Reply::NotSwapped(version) => (version.index, false, version.value),
                _ => (applied.index, true, None),
            }
        }
    };
    Ok(OperationResult {
        id,
        index,
        done,
        value,
        error: None,
    })
}
