//! A pipe to a server's pod while it is up: read who is there, tell who may be.

use std::sync::Arc;
use std::time::Duration;

use restpipe_pipe::pb::GoAwayReason;
use restpipe_pipe::{PipeHandle, PipeState, Why};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::ask::{self, Fault};
use super::identity::Config;
use super::metrics::{PipeUp, Pushed};
use super::pod::{Pod, identity_changes};
use super::snapshot::Snapshot;
use crate::seen::{Names, ServerPodState};

/// What comes so soon after a change is read together with it.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// A pod is not asked who is there more often than this, whatever happens: of 16,384 clients that
/// come back each time costs 11 MiB.
const READ_GAP: Duration = Duration::from_secs(1);

/// Without any change a pod is asked this often: its files may have been renewed, and an event may
/// have been missed.
const READ_EVERY: Duration = Duration::from_secs(60);

/// Names that a pod did not take are sent again after this time.
const PUSH_AGAIN: Duration = Duration::from_secs(5);

/// The other side is told that we stop within this time, or not at all.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a pipe is not watched any more.
pub(super) enum Ended {
    /// Nobody follows the pod any more.
    Stopped,
    /// Another pipe is to take its place, after a rest that the pod asked for.
    Replace(Duration),
    /// It has ended, and the pod asks for a rest.
    Lost(Duration),
}

/// A pipe that is up.
pub(super) struct Live<'a> {
    pub(super) pod: &'a Pod,
    pub(super) pipe: PipeHandle,
    /// Serial number of the certificate that the pod has shown.
    pub(super) serial: String,
    /// Fingerprint of the root that it is of.
    pub(super) root: String,
}

/// What the parts of a watch tell each other.
#[derive(Default)]
struct Known {
    /// Counts changes that the pod has told of; the first is that it will tell.
    changes: watch::Sender<u64>,
    names: watch::Sender<InForce>,
}

impl Known {
    /// Follows changes from when the pod tells of them. By the count and not by its next change: the
    /// first one may have been counted before anybody asked for it, and others may never come.
    async fn changes(&self) -> watch::Receiver<u64> {
        let mut changes = self.changes.subscribe();
        // Fails without its sender only, which is ours.
        let _ = changes.wait_for(|count| *count > 0).await;
        changes
    }
}

/// The names that the pod has in force.
#[derive(Clone, Copy, Default)]
struct InForce {
    /// Their version, once it is known.
    version: Option<u64>,
    /// Lists that the pod has answered: what was being read meanwhile may be older.
    pushes: u64,
}

/// How a watch ends before the pipe does.
enum End {
    Fault(Fault),
    /// The pod shows another certificate now.
    Renewed,
}

