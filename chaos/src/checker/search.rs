//! Linearizability of one register by search, for values that are not unique.
//!
//! Wing and Gong's search with Lowe's refinements: operations take effect only when they must (another one is about to
//! end), and what has been seen is remembered as a set of configurations (what the register holds, and which of the
//! open operations have taken effect). Exponential in the number of open writes at worst, so it works within a budget
//! and says so when that is spent.

use std::collections::{HashMap, HashSet};

use super::register::{ABSENT, Action, Op, Register, ValueId};

/// Configurations looked at before the search gives up; a second or so, and well below a gigabyte.
pub(super) const BUDGET: usize = 1_000_000;

/// What the search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// An order that explains all answers.
    Order,
    /// There is none: this operation (into [`Register::ops`]) is the first, by its end, that cannot be explained.
    None { stuck_at: usize },
    /// The budget was spent before it was decided.
    Exhausted,
}

/// A way in which everything so far may have gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Configuration {
    value: ValueId,
    /// Open operations that have taken effect, sorted.
    done: Vec<u32>,
}

struct Search<'a> {
    ops: &'a [Op],
    /// For an unknown write or delete, the one before it that leaves the same. They are as good as each other, so
    /// they take effect in order, which keeps many of them from multiplying.
    twin: Vec<Option<u32>>,
    open: Vec<u32>,
    budget: usize,
}

/// Looks for an order of all operations that explains all answers.
pub(super) fn search(register: &Register, budget: usize) -> Found {
    let mut search = Search {
        ops: &register.ops,
        twin: vec![None; register.ops.len()],
        open: Vec::new(),
        budget,
    };
    let moments = search.moments();
    let mut configurations = HashSet::from([Configuration {
        value: ABSENT,
        done: Vec::new(),
    }]);
    for (_, is_end, number) in moments {
        if is_end {
            let Some(next) = search.end(number, configurations) else {
                return Found::Exhausted;
            };
            if next.is_empty() {
                return Found::None {
                    stuck_at: number as usize,
                };
            }
            configurations = next;
        } else {
            configurations = search.begin(number, configurations);
        }
    }
    Found::Order
}

impl Search<'_> {
    /// Beginnings and ends in order of time; at the same time beginnings first, since that is concurrent.
    fn moments(&mut self) -> Vec<(i64, bool, u32)> {
        let observed: HashSet<ValueId> = self.ops.iter().filter_map(|op| op.action.observed()).collect();
        let mut moments = Vec::with_capacity(self.ops.len() * 2);
        let mut last_twin: HashMap<ValueId, u32> = HashMap::new();
        for (number, op) in (0u32..).zip(self.ops) {
            if !op.is_unknown() {
                moments.push((op.end, true, number));
            } else if op
                .action
                .written()
                .is_some_and(|value| !observed.contains(&value))
            {
                // Nobody saw it, so it need not have happened.
                continue;
            } else if let Action::Write(value) = op.action {
                self.twin[number as usize] = last_twin.insert(value, number);
            }
            moments.push((op.start, false, number));
        }
        moments.sort_unstable();
        moments
    }

    fn begin(&mut self, number: u32, configurations: HashSet<Configuration>) -> HashSet<Configuration> {
        self.open.push(number);
        match self.ops[number as usize].action {
            // A read that can be explained now need not wait: it changes nothing.
            Action::Read(_) => configurations
                .into_iter()
                .map(|one| self.with_reads(one))
                .collect(),
            _ => configurations,
        }
    }

    /// All ways in which `number` can have taken effect before it ends here; nothing if the budget is spent.
    fn end(&mut self, number: u32, before: HashSet<Configuration>) -> Option<HashSet<Configuration>> {
        let mut after = HashSet::new();
        let mut seen = HashSet::new();
        let mut work = Vec::new();
        for mut configuration in before {
            if remove(&mut configuration.done, number) {
                after.insert(configuration);
            } else {
                work.push(configuration);
            }
        }
        while let Some(configuration) = work.pop() {
            for &candidate in &self.open {
                let Some(mut next) = self.apply(&configuration, candidate) else {
                    continue;
                };
                if remove(&mut next.done, number) {
                    after.insert(next);
                } else if seen.insert(next.clone()) {
                    work.push(next);
                }
                self.budget = self.budget.checked_sub(1)?;
            }
        }
        self.open.retain(|open| *open != number);
        Some(after)
    }

    /// What is after a write or swap takes effect, if it can.
    fn apply(&self, from: &Configuration, number: u32) -> Option<Configuration> {
        let is_done = |number: &u32| from.done.binary_search(number).is_ok();
        if is_done(&number)
            || self.twin[number as usize]
                .as_ref()
                .is_some_and(|twin| !is_done(twin))
        {
            return None;
        }
        let value = match self.ops[number as usize].action {
            Action::Write(value) => value,
            Action::Swap(expected, value) if expected == from.value => value,
            Action::Swap(..) | Action::Read(_) => return None,
        };
        let mut next = Configuration {
            value,
            done: from.done.clone(),
        };
        insert(&mut next.done, number);
        Some(self.with_reads(next))
    }

    /// Lets all open reads of the present value take effect.
    fn with_reads(&self, mut configuration: Configuration) -> Configuration {
        for &number in &self.open {
            if self.ops[number as usize].action == Action::Read(configuration.value) {
                insert(&mut configuration.done, number);
            }
        }
        configuration
    }
}

fn insert(sorted: &mut Vec<u32>, number: u32) {
    if let Err(place) = sorted.binary_search(&number) {
        sorted.insert(place, number);
    }
}

fn remove(sorted: &mut Vec<u32>, number: u32) -> bool {
    sorted
        .binary_search(&number)
        .map(|place| sorted.remove(place))
        .is_ok()
}
