//! What is kept of a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use restpipe_api::pods::{LINK, ROLE, ROLE_CLIENT, ROLE_SERVER, SERVER};

use super::world::Target;
use crate::seen::{Key, PodSeen};

/// Reasons that only say that a container is about to start.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Whose an injected pod is, by the labels that injection wrote.
pub(super) fn injected(meta: &ObjectMeta) -> Option<Target> {
    let labels = meta.labels.as_ref()?;
    match labels.get(ROLE)?.as_str() {
        ROLE_SERVER => Some(Target::Server(named(meta, labels, SERVER)?)),
        ROLE_CLIENT => Some(Target::Link(named(meta, labels, LINK)?)),
        _ => None,
    }
}

/// Whose a pod would be that is annotated, and has no sidecar.
pub(super) fn missed(meta: &ObjectMeta) -> Option<Target> {
    if meta.deletion_timestamp.is_some() || injected(meta).is_some() {
        return None;
    }
    let annotations = meta.annotations.as_ref()?;
    named(meta, annotations, SERVER)
        .map(Target::Server)
        .or_else(|| named(meta, annotations, LINK).map(Target::Link))
}

fn named(meta: &ObjectMeta, of: &BTreeMap<String, String>, key: &str) -> Option<Key> {
    Some(Key { namespace: meta.namespace.clone()?, name: of.get(key)?.clone() })
}

/// What plans need to know of a pod.
pub(super) fn seen(pod: Pod) -> Option<(Target, PodSeen)> {
    let target = injected(&pod.metadata)?;
    let status = pod.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let containers = status.init_container_statuses.into_iter().flatten();
    let mut waiting: Vec<String> = containers
        .chain(status.container_statuses.into_iter().flatten())
        .filter_map(waiting_reason)
        .collect();
    waiting.sort_by_key(|reason| STARTING.contains(&reason.as_str()));
    let unscheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .and_then(|condition| condition.reason.clone());
    Some((
        target,
        PodSeen {
            name: pod.metadata.name?,
            uid: pod.metadata.uid.unwrap_or_default(),
            ip: status.pod_ip.and_then(|ip| ip.parse().ok()),
            phase: status.phase.unwrap_or_else(|| "Pending".to_owned()),
            ready: conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            ending: pod.metadata.deletion_timestamp.is_some(),
            waiting: unscheduled.or(waiting.into_iter().next()),
        },
    ))
}

fn waiting_reason(container: ContainerStatus) -> Option<String> {
    container.state?.waiting?.reason
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(value: serde_json::Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    #[test]
    fn a_pod_is_whose_injection_labelled_it() {
        let pod = pod(json!({
            "metadata": {"name": "web-1", "namespace": "shop", "uid": "u",
                "labels": {"restpipe.io/role": "client", "restpipe.io/link": "files"}},
            "status": {"phase": "Pending", "podIP": "10.0.0.7",
                "conditions": [{"type": "Ready", "status": "False"}],
                "initContainerStatuses": [{"name": "restpipe", "image": "", "imageID": "",
                    "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
                "containerStatuses": [{"name": "app", "image": "", "imageID": "",
                    "ready": false, "restartCount": 0,
                    "state": {"waiting": {"reason": "PodInitializing"}}}]}
        }));
        let (target, seen) = seen(pod).expect("an injected pod");
        assert_eq!(target, Target::Link(Key { namespace: "shop".into(), name: "files".into() }));
        assert_eq!(seen.waiting.as_deref(), Some("ImagePullBackOff"));
        assert_eq!(seen.ip, Some("10.0.0.7".parse().expect("an address")));
        assert!(!seen.ready && !seen.ending);
    }

    #[test]
    fn an_annotated_pod_without_label_has_missed_its_sidecar() {
        let with = |meta: serde_json::Value| -> ObjectMeta {
            serde_json::from_value(meta).expect("metadata")
        };
        let annotated = json!({"name": "a", "namespace": "n",
            "annotations": {"restpipe.io/server": "hub"}});
        let hub = Target::Server(Key { namespace: "n".into(), name: "hub".into() });
        assert_eq!(missed(&with(annotated.clone())), Some(hub));
        let mut ending = annotated.clone();
        ending["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(missed(&with(ending)), None);
        let mut labelled = annotated;
        labelled["labels"] = json!({"restpipe.io/role": "server", "restpipe.io/server": "hub"});
        assert_eq!(missed(&with(labelled)), None);
        assert_eq!(missed(&with(json!({"name": "a", "namespace": "n"}))), None);
    }
}
