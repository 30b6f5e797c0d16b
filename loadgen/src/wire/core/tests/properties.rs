//! What holds whatever happens: cuts, interleavings, windows, resets, goodbyes, breaks, garbage.
//!
//! The peer is honest and watches: it knows which requests it saw a byte of, which it refused, and what it allowed.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::peer::*;
use super::table::Fields;

#[derive(Debug, Clone)]
enum Step {
    Submit { length: usize },
    Cancel { which: usize },
    HandOver { count: usize },
    Answer { which: usize, length: usize },
    Reset { which: usize, refuse: bool },
    Window { which: usize, increment: u32 },
    GoAway { above: usize },
    Table { size: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![0usize..50, 0usize..30_000].prop_map(|length| Step::Submit { length }),
        2 => any::<usize>().prop_map(|which| Step::Cancel { which }),
        5 => prop_oneof![1usize..200, Just(usize::MAX)].prop_map(|count| Step::HandOver { count }),
        5 => (any::<usize>(), prop_oneof![9 => 0usize..300, 1 => 0usize..20_000]).prop_map(|(which, length)| Step::Answer { which, length }),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(which, refuse)| Step::Reset { which, refuse }),
        3 => (any::<usize>(), 1u32..30_000).prop_map(|(which, increment)| Step::Window { which, increment }),
        1 => (0usize..40).prop_map(|above| Step::GoAway { above }),
        1 => prop_oneof![Just(0u32), Just(200), Just(4096), Just(65_536)].prop_map(|size| Step::Table { size }),
    ]
}

/// A connection, its peer, and the books about both.
struct World {
    core: Core<u64>,
    seen: Seen,
    cut: usize,
    streams_max: usize,
    window: i64,
    granted: BTreeMap<u32, i64>,
    keys: Vec<StreamId>,
    /// Every request's message with its prefix.
    requests: Vec<Vec<u8>>,
    cancelled: BTreeMap<u64, Cancelled>,
    ends: BTreeMap<u64, Result<Answer, CallError>>,
    /// Streams that the peer is done with.
    done: BTreeSet<u32>,
    refused: BTreeSet<u32>,
    answers: BTreeMap<u32, usize>,
    last: u32,
}

/// The text of `grpc-timeout` says whose request it is, so that its headers alone tell.
fn timeout_of(owner: u64) -> Duration {
    Duration::from_millis(owner + 1)
}

/// Requests of different methods, so that headers have something to keep and something to change.
fn method_of(owner: u64) -> Method {
    const METHODS: [Method; 3] = [METHOD, Method::new("/test.Service/Other"), Method::new("/x.Y/Z")];
    METHODS[owner as usize % METHODS.len()]
}

