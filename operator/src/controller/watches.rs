//! All watches, and what follows from what they show.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Resource, ResourceExt};
use restpipe_api::names::MANAGED_BY;
use restpipe_api::{From, RestPipeLink, RestPipeServer, pods as keys};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::changes::{ask, link_changed, secret_changed, server_changed};
use super::context::Context;
use super::follow::follow;
use super::mirror::{Change, Mirror};
use super::pods;
use super::progress::Progress;
use super::scope::{Scope, api};
use super::world::{Target, beside, key_of};
use crate::seen::PodSeen;

/// Objects per answer when all are listed.
const PAGE: u32 = 500;

/// Objects of one kind for the controllers, by part of the scope.
pub(super) type Stores<K> = HashMap<Option<String>, Store<K>>;

/// All watches of this process; they end with it.
pub(super) struct Watches {
    context: Arc<Context>,
    progress: Arc<Progress>,
    tasks: JoinSet<()>,
}

impl Watches {
    /// Starts all of them.
    pub(super) fn start(
        context: &Arc<Context>,
        progress: &Arc<Progress>,
    ) -> (JoinSet<()>, Stores<RestPipeServer>, Stores<RestPipeLink>) {
        let mut all = Self {
            context: Arc::clone(context),
            progress: Arc::clone(progress),
            tasks: JoinSet::new(),
        };
        let (mut servers, mut links) = (Stores::new(), Stores::new());
        for part in context.scope.parts() {
            servers.insert(part.clone(), all.main(part.as_ref(), "servers", server_changed));
            links.insert(part.clone(), all.main(part.as_ref(), "links", link_changed));
            all.pods(part.as_ref());
            all.secrets(part.as_ref());
            all.services(part.as_ref());
        }
        match &context.scope {
            Scope::Cluster => all.namespaces(),
            Scope::Namespaces(_) if context.scope.covers(&context.namespace) => {}
            // The CAs are in the operator's own namespace.
            Scope::Namespaces(_) => all.secrets(Some(&context.namespace)),
        }
        (all.tasks, servers, links)
    }

