//! A cluster in memory: what plans say is applied to it, and nodes read their Secrets when told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::{Resource, ResourceExt};
use restpipe_api::condition::{ACCEPTED, READY, reason};
use restpipe_api::names::MANAGED_BY;
use restpipe_api::{RestPipeLink, RestPipeServer, pods};
use restpipe_identity::{Credentials, Roots, Usage, inspect};

use crate::plan::Event;
use crate::plan::authority::SPREAD_TIME;
use crate::plan::claims::{key_of, server_of};
use crate::plan::conditions::Failure;
use crate::plan::leaf::link_without_secret;
use crate::plan::link::{self, ClientPodSeen, LinkPlan, LinkSeen, LinkServer};
use crate::plan::node::{NODE_TOML, names_in};
use crate::plan::server::{self, ServerPlan, ServerSeen, ServerView, Unwritten};
use crate::plan::time::time;
use crate::seen::{Key, PipeSeen, PodSeen, SecretSeen, ServerPodSeen, ServerPodState, Trouble};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// The identity that a running node has read.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) cert: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) bundle: Vec<u8>,
    /// Off: it runs, and has no pipe.
    pub(super) connected: bool,
    /// Why it does not take the newest files.
    pub(super) reload_failed: Option<String>,
}

impl Node {
    fn read(secret: &SecretSeen) -> Self {
        let part = |key: &str| secret.data[key].clone();
        Self {
            cert: part("tls.crt"),
            key: part("tls.key"),
            bundle: part("ca.crt"),
            connected: true,
            reload_failed: None,
        }
    }

    fn trusts(&self) -> BTreeSet<String> {
        Roots::from_pem(&self.bundle).unwrap().fingerprints().into_iter().collect()
    }

    pub(super) fn credentials(&self, usage: Usage, now: SystemTime) -> Result<Credentials, String> {
        Credentials::from_pem(&self.cert, &self.key, &self.bundle, usage, now)
            .map_err(|error| error.to_string())
    }
}

pub(super) struct World {
    pub(super) now: SystemTime,
    pub(super) server: RestPipeServer,
    pub(super) links: Vec<Arc<RestPipeLink>>,
    pub(super) namespaces: Option<BTreeMap<String, BTreeMap<String, String>>>,
    pub(super) ca_secret: Option<SecretSeen>,
    pub(super) user_ca: Option<SecretSeen>,
    pub(super) secret: Option<SecretSeen>,
    pub(super) link_secrets: BTreeMap<Key, Arc<SecretSeen>>,
    /// Links whose Secret is not taken by the API server, as by a quota.
    pub(super) unwritable: BTreeSet<Key>,
    /// Whether the API server refuses an object of that name.
    pub(super) refuses: fn(&str) -> bool,
    /// What the server's plan before left.
    pub(super) view: Option<Arc<ServerView>>,
    pub(super) imported: Option<SecretSeen>,
    pub(super) service: Option<Service>,
    pub(super) replicas_service: Option<Service>,
    pub(super) pods: Vec<PodSeen>,
    pub(super) without_sidecar: Vec<String>,
    pub(super) link_pods: BTreeMap<Key, Vec<PodSeen>>,
    pub(super) probes: BTreeMap<Key, Vec<ClientPodSeen>>,
    /// The server pod's node, if it runs.
    pub(super) server_node: Option<Node>,
    /// Running clients, by hostname.
    pub(super) clients: BTreeMap<String, Node>,
    /// Instead of what the server's node would tell.
    pub(super) told: Option<Vec<ServerPodSeen>>,
    pub(super) events: Vec<Event>,
    pub(super) writes: usize,
}

impl World {
    /// The server shop/hub with one ready pod, and nothing made for it yet.
    pub(super) fn new() -> Self {
        let mut server = RestPipeServer::new("hub", Default::default());
        server.metadata.namespace = Some("shop".into());
        server.metadata.uid = Some("uid-of-hub".into());
        server.metadata.generation = Some(1);
        Self {
            now: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
            server,
            links: Vec::new(),
            namespaces: Some(BTreeMap::new()),
            ca_secret: None,
            user_ca: None,
            secret: None,
            link_secrets: BTreeMap::new(),
            unwritable: BTreeSet::new(),
            refuses: |_| false,
            view: None,
            imported: None,
            service: None,
            replicas_service: None,
            pods: vec![pod("hub-0")],
            without_sidecar: Vec::new(),
            link_pods: BTreeMap::new(),
            probes: BTreeMap::new(),
            server_node: None,
            clients: BTreeMap::new(),
            told: None,
            events: Vec::new(),
            writes: 0,
        }
    }

    /// With clients of these names, settled and connected.
    pub(super) fn with_clients(names: &[&str]) -> Self {
        let mut world = Self::new();
        for name in names {
            world.add(link("shop", name));
        }
        world.settle();
        world.sync_all();
        world.settle();
        world
    }

