//! Logs: text for people on a terminal, JSON for programs.

use std::io::IsTerminal;

use anyhow::Context;
use restpipe_config::LogFormat;
use tracing_subscriber::EnvFilter;

/// What kube's client says of each failed request at level ERROR, without saying which: who made the
/// request says it better, or it is no failure at all.
const QUIET: &str = "kube_client::client::builder=off";

/// Starts logging to stderr.
///
/// # Errors
/// If the filter makes no sense, or logging was started before.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let asked = filter.contains("kube");
    let mut filter = EnvFilter::try_new(filter).with_context(|| {
        format!(
            "--log {filter:?} is no filter: give a level such as info, or info,restpipe_operator=debug"
        )
    })?;
    if !asked {
        filter = filter.add_directive(QUIET.parse()?);
    }
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let started = if json {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(terminal).with_target(false).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}
