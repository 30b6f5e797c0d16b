//! What an agent sends back, in pieces small enough for a message.
//!
//! Promises that a result which was put together is whole: a piece that is missing, damaged or too much is an error that says
//! which. Never believes a size that it has not received.

use proto::agent::{Chunk, Finished, Report, Series, chunk, report};
use reports::record::{Counts, Event, Load, Nanos};
use tokio::sync::mpsc;
use tonic::Status;

use crate::export::hlog::{IntervalLog, pack, unpack};
use crate::percentiles::Latencies;
use crate::recorder::Ledger;
use crate::run::LoadOutcome;

/// Bytes of one agent's result, at most; more are refused, which ends the run without a record of it.
pub const RESULT_BYTES_MAX: usize = 1 << 30;
/// Bytes of one piece.
const PIECE_BYTES: usize = 256 * 1024;

/// What one agent's part of a run came to. Times are those of the run's clock as the agent knows it.
#[derive(Debug)]
pub struct AgentResult {
    /// Its numbers.
    pub load: Load,
    /// Its interval log.
    pub log: IntervalLog,
    /// Its history, if it was recorded.
    pub history: Vec<Event>,
    /// How the operations of its warm-up ended.
    pub warmup: Counts,
    /// Arrivals that found too much in flight.
    pub queued: u64,
    /// When its last operation had ended.
    pub ended: Nanos,
    /// It was stopped before its plan was over.
    pub stopped: bool,
    /// Why it stopped itself, if it did.
    pub aborted: Option<String>,
    pub(super) ledger: Ledger,
}

/// Sends everything; an error means that nobody takes it any more.
pub(super) async fn send(
    outcome: &LoadOutcome,
    latency_log: &[u8],
    history: &[Event],
    to: &mpsc::Sender<Result<Report, Status>>,
) -> Result<(), Status> {
    let json = |error: serde_json::Error| Status::internal(format!("the result cannot be written: {error}"));
    let load = serde_json::to_vec(&outcome.load).map_err(json)?;
    let mut lines = Vec::new();
    for event in history {
        serde_json::to_writer(&mut lines, event).map_err(json)?;
        lines.push(b'\n');
    }
    let files = [
        (chunk::File::Load, load.as_slice()),
        (chunk::File::Latency, latency_log),
        (chunk::File::History, lines.as_slice()),
    ];
    for (file, content) in files {
        for piece in content.chunks(PIECE_BYTES) {
            let chunk = Chunk {
                file: file.into(),
                content: piece.to_vec().into(),
            };
            say(report::Report::Chunk(chunk), to).await?;
        }
    }
    for (name, latencies) in outcome.ledger.series() {
        let (histogram, min, max, sum) = latencies.parts();
        let series = Series {
            name,
            histogram: pack(histogram).into(),
            min,
            max,
            sum_high: (sum >> 64) as u64,
            sum_low: sum as u64,
        };
        say(report::Report::Series(series), to).await?;
    }
    say(report::Report::Finished(finished(outcome)), to).await
}

/// Sends one report.
pub(super) async fn say(
    report: report::Report,
    to: &mpsc::Sender<Result<Report, Status>>,
) -> Result<(), Status> {
    let report = Report { report: Some(report) };
    let sent = to.send(Ok(report)).await;
    sent.map_err(|_| Status::cancelled("the coordinator is gone"))
}

fn finished(outcome: &LoadOutcome) -> Finished {
    Finished {
        warmup_ok: outcome.warmup.ok,
        warmup_failed: outcome.warmup.failed,
        warmup_unknown: outcome.warmup.unknown,
        warmup_unsent: outcome.warmup.unsent,
        queued: outcome.queued,
        ended: outcome.ended,
        stopped: outcome.stopped,
        aborted: outcome.aborted.clone().unwrap_or_default(),
        worth: outcome.ledger.worth(),
    }
}

/// Pieces of a result that have come so far.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    load: Vec<u8>,
    latency: Vec<u8>,
    history: Vec<u8>,
    series: Vec<(String, Latencies)>,
    bytes: usize,
}

impl Pieces {
    /// Takes a piece of a file.
    pub(super) fn chunk(&mut self, chunk: &Chunk) -> Result<(), String> {
        self.count(chunk.content.len())?;
        let file = match chunk.file() {
            chunk::File::Load => &mut self.load,
            chunk::File::Latency => &mut self.latency,
            chunk::File::History => &mut self.history,
            chunk::File::Unspecified => {
                return Err(format!("it sent a file of no known kind ({})", chunk.file));
            }
        };
        file.extend_from_slice(&chunk.content);
        Ok(())
    }

    /// Takes a set of latencies.
    pub(super) fn series(&mut self, series: Series) -> Result<(), String> {
        self.count(series.histogram.len() + series.name.len())?;
        let damaged = |why: &str| format!("its latencies `{}` are damaged: {why}", series.name);
        let histogram = unpack(&series.histogram).map_err(|error| damaged(&error.to_string()))?;
        let sum = (u128::from(series.sum_high) << 64) | u128::from(series.sum_low);
        let latencies = Latencies::from_parts(histogram, series.min, series.max, sum)
            .ok_or_else(|| damaged("smallest, largest and mean value do not fit together"))?;
        self.series.push((series.name, latencies));
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), String> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > RESULT_BYTES_MAX {
            return Err(format!(
                "its result has more than {RESULT_BYTES_MAX} bytes: record no history, or make the run shorter"
            ));
        }
        Ok(())
    }

    /// The whole.
    pub(super) fn finish(self, finished: &Finished) -> Result<AgentResult, String> {
        let load: Load = serde_json::from_slice(&self.load)
            .map_err(|error| format!("its load.json cannot be read: {error}"))?;
        let log = IntervalLog::read(self.latency.as_slice())
            .map_err(|error| format!("its latency.hlog cannot be read: {error}"))?;
        let lines = self
            .history
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        let history = lines
            .map(serde_json::from_slice)
            .collect::<Result<Vec<Event>, _>>()
            .map_err(|error| format!("its history cannot be read: {error}"))?;
        let ledger = Ledger::rebuild(&load, finished.worth, &self.series)
            .map_err(|name| format!("it sent latencies of no known kind (`{name}`)"))?;
        Ok(AgentResult {
            load,
            log,
            history,
            warmup: Counts {
                ok: finished.warmup_ok,
                failed: finished.warmup_failed,
                unknown: finished.warmup_unknown,
                unsent: finished.warmup_unsent,
            },
            queued: finished.queued,
            ended: finished.ended,
            stopped: finished.stopped,
            aborted: (!finished.aborted.is_empty()).then(|| finished.aborted.clone()),
            ledger,
        })
    }
}
