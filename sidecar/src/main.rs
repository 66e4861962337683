//! The binary `restpipe`: boots, and nothing else.

use std::process::ExitCode;

use restpipe::cli::{Cli, one_line, run};

/// Every TLS record is a fresh allocation; rustls's own benchmarks send up to
/// twice as fast with an allocator other than glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match Cli::parse_args() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("restpipe: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}
