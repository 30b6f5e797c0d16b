//! `server/CHECKLIST.md` held against the tree: every line is there once, with tests that exist or a reason why not.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const LINES: usize = 73;

/// The numbered lines of a checklist, each with its continuation.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let numbered = line.split_once(". ").and_then(|(number, rest)| {
            let number = number.parse().ok()?;
            Some((number, rest.to_owned()))
        });
        match (numbered, found.last_mut()) {
            (Some(numbered), _) => found.push(numbered),
            (None, Some((_, last))) if line.starts_with(' ') => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => {}
        }
    }
    found
}

/// What stands between backquotes and names a test or a script.
fn proofs(line: &str) -> Vec<&str> {
    let quoted = line.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| word.contains(".rs::") || word.ends_with(".txt"))
        .collect()
}

/// Why a named test proves nothing, if so.
fn problem_of(proof: &str) -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some((file, name)) = proof.split_once("::") else {
        return (!root.join(proof).is_file()).then(|| format!("there is no {proof}"));
    };
    let Ok(source) = fs::read_to_string(root.join(file)) else {
        return Some(format!("there is no {file}"));
    };
    let source: Vec<&str> = source.lines().map(str::trim).collect();
    let declared = format!("fn {name}(");
    let at = source
        .iter()
        .position(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(&declared));
    let Some(at) = at else {
        return Some(format!("there is no test {name} in {file}"));
    };
    let mut above = source[..at].iter().rev();
    let is_test = above
        .by_ref()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
    (!is_test).then(|| format!("{name} in {file} is no test"))
}

fn problems(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut times: BTreeMap<usize, usize> = (1..=LINES).map(|number| (number, 0)).collect();
    for (number, line) in lines(text) {
        *times.entry(number).or_default() += 1;
        let proofs = proofs(&line);
        let reason = line
            .split_once("Does not apply: ")
            .map_or("", |(_, reason)| reason);
        if proofs.is_empty() && reason.len() < 20 {
            problems.push(format!("line {number} has neither a test nor a reason"));
        }
        if line.contains("**open**") {
            problems.push(format!("line {number} is open"));
        }
        let broken = proofs.into_iter().filter_map(problem_of);
        problems.extend(broken.map(|problem| format!("line {number}: {problem}")));
    }
    for (number, times) in times {
        if times != 1 || number == 0 || number > LINES {
            problems.push(format!("line {number} is there {times} times"));
        }
    }
    problems
}

#[test]
fn every_line_of_the_checklist_has_tests_that_exist_or_a_reason() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CHECKLIST.md");
    let problems = problems(&fs::read_to_string(path).unwrap());
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn the_check_of_the_checklist_sees_what_it_should() {
    let own = "tests/proof_checklist.rs";
    for (line, problem) in [
        ("1. A. `src/none.rs::x`", "line 1: there is no src/none.rs"),
        (
            "1. A. `src/raft/tests/scripts/none.txt`",
            "line 1: there is no src/raft/tests/scripts/none.txt",
        ),
        (
            "1. A.\n   `tests/proof_checklist.rs::nothing`",
            "line 1: there is no test nothing in tests/proof_checklist.rs",
        ),
        (
            "1. A. `tests/proof_checklist.rs::problems`",
            "line 1: problems in tests/proof_checklist.rs is no test",
        ),
        ("1. A.", "line 1 has neither a test nor a reason"),
        (
            "1. A. Does not apply: no.",
            "line 1 has neither a test nor a reason",
        ),
        ("1. A. **open**", "line 1 is open"),
        ("2. A.\n2. B.", "line 2 is there 2 times"),
        ("74. A.", "line 74 is there 1 times"),
    ] {
        let found = problems(line);
        assert!(found.iter().any(|found| found == problem), "{line}: {found:?}");
    }
    let name = "the_check_of_the_checklist_sees_what_it_should";
    assert_eq!(problem_of(&format!("{own}::{name}")), None);
}
