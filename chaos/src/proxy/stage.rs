//! One toxic at work on one direction of one connection, without I/O.
//!
//! A stage moves items from its inbox to its outbox when their moment has come. Time comes in as an argument and
//! randomness from a seeded stream, so what a stage does can be tested to the millisecond and repeated.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use super::{Toxic, ToxicKind};

/// How many chunks a latency stage keeps in flight before it stops reading; Toxiproxy's number.
pub(super) const LATENCY_CHUNKS_MAX: usize = 1024;

/// A stage that does not keep things in flight takes one chunk at a time, so that back-pressure reaches the sender.
const OTHER_CHUNKS_MAX: usize = 1;

/// Low rates are paid out in slices of this length, so that a big chunk trickles instead of arriving at once.
const BANDWIDTH_SLICE: Duration = Duration::from_millis(100);

/// A toxic in its place on a proxy.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) toxic: Toxic,
    /// Unique on the proxy; survives updates, not removal and adding again.
    pub(super) lineage: u64,
    /// Unique on the proxy; changes with every update.
    pub(super) generation: u64,
}

/// How a direction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The sender will send no more; the other direction lives on.
    Eof,
    /// The sender's connection broke; the whole connection is closed.
    Broken,
    /// A toxic closes the whole connection.
    Close,
    /// A toxic resets the whole connection.
    Reset,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Data(Vec<u8>),
    End(Ending),
}

/// Something on its way through the stages.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    /// When it arrived, at the proxy or from the last stage that delayed it.
    pub(super) at: Instant,
    pub(super) what: What,
}

impl Item {
    pub(super) fn len(&self) -> usize {
        match &self.what {
            What::Data(bytes) => bytes.len(),
            What::End(_) => 0,
        }
    }
}

/// Where the randomness of one connection comes from: the same seed, proxy, connection number and toxic draw the
/// same numbers, whatever else goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) seed: u64,
    pub(super) proxy: u64,
    pub(super) connection: u64,
}

impl Origin {
    fn rng(&self, placed: &Placed) -> ChaCha8Rng {
        let toxic = fnv1a(
            placed
                .toxic
                .name
                .bytes()
                .chain([placed.toxic.stream as u8])
                .chain(placed.generation.to_le_bytes()),
        );
        let mut seed = [0; 32];
        for (word, bytes) in [self.seed, self.proxy, self.connection, toxic]
            .into_iter()
            .zip(seed.chunks_exact_mut(8))
        {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        ChaCha8Rng::from_seed(seed)
    }
}

/// The Fowler–Noll–Vo hash: turns a name into a part of a seed, the same on every platform.
pub(super) fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What a stage has to remember, by type.
#[derive(Debug)]
enum Work {
    /// Not drawn for this connection.
    Pass,
    Latency {
        /// When the chunk at the head leaves; drawn when it gets there.
        due: Option<Instant>,
    },
    Bandwidth {
        /// What the bytes taken so far still have to wait; negative when the clock was late.
        owed_ns: i64,
        /// Since when the head is waiting, and until when.
        waiting: Option<(Instant, Instant)>,
        /// The head's bytes have been added to what is owed.
        charged: bool,
    },
    SlowClose {
        due: Option<Instant>,
    },
    Timeout,
    ResetPeer {
        /// Set by the first bytes.
        due: Option<Instant>,
    },
    Slicer {
        /// Lengths of the pieces that the head is still to be cut into.
        pieces: VecDeque<usize>,
        not_before: Instant,
    },
    LimitData {
        passed_bytes: u64,
    },
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) placed: Arc<Placed>,
    work: Work,
    rng: ChaCha8Rng,
    /// When this toxic met this connection.
    since: Instant,
    /// It has sent an ending of its own; whatever still comes in is dropped.
    over: bool,
}

/// What one step sees: the queue before and behind the stage, and how much fits into the latter.
pub(super) struct Around<'a> {
    pub(super) now: Instant,
    pub(super) inbox: &'a mut VecDeque<Item>,
    pub(super) outbox: &'a mut VecDeque<Item>,
    pub(super) outbox_max: usize,
    pub(super) dropped_bytes: &'a mut u64,
}

