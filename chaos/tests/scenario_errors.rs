//! Each `scenario_errors/*.yaml` is refused with exactly what stands in the `.txt` of the same name.
//!
//! `UPDATE_GOLDEN=1` writes the texts anew; look at the difference before committing it.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use chaos::scenario::Scenario;

#[test]
fn bad_scenarios_are_refused_with_the_stored_message() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenario_errors");
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(files.len() >= 12, "only {} bad examples", files.len());
    let mut different = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let found = match Scenario::parse(name, &text) {
            Ok(_) => panic!("{name} was accepted"),
            Err(error) => format!("{error}\n"),
        };
        let golden = file.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &found).unwrap();
        }
        let stored = std::fs::read_to_string(&golden).unwrap_or_default();
        if stored != found {
            different.push(format!("--- {name}, stored:\n{stored}--- found:\n{found}"));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = Scenario::load(&folder.path().join("missing.yaml")).unwrap_err();
    assert!(error.to_string().contains("missing.yaml"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}
