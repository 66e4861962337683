//! Executables that run when a pipe comes and goes.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use restpipe_config::HookSettings;
use tokio::process::Command;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::presence::{Change, Presence, PresenceEvent};

/// A hook that runs longer is killed: hooks run one after another, so that
/// they see changes in their order.
const HOOK_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the hooks until `stop`, one at a time.
pub(crate) async fn run(settings: HookSettings, presence: Presence, stop: CancellationToken) {
    let mut changes = presence.listen();
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => change,
        };
        match change {
            Ok(event) => {
                if let Some(path) = hook(&settings, event.event) {
                    run_one(path, &event).await;
                }
            }
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "hooks are too slow and missed changes")
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn hook(settings: &HookSettings, change: Change) -> Option<&PathBuf> {
    match change {
        Change::Connect => settings.on_connect.as_ref(),
        Change::ConnectFail => settings.on_connect_fail.as_ref(),
        Change::Disconnect => settings.on_disconnect.as_ref(),
        Change::Idle => settings.on_idle.as_ref(),
        Change::CertReload | Change::CertReloadFailed => None,
    }
}

async fn run_one(path: &PathBuf, event: &PresenceEvent) {
    let word = event.event.word();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let child = Command::new(path)
        .env("RESTPIPE_EVENT", word)
        .env("RESTPIPE_PEER", &event.peer)
        .env("RESTPIPE_INSTANCE", text(&event.instance))
        .env("RESTPIPE_ADDRESS", text(&event.address))
        .env("RESTPIPE_REASON", text(&event.reason))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .status();
    match tokio::time::timeout(HOOK_TIMEOUT, child).await {
        Ok(Ok(status)) if status.success() => info!(hook = word, "hook ran"),
        Ok(Ok(status)) => warn!(hook = word, %status, path = %path.display(), "hook failed"),
        Ok(Err(error)) => warn!(hook = word, %error, path = %path.display(), "hook cannot be run"),
        Err(_) => {
            warn!(hook = word, path = %path.display(), "hook was killed after {HOOK_TIMEOUT:?}")
        }
    }
}
