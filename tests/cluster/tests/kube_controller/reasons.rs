//! Why a link is not connected, in a word that a person can act on.

use restpipe_cluster_tests::{Process, SETTLE_TIME, Sidecar, address_of_a_pod, node_binary};
use serde_json::json;

use crate::pipes::{at, client, hub};
use crate::pki::Pki;
use crate::{event, issued, link, pair, secret, server, shared};

#[test]
fn a_server_that_nobody_dials_at_is_refused() {
    let operator = shared();
    let space = operator.release.cluster.namespace("refused");
    space.apply(&pair());
    issued(&space);
    let _web = hub(&space, "web-1");
    space.condition("rps/hub", "Ready", "True", SETTLE_TIME);
    // As if its Service led elsewhere.
    let nowhere = format!("{}:7072", address_of_a_pod());
    let _files = client(&space, "files-1", "files", &nowhere);
    let said = space.condition("rpl/files", "Connected", "False/ConnectionRefused", SETTLE_TIME);
    assert!(
        said.starts_with("the pod files-1: ")
            && said.contains("its Service leads to ready pods only"),
        "{said}"
    );
    space.condition("rpl/files", "Ready", "False/ConnectionRefused", SETTLE_TIME);
}

#[test]
fn another_server_at_the_address_is_a_name_mismatch_or_an_unknown_ca() {
    let operator = shared();
    let space = operator.release.cluster.namespace("mismatch");
    let pki = Pki::new();
    pki.ca("corp");
    pki.secret(&space, "corp-ca", &[("tls.crt", "corp/ca.crt"), ("tls.key", "corp/ca.key")]);
    let own = "{identity: {caSecretName: corp-ca}}";
    space.apply(&(server("hub", own) + &server("other", own) + &server("alien", "{}")));
    space
        .apply(&(link("files", "{server: {name: hub}}") + &link("tapes", "{server: {name: hub}}")));
    issued(&space);
    let _web = hub(&space, "web-1");
    let start = |name: &str, of: &str| {
        let mut pod = Sidecar::create(&space, name, &json!({"restpipe.io/server": of}));
        pod.run(&[]);
        pod
    };
    let (other, alien) = (start("other-1", "other"), start("alien-1", "alien"));
    let _files = client(&space, "files-1", "files", &at(&other));
    let _tapes = client(&space, "tapes-1", "tapes", &at(&alien));
    let said = space.condition("rpl/files", "Connected", "False/NameMismatch", SETTLE_TIME);
    assert!(said.contains("hub.mismatch.servers.restpipe"), "{said}");
    space.condition("rpl/tapes", "Connected", "False/UnknownCa", SETTLE_TIME);
}

#[test]
fn a_certificate_out_of_its_time_has_ended_or_is_a_matter_of_clocks() {
    let operator = shared();
    let space = operator.release.cluster.namespace("times");
    let pki = Pki::new();
    pki.dated_ca("corp", "200101000000Z", "490101000000Z");
    pki.secret(&space, "corp-ca", &[("tls.crt", "corp.crt"), ("tls.key", "corp.key")]);
    space.apply(&server("hub", "{identity: {caSecretName: corp-ca}}"));
    space
        .apply(&(link("files", "{server: {name: hub}}") + &link("tapes", "{server: {name: hub}}")));
    issued(&space);
    let _web = hub(&space, "web-1");
    // No node would show such a certificate.
    let start = |file: &str, from: &str, until: &str| {
        pki.dated_leaf(file, "hub.times.servers.restpipe", "corp", from, until);
        let address = format!("{}:7072", address_of_a_pod());
        let [cert, key] = ["crt", "key"].map(|end| pki.path(&format!("{file}.{end}")));
        let shows = ["-accept", &address, "-cert", &cert, "-key", &key, "-alpn", "restpipe/2"];
        let args = [&["s_server", "-quiet"], &shows[..]].concat();
        (Process::start(file, "openssl", &args, &[]), address)
    };
    let (_ended, ended) = start("ended", "200101000000Z", "210101000000Z");
    let (_early, early) = start("early", "480101000000Z", "490101000000Z");
    let _files = client(&space, "files-1", "files", &ended);
    let _tapes = client(&space, "tapes-1", "tapes", &early);
    space.condition("rpl/files", "Connected", "False/CertificateExpired", SETTLE_TIME);
    space.condition("rpl/tapes", "Connected", "False/ClockSkew", SETTLE_TIME);
}

#[test]
fn a_name_that_cannot_be_looked_up_is_told() {
    let operator = shared();
    let space = operator.release.cluster.namespace("dns");
    space.apply(&pair());
    issued(&space);
    let _web = hub(&space, "web-1");
    // There is no DNS here: with the address that is in its files, it finds nobody.
    let mut files = Sidecar::create(&space, "files-1", &json!({"restpipe.io/link": "files"}));
    files.run(&[]);
    let said = space.condition("rpl/files", "Connected", "False/DnsFailed", SETTLE_TIME);
    assert!(said.contains("hub-restpipe.dns.svc"), "{said}");
}