fn owner_of(fields: &Fields) -> u64 {
    let value = |wanted: &str| {
        let found = fields.iter().find(|(name, _)| name == wanted);
        found.unwrap().1.as_str()
    };
    let micros: u64 = value("grpc-timeout").trim_end_matches('u').parse().unwrap();
    let owner = micros / 1000 - 1;
    let others = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", method_of(owner).path()),
        (":authority", "peer:1"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    for (name, expected) in others {
        assert_eq!(value(name), expected);
    }
    assert_eq!(fields.len(), 8);
    owner
}

fn message(number: u64, length: usize) -> Vec<u8> {
    let unit: Vec<u8> = (0..251).map(|at| at ^ number as u8).collect();
    unit.repeat(length.div_ceil(251))[..length].to_vec()
}

impl World {
    fn new(streams_max: u32, window: u32, cut: usize) -> World {
        let settings = [
            (setting::MAX_CONCURRENT_STREAMS, streams_max),
            (setting::INITIAL_WINDOW_SIZE, window),
        ];
        World {
            core: established(&settings),
            seen: Seen::default(),
            cut,
            streams_max: streams_max as usize,
            window: i64::from(window),
            granted: BTreeMap::from([(0, WINDOW_DEFAULT)]),
            keys: Vec::new(),
            requests: Vec::new(),
            cancelled: BTreeMap::new(),
            ends: BTreeMap::new(),
            done: BTreeSet::new(),
            refused: BTreeSet::new(),
            answers: BTreeMap::new(),
            last: STREAM_LAST,
        }
        .told(None)
    }

    /// Settings with this size of the table have gone out.
    fn told(mut self, size: Option<usize>) -> World {
        self.seen.table_sizes.push_back(size);
        self
    }

    fn deliver(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(self.cut) {
            for (owner, result) in receive(&mut self.core, part) {
                let again = self.ends.insert(owner, result);
                assert!(again.is_none(), "call {owner} ended twice");
            }
        }
    }

    /// Streams on which the peer may still act.
    fn open(&self) -> Vec<u32> {
        let open = |(stream, request): (&u32, &Request)| {
            let ours = *stream <= self.last && request.reset.is_none();
            (ours && !self.done.contains(stream)).then_some(*stream)
        };
        self.seen.requests.iter().filter_map(open).collect()
    }

    fn pick(&self, which: usize) -> Option<u32> {
        let open = self.open();
        open.get(which % open.len().max(1)).copied()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Submit { length } => self.submit(length),
            Step::Cancel { which } if !self.keys.is_empty() => {
                let owner = which % self.keys.len();
                let cancelled = self.core.cancel(self.keys[owner]);
                let owner = owner as u64;
                let over = self.ends.contains_key(&owner) || self.cancelled.contains_key(&owner);
                assert_eq!(cancelled == Cancelled::AlreadyDone, over);
                if !over {
                    self.cancelled.insert(owner, cancelled);
                }
            }
            Step::HandOver { count } => self.hand_over(count),
            Step::Answer { which, length } => {
                if let Some(stream) = self.pick(which) {
                    self.answers.insert(stream, length);
                    self.done.insert(stream);
                    self.deliver(&answer(stream, &message(stream.into(), length)));
                }
            }
            Step::Reset { which, refuse } => {
                if let Some(stream) = self.pick(which) {
                    self.done.insert(stream);
                    let code = if refuse {
                        code::REFUSED_STREAM
                    } else {
                        code::CANCEL
                    };
                    if refuse {
                        self.refused.insert(stream);
                    }
                    self.deliver(&reset(stream, code));
                }
            }
            Step::Window { which, increment } => {
                let stream = if which.is_multiple_of(2) {
                    Some(0)
                } else {
                    self.pick(which / 2)
                };
                if let Some(stream) = stream {
                    self.grant(stream, increment);
                }
            }
            Step::GoAway { above } => {
                // Never below what the peer has acted on.
                let acted = self.done.last().copied().unwrap_or(0);
                self.last = self.last.min(acted + 2 * above as u32);
                self.deliver(&goaway(self.last, 0, b""));
            }
            Step::Table { size } => {
                self.seen.table_sizes.push_back(Some(size as usize));
                self.deliver(&settings_frame(&[(setting::HEADER_TABLE_SIZE, size)]));
            }
            Step::Cancel { .. } => {}
        }
        self.check();
    }

    fn submit(&mut self, length: usize) {
        let owner = self.keys.len() as u64;
        let timeout = Some(timeout_of(owner));
        let body = message(owner, length);
        if self.core.is_spent() || self.core.is_full() {
            return;
        }
        let encode = |out: &mut Vec<u8>| out.extend_from_slice(&body);
        let key = self.core.submit(method_of(owner), timeout, encode, owner);
        self.keys.push(key);
        self.requests.push(framed(&body));
    }

    fn hand_over(&mut self, count: usize) {
        self.seen.take(&mut self.core, count);
    }

    fn grant(&mut self, stream: u32, increment: u32) {
        *self.granted.entry(stream).or_insert(self.window) += i64::from(increment);
        self.deliver(&window_update(stream, increment));
    }

    /// What the peer can see at any time.
    fn check(&self) {
        let all: usize = self
            .seen
            .requests
            .values()
            .map(|request| request.body.len())
            .sum();
        assert!(all as i64 <= self.granted[&0], "beyond the connection's window");
        for (stream, request) in &self.seen.requests {
            let granted = self.granted.get(stream).copied().unwrap_or(self.window);
            assert!(
                request.body.len() as i64 <= granted,
                "beyond the window of stream {stream}"
            );
            let owner = owner_of(&request.fields);
            let whole = &self.requests[owner as usize];
            assert!(whole.starts_with(&request.body), "request of call {owner}");
            assert_eq!(request.ended, request.body == *whole, "end of call {owner}");
        }
        assert!(self.open().len() <= self.streams_max, "too many streams");
    }

    /// Breaks the connection, and settles the books.
    fn settle(mut self) {
        let touched = self.touched();
        for (owner, result) in close(&mut self.core) {
            assert!(
                self.ends.insert(owner, result).is_none(),
                "call {owner} ended twice"
            );
        }
        for owner in 0..self.keys.len() as u64 {
            let stream = touched.get(&owner).copied();
            let acted = stream.is_some_and(|stream| stream <= self.last && !self.refused.contains(&stream));
            match (self.cancelled.get(&owner), self.ends.get(&owner)) {
                (Some(Cancelled::NotSent), None) => {
                    assert!(stream.is_none(), "cancelled call {owner} was sent")
                }
                (Some(_), None) => {}
                (None, Some(Ok(answer))) => {
                    let stream = stream.unwrap();
                    assert_eq!(answer.body(), message(stream.into(), self.answers[&stream]));
                }
                (None, Some(result)) if is_not_sent(result) => {
                    assert!(!acted, "call {owner} may have been seen")
                }
                (None, Some(result)) => assert!(is_lost(result) && acted, "call {owner}: {result:?}"),
                (cancelled, end) => panic!("call {owner}: {cancelled:?} and {end:?}"),
            }
        }
    }

    /// Streams of all calls of which the peer has at least one byte.
    fn touched(&self) -> BTreeMap<u64, u32> {
        // The frame that was cut is completed on a copy of the books, by what would have come next.
        let partial = self.seen.completed(self.core.outgoing());
        self.seen
            .requests
            .iter()
            .map(|(stream, request)| (owner_of(&request.fields), *stream))
            .chain(partial.map(|(stream, fields)| (owner_of(&fields), stream)))
            .collect()
    }
}

