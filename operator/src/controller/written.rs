//! What this process wrote last, since watches tell it only a moment later.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::seen::Key;

/// Between two writes of a status: it is for people, and a pipe that flaps is not to fill etcd.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// A status as a write of ours has left it.
#[derive(Clone, Debug)]
pub(super) struct Written<S> {
    /// The object's version then.
    pub(super) version: Option<String>,
    /// What is there: ours, and what others have put beside it.
    pub(super) status: Option<S>,
    /// Whether there is something of others that the next write can take out.
    pub(super) left: bool,
}

/// The statuses of one kind.
#[derive(Debug)]
pub(super) struct Statuses<S>(Mutex<HashMap<Key, Last<S>>>);

/// The last write to an object.
#[derive(Debug)]
struct Last<S> {
    uid: String,
    at: Instant,
    written: Written<S>,
}

impl<S> Default for Statuses<S> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<S: Clone + PartialEq> Statuses<S> {
    /// What our last write has left, if that is later than `version`, at which the caller saw the
    /// object: planning from the older one would write it again, with new times.
    pub(super) fn later_than(
        &self,
        key: &Key,
        uid: &str,
        version: Option<&str>,
    ) -> Option<Written<S>> {
        let written = self.last(key, uid)?;
        (number(written.version.as_deref()) > number(version)).then_some(written)
    }

    /// Whether that is the status that our last write has left.
    pub(super) fn is_ours(&self, key: &Key, uid: &str, status: Option<&S>) -> bool {
        self.last(key, uid).is_some_and(|written| status == written.status.as_ref())
    }

    /// Whether that is the status that our last write has left, with something of others in it.
    pub(super) fn has_left(&self, key: &Key, uid: &str, status: Option<&S>) -> bool {
        self.last(key, uid).is_some_and(|written| written.left && status == written.status.as_ref())
    }

    /// How long to wait with the next write; nothing if it may be now.
    pub(super) fn wait(&self, key: &Key) -> Option<Duration> {
        let wait = STATUS_PAUSE.checked_sub(self.all().get(key)?.at.elapsed())?;
        (!wait.is_zero()).then_some(wait)
    }

    /// It was written.
    pub(super) fn wrote(&self, key: &Key, uid: &str, written: Written<S>) {
        let last = Last { uid: uid.to_owned(), at: Instant::now(), written };
        self.all().insert(key.clone(), last);
    }

    /// The object is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.all().remove(key);
    }

    fn last(&self, key: &Key, uid: &str) -> Option<Written<S>> {
        let all = self.all();
        all.get(key).filter(|last| last.uid == uid).map(|last| last.written.clone())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Last<S>>> {
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

    fn wrote(statuses: &Statuses<&'static str>, status: &'static str, left: bool) {
        let written = Written { version: Some("12".into()), status: Some(status), left };
        statuses.wrote(&key(), "u", written);
    }

    #[test]
    fn what_was_written_counts_until_the_watch_has_caught_up() {
        let statuses = Statuses::default();
        wrote(&statuses, "new", false);
        let later = |uid: &str, version: &str| {
            let written = statuses.later_than(&key(), uid, Some(version))?;
            Some((written.status?, written.version?))
        };
        assert_eq!(later("u", "9"), Some(("new", "12".into())));
        assert_eq!(later("u", "12"), None);
        assert_eq!(later("another of that name", "9"), None);
        assert!(statuses.is_ours(&key(), "u", Some(&"new")));
        assert!(!statuses.is_ours(&key(), "u", Some(&"of somebody else")));
        assert!(statuses.wait(&key()).is_some_and(|wait| wait <= STATUS_PAUSE));
        statuses.forget(&key());
        assert_eq!(statuses.wait(&key()), None);
    }

    #[test]
    fn what_was_left_counts_as_long_as_it_is_there() {
        let statuses = Statuses::default();
        let left = |status: &'static str| statuses.has_left(&key(), "u", Some(&status));
        assert!(!left("ours and theirs"));
        wrote(&statuses, "ours and theirs", true);
        assert!(left("ours and theirs"));
        assert!(!statuses.has_left(&key(), "another of that name", Some(&"ours and theirs")));
        assert!(!left("ours"), "they have taken it out themselves");
        wrote(&statuses, "ours and theirs", false);
        assert!(!left("ours and theirs"), "it comes back with every write");
    }
}
