//! The run folder on disk.
//!
//! Promises: a document appears whole or not at all (temporary file in the same folder, synced, renamed); a run never
//! writes over another; a document from a newer schema is refused before anything in it is believed; unknown fields
//! are ignored. Never reads a clock: the time in a folder's name comes in as an argument.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::io_error;
use super::{
    History, HistoryReader, HistoryWriter, Load, Manifest, RecordError, SCHEMA_VERSION, Timeline, Verdict,
};

/// Where runs go unless the user says otherwise, relative to where the tool was started.
pub const DEFAULT_RUNS_ROOT: &str = "target/runs";

/// Name of the manifest in a run folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the history in a run folder.
pub const HISTORY_FILE: &str = "history.jsonl";
/// Name of the histogram log in a run folder.
pub const LATENCY_FILE: &str = "latency.hlog";
/// Name of the load numbers in a run folder.
pub const LOAD_FILE: &str = "load.json";
/// Name of the timeline in a run folder.
pub const TIMELINE_FILE: &str = "timeline.json";
/// Name of the verdict in a run folder.
pub const VERDICT_FILE: &str = "verdict.json";
/// Name of the page in a run folder.
pub const REPORT_FILE: &str = "report.html";

/// Any one of these makes a folder a run.
const RUN_FILES: [&str; 5] = [
    MANIFEST_FILE,
    HISTORY_FILE,
    LOAD_FILE,
    TIMELINE_FILE,
    VERDICT_FILE,
];

/// Folders tried for one name within one second before giving up.
const SAME_SECOND_MAX: u32 = 1000;

/// One run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes the folder (and its parents) for a new run. An existing one must be empty.
    pub fn create(path: impl Into<PathBuf>) -> Result<RunFolder, RecordError> {
        let path = path.into();
        fs::create_dir_all(&path).map_err(io_error("create the folder", &path))?;
        let mut entries = fs::read_dir(&path).map_err(io_error("list", &path))?;
        if entries.next().is_some() {
            return Err(RecordError::NotEmpty { path });
        }
        Ok(RunFolder { path })
    }

    /// Opens the folder of a run that was made before, whole or interrupted.
    pub fn open(path: impl Into<PathBuf>) -> Result<RunFolder, RecordError> {
        let path = path.into();
        match fs::metadata(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("open", &path)(error));
            }
            _ => {}
        }
        if !RUN_FILES.iter().any(|name| path.join(name).is_file()) {
            return Err(RecordError::NotARun { path });
        }
        let folder = RunFolder { path };
        // The manifest speaks for the other files, which carry no version of their own.
        folder.refuse_future(MANIFEST_FILE)?;
        Ok(folder)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where a node keeps its data and log; not created here.
    pub fn node_dir(&self, id: &str) -> PathBuf {
        self.path.join("nodes").join(file_name(id))
    }

    /// Writes `manifest.json`.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), RecordError> {
        self.write_json(MANIFEST_FILE, manifest)
    }

    /// Reads `manifest.json`, if there is one.
    pub fn read_manifest(&self) -> Result<Option<Manifest>, RecordError> {
        self.read_json(MANIFEST_FILE)
    }

    /// Writes `load.json`.
    pub fn write_load(&self, load: &Load) -> Result<(), RecordError> {
        self.write_json(LOAD_FILE, load)
    }

    /// Reads `load.json`, if there is one.
    pub fn read_load(&self) -> Result<Option<Load>, RecordError> {
        self.read_json(LOAD_FILE)
    }

    /// Writes `timeline.json`.
    pub fn write_timeline(&self, timeline: &Timeline) -> Result<(), RecordError> {
        self.write_json(TIMELINE_FILE, timeline)
    }

    /// Reads `timeline.json`, if there is one.
    pub fn read_timeline(&self) -> Result<Option<Timeline>, RecordError> {
        self.read_json(TIMELINE_FILE)
    }

    /// Writes `verdict.json`.
    pub fn write_verdict(&self, verdict: &Verdict) -> Result<(), RecordError> {
        self.write_json(VERDICT_FILE, verdict)
    }

    /// Reads `verdict.json`, if there is one.
    pub fn read_verdict(&self) -> Result<Option<Verdict>, RecordError> {
        self.read_json(VERDICT_FILE)
    }

    /// Starts `history.jsonl`; there must be none yet.
    pub fn history_writer(&self) -> Result<HistoryWriter, RecordError> {
        HistoryWriter::create(&self.file(HISTORY_FILE))
    }

    /// Reads `history.jsonl` event by event, if there is one.
    pub fn history_reader(&self) -> Result<Option<HistoryReader>, RecordError> {
        let path = self.file(HISTORY_FILE);
        if path.is_file() {
            HistoryReader::open(&path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Reads the whole of `history.jsonl`, if there is one.
    pub fn read_history(&self) -> Result<Option<History>, RecordError> {
        self.history_reader()?.map(HistoryReader::read_all).transpose()
    }

    /// Writes a file that appears whole or not at all, also when the machine stops in between.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, RecordError> {
        let path = self.file(name);
        write_whole(&path, content)?;
        Ok(path)
    }

    /// Points the symbolic link `latest`, beside this folder, to it.
    #[cfg(unix)]
    pub fn mark_latest(&self) -> Result<(), RecordError> {
        let Some(name) = self.path.file_name() else {
            return Ok(());
        };
        let link = self.path.with_file_name("latest");
        let fresh = self
            .path
            .with_file_name(format!(".latest-{}", std::process::id()));
        std::os::unix::fs::symlink(name, &fresh).map_err(io_error("link", &fresh))?;
        fs::rename(&fresh, &link).map_err(|error| {
            // The link is a convenience; leaving half of one behind is not.
            let _ = fs::remove_file(&fresh);
            io_error("link", &link)(error)
        })
    }

    fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), RecordError> {
        let path = self.file(name);
        let mut text = serde_json::to_vec_pretty(value).map_err(|source| RecordError::Malformed {
            path: path.clone(),
            source,
        })?;
        text.push(b'\n');
        write_whole(&path, &text)
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RecordError> {
        let Some(text) = self.read_optional(name)? else {
            return Ok(None);
        };
        let path = self.file(name);
        refuse_future_text(&path, &text)?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| RecordError::Malformed { path, source })
    }

    fn refuse_future(&self, name: &str) -> Result<(), RecordError> {
        match self.read_optional(name)? {
            Some(text) => refuse_future_text(&self.file(name), &text),
            None => Ok(()),
        }
    }

    fn read_optional(&self, name: &str) -> Result<Option<Vec<u8>>, RecordError> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }
}

