//! `server`: one node. See `server --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    server::cli::main()
}
