//! What a run leaves behind, in the formats that other tools read.
//!
//! | module | format | read by |
//! |---|---|---|
//! | [`hlog`] | HdrHistogram interval log 1.3 | the Java tools (`HistogramLogProcessor`, HistogramLogAnalyzer) |
//! | [`hgrm`] | percentile distribution | the HdrHistogram plotters |
//! | [`csv`] | comma-separated values (RFC 4180) | spreadsheets |
//! | [`ndjson`] | one JSON document a line | whatever follows a run while it goes on |
//! | [`prometheus`] | text exposition format 0.0.4 | Prometheus, node_exporter's textfile collector |
//! | [`bmf`] | Bencher metric format | bencher.dev |
//! | [`schema`] | JSON Schema, draft 2020-12 | validators, code generators |
//!
//! Promises: every function here except the readers of files, the writer of a log and [`prometheus::serve`] is a pure
//! function of its arguments: no clock, no disk, no network. Text that comes from a record is escaped by the rules of the format. What
//! a record does not hold is left empty or out, never guessed. Input that is damaged is refused with its line number.

pub mod bmf;
pub mod csv;
mod decimal;
pub mod hgrm;
pub mod hlog;
pub mod ndjson;
pub mod prometheus;
pub mod schema;
