//! `loadgen list`: the recorded runs of a root, newest first.
//!
//! Promises: every folder that is a run has a row, also one that was interrupted; one that cannot be read is named on
//! standard error. What a record does not say is `-` in the table and null in the JSON.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use reports::record::{
    DEFAULT_RUNS_ROOT, Load, LoadVerdict, Manifest, Nanos, Percentiles, RecordError, RunFolder, RunKind,
};
use serde::Serialize;

use super::summary::printable;
use super::{CommandError, summary};
use crate::clock::human;

/// Folders looked at in one root; further ones are counted on standard error.
const FOLDERS_MAX: usize = 10_000;
/// Characters of a column of text in the table.
const CELL_CHARS_MAX: usize = 40;

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The folder that the runs are in.
    #[arg(default_value = DEFAULT_RUNS_ROOT)]
    root: PathBuf,
    /// Print the runs as one JSON document.
    #[arg(long)]
    json: bool,
}

/// One run.
#[derive(Debug, Serialize)]
struct Row {
    folder: PathBuf,
    started_at: Option<String>,
    name: String,
    kind: Option<RunKind>,
    target: Option<String>,
    /// Operations a second that the plan asked for.
    rate: Option<f64>,
    ok_per_second: Option<f64>,
    /// Of all operations together; response time in an open loop, service time in a closed one.
    p50: Option<Nanos>,
    p99: Option<Nanos>,
    verdict: Option<String>,
    partial: bool,
}

pub(super) fn list(args: &ListArgs) -> Result<u8, CommandError> {
    let (mut rows, notes) = rows(&args.root)?;
    // Times of one form in one zone are in the order of their text; the folder decides where there is none.
    rows.sort_by(|a, b| (&b.started_at, &b.folder).cmp(&(&a.started_at, &a.folder)));
    for note in notes {
        // Standard error may be gone; the list is what was asked for.
        let _ = writeln!(io::stderr(), "note: {}", printable(&note));
    }
    let text = if args.json {
        let document = serde_json::to_string_pretty(&rows).map_err(CommandError::environment)?;
        document + "\n"
    } else if rows.is_empty() {
        format!("no runs in {}\n", printable(&args.root.display().to_string()))
    } else {
        table(&rows)
    };
    summary::print(&text)?;
    Ok(0)
}

fn rows(root: &Path) -> Result<(Vec<Row>, Vec<String>), CommandError> {
    let failed =
        |error: io::Error| CommandError::environment(format!("cannot list {}: {error}", root.display()));
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && root == Path::new(DEFAULT_RUNS_ROOT) => {
            return Ok((Vec::new(), Vec::new()));
        }
        entries => entries.map_err(failed)?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        // Not through links: `latest` would show a run twice.
        if entry.file_type().map_err(failed)?.is_dir() {
            folders.push(entry.path());
        }
    }
    let mut notes = Vec::new();
    // Names end in the time, so that the last ones are likely the newest.
    folders.sort();
    if folders.len() > FOLDERS_MAX {
        let rest = folders.len() - FOLDERS_MAX;
        notes.push(format!(
            "{rest} more folders were not looked at; move old runs away"
        ));
        folders.drain(..rest);
    }
    let mut rows = Vec::new();
    for path in folders {
        match row(&path, &mut notes) {
            Ok(row) => rows.push(row),
            Err(RecordError::NotARun { .. }) => {}
            Err(error) => notes.push(format!("left out: {}", super::with_causes(&error))),
        }
    }
    Ok((rows, notes))
}

