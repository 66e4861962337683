//! What the status of a server says.

use std::collections::BTreeSet;
use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, INJECTED, READY, SINGLE_REPLICA, reason};
use restpipe_api::{ClientCounts, RestPipeServer, names};

use super::{ServerSeen, ServerView};
use crate::plan::claims::key_of;
use crate::plan::conditions::{Conditions, Finding};
use crate::plan::leaf::LeafPlan;
use crate::plan::rotation::{self, Step};
use crate::plan::time::system;
use crate::seen::{PodSeen, ServerPodSeen, Trouble};
use restpipe_identity::rfc3339;

/// What was found out about a server.
pub(super) struct Found {
    accepted: Finding,
    issued: Finding,
    injected: Finding,
    single: Finding,
    /// Nothing while it is not known; what was said before is left then.
    ready: Option<Finding>,
}

impl Found {
    pub(super) fn new(
        seen: &ServerSeen<'_>,
        step: &Step,
        leaf: &LeafPlan,
        conflict: Option<&Trouble>,
    ) -> Self {
        let accepted = accepted(step, leaf, conflict);
        let issued = issued(seen, step, leaf);
        let pods = pods(seen);
        let ready = match &pods {
            Some(pods) => {
                Some(Finding::ready(&[&accepted, &issued, pods], "a pod of the server takes pipes"))
            }
            None if accepted.holds() && issued.holds() => None,
            None => Some(Finding::ready(&[&accepted, &issued], "")),
        };
        // What was never said cannot be left as it is.
        let status = seen.server.status.as_ref();
        let said = status.is_some_and(|status| {
            status.conditions.iter().any(|one| one.type_ == READY && one.status == "True")
        });
        let ready = ready.or_else(|| {
            (!said).then(|| {
                Finding::unknown(
                    READY,
                    reason::SERVER_NOT_READY,
                    "a pod is ready, and the operator has not asked it for its pipes yet",
                )
            })
        });
        Self { accepted, issued, injected: injected(seen), single: single(seen), ready }
    }

    pub(super) fn all(&self) -> Vec<&Finding> {
        [&self.accepted, &self.issued, &self.injected, &self.single]
            .into_iter()
            .chain(&self.ready)
            .collect()
    }

    pub(super) fn conditions(
        &self,
        before: &[Condition],
        generation: Option<i64>,
        now: SystemTime,
    ) -> Vec<Condition> {
        let mut conditions = Conditions::new(before, generation, now);
        for finding in self.all() {
            conditions.set(finding);
        }
        if self.ready.is_none() {
            conditions.keep(READY);
        }
        conditions.finish()
    }

    /// For the links of the server.
    pub(super) fn not_ready(&self, server: &RestPipeServer) -> Option<Trouble> {
        let ready = self.ready.as_ref().filter(|ready| !ready.holds())?;
        Some(not_ready(server, ready.reason, &ready.message))
    }
}

/// What the links of a server are told while it is not ready.
pub(super) fn not_ready(server: &RestPipeServer, why: &str, message: &str) -> Trouble {
    Trouble {
        reason: reason::SERVER_NOT_READY,
        detail: format!("the server {} is not ready ({why}): {message}", key_of(server)),
    }
}

/// Pods that have not ended.
pub(in crate::plan) fn active(pods: &[PodSeen]) -> impl Iterator<Item = &PodSeen> {
    pods.iter().filter(|pod| !pod.ending && !matches!(&*pod.phase, "Succeeded" | "Failed"))
}

pub(super) fn ready(pods: &[PodSeen]) -> impl Iterator<Item = &PodSeen> {
    active(pods).filter(|pod| pod.ready)
}

/// What ready pods have told.
pub(super) fn answering<'a>(
    seen: &ServerSeen<'a>,
) -> impl Iterator<Item = &'a ServerPodSeen> + use<'a> {
    let ready: BTreeSet<&str> = ready(seen.pods).map(|pod| &*pod.name).collect();
    seen.told.iter().filter(move |told| told.state.is_ok() && ready.contains(&*told.pod))
}