    fn api<K>(&self, part: Option<&String>) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        api(&self.context.clients.watching, part)
    }

    fn spawn<K>(
        &mut self,
        what: &'static str,
        place: Option<&String>,
        api: Api<K>,
        config: Config,
        take: impl FnMut(Event<K>) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let name = match place {
            Some(namespace) => format!("{what} in {namespace}"),
            None => what.to_owned(),
        };
        let part = self.progress.part(name);
        let metrics = Arc::clone(&self.context.metrics);
        metrics.watching(what);
        let config = config.page_size(PAGE);
        self.tasks.spawn(async move { follow(what, api, config, &metrics, part, take).await });
    }

    /// A kind of ours: kept whole, for the controllers too.
    fn main<K>(
        &mut self,
        part: Option<&String>,
        what: &'static str,
        changed: fn(&Context, Change<Arc<K>>),
    ) -> Store<K>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + PartialEq
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let (store, mut writer): (Store<K>, Writer<K>) = reflector::store();
        let context = Arc::clone(&self.context);
        let mut mirror = Mirror::new();
        let take = move |event: Event<K>| {
            let event = event.modify(strip);
            // The controller's store first: who is asked for must be found there.
            writer.apply_watcher_event(&event);
            for change in mirror.take(event, |object| Some(key_of(object)), |o| Some(Arc::new(o))) {
                changed(&context, change);
            }
        };
        let api = self.api(part);
        self.spawn(what, part, api, Config::default(), take);
        store
    }

    fn pods(&mut self, part: Option<&String>) {
        let context = Arc::clone(&self.context);
        let mut mirror = Mirror::new();
        let injected = move |event: Event<Pod>| {
            for Change { key, old, new } in mirror.take(event, |pod| Some(key_of(pod)), pods::seen)
            {
                let targets: Vec<Target> =
                    [&old, &new].into_iter().flatten().map(|(target, _)| target.clone()).collect();
                let [without_before, without_now] = [&old, &new].map(|pod| {
                    pod.as_ref().filter(|(_, seen)| seen.is_none()).map(|(target, _)| target)
                });
                context.world.set_without_sidecar(&key.name, without_before, without_now);
                let with = |pod: Option<(Target, Option<PodSeen>)>| {
                    pod.and_then(|(target, seen)| Some((target, seen?)))
                };
                context.world.set_pod(with(old), with(new));
                targets.iter().for_each(|target| ask(&context, target));
            }
        };
        let api = self.api(part);
        self.spawn("injected pods", part, api, Config::default().labels(keys::ROLE), injected);

        let context = Arc::clone(&self.context);
        let mut mirror = Mirror::new();
        let missed = move |event: Event<PartialObjectMeta<Pod>>| {
            let of = |pod: PartialObjectMeta<Pod>| pods::missed(&pod.metadata);
            for Change { key, old, new } in mirror.take(event, |pod| Some(key_of(pod)), of) {
                context.world.set_without_sidecar(&key.name, old.as_ref(), new.as_ref());
                [old, new].iter().flatten().for_each(|target| ask(&context, target));
            }
        };
        let api = self.api(part);
        let others = Config::default().labels(&format!("!{}", keys::ROLE)).fields(pods::RUNNING);
        self.spawn("pods without sidecar", part, api, others, missed);
    }

    /// Of all Secrets, their names and versions: those of users are named by servers and links
    /// too, and need no label.
    fn secrets(&mut self, part: Option<&String>) {
        let context = Arc::clone(&self.context);
        let mut mirror = Mirror::new();
        let take = move |event: Event<PartialObjectMeta<Secret>>| {
            let version = |secret: PartialObjectMeta<Secret>| secret.resource_version();
            for change in mirror.take(event, |secret| Some(key_of(secret)), version) {
                secret_changed(&context, &change);
            }
        };
        let api = self.api(part);
        self.spawn("secrets", part, api, Config::default(), take);
    }

    fn services(&mut self, part: Option<&String>) {
        let context = Arc::clone(&self.context);
        let mut mirror = Mirror::new();
        let take = move |event: Event<PartialObjectMeta<Service>>| {
            let value = |service: PartialObjectMeta<Service>| {
                Some((service.resource_version()?, service.labels().get(keys::SERVER)?.clone()))
            };
            for Change { key, old, new } in
                mirror.take(event, |service| Some(key_of(service)), value)
            {
                let ours = new
                    .as_ref()
                    .is_some_and(|(version, _)| context.service_versions.is_ours(&key, version));
                if !ours && let Some((_, server)) = new.or(old) {
                    ask(&context, &Target::Server(beside(&key, &server)));
                }
            }
        };
        let api = self.api(part);
        let label = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
        self.spawn("services", part, api, Config::default().labels(&label), take);
    }

    fn namespaces(&mut self) {
        let context = Arc::clone(&self.context);
        let mut mirror: Mirror<BTreeMap<String, String>> = Mirror::new();
        let take = move |event: Event<PartialObjectMeta<Namespace>>| {
            let labels = |namespace: PartialObjectMeta<Namespace>| Some(namespace.labels().clone());
            let mut any = false;
            for Change { key, new, .. } in mirror.take(event, |one| Some(key_of(one)), labels) {
                context.world.set_namespace(&key.name, new);
                any = true;
            }
            if any {
                let servers = context.world.servers();
                let select = |server: &&Arc<RestPipeServer>| {
                    server.spec.clients.namespaces.from == From::Selector
                };
                servers.iter().filter(select).for_each(|one| context.servers.ask(&key_of(&**one)));
            }
        };
        let api = Api::all(self.context.clients.watching.clone());
        self.spawn("namespaces", None, api, Config::default(), take);
    }
}

/// What nobody here reads, and what would be half of the memory.
fn strip<K: ResourceExt>(object: &mut K) {
    object.managed_fields_mut().clear();
    object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
}
