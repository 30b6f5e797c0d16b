//! From a target as a scenario names it to nodes, at the moment of injection.

use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tokio::time::{Instant, sleep};

use crate::cluster::NodeProcess;
use crate::scenario::Target;
use crate::watch::{LOOK_EVERY, Watch};

/// So long a leader is waited for before the fault is given up.
const LEADER_TIMEOUT: Duration = Duration::from_secs(3);

/// Every choice that a run makes, from its seed.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The choices that follow from `seed`.
    pub fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Nodes that are `target` now, in ascending order; none if there is none, such as a leader that does not come.
    pub(super) async fn resolve(
        &mut self,
        target: Target,
        nodes: &[NodeProcess],
        watch: &Watch,
    ) -> Vec<usize> {
        let everybody = 0..nodes.len();
        match target {
            Target::All => everybody.collect(),
            Target::Node(number) => everybody.filter(|node| node + 1 == usize::from(number)).collect(),
            // Among those that run: a fault on a node that is down does nothing.
            Target::Random => {
                let running: Vec<usize> = everybody.filter(|node| nodes[*node].pid().is_some()).collect();
                match running.len() {
                    0 => Vec::new(),
                    count => vec![running[self.0.random_range(0..count)]],
                }
            }
            // With the leader among them, where one is known: that is the side that hurts.
            Target::Minority | Target::Majority => {
                let leader = watch.leader();
                let mut all: Vec<usize> = everybody.collect();
                all.shuffle(&mut self.0);
                all.sort_by_key(|node| Some(*node) != leader);
                all.truncate(target.count(nodes.len()));
                all.sort_unstable();
                all
            }
            Target::Leader => wait_for_leader(watch).await.into_iter().collect(),
            Target::Follower => {
                let leader = wait_for_leader(watch).await;
                let running = |node: &usize| Some(*node) != leader && nodes[*node].pid().is_some();
                let followers: Vec<usize> = everybody.filter(running).collect();
                match followers.len() {
                    0 => Vec::new(),
                    count => vec![followers[self.0.random_range(0..count)]],
                }
            }
        }
    }
}

async fn wait_for_leader(watch: &Watch) -> Option<usize> {
    let deadline = Instant::now() + LEADER_TIMEOUT;
    loop {
        let leader = watch.leader();
        if leader.is_some() || Instant::now() > deadline {
            return leader;
        }
        sleep(LOOK_EVERY).await;
    }
}
