//! What a run writes down while it goes on.

use std::fs::File;
use std::sync::{Arc, Mutex};

use loadgen::{HistoryTarget, Outputs};
use reports::record::{Event, HistoryWriter, RecordError, RunFolder};

use super::Failure;
use crate::cluster::ClusterError;

/// The history, on disk as it comes and in memory for the checkers.
#[derive(Clone)]
pub(super) struct Journal(Arc<Mutex<(HistoryWriter, Vec<Event>)>>);

impl Journal {
    pub(super) fn create(folder: &RunFolder) -> Result<Journal, RecordError> {
        Ok(Journal(Arc::new(Mutex::new((
            folder.history_writer()?,
            Vec::new(),
        )))))
    }

    pub(super) fn outputs(&self, folder: &RunFolder) -> Result<Outputs, Failure> {
        let journal = self.clone();
        let path = folder.file("latency.hlog");
        let log = File::create(&path).map_err(|source| ClusterError::Folder { path, source })?;
        Ok(Outputs {
            history: HistoryTarget::Stream(Box::new(move |event| {
                journal.append(event).map_err(std::io::Error::other)
            })),
            latency_log: Some(Box::new(log)),
            intervals: None,
        })
    }

    pub(super) fn append(&self, event: &Event) -> Result<(), RecordError> {
        let mut journal = self.0.lock().expect("nobody panics while holding the journal");
        journal.0.append(event)?;
        journal.1.push(event.clone());
        Ok(())
    }

    /// Everything, in the order of time, with the file complete.
    pub(super) fn finish(self) -> Result<Vec<Event>, RecordError> {
        let mut journal = self.0.lock().expect("nobody panics while holding the journal");
        journal.0.flush()?;
        Ok(std::mem::take(&mut journal.1))
    }
}
