//! `manifests/install.yaml`, by the lines that its header and the documentation print.

use std::path::PathBuf;

use restpipe_cluster_tests::{Cluster, SETTLE_TIME, SYSTEM, eventually, printed_line, top};
use serde_json::Value;

const KINDS: &str = "restpipeservers.restpipe.io restpipelinks.restpipe.io";

fn manifests() -> PathBuf {
    top().join("manifests")
}

/// Name and `resourceVersion` of all that the manifest makes.
fn versions(cluster: &Cluster) -> Vec<(String, Value)> {
    let all = cluster.get(&["-f", &manifests().join("install.yaml").display().to_string()]);
    let items = all["items"].as_array().cloned().unwrap_or_default();
    assert!(items.len() > 10, "{all:#}");
    items
        .into_iter()
        .map(|one| {
            let name = format!("{}/{}", one["kind"], one["metadata"]["name"]);
            (name, one["metadata"]["resourceVersion"].clone())
        })
        .collect()
}

/// Waits until the API server serves the kinds, which it may write into their definitions: for a
/// moment after that, and after each change of them, it has no list of their objects yet.
fn served(cluster: &Cluster) {
    let args = ["wait", "--for=condition=Established", "crd", "--timeout=60s"];
    let kinds: Vec<_> = KINDS.split(' ').collect();
    cluster.kubectl(&[&args[..], &kinds].concat());
    eventually("objects of the kinds are listed", SETTLE_TIME, || {
        let answers = ["restpipeservers", "restpipelinks"]
            .map(|kind| cluster.request("GET", &format!("/apis/restpipe.io/v1alpha1/{kind}"), ""));
        match answers.iter().find(|answer| answer.code != 200) {
            Some(answer) => Err(answer.message().to_owned()),
            None => Ok(()),
        }
    });
}

pub(crate) fn it_is_taken_and_a_second_time_changes_nothing(cluster: &Cluster) {
    let line = printed_line("docs/kubernetes.md", "kubectl apply --server-side");
    assert_eq!(line, "kubectl apply --server-side -f manifests/install.yaml");
    let said = cluster.lines(&top(), &line).ok();
    assert!(said.contains("deployment.apps/restpipe-webhook serverside-applied"), "{said}");
    served(cluster);
    let first = versions(cluster);
    cluster.lines(&top(), &line).ok();
    assert_eq!(versions(cluster), first, "it was applied a second time");

    // Beside what the operator writes, another version of it is applied without a conflict.
    let bundle = r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":"restpipe-webhook"},"webhooks":[{"name":"inject.restpipe.io","clientConfig":{"caBundle":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K"}}]}"#;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), bundle).expect("written");
    let path = file.path().display().to_string();
    let manager = "--field-manager=restpipe-operator";
    cluster.kubectl(&["apply", "--server-side", manager, "-f", &path]);
    cluster.lines(&top(), &line).ok();
    served(cluster);
    let configuration = cluster.get(&["mutatingwebhookconfiguration", "restpipe-webhook"]);
    let kept = &configuration["webhooks"][0]["clientConfig"]["caBundle"];
    assert!(kept.is_string(), "{configuration:#}");

    // The kinds are served, with their rules.
    let server = "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeServer\nmetadata: {name: hub, namespace: default}\n";
    cluster.apply(server);
    let said = cluster.try_apply(&server.replace("name: hub", "name: hub.shop")).refused();
    assert!(said.contains("at most 40 characters, without dots"), "{said}");
    // Its own namespace, as the Pod Security that it asks for has it.
    let namespace = cluster.get(&["namespace", SYSTEM]);
    let enforced = &namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(*enforced, "restricted");
    for deployment in ["restpipe-controller", "restpipe-webhook"] {
        let made = cluster.get(&["-n", SYSTEM, "deployment", deployment]);
        let template = serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": deployment, "namespace": SYSTEM},
            "spec": made["spec"]["template"]["spec"],
        });
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods?dryRun=All");
        let answer = cluster.request("POST", &path, &template.to_string());
        assert_eq!(answer.code, 201, "{deployment}: {}", answer.message());
    }
}

/// By the lines of its header: without `--server-side`, over what is there, and then away.
pub(crate) fn it_goes_as_its_header_says(cluster: &Cluster) {
    let file = "manifests/install.yaml";
    cluster.lines(&manifests(), &printed_line(file, "kubectl apply")).ok();
    let delete = printed_line(file, "kubectl delete");
    assert_eq!(delete, "kubectl delete -f install.yaml");
    // No namespace is ever gone here: what is in it does not keep this one.
    cluster.lines(&manifests(), &format!("{delete} --wait=false")).ok();
    eventually("the kinds are gone", SETTLE_TIME, || {
        let left = cluster.kubectl(&["get", "crd", "-o", "name"]);
        if left.contains("restpipe") { Err(left) } else { Ok(()) }
    });
    let left = cluster.kubectl(&[
        "get",
        "mutatingwebhookconfigurations,clusterroles,clusterrolebindings",
        "-o",
        "name",
    ]);
    assert!(!left.contains("restpipe"), "{left}");
}
