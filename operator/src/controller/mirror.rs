//! A copy of what a watch shows, which tells what changed.

use std::collections::HashMap;

use kube::runtime::watcher::Event;

use crate::seen::Key;

/// One difference between before and now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change<T> {
    /// Whose.
    pub(super) key: Key,
    /// What was there.
    pub(super) old: Option<T>,
    /// What is there.
    pub(super) new: Option<T>,
}

/// Values by key. A watch that starts over (after an outage, or to be safe) shows everything
/// again: only real differences come out of it, deletions that nobody told us of included.
#[derive(Debug)]
pub(super) struct Mirror<T> {
    live: HashMap<Key, T>,
    fresh: Option<HashMap<Key, T>>,
}

impl<T: Clone + PartialEq> Mirror<T> {
    pub(super) fn new() -> Self {
        Self { live: HashMap::new(), fresh: None }
    }

    /// Takes an event; `value` gives what is kept of an object, `None` if it is not of interest.
    pub(super) fn take<K>(
        &mut self,
        event: Event<K>,
        key: impl Fn(&K) -> Option<Key>,
        value: impl Fn(K) -> Option<T>,
    ) -> Vec<Change<T>> {
        match event {
            Event::Init => {
                self.fresh = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(key) = key(&object)
                    && let Some(value) = value(object)
                {
                    self.fresh.get_or_insert_default().insert(key, value);
                }
                Vec::new()
            }
            Event::InitDone => {
                let fresh = self.fresh.take().unwrap_or_default();
                let before = std::mem::replace(&mut self.live, fresh);
                self.differences(before)
            }
            Event::Apply(object) => match key(&object) {
                Some(key) => {
                    let new = value(object);
                    self.set(key, new)
                }
                None => Vec::new(),
            },
            Event::Delete(object) => match key(&object) {
                Some(key) => self.set(key, None),
                None => Vec::new(),
            },
        }
    }

    fn set(&mut self, key: Key, new: Option<T>) -> Vec<Change<T>> {
        let old = match new.clone() {
            Some(value) => self.live.insert(key.clone(), value),
            None => self.live.remove(&key),
        };
        if old == new { Vec::new() } else { vec![Change { key, old, new }] }
    }

    fn differences(&self, mut before: HashMap<Key, T>) -> Vec<Change<T>> {
        let mut changes = Vec::new();
        for (key, new) in &self.live {
            let old = before.remove(key);
            if old.as_ref() != Some(new) {
                changes.push(Change { key: key.clone(), old, new: Some(new.clone()) });
            }
        }
        changes.extend(before.into_iter().map(|(key, old)| Change {
            key,
            old: Some(old),
            new: None,
        }));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fact = (&'static str, Option<u8>);

    fn take(mirror: &mut Mirror<u8>, event: Event<Fact>) -> Vec<Change<u8>> {
        let key = |(name, _): &Fact| Some(Key { namespace: "ns".into(), name: (*name).into() });
        let mut changes = mirror.take(event, key, |(_, value)| value);
        changes.sort_by(|a, b| a.key.cmp(&b.key));
        changes
    }

    fn change(name: &str, old: Option<u8>, new: Option<u8>) -> Change<u8> {
        Change { key: Key { namespace: "ns".into(), name: name.into() }, old, new }
    }

    #[test]
    fn a_watch_that_starts_over_tells_only_what_is_different() {
        let mut mirror = Mirror::new();
        for event in
            [Event::Init, Event::InitApply(("a", Some(1))), Event::InitApply(("b", Some(1)))]
        {
            assert_eq!(take(&mut mirror, event), []);
        }
        let both = [change("a", None, Some(1)), change("b", None, Some(1))];
        assert_eq!(take(&mut mirror, Event::InitDone), both);
        take(&mut mirror, Event::Init);
        take(&mut mirror, Event::InitApply(("b", Some(2))));
        take(&mut mirror, Event::InitApply(("c", Some(1))));
        let all =
            [change("a", Some(1), None), change("b", Some(1), Some(2)), change("c", None, Some(1))];
        assert_eq!(take(&mut mirror, Event::InitDone), all);
    }

    #[test]
    fn the_same_again_is_no_change_and_what_is_of_no_interest_is_gone() {
        let mut mirror = Mirror::new();
        assert_eq!(take(&mut mirror, Event::Apply(("a", Some(1)))), [change("a", None, Some(1))]);
        assert_eq!(take(&mut mirror, Event::Apply(("a", Some(1)))), []);
        assert_eq!(take(&mut mirror, Event::Apply(("a", None))), [change("a", Some(1), None)]);
        assert_eq!(take(&mut mirror, Event::Delete(("a", Some(1)))), []);
    }
}
