//! `reports`: the page and the summary of a run. See [`reports::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    reports::cli::main()
}
