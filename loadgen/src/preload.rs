//! Fills a store with the records that a workload asks for, and makes sure that they are there.
//!
//! Promises that every record has been acknowledged when it is done, that what it did stands in the history like any other
//! operation, and that a record which nobody takes ends it with an error. Never measures: it goes as fast as the store
//! takes it, so its latencies would mean nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reports::record::{Function, Value};
use thiserror::Error;
use tokio::task::JoinSet;

use crate::client::{Call, Client};
use crate::history::{HistoryLog, Wording};
use crate::outcome::{Answer, Failure, Outcome};
use crate::workload::Workload;

/// Records written at the same time.
const LANES: u64 = 64;
/// Longest that one record may take, all tries together.
const RECORD_TIMEOUT: Duration = Duration::from_secs(30);

/// Keys that are named where many are wrong.
const LISTED_MAX: usize = 20;

/// Why the records are not there.
#[derive(Debug, Error)]
#[error("record `{key}` could not be written: {failure}")]
pub struct PreloadError {
    /// Of which key.
    pub key: String,
    /// What happened.
    pub failure: Failure,
}

/// Writes all records of the workload. Processes are numbered from `first_process` on; the first one not used is
/// returned. `progress` is told how many are done.
pub(crate) async fn preload(
    client: &Client,
    workload: &Arc<Workload>,
    log: &Arc<HistoryLog>,
    first_process: u64,
    mut progress: impl FnMut(u64),
) -> Result<u64, PreloadError> {
    let mut lanes = JoinSet::new();
    let count = LANES.min(workload.key_count());
    let next = Arc::new(AtomicU64::new(0));
    let process_ids = Arc::new(AtomicU64::new(first_process));
    for _ in 0..count {
        let (client, workload, log) = (client.clone(), Arc::clone(workload), Arc::clone(log));
        let (next, process_ids) = (Arc::clone(&next), Arc::clone(&process_ids));
        lanes.spawn(async move {
            let mut written = 0;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= workload.key_count() {
                    return Ok(written);
                }
                write(&client, &workload, &log, &process_ids, number).await?;
                written += 1;
            }
        });
    }
    let mut done = 0;
    while let Some(lane) = lanes.join_next().await {
        match lane {
            Ok(written) => done += written?,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => continue,
            },
        }
        progress(done);
    }
    Ok(process_ids.load(Ordering::Relaxed))
}

/// What reading all records back found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    /// As written.
    pub(crate) intact: u64,
    /// Not there, or not answered for.
    pub(crate) missing: Vec<String>,
    /// With another value.
    pub(crate) wrong: Vec<String>,
}

/// Reads all records of the workload back. Lists of keys are cut off at [`LISTED_MAX`].
pub(crate) async fn verify(client: &Client, workload: &Arc<Workload>) -> Verified {
    let mut lanes = JoinSet::new();
    let count = LANES.min(workload.key_count());
    for lane in 0..count {
        let (client, workload) = (client.clone(), Arc::clone(workload));
        lanes.spawn(async move {
            let mut found = Verified::default();
            for number in (lane..workload.key_count()).step_by(count as usize) {
                let mut expected = String::new();
                workload.record_into(&mut expected, number);
                let key = workload.key(number);
                let result = client.get(&key, Instant::now() + RECORD_TIMEOUT).await;
                match result.answer() {
                    Some(Answer::Read {
                        value: Some(value), ..
                    }) if *value == expected => found.intact += 1,
                    Some(Answer::Read { value: Some(_), .. }) => found.wrong.push(key.to_string()),
                    _ => found.missing.push(key.to_string()),
                }
                found.missing.truncate(LISTED_MAX);
                found.wrong.truncate(LISTED_MAX);
            }
            found
        });
    }
    let mut all = Verified::default();
    for found in lanes.join_all().await {
        all.intact += found.intact;
        all.missing.extend(found.missing);
        all.wrong.extend(found.wrong);
    }
    all.missing.truncate(LISTED_MAX);
    all.wrong.truncate(LISTED_MAX);
    all
}

/// Writes one record until it is acknowledged. A try of unknown outcome is repeated under another process: the same value
/// twice is the same record.
async fn write(
    client: &Client,
    workload: &Workload,
    log: &HistoryLog,
    process_ids: &AtomicU64,
    number: u64,
) -> Result<(), PreloadError> {
    let mut value = String::new();
    let name = workload.record_into(&mut value, number).to_owned();
    let key = workload.key(number);
    let call = Call::Put {
        key: Arc::clone(&key),
        value,
    };
    let deadline = Instant::now() + RECORD_TIMEOUT;
    loop {
        let wording = Wording {
            process: process_ids.fetch_add(1, Ordering::Relaxed),
            function: Function::Write,
            key: Arc::clone(&key),
            value: Value::One(name.clone()),
        };
        log.append(wording.invocation());
        let result = client.execute(&call, deadline).await;
        let (event, _) = wording.completion(&result, workload);
        log.append(event);
        match result.outcome {
            Outcome::Ok(_) => return Ok(()),
            Outcome::Unknown(_) if Instant::now() < deadline => {}
            Outcome::Failed(failure) | Outcome::Unknown(failure) => {
                let key = key.to_string();
                return Err(PreloadError { key, failure });
            }
        }
    }
}
