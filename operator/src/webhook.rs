//! The process that answers the API server when a pod is created.

/// Settings of `restpipe-operator webhook`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {}

/// Runs until SIGTERM.
///
/// # Errors
/// If it cannot start.
pub async fn run(_options: Options) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
