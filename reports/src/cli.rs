//! The command line of `reports`.
//!
//! Promises: the result goes to standard output, everything else to standard error. Exit codes: 0 done, 2 wrong usage
//! or a folder that is not a run, 5 a disk that fails.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::record::{RecordError, Run, RunFolder};
use crate::{render, summary, summary_json, write_report};

const USAGE: u8 = 2;
const FAILURE: u8 = 5;

/// Show what a run left behind.
#[derive(Debug, Parser)]
#[command(name = "reports", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 2 wrong usage or not a run, 5 reading or writing failed.\n\
    A run's own verdict never changes these; `chaos` and `loadgen` tell it by theirs.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the page of a run: one HTML file that opens without a network.
    Render {
        /// The run's folder.
        run: PathBuf,
        /// Where to write the page [default: report.html in the run's folder]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the story of a run in a few lines.
    Show {
        /// The run's folder.
        run: PathBuf,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command line and tells how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", with_causes(failure.error.as_ref()));
            ExitCode::from(failure.code)
        }
    }
}

struct Failure {
    code: u8,
    error: Box<dyn Error>,
}

impl From<RecordError> for Failure {
    fn from(error: RecordError) -> Self {
        let code = if error.is_not_a_run() { USAGE } else { FAILURE };
        Failure {
            code,
            error: error.into(),
        }
    }
}

impl Command {
    fn run(self) -> Result<(), Failure> {
        match self {
            Command::Render { run, out } => {
                let folder = RunFolder::open(run)?;
                let run = Run::read(&folder)?;
                let path = match out {
                    None => write_report(&folder, &run)?,
                    Some(path) => write_page(&path, &render(&run)).map(|()| path)?,
                };
                print(&format!("{}\n", path.display()))
            }
            Command::Show { run, json } => {
                let run = Run::read(&RunFolder::open(run)?)?;
                print(&if json {
                    format!("{:#}\n", summary_json(&run))
                } else {
                    summary(&run)
                })
            }
        }
    }
}

fn write_page(path: &Path, page: &str) -> Result<(), Failure> {
    fs::write(path, page).map_err(|source| {
        RecordError::Io {
            what: "write",
            path: path.to_owned(),
            source,
        }
        .into()
    })
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads us has seen enough, as in `reports show RUN | head -1`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure {
            code: FAILURE,
            error: error.into(),
        }),
        Ok(()) => Ok(()),
    }
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
