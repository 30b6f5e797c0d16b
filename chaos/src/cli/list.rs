//! `chaos list`.

use std::path::Path;
use std::process::ExitCode;

use super::USAGE;
use crate::scenario::Scenario;

pub(super) fn main(folder: &Path, json: bool) -> ExitCode {
    let files = match std::fs::read_dir(folder) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())),
        Err(error) => {
            eprintln!(
                "error: cannot list {}: {error}; name a folder with scenarios",
                folder.display()
            );
            return ExitCode::from(USAGE);
        }
    };
    let mut files: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut code = ExitCode::SUCCESS;
    let mut rows = Vec::new();
    for file in files {
        match Scenario::load(&file) {
            Ok(scenario) => rows.push(serde_json::json!({
                "file": file.display().to_string(),
                "name": scenario.name.value,
                "about": scenario.about,
                "nodes": scenario.cluster.nodes.value,
                "seconds": scenario.duration.0.as_secs_f64(),
                "faults": scenario.expand().len(),
            })),
            Err(error) => {
                eprintln!("{error}");
                code = ExitCode::from(USAGE);
            }
        }
    }
    if json {
        println!("{}", serde_json::Value::Array(rows));
        return code;
    }
    for row in rows {
        let text = |field: &str| row[field].as_str().unwrap_or_default().to_owned();
        println!(
            "{:40} {} nodes, {:>3} s, {} faults",
            text("file"),
            row["nodes"],
            row["seconds"],
            row["faults"]
        );
        println!("    {}", text("about"));
    }
    code
}