    pub(super) fn add(&mut self, mut link: RestPipeLink) -> Key {
        let key = key_of(&link);
        let order = u64::try_from(self.links.len()).unwrap();
        let made = self.now - DAY + Duration::from_secs(order);
        link.metadata.creation_timestamp.get_or_insert_with(|| time(made));
        self.link_pods.insert(key.clone(), vec![pod(&format!("{}-pod", key.name))]);
        self.links.push(Arc::new(link));
        key
    }

    pub(super) fn link(&self, name: &str) -> &RestPipeLink {
        self.links.iter().find(|link| link.name_any() == name).unwrap()
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut RestPipeLink)) {
        let link = self.links.iter_mut().find(|link| link.name_any() == name).unwrap();
        change(Arc::make_mut(link));
    }

    pub(super) fn secret_of(&self, link: &str) -> &SecretSeen {
        &self.link_secrets[&key_of(self.link(link))]
    }

    /// What the operator's pipe to the server's pod tells.
    pub(super) fn told(&self) -> Vec<ServerPodSeen> {
        if let Some(told) = &self.told {
            return told.clone();
        }
        let Some(server) = &self.server_node else { return Vec::new() };
        let pipes = self.clients.iter().filter(|(_, node)| node.connected);
        let pipes = pipes.map(|(hostname, node)| {
            let info = info(&node.cert);
            PipeSeen {
                hostname: hostname.clone(),
                instance: format!("{hostname}-pod"),
                server_pod: "hub-0".into(),
                address: "10.0.0.7:40000".into(),
                since: "2027-01-01T00:00:00Z".into(),
                serial: info.serial,
                not_after: info.not_after,
                root: root_of(node, server, Usage::Client, self.now),
                trusts: node.trusts(),
                reload_failed: node.reload_failed.clone(),
            }
        });
        let state = ServerPodState {
            // They are pushed, and it needs to read no file for them.
            names_version: self.names_version(),
            serial: info(&server.cert).serial,
            root: root_of(server, server, Usage::Server, self.now),
            trusts: server.trusts(),
            reload_failed: server.reload_failed.clone(),
            pipes: pipes.collect(),
        };
        vec![ServerPodSeen { pod: "hub-0".into(), state: Ok(state) }]
    }

    /// The version of the lists in the server's Secret.
    fn names_version(&self) -> u64 {
        let settings = self.secret.as_ref().and_then(|secret| secret.data.get(NODE_TOML));
        settings.and_then(|settings| names_in(settings)).map_or(0, |names| names.version)
    }

    /// As [`ServerSeen::exported_pods`].
    fn exported_pods(&self) -> BTreeMap<Key, BTreeSet<String>> {
        let exported = self.links.iter().filter(|link| link.spec.export.is_some());
        let with_pods = exported.filter_map(|link| {
            let key = key_of(&**link);
            let names = self.link_pods.get(&key)?.iter().map(|pod| pod.name.clone()).collect();
            Some((key, names))
        });
        with_pods.collect()
    }

    pub(super) fn plan_server(&self) -> ServerPlan {
        self.with_seen(None, |seen| server::plan(seen, self.now))
    }

    /// The plan as it is told where that was not written.
    pub(super) fn without(&self, plan: ServerPlan, what: &Unwritten) -> ServerPlan {
        self.with_seen(None, |seen| plan.without(seen, what, self.now))
    }

    fn with_seen<T>(
        &self,
        ca_refused: Option<&Trouble>,
        work: impl FnOnce(&ServerSeen<'_>) -> T,
    ) -> T {
        let told = self.told();
        let seen = ServerSeen {
            server: &self.server,
            links: &self.links,
            namespaces: self.namespaces.as_ref(),
            operator_namespace: "restpipe-system",
            ca_secret: self.ca_secret.as_ref(),
            user_ca: self.user_ca.as_ref(),
            secret: self.secret.as_ref(),
            link_secrets: &self.link_secrets,
            exported_pods: &self.exported_pods(),
            service: self.service.as_ref(),
            replicas_service: self.replicas_service.as_ref(),
            pods: &self.pods,
            without_sidecar: &self.without_sidecar,
            told: &told,
            // Always as after a restart of the operator.
            last_names: None,
            last_view: self.view.as_deref(),
            ca_refused,
            spread_time: SPREAD_TIME,
        };
        work(&seen)
    }

    /// What the API server says to an object of that name.
    fn refusal(&self, name: &str) -> Option<Failure> {
        let doing = format!("cannot write the object shop/{name}");
        (self.refuses)(name).then(|| Failure::refused(&doing, "exceeded quota: few"))
    }

    pub(super) fn plan_link(&self, name: &str, server: &ServerPlan) -> LinkPlan {
        self.with_link_seen(name, server, |seen| link::plan(seen, self.now))
    }

    fn with_link_seen<T>(
        &self,
        name: &str,
        server: &ServerPlan,
        work: impl FnOnce(&LinkSeen<'_>) -> T,
    ) -> T {
        let link = self.link(name);
        let key = key_of(link);
        let own = server_of(link) == Some(key_of(&self.server));
        let pipes = server.view.pipes(&self.told(), &crate::plan::claims::hostname_of(link));
        let nothing = Vec::new();
        let seen = LinkSeen {
            link,
            server: match &link.spec.server.external {
                Some(_) => LinkServer::External { imported: self.imported.as_ref() },
                None if own => LinkServer::Known(&server.view),
                None => LinkServer::Missing,
            },
            secret: self.link_secrets.get(&key).map(|secret| &**secret),
            pods: self.link_pods.get(&key).unwrap_or(&nothing),
            without_sidecar: &[],
            pipes: pipes.as_deref(),
            probes: self.probes.get(&key).map_or(&[], Vec::as_slice),
        };
        work(&seen)
    }

    /// One round of the operator; returns how much it wrote.
    pub(super) fn reconcile(&mut self) -> usize {
        let before = self.writes;
        let mut plan = self.plan_server();
        if let Some(write) = plan.ca_secret.take() {
            if let Some(Failure::Refused(trouble)) = self.refusal(&write.secret.name_any()) {
                plan = self.with_seen(Some(&trouble), |seen| server::plan(seen, self.now));
                assert!(plan.ca_secret.is_none(), "no other is made meanwhile");
            } else {
                assert_eq!(write.create, self.ca_secret.is_none());
                self.ca_secret = Some(seen(&write.secret));
                self.writes += 1;
            }
        }
        let mut unwritten = Unwritten::default();
        if let Some(secret) = plan.secret.take() {
            unwritten.secret = self.refusal(&secret.name_any());
            if unwritten.secret.is_none() {
                self.secret = Some(seen(&secret));
                self.writes += 1;
            }
        }
        for service in std::mem::take(&mut plan.services) {
            let refusal = self.refusal(&service.name_any());
            let (place, failure) = if service.name_any().ends_with("-replicas") {
                (&mut self.replicas_service, &mut unwritten.replicas_service)
            } else {
                (&mut self.service, &mut unwritten.service)
            };
            if refusal.is_some() {
                *failure = refusal;
                continue;
            }
            *place = Some(service);
            self.writes += 1;
        }
        let plan = self.without(plan, &unwritten);
        self.view = Some(plan.view.clone());
        if self.server.status.as_ref() != Some(&plan.status) {
            self.server.status = Some(plan.status.clone());
            self.writes += 1;
        }
        self.events.extend(plan.events.clone());
        for name in self.links.iter().map(|link| link.name_any()).collect::<Vec<_>>() {
            let mut of_link = self.plan_link(&name, &plan);
            let key = key_of(self.link(&name));
            if let Some(secret) = of_link.secret.take() {
                let unwritable = || Failure::refused("cannot write it", "exceeded quota: none");
                let refusal = self.refusal(&secret.name_any());
                let refusal = refusal.or_else(|| self.unwritable.contains(&key).then(unwritable));
                if let Some(failure) = refusal {
                    of_link = self.with_link_seen(&name, &plan, |seen| {
                        link_without_secret(of_link, seen, &failure, self.now)
                    });
                } else {
                    self.link_secrets.insert(key, Arc::new(seen(&secret)));
                    self.writes += 1;
                }
            }
            let LinkPlan { status, events, .. } = of_link;
            if self.link(&name).status.as_ref() != Some(&status) {
                self.change(&name, |link| link.status = Some(status));
                self.writes += 1;
            }
            self.events.extend(events);
        }
        self.writes - before
    }

    /// Until nothing is written any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..10 {
            if self.reconcile() == 0 {
                return;
            }
        }
        panic!("the operator writes for ever: {:?}", self.events);
    }

    /// kubelet brings the client's Secret to its node.
    pub(super) fn sync(&mut self, hostname: &str) {
        let connected = self.clients.get(hostname).is_none_or(|node| node.connected);
        let node = Node { connected, ..Node::read(self.secret_of(hostname)) };
        self.clients.insert(hostname.to_owned(), node);
    }

    pub(super) fn sync_server(&mut self) {
        self.server_node = self.secret.as_ref().map(Node::read);
    }

    pub(super) fn sync_all(&mut self) {
        self.sync_server();
        for name in self.links.iter().map(|link| link.name_any()).collect::<Vec<_>>() {
            self.sync(&name);
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    pub(super) fn events_of(&self, reason: &str) -> usize {
        self.events.iter().filter(|event| event.reason == reason).count()
    }

    pub(super) fn condition(&self, link: &str, type_: &str) -> (String, String, String) {
        let status = self.link(link).status.as_ref().unwrap();
        said(&status.conditions, type_)
    }

    pub(super) fn server_condition(&self, type_: &str) -> (String, String, String) {
        said(&self.server.status.as_ref().unwrap().conditions, type_)
    }

    /// The user's CA is refused with that cause, and nothing was made of it.
    pub(super) fn refuses_the_users_ca(&self, cause: &str) {
        let (status, word, text) = self.server_condition(ACCEPTED);
        assert_eq!((&*status, &*word), ("False", reason::SECRET_INVALID), "{text}");
        assert!(text.contains(cause) && text.contains("shop/corp-ca"), "{cause}: {text}");
        assert!(self.secret.is_none() && self.ca_secret.is_none());
        assert_eq!(self.server_condition(READY).0, "False");
    }

    /// Both sides of the client's pipe would take each other now.
    pub(super) fn can_connect(&self, hostname: &str) -> Result<(), String> {
        let server = self.server_node.as_ref().ok_or("no server")?;
        let server = server.credentials(Usage::Server, self.now)?;
        let client = self.clients[hostname].credentials(Usage::Client, self.now)?;
        let as_server = client.still_trusts(server.chain(), Usage::Server, self.now);
        let as_client = server.still_trusts(client.chain(), Usage::Client, self.now);
        as_server.and(as_client).map_err(|error| error.to_string())
    }
}

fn said(
    conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition],
    type_: &str,
) -> (String, String, String) {
    let found = conditions.iter().find(|one| one.type_ == type_);
    let found = found.unwrap_or_else(|| panic!("no condition {type_} in {conditions:?}"));
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

/// A link to shop/hub.
pub(super) fn link(namespace: &str, name: &str) -> RestPipeLink {
    let mut link = RestPipeLink::new(name, Default::default());
    link.metadata.namespace = Some(namespace.into());
    link.metadata.uid = Some(format!("uid-of-{namespace}-{name}"));
    link.metadata.generation = Some(1);
    link.spec.server.name = Some("hub".into());
    link.spec.server.namespace = Some("shop".into());
    link
}

/// A ready pod.
pub(super) fn pod(name: &str) -> PodSeen {
    PodSeen {
        name: name.into(),
        uid: format!("uid-of-{name}"),
        ip: None,
        phase: "Running".into(),
        ready: true,
        ending: false,
        waiting: None,
        sidecar_runs: true,
    }
}

pub(super) fn trouble(reason: &'static str) -> Trouble {
    Trouble { reason, detail: format!("because of {reason}") }
}

/// The Secret as a watch would show it.
pub(super) fn seen(secret: &Secret) -> SecretSeen {
    let owner =
        secret.meta().owner_references.iter().flatten().find(|one| one.controller == Some(true));
    SecretSeen {
        owner: owner.map(|owner| owner.uid.clone()),
        ours: secret.labels().get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1),
        type_: secret.type_.clone().unwrap_or_default(),
        annotations: secret.annotations().clone(),
        data: secret.data.clone().unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect(),
    }
}