fn row(path: &Path, notes: &mut Vec<String>) -> Result<Row, RecordError> {
    let folder = RunFolder::open(path)?;
    let mut damaged = |error: RecordError| notes.push(super::with_causes(&error));
    let manifest = folder.read_manifest().unwrap_or_else(|error| {
        damaged(error);
        None
    });
    let load = folder.read_load().unwrap_or_else(|error| {
        damaged(error);
        None
    });
    let verdict = folder.read_verdict().unwrap_or_else(|error| {
        damaged(error);
        None
    });
    let outcome = verdict.map(|verdict| verdict.outcome);
    let partial = manifest.as_ref().is_none_or(|manifest| manifest.partial);
    let headline = load.as_ref().and_then(headline);
    Ok(Row {
        folder: path.to_owned(),
        started_at: manifest.as_ref().map(|manifest| manifest.started_at.clone()),
        name: match &manifest {
            Some(manifest) => manifest.name.clone(),
            None => path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
        },
        kind: manifest.as_ref().map(|manifest| manifest.kind),
        target: manifest.as_ref().and_then(target),
        rate: load.as_ref().and_then(|load| load.rate),
        ok_per_second: load.as_ref().and_then(ok_per_second),
        p50: headline.and_then(|p| p.p50),
        p99: headline.and_then(|p| p.p99),
        verdict: match (outcome, &load) {
            (Some(outcome), _) => word(&outcome),
            _ if partial => Some("partial".into()),
            (None, Some(load)) => Some(load_verdict(&load.verdict).into()),
            (None, None) => None,
        },
        partial,
    })
}

/// Of all operations together.
fn headline(load: &Load) -> Option<&Percentiles> {
    let total = load.total.as_ref()?;
    total.response.as_ref().or(total.service.as_ref())
}

fn ok_per_second(load: &Load) -> Option<f64> {
    let (first, last) = (load.intervals.first()?, load.intervals.last()?);
    let span = last.end.saturating_sub(first.start);
    (span > 0).then(|| load.counts.ok as f64 / (span as f64 / 1e9))
}

/// What the configuration calls its target, else the one endpoint, else how many there are.
fn target(manifest: &Manifest) -> Option<String> {
    if let Some(target) = manifest
        .configuration
        .get("target")
        .and_then(|target| target.as_str())
    {
        return Some(target.to_owned());
    }
    match manifest.nodes.as_slice() {
        [] => None,
        [node] => Some(node.endpoint.clone()),
        nodes => Some(format!("{} nodes", nodes.len())),
    }
}

fn load_verdict(verdict: &LoadVerdict) -> &'static str {
    match verdict {
        LoadVerdict::Valid => "valid",
        LoadVerdict::GeneratorBound(_) => "generator-bound",
        LoadVerdict::Overloaded(_) => "overloaded",
        LoadVerdict::Noisy(_) => "noisy",
        LoadVerdict::Unsteady(_) => "unsteady",
        LoadVerdict::TooThin(_) => "too-thin",
    }
}

/// The word that the record uses.
fn word(value: &impl Serialize) -> Option<String> {
    let value = serde_json::to_value(value).ok()?;
    value.as_str().map(str::to_owned)
}

const COLUMNS: [&str; 9] = [
    "time", "name", "kind", "target", "rate", "ok/s", "p50", "p99", "verdict",
];
/// From here on columns hold numbers, which stand to the right, but for the last.
const NUMBERS: std::ops::Range<usize> = 4..8;

fn table(rows: &[Row]) -> String {
    let mut cells = vec![COLUMNS.map(str::to_owned)];
    cells.extend(rows.iter().map(row_cells));
    let width = |column: usize| {
        let widths = cells.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| match NUMBERS.contains(&column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:<width$}"),
            })
            .collect();
        text += line.join("  ").trim_end();
        text.push('\n');
    }
    text
}

fn row_cells(row: &Row) -> [String; COLUMNS.len()] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let rate = |rate: Option<f64>| or_dash(rate.map(|rate| format!("{rate:.0}")));
    [
        cell(or_dash(row.started_at.clone())),
        cell(row.name.clone()),
        or_dash(row.kind.as_ref().and_then(word)),
        cell(or_dash(row.target.clone())),
        rate(row.rate),
        rate(row.ok_per_second),
        or_dash(row.p50.map(human)),
        or_dash(row.p99.map(human)),
        or_dash(row.verdict.clone()),
    ]
}

fn cell(text: String) -> String {
    let text = printable(&text);
    if text.chars().count() <= CELL_CHARS_MAX {
        text
    } else {
        text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
    }
}
