//! The process that reconciles.

/// Settings of `restpipe-operator controller`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {}

/// Runs until SIGTERM.
///
/// # Errors
/// If it cannot start, or has lost the lease.
pub async fn run(_options: Options) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