#[test]
fn pods_that_do_not_run_or_do_not_answer_are_told_apart() {
    let operator = shared();
    let space = operator.release.cluster.namespace("pods");
    space.apply(&pair());
    issued(&space);
    let waiting = Sidecar::create(&space, "files-1", &json!({"restpipe.io/link": "files"}));
    let said = space.condition("rpl/files", "Connected", "False/PodsNotRunning", SETTLE_TIME);
    assert!(said.contains("the pod files-1 does not run yet"), "{said}");
    space.condition("rps/hub", "Ready", "False/NoPods", SETTLE_TIME);
    // A client whose server has no pod: the cause is the server.
    waiting.status("Running", true);
    let said = space.condition("rpl/files", "Connected", "False/ServerNotReady", SETTLE_TIME);
    assert!(said.contains("the server pods/hub is not ready (NoPods)"), "{said}");
    // With a server, a pod at whose address nobody is.
    let web = hub(&space, "web-1");
    space.condition("rps/hub", "Ready", "True", SETTLE_TIME);
    let said = space.condition("rpl/files", "Connected", "False/ClientSilent", SETTLE_TIME);
    assert!(said.contains("does not tell its status"), "{said}");
    waiting.delete();
    space.condition("rpl/files", "Connected", "False/NoPods", SETTLE_TIME);
    // And the server's own pod.
    drop(web);
    space.kubectl(&["delete", "pod", "web-1", "--grace-period=0", "--force"]);
    let dead = Sidecar::create(&space, "web-2", &json!({"restpipe.io/server": "hub"}));
    space.condition("rps/hub", "Ready", "False/PodsNotRunning", SETTLE_TIME);
    dead.status("Running", true);
    space.condition("rps/hub", "Ready", "False/ConnectionRefused", SETTLE_TIME);
}

#[test]
fn a_pod_that_was_made_before_it_could_be_injected_is_named() {
    let operator = shared();
    let space = operator.release.cluster.namespace("missed");
    space.apply(&pair());
    issued(&space);
    let plain = |name: &str| {
        space.apply(&format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: app, image: app}}]}}}}"));
    };
    plain("old");
    plain("old-server");
    // The webhook is asked about new pods only.
    space.kubectl(&["annotate", "pod/old", "restpipe.io/link=files"]);
    space.kubectl(&["annotate", "pod/old-server", "restpipe.io/server=hub"]);
    let said = space.condition("rpl/files", "Injected", "False/NotInjected", SETTLE_TIME);
    assert!(said.starts_with("the pod old carries the annotation and has no sidecar"), "{said}");
    space.condition("rpl/files", "Ready", "False/NotInjected", SETTLE_TIME);
    assert_eq!(space.get(&["rpl/files"])["status"]["podsWithoutSidecar"], json!(["old"]));
    event(&space, "RestPipeLink", "files", "Warning NotInjected: ");
    space.condition("rps/hub", "Injected", "False/NotInjected", SETTLE_TIME);
    assert_eq!(space.get(&["rps/hub"])["status"]["podsWithoutSidecar"], json!(["old-server"]));
    space.kubectl(&["delete", "pod", "old", "old-server", "--grace-period=0", "--force"]);
    space.condition("rpl/files", "Injected", "False/NoPods", SETTLE_TIME);
    space.condition("rps/hub", "Injected", "False/NoPods", SETTLE_TIME);
}

#[test]
fn a_pod_that_says_it_is_somebody_else_is_not_believed() {
    let operator = shared();
    let space = operator.release.cluster.namespace("liar");
    space.apply(&(pair() + &link("tapes", "{server: {name: hub}}")));
    issued(&space);
    let web = hub(&space, "web-1");
    // With the identity of files, in a process that calls itself a pod of tapes.
    let files = secret(&space, "files-restpipe-link", |_| true);
    let volume = restpipe_cluster_tests::Volume::new(&files);
    let directory = volume.path().display().to_string();
    let environment = [
        ("RESTPIPE_DIR", directory.as_str()),
        ("RESTPIPE_SERVER", &at(&web)),
        ("RESTPIPE_INSTANCE", "tapes-1"),
        ("RESTPIPE_GATEWAY", &format!("127.89.0.1:{}", restpipe_cluster_tests::free_port())),
        ("RESTPIPE_ADMIN", "off"),
        ("RESTPIPE_STATSD", "off"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let _liar = Process::start("liar", &node_binary(), &["client"], &environment);
    let tapes = Sidecar::create(&space, "tapes-1", &json!({"restpipe.io/link": "tapes"}));
    tapes.status("Running", true);
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    let record = space.get(&["rpl/files"])["status"]["connections"].clone();
    assert_eq!(record[0]["instance"], "tapes-1");
    assert_eq!(record[0]["pod"], serde_json::Value::Null, "no pod of this link is called so");
    space.condition("rpl/tapes", "Connected", "False", SETTLE_TIME);
}
