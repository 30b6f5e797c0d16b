//! The embedded proxy: all of Toxiproxy's faults inside this process, from a seed.
//!
//! It promises that a change is in force on every live connection when the call that made it returns, that the same
//! seed draws the same numbers, and that nothing outlives it: dropping it, or [`Embedded::shutdown`] to wait for the
//! end, closes every listener, connection and task. It never reorders bytes and never loses any, unless a toxic says so.
//!
//! Where it differs from the Go server, on purpose: an end of stream waits as long as data would in `latency` (a
//! jammed link must not tell that the other side has died), a half-closed connection still gets its answer, and a
//! disabled proxy keeps its port.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use tokio::net::TcpListener;
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};

use super::api::ApiTask;
use super::connection::{Link, Setup};
use super::counters::Tally;
use super::gate::{Gate, reserve, resolve};
use super::stage::{Placed, fnv1a};
use super::toxic::check_name;
use super::{Counters, ProxyError, ProxyInfo, Toxic, ToxicKind};

/// An in-process fault proxy. Connections run on the tokio runtime that its proxies are created on.
#[derive(Debug)]
pub struct Embedded {
    registry: Arc<Registry>,
    apis: std::sync::Mutex<Vec<ApiTask>>,
}

impl Embedded {
    /// A proxy server without proxies. All its randomness (toxicity, jitter, slicing) comes from `seed`.
    pub fn new(seed: u64) -> Self {
        let registry = Registry {
            seed,
            state: Mutex::new(State::default()),
        };
        Self {
            registry: Arc::new(registry),
            apis: std::sync::Mutex::default(),
        }
    }

    /// Creates an enabled proxy and returns where it listens; port 0 in `listen` finds a free one.
    pub async fn create_at(
        &self,
        name: &str,
        listen: &str,
        upstream: &str,
    ) -> Result<SocketAddr, ProxyError> {
        check_name("proxy", name)?;
        self.registry
            .create(name, listen, upstream, true)
            .await?
            .listen
            .parse()
            .map_err(|error| ProxyError::Invalid {
                what: format!("the address of proxy `{name}` cannot be read back: {error}"),
            })
    }

    /// Opens or closes the listener; closing also cuts all connections.
    pub async fn set_enabled(&self, proxy: &str, enabled: bool) -> Result<(), ProxyError> {
        let change = ProxyChange {
            enabled: Some(enabled),
            ..ProxyChange::default()
        };
        self.registry.change(proxy, change).await.map(drop)
    }

    /// Adds a toxic behind those that are there, on live connections too.
    pub async fn add_toxic(&self, proxy: &str, toxic: Toxic) -> Result<(), ProxyError> {
        toxic.check()?;
        self.registry.add_toxic(proxy, toxic).await
    }

    /// Gives the toxic of that name new numbers or another toxicity; type and stream stay.
    pub async fn update_toxic(&self, proxy: &str, toxic: &Toxic) -> Result<(), ProxyError> {
        toxic.check()?;
        self.registry
            .update_toxic(proxy, &toxic.name, toxic.toxicity, toxic.kind)
            .await
    }

    /// Takes a toxic away; what it held is delivered at once.
    pub async fn remove_toxic(&self, proxy: &str, toxic: &str) -> Result<(), ProxyError> {
        self.registry.remove_toxic(proxy, toxic).await
    }

    /// One proxy as it stands.
    pub async fn proxy(&self, name: &str) -> Result<ProxyInfo, ProxyError> {
        self.registry.proxy(name).await
    }

    /// All proxies as they stand, by name.
    pub async fn proxies(&self) -> Result<Vec<ProxyInfo>, ProxyError> {
        self.registry.proxies().await
    }

    /// Takes all toxics off one proxy and enables it.
    pub async fn reset(&self, proxy: &str) -> Result<(), ProxyError> {
        self.registry.reset(Some(proxy)).await
    }

