//! Ports that stay free: a node that is killed must be able to come back on the same one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;
use std::ops::Range;

use super::ClusterError;

/// Below the range that systems take ports for outgoing connections from, so that none of those can sit on a node's port
/// while the node is down.
pub(super) const RANGE: Range<u16> = 20_000..32_000;

/// So many ports on which nobody listens at this moment, from a random place on.
pub(super) fn free(count: usize) -> Result<Vec<u16>, ClusterError> {
    let start = (RandomState::new().build_hasher().finish() % RANGE.len() as u64) as u16;
    let candidates = (RANGE.start + start..RANGE.end).chain(RANGE.start..RANGE.start + start);
    let free: Vec<u16> = candidates
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .take(count)
        .collect();
    if free.len() == count {
        Ok(free)
    } else {
        Err(ClusterError::NoPort)
    }
}
