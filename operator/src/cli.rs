//! The command line.

mod check;
mod export;
mod rotate_ca;
mod stdout;
mod target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{controller, webhook};

/// The control plane of RestPipe in Kubernetes.
#[derive(Debug, Parser)]
#[command(version, name = "restpipe-operator")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Reconcile RestPipeServer and RestPipeLink objects.
    Controller(controller::Options),
    /// Give annotated pods their sidecar.
    Webhook(webhook::Options),
    /// Print the custom resource definitions as YAML.
    Crds,
    /// Look whether RestPipe can work here, or whether and how well it does.
    Check(check::Options),
    /// Write the identity of a link's client outside this cluster.
    Export(export::Options),
    /// Replace the CA of a server, step by step.
    RotateCa(rotate_ca::Options),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    // One provider for everything in this process, kube's client included.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Controller(options) => runtime.block_on(controller::run(options))?,
        Command::Webhook(options) => runtime.block_on(webhook::run(options))?,
        Command::Crds => stdout::write(&crds()?)?,
        Command::Check(options) => return runtime.block_on(check::run(options)),
        Command::Export(options) => runtime.block_on(export::run(options))?,
        Command::RotateCa(options) => runtime.block_on(rotate_ca::run(options))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Both custom resource definitions, as YAML documents.
///
/// # Errors
/// None in practice: what is written is made at compile time.
pub fn crds() -> anyhow::Result<String> {
    let documents =
        restpipe_api::crds().iter().map(serde_saphyr::to_string).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("---\n{}", documents.join("---\n")))
}