/// Reserves a new folder `<root>/<name>-<YYYYMMDDTHHMMSS>` (UTC) for [`RunFolder::create`]; a second one within the same
/// second gets `-2` and so on, also when two processes ask at once.
pub fn default_run_path(root: &Path, name: &str, unix_time_ms: u64) -> Result<PathBuf, RecordError> {
    fs::create_dir_all(root).map_err(io_error("create the folder", root))?;
    let stamp: String = rfc3339(unix_time_ms)
        .chars()
        .take_while(|c| *c != 'Z')
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    let base = format!("{}-{stamp}", file_name(name));
    for n in 1..=SAME_SECOND_MAX {
        let path = root.join(if n == 1 {
            base.clone()
        } else {
            format!("{base}-{n}")
        });
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create the folder", &path)(error)),
        }
    }
    Err(RecordError::NotEmpty {
        path: root.join(base),
    })
}

/// The instant as RFC 3339 in UTC, to the second: the form of [`Manifest::started_at`].
pub fn rfc3339(unix_time_ms: u64) -> String {
    // humantime refuses years beyond 9999; a clock that far off is written as the last second it can say.
    const LAST_MS: u64 = 253_402_300_799_000;
    let time = UNIX_EPOCH + Duration::from_millis(unix_time_ms.min(LAST_MS));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// A name that stays within its folder and needs no quoting in a shell.
fn file_name(name: &str) -> String {
    let clean: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                c
            } else {
                '-'
            }
        })
        .collect();
    let clean = clean.trim_start_matches(['.', '-']);
    if clean.is_empty() {
        "run".into()
    } else {
        clean.chars().take(100).collect()
    }
}

#[derive(Deserialize)]
struct Peek {
    schema: Option<u64>,
    tool_version: Option<String>,
    kind: Option<serde_json::Value>,
}

fn refuse_future_text(path: &Path, text: &[u8]) -> Result<(), RecordError> {
    // A file that is no such object fails later, with a better message.
    let Ok(peek) = serde_json::from_slice::<Peek>(text) else {
        return Ok(());
    };
    match peek.schema {
        Some(found) if found > u64::from(SCHEMA_VERSION) => Err(RecordError::FutureSchema {
            path: path.to_owned(),
            found,
            tool: match peek.kind.as_ref().and_then(|k| k.as_str()) {
                Some("chaos") => "chaos` and `reports".into(),
                Some("load") => "loadgen` and `reports".into(),
                _ => "reports".into(),
            },
            writer_version: peek.tool_version,
        }),
        _ => Ok(()),
    }
}

fn write_whole(path: &Path, content: &[u8]) -> Result<(), RecordError> {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let temporary = path.with_file_name(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        // The rename itself lives in the folder.
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        io_error("write", path)(error)
    })
}