impl Live<'_> {
    /// Watches until the pipe has ended, or another is to take its place.
    pub(super) async fn watch(self, config: &Arc<Config>, renew_at: Instant) -> Ended {
        let known = Known::default();
        let mut up = None;
        let (mut configs, mut state) = (self.pod.config.clone(), self.pipe.state());
        let end = tokio::select! {
            () = self.pod.stop.cancelled() => return self.stop().await,
            rest = asked_to_leave(&mut state) => return self.replace(rest),
            () = tokio::time::sleep_until(renew_at) => return self.replace(Duration::ZERO),
            () = identity_changes(&mut configs, config) => return self.replace(Duration::ZERO),
            fault = self.follow_events(&known) => End::Fault(fault),
            end = self.read(&known, &mut up) => end,
            fault = self.push(&known) => End::Fault(fault),
        };
        match end {
            End::Renewed => self.replace(Duration::ZERO),
            End::Fault(fault) => self.lost(&fault, up.is_some()),
        }
    }

    async fn stop(&self) -> Ended {
        self.pipe.close("the operator does not follow this pod any more");
        let _ = tokio::time::timeout(FAREWELL, self.pipe.ended()).await;
        Ended::Stopped
    }

    /// Lets the pipe end by itself: another is dialled.
    fn replace(&self, rest: Duration) -> Ended {
        let detail = "the operator dials another pipe";
        self.pipe.go_away(GoAwayReason::Draining, detail, Duration::ZERO);
        Ended::Replace(rest)
    }

    /// A pipe that told nothing was as good as none.
    fn lost(&self, fault: &Fault, was_up: bool) -> Ended {
        let (word, trouble) = fault.explain(self.pod.address);
        if was_up {
            self.pod.ended(word, &trouble.detail);
        } else {
            self.pod.fails(word, trouble);
        }
        if let Fault::Pipe(Why::PeerSaid { retry_after, .. }) = fault {
            return Ended::Lost(*retry_after);
        }
        self.pipe.close("the operator got no answer");
        Ended::Lost(Duration::ZERO)
    }

    /// Counts the changes that the pod tells of.
    async fn follow_events(&self, known: &Known) -> Fault {
        let mut events = match ask::events(&self.pipe).await {
            Ok(events) => events,
            Err(fault) => return fault,
        };
        known.changes.send_modify(|count| *count += 1);
        let mut lines = ask::Lines::default();
        loop {
            match events.chunk().await {
                Some(Ok(piece)) if lines.tell_a_change(&piece) => {
                    known.changes.send_modify(|count| *count += 1);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return ask::fault(&self.pipe, ask::EVENTS, error).await,
                // The pod stops, and its farewell is near.
                None => return ask::farewell(&self.pipe, ask::EVENTS).await,
            }
        }
    }

    /// Reads who is there, whenever that may have changed.
    async fn read(&self, known: &Known, up: &mut Option<PipeUp>) -> End {
        // Not before events are told: what happens in between would be missed.
        let mut changes = known.changes().await;
        loop {
            changes.mark_unchanged();
            let begun = Instant::now();
            let pushes = known.names.borrow().pushes;
            match ask::peers(&self.pipe, &self.pod.context.large_reads).await {
                Ok(snapshot) => {
                    up.get_or_insert_with(|| self.is_up());
                    let renewed = snapshot.serial() != self.serial;
                    self.publish(snapshot, pushes, known);
                    if renewed {
                        return End::Renewed;
                    }
                }
                Err(fault @ Fault::Answer { .. }) => {
                    let (word, trouble) = fault.explain(self.pod.address);
                    self.pod.fails(word, trouble);
                    // Who may connect can be told all the same.
                    known.names.send_modify(|names| {
                        names.version.get_or_insert(0);
                    });
                }
                Err(fault) => return End::Fault(fault),
            }
            tokio::select! {
                () = tokio::time::sleep(READ_EVERY) => {}
                _ = changes.changed() => {
                    let soon = (Instant::now() + DEBOUNCE).max(begun + READ_GAP);
                    tokio::time::sleep_until(soon).await;
                }
            }
        }
    }

    fn is_up(&self) -> PipeUp {
        let (server, pod, address) = (&self.pod.key, self.pod.board.pod(), self.pod.address);
        info!(%server, pod, %address, "pipe to a server's pod is up");
        self.pod.context.metrics.pipe_up()
    }

    fn publish(&self, snapshot: Snapshot, pushes_before: u64, known: &Known) {
        let mut version = snapshot.names_version;
        known.names.send_if_modified(|names| {
            if names.pushes != pushes_before {
                // The answer to what was pushed is newer than this one.
                version = names.version.unwrap_or(version);
            }
            names.version.replace(version) != Some(version)
        });
        self.pod.board.tells(ServerPodState {
            names_version: version,
            serial: self.serial.clone(),
            root: self.root.clone(),
            trusts: snapshot.trusts(),
            reload_failed: snapshot.reload_failed(),
            pipes: snapshot.pipes(self.pod.board.pod()),
        });
    }

    /// Tells who may connect, whenever the pod knows less.
    async fn push(&self, known: &Known) -> Fault {
        let (mut configs, mut names) = (self.pod.config.clone(), known.names.subscribe());
        loop {
            let config = configs.borrow_and_update().clone();
            let version = names.borrow_and_update().version;
            let behind = version.is_some_and(|version| version < config.names.version);
            let refused = behind
                && match self.push_once(&config.names, known).await {
                    Ok(taken) => !taken,
                    Err(fault) => return fault,
                };
            tokio::select! {
                Ok(()) = configs.changed() => {}
                Ok(()) = names.changed(), if !refused => {}
                () = tokio::time::sleep(PUSH_AGAIN), if refused => {}
            }
        }
    }

    /// Whether the pod has taken them.
    async fn push_once(&self, names: &Names, known: &Known) -> Result<bool, Fault> {
        let (server, pod) = (&self.pod.key, self.pod.board.pod());
        let count = |result| self.pod.context.metrics.names_pushed(result);
        match ask::put_names(&self.pipe, names).await {
            Ok(version) => {
                known.names.send_modify(|known| {
                    *known = InForce { version: Some(version), pushes: known.pushes + 1 };
                });
                self.pod.board.has_names(version);
                let taken = version >= names.version;
                count(if taken { Pushed::Taken } else { Pushed::Refused });
                info!(%server, pod, sent = names.version, in_force = version, "names sent to a server's pod");
                Ok(taken)
            }
            Err(fault @ Fault::Answer { .. }) => {
                count(Pushed::Refused);
                let (_, trouble) = fault.explain(self.pod.address);
                warn!(%server, pod, version = names.version, detail = %trouble.detail, "a server's pod does not take the names that may connect");
                Ok(false)
            }
            Err(fault) => {
                count(Pushed::Failed);
                Err(fault)
            }
        }
    }
}

/// Waits until the pod asks for another pipe. Returns how long to wait before it is dialled.
async fn asked_to_leave(state: &mut watch::Receiver<PipeState>) -> Duration {
    loop {
        if let PipeState::Replacing(away) | PipeState::Draining(away) = &*state.borrow_and_update()
        {
            return Duration::from_millis(away.retry_after_ms.into());
        }
        if state.changed().await.is_err() {
            // It has ended, which the others find too and say more of.
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_pod_that_tells_of_changes_before_anybody_follows_them_is_followed_all_the_same() {
        let known = Known::default();
        assert!(known.changes().now_or_never().is_none(), "it tells of none yet");
        known.changes.send_modify(|count| *count += 1);
        let mut changes = known.changes().now_or_never().expect("it has told");
        changes.mark_unchanged();
        assert!(changes.changed().now_or_never().is_none());
        known.changes.send_modify(|count| *count += 1);
        assert!(changes.changed().now_or_never().is_some_and(|changed| changed.is_ok()));
    }
}
