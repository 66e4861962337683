//! What this process knows of the cluster, indexed by what reconciles ask for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::ResourceExt;
use restpipe_api::{RestPipeLink, RestPipeServer};

use crate::plan::{ServerView, claims};
use crate::seen::{Key, Names, PodSeen, SecretSeen};

/// Labels of namespaces, by name.
pub(super) type Namespaces = BTreeMap<String, BTreeMap<String, String>>;

/// Whose a pod is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Target {
    /// It is this server.
    Server(Key),
    /// It is a client, by this link.
    Link(Key),
}

/// Everything known. No secret key is in here, but for those of CAs in the views.
#[derive(Default)]
pub(super) struct World(RwLock<State>);

#[derive(Default)]
struct State {
    servers: HashMap<Key, Arc<RestPipeServer>>,
    servers_by_uid: HashMap<String, Key>,
    links: HashMap<Key, Arc<RestPipeLink>>,
    links_of: HashMap<Key, BTreeSet<Key>>,
    secret_users: HashMap<Key, BTreeSet<Target>>,
    pods: HashMap<Target, BTreeMap<String, PodSeen>>,
    without_sidecar: HashMap<Target, BTreeSet<String>>,
    namespaces: Arc<Namespaces>,
    views: HashMap<Key, Arc<ServerView>>,
    names: HashMap<String, Names>,
    link_secrets: HashMap<Key, Arc<SecretSeen>>,
}

impl World {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server as it is now; what was derived of another of its name is forgotten.
    pub(super) fn set_server(&self, key: &Key, new: Option<Arc<RestPipeServer>>) {
        let mut state = self.write();
        let uid = new.as_deref().and_then(ResourceExt::uid);
        if let Some(old) = state.servers.remove(key) {
            let user = old.spec.identity.ca_secret_name.as_deref();
            state.unuse(key, user, &Target::Server(key.clone()));
            if let Some(old_uid) = old.uid().filter(|old| uid.as_ref() != Some(old)) {
                state.servers_by_uid.remove(&old_uid);
                state.names.remove(&old_uid);
                state.views.remove(key);
            }
        }
        if let Some(server) = new {
            let user = server.spec.identity.ca_secret_name.as_deref();
            state.use_(key, user, Target::Server(key.clone()));
            if let Some(uid) = uid {
                state.servers_by_uid.insert(uid, key.clone());
            }
            state.servers.insert(key.clone(), server);
        }
    }

    /// A link as it is now.
    pub(super) fn set_link(&self, key: &Key, new: Option<Arc<RestPipeLink>>) {
        let mut state = self.write();
        if let Some(old) = state.links.remove(key) {
            state.unuse(key, imported_secret(&old), &Target::Link(key.clone()));
            if let Some(server) = claims::server_of(&old) {
                remove(&mut state.links_of, &server, key);
            }
        }
        match new {
            Some(link) => {
                state.use_(key, imported_secret(&link), Target::Link(key.clone()));
                if let Some(server) = claims::server_of(&link) {
                    state.links_of.entry(server).or_default().insert(key.clone());
                }
                state.links.insert(key.clone(), link);
            }
            None => {
                state.link_secrets.remove(key);
            }
        }
    }

    /// A pod moved from `old` to `new`.
    pub(super) fn set_pod(&self, old: Option<(Target, PodSeen)>, new: Option<(Target, PodSeen)>) {
        let mut state = self.write();
        if let Some((target, pod)) = old
            && let Some(pods) = state.pods.get_mut(&target)
        {
            pods.remove(&pod.name);
            if pods.is_empty() {
                state.pods.remove(&target);
            }
        }
        if let Some((target, pod)) = new {
            state.pods.entry(target).or_default().insert(pod.name.clone(), pod);
        }
    }

    /// A pod that is annotated and has no sidecar.
    pub(super) fn set_without_sidecar(
        &self,
        pod: &str,
        old: Option<&Target>,
        new: Option<&Target>,
    ) {
        let mut state = self.write();
        if let Some(target) = old {
            remove(&mut state.without_sidecar, target, pod);
        }
        if let Some(target) = new {
            state.without_sidecar.entry(target.clone()).or_default().insert(pod.to_owned());
        }
    }

    /// Labels of a namespace.
    pub(super) fn set_namespace(&self, name: &str, labels: Option<BTreeMap<String, String>>) {
        let mut state = self.write();
        let namespaces = Arc::make_mut(&mut state.namespaces);
        match labels {
            Some(labels) => namespaces.insert(name.to_owned(), labels),
            None => namespaces.remove(name),
        };
    }

    /// What the plan of a server left for its links. Gives what was there before. Of a server that
    /// has gone meanwhile nothing is kept: nobody would remove it.
    pub(super) fn set_view(&self, view: Arc<ServerView>, names: Names) -> Option<Arc<ServerView>> {
        let mut state = self.write();
        if state.servers_by_uid.get(&view.uid) != Some(&view.key) {
            return None;
        }
        state.names.insert(view.uid.clone(), names);
        state.views.insert(view.key.clone(), view)
    }

    /// The leaf Secret of a link, without its key. Gives whether that is news.
    pub(super) fn set_link_secret(&self, link: &Key, secret: Option<Arc<SecretSeen>>) -> bool {
        let mut state = self.write();
        if !state.links.contains_key(link) {
            return false;
        }
        match secret {
            Some(secret) => {
                let before = state.link_secrets.insert(link.clone(), Arc::clone(&secret));
                before != Some(secret)
            }
            None => state.link_secrets.remove(link).is_some(),
        }
    }

    pub(super) fn server(&self, key: &Key) -> Option<Arc<RestPipeServer>> {
        self.read().servers.get(key).cloned()
    }

