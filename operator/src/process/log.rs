//! Logs: text for people on a terminal, JSON for programs.

use std::io::IsTerminal;

use anyhow::ensure;
use restpipe_config::{LogFormat, is_log_filter};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{fmt, registry};

/// What kube's client says of each failed request at level ERROR, without saying which: who made the
/// request says it better, or it is no failure at all.
const QUIET: &str = "kube_client::client::builder";

/// Starts logging to stderr.
///
/// # Errors
/// If the filter makes no sense, or logging was started before.
pub fn init(filter: &str, format: LogFormat) -> anyhow::Result<()> {
    ensure!(
        is_log_filter(filter),
        "--log {filter:?} is no filter: give a level such as info, or info,restpipe_operator=debug"
    );
    let mut targets: Targets = filter.parse()?;
    if !filter.contains("kube") {
        targets = targets.with_target(QUIET, LevelFilter::OFF);
    }
    let filtered = registry().with(targets);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
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
