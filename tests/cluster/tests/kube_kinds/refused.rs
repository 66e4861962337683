//! What the API server refuses, and in which words.

use restpipe_cluster_tests::{Answer, SETTLE_TIME, eventually};

use crate::{cluster, object};

const SERVER: &str = "RestPipeServer";
const LINK: &str = "RestPipeLink";
/// A name of 41 characters.
const LONG: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const SERVER_NAME: &str = "<nil>: Invalid value: the name of a RestPipeServer is part of certificate and Service names: at most 40 characters, without dots";
const SERVER_LETTER: &str = "<nil>: Invalid value: Services are named after a RestPipeServer, and the name of a Service begins with a letter: begin this one with a letter";
const DNS: &str = r"'^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'";
const LABEL: &str = "'^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'";
const ADDRESS: &str =
    r"'^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$'";

/// Creates one for the sake of the answer only.
fn create(kind: &str, name: &str, spec: &str) -> Answer {
    let path = format!(
        "/apis/restpipe.io/v1alpha1/namespaces/default/{}s?dryRun=All&fieldValidation=Strict",
        kind.to_lowercase()
    );
    cluster().request("POST", &path, &object(kind, name, spec))
}

/// Has `kind` refused with this spec, and for this reason.
fn refused(kind: &str, spec: &str, reason: &str) {
    refused_named(kind, "x", spec, reason);
}

fn refused_named(kind: &str, name: &str, spec: &str, reason: &str) {
    let answer = create(kind, name, spec);
    let said = answer.message();
    assert!(
        matches!(answer.code, 400 | 422) && said.contains(reason),
        "{kind} {name} {spec}\nwas to be refused with: {reason}\nand got {}: {said}",
        answer.code
    );
}

fn taken(kind: &str, spec: &str) {
    taken_named(kind, "x", spec);
}

fn taken_named(kind: &str, name: &str, spec: &str) {
    let answer = create(kind, name, spec);
    assert_eq!(answer.code, 201, "{kind} {name} {spec}: {}", answer.message());
}

fn not_a(field: &str, type_: &str, given: &str) -> String {
    format!(
        r#"{field}: Invalid value: "{given}": {field} in body must be of type {type_}: "{given}""#
    )
}