fn accepted(step: &Step, leaf: &LeafPlan, conflict: Option<&Trouble>) -> Finding {
    let spec_is_wrong = |trouble: &&Trouble| {
        [
            reason::SECRET_NOT_FOUND,
            reason::SECRET_INVALID,
            reason::SECRET_CONFLICT,
            reason::WRITE_FAILED,
        ]
        .contains(&trouble.reason)
    };
    let troubles = step.problem.iter().chain(&leaf.problem).filter(spec_is_wrong).chain(conflict);
    match troubles.into_iter().next() {
        Some(trouble) => Finding::of(ACCEPTED, trouble),
        None => {
            Finding::good(ACCEPTED, reason::ACCEPTED, "the server can be set up as it is wanted")
        }
    }
}

fn issued(seen: &ServerSeen<'_>, step: &Step, leaf: &LeafPlan) -> Finding {
    match (&leaf.problem, &leaf.identity) {
        (Some(trouble), _) => Finding::of(IDENTITY_ISSUED, trouble),
        (None, Some(identity)) => {
            let until = rfc3339(system(&identity.not_after));
            let text = format!(
                "the Secret {} holds a certificate for {} until {until}",
                identity.secret_name, identity.name
            );
            let states =
                seen.told.iter().filter_map(|told| Some((told, told.state.as_ref().ok()?)));
            let failed =
                states.filter_map(|(told, state)| Some((&told.pod, state.reload_failed.as_ref()?)));
            if let Some((pod, word)) = failed.min() {
                let text = format!("{text}; {}", reload_failed(seen.server, pod, word));
                return Finding::good(IDENTITY_ISSUED, reason::CERT_RELOAD_FAILED, text);
            }
            if step.waits_for_exported {
                let text = format!("{text}; {}", rotation_waits(seen.server, &step.waiting_for));
                return Finding::good(IDENTITY_ISSUED, reason::ROTATION_WAITS, text);
            }
            Finding::good(IDENTITY_ISSUED, reason::ISSUED, text)
        }
        (None, None) => {
            Finding::bad(IDENTITY_ISSUED, reason::CA_UNAVAILABLE, "there is no certificate yet")
        }
    }
}

/// What to do about a pod that goes on with an older certificate because the newest files are bad.
pub(in crate::plan) fn reload_failed<K: kube::ResourceExt>(
    of: &K,
    pod: &str,
    word: &str,
) -> String {
    let namespace = of.namespace().unwrap_or_default();
    format!(
        "the pod {pod} does not take the files that it has now ({word}) and goes on with older ones; its log says why: kubectl logs -n {namespace} {pod} -c {}",
        restpipe_api::pods::CONTAINER
    )
}

/// What to do about a rotation that waits for clients which only their user can see to.
fn rotation_waits(server: &RestPipeServer, clients: &[String]) -> String {
    let key = key_of(server);
    format!(
        "the rotation of the CA waits for clients outside of this cluster ({}): have another certificate issued for each (kubectl annotate restpipelink NAME --overwrite {}=$(date +%s)) and bring it there (restpipe-operator export link/NAME), or go on without them, which locks them out until they get one: restpipe-operator rotate-ca server/{} -n {} --go-on",
        rotation::listed(clients.to_vec()),
        names::RENEW,
        key.name,
        key.namespace,
    )
}

fn injected(seen: &ServerSeen<'_>) -> Finding {
    let has_pods = active(seen.pods).next().is_some();
    if let Some(finding) = not_injected(seen.without_sidecar) {
        return finding;
    }
    if has_pods {
        return Finding::good(INJECTED, reason::INJECTED, "pods with the sidecar are there");
    }
    Finding::bad(INJECTED, reason::NO_PODS, no_pods(seen.server, restpipe_api::pods::SERVER))
}

