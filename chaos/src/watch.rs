//! The observer: asks every node for its status, directly and all the time, and remembers what they said.
//!
//! It sees nodes that their clients cannot reach, so that a leader behind a partition is known as one. What it has not
//! seen it does not claim: between two looks anything may have happened.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use loadgen::RunClock;
use proto::raft::GetClusterStatusRequest;
use proto::raft::key_value_service_client::KeyValueServiceClient;
use reports::record::{NodeSample, Role};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tonic::transport::{Channel, Endpoint};

/// Time between two looks at a node.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node that says nothing for so long is unreachable.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// What was seen so far; clones share it.
#[derive(Clone)]
pub struct Watch {
    shared: Arc<Mutex<Seen>>,
}

struct Seen {
    samples: Vec<NodeSample>,
    latest: Vec<Option<NodeSample>>,
    /// Nodes without a process, as far as the runner knows.
    down: Vec<bool>,
}

/// Stops the observer when dropped.
pub struct Watching {
    _tasks: JoinSet<()>,
}

impl Watch {
    /// Begins to look at `nodes` (name and address). Times are those of `clock`.
    pub fn start(nodes: &[(String, String)], clock: RunClock) -> (Watch, Watching) {
        let seen = Seen {
            samples: Vec::new(),
            latest: vec![None; nodes.len()],
            down: vec![false; nodes.len()],
        };
        let watch = Watch {
            shared: Arc::new(Mutex::new(seen)),
        };
        let mut tasks = JoinSet::new();
        for (number, (name, address)) in nodes.iter().enumerate() {
            tasks.spawn(look(watch.clone(), number, name.clone(), address.clone(), clock));
        }
        (watch, Watching { _tasks: tasks })
    }

    /// The process of a node is gone, or back.
    pub fn set_down(&self, node: usize, down: bool) {
        self.lock().down[node] = down;
    }

    /// What each node said last.
    pub fn latest(&self) -> Vec<Option<NodeSample>> {
        self.lock().latest.clone()
    }

    /// The node that leads in the latest term, if one says so.
    pub fn leader(&self) -> Option<usize> {
        let seen = self.lock();
        let leaders = seen.latest.iter().enumerate().filter_map(|(node, sample)| {
            sample
                .as_ref()
                .filter(|sample| sample.role == Role::Leader)
                .map(|sample| (sample.term, node))
        });
        leaders.max().map(|(_, node)| node)
    }

    /// Everything seen, oldest first.
    pub fn samples(&self) -> Vec<NodeSample> {
        let mut samples = self.lock().samples.clone();
        samples.sort_by_key(|sample| sample.time);
        samples
    }

    fn note(&self, node: usize, mut sample: NodeSample) {
        let mut seen = self.lock();
        if sample.role == Role::Unreachable && seen.down[node] {
            sample.role = Role::Down;
        }
        seen.latest[node] = Some(sample.clone());
        seen.samples.push(sample);
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.shared
            .lock()
            .expect("nobody panics while holding what was seen")
    }
}

async fn look(watch: Watch, number: usize, name: String, address: String, clock: RunClock) {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).expect("a loopback address is a valid endpoint");
    let channel = endpoint
        .connect_timeout(ANSWER_TIMEOUT)
        .tcp_nodelay(true)
        .connect_lazy();
    let mut client = KeyValueServiceClient::new(channel);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sample = ask(&mut client, &name, clock).await;
        watch.note(number, sample);
    }
}

async fn ask(client: &mut KeyValueServiceClient<Channel>, name: &str, clock: RunClock) -> NodeSample {
    let answer = timeout(
        ANSWER_TIMEOUT,
        client.get_cluster_status(GetClusterStatusRequest {}),
    )
    .await;
    let time = clock.now();
    let Ok(Ok(answer)) = answer else {
        return NodeSample {
            time,
            node: name.to_owned(),
            role: Role::Unreachable,
            term: 0,
            leader: None,
            commit: 0,
            applied: 0,
            digest: None,
            incarnation: None,
        };
    };
    let status = answer.into_inner();
    let role = match status.role() {
        proto::raft::Role::Leader => Role::Leader,
        proto::raft::Role::Candidate => Role::Candidate,
        proto::raft::Role::PreCandidate => Role::PreCandidate,
        proto::raft::Role::Follower | proto::raft::Role::Unspecified => Role::Follower,
    };
    NodeSample {
        time,
        node: name.to_owned(),
        role,
        term: status.header.as_ref().map_or(0, |header| header.term),
        leader: Some(status.leader_id).filter(|leader| !leader.is_empty()),
        commit: status.commit_index,
        applied: status.applied_index,
        digest: Some(format!("{:016x}", status.state_digest)),
        incarnation: Some(format!("{:016x}", status.incarnation)),
    }
}
