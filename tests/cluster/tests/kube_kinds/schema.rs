//! The definitions as a whole.

use serde_json::{Value, json};

use crate::{cluster, object};

const PLURALS: [&str; 2] = ["restpipeservers.restpipe.io", "restpipelinks.restpipe.io"];

#[test]
fn what_the_binary_prints_is_what_the_chart_installs() {
    let cluster = cluster();
    let printed = cluster.operator(&["crds"]).ok();
    // Fields of the chart stay, and nothing of the specification changes.
    let generation = |name: &str| cluster.get(&["crd", name])["metadata"]["generation"].clone();
    let before = PLURALS.map(generation);
    cluster.apply(&printed);
    assert_eq!(PLURALS.map(generation), before);
    for name in PLURALS {
        cluster.kubectl(&["wait", "--for=condition=Established", "crd", name, "--timeout=30s"]);
        let crd = cluster.get(&["crd", name]);
        // The API server's own doubts about a schema.
        let conditions = crd["status"]["conditions"].as_array().cloned().unwrap_or_default();
        assert!(
            conditions.iter().all(|one| one["type"] != "NonStructuralSchema"),
            "{conditions:?}"
        );
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
}

#[test]
fn a_server_needs_no_spec_and_gets_every_default() {
    let cluster = cluster();
    let space = cluster.namespace("defaults");
    space.apply("{apiVersion: restpipe.io/v1alpha1, kind: RestPipeServer, metadata: {name: hub}}");
    let spec = space.get(&["rps/hub"])["spec"].clone();
    let wanted = serde_json::json!({
        "clients": {"namespaces": {"from": "Same"}},
        "identity": {},
        "service": {"port": 7072, "type": "ClusterIP"},
    });
    assert_eq!(spec, wanted);
    space.apply(&object("RestPipeLink", "files", r#"{"server":{"name":"hub"}}"#));
    assert_eq!(space.get(&["rpl/files"])["spec"]["suspend"], false);
}

#[test]
fn nulls_mean_what_absence_means() {
    let cluster = cluster();
    let space = cluster.namespace("nulls");
    let create = |kind: &str, name: &str, spec: &str| {
        let kinds = format!("{}s", kind.to_lowercase());
        let path = format!("/apis/restpipe.io/v1alpha1/namespaces/nulls/{kinds}");
        let answer = cluster.request("POST", &path, &object(kind, name, spec));
        assert_eq!(answer.code, 201, "{kind} {spec}: {}", answer.message());
    };
    let server = r#"{"service":null,"clients":null,"identity":{"duration":null},"hostnames":null}"#;
    create("RestPipeServer", "hub", server);
    create("RestPipeServer", "bare", "null");
    for name in ["rps/hub", "rps/bare"] {
        let spec = space.get(&[name])["spec"].clone();
        assert_eq!(spec["service"]["port"], 7072);
        assert_eq!(spec["clients"]["namespaces"]["from"], "Same");
    }
    let link = r#"{"server":{"name":"hub","namespace":null,"external":null},"hostname":null,"export":null}"#;
    create("RestPipeLink", "files", link);
}

#[test]
fn users_do_not_write_status_with_the_object() {
    let cluster = cluster();
    let space = cluster.namespace("statuses");
    let text = r#"{"apiVersion":"restpipe.io/v1alpha1","kind":"RestPipeServer","metadata":{"name":"hub"},"status":{"pods":["forged"]}}"#;
    space.apply(text);
    assert_eq!(space.get(&["rps/hub"])["status"], Value::Null);
    let generation = |space: &restpipe_cluster_tests::Namespace<'_>| {
        space.get(&["rps/hub"])["metadata"]["generation"].clone()
    };
    let before = generation(&space);
    let body = r#"{"status":{"pods":["web-0"]}}"#;
    space.kubectl(&["patch", "rps/hub", "--subresource=status", "--type=merge", "-p", body]);
    assert_eq!(generation(&space), before);
}

/// Every field below `schema`, as `PATH: what is missing`, that has no limit or no description.
fn lacking(path: &str, schema: &Value, found: &mut Vec<String>) {
    let has = |key: &str| !schema[key].is_null();
    let mut lacks = |what: &str| found.push(format!("{path}: {what}"));
    match schema["type"].as_str() {
        // Times and choices are as long as they are.
        Some("string") if !has("enum") && !has("format") && !has("maxLength") => lacks("maxLength"),
        Some("array") if !has("maxItems") => lacks("maxItems"),
        Some("object") if has("additionalProperties") && !has("maxProperties") => {
            lacks("maxProperties");
        }
        Some("integer") if has("maximum") && !has("minimum") => lacks("minimum"),
        _ => {}
    }
    if let Some(fields) = schema["properties"].as_object() {
        for (name, field) in fields {
            if field["description"].as_str().is_none_or(|text| text.len() < 8) {
                found.push(format!("{path}.{name}: a description"));
            }
            lacking(&format!("{path}.{name}"), field, found);
        }
    }
    for (key, step) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            lacking(&format!("{path}{step}"), &schema[key], found);
        }
    }
}

