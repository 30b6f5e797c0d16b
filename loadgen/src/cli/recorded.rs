//! Finds a recorded run and reads it, for the commands that look back.
//!
//! Promises: what is given is a folder, else `latest`, else the name of a folder in the default root; a run that cannot
//! be read is refused with the reason. Never writes into a run.

use std::path::{Path, PathBuf};

use reports::record::{DEFAULT_RUNS_ROOT, LATENCY_FILE, LOAD_FILE, Load, RecordError, RunFolder};

use super::CommandError;
use crate::export::hlog::{HlogProblem, IntervalLog};

/// The run that `given` names.
pub(super) fn open(given: &Path) -> Result<RunFolder, CommandError> {
    RunFolder::open(resolve(given, Path::new(DEFAULT_RUNS_ROOT))).map_err(record_error)
}

fn resolve(given: &Path, root: &Path) -> PathBuf {
    let named = root.join(given);
    // A folder called `latest` where one stands comes first: it is what the shell would have completed.
    if given.is_dir() || !named.is_dir() {
        given.to_owned()
    } else {
        named
    }
}

/// Its load, which must be there.
pub(super) fn load(folder: &RunFolder) -> Result<Load, CommandError> {
    let load = folder.read_load().map_err(record_error)?;
    load.ok_or_else(|| {
        missing(
            folder,
            LOAD_FILE,
            "the run was interrupted before its numbers were added up",
        )
    })
}

/// Its interval log, which must be there.
pub(super) fn latency_log(folder: &RunFolder) -> Result<IntervalLog, CommandError> {
    let path = folder.file(LATENCY_FILE);
    if !path.is_file() {
        return Err(missing(folder, LATENCY_FILE, "the run did not record histograms"));
    }
    IntervalLog::open(&path).map_err(|error| {
        let advice = match error.problem {
            HlogProblem::Io(_) => "",
            _ => "; cut the line out to use the rest",
        };
        CommandError::environment(format!(
            "{}: {error}: {}{advice}",
            path.display(),
            chain(&error.problem)
        ))
    })
}

fn chain(problem: &HlogProblem) -> String {
    super::with_causes(problem)
}

fn missing(folder: &RunFolder, file: &str, why: &str) -> CommandError {
    CommandError::environment(format!("{} has no {file}: {why}", folder.path().display()))
}

pub(super) fn record_error(error: RecordError) -> CommandError {
    match error {
        RecordError::NotARun { .. } => CommandError::usage(error),
        _ => CommandError::environment(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_folder_comes_first_then_a_name_in_the_root() {
        let root = tempfile::tempdir().unwrap();
        let run = root.path().join("latest");
        std::fs::create_dir(&run).unwrap();
        assert_eq!(resolve(Path::new("latest"), root.path()), run);
        assert_eq!(resolve(&run, root.path()), run);
        assert_eq!(resolve(Path::new("absent"), root.path()), Path::new("absent"));
    }
}
