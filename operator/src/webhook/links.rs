//! What servers and links there are, kept by watching them. Of each no more than a verdict is kept,
//! so that ten thousand of them take a few megabytes.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use restpipe_api::{RestPipeLink, RestPipeServer, condition};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::inject::{Links, Role, Standing};
use crate::readable::{readable, unwrapped};

/// A watch: of one kind, in one namespace or in all.
type Scope = (Role, Option<String>);

/// Namespace and name.
type Name = (String, String);

/// Objects of one watch.
#[derive(Debug, Default)]
struct Seen {
    /// None until the first list is complete.
    objects: Option<HashMap<Name, Standing>>,
    /// The list that is being read.
    incoming: HashMap<Name, Standing>,
}

/// Servers and links, as the API server has told so far.
#[derive(Debug)]
pub struct Watched {
    /// Empty: all.
    namespaces: Vec<String>,
    scopes: Mutex<HashMap<Scope, Seen>>,
}

impl Watched {
    /// Looks after `namespaces`, or after all if there are none. Nothing is known before
    /// [`Self::watch`].
    #[must_use]
    pub fn new(namespaces: &[String]) -> Self {
        let namespaces =
            namespaces.iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        Self { namespaces: namespaces.collect(), scopes: Mutex::default() }
    }

    /// Follows both kinds until `stop`.
    pub fn watch(self: &Arc<Self>, client: &Client, stop: &CancellationToken) {
        let all = [None];
        let some: Vec<_> = self.namespaces.iter().map(|name| Some(name.as_str())).collect();
        for namespace in if some.is_empty() { &all[..] } else { &some } {
            let links: Api<RestPipeLink> = api(client, *namespace);
            let servers: Api<RestPipeServer> = api(client, *namespace);
            let of_link = |link: &RestPipeLink| {
                standing(link.status.as_ref().map_or(&[], |status| &status.conditions))
            };
            let of_server = |server: &RestPipeServer| {
                standing(server.status.as_ref().map_or(&[], |status| &status.conditions))
            };
            let scope = |role| (role, namespace.map(str::to_owned));
            self.follow(scope(Role::Client), links, of_link, stop.clone());
            self.follow(scope(Role::Server), servers, of_server, stop.clone());
        }
    }

    fn follow<K>(
        self: &Arc<Self>,
        scope: Scope,
        api: Api<K>,
        verdict: fn(&K) -> Standing,
        stop: CancellationToken,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let watched = self.clone();
        tokio::spawn(async move {
            let events = watcher(readable(api), watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events.take_until(stop.cancelled_owned()));
            let mut last_error = None;
            while let Some(event) = events.next().await {
                match event {
                    Ok(event) => {
                        if last_error.take().is_some() {
                            info!(?scope, "servers and links are followed again");
                        }
                        watched.apply(&scope, unwrapped(event), verdict);
                    }
                    Err(error) => {
                        // What is known stays; said once, for it is tried for ever.
                        let text = error.to_string();
                        if last_error.as_ref() != Some(&text) {
                            warn!(?scope, error = %text, "servers and links can't be followed, warnings may be missing");
                        }
                        last_error = Some(text);
                    }
                }
            }
        });
    }

    fn apply<K: ResourceExt>(&self, scope: &Scope, event: Event<K>, verdict: fn(&K) -> Standing) {
        let name = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        let mut scopes = self.lock();
        let seen = scopes.entry(scope.clone()).or_default();
        match event {
            Event::Init => seen.incoming.clear(),
            Event::InitApply(object) => {
                seen.incoming.insert(name(&object), verdict(&object));
            }
            Event::InitDone => seen.objects = Some(std::mem::take(&mut seen.incoming)),
            Event::Apply(object) => {
                if let Some(objects) = &mut seen.objects {
                    objects.insert(name(&object), verdict(&object));
                }
            }
            Event::Delete(object) => {
                if let Some(objects) = &mut seen.objects {
                    objects.remove(&name(&object));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Scope, Seen>> {
        // Whoever panicked while holding it has left whole entries.
        self.scopes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Links for Watched {
    fn standing(&self, role: Role, namespace: &str, name: &str) -> Standing {
        let everywhere = self.namespaces.is_empty();
        if !everywhere && !self.namespaces.iter().any(|watched| watched == namespace) {
            return Standing::NotWatched;
        }
        let scope = (role, (!everywhere).then(|| namespace.to_owned()));
        match self.lock().get(&scope).and_then(|seen| seen.objects.as_ref()) {
            None => Standing::Unknown,
            Some(objects) => objects
                .get(&(namespace.to_owned(), name.to_owned()))
                .cloned()
                .unwrap_or(Standing::Absent),
        }
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// What the conditions of an object say of it.
fn standing(conditions: &[Condition]) -> Standing {
    let refused = conditions
        .iter()
        .find(|found| found.type_ == condition::ACCEPTED && found.status == "False");
    match refused {
        Some(Condition { reason, message, .. }) => {
            Standing::NotAccepted { reason: reason.clone(), message: message.clone() }
        }
        None => Standing::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> RestPipeLink {
        let mut link = RestPipeLink::new(name, Default::default());
        link.metadata.namespace = Some("shop".to_owned());
        link
    }

    fn good(_: &RestPipeLink) -> Standing {
        Standing::Good
    }

    #[test]
    fn nothing_is_known_before_the_first_list_is_complete() {
        let watched = Watched::new(&[]);
        let scope = (Role::Client, None);
        let of = |name| watched.standing(Role::Client, "shop", name);
        assert_eq!(of("till"), Standing::Unknown);
        watched.apply(&scope, Event::Init, good);
        watched.apply(&scope, Event::InitApply(link("till")), good);
        assert_eq!(of("till"), Standing::Unknown);
        watched.apply(&scope, Event::InitDone, good);
        assert_eq!((of("till"), of("other")), (Standing::Good, Standing::Absent));
        // A list that starts anew takes nothing away until it is complete.
        watched.apply(&scope, Event::Init, good);
        assert_eq!(of("till"), Standing::Good);
        watched.apply(&scope, Event::InitDone, good);
        assert_eq!(of("till"), Standing::Absent);
        watched.apply(&scope, Event::Apply(link("till")), good);
        assert_eq!(of("till"), Standing::Good);
        watched.apply(&scope, Event::Delete(link("till")), good);
        assert_eq!(of("till"), Standing::Absent);
        assert_eq!(watched.standing(Role::Server, "shop", "till"), Standing::Unknown);
    }

    #[test]
    fn namespaces_that_are_not_looked_after_are_told_apart() {
        let watched = Watched::new(&["shop".to_owned(), String::new()]);
        watched.apply(&(Role::Client, Some("shop".to_owned())), Event::InitDone, good);
        assert_eq!(watched.standing(Role::Client, "shop", "x"), Standing::Absent);
        assert_eq!(watched.standing(Role::Client, "else", "x"), Standing::NotWatched);
    }

    #[test]
    fn a_refusal_is_read_from_the_conditions() {
        let condition = |status: &str| Condition {
            type_: condition::ACCEPTED.to_owned(),
            status: status.to_owned(),
            reason: "HostnameTaken".to_owned(),
            message: "by till".to_owned(),
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                k8s_openapi::jiff::Timestamp::UNIX_EPOCH,
            ),
            observed_generation: None,
        };
        assert_eq!(standing(&[]), Standing::Good);
        assert_eq!(standing(&[condition("True")]), Standing::Good);
        let reason = "HostnameTaken".to_owned();
        let message = "by till".to_owned();
        assert_eq!(standing(&[condition("False")]), Standing::NotAccepted { reason, message });
    }
}
