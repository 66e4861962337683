//! The routing record, and why it is empty.

use kube::ResourceExt;
use restpipe_api::condition::{CONNECTED, INJECTED, reason};
use restpipe_api::{Connection, MAX_NAMES_LISTED, pods};

use super::{ClientPodSeen, LinkSeen, PeerSeen};
use crate::plan::ServerView;
use crate::plan::conditions::{Finding, shortened};
use crate::plan::server::conditions::{active, no_pods, not_injected, not_running};
use crate::plan::time::{parse, time};
use crate::seen::{PipeSeen, PodSeen, Trouble};

/// Characters of an address and of other texts in a status (its schema). Nodes may say anything.
const MAX_ADDRESS: usize = 64;
const MAX_TEXT: usize = 253;

/// What is known of a link's pipes.
pub(super) enum Connected {
    /// This, and these pipes.
    Found(Finding, Vec<Connection>),
    /// Nothing new yet: what was said before stays.
    Kept,
}

/// Of a link whose server is in this cluster. `exported`: its client is not.
pub(super) fn through(
    seen: &LinkSeen<'_>,
    view: &ServerView,
    hostname: &str,
    exported: bool,
) -> Connected {
    let pipes = seen.pipes.unwrap_or_default();
    let own = pipes.iter().filter(|pipe| pipe.hostname == hostname);
    let mut record: Vec<_> = own.map(|pipe| of_pipe(pipe, seen.pods)).collect();
    if seen.link.spec.suspend {
        let text =
            "spec.suspend is true, so the server refuses this client: set it to false to let it in";
        return Connected::Found(Finding::bad(CONNECTED, reason::SUSPENDED, text), sorted(record));
    }
    if !record.is_empty() {
        return up(record);
    }
    if let Some(finding) = no_pod_runs(seen, exported) {
        return Connected::Found(finding, record);
    }
    if seen.pipes.is_none() {
        return kept_or_unknown(seen, "the operator has not asked the server's pods yet");
    }
    if !view.answers {
        // The client's own word, while the operator cannot look.
        record.extend(told_up(seen.probes).flat_map(|(pod, peers)| of_peers(pod, peers)));
        if !record.is_empty() {
            return up(record);
        }
        if view.has_ready_pod {
            return nobody_tells(seen, view);
        }
    }
    let finding = match &view.not_ready {
        Some(trouble) if !view.has_ready_pod => Finding::of(CONNECTED, trouble),
        _ => why_not(seen, exported),
    };
    Connected::Found(finding, record)
}

/// While the server's pod is ready, and the operator does not reach it. What was said before stays
/// for the few seconds until pods that may know better have been asked.
fn nobody_tells(seen: &LinkSeen<'_>, view: &ServerView) -> Connected {
    let Some(trouble) = &view.not_ready else {
        return kept_or_unknown(seen, "the operator has not asked the server's pods yet");
    };
    let text = format!("whether the client is connected is not known: {}", trouble.detail);
    if seen.probes.is_empty() && seen.pods.iter().any(PodSeen::can_be_asked) {
        return kept_or_unknown(seen, &text);
    }
    Connected::Found(Finding::unknown(CONNECTED, trouble.reason, text), Vec::new())
}

/// Of a link whose server is elsewhere: only its own pods can tell.
pub(super) fn by_own_word(seen: &LinkSeen<'_>) -> Connected {
    let record: Vec<_> =
        told_up(seen.probes).flat_map(|(pod, peers)| of_peers(pod, peers)).collect();
    if !record.is_empty() {
        return up(record);
    }
    if let Some(finding) = no_pod_runs(seen, false) {
        return Connected::Found(finding, record);
    }
    if seen.probes.is_empty() {
        return kept_or_unknown(seen, "the operator has not asked the client's pods yet");
    }
    Connected::Found(why_not(seen, false), record)
}

/// Whether the pods are as they should be.
pub(super) fn injected(seen: &LinkSeen<'_>) -> Finding {
    if let Some(finding) = not_injected(seen.without_sidecar) {
        return finding;
    }
    if active(seen.pods).next().is_some() {
        return Finding::good(INJECTED, reason::INJECTED, "pods with the sidecar are there");
    }
    if seen.link.spec.export.is_some() {
        return Finding::good(
            INJECTED,
            reason::EXPORTED,
            "the client runs outside of this cluster",
        );
    }
    Finding::bad(INJECTED, reason::NO_PODS, no_pods_of_link(seen))
}

/// What to do where there is no pod; the client may be meant to run elsewhere.
fn no_pods_of_link(seen: &LinkSeen<'_>) -> String {
    let text = no_pods(seen.link, pods::LINK);
    if seen.link.spec.server.external.is_some() {
        return text;
    }
    let (namespace, name) = (seen.link.namespace().unwrap_or_default(), seen.link.name_any());
    format!(
        "{text}; for a client outside of this cluster: restpipe-operator export link/{name} -n {namespace}"
    )
}

