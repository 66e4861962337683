//! A server: its CA, its own identity, its Services, and who may connect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::{Secret, Service};
use restpipe_api::{Endpoint, RestPipeLink, RestPipeServer, RestPipeServerStatus};

use super::{CaState, Claims, Event};
use crate::seen::{Key, Names, PodSeen, SecretSeen, ServerPodSeen, Trouble};

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

/// What the plans of a server's links need of it.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// Its namespace and name.
    pub key: Key,
    /// Its UID.
    pub uid: String,
    /// The port of its Service.
    pub port: i32,
    /// How long leafs of its clients live.
    pub duration: Duration,
    /// Which links it takes.
    pub claims: Claims,
    /// What issues, or why nothing does.
    pub authority: Result<Arc<CaState>, Trouble>,
    /// Whether clients' leafs of a former root are to be replaced now.
    pub clients_may_switch: bool,
    /// Where it is reached, the best from outside first.
    pub endpoints: Vec<Endpoint>,
    /// Why it is not ready; nothing if it is.
    pub not_ready: Option<Trouble>,
    /// Whether one of its pods has told of its pipes.
    pub answers: bool,
}

/// Plans one server.
#[must_use]
pub fn plan(seen: &ServerSeen<'_>, now: SystemTime) -> ServerPlan {
    let _ = (seen, now);
    todo!("the body follows")
}
