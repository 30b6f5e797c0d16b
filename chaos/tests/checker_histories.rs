//! Known histories: each file is named for what it shows.
//!
//! What stands in `histories/ok` holds; what stands in `histories/bad` is broken, and the checks say what is in the
//! `.txt` of the same name (`UPDATE_GOLDEN=1` writes it anew). Reads from 100 s on are the last look at their key.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use chaos::checker::{Options, check_file, outcome, read_events};
use reports::record::{Check, Outcome};

const FINAL_READS_FROM: u64 = 100_000_000_000;

fn histories(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/histories")
        .join(kind);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files
}

fn check(file: &Path) -> Vec<Check> {
    let last_look = read_events(file)
        .unwrap()
        .iter()
        .any(|event| event.time >= FINAL_READS_FROM);
    let final_reads_from = last_look.then_some(FINAL_READS_FROM);
    check_file(
        file,
        &Options {
            final_reads_from,
            ..Options::default()
        },
    )
    .unwrap()
}

fn told(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        text += &format!("{} {:?}: {}\n", check.name, check.status, check.detail);
        for (began, ended) in check.witness.iter().flat_map(|witness| &witness.operations) {
            let ended = ended
                .as_ref()
                .map_or(String::from("never"), |ended| format!("{:?}", ended.kind));
            text += &format!(
                "  process {} {:?} {:?} {ended}\n",
                began.process, began.f, began.value
            );
        }
    }
    text
}

#[test]
fn what_holds_is_not_flagged() {
    let files = histories("ok");
    assert!(files.len() >= 10, "only {} histories", files.len());
    for file in files {
        let checks = check(&file);
        assert_eq!(
            outcome(&checks),
            Outcome::Pass,
            "{}:\n{}",
            file.display(),
            told(&checks)
        );
    }
}

#[test]
fn what_is_broken_is_flagged_with_the_stored_words() {
    let files = histories("bad");
    assert!(files.len() >= 15, "only {} histories", files.len());
    let mut different = Vec::new();
    for file in files {
        let checks = check(&file);
        let found = told(&checks);
        assert_eq!(
            outcome(&checks),
            Outcome::Violation,
            "{}:\n{found}",
            file.display()
        );
        for check in &checks {
            let operations = check.witness.iter().map(|witness| witness.operations.len());
            assert!(
                operations.clone().all(|count| (1..=4).contains(&count)),
                "{}:\n{found}",
                file.display()
            );
        }
        let golden = file.with_extension("txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&golden, &found).unwrap();
        }
        let stored = std::fs::read_to_string(&golden).unwrap_or_default();
        if stored != found {
            different.push(format!(
                "--- {}, stored:\n{stored}--- found:\n{found}",
                file.display()
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn a_line_that_is_no_event_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.jsonl");
    std::fs::write(&file, "\n{\"process\":1}\n").unwrap();
    let error = read_events(&file).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("history.jsonl:2: not an event of a history"),
        "{error}"
    );
}
