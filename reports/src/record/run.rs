//! A whole run in memory, as far as its folder holds one.
//!
//! Promises: whatever can be read is there, and whatever could not is said in [`Run::notes`], so that an interrupted
//! run still shows what it has. Refuses only a newer schema and a failing disk.

use super::{HistoryDigest, Load, Manifest, RecordError, RunFolder, Timeline, Verdict};

/// Everything that a page or a summary is made from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// Name of the folder, which stands in where there is no manifest.
    pub folder: String,
    /// `manifest.json`
    pub manifest: Option<Manifest>,
    /// `load.json`
    pub load: Option<Load>,
    /// `timeline.json`
    pub timeline: Option<Timeline>,
    /// `verdict.json`
    pub verdict: Option<Verdict>,
    /// What `history.jsonl` says of the load; only made where there is no `load.json`.
    pub history: Option<HistoryDigest>,
    /// What was wrong with the folder, a sentence each.
    pub notes: Vec<String>,
}

impl Run {
    /// Reads a run folder.
    pub fn read(folder: &RunFolder) -> Result<Run, RecordError> {
        let mut run = Run {
            folder: folder_name(folder),
            ..Run::default()
        };
        run.manifest = or_note(folder.read_manifest(), &mut run.notes)?;
        run.load = or_note(folder.read_load(), &mut run.notes)?;
        run.timeline = or_note(folder.read_timeline(), &mut run.notes)?;
        run.verdict = or_note(folder.read_verdict(), &mut run.notes)?;
        if run.load.is_none()
            && let Some(reader) = folder.history_reader()?
        {
            run.history = Some(HistoryDigest::of(reader)?);
        }
        Ok(run)
    }

    /// What the run calls itself, or else its folder's name.
    pub fn name(&self) -> &str {
        self.manifest.as_ref().map_or(&self.folder, |m| &m.name)
    }
}

fn or_note<T>(
    read: Result<Option<T>, RecordError>,
    notes: &mut Vec<String>,
) -> Result<Option<T>, RecordError> {
    match read {
        Err(RecordError::Malformed { path, source }) => {
            let name = path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            notes.push(format!("{name} is damaged and left out: {source}"));
            Ok(None)
        }
        other => other,
    }
}

fn folder_name(folder: &RunFolder) -> String {
    // `reports render .` has no last component until it is resolved.
    let path = folder
        .path()
        .canonicalize()
        .unwrap_or_else(|_| folder.path().to_owned());
    path.file_name()
        .map_or_else(|| "run".into(), |name| name.to_string_lossy().into_owned())
}
