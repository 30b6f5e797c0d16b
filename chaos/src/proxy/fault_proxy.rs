//! One set of calls over the two implementations.
//!
//! An enum instead of a trait object: there are two, the calls are async, and nobody outside needs a third.

use std::net::SocketAddr;

#[cfg(feature = "toxiproxy")]
use super::Remote;
use super::{Counters, Embedded, ProxyError, ProxyInfo, Toxic};

/// A server of fault proxies, in this process or elsewhere.
#[derive(Debug)]
pub enum FaultProxy {
    /// In this process.
    Embedded(Embedded),
    /// A running toxiproxy-server.
    #[cfg(feature = "toxiproxy")]
    Remote(Remote),
}

/// Calls the same method on whichever implementation it is.
macro_rules! either {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self {
            Self::Embedded(embedded) => embedded.$method($($argument),*).await,
            #[cfg(feature = "toxiproxy")]
            Self::Remote(remote) => remote.$method($($argument),*).await,
        }
    };
}

impl FaultProxy {
    /// Proxies in this process. All their randomness comes from `seed`.
    pub fn embedded(seed: u64) -> Self {
        Self::Embedded(Embedded::new(seed))
    }

    /// Proxies of the toxiproxy-server at `url` (`http://host:port` or `host:port`), which must be running.
    #[cfg(feature = "toxiproxy")]
    pub async fn remote(url: &str) -> Result<Self, ProxyError> {
        Remote::connect(url).await.map(Self::Remote)
    }

    /// Proxies of a toxiproxy-server, which this build cannot drive.
    #[cfg(not(feature = "toxiproxy"))]
    pub async fn remote(url: &str) -> Result<Self, ProxyError> {
        Err(ProxyError::Invalid {
            what: format!(
                "cannot drive the toxiproxy server at {url}: built without the feature `toxiproxy`; build with it \
                 or use the embedded proxy"
            ),
        })
    }

    /// Creates an enabled proxy to `upstream` on a free port of the loopback and returns its address.
    ///
    /// The loopback is that of the machine the proxy runs on; for a server elsewhere use [`Self::create_at`].
    pub async fn create(&self, name: &str, upstream: &str) -> Result<SocketAddr, ProxyError> {
        self.create_at(name, "127.0.0.1:0", upstream).await
    }

    /// Creates an enabled proxy that listens on `listen`; port 0 finds a free one.
    pub async fn create_at(
        &self,
        name: &str,
        listen: &str,
        upstream: &str,
    ) -> Result<SocketAddr, ProxyError> {
        either!(self.create_at(name, listen, upstream))
    }

    /// Opens the listener, or closes it and cuts all connections: whoever connects then is refused.
    pub async fn set_enabled(&self, proxy: &str, enabled: bool) -> Result<(), ProxyError> {
        either!(self.set_enabled(proxy, enabled))
    }

    /// Adds a toxic behind those that are there; it works on live connections too.
    pub async fn add_toxic(&self, proxy: &str, toxic: Toxic) -> Result<(), ProxyError> {
        either!(self.add_toxic(proxy, toxic))
    }

    /// Gives the toxic of that name new numbers or another toxicity; type and stream stay.
    pub async fn update_toxic(&self, proxy: &str, toxic: &Toxic) -> Result<(), ProxyError> {
        either!(self.update_toxic(proxy, toxic))
    }

    /// Takes a toxic away. What it held is delivered at once; where it has dropped bytes (`timeout`), the connections
    /// are closed.
    pub async fn remove_toxic(&self, proxy: &str, toxic: &str) -> Result<(), ProxyError> {
        either!(self.remove_toxic(proxy, toxic))
    }

    /// One proxy as it stands.
    pub async fn proxy(&self, name: &str) -> Result<ProxyInfo, ProxyError> {
        either!(self.proxy(name))
    }

    /// All proxies as they stand, by name.
    pub async fn proxies(&self) -> Result<Vec<ProxyInfo>, ProxyError> {
        either!(self.proxies())
    }

    /// Takes all toxics off one proxy and enables it.
    pub async fn reset(&self, proxy: &str) -> Result<(), ProxyError> {
        either!(self.reset(proxy))
    }

    /// Takes all toxics off all proxies of the server and enables them.
    pub async fn reset_all(&self) -> Result<(), ProxyError> {
        either!(self.reset_all())
    }

    /// Closes a proxy with its connections and forgets it.
    pub async fn delete(&self, proxy: &str) -> Result<(), ProxyError> {
        either!(self.delete(proxy))
    }

    /// Deletes all proxies; on a remote server only those that were created through this value, others may have theirs
    /// there.
    pub async fn delete_all(&self) -> Result<(), ProxyError> {
        either!(self.delete_all())
    }

    /// What a proxy has done since it was created; `None` from a remote server, which does not tell.
    pub async fn counters(&self, proxy: &str) -> Result<Option<Counters>, ProxyError> {
        match self {
            Self::Embedded(embedded) => embedded.counters(proxy).await.map(Some),
            #[cfg(feature = "toxiproxy")]
            Self::Remote(remote) => remote.proxy(proxy).await.map(|_| None),
        }
    }

    /// Deletes what was created through this value and waits until it is gone. Later calls fail.
    pub async fn shutdown(&self) {
        either!(self.shutdown());
    }
}