fn does_not_match(field: &str, value: &str, pattern: &str) -> String {
    format!(r#"{field}: Invalid value: "{value}": {field} in body should match {pattern}"#)
}

fn is_empty(field: &str) -> String {
    format!(r#"{field}: Invalid value: "": {field} in body should be at least 1 chars long"#)
}

#[test]
fn a_field_that_there_is_not_is_refused_by_its_name() {
    let unknown = |path: &str| format!(r#"strict decoding error: unknown field "{path}""#);
    refused(SERVER, r#"{"extra":1}"#, &unknown("spec.extra"));
    refused(SERVER, r#"{"service":{"prot":1}}"#, &unknown("spec.service.prot"));
    refused(LINK, r#"{"server":{"name":"hub"},"hostnames":["a"]}"#, &unknown("spec.hostnames"));
    let external = r#"{"server":{"external":{"address":"h:1","serverName":"h","secretName":"s","insecure":true}}}"#;
    refused(LINK, external, &unknown("spec.server.external.insecure"));
}

#[test]
fn a_value_of_another_type_is_refused_with_the_field() {
    refused(
        SERVER,
        r#"{"service":{"port":"7072"}}"#,
        &not_a("spec.service.port", "integer", "string"),
    );
    refused(SERVER, r#"{"hostnames":"a"}"#, &not_a("spec.hostnames", "array", "string"));
    refused(
        SERVER,
        r#"{"identity":{"duration":24}}"#,
        &not_a("spec.identity.duration", "string", "integer"),
    );
    refused(
        SERVER,
        r#"{"service":{"annotations":{"a":1}}}"#,
        &not_a("spec.service.annotations.a", "string", "integer"),
    );
    refused(LINK, r#"{"server":"hub"}"#, &not_a("spec.server", "object", "string"));
    refused(
        LINK,
        r#"{"server":{"name":"hub"},"hostname":["a"]}"#,
        &not_a("spec.hostname", "string", "array"),
    );
    refused(
        LINK,
        r#"{"server":{"name":"hub"},"suspend":"yes"}"#,
        &not_a("spec.suspend", "boolean", "string"),
    );
}

#[test]
fn a_word_that_is_none_of_the_choices_is_refused_with_the_choices() {
    let unsupported = |field: &str, value: &str, words: &str| {
        format!(r#"{field}: Unsupported value: "{value}": supported values: {words}"#)
    };
    let types = r#""ClusterIP", "NodePort", "LoadBalancer""#;
    refused(
        SERVER,
        r#"{"service":{"type":"ExternalName"}}"#,
        &unsupported("spec.service.type", "ExternalName", types),
    );
    let from = r#""Same", "All", "Selector""#;
    refused(
        SERVER,
        r#"{"clients":{"namespaces":{"from":"None"}}}"#,
        &unsupported("spec.clients.namespaces.from", "None", from),
    );
    let selector = r#"{"clients":{"namespaces":{"from":"Selector","selector":{"matchExpressions":[{"key":"a","operator":"Is"}]}}}}"#;
    let field = "spec.clients.namespaces.selector.matchExpressions[0].operator";
    refused(
        SERVER,
        selector,
        &unsupported(field, "Is", r#""In", "NotIn", "Exists", "DoesNotExist""#),
    );
}

#[test]
fn ports_are_1_to_65535() {
    let low = |field: &str, value: i64| {
        format!(
            "{field}: Invalid value: {value}: {field} in body should be greater than or equal to 1"
        )
    };
    let high = |field: &str, value: i64| {
        format!(
            "{field}: Invalid value: {value}: {field} in body should be less than or equal to 65535"
        )
    };
    for (port, reason) in [
        (0, low("spec.service.port", 0)),
        (-1, low("spec.service.port", -1)),
        (70000, high("spec.service.port", 70000)),
    ] {
        refused(SERVER, &format!(r#"{{"service":{{"port":{port}}}}}"#), &reason);
    }
    let node_port = |port: i64| format!(r#"{{"service":{{"type":"NodePort","nodePort":{port}}}}}"#);
    refused(SERVER, &node_port(0), &low("spec.service.nodePort", 0));
    refused(SERVER, &node_port(65536), &high("spec.service.nodePort", 65536));
    for port in ["0", "65536", "70000", "99999"] {
        let reason = |field: &str| {
            format!(r#"{field}: Invalid value: "h:{port}": the port must be 1 to 65535"#)
        };
        let external = format!(
            r#"{{"server":{{"external":{{"address":"h:{port}","serverName":"h","secretName":"s"}}}}}}"#
        );
        refused(LINK, &external, &reason("spec.server.external.address"));
        let export = format!(r#"{{"server":{{"name":"hub"}},"export":{{"address":"h:{port}"}}}}"#);
        refused(LINK, &export, &reason("spec.export.address"));
    }
    taken(SERVER, r#"{"service":{"port":1}}"#);
    taken(SERVER, r#"{"service":{"port":65535}}"#);
    taken(LINK, r#"{"server":{"name":"hub"},"export":{"address":"h:65535"}}"#);
}

#[test]
fn a_node_port_needs_a_type_that_has_one() {
    let reason = "spec.service: Invalid value: nodePort needs type NodePort or LoadBalancer";
    refused(SERVER, r#"{"service":{"nodePort":30000}}"#, reason);
    taken(SERVER, r#"{"service":{"type":"LoadBalancer","nodePort":30000}}"#);
}

#[test]
fn a_link_names_a_server_of_this_cluster_or_an_external_one() {
    let reason = "spec.server: Invalid value: give either name, of a RestPipeServer of this cluster, or external";
    let external =
        r#""external":{"address":"[::1]:7072","serverName":"hub.example","secretName":"s"}"#;
    refused(LINK, r#"{"server":{}}"#, reason);
    refused(LINK, &format!(r#"{{"server":{{"name":"hub",{external}}}}}"#), reason);
    let reason = "spec.server: Invalid value: namespace goes with name";
    refused(LINK, &format!(r#"{{"server":{{"namespace":"shop",{external}}}}}"#), reason);
    refused(LINK, "{}", "spec.server: Required value");
    for field in ["address", "serverName", "secretName"] {
        refused(
            LINK,
            r#"{"server":{"external":{}}}"#,
            &format!("spec.server.external.{field}: Required value"),
        );
    }
    taken(LINK, &format!(r#"{{"server":{{{external}}}}}"#));
    taken(LINK, r#"{"server":{"name":"hub","namespace":"shop"}}"#);
}

#[test]
fn names_that_dns_would_not_take_are_refused() {
    for (name, pattern) in [
        ("Files", DNS),
        ("a..b", DNS),
        ("a.", DNS),
        ("*", DNS),
        ("a_b", DNS),
        ("-a", DNS),
        ("ä", DNS),
    ] {
        let link = format!(r#"{{"server":{{"name":"hub"}},"hostname":"{name}"}}"#);
        refused(LINK, &link, &does_not_match("spec.hostname", name, pattern));
        let server = format!(r#"{{"hostnames":["{name}"]}}"#);
        refused(SERVER, &server, &does_not_match("spec.hostnames[0]", name, pattern));
        let external = format!(
            r#"{{"server":{{"external":{{"address":"h:1","serverName":"{name}","secretName":"s"}}}}}}"#
        );
        refused(LINK, &external, &does_not_match("spec.server.external.serverName", name, pattern));
    }
    for name in ["Hub", "hub.shop", "hub-"] {
        refused(
            LINK,
            &format!(r#"{{"server":{{"name":"{name}"}}}}"#),
            &does_not_match("spec.server.name", name, LABEL),
        );
        let link = format!(r#"{{"server":{{"name":"hub","namespace":"{name}"}}}}"#);
        refused(LINK, &link, &does_not_match("spec.server.namespace", name, LABEL));
    }
    for address in ["h", ":1", "h:1:2", "::1:7072", "http://h:1", "h:", "h:123456"] {
        let external = format!(
            r#"{{"server":{{"external":{{"address":"{address}","serverName":"h","secretName":"s"}}}}}}"#
        );
        refused(LINK, &external, &does_not_match("spec.server.external.address", address, ADDRESS));
        let export = format!(r#"{{"server":{{"name":"hub"}},"export":{{"address":"{address}"}}}}"#);
        refused(LINK, &export, &does_not_match("spec.export.address", address, ADDRESS));
    }
}

#[test]
fn an_empty_string_is_not_the_same_as_none() {
    refused(LINK, r#"{"server":{"name":"hub"},"hostname":""}"#, &is_empty("spec.hostname"));
    refused(LINK, r#"{"server":{"name":""}}"#, &is_empty("spec.server.name"));
    refused(
        LINK,
        r#"{"server":{"name":"hub","namespace":""}}"#,
        &is_empty("spec.server.namespace"),
    );
    refused(SERVER, r#"{"hostnames":[""]}"#, &is_empty("spec.hostnames[0]"));
    refused(SERVER, r#"{"identity":{"caSecretName":""}}"#, &is_empty("spec.identity.caSecretName"));
    for field in ["serverName", "secretName", "address"] {
        let external = r#"{"server":{"external":{"address":"","serverName":"","secretName":""}}}"#;
        refused(LINK, external, &is_empty(&format!("spec.server.external.{field}")));
    }
}

#[test]
fn lives_of_certificates_have_bounds() {
    let bounds = "duration must be 10m to 2160h, such as 24h";
    for duration in
        ["", "0s", "1m", "9m59s", "2160h1s", "87600h", "-24h", "24", "1d", "9999999999999h"]
    {
        refused(SERVER, &format!(r#"{{"identity":{{"duration":"{duration}"}}}}"#), bounds);
    }
    for duration in ["10m", "24h", "1h30m", "2160h", "129600m"] {
        taken(SERVER, &format!(r#"{{"identity":{{"duration":"{duration}"}}}}"#));
    }
    let bounds = "duration must be 1h to 8760h, such as 2160h";
    for duration in ["", "59m59s", "8760h1s", "-5s", "90d"] {
        let link = format!(r#"{{"server":{{"name":"hub"}},"export":{{"duration":"{duration}"}}}}"#);
        refused(LINK, &link, bounds);
    }
    taken(LINK, r#"{"server":{"name":"hub"},"export":{"duration":"8760h"}}"#);
    let long = "spec.identity.duration: Too long: may not be more than 16 bytes";
    refused(SERVER, r#"{"identity":{"duration":"99999999999999999h"}}"#, long);
}

#[test]
fn a_selector_goes_with_from_selector() {
    let reason = "spec.clients.namespaces: Invalid value: selector goes with from: Selector, and only with it";
    let of = |namespaces: &str| format!(r#"{{"clients":{{"namespaces":{{{namespaces}}}}}}}"#);
    refused(SERVER, &of(r#""from":"Selector""#), reason);
    refused(SERVER, &of(r#""from":"Selector","selector":null"#), reason);
    refused(SERVER, &of(r#""from":"All","selector":{}"#), reason);
    refused(SERVER, &of(r#""selector":{"matchLabels":{"a":"b"}}"#), reason);
    taken(SERVER, &of(r#""from":"Selector","selector":{"matchLabels":{"a":"b"}}"#));
}

#[test]
fn lists_have_an_end() {
    let names =
        |count: usize| (0..count).map(|n| format!(r#""h{n}""#)).collect::<Vec<_>>().join(",");
    let many = "spec.hostnames: Too many: 17: must have at most 16 items";
    refused(SERVER, &format!(r#"{{"hostnames":[{}]}}"#, names(17)), many);
    taken(SERVER, &format!(r#"{{"hostnames":[{}]}}"#, names(16)));
    refused(
        SERVER,
        r#"{"hostnames":["a.example","a.example"]}"#,
        r#"spec.hostnames[1]: Duplicate value: "a.example""#,
    );
    let annotations = (0..33).map(|n| format!(r#""a{n}":"""#)).collect::<Vec<_>>().join(",");
    let many = "spec.service.annotations: Too many: 33: must have at most 32 items";
    refused(SERVER, &format!(r#"{{"service":{{"annotations":{{{annotations}}}}}}}"#), many);
    // As many as fit a request.
    let many = "spec.hostnames: Too many: 100000: must have at most 16 items";
    refused(SERVER, &format!(r#"{{"hostnames":[{}]}}"#, names(100_000)), many);
}

#[test]
fn a_million_hostnames_are_too_large_a_request() {
    let spec = format!(r#"{{"hostnames":[{}]}}"#, vec![r#""h""#; 1_000_000].join(","));
    eventually("the answer comes", SETTLE_TIME, || {
        let answer = create(SERVER, "x", &spec);
        let said = answer.message();
        // The API server does not read it to its end, and what cuts the rest off may overtake why.
        assert!(matches!(answer.code, 0 | 413), "{}: {said}", answer.code);
        if said.contains("Request entity too large") { Ok(()) } else { Err("cut off".to_owned()) }
    });
}

#[test]
fn the_name_of_a_server_is_short_and_without_dots() {
    refused_named(SERVER, LONG, "{}", SERVER_NAME);
    refused_named(SERVER, "hub.shop", "{}", SERVER_NAME);
    taken_named(SERVER, &LONG[1..], "{}");
}

#[test]
fn the_name_of_a_server_begins_with_a_letter_as_that_of_its_service_must() {
    for name in ["1hub", "7", "0-hub"] {
        refused_named(SERVER, name, "{}", SERVER_LETTER);
    }
    taken_named(SERVER, "h1", "{}");
}

#[test]
fn neither_kind_can_be_called_disabled_which_pods_without_a_sidecar_say() {
    let reason = |kind: &str, key: &str| {
        format!(
            "<nil>: Invalid value: a pod annotated with restpipe.io/{key}: disabled is left alone, so no {kind} can have that name: take another"
        )
    };
    let link = r#"{"server":{"name":"hub"}}"#;
    refused_named(SERVER, "disabled", "{}", &reason(SERVER, "server"));
    refused_named(LINK, "disabled", link, &reason(LINK, "link"));
    for name in ["disabled-1", "off"] {
        taken_named(SERVER, name, "{}");
        taken_named(LINK, name, link);
    }
    // What the server's side calls a client, no pod's annotation names.
    taken(LINK, r#"{"server":{"name":"hub"},"hostname":"disabled"}"#);
}

#[test]
fn the_name_of_a_link_has_at_most_63_characters_whatever_its_hostname_is() {
    let long = "a".repeat(64);
    let reason = "<nil>: Invalid value: the name of a RestPipeLink is a label of its Secret and its pods, and the hostname unless spec.hostname is given: at most 63 characters";
    for name in [&long, &format!("{long}.{long}")] {
        refused_named(LINK, name, r#"{"server":{"name":"hub"}}"#, reason);
        refused_named(LINK, name, r#"{"server":{"name":"hub"},"hostname":null}"#, reason);
        refused_named(LINK, name, r#"{"server":{"name":"hub"},"hostname":"files"}"#, reason);
    }
    taken_named(LINK, &long[1..], r#"{"server":{"name":"hub"}}"#);
    taken_named(LINK, &long[1..], r#"{"server":{"name":"hub"},"hostname":"files"}"#);
    let hostname = format!(r#"{{"server":{{"name":"hub"}},"hostname":"{long}"}}"#);
    refused(LINK, &hostname, "spec.hostname: Too long: may not be more than 63 bytes");
}

#[test]
fn a_link_to_an_external_server_is_suspended_there() {
    let reason = "spec: Invalid value: a link to an external server can't be suspended here, that server would not know of it: suspend it where the server is";
    let link = |suspend: bool| {
        format!(
            r#"{{"server":{{"external":{{"address":"h:1","serverName":"h","secretName":"s"}}}},"suspend":{suspend}}}"#
        )
    };
    refused(LINK, &link(true), reason);
    taken(LINK, &link(false));
    taken(LINK, r#"{"server":{"name":"hub"},"suspend":true}"#);
    taken(LINK, r#"{"server":{"name":"hub","external":null},"suspend":true}"#);
}
