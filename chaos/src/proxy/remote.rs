//! Drives a running toxiproxy-server.
//!
//! The client crate is blocking, must not be created or dropped in async code, ignores HTTP statuses and panics when
//! the network fails. So it lives on one thread of its own, which takes one call after the other, catches panics,
//! and reads every change back before it calls it done.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::remote_worker::Worker;
use super::toxic::check_name;
use super::{ProxyError, ProxyInfo, Toxic, target};

type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// Proxies of a toxiproxy-server elsewhere.
///
/// Dropping it deletes, in the background, the proxies that were created through it; [`Remote::shutdown`] waits for
/// that.
#[derive(Debug)]
pub struct Remote {
    server: SocketAddr,
    thread: Mutex<Option<Thread>>,
}

#[derive(Debug)]
struct Thread {
    jobs: mpsc::Sender<Job>,
    handle: JoinHandle<()>,
}

impl Remote {
    /// Finds the server and checks that it answers.
    pub async fn connect(url: &str) -> Result<Self, ProxyError> {
        let url_owned = url.to_owned();
        let resolved = tokio::task::spawn_blocking(move || target::resolve(&url_owned)).await;
        let server = resolved.map_err(|_| ProxyError::ShutDown)??;
        target::check_environment(server.ip(), |name| std::env::var(name).ok())?;
        let (jobs, queue) = mpsc::channel::<Job>();
        let handle = std::thread::Builder::new()
            .name("toxiproxy-client".to_owned())
            .spawn(move || {
                let mut worker = Worker::new(server);
                while let Ok(job) = queue.recv() {
                    job(&mut worker);
                }
                // Nobody is left to tell of a failure, and a server that is gone has nothing left to delete.
                let _ = catch_unwind(AssertUnwindSafe(|| worker.delete_created()));
            })
            .map_err(|error| ProxyError::Invalid {
                what: format!("cannot start a thread for the toxiproxy client: {error}"),
            })?;
        let remote = Self {
            server,
            thread: Mutex::new(Some(Thread { jobs, handle })),
        };
        remote.call("tell its version", |worker| worker.version()).await?;
        Ok(remote)
    }

    /// Where the server was found.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Creates an enabled proxy and returns where it listens.
    pub async fn create_at(
        &self,
        name: &str,
        listen: &str,
        upstream: &str,
    ) -> Result<SocketAddr, ProxyError> {
        check_name("proxy", name)?;
        let (name, listen, upstream) = (name.to_owned(), listen.to_owned(), upstream.to_owned());
        self.call(format!("create proxy `{name}`"), move |worker| {
            worker.create(&name, &listen, &upstream)
        })
        .await
    }

    /// Opens or closes the listener; closing also cuts all connections.
    pub async fn set_enabled(&self, proxy: &str, enabled: bool) -> Result<(), ProxyError> {
        let proxy = proxy.to_owned();
        let verb = if enabled { "enable" } else { "disable" };
        self.call(format!("{verb} proxy `{proxy}`"), move |worker| {
            worker.set_enabled(&proxy, enabled)
        })
        .await
    }

    /// Adds a toxic behind those that are there.
    pub async fn add_toxic(&self, proxy: &str, toxic: Toxic) -> Result<(), ProxyError> {
        toxic.check()?;
        let proxy = proxy.to_owned();
        let action = format!("add toxic `{}` to proxy `{proxy}`", toxic.name);
        self.call(action, move |worker| worker.add_toxic(&proxy, &toxic))
            .await
    }

    /// Gives the toxic of that name new numbers or another toxicity.
    pub async fn update_toxic(&self, proxy: &str, toxic: &Toxic) -> Result<(), ProxyError> {
        toxic.check()?;
        let (proxy, toxic) = (proxy.to_owned(), toxic.clone());
        let action = format!("update toxic `{}` of proxy `{proxy}`", toxic.name);
        self.call(action, move |worker| worker.update_toxic(&proxy, &toxic))
            .await
    }

    /// Takes a toxic away.
    pub async fn remove_toxic(&self, proxy: &str, toxic: &str) -> Result<(), ProxyError> {
        check_name("toxic", toxic)?;
        let (proxy, toxic) = (proxy.to_owned(), toxic.to_owned());
        let action = format!("remove toxic `{toxic}` from proxy `{proxy}`");
        self.call(action, move |worker| worker.remove_toxic(&proxy, &toxic))
            .await
    }

    /// One proxy as it stands.
    pub async fn proxy(&self, name: &str) -> Result<ProxyInfo, ProxyError> {
        let name = name.to_owned();
        self.call(format!("show proxy `{name}`"), move |worker| worker.proxy(&name))
            .await
    }

    /// All proxies of the server, by name.
    pub async fn proxies(&self) -> Result<Vec<ProxyInfo>, ProxyError> {
        self.call("list its proxies", |worker| worker.proxies()).await
    }

    /// Takes all toxics off one proxy and enables it.
    pub async fn reset(&self, proxy: &str) -> Result<(), ProxyError> {
        let proxy = proxy.to_owned();
        self.call(format!("reset proxy `{proxy}`"), move |worker| {
            worker.reset(&proxy)
        })
        .await
    }

    /// Takes all toxics off all proxies of the server and enables them.
    pub async fn reset_all(&self) -> Result<(), ProxyError> {
        self.call("reset all proxies", |worker| worker.reset_all()).await
    }

    /// Closes a proxy with its connections.
    pub async fn delete(&self, proxy: &str) -> Result<(), ProxyError> {
        let proxy = proxy.to_owned();
        self.call(format!("delete proxy `{proxy}`"), move |worker| {
            worker.delete(&proxy)
        })
        .await
    }

    /// Deletes the proxies that were created through this value.
    pub async fn delete_all(&self) -> Result<(), ProxyError> {
        self.call("delete the proxies created here", |worker| {
            worker.delete_created()
        })
        .await
    }

    /// Deletes what was created through this value and waits for the thread to end.
    pub async fn shutdown(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Thread { jobs, handle }) = thread {
            drop(jobs);
            let _ = tokio::task::spawn_blocking(move || handle.join()).await;
        }
    }

    /// Runs one job on the thread. `action` completes "told to …".
    async fn call<T: Send + 'static>(
        &self,
        action: impl Into<String>,
        job: impl FnOnce(&mut Worker) -> Result<T, ProxyError> + Send + 'static,
    ) -> Result<T, ProxyError> {
        let action = action.into();
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            worker.action = action;
            let result = catch_unwind(AssertUnwindSafe(|| job(worker))).unwrap_or_else(|panic| {
                // The panic may have poisoned the client's lock.
                worker.renew_client();
                Err(worker.panicked(panic_message(&*panic)))
            });
            // A caller that has stopped waiting does not want the answer.
            let _ = answer.send(result);
        });
        {
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
            let thread = thread.as_ref().ok_or(ProxyError::ShutDown)?;
            thread.jobs.send(job).map_err(|_| ProxyError::ShutDown)?;
        }
        answered.await.map_err(|_| ProxyError::ShutDown)?
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say why".to_owned())
}
