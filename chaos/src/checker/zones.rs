//! Exact linearizability of one register in O(n log n), for unique values.
//!
//! With unique values every read names its write, and every compare-and-swap names the write that it follows, so the
//! operations fall into chains: a blind write, the reads of it, the swap that consumed it, the reads of that, and so
//! on. In any order that explains the answers, a chain's operations stand together (between two of them the register
//! never holds anything else), and its blocks in that order. What is left to decide is the order of the chains. Chain
//! A must come before B if some operation of A ended before some operation of B began. With `f` the earliest end and
//! `s` the latest beginning in a chain, that is `A.f < B.s`, and an order exists unless two chains must both come
//! first. The idea is that of zones (Gibbons and Korach 1997; Golab, Li and Shah 2011), extended by swaps and by
//! operations whose outcome is unknown.
//!
//! Times are compared strictly: where one ends at the very nanosecond at which another begins, they are concurrent.

use super::naming::Named;
use super::register::{ABSENT, Action, NEVER, Op, ValueId};

/// Why no order explains the answers. Operations are numbers into [`Named::ops`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// A value was seen that nobody wrote.
    Garbage { seen_by: usize },
    /// Two swaps consumed the same write.
    LostUpdate { swaps: [usize; 2] },
    /// `later` builds on what `earlier` saw or wrote, yet ended before `earlier` began.
    OutOfOrder { earlier: usize, later: usize },
    /// Each of these swaps needs another of them to come first.
    Cycle { swaps: Vec<usize> },
    /// Two chains must each come before the other.
    Crossed { older: Zone, newer: Zone },
}

/// A chain's earliest end and latest beginning, and who set them. The virtual first write has no operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Zone {
    first_end: i64,
    last_start: i64,
    pub(super) first_to_end: Option<usize>,
    pub(super) last_to_start: Option<usize>,
}

impl Zone {
    /// The zone of the value with which the register starts, before every operation.
    const BEFORE_ALL: Zone = Zone {
        first_end: -1,
        last_start: -1,
        first_to_end: None,
        last_to_start: None,
    };
    const EMPTY: Zone = Zone {
        first_end: NEVER,
        last_start: i64::MIN,
        first_to_end: None,
        last_to_start: None,
    };

    fn is_forward(&self) -> bool {
        self.first_end < self.last_start
    }

    fn add(&mut self, number: usize, op: &Op) {
        if op.end < self.first_end || self.first_to_end.is_none() && self.first_end == NEVER {
            (self.first_end, self.first_to_end) = (op.end, Some(number));
        }
        if op.start > self.last_start {
            (self.last_start, self.last_to_start) = (op.start, Some(number));
        }
    }
}

/// Looks for an order that explains all answers.
pub(super) fn check(named: &Named) -> Result<(), Fault> {
    let graph = Graph::new(named)?;
    let mut zones = Vec::new();
    let mut covered = graph.chain(None, ABSENT, &mut zones)?;
    for (number, op) in named.ops.iter().enumerate() {
        if let (true, Action::Write(value)) = (graph.kept[number], op.action) {
            covered += graph.chain(Some(number), value, &mut zones)?;
        }
    }
    if covered != graph.kept.iter().filter(|kept| **kept).count() {
        return Err(graph.cycle());
    }
    crossed(zones)
}

/// Who wrote, read and consumed each value.
struct Graph<'a> {
    ops: &'a [Op],
    /// Whether the operation is part of the question. An unknown one that nobody saw need not have happened.
    kept: Vec<bool>,
    consumer: Vec<Option<usize>>,
    /// Readers of value `v` are `readers[reader_start[v]..reader_start[v + 1]]`.
    readers: Vec<usize>,
    reader_start: Vec<usize>,
}

impl<'a> Graph<'a> {
    fn new(named: &'a Named) -> Result<Self, Fault> {
        let ops = named.ops.as_slice();
        let count = named.values as usize;
        let mut writer = vec![None; count];
        for (number, op) in ops.iter().enumerate() {
            if let Some(value) = op.action.written() {
                writer[value as usize] = Some(number);
            }
        }
        let kept = observed(ops, &writer)?;
        let mut consumer = vec![None; count];
        let mut reader_start = vec![0; count + 1];
        for (number, op) in ops.iter().enumerate().filter(|(number, _)| kept[*number]) {
            match op.action {
                Action::Swap(from, _) => {
                    if let Some(first) = consumer[from as usize].replace(number) {
                        return Err(Fault::LostUpdate {
                            swaps: [first, number],
                        });
                    }
                }
                Action::Read(value) => reader_start[value as usize + 1] += 1,
                Action::Write(_) => {}
            }
        }
        for value in 0..count {
            reader_start[value + 1] += reader_start[value];
        }
        let mut next = reader_start.clone();
        let mut readers = vec![0; reader_start[count]];
        for (number, op) in ops.iter().enumerate() {
            if let (true, Action::Read(value)) = (kept[number], op.action) {
                readers[next[value as usize]] = number;
                next[value as usize] += 1;
            }
        }
        Ok(Graph {
            ops,
            kept,
            consumer,
            readers,
            reader_start,
        })
    }

    fn readers_of(&self, value: ValueId) -> &[usize] {
        &self.readers[self.reader_start[value as usize]..self.reader_start[value as usize + 1]]
    }

