//! `restpipe-operator check`, where there is something to see.

use restpipe_cluster_tests::{
    Checked, Cluster, Namespace, SETTLE_TIME, SYSTEM, address_of_a_pod, eventually,
};
use serde_json::json;

use crate::pipes::{at, client, hub};
use crate::{issued, link, pair, server, shared};

fn check(space: &Namespace<'_>) -> Checked {
    Checked::of(space.cluster.operator(&["check", "-o", "json", "-n", &space.name]))
}

/// No pod of the operator can run here: as if its Deployments had some.
fn available(cluster: &Cluster, part: &str, pods: u32) {
    let status = json!({"status": {
        "replicas": pods, "readyReplicas": pods, "availableReplicas": pods,
    }});
    let args = ["-n", SYSTEM, "patch", "deployment", part, "--subresource=status"];
    cluster.kubectl(&[&args[..], &["--type=merge", "-p", &status.to_string()]].concat());
}

#[test]
fn what_is_up_is_good_and_fewer_pods_than_wanted_are_a_warning() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("all-well");
    space.apply(&pair());
    issued(&space);
    let web = hub(&space, "web-1");
    let _files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Ready", "True", SETTLE_TIME);
    space.condition("rps/hub", "Ready", "True", SETTLE_TIME);

    let checked = check(&space);
    assert_eq!((checked.status, checked.failed()), (Some(1), vec!["control plane"]));
    available(cluster, "restpipe-controller", 1);
    available(cluster, "restpipe-webhook", 1);
    let checked = check(&space);
    available(cluster, "restpipe-controller", 0);
    available(cluster, "restpipe-webhook", 0);

    assert_eq!(checked.status, Some(0), "{checked:?}");
    checked.said("control plane", "restpipe-system/restpipe-controller is available", "ok");
    let part = "restpipe-system/restpipe-webhook is available";
    let [message, _] = checked.said("control plane", part, "warning");
    assert_eq!(message, "1 of 2 pods are available");
    checked.said("control plane", "a controller is at work (restpipe-controller", "ok");
    checked.said("webhook", "the API server knows the webhook, and its CA", "ok");
    checked.said("webhook", "an annotated pod gets its sidecar", "ok");
    checked.said("pods", "all annotated pods have a sidecar (2)", "ok");
    checked.said("servers", "all-well/hub is ready", "ok");
    checked.said("links", "all-well/files is ready", "ok");
}

#[test]
fn a_quota_that_keeps_pods_out_is_a_warning_in_its_own_words() {
    let operator = shared();
    let space = operator.release.cluster.namespace("checked-quota");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}});
    space.apply(&quota.to_string());
    // Nobody counts in a cluster without controllers.
    let counted = json!({"status": {"hard": {"pods": "0"}, "used": {"pods": "0"}}}).to_string();
    let args = ["patch", "resourcequota", "no-pods", "--subresource=status", "--type=merge", "-p"];
    space.kubectl(&[&args[..], &[&counted]].concat());
    let checked = eventually("the quota is enforced", SETTLE_TIME, || {
        let checked = check(&space);
        let warned = checked.results().contains(&"webhook: warning".to_owned());
        if warned { Ok(checked) } else { Err(format!("{checked:?}")) }
    });
    assert!(!checked.failed().contains(&"webhook"), "{checked:?}");
    let [message, hint] = checked.said("webhook", "an annotated pod gets its sidecar", "warning");
    assert!(
        message.starts_with(
            "cannot be tried in checked-quota, where something else keeps pods out: pods \"restpipe-check-"
        ) && message.contains("exceeded quota: no-pods"),
        "{message}"
    );
    assert_eq!(hint, "name a namespace that takes pods with --namespace");
}

#[test]
fn a_link_that_is_down_and_a_pod_without_a_sidecar_are_found_with_their_cure() {
    let operator = shared();
    let space = operator.release.cluster.namespace("checked");
    space.apply(
        &(pair()
            + &link("tapes", "{server: {name: hub}}")
            + &link("idle", "{server: {name: hub}, suspend: true}")
            + &link("lost", "{server: {name: nowhere}}")
            + &server("alone", "{}")),
    );
    issued(&space);
    let web = hub(&space, "web-1");
    let _files = client(&space, "files-1", "files", &at(&web));
    let nobody = format!("{}:7072", address_of_a_pod());
    let _tapes = client(&space, "tapes-1", "tapes", &nobody);
    space.condition("rpl/files", "Ready", "True", SETTLE_TIME);
    space.condition("rpl/tapes", "Ready", "False/ConnectionRefused", SETTLE_TIME);
    space.condition("rpl/idle", "Ready", "False/Suspended", SETTLE_TIME);
    space.condition("rpl/lost", "Ready", "False/ServerNotFound", SETTLE_TIME);
    space.condition("rps/alone", "Ready", "False/NoPods", SETTLE_TIME);

    let checked = check(&space);
    assert_eq!(checked.status, Some(1));
    checked.said("links", "checked/files is ready", "ok");
    let [message, hint] = checked.said("links", "checked/tapes is ready", "failed");
    assert!(message.starts_with("ConnectionRefused: the pod tapes-1: "), "{message}");
    assert_eq!(hint, "see `kubectl -n checked describe rpl tapes`");
    let [message, _] = checked.said("links", "checked/lost is ready", "failed");
    assert!(message.starts_with("ServerNotFound: "), "{message}");
    // What somebody wants so is no failure.
    let [message, _] = checked.said("links", "checked/idle is ready", "warning");
    assert!(message.starts_with("Suspended: "), "{message}");
    let [message, hint] = checked.said("servers", "checked/alone is ready", "warning");
    assert!(message.starts_with("NoPods: "), "{message}");
    assert_eq!(hint, "see `kubectl -n checked describe rps alone`");
    checked.said("pods", "all annotated pods have a sidecar (3)", "ok");

    // Two that the webhook was not asked about, one of them with the labels of one that has a
    // sidecar, as tools that copy pods make it.
    for name in ["old", "copied"] {
        space.apply(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: app, image: app}}]}}}}"));
        space.kubectl(&["annotate", "pod", name, "restpipe.io/link=files"]);
    }
    space.kubectl(&["label", "pod/copied", "restpipe.io/role=client", "restpipe.io/link=files"]);
    let checked = check(&space);
    let [message, hint] = checked.said("pods", "all annotated pods have a sidecar", "failed");
    assert_eq!(message, "2 have none: checked/copied, checked/old");
    assert!(hint.contains("`kubectl rollout restart`"), "{hint}");
    // What has ended needs none any more.
    let ended = r#"{"status": {"phase": "Succeeded"}}"#;
    space.kubectl(&["patch", "pod", "old", "--subresource=status", "--type=merge", "-p", ended]);
    let [message, _] = check(&space).said("pods", "all annotated pods have a sidecar", "failed");
    assert_eq!(message, "1 have none: checked/copied");
    // Elsewhere all is well.
    let other = operator.release.cluster.namespace("checked-other");
    let checked = check(&other);
    for section in ["pods", "servers", "links"] {
        assert!(!checked.failed().contains(&section), "of another namespace: {checked:?}");
    }
}
