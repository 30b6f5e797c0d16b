//! From flags to a checked configuration: the only place that knows both.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

/// A node of a replicated key-value store.
///
/// Three nodes on one machine, each in a terminal of its own:
///   server --node-id node1 --port 50051 --peers localhost:50052,localhost:50053
///   server --node-id node2 --port 50052 --peers localhost:50051,localhost:50053
///   server --node-id node3 --port 50053 --peers localhost:50051,localhost:50052
///
/// Exit codes: 0 stopped on request, 2 bad flags or somebody else's data directory, 5 the surroundings failed (port,
/// disk, lock), 6 the log on disk is damaged.
#[derive(Debug, Clone, Parser)]
#[command(name = "server", version, verbatim_doc_comment)]
pub struct Args {
    /// Name of this node, unique in its cluster and the same at every start.
    #[arg(long, value_name = "NAME")]
    pub node_id: NodeName,

    /// Port for clients and peers. 0 takes a free one; the first line on standard output tells which.
    #[arg(long)]
    pub port: u16,

    /// Addresses of all other nodes, separated by commas. A name may be pinned in front: `node2=localhost:50052`.
    #[arg(
        long,
        value_name = "[NAME=]HOST:PORT",
        value_delimiter = ',',
        required_unless_present = "single_node"
    )]
    pub peers: Vec<PeerAddress>,

    /// Wait to be taken in by a running cluster: `--peers` names some of its nodes, and `server ctl member add` on them
    /// does the rest. Only the first start, with an empty data directory, needs it.
    #[arg(long, conflicts_with = "single_node", requires = "peers")]
    pub join: bool,

    /// Run as a cluster of one. Without it `--peers` is demanded, so that forgetting it does not make a second cluster.
    #[arg(long, conflicts_with = "peers")]
    pub single_node: bool,

    /// Address to listen on. The default is reachable from this machine only.
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub listen: IpAddr,

    /// Where the other nodes and clients reach this node, if that is not where it listens. Needed with `--listen 0.0.0.0`
    /// unless the node is alone.
    #[arg(long, value_name = "HOST:PORT")]
    pub advertise: Option<PeerAddress>,

    /// Where log and snapshots are kept [default: data/NODE-ID].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Shortest election timeout; each wait is drawn between this and its double. Heartbeats go out five times as often.
    #[arg(long, value_name = "DURATION", default_value = "150ms", value_parser = humantime::parse_duration)]
    pub election_timeout: Duration,

    /// Take a snapshot when so many entries were applied since the last one.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_entries: u64,

    /// Take one as well when entries of so many bytes were applied since the last one: the log is kept in memory.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub snapshot_bytes: u64,

    /// Keep so many entries before a snapshot in the log, for followers that lag a little, but no more than a quarter of
    /// --snapshot-bytes. For a follower that is being sent a snapshot, up to twice --snapshot-bytes are kept behind it.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub snapshot_trailing: u64,

    /// Send a snapshot to a follower at no more than so many bytes a second, at least 65536; 0: as fast as it goes.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub snapshot_rate: u64,

    /// Connections taken at a time, those of peers included; more are closed at once. As many as there may be open files
    /// (`ulimit -n`), less a few, at most.
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(16..))]
    pub max_connections: usize,

    /// Answer reads that ask for it by the leader's lease, without asking a majority. Linearizable as long as no node's clock
    /// runs a tenth faster than another's. To be given to all nodes or to none, with the same --election-timeout: a leader
    /// answers nothing by lease as long as it has not heard from every voter that it has leases too, and waits no less
    /// long before an election.
    #[arg(long)]
    pub lease_reads: bool,

    /// Demand this token, the content of a file, with every call that changes the cluster and with every call of another
    /// node; all nodes of a cluster have the same. Without it calls that change the cluster are taken only by nodes that
    /// listen on a loopback address, and calls of other nodes by all that have no certificates either.
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<PathBuf>,

    /// Serve metrics for Prometheus on this port, at `/metrics`. 0 takes a free one; the second line on standard output tells
    /// which.
    #[arg(long, value_name = "PORT")]
    pub metrics_port: Option<u16>,

    /// How to log: lines for people, or an object a line for programs.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Certificates.
    #[command(flatten)]
    pub tls: crate::tls::TlsArgs,

    /// What to log on standard error: error, warn, info, debug, trace.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub log: tracing::level_filters::LevelFilter,

    /// Exit as soon as standard input is closed: for a parent process that must not leave nodes behind.
    #[arg(long)]
    pub exit_with_stdin: bool,

    /// Plants a bug (builds with the feature `mutants` only).
    #[cfg(feature = "mutants")]
    #[arg(long, value_name = "BUG", value_enum)]
    pub mutant: Option<Mutant>,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line, for programs.
    Json,
}

