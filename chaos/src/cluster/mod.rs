//! A cluster of real processes, with a fault proxy on every link.
//!
//! Each directed link between two nodes, and each node's link to its clients, goes through a proxy of its own: node
//! `n1` reaches `n2` by the address of the proxy `n1-n2`, clients reach it by `client-n2`. Only the observer of this suite
//! talks to nodes directly.
//!
//! Dropping a cluster kills every process of it, also when a test or a run fails half-way; should this process itself be
//! killed, the nodes notice that their standard input is gone and exit.

mod ports;
mod process;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::proxy::{FaultProxy, ProxyError, Stream};

pub use process::{Exit, NodeProcess};

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterSpec {
    /// How many nodes; they are called `n1`, `n2` and so on.
    pub nodes: usize,
    /// Data and log of node `n1` go to `n1/` in here.
    pub folder: PathBuf,
    /// Executable and leading arguments of a node process.
    pub command: Vec<String>,
    /// More arguments for every node.
    pub node_arguments: Vec<String>,
}

/// Why a cluster could not be started or changed: always the surroundings, never the store's promises.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A process could not be started.
    #[error("cannot start node {node} ({program}): {source}")]
    Spawn {
        /// Which node.
        node: String,
        /// What was to be started.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it listened.
    #[error("node {node} ended before it was ready ({exit}); the end of its log {}: {tail}", log.display())]
    EndedEarly {
        /// Which node.
        node: String,
        /// How.
        exit: Exit,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// It did not listen in time.
    #[error("node {node} did not say that it listens within {waited:?}; see {}", log.display())]
    NotReady {
        /// Which node.
        node: String,
        /// How long was waited.
        waited: Duration,
        /// Its log.
        log: PathBuf,
    },
    /// It ended by itself, or not as a healthy node ends.
    #[error("node {node} {what}; the end of its log {}: {tail}", log.display())]
    Crashed {
        /// Which node.
        node: String,
        /// How.
        what: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// A process does not do what it was told.
    #[error("node {node}: {what}")]
    Process {
        /// Which node.
        node: String,
        /// What was tried and what came of it.
        what: String,
    },
    /// A folder or file of a node cannot be made.
    #[error("cannot prepare {}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No port is free.
    #[error("no free port between {} and {}; stop something that listens there", ports::RANGE.start, ports::RANGE.end)]
    NoPort,
    /// A proxy refused.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

impl ClusterError {
    /// Whether this is about a node rather than its surroundings, once the cluster has been up: a node that ends by
    /// itself, or does not come back, fails its users.
    pub fn is_crash(&self) -> bool {
        use ClusterError::{Crashed, EndedEarly, NotReady};
        matches!(self, Crashed { .. } | EndedEarly { .. } | NotReady { .. })
    }
}

/// A running cluster.
pub struct Cluster {
    nodes: Vec<NodeProcess>,
    proxy: FaultProxy,
    client_endpoints: Vec<String>,
    links: Vec<Link>,
}

/// A proxied link.
#[derive(Debug, Clone)]
pub struct Link {
    /// Name of its proxy.
    pub name: String,
    /// Node that dials; `None` for clients.
    pub from: Option<usize>,
    /// Node that is dialled.
    pub to: usize,
    /// Where its proxy listens.
    pub address: SocketAddr,
}

impl Link {
    /// Which stream of its proxy carries bytes from `node` to the other end.
    pub fn stream_from(&self, node: usize) -> Stream {
        if self.from == Some(node) {
            Stream::Upstream
        } else {
            Stream::Downstream
        }
    }
}

impl Cluster {
    /// Makes all proxies and starts all nodes. On failure nothing is left running.
    pub async fn start(spec: &ClusterSpec, proxy: FaultProxy) -> Result<Cluster, ClusterError> {
        let mut cluster = Cluster {
            nodes: Vec::new(),
            proxy,
            client_endpoints: Vec::new(),
            links: Vec::new(),
        };
        match cluster.try_start(spec).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                cluster.shutdown().await;
                Err(error)
            }
        }
    }

    async fn try_start(&mut self, spec: &ClusterSpec) -> Result<(), ClusterError> {
        let ports = ports::free(spec.nodes)?;
        let name = |node: usize| format!("n{}", node + 1);
        for (to, port) in ports.iter().enumerate() {
            let upstream = format!("127.0.0.1:{port}");
            for from in (0..spec.nodes).filter(|from| *from != to) {
                self.add_link(format!("{}-{}", name(from), name(to)), Some(from), to, &upstream)
                    .await?;
            }
            let client = self
                .add_link(format!("client-{}", name(to)), None, to, &upstream)
                .await?;
            self.client_endpoints.push(client.to_string());
        }
        for (node, port) in ports.iter().enumerate() {
            let peers = self.links.iter().filter(|link| link.from == Some(node));
            let peers: Vec<String> = peers
                .map(|link| format!("{}={}", name(link.to), link.address))
                .collect();
            let process = NodeProcess::prepare(spec, name(node), *port, &peers)?;
            self.nodes.push(process);
        }
        for node in &mut self.nodes {
            node.start().await?;
        }
        for node in &mut self.nodes {
            node.ready().await?;
        }
        Ok(())
    }

    async fn add_link(
        &mut self,
        name: String,
        from: Option<usize>,
        to: usize,
        upstream: &str,
    ) -> Result<SocketAddr, ClusterError> {
        let address = self.proxy.create(&name, upstream).await?;
        self.links.push(Link {
            name,
            from,
            to,
            address,
        });
        Ok(address)
    }

    /// The proxies of all links.
    pub fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    /// All links.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// All nodes.
    pub fn nodes(&self) -> &[NodeProcess] {
        &self.nodes
    }

    /// One node, to do something to it.
    pub fn node_mut(&mut self, node: usize) -> &mut NodeProcess {
        &mut self.nodes[node]
    }

    /// Where clients reach the nodes, in their order: through the proxies.
    pub fn client_endpoints(&self) -> &[String] {
        &self.client_endpoints
    }

    /// Ends everything: processes gracefully where they still listen to reason, then the proxies. Says which nodes did
    /// not end as they should.
    pub async fn shutdown(&mut self) -> Vec<ClusterError> {
        let mut crashed = Vec::new();
        for node in &mut self.nodes {
            crashed.extend(node.end().await.err());
        }
        for link in self.links.drain(..) {
            // On a server that is not ours everything else must stay; and one that is gone has no proxies to delete.
            let _ = self.proxy.delete(&link.name).await;
        }
        self.proxy.shutdown().await;
        crashed
    }
}

/// Makes a folder with all its parents.
fn make_folder(path: &Path) -> Result<(), ClusterError> {
    std::fs::create_dir_all(path).map_err(|source| ClusterError::Folder {
        path: path.to_owned(),
        source,
    })
}
