//! Who is to be reconciled next.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use crate::seen::Key;

/// Requests for reconciles of one kind.
///
/// Each object waits at most once: the queue cannot grow beyond the number of objects, and a
/// stream of events cannot push a reconcile back for ever (the debounce of kube's scheduler starts
/// anew with each request).
pub(super) struct Triggers {
    /// By namespace that is watched, `None` for the whole cluster.
    queues: HashMap<Option<String>, UnboundedSender<Key>>,
    waiting: Mutex<Waiting>,
}

/// Who waits for a reconcile.
struct Waiting {
    keys: HashSet<Key>,
    /// When a reconcile began last, or the first of those that wait came, if that is later.
    since: Instant,
}

/// Where the controller of each part of the scope gets its requests.
pub(super) type Queues = HashMap<Option<String>, UnboundedReceiver<Key>>;

impl Triggers {
    /// Requests, and where they come out.
    pub(super) fn new(parts: &[Option<String>]) -> (Self, Queues) {
        let mut queues = HashMap::new();
        let mut ends = HashMap::new();
        for part in parts {
            let (sender, receiver) = unbounded_channel();
            queues.insert(part.clone(), sender);
            ends.insert(part.clone(), receiver);
        }
        let waiting = Waiting { keys: HashSet::new(), since: Instant::now() };
        (Self { queues, waiting: Mutex::new(waiting) }, ends)
    }

    /// Asks for a reconcile. Without effect if the object waits already, or is nowhere that is watched.
    pub(super) fn ask(&self, key: &Key) {
        let queue =
            self.queues.get(&None).or_else(|| self.queues.get(&Some(key.namespace.clone())));
        let Some(queue) = queue else { return };
        if self.waiting().add(key) {
            // Nobody listens only while the process ends.
            let _ = queue.send(key.clone());
        }
    }

    /// The object's reconcile begins, and what happens from now on needs another one; or the
    /// object is gone, and nobody waits for it.
    pub(super) fn taken(&self, key: &Key) {
        let mut waiting = self.waiting();
        waiting.keys.remove(key);
        waiting.since = Instant::now();
    }

    /// For how long no reconcile has begun though somebody waits for one.
    pub(super) fn stands_still(&self) -> Duration {
        let waiting = self.waiting();
        if waiting.keys.is_empty() { Duration::ZERO } else { waiting.since.elapsed() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Gives whether it has not waited before.
    fn add(&mut self, key: &Key) -> bool {
        if self.keys.is_empty() {
            self.since = Instant::now();
        }
        self.keys.insert(key.clone())
    }
}

/// The way kube names an object.
pub(super) fn reference<K>(key: &Key) -> ObjectRef<K>
where
    K: Resource,
    K::DynamicType: Default,
{
    ObjectRef::new(&key.name).within(&key.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str) -> Key {
        Key { namespace: namespace.into(), name: "x".into() }
    }

    #[test]
    fn an_object_waits_once_until_its_reconcile_begins() {
        let (triggers, mut ends) = Triggers::new(&[None]);
        let end = ends.get_mut(&None).expect("the whole cluster");
        triggers.ask(&key("a"));
        triggers.ask(&key("a"));
        assert_eq!(end.try_recv(), Ok(key("a")));
        assert!(end.try_recv().is_err());
        triggers.taken(&key("a"));
        triggers.ask(&key("a"));
        assert_eq!(end.try_recv(), Ok(key("a")));
    }

    #[tokio::test(start_paused = true)]
    async fn it_stands_still_if_somebody_waits_and_nobody_is_taken() {
        let (triggers, _ends) = Triggers::new(&[None]);
        let minute = Duration::from_secs(60);
        tokio::time::advance(minute).await;
        assert_eq!(triggers.stands_still(), Duration::ZERO, "nobody waits");
        triggers.ask(&key("a"));
        tokio::time::advance(minute).await;
        triggers.ask(&key("b"));
        assert_eq!(triggers.stands_still(), minute);
        triggers.taken(&key("b"));
        assert_eq!(triggers.stands_still(), Duration::ZERO, "it goes on");
        tokio::time::advance(minute).await;
        assert_eq!(triggers.stands_still(), minute);
        triggers.taken(&key("a"));
        tokio::time::advance(minute).await;
        assert_eq!(triggers.stands_still(), Duration::ZERO);
    }

    #[test]
    fn each_watched_namespace_has_its_own_queue() {
        let (triggers, mut ends) = Triggers::new(&[Some("a".into()), Some("b".into())]);
        triggers.ask(&key("elsewhere"));
        assert!(triggers.waiting().keys.is_empty(), "in vain");
        triggers.ask(&key("b"));
        assert_eq!(ends.get_mut(&Some("b".into())).expect("b").try_recv(), Ok(key("b")));
        assert!(ends.get_mut(&Some("a".into())).expect("a").try_recv().is_err());
    }
}
