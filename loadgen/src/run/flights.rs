//! The operations that are out.
//!
//! Promises that a token names one flight for ever: an answer that comes after its operation was given up finds nothing.
//! Costs no allocation for each operation once it has grown to the number that is out at a time.

use std::collections::VecDeque;
use std::time::Instant;

use reports::record::{Nanos, Operation, OutcomeKind};

use crate::client::{Call, Departure};
use crate::history::Wording;
use crate::outcome::OperationResult;

/// An operation that is out.
#[derive(Debug)]
pub(super) struct Flight {
    /// Number in the plan.
    pub(super) number: u64,
    pub(super) operation: Operation,
    /// Number of its key.
    pub(super) key: u64,
    pub(super) call: Call,
    pub(super) process: u64,
    pub(super) planned: Nanos,
    /// When its first attempt began.
    pub(super) first: Nanos,
    /// Not in the warm-up.
    pub(super) measured: bool,
    pub(super) deadline: Instant,
    /// The first attempt, while that is out; nothing while the operation is on a journey.
    pub(super) departure: Option<Departure>,
    /// How the history puts it, where one is kept.
    pub(super) wording: Option<Wording>,
    pub(super) part: Part,
    /// What a read-modify-write's read came to, once that is known.
    pub(super) read: Option<Box<ReadPart>>,
}

/// The read of a read-modify-write.
#[derive(Debug)]
pub(super) struct ReadPart {
    /// How long it took, all attempts together.
    pub(super) took: Nanos,
    /// How its answer counts.
    pub(super) outcome: OutcomeKind,
    /// What it took to get it.
    pub(super) result: OperationResult,
}

/// Which part of an operation is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It has only one.
    Whole,
    /// The read of a read-modify-write.
    Read,
    /// The write of a read-modify-write.
    Write,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    flight: Option<Flight>,
}

/// The operations that are out, and their deadlines in order.
#[derive(Debug, Default)]
pub(super) struct Flights {
    slots: Vec<Slot>,
    free: Vec<u32>,
    deadlines: VecDeque<(Instant, u64)>,
}

impl Flights {
    /// How many are out.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A place and its token, to be filled with [`Flights::fill`].
    pub(super) fn reserve(&mut self) -> u64 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("fewer operations are out than the limit allows")
        });
        token(index, self.slots[index as usize].generation)
    }

    /// Puts a flight in its place. Cheap as long as deadlines do not go backwards from flight to flight.
    pub(super) fn fill(&mut self, token: u64, flight: Flight) {
        let deadline = flight.deadline;
        match self.deadlines.back() {
            Some((last, _)) if *last > deadline => {
                let place = self.deadlines.partition_point(|(other, _)| *other <= deadline);
                self.deadlines.insert(place, (deadline, token));
            }
            _ => self.deadlines.push_back((deadline, token)),
        }
        self.slots[index(token)].flight = Some(flight);
    }

    /// The flight with this token, unless it has ended.
    pub(super) fn of(&mut self, token: u64) -> Option<&mut Flight> {
        let slot = self.slots.get_mut(index(token))?;
        if slot.generation == generation(token) {
            slot.flight.as_mut()
        } else {
            None
        }
    }

    /// Takes a flight away; its token names nothing any more.
    pub(super) fn take(&mut self, token: u64) -> Option<Flight> {
        let slot = self.slots.get_mut(index(token))?;
        if slot.generation != generation(token) {
            return None;
        }
        let flight = slot.flight.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index(token) as u32);
        Some(flight)
    }

    /// The earliest deadline of a first attempt that is still out.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some((deadline, token)) = self.deadlines.front().copied() {
            if self
                .of(token)
                .is_some_and(|flight| flight.departure.is_some() && flight.deadline == deadline)
            {
                return Some(deadline);
            }
            self.deadlines.pop_front();
        }
        None
    }

    /// The token of a first attempt whose deadline has passed.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<u64> {
        if self.next_deadline()? > now {
            return None;
        }
        self.deadlines.pop_front().map(|(_, token)| token)
    }

    /// The tokens of all flights.
    pub(super) fn tokens(&self) -> Vec<u64> {
        let filled = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.flight.is_some());
        filled
            .map(|(index, slot)| token(index as u32, slot.generation))
            .collect()
    }
}

fn token(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

fn index(token: u64) -> usize {
    (token & u64::from(u32::MAX)) as usize
}

fn generation(token: u64) -> u32 {
    (token >> 32) as u32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;

    fn flight(number: u64, deadline: Instant) -> Flight {
        Flight {
            number,
            operation: Operation::Get,
            key: 0,
            call: Call::Get { key: "k".into() },
            process: 0,
            planned: 0,
            first: 0,
            measured: true,
            deadline,
            departure: None,
            wording: None,
            part: Part::Whole,
            read: None,
        }
    }

    #[test]
    fn a_second_part_that_has_less_time_left_is_overdue_first() {
        let (mut flights, now) = (Flights::default(), Instant::now());
        for (number, seconds) in [(1, 5), (2, 9), (3, 7), (4, 5)] {
            let token = flights.reserve();
            flights.fill(token, flight(number, now + Duration::from_secs(seconds)));
        }
        let order: Vec<u64> = flights.deadlines.iter().map(|(_, token)| *token).collect();
        let numbers: Vec<u64> = order
            .iter()
            .map(|token| flights.of(*token).unwrap().number)
            .collect();
        assert_eq!(numbers, [1, 4, 3, 2]);
    }

    #[test]
    fn a_token_of_an_operation_that_ended_names_nothing() {
        let (mut flights, now) = (Flights::default(), Instant::now());
        let one = flights.reserve();
        flights.fill(one, flight(1, now));
        assert_eq!(flights.take(one).unwrap().number, 1);
        let two = flights.reserve();
        flights.fill(two, flight(2, now));
        assert!(flights.of(one).is_none() && flights.take(one).is_none());
        assert_eq!((flights.of(two).unwrap().number, flights.len()), (2, 1));
        assert_eq!(flights.tokens(), [two]);
        flights.take(two);
        assert!(flights.is_empty() && flights.next_deadline().is_none());
    }
}