/// If there are annotated pods without a sidecar.
pub(in crate::plan) fn not_injected(without_sidecar: &[String]) -> Option<Finding> {
    let first = without_sidecar.iter().min()?;
    let more = match without_sidecar.len() - 1 {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(Finding::bad(
        INJECTED,
        reason::NOT_INJECTED,
        format!(
            "the pod {first}{more} carries the annotation and has no sidecar: it was made before, or while the webhook was not there; restart what makes it (kubectl rollout restart), and see restpipe-operator check"
        ),
    ))
}

/// What to do where there is no pod.
pub(in crate::plan) fn no_pods<K: kube::ResourceExt>(object: &K, annotation: &str) -> String {
    let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
    format!(
        "no pod of the namespace {namespace} runs with the annotation {annotation}: {name} (in a Deployment: spec.template.metadata.annotations)"
    )
}

fn single(seen: &ServerSeen<'_>) -> Finding {
    // Those that are not ready count as well: they will be, and the status names them.
    match active(seen.pods).count() {
        0 | 1 => Finding::good(
            SINGLE_REPLICA,
            reason::SINGLE_REPLICA,
            "not more than one pod is the server",
        ),
        _ => Finding::bad(
            SINGLE_REPLICA,
            reason::TOO_MANY_PODS,
            "more than one pod is the server, and each reaches only the clients whose pipes it holds: scale to one replica",
        ),
    }
}

/// Whether a pod takes pipes; nothing while it is not known.
fn pods(seen: &ServerSeen<'_>) -> Option<Finding> {
    if answering(seen).next().is_some() {
        return Some(Finding::good(READY, reason::READY, ""));
    }
    let server = seen.server;
    let Some(pod) = active(seen.pods).min_by_key(|pod| &pod.name) else {
        let text = no_pods(server, restpipe_api::pods::SERVER);
        return Some(Finding::bad(READY, reason::NO_PODS, text));
    };
    if ready(seen.pods).next().is_none() {
        return Some(Finding::bad(READY, reason::PODS_NOT_RUNNING, not_running(pod, server)));
    }
    let told =
        ready(seen.pods).filter_map(|pod| seen.told.iter().find(|told| told.pod == pod.name));
    let trouble = told.filter_map(|told| Some((&told.pod, told.state.as_ref().err()?)));
    let (pod, trouble) = trouble.min_by_key(|(pod, _)| *pod)?;
    let text = format!("the operator cannot ask the pod {pod}: {}", trouble.detail);
    Some(Finding::bad(READY, trouble.reason, text))
}

/// Why a pod is of no use yet.
pub(in crate::plan) fn not_running<K: kube::ResourceExt>(pod: &PodSeen, of: &K) -> String {
    let why = match &pod.waiting {
        Some(waiting) => format!("it waits ({waiting})"),
        None if pod.phase == "Running" => "it is not ready".to_owned(),
        None => format!("it is {}", pod.phase),
    };
    let namespace = of.namespace().unwrap_or_default();
    format!(
        "the pod {0} does not run yet, {why}: kubectl describe pod -n {namespace} {0}",
        pod.name
    )
}

/// How many links there are. While no pod has been asked, those connected are as many as before.
pub(super) fn counts(
    seen: &ServerSeen<'_>,
    view: &ServerView,
    before: Option<ClientCounts>,
) -> ClientCounts {
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let states = seen.told.iter().filter_map(|told| told.state.as_ref().ok());
    let up: BTreeSet<&str> =
        states.flat_map(|state| &state.pipes).map(|pipe| &*pipe.hostname).collect();
    let accepted = || view.claims.accepted().map(|(_, verdict)| verdict);
    let connected = if seen.told.is_empty() && view.has_ready_pod {
        before.unwrap_or_default().connected
    } else {
        count(accepted().filter(|verdict| up.contains(&*verdict.hostname)).count())
    };
    ClientCounts {
        declared: count(view.claims.links.len()),
        accepted: count(accepted().count()),
        suspended: count(accepted().filter(|verdict| verdict.suspended).count()),
        connected,
    }
}
