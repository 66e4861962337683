//! Which watches have shown everything once: before that, nothing is decided.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// What is still waited for, with the last error of each.
#[derive(Debug, Default)]
pub(super) struct Progress {
    missing: Mutex<BTreeMap<String, Option<String>>>,
    done: Notify,
}

/// One watch's part in it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    name: String,
    progress: Arc<Progress>,
}

impl Progress {
    /// One more to wait for.
    pub(super) fn part(self: &Arc<Self>, name: String) -> Part {
        self.missing().insert(name.clone(), None);
        Part { name, progress: Arc::clone(self) }
    }

    /// Returns once nothing is missing.
    pub(super) async fn wait(&self) {
        loop {
            let notified = self.done.notified();
            if self.missing().is_empty() {
                return;
            }
            notified.await;
        }
    }

    /// Whether nothing is missing.
    ///
    /// # Errors
    /// What is.
    pub(super) fn check(&self) -> Result<(), String> {
        let missing = self.missing();
        if missing.is_empty() {
            return Ok(());
        }
        let each: Vec<String> = missing
            .iter()
            .map(|(name, error)| match error {
                Some(error) => format!("{name} ({error})"),
                None => name.clone(),
            })
            .collect();
        Err(format!("not listed yet: {}", each.join("; ")))
    }

    fn missing(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// It has shown everything.
    pub(super) fn complete(&self) {
        if self.progress.missing().remove(&self.name).is_some() {
            self.progress.done.notify_waiters();
        }
    }

    /// It failed. Without effect if it was complete once: what it showed is still known.
    pub(super) fn failed(&self, error: &str) {
        if let Some(slot) = self.progress.missing().get_mut(&self.name) {
            *slot = Some(error.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_error() {
        let progress = Arc::new(Progress::default());
        let (pods, links) = (progress.part("pods".into()), progress.part("links".into()));
        pods.failed("forbidden");
        assert_eq!(progress.check(), Err("not listed yet: links; pods (forbidden)".into()));
        links.complete();
        pods.complete();
        pods.failed("too late to matter");
        assert_eq!(progress.check(), Ok(()));
    }
}
