//! What this process wrote last, since watches tell it only a moment later.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::seen::Key;

/// Between two writes of a status: it is for people, and a pipe that flaps is not to fill etcd.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// The statuses of one kind.
#[derive(Debug)]
pub(super) struct Statuses<S>(Mutex<HashMap<Key, Written<S>>>);

#[derive(Debug)]
struct Written<S> {
    uid: String,
    version: u64,
    at: Instant,
    status: S,
}

impl<S> Default for Statuses<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Clone + PartialEq> Statuses<S> {
    /// The status that we wrote to the object, if its version is later than `version`, at which
    /// the caller saw it: planning from the older one would write it again, with new times.
    pub(super) fn later_than(&self, key: &Key, uid: &str, version: Option<&str>) -> Option<S> {
        let all = self.all();
        let written = all.get(key).filter(|written| written.uid == uid)?;
        (written.version > number(version)).then(|| written.status.clone())
    }

    /// Whether that is the status that we wrote.
    pub(super) fn is_ours(&self, key: &Key, uid: &str, status: Option<&S>) -> bool {
        let all = self.all();
        let written = all.get(key).filter(|written| written.uid == uid);
        written.is_some_and(|written| status == Some(&written.status))
    }

    /// How long to wait with the next write; nothing if it may be now.
    pub(super) fn wait(&self, key: &Key) -> Option<Duration> {
        let wait = STATUS_PAUSE.checked_sub(self.all().get(key)?.at.elapsed())?;
        (!wait.is_zero()).then_some(wait)
    }

    /// It was written, and the object has that version now.
    pub(super) fn wrote(&self, key: &Key, uid: &str, version: Option<&str>, status: S) {
        let written =
            Written { uid: uid.to_owned(), version: number(version), at: Instant::now(), status };
        self.all().insert(key.clone(), written);
    }

    /// The object is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.all().remove(key);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Written<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions of objects whose watch event brings no news, since we made it.
#[derive(Debug, Default)]
pub(super) struct Versions(Mutex<HashMap<Key, String>>);

impl Versions {
    pub(super) fn wrote(&self, key: &Key, version: Option<String>) {
        if let Some(version) = version {
            self.all().insert(key.clone(), version);
        }
    }

    /// Whether that version is ours.
    pub(super) fn is_ours(&self, key: &Key, version: &str) -> bool {
        self.all().get(key).is_some_and(|ours| ours == version)
    }

    pub(super) fn forget(&self, key: &Key) {
        self.all().remove(key);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Versions are numbers that grow (KEP-5504; with etcd they always were). One that is none is
/// taken as the oldest: then what was written counts until the next write.
fn number(version: Option<&str>) -> u64 {
    version.and_then(|version| version.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { namespace: "a".into(), name: "b".into() }
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_caught_up() {
        let statuses = Statuses::default();
        statuses.wrote(&key(), "u", Some("12"), "new");
        assert_eq!(statuses.later_than(&key(), "u", Some("9")), Some("new"));
        assert_eq!(statuses.later_than(&key(), "u", Some("12")), None);
        assert_eq!(statuses.later_than(&key(), "another of that name", Some("9")), None);
        assert!(statuses.is_ours(&key(), "u", Some(&"new")));
        assert!(!statuses.is_ours(&key(), "u", Some(&"of somebody else")));
        assert!(statuses.wait(&key()).is_some_and(|wait| wait <= STATUS_PAUSE));
        statuses.forget(&key());
        assert_eq!(statuses.wait(&key()), None);
    }
}