/// Frames of several answers, shuffled together but in order for each stream.
fn interleaved(answers: &[Vec<Vec<u8>>], mut choices: impl Iterator<Item = usize>) -> Vec<u8> {
    let mut rest: Vec<_> = answers.iter().map(|frames| frames.iter()).collect();
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let chosen = choices.next().unwrap_or(0) % rest.len();
        match rest[chosen].next() {
            Some(frame) => bytes.extend_from_slice(frame),
            None => {
                drop(rest.swap_remove(chosen));
            }
        }
    }
    bytes
}

/// Five calls, and the bytes of their answers, one of which is an error.
fn five(parts: &[usize], choices: &[usize]) -> (Core<u64>, Vec<u8>) {
    let mut core = established(&[]);
    let mut answers = Vec::new();
    for owner in 0..5u64 {
        submit(&mut core, owner, b"ask");
        let stream = owner as u32 * 2 + 1;
        let mut frames = vec![leading(stream)];
        let part = parts[owner as usize];
        for data in framed(&message(owner, part * 3)).chunks(part) {
            frames.push(raw(kind::DATA, 0, stream, data));
        }
        frames.push(match owner {
            3 => headers(stream, true, &[("grpc-status", "5"), ("why", "gone")]),
            _ => trailers(stream),
        });
        answers.push(frames);
    }
    let bytes = interleaved(&answers, choices.iter().copied());
    (core, bytes)
}

proptest! {
    #[test]
    fn every_call_ends_once_and_what_is_said_of_it_is_true(
        streams_max in prop_oneof![Just(1u32), 1u32..6, Just(1000)],
        window in prop_oneof![Just(0u32), Just(1), 2u32..50, Just(65_535)],
        cut in prop_oneof![1usize..20, Just(usize::MAX)],
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(streams_max, window, cut);
        for step in &steps {
            world.run(step);
        }
        world.settle();
    }

    #[test]
    fn with_a_patient_peer_every_call_succeeds(
        streams_max in 1u32..4,
        window in prop_oneof![Just(0u32), Just(1), Just(100)],
        lengths in proptest::collection::vec(0usize..30_000, 1..12),
    ) {
        let mut world = World::new(streams_max, window, usize::MAX);
        for length in &lengths {
            world.submit(*length);
        }
        while !world.core.is_idle() {
            world.hand_over(usize::MAX);
            world.check();
            for stream in world.open() {
                if world.seen.requests[&stream].ended {
                    world.run(&Step::Answer { which: 0, length: 3 });
                    break;
                }
                world.grant(stream, 20_000);
                world.grant(0, 20_000);
            }
        }
        prop_assert!(world.ends.values().all(Result::is_ok));
        prop_assert_eq!(world.ends.len(), lengths.len());
    }

    #[test]
    fn cuts_and_interleavings_make_no_difference(
        parts in proptest::collection::vec(1usize..700, 5),
        choices in proptest::collection::vec(any::<usize>(), 0..60),
        cuts in proptest::collection::vec(1usize..60, 1..200),
    ) {
        let (mut core, bytes) = five(&parts, &choices);
        let whole = receive(&mut core, &bytes);
        prop_assert_eq!(whole.len(), 5);
        for (owner, result) in &whole {
            match result {
                Ok(answer) => prop_assert_eq!(answer.body(), message(*owner, parts[*owner as usize] * 3)),
                Err(CallError::Status(status)) => prop_assert_eq!(status.field("why"), Some("gone")),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
        let (mut core, bytes) = five(&parts, &choices);
        let (mut ends, mut rest, mut cuts) = (Ends::new(), &bytes[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
            ends.extend(receive(&mut core, now));
            rest = later;
        }
        prop_assert_eq!(ends, whole);
    }

    #[test]
    fn damaged_answers_never_panic_and_every_call_still_ends_once(
        parts in proptest::collection::vec(1usize..100, 5),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        garbage in proptest::collection::vec(any::<u8>(), 0..60),
        cut in 1usize..200,
    ) {
        let (mut core, mut bytes) = five(&parts, &[]);
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.extend(garbage);
        let mut ends = Vec::new();
        for part in bytes.chunks(cut) {
            let (ended, received) = try_receive(&mut core, part);
            ends.extend(ended.iter().map(|(owner, _)| *owner));
            if received.is_err() {
                break;
            }
        }
        ends.extend(close(&mut core).iter().map(|(owner, _)| *owner));
        ends.sort_unstable();
        prop_assert_eq!(ends, [0, 1, 2, 3, 4]);
    }
}
