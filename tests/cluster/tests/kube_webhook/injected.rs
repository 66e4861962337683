//! What becomes of a pod.

use restpipe_cluster_tests::{SETTLE_TIME, SYSTEM, eventually};
use serde_json::{Value, json};

use crate::{audit, create, create_with, created, creation, has_sidecar, pod, shared};

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

fn variable<'a>(container: &'a Value, name: &str) -> &'a Value {
    let all = container["env"].as_array();
    let found = all.into_iter().flatten().find(|variable| variable["name"] == name);
    found.map_or(&Value::Null, |variable| &variable["value"])
}

#[test]
fn a_pod_with_a_link_gets_a_client_before_all_else() {
    let operator = shared();
    let space = operator.release.cluster.namespace("clients");
    let mut wanted = pod(
        "web",
        json!({"restpipe.io/link": "files", "restpipe.io/app-port": "8080", "restpipe.io/gateway-port": "7171"}),
    );
    wanted["spec"]["initContainers"] = json!([{"name": "early", "image": "early"}]);
    wanted["spec"]["containers"][0]["env"] = json!([{"name": "A", "value": "b"}]);
    let made = created(&space, &wanted);

    assert_eq!(names(&made["spec"]["initContainers"]), ["restpipe", "early"]);
    let sidecar = &made["spec"]["initContainers"][0];
    assert_eq!(sidecar["restartPolicy"], "Always");
    assert_eq!(sidecar["args"], json!(["client"]));
    assert_eq!(sidecar["image"], "restpipe:1.0.0-alpha.1");
    assert_eq!(variable(sidecar, "RESTPIPE_APP"), "http://127.0.0.1:8080");
    assert_eq!(variable(sidecar, "RESTPIPE_GATEWAY"), "127.0.0.1:7171,[::1]:7171");
    assert_eq!(sidecar["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(sidecar["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(sidecar["startupProbe"]["httpGet"]["path"], "/live");
    assert_eq!(sidecar["readinessProbe"], Value::Null);
    let volume = made["spec"]["volumes"]
        .as_array()
        .and_then(|volumes| volumes.iter().find(|volume| volume["name"] == "restpipe-identity"))
        .expect("the volume");
    assert_eq!(volume["secret"]["secretName"], "files-restpipe-link");

    assert_eq!(names(&made["spec"]["containers"]), ["app"]);
    let app = &made["spec"]["containers"][0];
    assert_eq!(variable(app, "A"), "b");
    assert_eq!(variable(app, "RESTPIPE_URL"), "http://127.0.0.1:7171");
    assert_eq!(made["metadata"]["labels"]["restpipe.io/role"], "client");
    assert_eq!(made["metadata"]["labels"]["restpipe.io/link"], "files");
    assert_eq!(made["metadata"]["annotations"]["restpipe.io/injected"], "1.0.0-alpha.1");
    assert_eq!(made["spec"]["automountServiceAccountToken"], Value::Null);
}

#[test]
fn a_pod_with_a_server_gets_a_server_with_a_ready_probe() {
    let operator = shared();
    let space = operator.release.cluster.namespace("servers");
    let made = created(&space, &pod("hub", json!({"restpipe.io/server": "hub"})));
    let sidecar = &made["spec"]["initContainers"][0];
    assert_eq!(sidecar["args"], json!(["server"]));
    assert_eq!(sidecar["readinessProbe"]["httpGet"]["path"], "/ready");
    let ports: Vec<_> = sidecar["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| port["containerPort"].clone())
        .collect();
    assert!(ports.contains(&json!(7072)) && ports.contains(&json!(7071)), "{ports:?}");
    assert_eq!(made["metadata"]["labels"]["restpipe.io/role"], "server");
    assert_eq!(made["metadata"]["labels"]["restpipe.io/server"], "hub");
}

#[test]
fn a_pod_that_was_injected_once_is_left_as_it_is() {
    let operator = shared();
    let space = operator.release.cluster.namespace("twice");
    let mut first = created(&space, &pod("one", json!({"restpipe.io/link": "files"})));
    // A backup, or a tool that copies pods.
    let metadata = first["metadata"].clone();
    first["metadata"] = json!({
        "name": "two", "labels": metadata["labels"], "annotations": metadata["annotations"],
    });
    first["status"] = Value::Null;
    let spec = first["spec"].clone();
    let second = created(&space, &first);
    assert_eq!(second["spec"], spec);
    assert_eq!(second["metadata"]["annotations"], metadata["annotations"]);
}

#[test]
fn pods_that_do_not_ask_are_not_touched() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("others");
    for (name, annotations) in [
        ("none", Value::Null),
        ("foreign", json!({"example.com/link": "files"})),
        ("ports-only", json!({"restpipe.io/app-port": "8080"})),
    ] {
        let made = created(&space, &pod(name, annotations.clone()));
        assert!(!has_sidecar(&made), "{made:#}");
        assert_eq!(made["metadata"]["annotations"], annotations);
        assert_eq!(made["metadata"]["labels"], Value::Null);
        assert_eq!(made["spec"]["volumes"], Value::Null);
    }
    // Not asked for pods of the operator's own namespace and of Kubernetes', nor for what a
    // kubelet runs from files.
    cluster.namespace("kube-flannel");
    for namespace in [SYSTEM, "kube-system", "kube-flannel"] {
        let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
        let body = pod("own", json!({"restpipe.io/link": "files"})).to_string();
        let answer = cluster.request("POST", &path, &body);
        assert_eq!(answer.code, 201, "{}", answer.message());
        assert!(!has_sidecar(&answer.body));
    }
    let mut mirror =
        pod("mirror", json!({"restpipe.io/link": "files", "kubernetes.io/config.mirror": "x"}));
    mirror["spec"]["nodeName"] = json!("node");
    assert!(!has_sidecar(&created(&space, &mirror)));
}

#[test]
fn a_pod_whose_annotation_says_disabled_is_left_alone() {
    let operator = shared();
    let space = operator.release.cluster.namespace("disabled");
    for (name, annotations) in [
        ("client", json!({"restpipe.io/link": "disabled"})),
        ("server", json!({"restpipe.io/server": "disabled"})),
        ("both", json!({"restpipe.io/link": "disabled", "restpipe.io/server": "disabled"})),
    ] {
        let mut wanted = pod(name, annotations.clone());
        // With a sidecar it would be refused.
        wanted["spec"]["hostNetwork"] = json!(true);
        let mark = audit().mark();
        let answer = create(&space, &wanted);
        assert_eq!(answer.code, 201, "{}", answer.message());
        assert_eq!(answer.warnings, Vec::<String>::new());
        let made = answer.body;
        assert!(!has_sidecar(&made), "{made:#}");
        assert_eq!(made["metadata"]["annotations"], annotations);
        assert_eq!(made["metadata"]["labels"], Value::Null);
        assert_eq!(made["spec"]["volumes"], Value::Null);
        assert_eq!(variable(&made["spec"]["containers"][0], "RESTPIPE_URL"), &Value::Null);
        // So it does not need a webhook that answers either.
        assert_eq!(creation(mark, &space).webhooks(), Vec::<String>::new());
    }
    let server = json!({"restpipe.io/link": "disabled", "restpipe.io/server": "hub"});
    let made = created(&space, &pod("hub", server));
    assert_eq!(made["spec"]["initContainers"][0]["args"], json!(["server"]));
    let labels = json!({"restpipe.io/role": "server", "restpipe.io/server": "hub"});
    assert_eq!(made["metadata"]["labels"], labels);
}

#[test]
fn a_pod_without_a_name_of_its_own_gets_a_sidecar_too() {
    let operator = shared();
    let space = operator.release.cluster.namespace("generated");
    let mut wanted = pod("x", json!({"restpipe.io/link": "files"}));
    wanted["metadata"] =
        json!({"generateName": "web-", "annotations": {"restpipe.io/link": "files"}});
    let made = created(&space, &wanted);
    assert!(has_sidecar(&made));
    let name = &made["spec"]["initContainers"][0]["env"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "RESTPIPE_INSTANCE"))
        .expect("a name for the node")["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(name, "metadata.name");
}

#[test]
fn a_dry_run_shows_the_sidecar_and_makes_nothing() {
    let operator = shared();
    let space = operator.release.cluster.namespace("dry");
    let answer =
        create_with(&space, &pod("web", json!({"restpipe.io/link": "files"})), "?dryRun=All");
    assert_eq!(answer.code, 201, "{}", answer.message());
    assert!(has_sidecar(&answer.body));
    assert_eq!(space.find(&["pod/web"]), None);
    let events = space.kubectl(&["get", "events", "-o", "name"]);
    assert_eq!(events, "", "a webhook without side effects");
}

#[test]
fn a_namespace_that_enforces_restricted_takes_the_pod() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("restricted");
    let label = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", "restricted", label]);
    let mut wanted = pod("web", json!({"restpipe.io/link": "files"}));
    // It is enforced indeed.
    let answer = create(&space, &wanted);
    assert_eq!(answer.code, 403, "{}", answer.message());
    assert!(answer.message().contains(r#"violates PodSecurity "restricted:latest""#));
    // And of the sidecar there is nothing to complain.
    assert!(!answer.message().contains(r#""restpipe""#), "{}", answer.message());
    wanted["spec"]["securityContext"] = json!({"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    wanted["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let answer = create(&space, &wanted);
    assert_eq!(answer.code, 201, "{}", answer.message());
    assert!(has_sidecar(&answer.body));
    assert_eq!(answer.warnings.iter().find(|text| text.contains("podsecurity")), None);
}

#[test]
fn a_link_that_is_not_there_is_a_warning_and_the_pod_waits_for_it() {
    let operator = shared();
    let space = operator.release.cluster.namespace("warnings");
    let warned = |name: &str, annotations: Value, text: &str| {
        eventually(&format!("a warning: {text}"), SETTLE_TIME, || {
            let answer = create_with(&space, &pod(name, annotations.clone()), "?dryRun=All");
            assert_eq!(answer.code, 201, "{}", answer.message());
            assert!(has_sidecar(&answer.body));
            let found = answer.warnings.iter().any(|warning| warning.contains(text));
            if found { Ok(()) } else { Err(format!("{:?}", answer.warnings)) }
        });
    };
    warned("a", json!({"restpipe.io/link": "nowhere"}), "nowhere");
    warned("b", json!({"restpipe.io/server": "nowhere"}), "nowhere");
    warned("c", json!({"restpipe.io/link": "l", "restpipe.io/image": "x"}), "restpipe.io/image");
    // One that is there and refused, in the operator's words.
    space.apply(
        r#"{"apiVersion":"restpipe.io/v1alpha1","kind":"RestPipeLink","metadata":{"name":"lost"},"spec":{"server":{"name":"gone"}}}"#,
    );
    warned("d", json!({"restpipe.io/link": "lost"}), "ServerNotFound");
    // One that is good is no warning.
    space.apply(
        r#"{"apiVersion":"restpipe.io/v1alpha1","kind":"RestPipeServer","metadata":{"name":"hub"}}"#,
    );
    eventually("no warning", SETTLE_TIME, || {
        let answer =
            create_with(&space, &pod("e", json!({"restpipe.io/server": "hub"})), "?dryRun=All");
        if answer.warnings.is_empty() { Ok(()) } else { Err(format!("{:?}", answer.warnings)) }
    });
}
