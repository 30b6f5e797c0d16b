//! The stream of a run: one JSON document a line, for whoever follows it while it goes on.
//!
//! Promises: the first line is `start`, then one `interval` for each interval in its order, the last `end`; each has a
//! `type` and the `schema` of the record, whose types it uses; no line has a line break inside. A reader ignores types
//! and fields that it does not know.

use reports::record::{
    Counts, Interval, Load, LoadVerdict, Manifest, Measure, Nanos, RunKind, SCHEMA_VERSION,
};
use schemars::JsonSchema;
use serde::Serialize;

/// One line of the stream.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line<'a> {
    /// The run begins.
    Start {
        /// Version of the record's schema.
        schema: u32,
        /// Load or chaos.
        kind: RunKind,
        /// Name of the run.
        name: &'a str,
        /// Wall-clock start, RFC 3339 in UTC.
        started_at: &'a str,
        /// Everything random in the run follows from it.
        seed: u64,
    },
    /// An interval is over, and so is every operation that was planned in it.
    Interval {
        /// Version of the record's schema.
        schema: u32,
        /// Which, counted from zero.
        number: u64,
        /// What `latency` is measured from.
        measure: Measure,
        /// The numbers, as in `load.json`.
        #[serde(flatten)]
        interval: &'a Interval,
    },
    /// The run is over.
    End {
        /// Version of the record's schema.
        schema: u32,
        /// Operations that the plan wanted to start.
        planned: u64,
        /// How they ended.
        counts: Counts,
        /// Longest time without any acknowledged write, and when it began.
        longest_write_gap: Option<(Nanos, Nanos)>,
        /// Reads that returned a value nobody can have written there.
        integrity_errors: u64,
        /// Whether these numbers can be trusted.
        verdict: &'a LoadVerdict,
    },
}

/// The first line of a stream, line feed included.
pub fn start(manifest: &Manifest) -> String {
    text(&Line::Start {
        schema: SCHEMA_VERSION,
        kind: manifest.kind,
        name: &manifest.name,
        started_at: &manifest.started_at,
        seed: manifest.seed,
    })
}

/// The line of an interval, line feed included: the `number`-th, counted from zero, with latencies measured from
/// `measure`.
pub fn line(interval: &Interval, number: u64, measure: Measure) -> String {
    text(&Line::Interval {
        schema: SCHEMA_VERSION,
        number,
        measure,
        interval,
    })
}

/// The last line of a stream, line feed included.
pub fn end(load: &Load) -> String {
    text(&Line::End {
        schema: SCHEMA_VERSION,
        planned: load.planned,
        counts: load.counts,
        longest_write_gap: load.longest_write_gap,
        integrity_errors: load.integrity_errors,
        verdict: &load.verdict,
    })
}

fn text(line: &Line<'_>) -> String {
    let mut text = serde_json::to_string(line)
        .expect("numbers, texts and maps with text keys, of which the line consists, are JSON");
    text.push('\n');
    text
}
