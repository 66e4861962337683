//! Who is to be reconciled next.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::seen::Key;

/// Requests for reconciles of one kind.
///
/// Each object waits at most once: the queue cannot grow beyond the number of objects, and a
/// stream of events cannot push a reconcile back for ever (the debounce of kube's scheduler starts
/// anew with each request).
pub(super) struct Triggers {
    /// By namespace that is watched, `None` for the whole cluster.
    queues: HashMap<Option<String>, UnboundedSender<Key>>,
    waiting: Mutex<HashSet<Key>>,
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
        (Self { queues, waiting: Mutex::default() }, ends)
    }

    /// Asks for a reconcile. Without effect if the object waits already.
    pub(super) fn ask(&self, key: &Key) {
        if !self.waiting().insert(key.clone()) {
            return;
        }
        let queue =
            self.queues.get(&None).or_else(|| self.queues.get(&Some(key.namespace.clone())));
        if let Some(queue) = queue {
            // Nobody listens only while the process ends.
            let _ = queue.send(key.clone());
        }
    }

    /// The object's reconcile begins, and what happens from now on needs another one; or the
    /// object is gone, and nobody waits for it.
    pub(super) fn taken(&self, key: &Key) {
        self.waiting().remove(key);
    }

    fn waiting(&self) -> MutexGuard<'_, HashSet<Key>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn each_watched_namespace_has_its_own_queue() {
        let (triggers, mut ends) = Triggers::new(&[Some("a".into()), Some("b".into())]);
        triggers.ask(&key("b"));
        triggers.ask(&key("elsewhere"));
        assert_eq!(ends.get_mut(&Some("b".into())).expect("b").try_recv(), Ok(key("b")));
        assert!(ends.get_mut(&Some("a".into())).expect("a").try_recv().is_err());
    }
}
