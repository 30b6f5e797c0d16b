//! The load generator; see `loadgen --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    loadgen::cli::main()
}
