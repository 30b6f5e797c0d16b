//! `loadgen show`: the summary of a recorded run.
//!
//! Promises: says what `loadgen run` said at its end, as far as it is recorded; a part of the record that cannot be read is named,
//! and the rest is shown. What only the generator knew while it ran (arrivals that waited, operations of the warm-up) is not.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reports::record::{Load, Manifest, ProcessRole, REPORT_FILE, Resources, Run, RunFolder};
use serde_json::{Value, json};

use super::{CommandError, recorded, summary, units};
use crate::clock::nanos;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The run's folder, its name in target/runs, or `latest`.
    #[arg(default_value = "latest")]
    run: PathBuf,
    /// Print the summary as one JSON document.
    #[arg(long)]
    json: bool,
}

pub(super) fn show(args: &ShowArgs) -> Result<u8, CommandError> {
    let folder = recorded::open(&args.run)?;
    let run = Run::read(&folder).map_err(recorded::record_error)?;
    let (resources, trouble) = match folder.read_resources() {
        Ok(resources) => (resources, None),
        Err(error) => (None, Some(super::with_causes(&error))),
    };
    let text = match args.json {
        true => format!("{:#}\n", document(&run, resources.as_ref(), &folder)),
        false => {
            let mut lines = vec![reports::summary(&run).trim_end().to_owned()];
            lines.extend(details(&run, resources.as_ref()));
            lines.extend(trouble.map(|trouble| format!("  note: {trouble}")));
            lines.push(format!("  record: {}", folder.path().display()));
            let page = folder.file(REPORT_FILE);
            lines.extend(page.is_file().then(|| format!("  page:   {}", page.display())));
            // The summary has lines of its own; what follows is one each.
            let rest = lines.split_off(1);
            lines.extend(rest.iter().map(|line| summary::printable(line)));
            lines.join("\n") + "\n"
        }
    };
    summary::print(&text)?;
    Ok(0)
}

/// What `loadgen run` adds to the record's own summary, in its order.
fn details(run: &Run, resources: Option<&Resources>) -> Vec<String> {
    let Some(load) = &run.load else { return Vec::new() };
    let mut lines = Vec::new();
    lines.extend(summary::sure(load));
    lines.extend(summary::scheduled(load));
    lines.extend(load.lag.as_ref().map(summary::lag));
    lines.push(generator(load, run.manifest.as_ref()));
    lines.extend(resources.map(summary::cost));
    let bottleneck = resources.and_then(|resources| resources.bottleneck.as_ref());
    lines.extend(bottleneck.map(summary::limit));
    lines.extend(summary::endpoints(load));
    lines.extend(summary::outage(load));
    lines.extend(summary::errors(load));
    if load.integrity_errors > 0 {
        lines.push(format!(
            "  DAMAGED: {} values came back that nobody can have written under their key; see history.jsonl",
            load.integrity_errors
        ));
    }
    lines.extend(load.thresholds.iter().map(summary::threshold));
    lines
}

fn generator(load: &Load, manifest: Option<&Manifest>) -> String {
    let mut text = String::from("  generator:");
    let wall = manifest.and_then(|manifest| wall(load, manifest));
    if let Some((cpu, wall)) = load.client_cpu.zip(wall) {
        text += &format!(" {:.0} % of a core;", cpu as f64 / wall as f64 * 100.0);
    }
    text + &format!(" {} redirects, {} retries", load.redirects, load.retries)
}

/// Nanoseconds from the first planned operation to the last answer, if the record tells.
fn wall(load: &Load, manifest: &Manifest) -> Option<u64> {
    let warmup = &manifest.configuration["load"]["warmup"];
    let warmup = match warmup.as_str() {
        Some(text) => units::duration(text).ok()?,
        None => Duration::ZERO,
    };
    let begins = load.phases.first()?.start.saturating_sub(nanos(warmup));
    manifest.duration.checked_sub(begins).filter(|wall| *wall > 0)
}

fn document(run: &Run, resources: Option<&Resources>, folder: &RunFolder) -> Value {
    let mut document = reports::summary_json(run);
    document["folder"] = json!(folder.path());
    if let Some(load) = &run.load {
        document["thresholds"] = json!(load.thresholds);
        document["outcomes"] = json!(load.total.as_ref().map(|total| &total.outcomes));
        document["endpoints"] = json!(load.endpoints);
        document["terms"] = json!(load.terms);
    }
    document["cpu_us_per_ok"] = json!({
        "generator": resources.and_then(|of| of.cpu_us_per_ok(ProcessRole::Client)),
        "servers": resources.and_then(|of| of.cpu_us_per_ok(ProcessRole::Server)),
    });
    document["bottleneck"] = json!(resources.and_then(|of| of.bottleneck.as_ref()));
    document
}
