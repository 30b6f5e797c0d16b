//! The load generator; see `loadgen --help`.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Also for the nodes that this executable runs as: they are to cost what the `server` costs.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    loadgen::cli::main()
}
