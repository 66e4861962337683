//! Links to servers that this cluster's operator does not know.

use restpipe_cluster_tests::{
    Process, SETTLE_TIME, Sidecar, address_of_a_pod, eventually, free_port, node_binary,
};
use serde_json::{Value, json};

use crate::pki::Pki;
use crate::{event, issued, link, pair, secret, shared};

const FILES: [(&str, &str); 3] =
    [("tls.crt", "files/tls.crt"), ("tls.key", "files/tls.key"), ("ca.crt", "files/ca.crt")];

fn external(name: &str, address: &str, server_name: &str) -> String {
    let spec = format!(
        "{{server: {{external: {{address: \"{address}\", serverName: {server_name}, secretName: imported}}}}}}"
    );
    link(name, &spec)
}

#[test]
fn an_imported_identity_is_taken_and_its_pipe_is_recorded() {
    let operator = shared();
    let space = operator.release.cluster.namespace("imported");
    let pki = Pki::new();
    pki.ca("corp");
    pki.leaf("server", "hub.example", "corp");
    pki.leaf("client", "files", "corp");
    let ip = address_of_a_pod();
    let address = format!("{ip}:7072");
    space.apply(&external("files", &address, "hub.example"));
    let said = space.condition("rpl/files", "IdentityIssued", "False/SecretNotFound", SETTLE_TIME);
    assert!(
        said.contains("the Secret imported/imported, which is not there")
            && said.contains("restpipe-operator export"),
        "{said}"
    );
    pki.secret(&space, "imported", &FILES);
    space.condition("rpl/files", "IdentityIssued", "True", SETTLE_TIME);
    let made = secret(&space, "files-restpipe-link", |_| true);
    assert!(made["tls.crt"] == std::fs::read(pki.path("files/tls.crt")).expect("it is there"));
    let toml = String::from_utf8_lossy(&made["node.toml"]).into_owned();
    assert!(
        toml.contains(&format!("server = \"{address}\""))
            && toml.contains("server-name = \"hub.example\""),
        "{toml}"
    );
    let status = space.get(&["rpl/files"])["status"].clone();
    assert_eq!(status["server"], *address);
    assert_eq!(status["hostname"], "files");
    assert_eq!(status["identity"]["renewalTime"], Value::Null);

    // A plain host, and a pod.
    let directory = pki.path("hub.example");
    let gateway = format!("127.89.1.1:{}", free_port());
    let args = [
        "server",
        "--dir",
        &directory,
        "--listen",
        &address,
        "--gateway",
        &gateway,
        "--admin",
        "off",
    ];
    let host = Process::start("plain-host", &node_binary(), &args, &[]);
    let mut pod = Sidecar::create(&space, "files-1", &json!({"restpipe.io/link": "files"}));
    pod.run(&[]);
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    space.condition("rpl/files", "Ready", "True", SETTLE_TIME);
    let record = space.get(&["rpl/files"])["status"]["connections"].clone();
    assert_eq!(record[0]["pod"], "files-1");
    assert!(pod.curl("/server/time").ok().contains("time_from_server"));
    drop(host);
    space.condition("rpl/files", "Connected", "False/ConnectionRefused", SETTLE_TIME);

    // A server of another name at that address.
    pki.leaf("server", "other.example", "corp");
    let directory = pki.path("other.example");
    let args = [
        "server",
        "--dir",
        &directory,
        "--listen",
        &address,
        "--gateway",
        &gateway,
        "--admin",
        "off",
    ];
    let _other = Process::start("other-host", &node_binary(), &args, &[]);
    space.condition("rpl/files", "Connected", "False/NameMismatch", SETTLE_TIME);
}

