//! `loadgen export`: a recorded run in the format of another tool.
//!
//! Promises: a file appears whole or not at all, so that a collector that reads it at any moment never sees half of one;
//! a tag that the run does not have is refused with those that it has. Never changes the run.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use reports::record::{LoadVerdict, Run, RunFolder};
use serde_json::json;

use super::{CommandError, recorded, summary, units};
use crate::export::hlog::{Entry, IntervalLog};
use crate::export::prometheus::{Labels, Series};
use crate::export::{bmf, csv, hgrm, prometheus};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The run's folder, its name in target/runs, or `latest`.
    #[arg(default_value = "latest")]
    run: PathBuf,
    /// What to write.
    #[arg(short, long, value_enum)]
    format: Format,
    /// Only the histograms with this tag, as in put.ok.response (hgrm, hlog, prometheus) [default: the headline series for
    /// hgrm, all for the others]
    #[arg(long)]
    tag: Option<String>,
    /// Only intervals that begin at or after this time of the run (hgrm, hlog, prometheus).
    #[arg(long, value_parser = units::duration, value_name = "DURATION")]
    from: Option<Duration>,
    /// Only intervals that begin before this time of the run (hgrm, hlog, prometheus).
    #[arg(long, value_parser = units::duration, value_name = "DURATION")]
    to: Option<Duration>,
    /// Where to; - is standard output.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Percentile distribution of HdrHistogram, in milliseconds, for its plotters.
    Hgrm,
    /// Totals by operation, outcome and measure, comma-separated.
    Csv,
    /// Intervals, comma-separated.
    CsvIntervals,
    /// Text exposition format, for node_exporter's textfile collector.
    Prometheus,
    /// Bencher metric format, for `bencher run --adapter json`.
    Bmf,
    /// Interval log of HdrHistogram, for its Java tools.
    Hlog,
    /// Everything recorded but the history, as one JSON document.
    Json,
}

impl Format {
    /// Whether it is made from histograms, so that a tag and a range choose among them.
    fn has_histograms(self) -> bool {
        matches!(self, Format::Hgrm | Format::Hlog | Format::Prometheus)
    }
}

pub(super) fn export(args: &ExportArgs) -> Result<u8, CommandError> {
    let chooses = args.tag.is_some() || args.from.is_some() || args.to.is_some();
    if chooses && !args.format.has_histograms() {
        return Err(CommandError::usage(
            "--tag, --from and --to choose histograms, and this format has none: use them with hgrm, hlog or prometheus",
        ));
    }
    let folder = recorded::open(&args.run)?;
    let content = content(args, &folder)?;
    if args.output == Path::new("-") {
        summary::print_bytes(&content)?;
    } else {
        write_whole(&args.output, &content).map_err(|error| {
            CommandError::environment(format!("cannot write {}: {error}", args.output.display()))
        })?;
    }
    Ok(0)
}

fn content(args: &ExportArgs, folder: &RunFolder) -> Result<Vec<u8>, CommandError> {
    Ok(match args.format {
        Format::Csv => csv::totals(&recorded::load(folder)?).into_bytes(),
        Format::CsvIntervals => csv::intervals(&recorded::load(folder)?.intervals).into_bytes(),
        Format::Bmf => {
            let load = recorded::load(folder)?;
            if load.verdict != LoadVerdict::Valid {
                note(
                    "the run is not valid as a measurement (see `loadgen show`), and this format cannot say so",
                );
            }
            bmf::render(&name(folder)?, &load).into_bytes()
        }
        Format::Json => json_document(folder)?.into_bytes(),
        Format::Hgrm => percentile_distribution(args, folder)?.into_bytes(),
        Format::Hlog => {
            let mut text = Vec::new();
            let log = chosen_log(args, folder)?;
            log.write(&mut text).map_err(CommandError::environment)?;
            text
        }
        Format::Prometheus => exposition(args, folder)?.into_bytes(),
    })
}

fn percentile_distribution(args: &ExportArgs, folder: &RunFolder) -> Result<String, CommandError> {
    let log = chosen_log(args, folder)?;
    let tag = args.tag.as_deref();
    let histogram = log.total(tag).ok_or_else(|| {
        CommandError::environment("no interval of the headline series lies in the run or the range given")
    })?;
    let (ticks, unit) = (hgrm::TICKS_PER_HALF_DISTANCE, hgrm::NANOSECONDS_AS_MILLISECONDS);
    Ok(hgrm::render(&histogram, ticks, unit))
}

fn exposition(args: &ExportArgs, folder: &RunFolder) -> Result<String, CommandError> {
    let load = recorded::load(folder)?;
    let labels = Labels::new([("run", name(folder)?)]).map_err(CommandError::environment)?;
    let series = Series::of(&chosen_log(args, folder)?);
    Ok(prometheus::render(&load, &labels, &series))
}

fn json_document(folder: &RunFolder) -> Result<String, CommandError> {
    let run = Run::read(folder).map_err(recorded::record_error)?;
    for text in &run.notes {
        note(text);
    }
    let resources = folder.read_resources().map_err(recorded::record_error)?;
    let document = json!({
        "folder": folder.path(),
        "manifest": run.manifest,
        "load": run.load,
        "resources": resources,
        "timeline": run.timeline,
        "verdict": run.verdict,
        "notes": run.notes,
    });
    Ok(format!("{document:#}\n"))
}

/// The log without what was not asked for.
fn chosen_log(args: &ExportArgs, folder: &RunFolder) -> Result<IntervalLog, CommandError> {
    let mut log = recorded::latency_log(folder)?;
    if let Some(line) = log.torn {
        note(&format!(
            "the log was cut short inside line {line}; what is whole before it is used"
        ));
    }
    if let Some(tag) = &args.tag
        && !log.tags().contains(&Some(tag.as_str()))
    {
        let tags: Vec<&str> = log.tags().into_iter().flatten().collect();
        return Err(CommandError::usage(format!(
            "the run has no histograms with the tag `{tag}`; it has: {}",
            if tags.is_empty() {
                "none".into()
            } else {
                tags.join(", ")
            }
        )));
    }
    let ns = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    let (from, to) = (args.from.map_or(i64::MIN, ns), args.to.map_or(i64::MAX, ns));
    let wanted = |entry: &Entry| {
        let tagged = args.tag.is_none() || entry.tag == args.tag;
        tagged && (from..to).contains(&entry.start)
    };
    log.entries.retain(wanted);
    if log.entries.is_empty() && (args.from.is_some() || args.to.is_some()) {
        return Err(CommandError::usage(
            "no interval begins in the range of --from and --to",
        ));
    }
    Ok(log)
}

/// The run's name, or its folder's.
fn name(folder: &RunFolder) -> Result<String, CommandError> {
    let manifest = folder.read_manifest().map_err(recorded::record_error)?;
    Ok(match manifest {
        Some(manifest) => manifest.name,
        None => {
            let path = folder.path();
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        }
    })
}

fn note(text: &str) {
    // Standard error may be gone; the export is what was asked for.
    let _ = writeln!(io::stderr(), "note: {}", summary::printable(text));
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "this is not the name of a file"))?;
    let hidden = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
    let temporary = path.with_file_name(hidden);
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}
