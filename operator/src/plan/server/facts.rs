//! What the plan of a server goes by: lists of names, who trusts what, and the CA.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use kube::ResourceExt;
use restpipe_api::condition::reason;
use restpipe_api::{CaPhase, RestPipeServer, names};
use restpipe_identity::{CA_CERT, TLS_CERT};

use super::{ServerSeen, conditions};
use crate::plan::authority::{CaState, read_user_ca};
use crate::plan::claims::{self, Claims, Freed, key_of};
use crate::plan::leaf::{self, Standing};
use crate::plan::node::{NODE_TOML, names_in};
use crate::plan::rotation::{self, Evidence, LeafFact, Step};
use crate::seen::{Names, SecretSeen, Trouble};

/// The highest version that a pod is believed.
const MAX_HEARD: u64 = 1 << 52;

/// The highest version that a list of our own is believed. Far above what is heard: each change
/// takes one more, and a list of a version that is not believed any more would begin anew at 1,
/// which pods do not take.
const MAX_KNOWN: u64 = 1 << 53;

/// The lists of names that follow those which are out there, wherever these were kept: a list whose
/// version is not above that of the pods would not count. And the hostnames that they leave out.
pub(super) fn next_names(
    seen: &ServerSeen<'_>,
    uid: &str,
    claims: &Claims,
    now: SystemTime,
) -> (Names, Freed) {
    let ours = seen.secret.filter(|secret| leaf::standing(Some(secret), uid) == Standing::Ours);
    let written = ours.and_then(|secret| names_in(secret.data.get(NODE_TOML)?));
    let known = written.into_iter().chain(seen.last_names.cloned());
    let believed = known.filter(|names| names.version <= MAX_KNOWN);
    let base = believed.max_by_key(|names| names.version).unwrap_or_default();
    let told = seen.told.iter().filter_map(|told| told.state.as_ref().ok());
    let heard = told.map(|state| state.names_version).filter(|version| *version <= MAX_HEARD);
    let heard = heard.max().unwrap_or_default();
    let freed = seen.last_view.filter(|last| last.uid == uid).map(|last| {
        let taken = is_taken(seen, base.version);
        claims::freed(&last.claims, &last.freed, claims, taken, now)
    });
    let freed = freed.unwrap_or_default();
    let mut names = claims::names(&base, claims, &freed);
    if heard > base.version {
        names.version = heard + 1;
    }
    (names, freed)
}

/// Whether all pods that may have pipes go by the lists of that version.
fn is_taken(seen: &ServerSeen<'_>, version: u64) -> bool {
    let mut running = conditions::active(seen.pods).filter(|pod| pod.phase == "Running");
    running.all(|pod| {
        let told = seen.told.iter().find(|told| told.pod == pod.name);
        let state = told.and_then(|told| told.state.as_ref().ok());
        state.is_some_and(|state| state.names_version == version)
    })
}

/// What is known of the leafs of this server and its clients.
pub(super) fn evidence<'a>(seen: &ServerSeen<'a>, uid: &str, claims: &'a Claims) -> Evidence<'a> {
    let own = seen.secret.filter(|secret| leaf::standing(Some(secret), uid) == Standing::Ours);
    let own = own.map(|secret| leaf_fact(secret, None, false, None));
    let mut leafs: Vec<LeafFact<'a>> = own.into_iter().collect();
    let mut unknown = Vec::new();
    for (key, verdict) in claims.accepted() {
        match seen.link_secrets.get(key) {
            Some(secret) if leaf::standing(Some(secret), &verdict.uid) == Standing::Ours => {
                let pods = seen.exported_pods.get(key);
                leafs.push(leaf_fact(secret, Some(&verdict.hostname), verdict.exported, pods));
            }
            // Nothing that a rotation could change.
            Some(_) => {}
            None => unknown.push(&*verdict.hostname),
        }
    }
    let without_exported = goes_on_without_exported(seen);
    Evidence { pods: seen.pods, told: seen.told, leafs, unknown, without_exported }
}

/// Whether the user wants the rotation that is under way to go on without clients outside.
fn goes_on_without_exported(seen: &ServerSeen<'_>) -> bool {
    let Some(value) = seen.server.annotations().get(names::ROTATE_CA_GO_ON) else { return false };
    let stored = seen.ca_secret.filter(|secret| secret.ours).map(CaState::read);
    stored.and_then(Result::ok).is_some_and(|state| {
        state.phase() != CaPhase::Stable && state.gone_on.as_ref() != Some(value)
    })
}

fn leaf_fact<'a>(
    secret: &'a SecretSeen,
    hostname: Option<&'a str>,
    exported: bool,
    pods: Option<&'a BTreeSet<String>>,
) -> LeafFact<'a> {
    let part = |key: &str| secret.data.get(key).map_or(&[][..], Vec::as_slice);
    LeafFact {
        hostname,
        exported,
        pods,
        cert: part(TLS_CERT),
        bundle: part(CA_CERT),
        issued_with: leaf::roots_at_issue(secret).collect(),
    }
}

pub(super) fn next_ca(seen: &ServerSeen<'_>, evidence: &Evidence<'_>, now: SystemTime) -> Step {
    let server = seen.server;
    if seen.ca_secret.is_some_and(|secret| !secret.ours) {
        let name = names::ca_secret(&server.uid().unwrap_or_default());
        let problem = leaf::untouchable_secret(Standing::Foreign, &name, seen.operator_namespace);
        return Step::stuck(problem);
    }
    let stored = seen.ca_secret.map(CaState::read);
    if let Some(trouble) = seen.ca_refused {
        // Whatever step would be next, it cannot be kept.
        return Step { state: stored.and_then(Result::ok), ..Step::stuck(Some(trouble.clone())) };
    }
    let user = server.spec.identity.ca_secret_name.as_ref().map(|name| {
        let shown = format!("{}/{name}", server.namespace().unwrap_or_default());
        let state = stored.iter().flatten();
        let known: Vec<_> =
            state.flat_map(|state| state.next.iter().chain([&state.current])).collect();
        let (name, namespace) = (server.name_any(), server.namespace().unwrap_or_default());
        let client = names::client_identity("trial", &name, &namespace);
        let names = [&*client, &names::server_identity(&name, &namespace)];
        read_user_ca(&shown, seen.user_ca, &known, names, now)
    });
    let want = rotation::Want {
        user: user.as_ref(),
        rotate: server.annotations().get(names::ROTATE_CA).map(String::as_str),
        go_on: server.annotations().get(names::ROTATE_CA_GO_ON).map(String::as_str),
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
pub(super) fn authority(step: &Step, now: SystemTime) -> Result<Arc<CaState>, Trouble> {
    match &step.state {
        Some(state) if state.signer().info().is_valid_at(now) => Ok(Arc::new(state.clone())),
        _ => Err(step.problem.clone().unwrap_or_else(|| Trouble {
            reason: reason::CA_UNAVAILABLE,
            detail: "there is no CA that could sign".to_owned(),
        })),
    }
}