/// Planted bugs that the suite must catch.
#[cfg(feature = "mutants")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mutant {
    /// The log claims to be on disk while it is still in memory.
    AckBeforeDurable,
    /// The leader commits what it alone has.
    AckBeforeMajority,
}

impl Args {
    /// Where the log is kept.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("data").join(&self.node_id.0))
    }

    /// Checks what no single flag can check for itself.
    pub fn check(&self) -> Result<(), String> {
        let mut own = vec![SocketAddr::new(self.listen, self.port).to_string()];
        // `localhost` is another machine's business if this node listens on some other address only.
        if self.listen.is_unspecified() || self.listen == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            own.extend(["localhost", "127.0.0.1"].map(|host| format!("{host}:{}", self.port)));
        }
        let mut seen = std::collections::BTreeSet::new();
        for peer in &self.peers {
            if own.contains(&peer.address) {
                return Err(format!(
                    "--peers lists {}, which is this node's own address; list only the other nodes",
                    peer.address
                ));
            }
            if peer.name.as_deref() == Some(&self.node_id.0) {
                return Err(format!(
                    "--peers calls {} {}, which is this node's own name",
                    peer.address, self.node_id.0
                ));
            }
            if !seen.insert(&peer.address) {
                return Err(format!("--peers lists {} twice", peer.address));
            }
        }
        if self.listen.is_unspecified() && self.advertise.is_none() && !self.single_node {
            return Err(format!(
                "--listen {} says that this node listens on every address of its machine, but not at which one the other \
                 nodes and clients reach it; name that with --advertise HOST:{}",
                self.listen, self.port
            ));
        }
        if (1..64 << 10).contains(&self.snapshot_rate) {
            return Err("--snapshot-rate must be 0 or at least 65536 bytes a second".to_owned());
        }
        let (least, most) = (Duration::from_millis(50), Duration::from_secs(60));
        if self.election_timeout < least || self.election_timeout > most {
            return Err(format!(
                "--election-timeout must lie between {least:?} and {most:?}"
            ));
        }
        Ok(())
    }

    /// What to warn of if anybody on the network could act as a node of this cluster.
    pub fn exposure(&self) -> Option<String> {
        let guarded = self.admin_token_file.is_some() || self.tls.tls_cert.is_some();
        (!guarded && !self.listen.is_loopback()).then(|| {
            format!(
                "this node listens on {}, without --tls-cert and without --admin-token-file: anybody who reaches the port \
                 can act as a node of its cluster, and read and change everything",
                self.listen
            )
        })
    }
}

/// Name of a node: letters, digits, `.`, `_` and `-`, at most 64 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(pub String);

impl FromStr for NodeName {
    type Err = String;

    fn from_str(text: &str) -> Result<NodeName, String> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        match text {
            "" | "." | ".." => Err("a node needs a name, such as node1".to_owned()),
            _ if text.len() > 64 => Err(format!("a name has at most 64 characters, not {}", text.len())),
            _ if !text.chars().all(allowed) => {
                Err("a name has letters, digits, '.', '_' and '-' only".to_owned())
            }
            _ => Ok(NodeName(text.to_owned())),
        }
    }
}

/// Where a peer is, and its name if it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Its name; learned at the first contact if absent.
    pub name: Option<String>,
    /// `host:port`.
    pub address: String,
}

