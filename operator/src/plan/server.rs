//! A server: its CA, its own identity, its Services, and who may connect.

pub(super) mod conditions;
mod facts;
mod unwritten;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt;
use restpipe_api::{
    CaStatus, MAX_NAMES_LISTED, RestPipeLink, RestPipeServer, RestPipeServerStatus, names,
};
use restpipe_identity::{LEAF_LIFETIME, Usage};

use self::conditions::Found;
use self::facts::{authority, evidence, next_ca, next_names};
use super::authority::CaState;
use super::claims::{self, key_of};
use super::event::{self, Event};
use super::leaf::{self, LeafPlan, LeafWant};
use super::node::server_toml;
use super::objects::Owner;
use super::service::{endpoints, services};
use super::time::{earlier, time, until};
use crate::seen::{Key, Names, PodSeen, SecretSeen, ServerPodSeen, Trouble};

pub use unwritten::Unwritten;
pub use view::ServerView;

/// How soon is tried again what failed for a cause that no watch reports.
const RETRY: Duration = Duration::from_secs(30);

/// How soon is looked whether a hostname that was left out can be listed, should no pod be there
/// whose report would tell.
const LIST_AGAIN: Duration = Duration::from_secs(1);

/// What is there of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerSeen<'a> {
    /// The object.
    pub server: &'a RestPipeServer,
    /// All links that name it ([`super::claims::names`]); others are ignored.
    pub links: &'a [Arc<RestPipeLink>],
    /// Labels of namespaces, by name; none if the operator may not read namespaces.
    pub namespaces: Option<&'a BTreeMap<String, BTreeMap<String, String>>>,
    /// The namespace of the operator.
    pub operator_namespace: &'a str,
    /// The Secret `restpipe-ca-<uid>` in it.
    pub ca_secret: Option<&'a SecretSeen>,
    /// The Secret that `spec.identity.caSecretName` names.
    pub user_ca: Option<&'a SecretSeen>,
    /// The Secret `<server>-restpipe-server`.
    pub secret: Option<&'a SecretSeen>,
    /// The Secrets `<link>-restpipe-link`, by the link: whoever's they are, and without need of
    /// their private keys. A rotation of the CA waits for accepted links that are not in it.
    pub link_secrets: &'a BTreeMap<Key, Arc<SecretSeen>>,
    /// Names of the injected pods of its links that have `spec.export`, by the link: what these
    /// pods trust says nothing of the copies outside.
    pub exported_pods: &'a BTreeMap<Key, BTreeSet<String>>,
    /// The Service `<server>-restpipe`.
    pub service: Option<&'a Service>,
    /// The Service `<server>-restpipe-replicas`.
    pub replicas_service: Option<&'a Service>,
    /// Injected pods of this server.
    pub pods: &'a [PodSeen],
    /// Pods that are annotated and have no sidecar, by name.
    pub without_sidecar: &'a [String],
    /// What its pods have told; a pod that was not asked yet is not among them.
    pub told: &'a [ServerPodSeen],
    /// The lists of names of the plan before, if this process made one.
    pub last_names: Option<&'a Names>,
    /// What the plan before left for the links.
    pub last_view: Option<&'a ServerView>,
    /// Why the CA of a plan of these very facts could not be stored: then it stays as it is.
    pub ca_refused: Option<&'a Trouble>,
    /// See [`super::authority::SPREAD_TIME`].
    pub spread_time: Duration,
}

/// What is to be done for a server.
#[derive(Debug)]
pub struct ServerPlan {
    /// The CA to store, before anything else.
    pub ca_secret: Option<CaWrite>,
    /// The leaf Secret to apply, if it is not as it should be.
    pub secret: Option<Secret>,
    /// Services to apply, if they are not as they should be.
    pub services: Vec<Service>,
    /// Who may connect; for the pods that have an older version.
    pub names: Names,
    /// The whole status as it should be.
    pub status: RestPipeServerStatus,
    /// For its links, once [`Self::ca_secret`] is stored.
    pub view: Arc<ServerView>,
    /// What to tell.
    pub events: Vec<Event>,
    /// When to look again, if nothing happens before.
    pub again_in: Option<Duration>,
}

/// A CA to be stored, as a whole.
#[derive(Debug)]
pub struct CaWrite {
    /// The Secret, in the operator's namespace.
    pub secret: Secret,
    /// true: create it, and fail if there is one. false: replace the one that was seen, and fail if
    /// it has changed since (`resourceVersion`). Never by server-side apply: two operators, or one
    /// with an old cache, would each have a CA of their own.
    pub create: bool,
}

