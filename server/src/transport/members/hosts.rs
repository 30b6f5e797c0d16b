//! Where a peer is known to be, for those who check its certificate.

use super::Members;
use crate::raft::NodeId;

/// The hosts of a peer.
pub(in crate::transport) struct Hosts {
    /// Those known so far, from the command line and from the log.
    pub(in crate::transport) names: Vec<String>,
    /// It was found behind an address that this node dials; otherwise it may yet turn up at another host.
    pub(in crate::transport) found: bool,
}

impl Members {
    /// Where a peer is known to be. `None` if this node does not know the name at all.
    pub(in crate::transport) fn hosts_of(&self, name: &str) -> Option<Hosts> {
        let known = self.lock();
        let id = NodeId::of(name);
        known.names.get(&id).filter(|named| named.name == name)?;
        let slots = known
            .slots
            .iter()
            .filter(|slot| slot.name.as_deref() == Some(name));
        let found = slots.clone().any(|slot| !slot.gone);
        let configured = known.configured.as_ref();
        let member = configured.and_then(|configured| configured.members.get(&id));
        let addresses = slots
            .map(|slot| slot.address.as_str())
            .chain(member.map(|(_, address)| address.as_str()));
        let mut names: Vec<String> = addresses.filter_map(host).collect();
        names.sort_unstable();
        names.dedup();
        Some(Hosts { names, found })
    }
}

/// The host in `host:port`; that of an IPv6 address without its brackets.
fn host(address: &str) -> Option<String> {
    let (host, _) = address.rsplit_once(':')?;
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    Some(inside.unwrap_or(host).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_what_stands_before_the_port() {
        for (address, expected) in [
            ("localhost:1", Some("localhost")),
            ("10.0.0.1:50051", Some("10.0.0.1")),
            ("[::1]:2", Some("::1")),
            ("", None),
        ] {
            assert_eq!(host(address).as_deref(), expected, "{address:?}");
        }
    }
}
