//! Where completions gather until somebody takes them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::{Answer, CallError};

/// What became of a call.
#[derive(Debug)]
pub struct Completion {
    /// As given with the call.
    pub token: u64,
    /// When it was read from the connection.
    pub at: Instant,
    /// The answer, or why there is none.
    pub result: Result<Answer, CallError>,
}

/// Completions of calls on any number of connections, for one reader.
#[derive(Debug, Default)]
pub struct Completions {
    arrived: Mutex<Vec<Completion>>,
    notify: Notify,
}

impl Completions {
    /// None yet.
    pub fn new() -> Arc<Completions> {
        Arc::default()
    }

    /// Moves what has arrived to the end of `out`.
    pub fn take_into(&self, out: &mut Vec<Completion>) {
        out.append(&mut self.arrived.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until something has arrived since the last wait. Cancel safe.
    pub async fn ready(&self) {
        self.notify.notified().await;
    }

    /// Adds one and wakes the reader.
    pub fn push(&self, completion: Completion) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.push(completion);
        // The reader empties the list before it waits: only the first one has to wake it.
        if arrived.len() == 1 {
            self.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_batch_wakes_its_reader_once_and_is_taken_in_order() {
        let completions = Completions::new();
        for token in 0..3 {
            let result = Err(CallError::lost("test"));
            completions.push(Completion {
                token,
                at: Instant::now(),
                result,
            });
        }
        completions.ready().await;
        let mut batch = Vec::new();
        completions.take_into(&mut batch);
        let tokens: Vec<u64> = batch.iter().map(|completion| completion.token).collect();
        assert_eq!(tokens, [0, 1, 2]);
    }
}