impl Around<'_> {
    fn has_room(&self) -> bool {
        self.outbox.len() < self.outbox_max
    }

    /// The next item, unless there is none or nowhere to put it.
    fn next(&self) -> Option<&Item> {
        if self.has_room() { self.inbox.front() } else { None }
    }

    fn forward(&mut self) {
        if let Some(mut item) = self.inbox.pop_front() {
            item.at = self.now;
            self.outbox.push_back(item);
        }
    }

    fn drop_all(&mut self) -> bool {
        let any = !self.inbox.is_empty();
        for item in self.inbox.drain(..) {
            *self.dropped_bytes += item.len() as u64;
        }
        any
    }

    /// Splits `len` bytes off the head and sends them on.
    fn forward_part(&mut self, len: usize) {
        let now = self.now;
        if let Some(Item {
            what: What::Data(bytes),
            ..
        }) = self.inbox.front_mut()
        {
            let rest = bytes.split_off(len.min(bytes.len()));
            let part = std::mem::replace(bytes, rest);
            self.outbox.push_back(Item {
                at: now,
                what: What::Data(part),
            });
            if bytes.is_empty() {
                self.inbox.pop_front();
            }
        }
    }

    fn end(&mut self, ending: Ending) {
        self.outbox.push_back(Item {
            at: self.now,
            what: What::End(ending),
        });
    }
}

impl Stage {
    pub(super) fn new(placed: Arc<Placed>, origin: &Origin, now: Instant) -> Self {
        let mut rng = origin.rng(&placed);
        let drawn = rng.random::<f32>() < placed.toxic.toxicity;
        let work = if drawn {
            start(&placed.toxic.kind, now)
        } else {
            Work::Pass
        };
        Self {
            placed,
            work,
            rng,
            since: now,
            over: false,
        }
    }

    pub(super) fn is_pass(&self) -> bool {
        matches!(self.work, Work::Pass) && !self.over
    }

    pub(super) fn inbox_max(&self) -> usize {
        match self.work {
            Work::Latency { .. } => LATENCY_CHUNKS_MAX,
            _ => OTHER_CHUNKS_MAX,
        }
    }

    /// Moves everything whose time has come. Returns whether anything moved.
    pub(super) fn step(&mut self, mut around: Around<'_>) -> bool {
        if self.over {
            return around.drop_all();
        }
        let a = &mut around;
        match self.placed.toxic.kind {
            _ if matches!(self.work, Work::Pass) => step_pass(a),
            ToxicKind::Latency {
                latency_ms,
                jitter_ms,
            } => self.step_latency(a, latency_ms, jitter_ms),
            ToxicKind::Bandwidth { rate_kb_per_s } => self.step_bandwidth(a, rate_kb_per_s),
            ToxicKind::SlowClose { delay_ms } => self.step_slow_close(a, delay_ms),
            ToxicKind::Timeout { timeout_ms } => self.step_timeout(a, timeout_ms),
            ToxicKind::ResetPeer { timeout_ms } => self.step_reset_peer(a, timeout_ms),
            ToxicKind::Slicer {
                average_size_bytes,
                size_variation_bytes,
                delay_us,
            } => self.step_slicer(a, average_size_bytes, size_variation_bytes, delay_us),
            ToxicKind::LimitData { bytes } => self.step_limit_data(a, bytes),
        }
    }

    /// When there will be something to do if nothing arrives before.
    pub(super) fn wake_at(&self, inbox: &VecDeque<Item>) -> Option<Instant> {
        if self.over {
            return None;
        }
        match &self.work {
            Work::Pass | Work::LimitData { .. } => None,
            Work::Latency { due } | Work::SlowClose { due } | Work::ResetPeer { due } => *due,
            Work::Bandwidth { waiting, .. } => waiting.map(|(_, until)| until),
            Work::Timeout => self.deadline(),
            Work::Slicer { not_before, .. } => (!inbox.is_empty()).then_some(*not_before),
        }
    }

    /// The toxic's numbers have changed. What is in hand goes on at once; what waits behind it meets the new numbers.
    pub(super) fn update(&mut self, placed: Arc<Placed>, origin: &Origin, around: &mut Around<'_>) {
        let in_hand = match &self.work {
            Work::Latency { due } => due.is_some(),
            Work::Bandwidth { charged, .. } => *charged,
            Work::Slicer { pieces, .. } => !pieces.is_empty(),
            _ => false,
        };
        if in_hand {
            around.forward();
        }
        let passed = match self.work {
            Work::LimitData { passed_bytes } => Some(passed_bytes),
            _ => None,
        };
        *self = Self {
            over: self.over,
            ..Self::new(placed, origin, around.now)
        };
        if let (Work::LimitData { passed_bytes }, Some(passed)) = (&mut self.work, passed) {
            *passed_bytes = passed;
        }
    }

