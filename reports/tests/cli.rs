//! The command line, as a user meets it.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::{Command, Output};

use common::*;

fn reports(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reports"))
        .args(arguments)
        .output()
        .unwrap()
}

fn path(fixture_name: &str) -> String {
    fixture(fixture_name).path().to_str().unwrap().to_owned()
}

#[test]
fn render_writes_the_page_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("page.html");
    let output = reports(&["render", &path("load"), "--out", out.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap().trim_end(),
        out.to_str().unwrap()
    );
    assert!(fs::read_to_string(&out).unwrap().starts_with("<!DOCTYPE html>"));
}

#[test]
fn render_puts_the_page_beside_the_record() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["manifest.json", "load.json"] {
        fs::copy(fixture("load").file(name), dir.path().join(name)).unwrap();
    }
    let output = reports(&["render", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(dir.path().join("report.html").is_file());
}

#[test]
fn show_tells_the_story_in_few_lines() {
    for name in ["chaos-pass", "chaos-violation", "load", "partial"] {
        let output = reports(&["show", &path(name)]);
        assert_eq!(output.status.code(), Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().count() <= reports::LINES_MAX, "{text}");
        assert!(text.lines().last().unwrap().contains("again: "), "{text}");
    }
}

#[test]
fn show_json_is_for_programs() {
    let output = reports(&["show", "--json", &path("chaos-violation")]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["schema"], 1);
    assert_eq!(value["outcome"], "violation");
    assert_eq!(value["exit_code"], 1);
    assert_eq!(value["checks"][0]["witness"]["key"], "k7");
    assert_eq!(value["faults"][1]["effective"], false);
    assert_eq!(value["load"]["counts"]["ok"], 4342);
}

#[test]
fn what_is_not_a_run_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = reports(&["show", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.starts_with("error: ") && message.contains("is not a run"),
        "{message}"
    );
    assert_eq!(reports(&["render"]).status.code(), Some(2));
    fs::write(dir.path().join("manifest.json"), "{\"schema\": 99}").unwrap();
    let output = reports(&["show", dir.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("schema version 99")
    );
}

#[test]
fn a_page_that_cannot_be_written_is_a_failure() {
    let output = reports(&["render", &path("load"), "--out", "/nonexistent-folder/page.html"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot write"));
}
