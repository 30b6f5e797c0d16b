//! What one call costs in the connection's state machine, without a socket: encode, frame, flow control, parse, hand over.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use loadgen::wire::{Answer, CallError, Core, Method};

const METHOD: Method = Method::new("/raft.KeyValueService/Put");
const TIMEOUT: Option<Duration> = Some(Duration::from_secs(2));
const BATCH: u64 = 64;
const REQUEST: [u8; 140] = [7; 140];
const RESPONSE: [u8; 16] = [9; 16];

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

/// What a server of tonic's sends: headers, a message, trailers.
struct Answers {
    headers: Vec<u8>,
    message: Vec<u8>,
    trailers: Vec<u8>,
}

impl Answers {
    fn new() -> Answers {
        let (mut headers, mut trailers) = (vec![0x88], Vec::new());
        literal(&mut headers, "content-type", "application/grpc");
        literal(&mut headers, "date", "Mon, 21 Oct 2013 20:13:21 GMT");
        literal(&mut trailers, "grpc-status", "0");
        let mut message = vec![0, 0, 0, 0, RESPONSE.len() as u8];
        message.extend_from_slice(&RESPONSE);
        Answers {
            headers,
            message,
            trailers,
        }
    }

    fn put(&self, out: &mut Vec<u8>, stream: u32) {
        frame(out, 1, 4, stream, &self.headers);
        frame(out, 0, 0, stream, &self.message);
        frame(out, 1, 5, stream, &self.trailers);
    }
}

/// A connection whose peer has sent its settings and opened its window.
fn established() -> Core<u64> {
    let mut core = Core::new("127.0.0.1:50051", 0);
    let mut greeting = Vec::new();
    frame(&mut greeting, 4, 0, 0, &[]);
    frame(&mut greeting, 8, 0, 0, &(1u32 << 30).to_be_bytes());
    let mut nothing = |_: u64, _: Result<Answer, CallError>| unreachable!("nothing was asked");
    let received = core.receive(&greeting, &mut nothing);
    assert_eq!(received, Ok(()));
    core.handed_over(core.outgoing().len());
    core
}

fn calls(criterion: &mut Criterion) {
    let answers = Answers::new();
    let mut group = criterion.benchmark_group("wire");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("64 calls through the state machine", |bencher| {
        let (mut core, mut stream, mut incoming) = (established(), 1u32, Vec::new());
        bencher.iter(|| {
            if core.is_spent() || stream > 2_000_000 {
                // The window that the peer opened lasts for about as many.
                (core, stream) = (established(), 1);
            }
            incoming.clear();
            for owner in 0..BATCH {
                core.submit(METHOD, TIMEOUT, |out| out.extend_from_slice(&REQUEST), owner);
                answers.put(&mut incoming, stream);
                stream += 2;
            }
            black_box(core.outgoing());
            core.handed_over(core.outgoing().len());
            let mut ended = 0;
            let mut sink = |owner: u64, result: Result<Answer, CallError>| {
                assert!(result.is_ok());
                ended += 1;
                black_box(owner);
            };
            let received = core.receive(&incoming, &mut sink);
            assert!(received.is_ok() && ended == BATCH);
        });
    });
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
