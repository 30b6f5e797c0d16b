//! Durable puts of 256 bytes over the batched streaming call: three real nodes on this machine, whose leader is sent batches
//! on a few streams, each as full as the service allows. A put is counted when it is acknowledged.
//!
//! `cargo bench -p server --bench batch_stream`; the elements a second that it prints are puts.

#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::calls::batch_put;
use common::{Client, Cluster, channel};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use proto::raft::{BatchRequest, BatchResponse};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const STREAMS: u64 = 4;
/// Operations in one message, and messages of a stream that wait for their answers.
const BATCH: u64 = 256;
const WINDOW: u64 = 12;
const KEYS: u64 = 1000;
const VALUE: [u8; 256] = [b'v'; 256];

struct Sender {
    batches: mpsc::Sender<BatchRequest>,
    answers: Streaming<BatchResponse>,
}

impl Sender {
    async fn open(port: u16) -> Sender {
        let (batches, waiting) = mpsc::channel(WINDOW as usize);
        let mut client = Client::new(channel(port));
        let answers = client.batch(ReceiverStream::new(waiting)).await.unwrap();
        Sender {
            batches,
            answers: answers.into_inner(),
        }
    }

    /// Puts so many values and returns when all are acknowledged.
    async fn put(&mut self, count: u64) {
        let (mut sent, mut done) = (0, 0);
        while done < count {
            while sent < count && sent - done < WINDOW * BATCH {
                let now = BATCH.min(count - sent);
                let operations =
                    (sent..sent + now).map(|id| batch_put(id, &format!("key{:04}", id % KEYS), &VALUE));
                let batch = BatchRequest {
                    operations: operations.collect(),
                };
                self.batches.send(batch).await.unwrap();
                sent += now;
            }
            let answer = self.answers.message().await.unwrap().unwrap();
            let failed = answer.results.iter().find(|result| result.error.is_some());
            assert!(failed.is_none(), "{failed:?}");
            done += answer.results.len() as u64;
        }
    }
}

/// How long it takes to put so many values.
async fn measure(senders: &mut Vec<Sender>, puts: u64) -> Duration {
    let began = Instant::now();
    let share = puts.div_ceil(STREAMS);
    let running: Vec<_> = senders
        .drain(..)
        .map(|mut sender| {
            tokio::spawn(async move {
                sender.put(share).await;
                sender
            })
        })
        .collect();
    for sender in running {
        senders.push(sender.await.unwrap());
    }
    began.elapsed()
}

async fn start() -> (Cluster, Vec<Sender>) {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let mut senders = Vec::new();
    for _ in 0..STREAMS {
        senders.push(Sender::open(cluster.ports[leader]).await);
    }
    (cluster, senders)
}

fn puts(criterion: &mut Criterion) {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (cluster, mut senders) = runtime.block_on(start());
    let mut group = criterion.benchmark_group("batch_stream");
    group.throughput(Throughput::Elements(1));
    group.bench_function("put", |bencher| {
        bencher.iter_custom(|puts| runtime.block_on(measure(&mut senders, puts)));
    });
    group.finish();
    drop(senders);
    drop(cluster);
}

criterion_group!(benches, puts);
criterion_main!(benches);