/// Plans one server.
#[must_use]
pub fn plan(seen: &ServerSeen<'_>, now: SystemTime) -> ServerPlan {
    let server = seen.server;
    let owner = Owner::of(server, restpipe_api::pods::SERVER);
    let claims = claims::claims(server, seen.links.iter().map(|link| &**link), seen.namespaces);
    let (names, freed) = next_names(seen, &owner.uid, &claims, now);

    let evidence = evidence(seen, &owner.uid, &claims);
    let mut step = next_ca(seen, &evidence, now);
    let authority = authority(&step, now);
    let may_switch = |may: &dyn Fn(&CaState) -> bool| authority.as_ref().is_ok_and(|ca| may(ca));
    let server_may_switch = may_switch(&|ca| evidence.server_may_switch(ca, now));
    let clients_may_switch = may_switch(&|ca| evidence.clients_may_switch(ca, now));

    let leaf = own_leaf(seen, &owner, &names, authority.as_deref(), server_may_switch, now);
    let (services, conflict) = services(server, &owner, seen.service, seen.replicas_service);

    let found = Found::new(seen, &step, &leaf, conflict.as_ref());
    let before = server.status.clone().unwrap_or_default();
    let mut events = std::mem::take(&mut step.events);
    events.extend(leaf.event);
    events.extend(event::news(&before.conditions, &found.all()));

    let mut again_at = earlier(step.again_at, leaf.again_at);
    if step.problem.is_some() || leaf.problem.is_some() || conflict.is_some() {
        again_at = earlier(again_at, now.checked_add(RETRY));
    }
    if claims.accepted().any(|(_, verdict)| freed.contains_key(&verdict.hostname)) {
        again_at = earlier(again_at, now.checked_add(LIST_AGAIN));
    }
    let last_view = seen.last_view.filter(|last| last.uid == owner.uid);
    let view = ServerView {
        key: key_of(server),
        uid: owner.uid.clone(),
        port: server.spec.service.port,
        duration: duration_of(server.spec.identity.duration.as_deref(), LEAF_LIFETIME),
        clients_may_switch,
        endpoints: endpoints(server, seen.service),
        not_ready: found.not_ready(server),
        has_ready_pod: conditions::ready(seen.pods).next().is_some(),
        answers: conditions::answering(seen).next().is_some(),
        own_authority: authority
            .as_ref()
            .ok()
            .cloned()
            .or_else(|| last_view.and_then(|last| last.own_authority.clone())),
        authority,
        claims,
        freed,
    };
    let status = RestPipeServerStatus {
        observed_generation: server.metadata.generation,
        endpoints: view.endpoints.clone(),
        clients: Some(conditions::counts(seen, &view, before.clients)),
        identity: leaf.identity,
        ca: step.state.as_ref().map(|state| ca_status(state, step.waiting_for)),
        pods: first_names(conditions::active(seen.pods).map(|pod| pod.name.clone())),
        pods_without_sidecar: first_names(seen.without_sidecar.iter().cloned()),
        conditions: found.conditions(&before.conditions, server.metadata.generation, now),
    };
    let ca_secret = step.state.filter(|_| step.changed).map(|state| CaWrite {
        secret: state.secret(
            seen.operator_namespace,
            &server.name_any(),
            &owner.uid,
            view.key.to_string(),
        ),
        create: seen.ca_secret.is_none(),
    });
    ServerPlan {
        ca_secret,
        secret: leaf.secret,
        services,
        names,
        status,
        view: Arc::new(view),
        events,
        again_in: again_at.map(|at| until(at, now)),
    }
}

fn own_leaf(
    seen: &ServerSeen<'_>,
    owner: &Owner,
    names: &Names,
    ca: Result<&CaState, &Trouble>,
    may_switch: bool,
    now: SystemTime,
) -> LeafPlan {
    let server = seen.server;
    let node_toml = match server_toml(&key_of(server), names) {
        Ok(text) => text,
        Err(trouble) => return LeafPlan { problem: Some(trouble), ..LeafPlan::default() },
    };
    let want = LeafWant {
        owner,
        secret: restpipe_api::names::server_secret(owner.name()),
        name: &names::server_identity(owner.name(), &owner.namespace),
        usage: Usage::Server,
        lifetime: duration_of(server.spec.identity.duration.as_deref(), LEAF_LIFETIME),
        exported: false,
        renew: server.annotations().get(names::RENEW).map(String::as_str),
        node_toml,
        ca,
        may_switch,
    };
    leaf::plan(seen.secret, &want, now)
}

fn ca_status(state: &CaState, mut waiting_for: Vec<String>) -> CaStatus {
    waiting_for.truncate(MAX_NAMES_LISTED);
    CaStatus {
        phase: state.phase(),
        fingerprint: state.fingerprint().to_owned(),
        not_after: time(state.signer().info().not_after),
        waiting_for,
    }
}

/// In order, and as many as a status lists.
pub(super) fn first_names(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.truncate(MAX_NAMES_LISTED);
    names
}

/// A duration of a spec. The schema has looked at it; what it would not take is the default.
pub(super) fn duration_of(text: Option<&str>, default: Duration) -> Duration {
    let given = text.and_then(|text| humantime::parse_duration(text).ok());
    given.filter(|given| !given.is_zero()).unwrap_or(default)
}
