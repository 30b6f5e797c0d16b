//! The promise of the module documentation, held against its sources: no clock, no disk, no socket, no threads, no
//! `async`, no randomness from outside, nothing whose order is left to chance.

use std::fs;
use std::path::Path;

const FORBIDDEN: [&str; 14] = [
    "tokio",
    "async",
    "std::time",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::env",
    "rand::",
];

/// What is compiled into the core: no comments, and nothing from its test module on.
fn code(source: &str) -> String {
    let source = source
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let lines = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn offences(source: &str) -> Vec<&'static str> {
    let code = code(source);
    FORBIDDEN.into_iter().filter(|word| code.contains(word)).collect()
}

#[test]
fn the_core_has_no_world_in_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft");
    let mut files = 0;
    for item in fs::read_dir(&folder).unwrap() {
        let path = item.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            files += 1;
            let found = offences(&fs::read_to_string(&path).unwrap());
            assert!(found.is_empty(), "{} mentions {found:?}", path.display());
        }
    }
    assert!(files >= 9, "only {files} sources in {}", folder.display());
}

#[test]
fn the_check_of_the_sources_sees_what_it_should() {
    assert_eq!(offences("use std::time::Instant;"), ["std::time", "Instant"]);
    assert_eq!(offences("let x = 1; // no async here\n//! tokio"), [""; 0]);
    assert_eq!(
        offences("fn f() {}\n#[cfg(test)]\nmod tests {\n use std::fs;\n}"),
        [""; 0]
    );
}
