//! Free ports, as the system hands them out.
//!
//! A port is free when it is read, and may be taken by somebody else before the node listens on it. Then the node ends, and
//! the cluster is started once more on other ports: see [`super::LocalCluster::start`].

use std::io;
use std::net::TcpListener;

/// So many ports on 127.0.0.1 on which nobody listens at this moment, all different.
pub(super) fn free(count: usize) -> io::Result<Vec<u16>> {
    // All are held until the last one is known, so that none is handed out twice.
    let held: Vec<_> = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<io::Result<_>>()?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ports_are_all_different() {
        let mut ports = free(40).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 40);
        assert!(!ports.contains(&0));
    }
}