#[test]
fn an_imported_secret_that_is_of_no_use_says_why_and_what_was_good_stays() {
    let operator = shared();
    let space = operator.release.cluster.namespace("garbage");
    let pki = Pki::new();
    pki.ca("corp");
    pki.ca("other");
    pki.leaf("client", "files", "corp");
    pki.leaf("client", "tapes", "corp");
    pki.leaf("server", "hub.example", "corp");
    pki.sh("echo hello >garbage; : >empty; awk 'BEGIN { for (i = 0; i < 40000; i++) print \"AAAAAAAAAAAAAAAA\" }' >long");
    space.apply(&external("files", "hub.example:7072", "hub.example"));
    pki.secret(&space, "imported", &FILES);
    space.condition("rpl/files", "IdentityIssued", "True", SETTLE_TIME);
    let good = secret(&space, "files-restpipe-link", |_| true);
    let wrong = |certificate: &str, key: &str, ca: &str, word: &str| {
        pki.secret(
            &space,
            "imported",
            &[("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)],
        );
        eventually(&format!("{certificate}, {key}, {ca} are refused"), SETTLE_TIME, || {
            let object = space.get(&["rpl/files"]);
            let (seen, said) = restpipe_cluster_tests::condition_of(&object, "IdentityIssued");
            let good = seen == "False/SecretInvalid"
                && said.starts_with(
                    "the Secret garbage/imported holds no identity that can be used: ",
                )
                && said.contains(word);
            if good { Ok(()) } else { Err(format!("{seen}: {said}")) }
        });
    };
    wrong("garbage", "files/tls.key", "files/ca.crt", "");
    wrong("files/tls.crt", "empty", "files/ca.crt", "it has no tls.key");
    wrong("files/tls.crt", "tapes/tls.key", "files/ca.crt", "");
    wrong("files/tls.crt", "files/tls.key", "other/ca.crt", "");
    wrong("hub.example/tls.crt", "hub.example/tls.key", "files/ca.crt", "");
    wrong("files/tls.crt", "files/tls.key", "garbage", "");
    wrong("long", "files/tls.key", "files/ca.crt", "");
    space.condition("rpl/files", "Ready", "False/SecretInvalid", SETTLE_TIME);
    assert!(secret(&space, "files-restpipe-link", |_| true) == good);
    pki.secret(&space, "imported", &FILES);
    space.condition("rpl/files", "IdentityIssued", "True", SETTLE_TIME);
    // The user's own Secret was read, and nothing else.
    let imported = space.get(&["secret/imported", "--show-managed-fields"]);
    assert_eq!(imported["metadata"]["ownerReferences"], Value::Null);
    let managers = imported["metadata"]["managedFields"].to_string();
    assert!(managers.contains("kubectl") && !managers.contains("restpipe-operator"), "{managers}");
}

#[test]
fn an_exported_identity_works_on_a_plain_host() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("exported");
    space.apply(&(pair() + &link("tapes", "{server: {name: hub}, export: {}}")));
    issued(&space);
    let web = crate::pipes::hub(&space, "web-1");
    space.condition("rpl/tapes", "Injected", "True/Exported", SETTLE_TIME);
    space.condition("rpl/tapes", "Connected", "False/ExportNotConnected", SETTLE_TIME);
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("tapes").display().to_string();
    let address = crate::pipes::at(&web);
    cluster
        .operator(&["export", "link/tapes", "-n", "exported", "--dir", &to, "--address", &address])
        .ok();
    let gateway = format!("127.89.1.2:{}", free_port());
    let args = ["client", "--dir", &to, "--gateway", &gateway, "--admin", "off"];
    let _client = Process::start("exported", &node_binary(), &args, &[]);
    space.condition("rpl/tapes", "Connected", "True", SETTLE_TIME);
    let said = web.curl("/client/tapes/time").ok();
    assert!(said.contains("time_from_client"), "{said}");
    let record = space.get(&["rpl/tapes"])["status"]["connections"].clone();
    assert_eq!(record[0]["pod"], Value::Null);
    // Its end is far away, and it is not renewed by itself.
    let identity = space.get(&["rpl/tapes"])["status"]["identity"].clone();
    assert_eq!(identity["renewalTime"], Value::Null);
    event(&space, "RestPipeLink", "tapes", "Normal Connected: ");
}