/// A Secret that somebody else made.
pub(super) fn foreign(type_: &str, data: &[(&str, &[u8])]) -> SecretSeen {
    SecretSeen {
        owner: None,
        ours: false,
        type_: type_.into(),
        annotations: BTreeMap::new(),
        data: data.iter().map(|(key, bytes)| ((*key).to_owned(), bytes.to_vec())).collect(),
    }
}

pub(super) fn info(cert: &[u8]) -> restpipe_identity::CertificateInfo {
    use restpipe_identity::{Part, certificates};
    inspect(&certificates(cert, Part::Certificate, 8).unwrap()[0]).unwrap()
}

/// The root of the bundle that verifies the node's leaf.
fn root_of(node: &Node, by: &Node, usage: Usage, now: SystemTime) -> String {
    use restpipe_identity::{Part, certificates, verify};
    let chain = certificates(&node.cert, Part::Certificate, 8).unwrap();
    let text = String::from_utf8(by.bundle.clone()).unwrap();
    let each = text.split_inclusive("-----END CERTIFICATE-----\n");
    let mut roots = each.map(|pem| Roots::from_pem(pem.as_bytes()).unwrap());
    let found = roots.find(|roots| verify(&chain, roots, usage, now).is_ok());
    found.map(|roots| roots.fingerprints().remove(0)).unwrap_or_default()
}

/// Labels of what is not used elsewhere.
#[test]
fn the_world_is_set_up_as_a_cluster_would_be() {
    let mut world = World::with_clients(&["a", "b"]);
    assert_eq!(world.reconcile(), 0);
    assert!(world.can_connect("a").is_ok());
    let service = world.service.clone().unwrap();
    assert_eq!(service.spec.unwrap().selector.unwrap()[pods::ROLE], pods::ROLE_SERVER);
}
