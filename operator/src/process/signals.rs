//! Ending when asked to.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// A token that SIGTERM or SIGINT cancels. A second signal ends the process at once, for those
/// who do not want to wait for an orderly end.
///
/// # Errors
/// If the signals cannot be listened for.
pub fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = next().await;
        info!(signal = first, "ending; a second signal ends at once");
        token.cancel();
        let second = next().await;
        warn!(signal = second, "ends at once");
        std::process::exit(1);
    });
    Ok(stop)
}