    /// Walks the chain that a blind write (or the register's start) heads; returns how many operations are on it.
    fn chain(&self, head: Option<usize>, value: ValueId, zones: &mut Vec<Zone>) -> Result<usize, Fault> {
        let mut walk = Walk {
            ops: self.ops,
            zone: if head.is_some() {
                Zone::EMPTY
            } else {
                Zone::BEFORE_ALL
            },
            length: 0,
        };
        if let Some(head) = head {
            walk.block(&[head])?;
        }
        let mut value = value;
        loop {
            walk.block(self.readers_of(value))?;
            let Some(swap) = self.consumer[value as usize] else {
                break;
            };
            walk.block(&[swap])?;
            let Action::Swap(_, to) = self.ops[swap].action else {
                unreachable!("only swaps consume")
            };
            value = to;
        }
        zones.push(walk.zone);
        Ok(walk.length)
    }

    /// Swaps that no head leads to lead back to themselves: each was kept, so its value's writer is one of them.
    fn cycle(&self) -> Fault {
        let mut reached = vec![false; self.ops.len()];
        let mut follow = |from: ValueId| {
            let mut value = from;
            while let Some(swap) = self.consumer[value as usize] {
                reached[swap] = true;
                let Action::Swap(_, to) = self.ops[swap].action else {
                    unreachable!("only swaps consume")
                };
                value = to;
            }
        };
        follow(ABSENT);
        for (number, op) in self.ops.iter().enumerate() {
            if let (true, Action::Write(value)) = (self.kept[number], op.action) {
                follow(value);
            }
        }
        let is_swap = |number: usize| matches!(self.ops[number].action, Action::Swap(..));
        let start = (0..self.ops.len())
            .find(|number| self.kept[*number] && is_swap(*number) && !reached[*number])
            .expect("an operation on no chain is on a cycle of swaps, or reads from one");
        let after = |swap: usize| {
            self.ops[swap]
                .action
                .written()
                .and_then(|to| self.consumer[to as usize])
        };
        let swaps = std::iter::successors(Some(start), |swap| after(*swap).filter(|next| *next != start));
        let swaps = swaps.collect();
        Fault::Cycle { swaps }
    }
}

/// Which operations are part of the question: all that are known to have happened, and of the others those whose
/// value was seen by one that is.
fn observed(ops: &[Op], writer: &[Option<usize>]) -> Result<Vec<bool>, Fault> {
    let mut kept: Vec<bool> = ops.iter().map(|op| !op.is_unknown()).collect();
    let mut work: Vec<usize> = (0..ops.len()).filter(|number| kept[*number]).collect();
    while let Some(number) = work.pop() {
        let Some(value) = ops[number].action.observed().filter(|value| *value != ABSENT) else {
            continue;
        };
        let Some(source) = writer[value as usize] else {
            return Err(Fault::Garbage { seen_by: number });
        };
        if !std::mem::replace(&mut kept[source], true) {
            work.push(source);
        }
    }
    Ok(kept)
}

/// Goes along a chain, block by block.
struct Walk<'a> {
    ops: &'a [Op],
    zone: Zone,
    length: usize,
}

impl Walk<'_> {
    /// Everything in a block comes after everything in the blocks before, so nothing in it may have ended before
    /// something there began.
    fn block(&mut self, block: &[usize]) -> Result<(), Fault> {
        let (before, latest) = (self.zone.last_start, self.zone.last_to_start);
        if let Some(latest) = latest
            && let Some(later) = block
                .iter()
                .copied()
                .find(|number| self.ops[*number].end < before)
        {
            return Err(Fault::OutOfOrder {
                earlier: latest,
                later,
            });
        }
        for &number in block {
            self.zone.add(number, &self.ops[number]);
        }
        self.length += block.len();
        Ok(())
    }
}

/// Finds two chains that must each come before the other.
///
/// If both are backward (`s ≤ f`) that cannot be. Two forward ones clash if they overlap, and then two neighbours do.
/// A backward one clashes with a forward one inside of which it lies; as forward ones are disjoint by then, that can
/// only be the last one that begins before it.
fn crossed(zones: Vec<Zone>) -> Result<(), Fault> {
    let (mut forward, backward): (Vec<Zone>, Vec<Zone>) = zones.into_iter().partition(Zone::is_forward);
    forward.sort_by_key(|zone| (zone.first_end, zone.last_start));
    let overlapping = forward
        .windows(2)
        .filter(|pair| pair[1].first_end < pair[0].last_start);
    let fault = overlapping
        .map(|pair| in_order(pair[0], pair[1]))
        .min_by_key(crossed_at);
    if let Some(fault) = fault {
        return Err(fault);
    }
    let inside = backward.iter().filter_map(|zone| {
        let after = forward.partition_point(|candidate| candidate.first_end < zone.last_start);
        let candidate = forward[..after].last()?;
        (zone.first_end < candidate.last_start).then(|| in_order(*candidate, *zone))
    });
    inside.min_by_key(crossed_at).map_or(Ok(()), Err)
}

/// The older chain is the one with the latest beginning, since it shows up again after the other was there; and
/// nothing is older than the start.
fn in_order(a: Zone, b: Zone) -> Fault {
    let is_start = |zone: &Zone| zone.first_to_end.is_none();
    let a_is_older = is_start(&a) || (!is_start(&b) && a.last_start > b.last_start);
    let (older, newer) = if a_is_older { (a, b) } else { (b, a) };
    Fault::Crossed { older, newer }
}

fn crossed_at(fault: &Fault) -> i64 {
    match fault {
        Fault::Crossed { older, .. } => older.last_start,
        _ => i64::MAX,
    }
}
