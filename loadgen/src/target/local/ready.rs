//! When is a cluster ready? When every node answers its target's probe, and all know the same leader.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::keeper::Keeper;
use super::{Launch, LocalError, Plan};
use crate::target::{Presence, Target};
use crate::wire::{Connection, Options};

/// A cluster is ready within this time, or something is wrong with it.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// So often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(25);
/// So long one answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Asks the nodes of one cluster.
pub(super) struct Ready<'a> {
    target: &'a Arc<dyn Target>,
    launch: &'a dyn Launch,
    plan: &'a Plan,
    connections: Vec<Connection>,
}

impl<'a> Ready<'a> {
    pub(super) fn new(target: &'a Arc<dyn Target>, launch: &'a dyn Launch, plan: &'a Plan) -> Ready<'a> {
        let options = Options {
            connect_timeout: ANSWER_TIMEOUT,
            keep_alive: READY_TIMEOUT,
            waiting_max: 1,
        };
        let connections = plan.seats.iter();
        let connections = connections.map(|seat| Connection::new(&seat.address(), options.clone()));
        Ready {
            target,
            launch,
            plan,
            connections: connections.collect(),
        }
    }

    /// Waits until the cluster is ready, or until one of its nodes has ended. Returns what the first node says of itself.
    pub(super) async fn wait(&self, keeper: &Keeper) -> Result<Presence, LocalError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        loop {
            if let Some(ended) = keeper.look().await?.into_iter().next() {
                return Err(LocalError::ended(&self.plan.folder, ended));
            }
            let missing = match self.ask_all().await {
                Ok(presence) => return Ok(presence),
                Err(missing) => missing,
            };
            if Instant::now() >= deadline {
                return Err(LocalError::NotReady {
                    waited: READY_TIMEOUT,
                    missing,
                });
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// What the first node says of itself if the cluster is ready, and what is missing if not.
    async fn ask_all(&self) -> Result<Presence, String> {
        let mut first: Option<Presence> = None;
        for (seat, connection) in self.plan.seats.iter().zip(&self.connections) {
            let presence = self
                .ask(connection)
                .await
                .map_err(|why| format!("{} at {} does not answer: {why}", seat.name, seat.address()))?;
            if self.launch.elects() {
                if presence.leader.is_empty() {
                    return Err(format!("{} knows no leader", seat.name));
                }
                if let Some(first) = &first
                    && first.leader != presence.leader
                {
                    return Err(format!(
                        "{} and {} know different leaders",
                        self.plan.seats[0].name, seat.name
                    ));
                }
            }
            first.get_or_insert(presence);
        }
        first.ok_or_else(|| "it has no nodes".to_owned())
    }

    async fn ask(&self, connection: &Connection) -> Result<Presence, String> {
        let call = connection.call(self.target.probe(), Some(ANSWER_TIMEOUT), |body| {
            self.target.encode_probe(body);
        });
        let answer = timeout(ANSWER_TIMEOUT, call)
            .await
            .map_err(|_| format!("nothing within {ANSWER_TIMEOUT:?}"))?
            .map_err(|error| error.to_string())?;
        self.target
            .probed(answer.body())
            .map_err(|malformed| malformed.to_string())
    }
}
