//! From a checked configuration to a node that serves, and back to an orderly end.

mod connections;
mod cork;
mod dispatch;
mod serving;

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::transport::ClientTlsConfig;

use serving::Serving;

use crate::config::Args;
use crate::disk::OsDisk;
use crate::grpc::{AdminAccess, Admins, KeyValues, States};
use crate::kv::Store;
use crate::metrics::{self, Counters, Sources};
use crate::node::{CONTROL_MAX, Driver, Handle, Keeping, Limits, Parts, REQUESTS_MAX, Roles, TICK};
use crate::raft::{Config, Core, Recovered};
use crate::snapshot::{Found, SnapshotDir, SnapshotError, Stored};
use crate::token::Token;
use crate::transport::{
    IdentityError, LinkEvent, Members, MembersError, PeerEndpoint, dial_members, forget_without_log, store_id,
};
use crate::wal::{Wal, WalError, WalOptions, WalThread};

/// Events of the links that may wait for the node; whoever brings more waits.
const LINK_EVENTS_MAX: usize = 4096;
/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The flags contradict each other or the data directory.
    #[error("{0}")]
    Usage(String),
    /// Somebody else has the port.
    #[error("port {} on {} is in use; stop that process or choose another {flag}", address.port(), address.ip())]
    PortInUse {
        /// The port and where.
        address: SocketAddr,
        /// What chooses it.
        flag: &'static str,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The log cannot be opened, or has failed.
    #[error(transparent)]
    Log(#[from] WalError),
    /// The snapshots cannot be read or kept.
    #[error("{0}")]
    Snapshots(#[from] SnapshotError),
    /// The number of the store or the names of the peers cannot be read or kept.
    #[error("{0}")]
    Members(String),
    /// The server's transport failed.
    #[error("cannot serve")]
    Serve(#[from] tonic::transport::Error),
}

impl NodeError {
    /// Exit code of a node that ends with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            NodeError::Usage(_) | NodeError::Log(WalError::WrongNode { .. }) => 2,
            NodeError::Log(WalError::Corrupt(_)) => 6,
            _ => 5,
        }
    }
}

/// Runs a node until `stop` completes, then finishes what was begun. `listening` is told what it listens on, line by line,
/// as soon as it does.
pub async fn run(
    args: Args,
    mut listening: impl FnMut(String),
    stop: impl Future<Output = ()>,
) -> Result<(), NodeError> {
    args.check().map_err(NodeError::Usage)?;
    let token = args.admin_token_file.as_deref().map(Token::read).transpose();
    let token = token.map_err(NodeError::Usage)?;
    let tls = args.tls.load().map_err(NodeError::Usage)?;
    if let Some(warning) = args.exposure() {
        tracing::warn!("{warning}");
    }
    let (server_tls, client_tls) = tls.map(|tls| (tls.server, tls.client)).unzip();
    // Finds certificates and keys that do not belong together before anything is touched.
    let server = serving::server(server_tls)?;
    let connections_max = connections::connections_max(args.max_connections);
    // First of all, so that a busy port leaves nothing behind.
    let ports = Ports::bind(&args).await?;
    let data_dir = args.data_dir();
    forget_without_log(&data_dir).map_err(identity_unknown)?;
    let opened = open_state(&args, &data_dir)?;
    let (snapshots, wal_stats) = (opened.snapshots.clone(), opened.wal.stats());
    let incarnation = random();
    let members = open_members(&args, (client_tls, token.clone()), incarnation, &data_dir)?;
    let own_address = args
        .advertise
        .as_ref()
        .map_or_else(|| own_address(ports.address), |own| own.address.clone());
    let Assembled {
        driver,
        node,
        link_events,
        leader_known,
        counters,
    } = assemble(&args, opened, &members, &own_address)?;

    let dialling = tokio::spawn(dial_members(members.clone(), link_events.clone()));
    let name = args.node_id.0.as_str();
    listening(format!("listening on {}", ports.address));
    let metrics = ports.metrics.map(|(listener, at)| {
        listening(format!("metrics on http://{at}/metrics"));
        let sources = Sources {
            node: node.clone(),
            node_id: name.into(),
            counters: counters.clone(),
            wal: wal_stats,
        };
        tokio::spawn(metrics::serve(listener, sources))
    });
    let serving = Serving {
        server,
        listener: ports.listener,
        connections_max,
        service: KeyValues::new(node.clone(), name, own_address, incarnation, counters),
        admins: Admins::new(
            node.clone(),
            name,
            AdminAccess::new(token, args.listen.is_loopback()),
        ),
        states: States::new(node.clone(), name, incarnation, members.clone()),
        peers: PeerEndpoint::new(members, link_events, snapshots),
        leader_known,
        node,
        driver,
    };
    let served = serving.until(stop).await;
    dialling.abort();
    metrics.inspect(tokio::task::JoinHandle::abort);
    served
}

/// The node's task and the ways to it.
struct Assembled {
    driver: Driver,
    node: Handle,
    link_events: mpsc::Sender<LinkEvent>,
    leader_known: watch::Receiver<bool>,
    counters: Arc<Counters>,
}

/// Puts the parts of a node together.
fn assemble(
    args: &Args,
    opened: Opened,
    members: &Arc<Members>,
    own_address: &str,
) -> Result<Assembled, NodeError> {
    let (link_events, links) = mpsc::channel(LINK_EVENTS_MAX);
    let (requests_in, requests) = mpsc::channel(REQUESTS_MAX);
    let (control_in, control) = mpsc::channel(CONTROL_MAX);
    let (durable_in, durable) = mpsc::unbounded_channel();
    let (has_leader, leader_known) = watch::channel(false);
    let (applied, applied_known) = watch::channel(opened.store.applied());
    let (roles, counters) = (Roles::new(), Arc::new(Counters::default()));
    let node = Handle::new(requests_in, control_in, applied_known, roles.reader());
    let wal = WalThread::start(opened.wal, move |progress| {
        // A node that has stopped listening has stopped promising.
        let _ = durable_in.send(progress);
    });
    let core = Core::new(core_config(args, members), opened.recovered);
    let configuration = core.configuration().map(|(_, known)| known.clone());
    let voters = configuration.as_ref().map_or(1, |known| known.voters().count());
    if args.single_node && voters > 1 {
        let why = format!(
            "this directory belongs to a node of a cluster with {voters} voters; start it with --peers instead of \
             --single-node"
        );
        return Err(NodeError::Usage(why));
    }
    members
        .update(configuration.as_deref())
        .map_err(members_unknown)?;
    let limits = Limits {
        entries: args.snapshot_entries,
        bytes: args.snapshot_bytes,
        trailing: args.snapshot_trailing,
        rate: args.snapshot_rate,
    };
    let keeping = Keeping::new(opened.snapshots, opened.newest, limits, link_events.clone());
    let parts = Parts {
        core,
        wal,
        members: members.clone(),
        links,
        requests,
        control,
        durable,
        has_leader,
        applied,
        roles,
        own_address: own_address.to_owned(),
        counters: counters.clone(),
    };
    Ok(Assembled {
        driver: Driver::new(parts, opened.store, keeping),
        node,
        link_events,
        leader_known,
        counters,
    })
}

/// Where a node listens.
struct Ports {
    listener: TcpListener,
    address: SocketAddr,
    metrics: Option<(TcpListener, SocketAddr)>,
}

impl Ports {
    async fn bind(args: &Args) -> Result<Ports, NodeError> {
        let (listener, address) = listen(SocketAddr::new(args.listen, args.port), "--port").await?;
        let metrics = match args.metrics_port {
            Some(port) => Some(listen(SocketAddr::new(args.listen, port), "--metrics-port").await?),
            None => None,
        };
        Ok(Ports {
            listener,
            address,
            metrics,
        })
    }
}

async fn listen(address: SocketAddr, flag: &'static str) -> Result<(TcpListener, SocketAddr), NodeError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => NodeError::PortInUse { address, flag },
        _ => NodeError::Listen { address, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// What a node remembers.
struct Opened {
    wal: Wal,
    recovered: Recovered,
    store: Store,
    snapshots: SnapshotDir,
    newest: Option<Stored>,
}

/// Reads the newest snapshot and the log behind it.
fn open_state(args: &Args, data_dir: &Path) -> Result<Opened, NodeError> {
    let disk = Arc::new(OsDisk);
    let log_dir = data_dir.join("wal");
    // The lock covers the snapshots as well, so it comes first; and they say where the log must reach.
    let lock = Wal::lock(&*disk, &log_dir)?;
    let (snapshots, Found { newest, damaged }) =
        SnapshotDir::open(disk.clone(), &data_dir.join("snapshots"))?;
    for error in &damaged {
        tracing::error!("set aside a damaged snapshot: {error}{}", causes(error));
    }
    let (newest, store) = newest.map_or_else(
        || (None, Store::default()),
        |(stored, store)| (Some(stored), store),
    );
    let snapshot = newest
        .as_ref()
        .map(|stored| stored.meta.clone())
        .unwrap_or_default();
    let (wal, mut recovered, found) =
        Wal::open_locked(disk, &log_dir, wal_options(args), snapshot.last, lock)?;
    recovered.snapshot = snapshot;
    if let Some(cut) = &found.cut {
        tracing::warn!(file = %cut.path.display(), bytes = cut.bytes, "cut an unfinished write off the log: {}", cut.reason);
    }
    if found.mended > 0 {
        tracing::warn!(
            places = found.mended,
            "single damaged bytes in the log were made up for; nothing is lost, but look at the disk"
        );
    }
    if let Some(damage) = &found.damage {
        tracing::error!(
            file = %damage.path.display(), byte = damage.offset_bytes, frame = damage.frame,
            first_index = damage.index_first, last_index = damage.index_last.unwrap_or_default(),
            "acknowledged entries are damaged and gone: {}; this node votes for nobody who lacks them until it has them back \
             from the others, and the damaged files are kept", damage.what
        );
    }
    tracing::info!(
        entries = recovered.entries.len(),
        snapshot = recovered.snapshot.last.index,
        term = recovered.hard_state.term,
        "log opened"
    );
    Ok(Opened {
        wal,
        recovered,
        store,
        snapshots,
        newest,
    })
}

fn open_members(
    args: &Args,
    (tls, token): (Option<ClientTlsConfig>, Option<Token>),
    incarnation: u64,
    data_dir: &Path,
) -> Result<Arc<Members>, NodeError> {
    let store_id = store_id(data_dir, random()).map_err(identity_unknown)?;
    Members::open(
        &args.node_id.0,
        incarnation,
        store_id,
        &args.peers,
        args.join,
        data_dir,
    )
    .map(|members| Arc::new(members.with_credentials(tls, token).with_loyalty(loyal_ms(args))))
    .map_err(members_unknown)
}

fn members_unknown(error: MembersError) -> NodeError {
    match error {
        MembersError::Disk { .. } | MembersError::Damaged { .. } => {
            NodeError::Members(format!("{error}{}", causes(&error)))
        }
        _ => NodeError::Usage(error.to_string()),
    }
}

fn identity_unknown(error: IdentityError) -> NodeError {
    NodeError::Members(format!("{error}{}", causes(&error)))
}

fn wal_options(args: &Args) -> WalOptions {
    let mut options = WalOptions::new(&args.node_id.0);
    options.only_copy = args.single_node;
    #[cfg(feature = "mutants")]
    if args.mutant == Some(crate::config::Mutant::AckBeforeDurable) {
        return options.with_ack_before_durable();
    }
    options
}

fn core_config(args: &Args, members: &Members) -> Config {
    let mut config = Config::new(members.own_id, members.voters(), random());
    let shortest = election_ticks(args);
    config.election_ticks = shortest..2 * shortest + 1;
    config.heartbeat_ticks = (shortest / 5).max(1);
    if args.lease_reads {
        config.lease_ms = lease_ms(shortest);
        config.loyal_ms = loyal_ms(args);
    }
    #[cfg(feature = "mutants")]
    {
        config.ack_before_majority = args.mutant == Some(crate::config::Mutant::AckBeforeMajority);
    }
    config
}

fn election_ticks(args: &Args) -> u32 {
    (args.election_timeout.as_millis() / TICK.as_millis()) as u32
}

/// What the node tells its peers of its loyalty: nothing if it would not honour leases after a restart.
fn loyal_ms(args: &Args) -> u64 {
    let shortest = u64::from(election_ticks(args)) * TICK.as_millis() as u64;
    if args.lease_reads { shortest } else { 0 }
}

/// How long a lease may hold if nobody is elected within so many ticks.
fn lease_ms(election_ticks: u32) -> u64 {
    // Who is heard right before a tick counts that one as well, and the timer lets a tick come late by half of one without
    // putting off the next.
    let tick_ms = TICK.as_millis() as u64;
    let loyal_ms = (u64::from(election_ticks) * tick_ms).saturating_sub(tick_ms + tick_ms / 2);
    // A tenth for clocks that do not run at the same speed.
    loyal_ms * 9 / 10
}

/// Where clients reach this node, as far as it can know: not at all if it listens on every address of the machine, which
/// only a lone node may do without `--advertise`.
fn own_address(listening: SocketAddr) -> String {
    match listening.ip() {
        ip if ip.is_unspecified() => String::new(),
        IpAddr::V4(Ipv4Addr::LOCALHOST) => format!("localhost:{}", listening.port()),
        _ => listening.to_string(),
    }
}

/// A number that differs at every start. The standard library seeds its hashers from the system; nothing here needs
/// more than that.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// The causes behind an error, each after a colon.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let step = error.to_string();
        // Some errors print their cause themselves.
        if !text.contains(&step) {
            text.push_str(": ");
            text.push_str(&step);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::PathBuf;

    use super::*;
    use crate::wal::Corruption;

    fn said(error: &NodeError) -> String {
        format!("{error}{}", causes(error))
    }

    #[test]
    fn a_lease_ends_a_tenth_before_the_loyalty_of_the_most_forgetful_follower() {
        assert_eq!(lease_ms(15), 121, "150 ms, less 15 for the ticks, less a tenth");
        for ticks in 5..=6000_u32 {
            let loyal_ms = u64::from(ticks - 1) * 10 - 5;
            let lease_ms = lease_ms(ticks);
            assert!(
                lease_ms > 0 && lease_ms * 10 <= loyal_ms * 9,
                "{ticks} ticks: {lease_ms} ms"
            );
        }
    }

    #[test]
    fn each_cause_is_said_once() {
        let denied = || io::Error::other("permission denied");
        let corrupt = WalError::Corrupt(Box::new(Corruption {
            path: PathBuf::from("/d/wal/1"),
            offset_bytes: 5,
            frame: 1,
            index_first: 1,
            index_last: None,
            what: "permission denied".to_owned(),
        }));
        let errors = [
            NodeError::Log(corrupt),
            NodeError::Log(WalError::Io {
                action: "sync",
                path: PathBuf::from("/d/wal/1"),
                source: denied(),
            }),
            NodeError::Listen {
                address: SocketAddr::from(([127, 0, 0, 1], 1)),
                source: denied(),
            },
            identity_unknown(IdentityError::Disk {
                action: "write",
                path: PathBuf::from("/d/identity"),
                source: denied(),
            }),
        ];
        for error in errors {
            let said = said(&error);
            assert_eq!(said.matches("permission denied").count(), 1, "{said}");
        }
    }
}
