//! Which store, and where: `etcd://10.0.0.1:2379,10.0.0.2:2379`.
//!
//! Promises that what it accepts can be dialled as it stands, and that a refusal says what to write instead. Never looks a
//! name up and never connects.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use super::{Raft, Target, targets};

/// Most nodes that can be named. More is refused, since it is rather a mistake than a cluster.
pub const ENDPOINTS_MAX: usize = 64;

/// A kind of store and its nodes.
///
/// Written as `SCHEME://HOST:PORT,HOST:PORT`. Without a scheme it is the reference store; a scheme without nodes (`etcd://`,
/// or just `etcd`) is a fresh local cluster of that kind; `null://` has no nodes at all.
#[derive(Debug, Clone)]
pub struct Endpoints {
    target: Arc<dyn Target>,
    addresses: Vec<String>,
}

/// Not a target.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidEndpoints {
    /// Neither a known scheme nor an address.
    #[error(
        "`{given}` names no target: write host:port, or begin with one of {}",
        schemes()
    )]
    UnknownScheme {
        /// As given.
        given: String,
    },
    /// One of the nodes is no address.
    #[error("`{address}` is no address of a node: {reason}")]
    InvalidAddress {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One node is named twice.
    #[error("`{address}` is named twice; name each node once")]
    Twice {
        /// As given.
        address: String,
    },
    /// Too many nodes.
    #[error("{given} nodes are named, and at most {ENDPOINTS_MAX} can be")]
    TooMany {
        /// How many.
        given: usize,
    },
    /// A target inside this process has no nodes.
    #[error(
        "{scheme}:// answers inside this process and has no nodes; write `{scheme}://` and nothing behind it"
    )]
    NoNodes {
        /// Its scheme.
        scheme: &'static str,
    },
}

impl Endpoints {
    /// The kind of store.
    pub fn target(&self) -> &Arc<dyn Target> {
        &self.target
    }

    /// Its nodes, as host:port; none for a local cluster yet to be started, and for a target inside this process.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Whether a cluster must be started first: see [`super::LocalCluster`].
    pub fn wants_local_cluster(&self) -> bool {
        self.addresses.is_empty() && !self.target.is_in_process()
    }
}

impl FromStr for Endpoints {
    type Err = InvalidEndpoints;

    fn from_str(given: &str) -> Result<Endpoints, InvalidEndpoints> {
        let unknown = || InvalidEndpoints::UnknownScheme {
            given: given.to_owned(),
        };
        let (target, nodes) = match given.split_once("://") {
            Some((scheme, nodes)) => (by_scheme(scheme).ok_or_else(unknown)?, nodes),
            None => match by_scheme(given) {
                Some(target) => (target, ""),
                None if given.contains(':') => (Arc::new(Raft) as Arc<dyn Target>, given),
                None => return Err(unknown()),
            },
        };
        let addresses = match nodes {
            "" => Vec::new(),
            _ => addresses(nodes)?,
        };
        if target.is_in_process() && !addresses.is_empty() {
            let scheme = target.scheme();
            return Err(InvalidEndpoints::NoNodes { scheme });
        }
        Ok(Endpoints { target, addresses })
    }
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.target.scheme(), self.addresses.join(","))
    }
}

fn by_scheme(scheme: &str) -> Option<Arc<dyn Target>> {
    let mut known = targets().into_iter();
    known.find(|target| target.scheme().eq_ignore_ascii_case(scheme))
}

fn schemes() -> String {
    let schemes: Vec<_> = targets()
        .iter()
        .map(|target| format!("{}://", target.scheme()))
        .collect();
    schemes.join(", ")
}

fn addresses(nodes: &str) -> Result<Vec<String>, InvalidEndpoints> {
    let mut addresses: Vec<String> = Vec::new();
    for address in nodes.split(',').map(str::trim) {
        if let Err(reason) = check(address) {
            let address = address.to_owned();
            return Err(InvalidEndpoints::InvalidAddress { address, reason });
        }
        if addresses.iter().any(|known| known == address) {
            let address = address.to_owned();
            return Err(InvalidEndpoints::Twice { address });
        }
        addresses.push(address.to_owned());
    }
    match addresses.len() {
        ..=ENDPOINTS_MAX => Ok(addresses),
        given => Err(InvalidEndpoints::TooMany { given }),
    }
}