impl FromStr for PeerAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<PeerAddress, String> {
        let (name, address) = match text.split_once('=') {
            Some((name, address)) => (Some(name.parse::<NodeName>()?.0), address),
            None => (None, text),
        };
        let expected = "expected host:port, such as localhost:50052";
        let (host, port) = address
            .rsplit_once(':')
            .ok_or_else(|| format!("{expected}: the port is missing"))?;
        if host.is_empty() || host.contains("//") || !host.is_ascii() {
            return Err(format!("{expected}: {host:?} is no host"));
        }
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(PeerAddress {
                name,
                address: address.to_owned(),
            }),
            _ => Err(format!("{expected}: {port:?} is no port")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        let args = Args::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        args.check().map(|()| args)
    }

    #[test]
    fn three_flags_are_enough() {
        let args =
            parse("server --node-id node1 --port 50051 --peers localhost:50052,localhost:50053").unwrap();
        assert_eq!(args.peers.len(), 2);
        assert_eq!(args.data_dir(), PathBuf::from("data/node1"));
    }

    #[test]
    fn a_peer_may_be_named_up_front() {
        let args = parse("server --node-id n1 --port 1 --peers n2=localhost:2").unwrap();
        assert_eq!(args.peers[0].name.as_deref(), Some("n2"));
    }

    #[test]
    fn the_same_port_on_another_address_is_another_node() {
        parse("server --node-id n1 --port 1 --listen 127.0.0.2 --peers localhost:1,127.0.0.3:1").unwrap();
    }

    #[test]
    fn a_node_that_listens_everywhere_says_where_it_is_reached_unless_it_is_alone() {
        parse("server --node-id n1 --port 1 --listen 0.0.0.0 --advertise me:1 --peers host:2").unwrap();
        parse("server --node-id n1 --port 1 --listen 0.0.0.0 --single-node").unwrap();
    }

    #[test]
    fn a_port_that_strangers_reach_unguarded_is_warned_of() {
        let exposed = |flags: &str| {
            let line = format!("server --node-id n1 --port 1 --single-node {flags}");
            parse(&line).unwrap().exposure()
        };
        for listen in ["0.0.0.0", "::", "192.0.2.1"] {
            let warning = exposed(&format!("--listen {listen}")).unwrap();
            assert!(
                warning.contains(listen) && warning.contains("act as a node"),
                "{warning}"
            );
            let token = format!("--listen {listen} --admin-token-file token");
            let tls = format!("--listen {listen} --tls-cert c --tls-key k --tls-ca a");
            assert_eq!((exposed(&token), exposed(&tls)), (None, None));
        }
        for loopback in ["", "--listen 127.0.0.2", "--listen ::1"] {
            assert_eq!(exposed(loopback), None);
        }
    }

    #[test]
    fn mistakes_are_explained() {
        for (line, told) in [
            ("--node-id n1 --port 1", "--peers"),
            ("--node-id n1 --port 1 --peers localhost", "the port is missing"),
            ("--node-id n1 --port 1 --peers localhost:0", "is no port"),
            ("--node-id n1 --port 1 --peers http://localhost:2", "is no host"),
            ("--node-id n/1 --port 1 --peers localhost:2", "letters, digits"),
            (
                "--node-id n1 --port 1 --peers localhost:1,localhost:2",
                "own address",
            ),
            ("--node-id n1 --port 1 --peers 127.0.0.1:1", "own address"),
            (
                "--node-id n1 --port 1 --listen 0.0.0.0 --peers localhost:1",
                "own address",
            ),
            (
                "--node-id n1 --port 1 --listen 0.0.0.0 --peers host:2",
                "name that with --advertise HOST:1",
            ),
            (
                "--node-id n1 --port 1 --listen :: --peers host:2 --join",
                "--advertise",
            ),
            ("--node-id n1 --port 1 --peers localhost:2,localhost:2", "twice"),
            ("--node-id n1 --port 1 --peers n1=localhost:2", "own name"),
            (
                "--node-id n1 --port 1 --peers localhost:2 --single-node",
                "cannot be used with",
            ),
            (
                "--node-id n1 --port 1 --single-node --election-timeout 1ms",
                "--election-timeout",
            ),
            ("--node-id n1 --port 70000 --single-node", "70000"),
            (
                "--node-id n1 --port 1 --single-node --snapshot-rate 5",
                "--snapshot-rate",
            ),
            ("--node-id n1 --port 1 --join", "--peers"),
        ] {
            let error = parse(&format!("server {line}")).unwrap_err();
            assert!(error.contains(told), "{line}: {error}");
        }
    }
}
