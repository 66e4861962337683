//! Logs: text for people on a terminal, JSON for programs.

use std::io::IsTerminal;

use anyhow::Context;
use restpipe_config::LogFormat;
use tracing_subscriber::EnvFilter;

/// Starts logging to stderr.
///
/// # Errors
/// If the filter makes no sense, or logging was started before.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).with_context(|| {
        format!(
            "--log {filter:?} is no filter: give a level such as info, or info,restpipe_operator=debug"
        )
    })?;
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
