//! Pods that are not let in, with the reason that their author reads.

use restpipe_cluster_tests::Namespace;
use serde_json::{Value, json};

use crate::{create, pod, shared};

const DENIED: &str = r#"admission webhook "inject.restpipe.io" denied the request: "#;

fn refused(space: &Namespace<'_>, pod: &Value, reason: &str) {
    let answer = create(space, pod);
    assert_eq!(answer.code, 403, "{pod} is let in: {}", answer.message());
    assert_eq!(answer.body["reason"], "Forbidden");
    let said = answer.message();
    assert!(
        said.contains(&format!("{DENIED}{reason}")),
        "{pod}\nwas to be refused with: {reason}\nand was with: {said}"
    );
}

#[test]
fn an_annotation_with_a_bad_value_is_refused_with_what_to_write() {
    let operator = shared();
    let space = operator.release.cluster.namespace("bad-values");
    let with = |annotations: Value| pod("web", annotations);
    let refused = |annotations: Value, reason: &str| refused(&space, &with(annotations), reason);

    let both = json!({"restpipe.io/link": "a", "restpipe.io/server": "b"});
    refused(
        both,
        "a pod is either a client (restpipe.io/link) or a server (restpipe.io/server): remove one of the two annotations",
    );
    for name in ["", "A", "a b", "-a", "a_b", &"a".repeat(64)] {
        let reason = format!(
            "annotation restpipe.io/link is {name:?}: give the name of a RestPipeLink in the pod's namespace"
        );
        refused(json!({"restpipe.io/link": name}), &reason);
    }
    let long = "a".repeat(41);
    for name in ["", "maybe?", "hub.shop", &long] {
        let reason = format!(
            "annotation restpipe.io/server is {name:?}: give the name of a RestPipeServer in the pod's namespace, at most 40"
        );
        refused(json!({"restpipe.io/server": name}), &reason);
    }
    for port in ["", "0", "65536", "http", "-1", "80 ", "1e3"] {
        let reason = format!("annotation restpipe.io/app-port is {port:?}: ");
        refused(json!({"restpipe.io/link": "a", "restpipe.io/app-port": port}), &reason);
    }
    for port in ["7071", "80", "x"] {
        let reason = format!("annotation restpipe.io/gateway-port is {port:?}: ");
        refused(json!({"restpipe.io/link": "a", "restpipe.io/gateway-port": port}), &reason);
    }
    let level =
        r#"annotation restpipe.io/log-level is "loud": give error, warn, info, debug or trace"#;
    refused(json!({"restpipe.io/link": "a", "restpipe.io/log-level": "loud"}), level);
    for key in ["cpu-request", "memory-request", "memory-limit"] {
        for value in ["", "much", "-1", "1 Gi"] {
            let reason = format!("annotation restpipe.io/{key} is {value:?}: ");
            refused(
                json!({"restpipe.io/link": "a", (format!("restpipe.io/{key}")): value}),
                &reason,
            );
        }
    }
    let more = json!({"restpipe.io/link": "a", "restpipe.io/memory-request": "256Mi"});
    refused(
        more,
        "the sidecar requests 256Mi of memory and may use 128Mi only: lower restpipe.io/memory-request or raise restpipe.io/memory-limit",
    );
}

#[test]
fn a_pod_that_cannot_have_a_sidecar_is_refused() {
    let operator = shared();
    let space = operator.release.cluster.namespace("bad-pods");
    let with = |part: &str, value: Value| {
        let mut wanted = pod("web", json!({"restpipe.io/link": "files"}));
        wanted["spec"][part] = value;
        wanted
    };
    refused(&space, &with("hostNetwork", json!(true)), "the pod has hostNetwork: ");
    let mut windows = with("os", json!({"name": "windows"}));
    windows["spec"]["securityContext"] = json!({});
    refused(&space, &windows, "the pod is for Windows: ");
    refused(
        &space,
        &with("nodeSelector", json!({"kubernetes.io/os": "windows"})),
        "the pod is for Windows: ",
    );

    let container = json!([{"name": "restpipe", "image": "evil"}]);
    let volume = json!([{"name": "restpipe-identity", "emptyDir": {}}]);
    for (part, value, what) in [
        ("containers", &container, r#"a container "restpipe" in spec.containers"#),
        ("initContainers", &container, r#"a container "restpipe" in spec.initContainers"#),
        ("volumes", &volume, r#"a volume "restpipe-identity""#),
    ] {
        let reason = format!(
            "the pod has {what} of its own: RestPipe needs that name, take another for yours"
        );
        refused(&space, &with(part, value.clone()), &reason);
    }

    let mut labelled = pod("web", json!({"restpipe.io/link": "files"}));
    labelled["metadata"]["labels"] = json!({"restpipe.io/role": "server"});
    refused(&space, &labelled, r#"label restpipe.io/role is "server": RestPipe writes it"#);

    let port = json!([{"name": "app", "image": "app", "ports": [{"containerPort": 7070}]}]);
    refused(&space, &with("containers", port), r#"container "app" declares port 7070, which is "#);
}

#[test]
fn what_is_not_for_users_to_set_is_not_set() {
    let operator = shared();
    let space = operator.release.cluster.namespace("whitelist");
    let plain = crate::created(&space, &pod("plain", json!({"restpipe.io/link": "files"})));
    let tried = json!({
        "restpipe.io/link": "files",
        "restpipe.io/image": "evil",
        "restpipe.io/args": "server",
        "restpipe.io/env": "RESTPIPE_GATEWAY_PUBLIC=true",
        "restpipe.io/run-as-user": "0",
        "restpipe.io/injected": "9.9.9",
    });
    let answer = create(&space, &pod("tried", tried));
    assert_eq!(answer.code, 201, "{}", answer.message());
    assert_eq!(answer.body["spec"]["initContainers"], plain["spec"]["initContainers"]);
    // Said to be injected already, it is none the less.
    assert_eq!(answer.body["metadata"]["annotations"]["restpipe.io/injected"], "1.0.0-alpha.1");
}
