//! Logs: text for people on a terminal, JSON for programs.

use std::io::IsTerminal;

use anyhow::ensure;
use restpipe_config::{LogFormat, TelemetrySettings, is_log_filter};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

/// Starts logging to stderr.
///
/// # Errors
/// If the filter makes no sense, or logging was started before.
pub fn init(settings: &TelemetrySettings) -> anyhow::Result<()> {
    ensure!(
        is_log_filter(&settings.log),
        "--log {:?} is no filter: give a level such as info, or info,restpipe=debug",
        settings.log
    );
    // Not an `EnvFilter`, whose regular expressions would be a quarter of a MiB of every sidecar.
    let filtered = registry().with(settings.log.parse::<Targets>()?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let json = match settings.log_format {
        LogFormat::Auto => !terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let started = if json {
        let lines = lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
        filtered.with(lines).try_init()
    } else {
        filtered.with(lines.with_ansi(terminal).with_target(false)).try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot be started: {error}"))
}
