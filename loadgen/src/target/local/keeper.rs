//! The parent of a cluster's processes: a thread of its own that starts them, waits for them and removes what they leave.
//!
//! A thread, because Linux ends the children of a *thread* that ends (`PR_SET_PDEATHSIG`, see `loadgen node-exec`): they
//! must hang on one that lives exactly as long as the cluster, whichever thread the caller happens to be on. It is also what
//! lets the drop of a cluster wait until everything is gone without a runtime.
//!
//! Promises: when it has stopped or has been dropped, every process it started is gone and reaped, and a temporary folder is
//! removed. Never starts a process again.

use std::fmt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::thread::JoinHandle;

use tempfile::TempDir;
use tokio::sync::oneshot;

use super::LocalError;

/// A process to start.
pub(super) struct Start {
    pub(super) name: String,
    pub(super) command: Command,
}

/// A process that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) how: String,
}

enum Order {
    /// Which have ended by themselves?
    Look(oneshot::Sender<Vec<Ended>>),
    /// End, and tell which had ended before.
    Stop(oneshot::Sender<Result<Vec<Ended>, std::io::Error>>),
}

/// Keeps the processes of one cluster. Dropping it kills them all and waits until they are gone, some milliseconds.
pub(super) struct Keeper {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Without anybody to take orders from, it ends everything.
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // If it panicked, its children were killed on the way out.
            let _ = thread.join();
        }
    }
}

impl Keeper {
    /// Starts all of them. Returns their process ids, in order; on failure nothing is left running.
    pub(super) async fn start(
        starts: Vec<Start>,
        temporary: Option<TempDir>,
    ) -> Result<(Keeper, Vec<u32>), LocalError> {
        let (orders, taken) = mpsc::channel();
        let (started, pids) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("local-cluster".into())
            .spawn(move || keep(starts, temporary, started, &taken))
            .map_err(|source| LocalError::Spawn {
                node: "all".into(),
                source,
            })?;
        let keeper = Keeper {
            orders: Some(orders),
            thread: Some(thread),
        };
        let pids = pids.await.unwrap_or(Err(LocalError::KeeperGone))?;
        Ok((keeper, pids))
    }

    /// Which processes have ended by themselves.
    pub(super) async fn look(&self) -> Result<Vec<Ended>, LocalError> {
        self.order(Order::Look).await
    }

    /// Ends all processes and removes the temporary folder. Returns those that had ended before.
    pub(super) async fn stop(self) -> Result<Vec<Ended>, LocalError> {
        self.order(Order::Stop)
            .await?
            .map_err(|source| LocalError::NotRemoved { source })
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<T>) -> Order) -> Result<T, LocalError> {
        let (reply, answer) = oneshot::channel();
        let sent = self
            .orders
            .as_ref()
            .is_some_and(|orders| orders.send(order(reply)).is_ok());
        match sent {
            true => answer.await.map_err(|_| LocalError::KeeperGone),
            false => Err(LocalError::KeeperGone),
        }
    }
}

fn keep(
    starts: Vec<Start>,
    temporary: Option<TempDir>,
    started: oneshot::Sender<Result<Vec<u32>, LocalError>>,
    orders: &mpsc::Receiver<Order>,
) {
    // The folder stands before the children so that it is dropped after them.
    let mut temporary = temporary;
    let mut children = Children(Vec::with_capacity(starts.len()));
    for Start { name, mut command } in starts {
        match command.spawn() {
            Ok(child) => children.0.push((name, child)),
            Err(source) => {
                let _ = started.send(Err(LocalError::Spawn { node: name, source }));
                return;
            }
        }
    }
    let pids = children.0.iter().map(|(_, child)| child.id()).collect();
    if started.send(Ok(pids)).is_err() {
        return;
    }
    while let Ok(order) = orders.recv() {
        match order {
            Order::Look(reply) => {
                let _ = reply.send(children.ended());
            }
            Order::Stop(reply) => {
                let ended = children.ended();
                children.end();
                let removed = temporary.take().map_or(Ok(()), TempDir::close);
                let _ = reply.send(removed.map(|()| ended));
                return;
            }
        }
    }
}

/// Killed and reaped when dropped.
struct Children(Vec<(String, Child)>);

impl Children {
    fn ended(&mut self) -> Vec<Ended> {
        let mut ended = Vec::new();
        for (name, child) in &mut self.0 {
            if let Ok(Some(status)) = child.try_wait() {
                ended.push(Ended {
                    name: name.clone(),
                    how: describe(status),
                });
            }
        }
        ended
    }

    /// Kills and reaps them. Gently would take long: etcd waits seconds for its clients to hang up.
    fn end(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
        }
        for (_, child) in &mut self.0 {
            let _ = child.wait();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.end();
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    }
}
