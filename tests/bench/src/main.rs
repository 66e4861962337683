//! `make bench`: how fast a node is, and what it costs, beside roofs that are
//! measured in the same run with the same I/O code.
//!
//! Every role is a process of its own, so that its CPU time is its own: this
//! binary starts itself with a hidden subcommand for each.

mod args;
mod bench;
mod case;
mod process;
mod relay;
mod report;
mod role;
mod roof;
mod site;
mod stats;
mod trace;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};

/// That of the node, so that the roofs are no lower for their allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Some(Command::Role(role)) => role::run(role),
        None => bench::run(cli.run),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("restpipe-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
