//! Pods that are not let in, and what is said to their authors.

use restpipe_operator::inject::{Node, Role, inject};
use serde_json::{Value, json};

use crate::{Known, options};

/// A good pod with `annotations` more and `spec` over its own.
fn pod(annotations: Value, spec: Value) -> Value {
    let mut pod = json!({
        "metadata": { "name": "app", "annotations": { "restpipe.io/link": "app" } },
        "spec": { "containers": [{ "name": "app", "image": "app:1" }] },
    });
    json_patch::merge(
        &mut pod,
        &json!({ "metadata": { "annotations": annotations }, "spec": spec }),
    );
    pod
}

fn refused(pod: &Value) -> String {
    match inject(pod, "shop", &Known, &options()) {
        Ok(injection) => panic!("let in: {injection:?} {pod}"),
        Err(refusal) => format!("{}: {refusal}", refusal.reason()),
    }
}

#[test]
fn annotations_that_make_no_sense_are_refused_by_name_with_a_cure() {
    let server = |name: &str| json!({ "restpipe.io/link": null, "restpipe.io/server": name });
    let one = |key: &str, value: &str| json!({ format!("restpipe.io/{key}"): value });
    for (annotations, expected) in [
        (one("server", "hub"), "both_roles: a pod is either a client (restpipe.io/link) or"),
        (
            one("link", ""),
            r#"bad_name: annotation restpipe.io/link is "": give the name of a RestPipeLink"#,
        ),
        (one("link", "Maybe"), r#"bad_name: annotation restpipe.io/link is "Maybe""#),
        (
            one("link", "a,b"),
            r#"bad_name: annotation restpipe.io/link is "a,b": give the name of a"#,
        ),
        (one("link", "a..b"), "bad_name"),
        (one("link", "-a"), "bad_name"),
        (one("link", &"a".repeat(64)), "bad_name"),
        (
            server("a.b"),
            r#"bad_name: annotation restpipe.io/server is "a.b": give the name of a RestPipeServer"#,
        ),
        (server(&"a".repeat(41)), "bad_name"),
        (
            one("app-port", "0"),
            r#"bad_port: annotation restpipe.io/app-port is "0": give a port, 1 to 65535"#,
        ),
        (one("app-port", "65536"), "bad_port"),
        (one("app-port", "+80"), "bad_port"),
        (one("app-port", "http"), "bad_port"),
        (one("app-port", ""), "bad_port"),
        (
            one("app-port", "7070"),
            "bad_port: annotation restpipe.io/app-port is \"7070\": that is the gateway's port",
        ),
        (one("app-port", "7071"), "bad_port"),
        (
            one("gateway-port", "7071"),
            "bad_port: annotation restpipe.io/gateway-port is \"7071\": that is the sidecar's admin port",
        ),
        (one("gateway-port", "7072"), "bad_port"),
        (
            one("gateway-port", "80"),
            "bad_port: annotation restpipe.io/gateway-port is \"80\": the sidecar has no rights",
        ),
        (
            one("log-level", "verbose"),
            r#"bad_level: annotation restpipe.io/log-level is "verbose": give error, warn"#,
        ),
        (
            one("cpu-request", "lots"),
            r#"bad_quantity: annotation restpipe.io/cpu-request is "lots": give a quantity"#,
        ),
        (one("cpu-request", "-1"), "bad_quantity"),
        (
            one("memory-request", "32m"),
            r#"bad_quantity: annotation restpipe.io/memory-request is "32m": give at least 1Mi"#,
        ),
        (one("memory-limit", "1Mi"), "bad_quantity"),
        (
            one("memory-request", "1Gi"),
            "bad_quantity: the sidecar requests 1Gi of memory and may use 128Mi only",
        ),
        (
            json!({ "restpipe.io/app-port": 8080 }),
            "malformed: metadata.annotations[\"restpipe.io/app-port\"] is not what",
        ),
    ] {
        let got = refused(&pod(annotations, json!({})));
        assert!(got.starts_with(expected), "{got}\nshould start with\n{expected}");
        assert!(got.len() < 400, "{got}");
    }
}

#[test]
fn who_wants_no_sidecar_is_told_to_write_disabled() {
    for name in ["", "a,b", "Disabled", "disabled "] {
        let got = refused(&pod(json!({ "restpipe.io/link": name }), json!({})));
        assert!(got.ends_with("; for a pod without a sidecar write disabled"), "{got}");
    }
}

#[test]
fn every_other_word_is_a_name_and_no_other_annotation_switches_it_off() {
    let warned = |annotations: Value| {
        let injection = inject(&pod(annotations, json!({})), "shop", &Known, &options());
        let injection = injection.expect("let in");
        assert!(!injection.patch.0.is_empty(), "injected");
        injection.warnings
    };
    let absent = |name: &str, more: &str| {
        vec![format!(
            "there is no RestPipeLink {name} in namespace shop: the pod waits until you make it{more}"
        )]
    };
    let cure = "; for a pod without a sidecar write disabled";
    for (name, more) in [("maybe", ""), ("false", cure)] {
        assert_eq!(warned(json!({ "restpipe.io/link": name })), absent(name, more));
    }
    // A link may have any name.
    assert!(warned(json!({ "restpipe.io/link": "off" })).is_empty());
    assert_eq!(
        warned(json!({ "restpipe.io/inject": "disabled" })),
        [r#"annotation "restpipe.io/inject" means nothing to RestPipe: is it misspelt?"#]
    );
}

#[test]
fn a_pod_that_names_neither_link_nor_server_is_not_touched() {
    for annotations in [
        json!({ "restpipe.io/link": null }),
        json!({ "restpipe.io/link": null, "restpipe.io/inject": "disabled" }),
        json!({ "restpipe.io/link": null, "restpipe.io/inject": "enabled" }),
        json!({ "restpipe.io/link": null, "restpipe.io/app-port": "maybe" }),
        json!({ "restpipe.io/link": "disabled" }),
        json!({ "restpipe.io/link": null, "restpipe.io/server": "disabled" }),
        json!({ "restpipe.io/link": "disabled", "restpipe.io/server": "disabled" }),
        json!({ "restpipe.io/link": "disabled", "restpipe.io/app-port": "maybe" }),
        json!({ "restpipe.io/link": "disabled", "restpipe.io/inject": "enabled" }),
    ] {
        let pod = pod(annotations, json!({ "hostNetwork": true }));
        let injection = inject(&pod, "shop", &Known, &options()).expect("let in");
        assert!(injection.patch.0.is_empty() && injection.warnings.is_empty(), "{pod}");
        assert!(injection.node.is_none());
    }
}

#[test]
fn of_link_and_server_the_one_that_is_disabled_is_as_if_it_were_not_there() {
    for (annotations, role, name) in [
        (
            json!({ "restpipe.io/link": "disabled", "restpipe.io/server": "hub" }),
            Role::Server,
            "hub",
        ),
        (json!({ "restpipe.io/server": "disabled" }), Role::Client, "app"),
    ] {
        let injection = inject(&pod(annotations, json!({})), "shop", &Known, &options());
        let injection = injection.expect("let in");
        assert_eq!(injection.node, Some(Node { role, name: name.to_owned() }));
        assert!(!injection.patch.0.is_empty() && injection.warnings.is_empty(), "{injection:?}");
    }
}

#[test]
fn pods_in_which_a_sidecar_can_not_be_are_refused() {
    let with = |extra: Value| json!({ "containers": [extra] });
    let port = |port: u32| with(json!({ "name": "app", "ports": [{ "containerPort": port }] }));
    let volume = json!({ "name": "restpipe-identity", "emptyDir": {} });
    for (spec, expected) in [
        (json!({ "hostNetwork": true }), "host_network: the pod has hostNetwork"),
        (json!({ "os": { "name": "windows" } }), "windows"),
        (json!({ "nodeSelector": { "kubernetes.io/os": "windows" } }), "windows"),
        (json!({ "containers": [] }), "no_containers"),
        (json!({ "containers": null }), "no_containers"),
        (json!({ "containers": {} }), "malformed: spec.containers"),
        (json!({ "containers": [1] }), "malformed: spec.containers"),
        (json!({ "initContainers": "x" }), "malformed: spec.initContainers"),
        (with(json!({ "name": "app", "env": "x" })), "malformed: spec.containers[].env"),
        (
            port(7070),
            "port_taken: container \"app\" declares port 7070, which is the gateway's: move",
        ),
        (port(7071), "port_taken"),
        (
            with(json!({ "name": "restpipe" })),
            "name_collision: the pod has a container \"restpipe\" in spec.containers",
        ),
        (json!({ "initContainers": [{ "name": "restpipe" }] }), "name_collision"),
        (
            json!({ "initContainers": [{
            "name": "restpipe", "restartPolicy": "Always", "args": ["server"],
            "volumeMounts": [{ "name": "restpipe-identity", "mountPath": "/etc/restpipe" }],
        }] }),
            "name_collision",
        ),
        (
            json!({ "volumes": [volume] }),
            "name_collision: the pod has a volume \"restpipe-identity\"",
        ),
        (
            json!({ "volumes": [{ "name": "restpipe-identity", "secret": { "secretName": "other" } }] }),
            "name_collision",
        ),
    ] {
        let got = refused(&pod(json!({}), spec));
        assert!(got.starts_with(expected), "{got}\nshould start with\n{expected}");
    }
}

#[test]
fn a_pod_of_more_than_a_thousand_containers_is_refused_and_one_of_a_thousand_let_in() {
    let of = |list: &str, count: usize| {
        let mut pod = pod(json!({}), json!({}));
        // The shortest that there is: what is added to each is what has to have an end.
        pod["spec"][list] = vec![json!({}); count].into();
        pod
    };
    for (list, last) in [("containers", 999_usize), ("initContainers", 1000)] {
        assert_eq!(
            refused(&of(list, 1001)),
            "too_many_containers: the pod has more than 1000 containers: give it fewer"
        );
        let mut most = of(list, 1000);
        let injection = inject(&most, "shop", &Known, &options()).expect("let in");
        json_patch::patch(&mut most, &injection.patch).expect("the patch fits");
        // The sidecar stands before those of the second list.
        assert_eq!(most["spec"][list][last]["env"][0]["name"], "RESTPIPE_URL", "{list}");
    }
}

#[test]
fn labels_that_the_webhook_writes_can_not_say_something_else() {
    let mut pod = pod(json!({}), json!({}));
    pod["metadata"]["labels"] = json!({ "restpipe.io/link": "other" });
    assert!(refused(&pod).starts_with(r#"label_taken: label restpipe.io/link is "other""#));
}

#[test]
fn what_is_no_pod_is_refused() {
    for (pod, expected) in [
        (json!(null), "malformed: metadata"),
        (json!([]), "malformed: metadata"),
        (json!({ "metadata": {} }), "malformed: spec"),
        (
            json!({ "metadata": { "annotations": 1 }, "spec": {} }),
            "malformed: metadata.annotations",
        ),
    ] {
        let got = refused(&pod);
        assert!(got.starts_with(expected), "{got}");
    }
}

#[test]
fn ports_that_do_not_clash_are_let_in() {
    let spec = json!({ "containers": [{ "name": "app", "ports": [
        { "containerPort": 7070, "protocol": "UDP" },
        { "containerPort": 7072 },
    ] }] });
    // A client has no port of pipes.
    let injection = inject(&pod(json!({}), spec), "shop", &Known, &options()).expect("let in");
    assert!(!injection.patch.0.is_empty());
}

#[test]
fn links_that_are_not_as_they_should_be_are_warned_of() {
    for (name, expected) in [
        (
            "absent",
            vec![
                "there is no RestPipeLink absent in namespace shop: the pod waits until you make it",
            ],
        ),
        (
            "unwatched",
            vec![
                "RestPipe does not look after namespace shop: add it to watchNamespaces of the chart, the pod waits until then",
            ],
        ),
        (
            "refused",
            vec![
                "RestPipeLink refused is not accepted, HostnameTaken: older link till has the hostname",
            ],
        ),
        ("good", vec![]),
    ] {
        let pod = pod(json!({ "restpipe.io/link": name }), json!({}));
        let injection = inject(&pod, "shop", &Known, &options()).expect("let in");
        assert_eq!(injection.warnings, expected);
        assert!(!injection.patch.0.is_empty(), "injected all the same");
    }
}

#[test]
fn a_pod_that_was_copied_from_another_is_warned_of_settings_that_are_the_others() {
    let annotations =
        |port: &str| json!({ "restpipe.io/link": "till", "restpipe.io/app-port": port });
    let mut copied = pod(annotations("8080"), json!({}));
    let first = inject(&copied, "shop", &Known, &options()).expect("let in");
    json_patch::patch(&mut copied, &first.patch).expect("the patch fits");
    copied["metadata"]["annotations"]["restpipe.io/app-port"] = json!("8081");
    let again = inject(&copied, "shop", &Known, &options()).expect("let in");
    assert_eq!(
        again.warnings,
        [
            "the pod comes with a container \"restpipe\" that is not set as its annotations say: remove that container, it is made anew"
        ]
    );
}
