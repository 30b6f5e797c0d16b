//! Rules of the repository, as tests.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below the five packages with this ending.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["proto", "server", "loadgen", "chaos", "reports"]
        .map(PathBuf::from)
        .into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                // What the fuzzer builds is nobody's text.
                folders.extend((!path.ends_with("target")).then_some(path));
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

#[test]
fn the_top_level_holds_nothing_else() {
    let allowed = [
        ".ci",
        ".git",
        ".gitignore",
        ".rustfmt.toml",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "build.rs",
        "chaos",
        "data",
        "loadgen",
        "proto",
        "reports",
        "server",
        "target",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            allowed.contains(&name.as_str()),
            "{name} does not belong at the top level"
        );
    }
}

/// A README that nobody runs is a promise that nobody keeps.
#[test]
fn every_command_in_the_readme_is_run_by_ci() {
    let (readme, ci) = (read("README.md"), read(".ci/run"));
    let mut commands = Vec::new();
    for block in readme.split("```sh\n").skip(1) {
        commands.extend(block.split("```").next().unwrap().lines());
    }
    assert!(commands.len() > 8, "{commands:?}");
    for command in commands {
        let run = ci.lines().any(|line| line.trim_start().starts_with(command));
        assert!(
            run,
            "the README shows a command that .ci/run does not run: {command}"
        );
    }
}

#[test]
fn links_in_the_readme_lead_somewhere() {
    for link in read("README.md").split("](").skip(1) {
        let target = link.split(')').next().unwrap();
        if !target.starts_with("https://") {
            assert!(
                root().join(target).exists(),
                "the README links to {target}, which does not exist"
            );
        }
    }
}

#[test]
fn nothing_is_left_to_do() {
    // Put together here, so that this file does not find itself.
    let markers = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat());
    for path in files("rs").into_iter().chain(files("proto")) {
        let text = read(&path);
        for (number, line) in text.lines().enumerate() {
            for marker in &markers {
                assert!(
                    !line.contains(marker.as_str()),
                    "{}:{}: {marker}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
}

/// Long files decay. Where one is longer for a reason, its head says so with the words `long because`.
#[test]
fn files_stay_readable() {
    for path in files("rs") {
        let text = read(&path);
        let lines = text.lines().count();
        let excused = text.lines().take(30).any(|line| line.contains("long because"));
        assert!(
            lines <= 600 || excused,
            "{} has {lines} lines: split it by what it is about",
            path.display()
        );
    }
}

#[test]
fn no_crate_opts_out_of_the_lints() {
    for package in ["server", "loadgen", "chaos", "reports"] {
        assert!(
            read(format!("{package}/Cargo.toml")).contains("[lints]\nworkspace = true"),
            "{package}"
        );
    }
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    // Put together here, so that this file does not find itself.
    let escape = ["allow(", "unsafe_code"].concat();
    for path in files("rs") {
        assert!(!read(&path).contains(&escape), "{}", path.display());
    }
}

#[test]
fn records_and_pages_know_no_network_and_no_async() {
    for path in files("rs")
        .into_iter()
        .filter(|path| path.starts_with("reports/src"))
    {
        let text = read(&path);
        for word in ["tokio", "async fn", "std::net", "tonic::"] {
            assert!(!text.contains(word), "{} mentions {word}", path.display());
        }
    }
}
