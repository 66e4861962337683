//! `restpipe-operator export`.

/// Settings of `restpipe-operator export`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {}

/// Runs it.
pub(super) async fn run(_options: Options) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}