    /// What the stage says when it is removed: where it has lost bytes, the connection cannot go on.
    pub(super) fn farewell(&self) -> Option<Ending> {
        match self.work {
            _ if self.over => None,
            Work::Timeout => Some(Ending::Close),
            Work::ResetPeer { due: Some(_) } => Some(Ending::Reset),
            _ => None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.placed.toxic.kind {
            ToxicKind::Timeout { timeout_ms } if timeout_ms > 0 => later(self.since, millis(timeout_ms)),
            _ => None,
        }
    }

    fn step_latency(&mut self, a: &mut Around<'_>, latency_ms: u64, jitter_ms: u64) -> bool {
        let Work::Latency { due } = &mut self.work else {
            return false;
        };
        let mut moved = false;
        while let Some(item) = a.next() {
            let at = match *due {
                Some(at) => at,
                None => {
                    let delay = jittered(&mut self.rng, latency_ms, jitter_ms);
                    *due.insert(later(item.at, delay).unwrap_or(a.now + FOREVER))
                }
            };
            if at > a.now {
                break;
            }
            a.forward();
            *due = None;
            moved = true;
        }
        moved
    }

    fn step_bandwidth(&mut self, a: &mut Around<'_>, rate_kb_per_s: u64) -> bool {
        let Work::Bandwidth {
            owed_ns,
            waiting,
            charged,
        } = &mut self.work
        else {
            return false;
        };
        let mut moved = false;
        while let Some(item) = a.next() {
            if matches!(item.what, What::End(_)) {
                a.forward();
                moved = true;
                continue;
            }
            if rate_kb_per_s == 0 {
                break;
            }
            let len = item.len();
            if !*charged {
                *owed_ns =
                    owed_ns.saturating_add((len as i64).saturating_mul(1_000_000) / clamp(rate_kb_per_s));
                *charged = true;
            }
            // A kilobyte a second is a byte a millisecond.
            let slice = usize::try_from(rate_kb_per_s.saturating_mul(100)).unwrap_or(usize::MAX);
            let wait = if len > slice {
                BANDWIDTH_SLICE
            } else {
                Duration::from_nanos((*owed_ns).max(0) as u64)
            };
            let (from, until) =
                *waiting.get_or_insert((a.now, later(a.now, wait).unwrap_or(a.now + FOREVER)));
            if until > a.now {
                break;
            }
            // The clock is never exact; what it was late by is given back with the next bytes.
            *owed_ns = owed_ns.saturating_sub(nanos(a.now - from));
            *waiting = None;
            if len > slice {
                a.forward_part(slice);
            } else {
                a.forward();
                *charged = false;
            }
            moved = true;
        }
        moved
    }

    fn step_slow_close(&mut self, a: &mut Around<'_>, delay_ms: u64) -> bool {
        let Work::SlowClose { due } = &mut self.work else {
            return false;
        };
        let mut moved = false;
        while let Some(item) = a.next() {
            if matches!(item.what, What::End(_)) {
                let at = *due.get_or_insert(later(a.now, millis(delay_ms)).unwrap_or(a.now + FOREVER));
                if at > a.now {
                    break;
                }
                *due = None;
            }
            a.forward();
            moved = true;
        }
        moved
    }

    /// An end that arrives is swallowed like the rest: silence hides that the other side is gone.
    fn step_timeout(&mut self, a: &mut Around<'_>, timeout_ms: u64) -> bool {
        let moved = a.drop_all();
        let expired = timeout_ms > 0 && self.deadline().is_some_and(|at| at <= a.now);
        if expired && a.has_room() {
            a.end(Ending::Close);
            self.over = true;
            return true;
        }
        moved
    }

    fn step_reset_peer(&mut self, a: &mut Around<'_>, timeout_ms: u64) -> bool {
        let Work::ResetPeer { due } = &mut self.work else {
            return false;
        };
        let moved = a.drop_all();
        if moved && due.is_none() {
            *due = later(a.now, millis(timeout_ms));
        }
        if due.is_some_and(|at| at <= a.now) && a.has_room() {
            a.end(Ending::Reset);
            self.over = true;
            return true;
        }
        moved
    }

    fn step_slicer(&mut self, a: &mut Around<'_>, average: u64, variation: u64, delay_us: u64) -> bool {
        let Work::Slicer { pieces, not_before } = &mut self.work else {
            return false;
        };
        let mut moved = false;
        while let Some(item) = a.next() {
            if *not_before > a.now {
                break;
            }
            let len = item.len();
            if matches!(item.what, What::End(_)) {
                a.forward();
            } else {
                if pieces.is_empty() {
                    slice(&mut self.rng, len, average.max(1), variation, pieces);
                }
                a.forward_part(pieces.pop_front().unwrap_or(len));
                if delay_us > 0 {
                    *not_before = later(a.now, Duration::from_micros(delay_us)).unwrap_or(a.now + FOREVER);
                }
            }
            moved = true;
        }
        moved
    }

    fn step_limit_data(&mut self, a: &mut Around<'_>, bytes_max: u64) -> bool {
        let Work::LimitData { passed_bytes } = &mut self.work else {
            return false;
        };
        let mut moved = false;
        while let Some(item) = a.next() {
            moved = true;
            if matches!(item.what, What::End(_)) {
                a.forward();
                continue;
            }
            let left = bytes_max.saturating_sub(*passed_bytes);
            let len = (item.len() as u64).min(left);
            if len > 0 {
                a.forward_part(len as usize);
                *passed_bytes += len;
            }
            if *passed_bytes >= bytes_max {
                a.drop_all();
                // One more than fits is fine: nothing follows an end.
                a.end(Ending::Close);
                self.over = true;
                break;
            }
        }
        moved
    }
}

/// Stands for "not in this run" where adding a delay would overflow the clock.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

fn start(kind: &ToxicKind, now: Instant) -> Work {
    match kind {
        ToxicKind::Latency { .. } => Work::Latency { due: None },
        ToxicKind::Bandwidth { .. } => Work::Bandwidth {
            owed_ns: 0,
            waiting: None,
            charged: false,
        },
        ToxicKind::SlowClose { .. } => Work::SlowClose { due: None },
        ToxicKind::Timeout { .. } => Work::Timeout,
        ToxicKind::ResetPeer { .. } => Work::ResetPeer { due: None },
        ToxicKind::Slicer { .. } => Work::Slicer {
            pieces: VecDeque::new(),
            not_before: now,
        },
        ToxicKind::LimitData { .. } => Work::LimitData { passed_bytes: 0 },
    }
}

fn step_pass(a: &mut Around<'_>) -> bool {
    let mut moved = false;
    while a.next().is_some() {
        if let Some(item) = a.inbox.pop_front() {
            a.outbox.push_back(item);
        }
        moved = true;
    }
    moved
}

fn jittered(rng: &mut ChaCha8Rng, latency_ms: u64, jitter_ms: u64) -> Duration {
    if jitter_ms == 0 {
        return millis(latency_ms);
    }
    let low = latency_ms.saturating_sub(jitter_ms);
    let below = jitter_ms.saturating_sub(latency_ms);
    // Drawn over the whole ± range and cut at zero, so that a jitter above the latency keeps its shape.
    let drawn = rng.random_range(0..=jitter_ms.saturating_mul(2));
    millis(low.saturating_add(drawn.saturating_sub(below)))
}

/// Cuts in halves, each a little off the middle, until the pieces are small enough.
fn slice(rng: &mut ChaCha8Rng, len: usize, average: u64, variation: u64, pieces: &mut VecDeque<usize>) {
    if len as u64 <= average.saturating_add(variation) {
        pieces.push_back(len);
        return;
    }
    let spread = variation.min(len as u64) as i64;
    let off = if spread > 0 {
        rng.random_range(-spread..=spread)
    } else {
        0
    };
    let left = (len as i64 / 2 + off).clamp(1, len as i64 - 1) as usize;
    slice(rng, left, average, variation, pieces);
    slice(rng, len - left, average, variation, pieces);
}

fn later(from: Instant, by: Duration) -> Option<Instant> {
    from.checked_add(by.min(FOREVER))
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