    /// Takes all toxics off all proxies and enables them.
    pub async fn reset_all(&self) -> Result<(), ProxyError> {
        self.registry.reset(None).await
    }

    /// Closes a proxy with its connections and forgets it.
    pub async fn delete(&self, proxy: &str) -> Result<(), ProxyError> {
        self.registry.delete(proxy).await
    }

    /// Closes and forgets all proxies.
    pub async fn delete_all(&self) -> Result<(), ProxyError> {
        self.registry.delete_all().await
    }

    /// What a proxy has done since it was created.
    pub async fn counters(&self, proxy: &str) -> Result<Counters, ProxyError> {
        let mut state = self.registry.state.lock().await;
        Ok(state.entry(proxy)?.tally.snapshot())
    }

    /// Serves Toxiproxy's HTTP API on `listener` until the proxy is shut down or dropped, so that `toxiproxy-cli` and
    /// other clients can look at these proxies and change them.
    pub fn serve_api(&self, listener: TcpListener) -> std::io::Result<SocketAddr> {
        let addr = listener.local_addr()?;
        let task = ApiTask::start(listener, Arc::clone(&self.registry));
        self.apis
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(task);
        Ok(addr)
    }

    /// Closes every listener, connection and task, and waits until they are closed. Later calls return
    /// [`ProxyError::ShutDown`].
    pub async fn shutdown(&self) {
        let apis = std::mem::take(&mut *self.apis.lock().unwrap_or_else(PoisonError::into_inner));
        for api in apis {
            api.stop().await;
        }
        self.registry.close().await;
    }
}

/// What an update of a proxy names; the rest stays.
#[derive(Debug, Default)]
pub(super) struct ProxyChange {
    pub(super) listen: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) enabled: Option<bool>,
}

/// The proxies, behind one lock: changes happen one after the other, traffic never takes it.
#[derive(Debug)]
pub(super) struct Registry {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    closed: bool,
}

impl State {
    fn entry(&mut self, name: &str) -> Result<&mut Entry, ProxyError> {
        if self.closed {
            return Err(ProxyError::ShutDown);
        }
        self.entries
            .get_mut(name)
            .ok_or_else(|| ProxyError::ProxyNotFound {
                proxy: name.to_owned(),
            })
    }
}

