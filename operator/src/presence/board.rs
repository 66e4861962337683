//! Where tasks put what they find, and who is told of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Context;
use crate::seen::{Key, ServerPodSeen, ServerPodState, Trouble};

/// A server's changes are told no more often than this: a thousand clients that come back are a
/// few changes of a status, not a thousand.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What is known of one pod.
pub(super) struct Board {
    pod: String,
    state: Mutex<Option<Result<ServerPodState, Trouble>>>,
    changed: Arc<Notify>,
}

impl Board {
    /// Nothing yet. `changed` is the server's.
    pub(super) fn new(pod: String, changed: Arc<Notify>) -> Self {
        Self { pod, state: Mutex::default(), changed }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<ServerPodState, Trouble>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pod's name.
    pub(super) fn pod(&self) -> &str {
        &self.pod
    }

    /// What is known, if anything is.
    pub(super) fn seen(&self) -> Option<ServerPodSeen> {
        let state = self.lock().clone()?;
        Some(ServerPodSeen { pod: self.pod.clone(), state })
    }

    /// Puts what the pod has told.
    pub(super) fn tells(&self, told: ServerPodState) {
        let mut state = self.lock();
        if !matches!(&*state, Some(Ok(known)) if *known == told) {
            *state = Some(Ok(told));
            self.changed.notify_one();
        }
    }

    /// Puts which names the pod has in force.
    pub(super) fn has_names(&self, version: u64) {
        if let Some(Ok(known)) = &mut *self.lock()
            && known.names_version != version
        {
            known.names_version = version;
            self.changed.notify_one();
        }
    }

    /// Puts why the pod cannot be asked. While it is for the same reason the first sentence
    /// stands: one that names the time of each attempt is no news.
    pub(super) fn fails(&self, trouble: Trouble) {
        let mut state = self.lock();
        if !matches!(&*state, Some(Err(known)) if known.reason == trouble.reason) {
            *state = Some(Err(trouble));
            self.changed.notify_one();
        }
    }
}

/// Tells of a server's changes until `stop`.
pub(super) async fn tell(
    context: Arc<Context>,
    key: Key,
    changed: Arc<Notify>,
    stop: CancellationToken,
) {
    let tell = async {
        loop {
            changed.notified().await;
            (context.on_change)(&key);
            tokio::time::sleep(TELL_EVERY).await;
        }
    };
    // Once it is forgotten, not a word of it.
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = tell => {}
    }
}