fn up(record: Vec<Connection>) -> Connected {
    let text = match record.len() {
        1 => "1 pipe is up".to_owned(),
        number => format!("{number} pipes are up"),
    };
    Connected::Found(Finding::good(CONNECTED, reason::CONNECTED, text), sorted(record))
}

/// If no pod of the link could have a pipe.
fn no_pod_runs(seen: &LinkSeen<'_>, exported: bool) -> Option<Finding> {
    let Some(first) = active(seen.pods).min_by_key(|pod| &pod.name) else {
        let text = no_pods_of_link(seen);
        return (!exported).then(|| Finding::bad(CONNECTED, reason::NO_PODS, text));
    };
    // The sidecar runs before the others start, so the phase alone does not say it.
    let told = |pod: &PodSeen| seen.probes.iter().any(|probe| probe.pod == pod.name);
    let runs = |pod: &PodSeen| told(pod) || (pod.phase == "Running" && pod.waiting.is_none());
    if active(seen.pods).any(runs) {
        return None;
    }
    Some(Finding::bad(CONNECTED, reason::PODS_NOT_RUNNING, not_running(first, seen.link)))
}

/// What the client itself says, as all else is well.
fn why_not(seen: &LinkSeen<'_>, exported: bool) -> Finding {
    let troubles =
        seen.probes.iter().filter_map(|probe| Some((probe, probe.state.as_ref().err()?)));
    // A pod that says why tells more than one that says nothing.
    let silent = |trouble: &Trouble| trouble.reason == reason::CLIENT_SILENT;
    if let Some((probe, trouble)) =
        troubles.min_by_key(|(probe, trouble)| (silent(trouble), &probe.pod))
    {
        let text = format!("the pod {}: {}", probe.pod, trouble.detail);
        return Finding::bad(CONNECTED, trouble.reason, text);
    }
    let (namespace, name) = (seen.link.namespace().unwrap_or_default(), seen.link.name_any());
    let text = match active(seen.pods).map(|pod| &pod.name).min() {
        None if exported => {
            format!(
                "the client outside of this cluster has no pipe: bring its identity there (restpipe-operator export link/{name} -n {namespace}) and start it; if it runs, its log says whether it reaches the server's address"
            )
        }
        None => "no pipe is up".to_owned(),
        Some(pod) => {
            format!("no pipe is up yet: kubectl logs -n {namespace} {pod} -c {}", pods::CONTAINER)
        }
    };
    let reason = if exported { reason::EXPORT_NOT_CONNECTED } else { reason::NOT_CONNECTED };
    Finding::bad(CONNECTED, reason, text)
}

fn kept_or_unknown(seen: &LinkSeen<'_>, text: &str) -> Connected {
    let status = seen.link.status.as_ref();
    if status.is_some_and(|status| status.conditions.iter().any(|one| one.type_ == CONNECTED)) {
        return Connected::Kept;
    }
    Connected::Found(Finding::unknown(CONNECTED, reason::NOT_CONNECTED, text), Vec::new())
}

fn told_up(probes: &[ClientPodSeen]) -> impl Iterator<Item = (&str, &[PeerSeen])> {
    probes.iter().filter_map(|probe| Some((&*probe.pod, &**probe.state.as_ref().ok()?)))
}

fn of_peers<'a>(pod: &'a str, peers: &'a [PeerSeen]) -> impl Iterator<Item = Connection> + 'a {
    peers.iter().map(move |peer| Connection {
        pod: Some(pod.to_owned()),
        instance: shortened(pod, MAX_TEXT),
        server: shortened(&peer.instance, MAX_TEXT),
        address: shortened(&peer.address, MAX_ADDRESS),
        since: since(&peer.since),
    })
}

fn of_pipe(pipe: &PipeSeen, pods: &[PodSeen]) -> Connection {
    let pod = pods.iter().find(|pod| pod.name == pipe.instance);
    Connection {
        pod: pod.map(|pod| pod.name.clone()),
        instance: shortened(&pipe.instance, MAX_TEXT),
        server: shortened(&pipe.server_pod, MAX_TEXT),
        address: shortened(&pipe.address, MAX_ADDRESS),
        since: since(&pipe.since),
    }
}

fn since(text: &str) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    // A time that cannot be read must not be another one at every look.
    time(parse(text).unwrap_or(std::time::UNIX_EPOCH))
}

/// In an order that does not depend on who told first.
fn sorted(mut record: Vec<Connection>) -> Vec<Connection> {
    let key = |one: &Connection| {
        (one.instance.clone(), one.server.clone(), one.since.clone(), one.address.clone())
    };
    record.sort_by_key(key);
    record.truncate(MAX_NAMES_LISTED);
    record
}