impl Registry {
    async fn open_state(&self) -> Result<MutexGuard<'_, State>, ProxyError> {
        let state = self.state.lock().await;
        if state.closed {
            Err(ProxyError::ShutDown)
        } else {
            Ok(state)
        }
    }

    pub(super) async fn create(
        &self,
        name: &str,
        listen: &str,
        upstream: &str,
        enabled: bool,
    ) -> Result<ProxyInfo, ProxyError> {
        let mut state = self.open_state().await?;
        if state.entries.contains_key(name) {
            return Err(ProxyError::ProxyExists {
                proxy: name.to_owned(),
            });
        }
        let mut entry = Entry::new(self.seed, name, listen, upstream).await?;
        if enabled {
            entry.open()?;
        }
        let info = entry.info();
        state.entries.insert(name.to_owned(), entry);
        Ok(info)
    }

    /// As `create`, but a proxy of that name gives way, unless it is the same: then it is left alone with its toxics.
    pub(super) async fn create_or_replace(
        &self,
        name: &str,
        listen: &str,
        upstream: &str,
        enabled: bool,
    ) -> Result<ProxyInfo, ProxyError> {
        if let Ok(there) = self.proxy(name).await {
            let same_listen = resolve(listen)
                .await
                .is_ok_and(|addr| addr.to_string() == there.listen);
            if same_listen && there.upstream == upstream {
                return Ok(there);
            }
            self.delete(name).await?;
        }
        self.create(name, listen, upstream, enabled).await
    }

    pub(super) async fn proxy(&self, name: &str) -> Result<ProxyInfo, ProxyError> {
        Ok(self.open_state().await?.entry(name)?.info())
    }

    pub(super) async fn proxies(&self) -> Result<Vec<ProxyInfo>, ProxyError> {
        Ok(self
            .open_state()
            .await?
            .entries
            .values()
            .map(Entry::info)
            .collect())
    }

    /// Another address or upstream cuts the connections, then the listener is opened if it is to be enabled.
    pub(super) async fn change(&self, name: &str, change: ProxyChange) -> Result<ProxyInfo, ProxyError> {
        let mut state = self.open_state().await?;
        let entry = state.entry(name)?;
        let enabled = change.enabled.unwrap_or(entry.gate.is_open());
        if let Some(listen) = change.listen {
            entry.move_to(&listen).await?;
        }
        if let Some(upstream) = change.upstream.filter(|upstream| *upstream != entry.upstream) {
            entry.gate.shut(entry.listen).await;
            entry.upstream = upstream;
        }
        if enabled {
            entry.open()?;
        } else {
            entry.gate.shut(entry.listen).await;
        }
        Ok(entry.info())
    }

    pub(super) async fn add_toxic(&self, proxy: &str, toxic: Toxic) -> Result<(), ProxyError> {
        let mut state = self.open_state().await?;
        let entry = state.entry(proxy)?;
        if entry.toxics.iter().any(|placed| placed.toxic.name == toxic.name) {
            return Err(ProxyError::ToxicExists {
                proxy: proxy.to_owned(),
                toxic: toxic.name,
            });
        }
        let id = entry.fresh_id();
        entry.toxics.push(Arc::new(Placed {
            toxic,
            lineage: id,
            generation: id,
        }));
        entry.announce().await;
        Ok(())
    }

    pub(super) async fn update_toxic(
        &self,
        proxy: &str,
        toxic: &str,
        toxicity: f32,
        kind: ToxicKind,
    ) -> Result<(), ProxyError> {
        let mut state = self.open_state().await?;
        let entry = state.entry(proxy)?;
        let at = entry.toxic_at(toxic)?;
        let old = Arc::clone(&entry.toxics[at]);
        if old.toxic.kind.type_name() != kind.type_name() {
            return Err(ProxyError::Invalid {
                what: format!(
                    "toxic `{toxic}` of proxy `{proxy}` is of type {} and cannot become {}; remove it and add another",
                    old.toxic.kind.type_name(),
                    kind.type_name()
                ),
            });
        }
        let generation = entry.fresh_id();
        let toxic = Toxic {
            toxicity,
            kind,
            ..old.toxic.clone()
        };
        entry.toxics[at] = Arc::new(Placed {
            toxic,
            lineage: old.lineage,
            generation,
        });
        entry.announce().await;
        Ok(())
    }

    pub(super) async fn remove_toxic(&self, proxy: &str, toxic: &str) -> Result<(), ProxyError> {
        let mut state = self.open_state().await?;
        let entry = state.entry(proxy)?;
        let at = entry.toxic_at(toxic)?;
        entry.toxics.remove(at);
        entry.announce().await;
        Ok(())
    }

    /// One proxy, or all.
    pub(super) async fn reset(&self, only: Option<&str>) -> Result<(), ProxyError> {
        let mut state = self.open_state().await?;
        if let Some(name) = only {
            return state.entry(name)?.reset().await;
        }
        // One that cannot be opened again must not leave the others broken.
        let mut result = Ok(());
        for entry in state.entries.values_mut() {
            result = result.and(entry.reset().await);
        }
        result
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), ProxyError> {
        let mut state = self.open_state().await?;
        let entry = state.entry(name)?;
        entry.gate.shut(entry.listen).await;
        state.entries.remove(name);
        Ok(())
    }

    async fn delete_all(&self) -> Result<(), ProxyError> {
        let mut state = self.open_state().await?;
        state.clear().await;
        Ok(())
    }

    async fn close(&self) {
        let mut state = self.state.lock().await;
        state.closed = true;
        state.clear().await;
    }
}

