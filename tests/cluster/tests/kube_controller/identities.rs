//! Secrets: what is in them, and what becomes of those that somebody has changed.

use std::time::Duration;

use restpipe_cluster_tests::{
    Contents, Namespace, SETTLE_TIME, SYSTEM, contents, eventually, x509,
};
use serde_json::{Value, json};

use crate::{
    audit, event, events, issued, link, name_in, pair, quiet, secret, server, shared, uid,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn serial(pem: &[u8]) -> String {
    x509(pem, "-serial")
}

fn resource_version(space: &Namespace<'_>, object: &str) -> Value {
    space.get(&[object])["metadata"]["resourceVersion"].clone()
}

#[test]
fn a_server_and_a_link_get_their_node_directories_services_and_statuses() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("basics");
    space.apply(&pair());
    let (hub, files) = issued(&space);

    assert_eq!(name_in(&hub["tls.crt"]), "DNS:hub.basics.servers.restpipe");
    assert_eq!(name_in(&files["tls.crt"]), "DNS:files.clients.hub.basics.restpipe");
    assert!(
        x509(&hub["tls.crt"], "-ext extendedKeyUsage").contains("TLS Web Server Authentication")
    );
    assert!(
        x509(&files["tls.crt"], "-ext extendedKeyUsage").contains("TLS Web Client Authentication")
    );
    assert!(hub["ca.crt"] == files["ca.crt"], "one CA for both");
    assert!(hub["tls.key"] != files["tls.key"]);
    let toml =
        secret(&space, "hub-restpipe-server", |hub| text(&hub["node.toml"]).contains("\"files\""));
    let toml = text(&toml["node.toml"]);
    for line in [
        r#"client-suffix = "clients.hub.basics.restpipe""#,
        r#"clients = ["files"]"#,
        "listed-only = true",
        r#"operator-name = "operator.restpipe""#,
    ] {
        assert!(toml.contains(line), "{line} is not in\n{toml}");
    }
    let toml = text(&files["node.toml"]);
    assert!(toml.contains(r#"server = "hub-restpipe.basics.svc:7072""#), "{toml}");
    assert!(toml.contains(r#"server-name = "hub.basics.servers.restpipe""#), "{toml}");

    let rps = space.get(&["rps/hub"]);
    for (name, owner) in
        [("hub-restpipe-server", &rps), ("files-restpipe-link", &space.get(&["rpl/files"]))]
    {
        let made = space.get(&["secret", name, "--show-managed-fields"]);
        assert_eq!(made["type"], "kubernetes.io/tls");
        assert_eq!(made["metadata"]["labels"]["app.kubernetes.io/managed-by"], "restpipe-operator");
        let owned_by = &made["metadata"]["ownerReferences"][0];
        assert_eq!(
            (owned_by["uid"].as_str(), &owned_by["controller"]),
            (Some(&*uid(owner)), &json!(true))
        );
        assert_eq!(made["metadata"]["managedFields"][0]["manager"], "restpipe-operator");
    }
    let service = space.get(&["service/hub-restpipe"]);
    assert_eq!(service["spec"]["ports"][0]["port"], 7072);
    assert_eq!(
        service["spec"]["selector"],
        json!({"restpipe.io/role": "server", "restpipe.io/server": "hub"})
    );
    assert_eq!(space.get(&["service/hub-restpipe-replicas"])["spec"]["clusterIP"], "None");
    let ca = cluster.get(&["-n", SYSTEM, "secret", &format!("restpipe-ca-{}", uid(&rps))]);
    assert_eq!(contents(&ca)["ca.crt"], hub["ca.crt"]);

    let status = eventually("the server's status", SETTLE_TIME, || {
        let status = space.get(&["rps/hub"])["status"].clone();
        if status["clients"]["accepted"] == 1 { Ok(status) } else { Err(status.to_string()) }
    });
    assert_eq!(
        status["clients"],
        json!({"declared": 1, "accepted": 1, "suspended": 0, "connected": 0})
    );
    assert_eq!(status["ca"]["phase"], "Stable");
    assert_eq!(status["identity"]["secretName"], "hub-restpipe-server");
    let link = space.get(&["rpl/files"]);
    assert_eq!(link["status"]["hostname"], "files");
    assert_eq!(link["status"]["server"], "basics/hub");
    assert_eq!(link["status"]["observedGeneration"], link["metadata"]["generation"]);
    let shown = link["status"]["identity"]["serial"].as_str().unwrap_or_default().to_uppercase();
    assert!(serial(&files["tls.crt"]).contains(&shown), "{shown}");
    event(
        &space,
        "RestPipeServer",
        "hub",
        "Normal Issued: a certificate for hub.basics.servers.restpipe was issued",
    );
    event(
        &space,
        "RestPipeLink",
        "files",
        "Normal Issued: a certificate for files.clients.hub.basics.restpipe was issued",
    );
}

#[test]
fn a_secret_that_somebody_has_edited_emptied_or_deleted_is_written_anew() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("damage");
    space.apply(&pair());
    issued(&space);
    for (name, object) in [("files-restpipe-link", "rpl/files"), ("hub-restpipe-server", "rps/hub")]
    {
        for (what, patch) in [
            ("a certificate of somebody else", r#"{"data":{"tls.crt":"aGVsbG8="}}"#),
            ("no key", r#"{"data":{"tls.key":""}}"#),
            (
                "no contents",
                r#"{"data":{"tls.crt":"","tls.key":"","ca.crt":null,"node.toml":null}}"#,
            ),
            ("another CA", r#"{"data":{"ca.crt":"aGVsbG8="}}"#),
            ("other settings", r#"{"data":{"node.toml":"c2VydmVyID0gImV2aWw6MSIK"}}"#),
            ("no owner", r#"{"metadata":{"ownerReferences":null}}"#),
        ] {
            let before = space.get(&["secret", name]);
            space.kubectl(&["patch", "secret", name, "--type=merge", "-p", patch]);
            eventually(&format!("{name} with {what} is mended"), SETTLE_TIME, || {
                let now = space.get(&["secret", name]);
                let (old, new) = (contents(&before), contents(&now));
                let same = |key: &str| old.get(key) == new.get(key);
                let owned =
                    now["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"];
                // A new certificate is fine; anything else is as it was.
                let good = same("ca.crt")
                    && same("node.toml")
                    && owned
                    && name_in_or_none(new.get("tls.crt")) == name_in_or_none(old.get("tls.crt"))
                    && new.get("tls.key").is_some_and(|key| !key.is_empty());
                if good { Ok(()) } else { Err(format!("{:?}", new.keys())) }
            });
        }
        let before = space.get(&["secret", name]);
        space.kubectl(&["delete", "secret", name]);
        eventually(&format!("{name} is made anew"), SETTLE_TIME, || {
            let now = space.find(&["secret", name]).ok_or("there is none")?;
            let other = contents(&now)["tls.key"] != contents(&before)["tls.key"];
            if other { Ok(()) } else { Err("with the same key".to_owned()) }
        });
        space.condition(object, "IdentityIssued", "True/Issued", SETTLE_TIME);
    }
    event(&space, "RestPipeLink", "files", "Normal Renewed: ");
}

fn name_in_or_none(pem: Option<&Vec<u8>>) -> Option<String> {
    let pem = pem.filter(|pem| pem.starts_with(b"-----BEGIN"))?;
    Some(name_in(pem))
}

#[test]
fn a_full_secret_keeps_what_others_have_put_in_and_the_identity_is_issued() {
    let operator = shared();
    let space = operator.release.cluster.namespace("full");
    space.apply(&pair());
    let (_, files) = issued(&space);
    // Nearly the 1 MiB that a Secret may hold.
    let big = "A".repeat(900 * 1024 / 3 * 4 / 4 * 4);
    let path = "/api/v1/namespaces/full/secrets/files-restpipe-link";
    let mut object = space.get(&["secret/files-restpipe-link"]);
    object["data"]["junk"] = json!(big);
    object["data"]["tls.crt"] = json!("aGVsbG8=");
    let answer = space.cluster.request("PUT", path, &object.to_string());
    assert_eq!(answer.code, 200, "{}", answer.message());
    let mended =
        secret(&space, "files-restpipe-link", |now| now["tls.crt"].starts_with(b"-----BEGIN"));
    assert!(mended.contains_key("junk"));
    assert!(mended["tls.crt"] != files["tls.crt"]);
    space.condition("rpl/files", "IdentityIssued", "True/Issued", SETTLE_TIME);
}

#[test]
fn a_secret_that_is_too_full_to_be_mended_is_told_and_is_mended_when_there_is_room() {
    let operator = shared();
    let space = operator.release.cluster.namespace("too-full");
    space.apply(&pair());
    issued(&space);
    let mut object = space.get(&["secret/files-restpipe-link"]);
    object["data"]["tls.crt"] = json!("aGVsbG8=");
    // All that a Secret may hold, so that a whole certificate does not fit.
    let held: usize = contents(&object).values().map(Vec::len).sum();
    let room = 1024 * 1024 - held;
    object["data"]["junk"] = json!("A".repeat(room / 3 * 4));
    let path = "/api/v1/namespaces/too-full/secrets/files-restpipe-link";
    let answer = space.cluster.request("PUT", path, &object.to_string());
    assert_eq!(answer.code, 200, "{}", answer.message());
    let said = space.condition("rpl/files", "IdentityIssued", "False/WriteFailed", SETTLE_TIME);
    assert!(said.contains("the Secret too-full/files-restpipe-link"), "{said}");
    let cure = r#"[{"op":"remove","path":"/data/junk"}]"#;
    space.kubectl(&["patch", "secret", "files-restpipe-link", "--type=json", "-p", cure]);
    space.condition("rpl/files", "IdentityIssued", "True/Issued", SETTLE_TIME);
    secret(&space, "files-restpipe-link", |now| now["tls.crt"].starts_with(b"-----BEGIN"));
}

#[test]
fn a_secret_of_somebody_else_is_never_touched() {
    let operator = shared();
    let space = operator.release.cluster.namespace("foreign");
    space.apply(
        "{apiVersion: v1, kind: Secret, metadata: {name: files-restpipe-link}, stringData: {password: x}}\n---\n\
         {apiVersion: v1, kind: Secret, metadata: {name: hub-restpipe-server}, type: kubernetes.io/tls, stringData: {tls.crt: a, tls.key: b}}",
    );
    let before = ["secret/files-restpipe-link", "secret/hub-restpipe-server"]
        .map(|name| resource_version(&space, name));
    space.apply(&pair());
    let said = space.condition("rpl/files", "Accepted", "False/SecretConflict", SETTLE_TIME);
    assert!(
        said.contains(
            "the Secret foreign/files-restpipe-link is there and was not made for this object"
        ),
        "{said}"
    );
    space.condition("rps/hub", "Accepted", "False/SecretConflict", SETTLE_TIME);
    space.condition("rpl/files", "Ready", "False/SecretConflict", SETTLE_TIME);
    event(&space, "RestPipeLink", "files", "Warning SecretConflict: ");
    // A look at everything, for whatever reason.
    space.kubectl(&["label", "rps/hub", "rpl/files", "touched=1"]);
    event(&space, "RestPipeServer", "hub", "Warning SecretConflict: ");
    let after = ["secret/files-restpipe-link", "secret/hub-restpipe-server"]
        .map(|name| resource_version(&space, name));
    assert_eq!(after, before);
    let told = events(&space, "RestPipeLink", "files");
    assert_eq!(told.iter().filter(|one| one.contains("SecretConflict")).count(), 1, "{told:#?}");
    // The cure that the message names.
    space.kubectl(&["delete", "secret", "files-restpipe-link", "hub-restpipe-server"]);
    issued(&space);
    space.condition("rpl/files", "Accepted", "True", SETTLE_TIME);
}

#[test]
fn a_secret_of_the_wrong_type_says_that_it_has_to_go() {
    let operator = shared();
    let space = operator.release.cluster.namespace("wrong-type");
    space.apply(&pair());
    issued(&space);
    // One that was restored by hand, with our label.
    space.kubectl(&["delete", "secret", "files-restpipe-link", "--wait=false"]);
    let made = eventually("ours is made anew", SETTLE_TIME, || {
        space.find(&["secret", "files-restpipe-link"]).ok_or_else(|| "not yet".to_owned())
    });
    let mut other = made;
    other["type"] = json!("Opaque");
    other["metadata"] = json!({
        "name": "files-restpipe-link", "labels": other["metadata"]["labels"],
        "ownerReferences": other["metadata"]["ownerReferences"],
    });
    let path = "/api/v1/namespaces/wrong-type/secrets";
    // Whoever is faster.
    eventually("the other one is there", SETTLE_TIME, || {
        space.kubectl(&["delete", "secret", "files-restpipe-link", "--ignore-not-found"]);
        let answer = space.cluster.request("POST", path, &other.to_string());
        if answer.code == 201 { Ok(()) } else { Err(answer.message().to_owned()) }
    });
    let said = space.condition("rpl/files", "IdentityIssued", "False/SecretInvalid", SETTLE_TIME);
    assert!(said.contains("is not of the type kubernetes.io/tls"), "{said}");
    space.kubectl(&["delete", "secret", "files-restpipe-link"]);
    space.condition("rpl/files", "IdentityIssued", "True/Issued", SETTLE_TIME);
}

/// A status, without the times of its conditions: those are of the last change that was seen, and
/// a forged one is a change.
fn status(space: &Namespace<'_>, object: &str) -> Value {
    let mut status = space.get(&[object])["status"].clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        condition["lastTransitionTime"] = Value::Null;
    }
    status
}

/// By which operations the operator has fields of a status.
fn operations(space: &Namespace<'_>, object: &str) -> Vec<Value> {
    let object = space.get(&[object, "--show-managed-fields"]);
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let ours = |entry: &&Value| {
        entry["manager"] == "restpipe-operator" && entry["subresource"] == "status"
    };
    entries.iter().filter(ours).map(|entry| entry["operation"].clone()).collect()
}

/// Writes something into a status, as `manager`.
fn forge(space: &Namespace<'_>, object: &str, manager: &str, status: &Value) {
    let manager = format!("--field-manager={manager}");
    let patch = json!({"status": status}).to_string();
    space.kubectl(&[
        "patch",
        object,
        "--subresource=status",
        &manager,
        "--type=merge",
        "-p",
        &patch,
    ]);
}

#[test]
fn a_status_that_somebody_has_forged_is_written_anew_and_decides_nothing() {
    let operator = shared();
    let space = operator.release.cluster.namespace("forged");
    let user = operator.release.user("controller");
    space.apply(&pair());
    space.apply(&link("second", "{server: {name: hub}, hostname: files}"));
    issued(&space);
    space.condition("rpl/second", "Accepted", "False/HostnameTaken", SETTLE_TIME);
    quiet::settled(&operator, &space);
    let of_link = json!({
        "hostname": "evil",
        "server": "forged/elsewhere",
        "identity": Value::Null,
        "conditions": [
            {
                "type": "Accepted", "status": "True", "reason": "Forged", "message": "believe me",
                "lastTransitionTime": "2020-01-01T00:00:00Z",
            },
            {
                "type": "Trusted", "status": "True", "reason": "Forged", "message": "and me",
                "lastTransitionTime": "2020-01-01T00:00:00Z",
            },
        ],
        "connections": [{"instance": "evil", "server": "evil", "address": "1.2.3.4:5", "since": "2020-01-01T00:00:00Z"}],
    });
    let of_server = json!({
        "clients": {"declared": 99, "accepted": 99, "suspended": 9, "connected": 99},
        "pods": ["evil"],
    });
    let objects = [("rpl/second", &of_link), ("rpl/files", &of_link), ("rps/hub", &of_server)];
    let good = objects.map(|(name, _)| status(&space, name));
    for (name, _) in objects {
        assert_eq!(operations(&space, name), ["Apply"], "{name}");
    }
    // What is in our own name, and was not applied, no apply takes out either.
    for manager in ["somebody", "restpipe-operator"] {
        let mark = audit().mark();
        for (name, forged) in objects {
            forge(&space, name, manager, forged);
        }
        for ((name, _), good) in objects.iter().zip(&good) {
            eventually(&format!("{name} is as before {manager}"), SETTLE_TIME, || {
                let now = status(&space, name);
                if now == *good { Ok(()) } else { Err(now.to_string()) }
            });
        }
        quiet::settled(&operator, &space);
        let writes = audit().writes_since(mark, &user);
        for ((name, _), good) in objects.iter().zip(&good) {
            assert_eq!(status(&space, name), *good, "{name} after {manager}");
            // One beside what was forged, and one in the place of it; there is room for chance.
            let of = name.replace("rpl/", "forged/").replace("rps/", "forged/");
            let times: Vec<f64> = writes
                .iter()
                .filter(|one| one.resource.ends_with("/status") && one.object == of)
                .filter(|one| one.code < 300)
                .map(|one| one.at)
                .collect();
            assert!((2..=4).contains(&times.len()), "{name} after {manager}: {times:?}");
            let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
            let shortest = gaps.fold(f64::MAX, f64::min);
            assert!(shortest >= 0.95, "{name}: {shortest} s between two writes: {times:?}");
        }
    }
    assert_eq!(space.find(&["secret/second-restpipe-link"]), None, "nothing is issued for it");
}

#[test]
fn a_status_that_somebody_has_filled_up_is_written_anew() {
    let operator = shared();
    let space = operator.release.cluster.namespace("filled-up");
    space.apply(&pair());
    issued(&space);
    quiet::settled(&operator, &space);
    // As many as a status may have: ours are too many beside them.
    let full: Vec<Value> = (0..16)
        .map(|number| {
            json!({
                "type": format!("Full{number}"), "status": "True", "reason": "Full", "message": "",
                "lastTransitionTime": "2020-01-01T00:00:00Z",
            })
        })
        .collect();
    for name in ["rpl/files", "rps/hub"] {
        let good = status(&space, name);
        forge(&space, name, "somebody", &json!({"conditions": full}));
        eventually(&format!("{name} is as it was"), SETTLE_TIME, || {
            let now = status(&space, name);
            if now == good { Ok(()) } else { Err(now.to_string()) }
        });
    }
}

#[test]
fn an_object_that_is_made_again_under_its_name_gets_another_key() {
    let operator = shared();
    let space = operator.release.cluster.namespace("again");
    space.apply(&pair());
    let (_, files) = issued(&space);
    // Without a garbage collector what the dead ones had stays, and must not be used.
    let mut dead: Vec<Contents> = Vec::new();
    for generation in 0..3 {
        if generation == 1 {
            // The others may be too short-lived to be given anything.
            issued(&space);
        }
        let names = ["hub-restpipe-server", "files-restpipe-link"];
        dead.extend(names.iter().filter_map(|name| space.cluster.secret(&space.name, name)));
        space.kubectl(&["delete", "rpl/files", "rps/hub", "--wait=false"]);
        space.apply(&pair());
    }
    let uids = ["rps/hub", "rpl/files"].map(|name| uid(&space.get(&[name])));
    for (name, uid) in [("hub-restpipe-server", &uids[0]), ("files-restpipe-link", &uids[1])] {
        eventually(&format!("{name} is of the living one"), SETTLE_TIME, || {
            let owner =
                space.get(&["secret", name])["metadata"]["ownerReferences"][0]["uid"].clone();
            if owner == **uid { Ok(()) } else { Err(owner.to_string()) }
        });
    }
    let is_new = |now: &Contents, key: &str| dead.iter().all(|one| one[key] != now[key]);
    let hub_now = secret(&space, "hub-restpipe-server", |now| {
        is_new(now, "tls.key") && is_new(now, "ca.crt")
    });
    let files_now = secret(&space, "files-restpipe-link", |now| {
        is_new(now, "tls.key") && now["ca.crt"] == hub_now["ca.crt"]
    });
    assert!(files_now["tls.crt"] != files["tls.crt"]);
    space.condition("rpl/files", "IdentityIssued", "True/Issued", SETTLE_TIME);
    // CAs of the dead ones go.
    let cluster = &operator.release.cluster;
    eventually("one CA is left", SETTLE_TIME, || {
        let all = cluster.get(&["-n", SYSTEM, "secrets", "-l", "restpipe.io/server=hub"]);
        let of: Vec<_> = all["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|secret| secret["metadata"]["annotations"]["restpipe.io/of"] == "again/hub")
            .map(|secret| secret["metadata"]["name"].clone())
            .collect();
        if of == [json!(format!("restpipe-ca-{}", uids[0]))] {
            Ok(())
        } else {
            Err(format!("{of:?}"))
        }
    });
}

#[test]
fn an_annotation_has_a_certificate_renewed_once() {
    let operator = shared();
    let space = operator.release.cluster.namespace("renew");
    space.apply(&pair());
    let (hub, files) = issued(&space);
    space.kubectl(&["annotate", "rpl/files", "restpipe.io/renew=1"]);
    let renewed = secret(&space, "files-restpipe-link", |now| now["tls.crt"] != files["tls.crt"]);
    assert!(renewed["tls.key"] != files["tls.key"]);
    assert!(renewed["ca.crt"] == files["ca.crt"]);
    event(&space, "RestPipeLink", "files", "Normal Renewed: ");
    space.kubectl(&["annotate", "rps/hub", "restpipe.io/renew=1"]);
    secret(&space, "hub-restpipe-server", |now| now["tls.crt"] != hub["tls.crt"]);
    // The same value asks for nothing more.
    let version = resource_version(&space, "secret/files-restpipe-link");
    space.kubectl(&["annotate", "rpl/files", "restpipe.io/renew=1", "other=1", "--overwrite"]);
    space.kubectl(&["annotate", "rpl/files", "restpipe.io/renew-"]);
    quiet::reconciled(&operator, &space);
    assert_eq!(resource_version(&space, "secret/files-restpipe-link"), version);
    space.kubectl(&["annotate", "rpl/files", "restpipe.io/renew=2"]);
    secret(&space, "files-restpipe-link", |now| now["tls.crt"] != renewed["tls.crt"]);
}

#[test]
fn a_lifetime_is_followed_and_a_new_one_issues_anew() {
    let operator = shared();
    let space = operator.release.cluster.namespace("lifetimes");
    space.apply(
        &(server("hub", "{identity: {duration: 1h}}") + &link("files", "{server: {name: hub}}")),
    );
    let (_, files) = issued(&space);
    // Ends within the hour, and not at once.
    let ends_within = |pem: &[u8], seconds: u64| x509(pem, &format!("-checkend {seconds} || true"));
    assert!(ends_within(&files["tls.crt"], 3000).contains("will not expire"));
    assert!(ends_within(&files["tls.crt"], 3601).contains("will expire"));
    let renewal = space.get(&["rpl/files"])["status"]["identity"]["renewalTime"].clone();
    assert_ne!(renewal, Value::Null);
    space.apply(&server("hub", "{identity: {duration: 48h}}"));
    let later = secret(&space, "files-restpipe-link", |now| now["tls.crt"] != files["tls.crt"]);
    let day = Duration::from_secs(86_400).as_secs();
    assert!(ends_within(&later["tls.crt"], day).contains("will not expire"));
}
