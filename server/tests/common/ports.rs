//! Ports for processes that must know each other's addresses before any of them runs.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range from which the system serves those who ask for any port (32768 and up on Linux), so that a port
/// found free is not given to an outgoing connection a moment later.
const RANGE: std::ops::Range<u16> = 20_000..32_768;

/// Handed out by this process, whose tests run side by side.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Ports that are free now and that no other test of this process has. Another process may still be faster: then the
/// caller takes others.
pub(crate) fn take(count: usize) -> Vec<u16> {
    let mut taken = TAKEN.lock().unwrap();
    let width = u64::from(RANGE.end - RANGE.start);
    let mut found = Vec::new();
    // Each process begins somewhere else.
    let start = RandomState::new().hash_one(std::process::id()) % width;
    for step in 0..width {
        let port = RANGE.start + ((start + step) % width) as u16;
        if !taken.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            taken.insert(port);
            found.push(port);
        }
        if found.len() == count {
            return found;
        }
    }
    panic!("no {count} free ports in {RANGE:?}");
}
