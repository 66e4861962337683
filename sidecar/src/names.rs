//! Who may connect: the lists of the settings, and those of an operator.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use restpipe_config::{Hostname, NameSettings, Version};
use serde::Deserialize;
use tracing::info;

use crate::router::{Allowed, Router};

/// What an operator sends.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameLists {
    /// Of these lists and those of the settings the ones with the higher version count.
    pub version: Version,
    /// Hostnames that may connect.
    pub clients: Vec<Hostname>,
    /// Hostnames that are cut off.
    pub suspended: Vec<Hostname>,
}

/// Decides which lists count and keeps the router to them; clones share it.
#[derive(Clone, Debug)]
pub struct Names {
    router: Router,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// As the settings were last read.
    settings: NameSettings,
    /// Those of an operator, while they count.
    pushed: Option<NameLists>,
}

impl State {
    fn version(&self) -> u64 {
        self.pushed.as_ref().map_or(self.settings.version, |lists| lists.version.get())
    }

    fn allowed(&self) -> Allowed {
        let NameSettings { listed_only, clients, suspended, .. } = &self.settings;
        let (clients, suspended) = match &self.pushed {
            Some(lists) => (&lists.clients, &lists.suspended),
            None => (clients, suspended),
        };
        let known = (*listed_only || !clients.is_empty()).then(|| texts(clients));
        Allowed { known, suspended: texts(suspended) }
    }
}

fn texts(names: &[Hostname]) -> HashSet<String> {
    names.iter().map(|name| name.as_str().to_owned()).collect()
}

impl Names {
    /// Begins with the settings that the node was started with.
    pub fn new(router: Router, settings: NameSettings) -> Self {
        let state = State { settings, pushed: None };
        router.allow(state.allowed());
        Self { router, state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the lists that count.
    pub fn version(&self) -> u64 {
        self.lock().version()
    }

    /// Takes what the settings say now. An operator's lists of a higher
    /// version go on counting.
    pub fn follow(&self, settings: NameSettings) {
        let mut state = self.lock();
        if state.settings == settings {
            return;
        }
        state.pushed.take_if(|lists| lists.version.get() <= settings.version);
        state.settings = settings;
        self.apply(&state, "settings");
    }

    /// Takes an operator's lists, unless those that count have a higher
    /// version. Returns the version that counts from now on.
    pub fn push(&self, lists: NameLists) -> u64 {
        let mut state = self.lock();
        let is_new = state.pushed.as_ref() != Some(&lists);
        if is_new && lists.version.get() >= state.version() {
            state.pushed = Some(lists);
            self.apply(&state, "operator");
        }
        state.version()
    }

    /// Under the lock, so that no older lists overtake newer ones.
    fn apply(&self, state: &State, from: &str) {
        let allowed = state.allowed();
        let known = allowed.known.as_ref().map(HashSet::len);
        info!(
            from,
            version = state.version(),
            clients = known,
            suspended = allowed.suspended.len(),
            "the names that may connect have changed"
        );
        self.router.allow(allowed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Absent;

    fn names(list: &[&str]) -> Vec<Hostname> {
        list.iter().map(|name| name.parse().expect("a name")).collect()
    }

    fn settings(version: u64, clients: &[&str]) -> NameSettings {
        NameSettings { version, clients: names(clients), ..NameSettings::default() }
    }

    fn lists(version: u64, clients: &[&str], suspended: &[&str]) -> NameLists {
        let version = version.try_into().expect("a version");
        NameLists { version, clients: names(clients), suspended: names(suspended) }
    }

    #[test]
    fn of_two_lists_the_one_with_the_higher_version_counts_and_of_equals_the_newest() {
        let router = Router::default();
        let names = Names::new(router.clone(), settings(5, &["a"]));
        let admits = |name: &str| router.admit(name).is_ok();
        assert_eq!(names.push(lists(4, &["b"], &[])), 5);
        assert!(admits("a") && !admits("b"));
        assert_eq!(names.push(lists(5, &["b"], &[])), 5);
        assert!(!admits("a") && admits("b"));
        names.follow(settings(5, &["a"]));
        assert!(admits("b"), "settings that have not changed are not new");
        names.follow(settings(4, &["c"]));
        assert!(admits("b") && !admits("c"));
        names.follow(settings(5, &["c"]));
        assert!(admits("c") && !admits("b"));
        assert_eq!((names.push(lists(9, &[], &["c"])), names.version()), (9, 9));
        assert_eq!(router.admit("c"), Err(Absent::Suspended));
        assert!(admits("anybody"), "nobody is listed, and that is no rule yet");
    }

    #[test]
    fn with_listed_only_an_empty_list_is_a_list() {
        let router = Router::default();
        let names =
            Names::new(router.clone(), NameSettings { listed_only: true, ..settings(0, &[]) });
        assert_eq!(router.admit("a"), Err(Absent::Unknown));
        assert!(router.knows_all_names());
        names.push(lists(1, &["a"], &[]));
        assert_eq!(router.admit("a"), Ok(()));
        names.push(lists(2, &[], &[]));
        assert_eq!(router.admit("a"), Err(Absent::Unknown));
        // The rule is one of the settings, whoever's lists count.
        names.follow(settings(1, &[]));
        assert_eq!(router.admit("a"), Ok(()));
    }

    #[test]
    fn lists_that_no_settings_could_hold_are_refused_with_a_sentence() {
        let refused = |text: &str| {
            let read = serde_json::from_str::<NameLists>(text);
            read.map_or_else(|error| error.to_string(), |lists| format!("taken: {lists:?}"))
        };
        for (text, words) in [
            (r#"{"version": 1, "clients": ["*"], "suspended": []}"#, "give a DNS name"),
            (r#"{"version": -1, "clients": [], "suspended": []}"#, "give a whole number from 0"),
            (r#"{"version": 9223372036854775808, "clients": [], "suspended": []}"#, "give a whole"),
            (r#"{"clients": [], "suspended": []}"#, "missing field `version`"),
            (r#"{"version": 1, "clients": []}"#, "missing field `suspended`"),
            (r#"{"version": 1, "clients": [], "suspended": [], "x": 1}"#, "unknown field `x`"),
            ("[", "EOF"),
        ] {
            assert!(refused(text).contains(words), "{}", refused(text));
        }
        let good = r#"{"version": 7, "clients": ["A.b"], "suspended": []}"#;
        assert!(refused(good).contains("\"a.b\""), "{}", refused(good));
    }
}
