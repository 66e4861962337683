//! `restpipe server` and `restpipe client`.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::SystemTime;
use std::{fs, process};

use restpipe_config::{NodeFlags, Role, load};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::warn;

use crate::app::{Extras, Node};
use crate::telemetry::init_log;

/// Exit status after a second signal: the node did not finish what it was at.
const CUT_SHORT: i32 = 130;

/// Sockets looked at before the tasks that they wake run. With tokio's 1024 all
/// calls that wait are read before the first one goes on, so that the peer has
/// nothing to do meanwhile. Fewer cost the pipe more writes, and each look is a
/// system call: docs/performance.md.
const SOCKETS_AT_ONCE: usize = 14;

/// A runtime of one thread: a call passes four tasks, and waking one on
/// another core costs more than its work; a sidecar seldom has two cores.
pub(super) fn runtime() -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    Ok(builder.enable_all().max_io_events_per_tick(SOCKETS_AT_ONCE).build()?)
}

pub(super) fn run(role: Role, flags: NodeFlags) -> anyhow::Result<()> {
    // The file's mark before its text: a change in between is seen next time.
    let mut file = Followed::new(flags.config_file());
    let settings = load(role, &flags, &environment)?;
    init_log(&settings.telemetry)?;
    runtime()?.block_on(async move {
        let reload = move || file.may_differ().then(|| load(role, &flags, &environment));
        let extras = Extras { reload: Some(Box::new(reload)), ..Extras::default() };
        let node = Node::bind(settings, extras).await?;
        node.run(stop_signal()?).await
    })
}

/// Every so many looks the file is read even if its mark is unchanged: a mark
/// may miss a change, which must not be missed for long.
const READ_EVERY: u32 = 30;

/// A file of settings, which may be long and is looked at every few seconds.
struct Followed {
    path: PathBuf,
    mark: Option<(SystemTime, u64, u64)>,
    looks: u32,
}

impl Followed {
    fn new(path: PathBuf) -> Self {
        let mut file = Self { path, mark: None, looks: 0 };
        file.mark = file.look();
        file
    }

    fn look(&self) -> Option<(SystemTime, u64, u64)> {
        // Through links, as kubelet changes a mounted Secret by one.
        let about = fs::metadata(&self.path).ok()?;
        Some((about.modified().ok()?, about.len(), about.ino()))
    }

    fn may_differ(&mut self) -> bool {
        let mark = self.look();
        self.looks += 1;
        let differs = mark != self.mark || mark.is_none();
        self.mark = mark;
        differs || self.looks.is_multiple_of(READ_EVERY)
    }
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
