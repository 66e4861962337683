//! The command line.

mod ask;
mod dev;
mod identity;
mod node;
mod show;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use restpipe_config::{NodeFlags, Role, only_for};

pub use dev::DevArgs;
pub use identity::IdentityCommand;

/// Exit status for a command line that makes no sense, as clap has it.
const USAGE: u8 = 2;

/// A secure, durable, two-way REST pipe between workloads.
///
/// A client node dials a server node over mutual TLS and stays connected. Then
/// an app on either side asks the other by plain HTTP on localhost:
///
///   on the client:  curl http://localhost:7070/server/time
///   on the server:  curl http://localhost:7070/client/HOSTNAME/time
///
/// `restpipe dev` shows both sides on this machine in one go.
#[derive(Debug, Parser)]
#[command(name = "restpipe", version, verbatim_doc_comment, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server node: wait for the pipes of clients.
    #[command(mut_args = only_for(Role::Server))]
    Server(Box<NodeFlags>),
    /// Run a client node: dial one server and stay connected.
    #[command(mut_args = only_for(Role::Client))]
    Client(Box<NodeFlags>),
    /// Run a server and a client here, with a throwaway CA, and print curl lines to try.
    Dev(DevArgs),
    /// Make, install, show and check certificates.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// List who is connected to a node.
    Peers(PeersArgs),
    /// Show how a node is: its pipe, its certificate, its last failure.
    Status(StatusArgs),
}

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Arguments of `restpipe peers`.
#[derive(Args, Debug)]
pub struct PeersArgs {
    /// Only this hostname.
    hostname: Option<String>,
    /// The node's gateway: http://HOST:PORT or unix:/path.
    #[arg(long, env = "RESTPIPE_URL", default_value = "http://127.0.0.1:7070")]
    url: String,
    /// How to write it.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// Arguments of `restpipe status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The node's admin port: http://HOST:PORT.
    #[arg(long, env = "RESTPIPE_ADMIN_URL", default_value = "http://127.0.0.1:7071")]
    url: String,
    /// How to write it.
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

impl Cli {
    /// Parses the process's command line. Help and version are printed as clap
    /// writes them, a mistake as one line.
    ///
    /// # Errors
    /// The process's exit code: there is nothing left to do.
    pub fn parse_args() -> Result<Self, ExitCode> {
        Self::try_parse().map_err(|error| {
            if error.use_stderr()
                && error.kind() != clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            {
                eprintln!("restpipe: {}", restpipe_config::one_line(&error));
                return ExitCode::from(USAGE);
            }
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
        })
    }
}

/// An error and its causes in one line; a cause that the text before it
/// already holds is not said twice.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if line.contains(&cause) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&cause);
    }
    line.replace('\n', " ")
}

/// Writes to stdout; whoever reads it may have read enough (`| head`).
fn say(text: impl std::fmt::Display) -> anyhow::Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Carries out a command.
///
/// # Errors
/// What went wrong, in one line with its cure.
pub fn run(cli: Cli) -> anyhow::Result<()> {
    // The only provider there is; configurations name it, and libraries that
    // ask for the default must find the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.command {
        Command::Server(flags) => node::run(Role::Server, *flags),
        Command::Client(flags) => node::run(Role::Client, *flags),
        Command::Dev(args) => dev::run(args),
        Command::Identity(command) => identity::run(command),
        Command::Peers(args) => show::peers(&args),
        Command::Status(args) => show::status(&args),
    }
}