#[test]
fn every_field_that_a_user_writes_has_a_limit_and_a_description() {
    let cluster = cluster();
    for name in PLURALS {
        let crd = cluster.get(&["crd", name]);
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let mut found = Vec::new();
        lacking("spec", &schema["properties"]["spec"], &mut found);
        assert!(found.is_empty(), "{name} lacks\n{}", found.join("\n"));
        let status = &schema["properties"]["status"];
        let mut found = Vec::new();
        lacking("status", status, &mut found);
        assert!(found.is_empty(), "{name} lacks\n{}", found.join("\n"));
        assert_eq!(status["properties"]["conditions"]["x-kubernetes-list-type"], "map");
    }
}

#[test]
fn a_status_has_only_conditions_and_times_that_every_reader_takes() {
    let cluster = cluster();
    let space = cluster.namespace("readable");
    space.apply(&object("RestPipeLink", "files", r#"{"server":{"name":"hub"}}"#));
    let set = |condition: Value, since: &str| {
        let connection = json!({"instance": "i", "server": "s", "address": "a", "since": since});
        let body = json!({"status": {"conditions": [condition], "connections": [connection]}});
        let body = body.to_string();
        let patch = ["patch", "rpl/files", "--subresource=status", "--type=merge", "-p", &body];
        space.try_kubectl(&patch)
    };
    let good = json!({"type": "Ready", "status": "True", "reason": "Ready", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let now = "2026-11-22T08:00:00Z";
    set(good.clone(), now).ok();
    for (field, value, said) in [
        ("type", "T".repeat(317), "may not be more than 316 bytes"),
        ("reason", "R".repeat(1025), "may not be more than 1024 bytes"),
        ("message", "m".repeat(32_769), "may not be more than 32768 bytes"),
        ("status", "Maybe".to_owned(), r#"supported values: "True", "False", "Unknown""#),
        ("lastTransitionTime", "2020-01-01T00:00:00+99:99".to_owned(), "should match"),
    ] {
        let mut bad = good.clone();
        bad[field] = value.into();
        let refused = set(bad, now).refused();
        assert!(refused.contains(field) && refused.contains(said), "{field}: {refused}");
    }
    // The API server takes all of these for times, and who reads them does not.
    for since in ["2020-01-01T00:00:00+99:99", "2020-01-01t00:00:00x5z", "2020-01-01T00:00:00ZT"] {
        let refused = set(good.clone(), since).refused();
        assert!(refused.contains("connections[0].since in body should match"), "{refused}");
    }
    for since in ["9999-12-30T22:00:01Z", "9999-12-31T23:59:59Z"] {
        let refused = set(good.clone(), since).refused();
        assert!(refused.contains("the last time that can be read is 9999-12-30T"), "{refused}");
    }
    set(good, "9999-12-30T22:00:00Z").ok();
}

#[test]
fn kubectl_explains_the_fields_in_our_words() {
    let cluster = cluster();
    let explain = |field: &str| cluster.kubectl(&["explain", field]);
    let said = explain("rpl.spec.server.external.serverName");
    assert!(said.contains("The one DNS name that its certificate carries."), "{said}");
    let said = explain("rps.spec.identity.duration");
    assert!(said.contains("How long certificates live, 10m to 2160h"), "{said}");
    let said = explain("rpl");
    assert!(said.contains("Pods annotated with restpipe.io/link: NAME become it."), "{said}");
    let said = cluster.kubectl(&["explain", "rps.status", "--recursive"]);
    assert!(said.contains("podsWithoutSidecar\t<[]string>"), "{said}");
}

#[test]
fn an_object_of_another_version_is_not_there() {
    let cluster = cluster();
    let other = object("RestPipeServer", "hub", "{}").replace("v1alpha1", "v1");
    let said = cluster.try_apply(&other).refused();
    assert!(said.contains(r#"version "restpipe.io/v1""#), "{said}");
}
