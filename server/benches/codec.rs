//! What the wire costs: encoding and decoding a frame between nodes with 64 entries of 256 bytes, and a client's write.
//!
//! `cargo bench -p server --bench codec`
//!
//! Instructions of one message (one decoded: `'codec::decode'`); `cargo bench` prints the path of the program:
//!
//! `valgrind --tool=callgrind --toggle-collect='codec::encode' target/release/deps/codec-… --test append_64x256/encode`

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::{DecodeError, Message};
use proto::peer::{AppendRequest, Entry, Frame, message::Kind};
use proto::raft::PutRequest;

// The server's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn append_frame() -> Frame {
    let entry = |index| Entry {
        term: 7,
        index,
        configuration: false,
        payload: Bytes::from_static(&[0x5a; 256]),
    };
    let append = AppendRequest {
        term: 7,
        prev_term: 7,
        prev_index: 1_000_000,
        entries: (1_000_001..1_000_065).map(entry).collect(),
        commit: 1_000_000,
        read_seq: 5000,
    };
    let message = proto::peer::Message {
        kind: Some(Kind::AppendRequest(append)),
    };
    Frame {
        messages: vec![message],
        ..Default::default()
    }
}

fn put_request() -> PutRequest {
    PutRequest {
        key: "user/0000000000001234".to_owned(),
        value: "v".repeat(256),
        ..Default::default()
    }
}

/// Out of line, like its counterpart, so that a profiler can tell it from what surrounds it.
#[inline(never)]
fn encode<M: Message>(message: &M, buffer: &mut BytesMut) -> usize {
    buffer.clear();
    message.encode(buffer).expect("the buffer grows");
    buffer.len()
}

#[inline(never)]
fn decode<M: Message + Default>(encoded: &Bytes) -> Result<M, DecodeError> {
    M::decode(encoded.clone())
}

fn both_ways<M: Message + Default + PartialEq>(criterion: &mut Criterion, name: &str, message: &M) {
    let encoded: Bytes = message.encode_to_vec().into();
    let decoded = M::decode(encoded.clone()).expect("it was encoded by the same code");
    assert!(decoded == *message, "{name} does not survive the wire");

    let mut group = criterion.benchmark_group(format!("codec/{name}"));
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    let mut buffer = BytesMut::with_capacity(encoded.len());
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode(black_box(message), &mut buffer));
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode::<M>(black_box(&encoded)));
    });
    group.finish();
}

fn codec(criterion: &mut Criterion) {
    both_ways(criterion, "append_64x256", &append_frame());
    both_ways(criterion, "put_256", &put_request());
}

criterion_group!(benches, codec);
criterion_main!(benches);
