//! Requests as tests put them together, and what comes back on a batch.

use proto::peer::{Hello, StreamClass};
use proto::raft::{
    BatchGet, BatchPut, BatchResponse, GetClusterStatusRequest, OpenSessionRequest, Operation,
    OperationResult, PutRequest, operation,
};
use tonic::Streaming;

use super::{Client, Node, client, eventually, leads, lone_node, timed};

/// How a node of the present protocol greets another on its control stream.
pub(crate) fn hello(name: &str, store_id: u64) -> Hello {
    Hello {
        protocol_version: 3,
        protocol_version_min: 3,
        node_id: name.into(),
        incarnation: 1,
        class: StreamClass::Control.into(),
        store_id,
        ..Default::default()
    }
}

pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: value.into(),
        session: None,
    }
}

/// A lone node that leads.
pub(crate) async fn serving_node(dir: &tempfile::TempDir) -> (Node, u16) {
    let (node, port) = lone_node(dir).await;
    let mut client = client(port);
    eventually("the node to lead", async || {
        let status = client.get_cluster_status(timed(GetClusterStatusRequest {})).await;
        status
            .is_ok_and(|status| leads(status.get_ref()))
            .then_some(())
            .ok_or("it does not yet")
    })
    .await;
    (node, port)
}

pub(crate) fn operation(id: u64, kind: operation::Kind) -> Operation {
    Operation {
        id,
        kind: Some(kind),
        session: None,
    }
}

pub(crate) fn batch_put(id: u64, key: &str, value: &[u8]) -> Operation {
    operation(
        id,
        operation::Kind::Put(BatchPut {
            key: key.into(),
            value: value.to_vec().into(),
        }),
    )
}

pub(crate) fn batch_get(id: u64, key: &str) -> Operation {
    operation(
        id,
        operation::Kind::Get(BatchGet {
            key: key.into(),
            consistency: 0,
        }),
    )
}

pub(crate) async fn results(answers: &mut Streaming<BatchResponse>, count: usize) -> Vec<OperationResult> {
    let mut found = Vec::new();
    while found.len() < count {
        let message = tokio::time::timeout(super::PATIENCE, answers.message()).await;
        found.extend(
            message
                .expect("results in time")
                .unwrap()
                .expect("an open stream")
                .results,
        );
    }
    found.sort_by_key(|result| result.id);
    found
}

pub(crate) async fn open_session(client: &mut Client) -> u64 {
    let opened = client.open_session(timed(OpenSessionRequest {})).await.unwrap();
    opened.into_inner().session_id
}