    pub(super) fn servers(&self) -> Vec<Arc<RestPipeServer>> {
        self.read().servers.values().cloned().collect()
    }

    pub(super) fn server_of_uid(&self, uid: &str) -> Option<Key> {
        self.read().servers_by_uid.get(uid).cloned()
    }

    pub(super) fn link(&self, key: &Key) -> Option<Arc<RestPipeLink>> {
        self.read().links.get(key).cloned()
    }

    /// Whether the server or link is there.
    pub(super) fn has(&self, target: &Target) -> bool {
        let state = self.read();
        match target {
            Target::Server(key) => state.servers.contains_key(key),
            Target::Link(key) => state.links.contains_key(key),
        }
    }

    /// Links that name the server.
    pub(super) fn links_of(&self, server: &Key) -> Vec<Arc<RestPipeLink>> {
        let state = self.read();
        let keys = state.links_of.get(server).into_iter().flatten();
        keys.filter_map(|key| state.links.get(key).cloned()).collect()
    }

    /// Their names.
    pub(super) fn link_keys_of(&self, server: &Key) -> Vec<Key> {
        self.read().links_of.get(server).into_iter().flatten().cloned().collect()
    }

    /// Their leaf Secrets, without keys.
    pub(super) fn link_secrets_of(&self, server: &Key) -> BTreeMap<Key, Arc<SecretSeen>> {
        let state = self.read();
        let keys = state.links_of.get(server).into_iter().flatten();
        keys.filter_map(|key| Some((key.clone(), state.link_secrets.get(key).cloned()?))).collect()
    }

    /// Names of the pods here of those of its links that are exported too.
    pub(super) fn exported_pods_of(&self, server: &Key) -> BTreeMap<Key, BTreeSet<String>> {
        let state = self.read();
        let keys = state.links_of.get(server).into_iter().flatten();
        let exported =
            keys.filter(|key| state.links.get(*key).is_some_and(|link| link.spec.export.is_some()));
        let with_pods = exported.filter_map(|key| {
            let pods = state.pods.get(&Target::Link(key.clone()))?;
            Some((key.clone(), pods.keys().cloned().collect()))
        });
        with_pods.collect()
    }

    /// Who names a Secret in its spec.
    pub(super) fn users_of_secret(&self, secret: &Key) -> Vec<Target> {
        self.read().secret_users.get(secret).into_iter().flatten().cloned().collect()
    }

    /// Injected pods, by name.
    pub(super) fn pods(&self, target: &Target) -> Vec<PodSeen> {
        self.read().pods.get(target).into_iter().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Pods that are annotated and have no sidecar, by name.
    pub(super) fn without_sidecar(&self, target: &Target) -> Vec<String> {
        self.read().without_sidecar.get(target).into_iter().flatten().cloned().collect()
    }

    pub(super) fn namespaces(&self) -> Arc<Namespaces> {
        Arc::clone(&self.read().namespaces)
    }

    pub(super) fn view(&self, server: &Key) -> Option<Arc<ServerView>> {
        self.read().views.get(server).cloned()
    }

    pub(super) fn names(&self, server_uid: &str) -> Option<Names> {
        self.read().names.get(server_uid).cloned()
    }
}

impl State {
    fn use_(&mut self, user: &Key, secret: Option<&str>, target: Target) {
        if let Some(name) = secret {
            self.secret_users.entry(beside(user, name)).or_default().insert(target);
        }
    }

    fn unuse(&mut self, user: &Key, secret: Option<&str>, target: &Target) {
        if let Some(name) = secret {
            remove(&mut self.secret_users, &beside(user, name), target);
        }
    }
}

/// The object of that name in the same namespace.
pub(super) fn beside(key: &Key, name: &str) -> Key {
    Key { namespace: key.namespace.clone(), name: name.to_owned() }
}

/// Namespace and name of an object.
pub(super) fn key_of(object: &impl ResourceExt) -> Key {
    Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
}

fn imported_secret(link: &RestPipeLink) -> Option<&str> {
    link.spec.server.external.as_ref().map(|external| external.secret_name.as_str())
}

fn remove<K, V, Q>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &Q)
where
    K: std::hash::Hash + Eq,
    V: Ord + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
{
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::Claims;
    use crate::seen::Trouble;

    #[test]
    fn what_a_plan_left_of_a_server_that_has_gone_meanwhile_is_not_kept() {
        let key = Key { namespace: "a".into(), name: "hub".into() };
        let server = |uid: &str| {
            let mut server = RestPipeServer::new("hub", Default::default());
            server.metadata.namespace = Some("a".into());
            server.metadata.uid = Some(uid.into());
            Some(Arc::new(server))
        };
        let view = |uid: &str| {
            let why = Trouble { reason: "CaUnavailable", detail: "there is none".into() };
            Arc::new(ServerView {
                key: key.clone(),
                uid: uid.into(),
                port: 7072,
                duration: Duration::ZERO,
                claims: Claims::default(),
                freed: BTreeMap::new(),
                authority: Err(why),
                own_authority: None,
                clients_may_switch: false,
                endpoints: Vec::new(),
                not_ready: None,
                has_ready_pod: false,
                answers: false,
            })
        };
        let world = World::default();
        let kept = |uid: &str| {
            world.set_view(view(uid), Names::default());
            let shown = world.view(&key).is_some_and(|view| view.uid == uid);
            assert_eq!(shown, world.names(uid).is_some(), "{uid}");
            shown
        };
        world.set_server(&key, server("1"));
        assert!(kept("1"));
        // Another one of its name has come.
        world.set_server(&key, server("2"));
        assert!(!kept("1"));
        assert!(kept("2"));
        world.set_server(&key, None);
        assert!(!kept("2"));
    }
}
