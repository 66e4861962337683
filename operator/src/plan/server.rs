//! A server: its CA, its own identity, its Services, and who may connect.

pub(super) mod conditions;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::ResourceExt;
use restpipe_api::condition::reason;
use restpipe_api::{
    CaStatus, MAX_NAMES_LISTED, RestPipeLink, RestPipeServer, RestPipeServerStatus, names,
};
use restpipe_identity::{CA_CERT, LEAF_LIFETIME, TLS_CERT, Usage};

use self::conditions::Found;
use super::authority::{CaState, read_user_ca};
use super::claims::{self, Claims, key_of};
use super::event::{self, Event};
use super::leaf::{self, LeafPlan, LeafWant, Standing};
use super::node::{NODE_TOML, names_in, server_toml};
use super::objects::Owner;
use super::rotation::{self, Evidence, LeafFact, Step};
use super::service::{endpoints, services};
use super::time::{earlier, time, until};
use crate::seen::{Key, Names, PodSeen, SecretSeen, ServerPodSeen, Trouble};

pub use view::ServerView;

/// How soon is tried again what failed for a cause that no watch reports.
const RETRY: Duration = Duration::from_secs(60);

/// The longest version that a pod is believed: a larger one would leave no room for later ones.
const MAX_VERSION: u64 = 1 << 53;

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
    /// The leaf Secrets of the links, by the link.
    pub link_secrets: &'a BTreeMap<Key, Arc<SecretSeen>>,
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
    /// For its links.
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
    let names = next_names(seen, &owner.uid, &claims);

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
    if step.problem.is_some() || leaf.problem.is_some() {
        again_at = earlier(again_at, now.checked_add(RETRY));
    }
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
        authority,
        claims,
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

/// The lists of names that follow those which are out there, wherever these were kept: a list whose
/// version is not above that of the pods would not count.
fn next_names(seen: &ServerSeen<'_>, uid: &str, claims: &Claims) -> Names {
    let ours = seen.secret.filter(|secret| leaf::standing(Some(secret), uid) == Standing::Ours);
    let written = ours.and_then(|secret| names_in(secret.data.get(NODE_TOML)?));
    let known = written.into_iter().chain(seen.last_names.cloned());
    let believed = known.filter(|names| names.version <= MAX_VERSION);
    let base = believed.max_by_key(|names| names.version).unwrap_or_default();
    let told = seen.told.iter().filter_map(|told| told.state.as_ref().ok());
    let heard = told.map(|state| state.names_version).filter(|version| *version <= MAX_VERSION);
    let heard = heard.max().unwrap_or_default();
    let mut names = claims::names(&base, claims);
    if heard > base.version {
        names.version = heard + 1;
    }
    names
}

/// What is known of the leafs of this server and its clients.
fn evidence<'a>(seen: &ServerSeen<'a>, uid: &str, claims: &'a Claims) -> Evidence<'a> {
    let own = seen.secret.filter(|secret| leaf::standing(Some(secret), uid) == Standing::Ours);
    let own = own.map(|secret| leaf_fact(secret, None, false));
    let clients = claims.accepted().filter_map(|(key, verdict)| {
        let secret: &'a SecretSeen = seen.link_secrets.get(key)?;
        let ours = leaf::standing(Some(secret), &verdict.uid) == Standing::Ours;
        ours.then(|| leaf_fact(secret, Some(&verdict.hostname), verdict.exported))
    });
    Evidence { pods: seen.pods, told: seen.told, leafs: own.into_iter().chain(clients).collect() }
}

fn leaf_fact<'a>(
    secret: &'a SecretSeen,
    hostname: Option<&'a str>,
    exported: bool,
) -> LeafFact<'a> {
    let part = |key: &str| secret.data.get(key).map_or(&[][..], Vec::as_slice);
    LeafFact {
        hostname,
        exported,
        cert: part(TLS_CERT),
        bundle: part(CA_CERT),
        issued_with: leaf::roots_at_issue(secret).collect(),
    }
}

fn next_ca(seen: &ServerSeen<'_>, evidence: &Evidence<'_>, now: SystemTime) -> Step {
    let server = seen.server;
    if seen.ca_secret.is_some_and(|secret| !secret.ours) {
        let name = names::ca_secret(&server.uid().unwrap_or_default());
        let problem =
            leaf::untouchable_secret(Standing::Foreign, &name, seen.operator_namespace);
        return Step::stuck(problem);
    }
    let stored = seen.ca_secret.map(CaState::read);
    let user = server.spec.identity.ca_secret_name.as_ref().map(|name| {
        let shown = format!("{}/{name}", server.namespace().unwrap_or_default());
        let state = stored.iter().flatten();
        let known: Vec<_> = state.flat_map(|state| state.next.iter().chain([&state.current])).collect();
        read_user_ca(&shown, seen.user_ca, &known, now)
    });
    let want = rotation::Want {
        user: user.as_ref(),
        rotate: server.annotations().get(names::ROTATE_CA).map(String::as_str),
        name: &ca_name(server),
        spread_time: seen.spread_time,
    };
    rotation::step(stored, evidence, &want, now)
}

/// For people only, and no longer than a common name may be.
fn ca_name(server: &RestPipeServer) -> String {
    let name = format!("RestPipe {}", key_of(server));
    name.chars().take(64).collect()
}

/// What may sign now.
fn authority(step: &Step, now: SystemTime) -> Result<Arc<CaState>, Trouble> {
    match &step.state {
        Some(state) if state.signer().info().is_valid_at(now) => Ok(Arc::new(state.clone())),
        _ => Err(step.problem.clone().unwrap_or_else(|| Trouble {
            reason: reason::CA_UNAVAILABLE,
            detail: "there is no CA that could sign".to_owned(),
        })),
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