/// Whether this is host and port and nothing else; if not, why.
fn check(address: &str) -> Result<(), &'static str> {
    if address.is_empty() {
        return Err("it is empty; is there a comma too many?");
    }
    if address.contains("://") {
        return Err("a scheme stands once, in front of all nodes");
    }
    if address.contains(['/', '?', '#']) {
        return Err("nothing may follow the port");
    }
    if address.contains('@') {
        return Err("user names are not supported");
    }
    let (host, port) = address
        .rsplit_once(':')
        .ok_or("the port is missing, as in localhost:50051")?;
    match port.parse::<u16>() {
        Ok(1..) if port.bytes().all(|digit| digit.is_ascii_digit()) => {}
        _ => return Err("the port must be a number from 1 to 65535"),
    }
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bracketed {
        Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err("only an IPv6 address stands in brackets"),
        None if host.contains([':', '[', ']']) => {
            Err("an IPv6 address stands in brackets, as in [::1]:50051")
        }
        None if host.is_empty() => Err("the host is missing, as in localhost:50051"),
        None if host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) =>
        {
            Ok(())
        }
        None => Err("a host has letters, digits, '.', '-' and '_' only"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_accepted_and_what_it_means() {
        let table: &[(&str, &str, bool)] = &[
            ("raft://a:1,b:2", "raft://a:1,b:2", false),
            ("a:1,b:2", "raft://a:1,b:2", false),
            ("localhost:50051", "raft://localhost:50051", false),
            ("etcd://127.0.0.1:2379", "etcd://127.0.0.1:2379", false),
            ("etcd://[::1]:2379, b:1", "etcd://[::1]:2379,b:1", false),
            ("ETCD://a:1", "etcd://a:1", false),
            ("echo://a:65535", "echo://a:65535", false),
            ("null://", "null://", false),
            ("null", "null://", false),
            ("raft", "raft://", true),
            ("raft://", "raft://", true),
            ("etcd", "etcd://", true),
            ("echo://", "echo://", true),
        ];
        for (given, shown, local) in table {
            let endpoints: Endpoints = given.parse().unwrap();
            assert_eq!(endpoints.to_string(), *shown, "{given}");
            assert_eq!(endpoints.wants_local_cluster(), *local, "{given}");
            let again: Endpoints = endpoints.to_string().parse().unwrap();
            assert_eq!(again.addresses(), endpoints.addresses(), "{given}");
        }
    }

    #[test]
    fn what_is_refused_and_what_to_write_instead() {
        let table: &[(&str, &str)] = &[
            ("", "raft://, etcd://, echo://, null://"),
            ("localhost", "raft://, etcd://, echo://, null://"),
            ("redis://a:1", "raft://, etcd://, echo://, null://"),
            ("etcd//a:1", "nothing may follow the port"),
            ("raft://a", "the port is missing"),
            ("raft://a:0", "1 to 65535"),
            ("raft://a:70000", "1 to 65535"),
            ("raft://a:+1", "1 to 65535"),
            ("raft://:1", "the host is missing"),
            ("raft://a:1,", "comma too many"),
            ("raft://,a:1", "comma too many"),
            ("raft://a:1/", "nothing may follow"),
            ("raft://a:1?x=y", "nothing may follow"),
            ("raft://a:1,etcd://b:1", "a scheme stands once"),
            ("raft://me@a:1", "user names"),
            ("raft://::1:5", "stands in brackets, as in"),
            ("raft://[::1:5", "stands in brackets, as in"),
            ("raft://[a]:5", "only an IPv6 address"),
            ("raft://a b:5", "letters, digits"),
            ("a:1,b:2,a:1", "`a:1` is named twice"),
            ("null://a:1", "write `null://` and nothing behind it"),
        ];
        for (given, told) in table {
            let error = given.parse::<Endpoints>().unwrap_err().to_string();
            assert!(error.contains(told), "{given:?}: {error}");
        }
    }

    #[test]
    fn more_nodes_than_any_cluster_has_are_refused() {
        let of = |count: usize| {
            let nodes: Vec<_> = (1..=count).map(|port| format!("a:{port}")).collect();
            nodes.join(",").parse::<Endpoints>()
        };
        assert_eq!(of(ENDPOINTS_MAX).unwrap().addresses().len(), ENDPOINTS_MAX);
        assert_eq!(
            of(ENDPOINTS_MAX + 1).unwrap_err(),
            InvalidEndpoints::TooMany {
                given: ENDPOINTS_MAX + 1
            }
        );
    }
}
