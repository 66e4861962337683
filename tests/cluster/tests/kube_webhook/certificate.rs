//! The certificate by which the API server knows the webhook.

use std::time::Duration;

use restpipe_cluster_tests::{Cluster, Contents, SYSTEM, contents, eventually, x509};
use serde_json::{Value, json};

use crate::{alone, create, created, has_sidecar, pod, shared};

/// The controller looks every 10 s at what others may have changed.
pub(crate) const NOTICED: Duration = Duration::from_secs(30);

pub(crate) fn bundle(cluster: &Cluster) -> Vec<u8> {
    let configuration = cluster.get(&["mutatingwebhookconfiguration", "restpipe-webhook"]);
    // As a Secret's, it is base64.
    let data =
        json!({"data": {"bundle": configuration["webhooks"][0]["clientConfig"]["caBundle"]}});
    contents(&data).remove("bundle").expect("a bundle")
}

pub(crate) fn tls(cluster: &Cluster) -> Option<Contents> {
    cluster.secret(SYSTEM, "restpipe-webhook-tls")
}

pub(crate) fn count(pem: &[u8]) -> usize {
    String::from_utf8_lossy(pem).matches("BEGIN CERTIFICATE").count()
}

#[test]
fn the_controller_makes_the_certificate_and_tells_the_api_server_whose_it_is() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let files = tls(cluster).expect("the Secret");
    let names = x509(&files["tls.crt"], "-ext subjectAltName");
    let lines: Vec<&str> = names.lines().map(str::trim).collect();
    assert_eq!(lines[1], "DNS:restpipe-webhook.restpipe-system.svc");
    assert!(!files.contains_key("ca.key"), "the webhook has no key of a CA");
    assert!(
        String::from_utf8_lossy(&bundle(cluster))
            .contains(String::from_utf8_lossy(&files["ca.crt"]).trim())
    );
    let secret = cluster.get(&["-n", SYSTEM, "secret", "restpipe-webhook-ca"]);
    assert_ne!(secret["type"], "kubernetes.io/tls", "nothing should serve with it");
    let mut keys: Vec<String> = contents(&secret).into_keys().collect();
    keys.retain(|key| key != "previous.crt");
    assert_eq!(keys, ["ca.crt", "ca.key"]);
}

#[test]
fn an_upgrade_of_the_chart_leaves_the_bundle_alone_and_changes_the_rest() {
    let operator = alone();
    let cluster = &operator.release.cluster;
    let before = bundle(cluster);
    let chart = restpipe_cluster_tests::top().join("charts/restpipe").display().to_string();
    let upgrade = |seconds: &str| {
        let set = format!("webhook.timeoutSeconds={seconds}");
        let args = ["upgrade", "restpipe", &chart, "-n", SYSTEM, "--no-hooks"];
        cluster.helm(&[&args[..], &["--reuse-values", "--set", &set]].concat());
        let configuration = cluster.get(&["mutatingwebhookconfiguration", "restpipe-webhook"]);
        assert_eq!(configuration["webhooks"][0]["timeoutSeconds"].to_string(), seconds);
        assert!(bundle(cluster) == before, "caBundle is another after the upgrade");
    };
    upgrade("7");
    upgrade("5");
}

#[test]
fn a_bundle_that_somebody_has_damaged_is_mended() {
    let operator = alone();
    let cluster = &operator.release.cluster;
    let good = bundle(cluster);
    let space = cluster.namespace("damaged");
    let wrong = r#"[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]"#;
    cluster.kubectl(&[
        "patch",
        "mutatingwebhookconfiguration",
        "restpipe-webhook",
        "--type=json",
        "-p",
        wrong,
    ]);
    eventually("the bundle is as it was", NOTICED, || {
        let configuration = cluster.get(&["mutatingwebhookconfiguration", "restpipe-webhook"]);
        let found = configuration["webhooks"][0]["clientConfig"]["caBundle"] != Value::Null;
        if found { Ok(()) } else { Err("there is none".to_owned()) }
    });
    assert!(bundle(cluster) == good);
    eventually("pods are injected", NOTICED, || {
        let answer = create(&space, &pod("web", json!({"restpipe.io/link": "files"})));
        if answer.code == 201 { Ok(()) } else { Err(answer.message().to_owned()) }
    });
}

#[test]
fn a_lost_certificate_is_made_anew_and_a_lost_ca_with_an_overlap() {
    let operator = alone();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("lost");
    let before = tls(cluster).expect("the Secret");
    cluster.kubectl(&["-n", SYSTEM, "delete", "secret", "restpipe-webhook-tls"]);
    let after = eventually("there is another", NOTICED, || tls(cluster).ok_or("none".to_owned()));
    assert!(after["tls.crt"] != before["tls.crt"]);
    assert!(after["ca.crt"] == before["ca.crt"], "the CA has not changed");

    let roots = count(&bundle(cluster));
    cluster.kubectl(&["-n", SYSTEM, "delete", "secret", "restpipe-webhook-ca"]);
    eventually("there is another CA, and the former one is trusted still", NOTICED, || {
        let files = tls(cluster).ok_or("no certificate")?;
        let bundle = bundle(cluster);
        let has = |pem: &[u8]| {
            String::from_utf8_lossy(&bundle).contains(String::from_utf8_lossy(pem).trim())
        };
        if files["ca.crt"] == before["ca.crt"] {
            return Err("the CA is the former one".to_owned());
        }
        if has(&files["ca.crt"]) && has(&before["ca.crt"]) && count(&bundle) > roots {
            Ok(())
        } else {
            Err(format!("{} roots", count(&bundle)))
        }
    });
    // With the leaf of the former CA, which the webhook may be serving with, or with the new one.
    let made = created(&space, &pod("web", json!({"restpipe.io/link": "files"})));
    assert!(has_sidecar(&made));
}
