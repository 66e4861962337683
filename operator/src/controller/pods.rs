//! What is kept of a pod.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use restpipe_api::pods::{CONTAINER, LINK, MIRROR, ROLE, ROLE_CLIENT, ROLE_SERVER, SERVER, named};

use super::world::Target;
use crate::seen::{Key, PodSeen};

/// Reasons that only say that a container is about to start.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Pods that have not ended. What an ended one lacks, nobody can give it any more.
pub(super) const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// Whose an injected pod is, by the labels that injection wrote.
fn labelled(meta: &ObjectMeta) -> Option<Target> {
    let labels = meta.labels.as_ref()?;
    match labels.get(ROLE)?.as_str() {
        ROLE_SERVER => Some(Target::Server(key(meta, labels.get(SERVER)?)?)),
        ROLE_CLIENT => Some(Target::Link(key(meta, labels.get(LINK)?)?)),
        _ => None,
    }
}

/// Whose a pod would be that is annotated, and has no sidecar.
pub(super) fn missed(meta: &ObjectMeta) -> Option<Target> {
    if meta.deletion_timestamp.is_some() || labelled(meta).is_some() {
        return None;
    }
    let annotations = meta.annotations.as_ref()?;
    if annotations.contains_key(MIRROR) {
        return None;
    }
    let of = |annotation: &str| key(meta, named(annotations.get(annotation)?)?);
    of(SERVER).map(Target::Server).or_else(|| of(LINK).map(Target::Link))
}

/// The server or link `name` in the pod's namespace.
fn key(meta: &ObjectMeta, name: &str) -> Option<Key> {
    Some(Key { namespace: meta.namespace.clone()?, name: name.to_owned() })
}

/// What plans need to know of a pod with the labels of an injected one; nothing but whose it is, if
/// the labels were copied from one and it runs without a sidecar.
pub(super) fn seen(pod: Pod) -> Option<(Target, Option<PodSeen>)> {
    let target = labelled(&pod.metadata)?;
    let init_containers = pod.spec.into_iter().filter_map(|spec| spec.init_containers).flatten();
    let has_sidecar = init_containers.into_iter().any(|container| container.name == CONTAINER);
    let status = pod.status.unwrap_or_default();
    if !has_sidecar {
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let ending = pod.metadata.deletion_timestamp.is_some();
        return (!ended && !ending).then_some((target, None));
    }
    let conditions = status.conditions.unwrap_or_default();
    let sidecar_runs = status.init_container_statuses.iter().flatten().any(is_running_sidecar);
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
        Some(PodSeen {
            name: pod.metadata.name?,
            uid: pod.metadata.uid.unwrap_or_default(),
            ip: status.pod_ip.and_then(|ip| ip.parse().ok()),
            phase: status.phase.unwrap_or_else(|| "Pending".to_owned()),
            ready: conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
            ending: pod.metadata.deletion_timestamp.is_some(),
            waiting: unscheduled.or(waiting.into_iter().next()),
            sidecar_runs,
        }),
    ))
}

fn waiting_reason(container: ContainerStatus) -> Option<String> {
    container.state?.waiting?.reason
}

fn is_running_sidecar(container: &ContainerStatus) -> bool {
    let runs = container.state.as_ref().is_some_and(|state| state.running.is_some());
    runs && container.name == CONTAINER
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
            "spec": {"containers": [], "initContainers": [{"name": "restpipe"}]},
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
        let seen = seen.expect("with a sidecar");
        assert_eq!(seen.waiting.as_deref(), Some("ImagePullBackOff"));
        assert_eq!(seen.ip, Some("10.0.0.7".parse().expect("an address")));
        assert!(!seen.ready && !seen.ending);
    }

    #[test]
    fn a_sidecar_runs_beside_an_app_that_crashes() {
        let with = |state: serde_json::Value| {
            let pod = pod(json!({
                "metadata": {"name": "hub-0", "namespace": "shop",
                    "labels": {"restpipe.io/role": "server", "restpipe.io/server": "hub"}},
                "spec": {"containers": [], "initContainers": [{"name": "restpipe"}]},
                "status": {"phase": "Running",
                    "initContainerStatuses": [{"name": "restpipe", "image": "", "imageID": "",
                        "ready": true, "restartCount": 0, "state": state}],
                    "containerStatuses": [{"name": "app", "image": "", "imageID": "",
                        "ready": false, "restartCount": 3,
                        "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}
            }));
            let (_, seen) = seen(pod).expect("an injected pod");
            seen.expect("with a sidecar")
        };
        let seen = with(json!({"running": {}}));
        assert_eq!(seen.waiting.as_deref(), Some("CrashLoopBackOff"));
        assert!(seen.sidecar_runs);
        assert!(!with(json!({"waiting": {"reason": "CrashLoopBackOff"}})).sidecar_runs);
    }

    #[test]
    fn who_only_has_the_labels_of_an_injected_pod_has_no_sidecar() {
        let copied = json!({
            "metadata": {"name": "web-1", "namespace": "shop",
                "labels": {"restpipe.io/role": "client", "restpipe.io/link": "files"}},
            "spec": {"containers": [{"name": "app"}]}, "status": {"phase": "Running"},
        });
        let files = Target::Link(Key { namespace: "shop".into(), name: "files".into() });
        assert_eq!(seen(pod(copied.clone())), Some((files, None)));
        let mut ended = copied;
        ended["status"]["phase"] = json!("Succeeded");
        assert_eq!(seen(pod(ended)), None);
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
        let mut disabled = annotated.clone();
        disabled["annotations"]["restpipe.io/server"] = json!("disabled");
        assert_eq!(missed(&with(disabled.clone())), None);
        disabled["annotations"]["restpipe.io/link"] = json!("files");
        let files = Target::Link(Key { namespace: "n".into(), name: "files".into() });
        assert_eq!(missed(&with(disabled)), Some(files));
        let mut ending = annotated.clone();
        ending["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(missed(&with(ending)), None);
        let mut static_pod = annotated.clone();
        static_pod["annotations"]["kubernetes.io/config.mirror"] = json!("hash");
        assert_eq!(missed(&with(static_pod)), None);
        let mut labelled = annotated;
        labelled["labels"] = json!({"restpipe.io/role": "server", "restpipe.io/server": "hub"});
        assert_eq!(missed(&with(labelled)), None);
        assert_eq!(missed(&with(json!({"name": "a", "namespace": "n"}))), None);
    }
}
