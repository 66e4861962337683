//! `restpipe-operator check`.

/// Settings of `restpipe-operator check`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {}

/// Runs it.
pub(super) async fn run(_options: Options) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("not there yet")
}
