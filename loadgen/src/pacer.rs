//! Wakes the driver when an arrival is due.
//!
//! Never decides what starts: the driver measures its own lateness against the plan.

use std::time::Instant;

/// Waits for arrivals.
#[derive(Debug)]
pub struct Pacer;

impl Pacer {
    /// For plans of up to so many arrivals a second.
    pub fn new(_peak_rate: f64) -> Pacer {
        Pacer
    }

    /// Waits until `due`; for ever without one.
    pub async fn wait_until(&mut self, due: Option<Instant>) {
        match due {
            Some(due) => tokio::time::sleep_until(due.into()).await,
            None => std::future::pending().await,
        }
    }
}