impl State {
    async fn clear(&mut self) {
        for entry in self.entries.values_mut() {
            entry.gate.shut(entry.listen).await;
        }
        self.entries.clear();
    }
}

/// One proxy.
#[derive(Debug)]
struct Entry {
    seed: u64,
    name: String,
    listen: SocketAddr,
    upstream: String,
    gate: Gate,
    toxics: Vec<Arc<Placed>>,
    changes: watch::Sender<Arc<Setup>>,
    /// Ends when nobody works by the current setup any more, which happens after it has been replaced.
    retired: mpsc::Receiver<Infallible>,
    tally: Arc<Tally>,
    ids: u64,
}

impl Entry {
    async fn new(seed: u64, name: &str, listen: &str, upstream: &str) -> Result<Self, ProxyError> {
        let (socket, addr) = reserve(listen).await.map_err(|source| ProxyError::Listen {
            proxy: name.to_owned(),
            listen: listen.to_owned(),
            source,
        })?;
        let (in_use, retired) = mpsc::channel(1);
        let (changes, _) = watch::channel(Arc::new(Setup {
            toxics: Vec::new(),
            in_use,
        }));
        Ok(Self {
            seed,
            name: name.to_owned(),
            listen: addr,
            upstream: upstream.to_owned(),
            gate: Gate::Shut {
                reserved: Some(socket),
            },
            toxics: Vec::new(),
            changes,
            retired,
            tally: Arc::default(),
            ids: 0,
        })
    }

    fn info(&self) -> ProxyInfo {
        ProxyInfo {
            name: self.name.clone(),
            listen: self.listen.to_string(),
            upstream: self.upstream.clone(),
            enabled: self.gate.is_open(),
            toxics: self.toxics.iter().map(|placed| placed.toxic.clone()).collect(),
        }
    }

    fn open(&mut self) -> Result<(), ProxyError> {
        let link = Link {
            seed: self.seed,
            proxy: fnv1a(self.name.bytes()),
            upstream: self.upstream.clone(),
            tally: Arc::clone(&self.tally),
            setup: self.changes.subscribe(),
        };
        self.gate
            .open(self.listen, Arc::new(link))
            .map_err(|source| ProxyError::Listen {
                proxy: self.name.clone(),
                listen: self.listen.to_string(),
                source,
            })
    }

    async fn move_to(&mut self, listen: &str) -> Result<(), ProxyError> {
        let failed = |source| ProxyError::Listen {
            proxy: self.name.clone(),
            listen: listen.to_owned(),
            source,
        };
        if resolve(listen).await.map_err(failed)? == self.listen {
            return Ok(());
        }
        let (socket, addr) = reserve(listen).await.map_err(failed)?;
        self.gate.shut(self.listen).await;
        self.gate = Gate::Shut {
            reserved: Some(socket),
        };
        self.listen = addr;
        Ok(())
    }

    async fn reset(&mut self) -> Result<(), ProxyError> {
        if !self.toxics.is_empty() {
            self.toxics.clear();
            self.announce().await;
        }
        self.open()
    }

    fn toxic_at(&self, toxic: &str) -> Result<usize, ProxyError> {
        self.toxics
            .iter()
            .position(|placed| placed.toxic.name == toxic)
            .ok_or_else(|| ProxyError::ToxicNotFound {
                proxy: self.name.clone(),
                toxic: toxic.to_owned(),
            })
    }

    fn fresh_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// Tells every connection of the toxics as they are now, and waits until all work by them.
    async fn announce(&mut self) {
        let (in_use, retired) = mpsc::channel(1);
        let mut before = std::mem::replace(&mut self.retired, retired);
        drop(self.changes.send_replace(Arc::new(Setup {
            toxics: self.toxics.clone(),
            in_use,
        })));
        // Nothing is ever sent; this ends when the last connection has let go of the old setup.
        let _ = before.recv().await;
    }
}
