//! `restpipe server` and `restpipe client`.

use std::process;

use restpipe_config::{NodeFlags, Role, load};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::app::{Extras, Node};
use crate::telemetry::init_log;

/// Exit status after a second signal: the node did not finish what it was at.
const CUT_SHORT: i32 = 130;

/// A runtime of one thread: a call passes four tasks, and waking one on
/// another core costs more than its work; a sidecar seldom has two cores.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

pub(super) fn run(role: Role, flags: NodeFlags) -> anyhow::Result<()> {
    let settings = load(role, &flags, &environment)?;
    init_log(&settings.telemetry)?;
    runtime()?.block_on(async move {
        let reload = move || load(role, &flags, &environment);
        let extras = Extras { reload: Some(Box::new(reload)), ..Extras::default() };
        let node = Node::bind(settings, extras).await?;
        node.run(stop_signal()?).await
    })
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Ends at SIGTERM or SIGINT; a second one ends the process at once.
pub(super) fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        either(&mut signals).await;
        tokio::spawn(async move {
            either(&mut signals).await;
            warn!("a second signal: ending at once");
            process::exit(CUT_SHORT);
        });
    })
}

async fn either((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
