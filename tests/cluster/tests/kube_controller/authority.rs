//! CAs of users, and those that were lost.

use restpipe_cluster_tests::{Namespace, SETTLE_TIME, SYSTEM, eventually};

use crate::pki::Pki;
use crate::{event, issued, link, pair, secret, server, shared, uid};

const WITH_CA: &str = "{identity: {caSecretName: corp-ca}}";

/// A server with a CA of the user's, and its link.
fn with_ca(space: &Namespace<'_>) {
    space.apply(&(server("hub", WITH_CA) + &link("files", "{server: {name: hub}}")));
}

fn of_ca(pki: &Pki, file: &str, bundle: &[u8]) -> bool {
    let ca = std::fs::read_to_string(pki.path(file)).expect("the CA's file");
    String::from_utf8_lossy(bundle).contains(ca.trim())
}

#[test]
fn a_ca_of_ones_own_signs() {
    let operator = shared();
    let space = operator.release.cluster.namespace("own-ca");
    let pki = Pki::new();
    pki.ca("corp");
    with_ca(&space);
    let said = space.condition("rps/hub", "Accepted", "False/SecretNotFound", SETTLE_TIME);
    assert!(
        said.contains(
            "spec.identity.caSecretName names the Secret own-ca/corp-ca, which is not there"
        ),
        "{said}"
    );
    space.condition("rpl/files", "IdentityIssued", "False/CaUnavailable", SETTLE_TIME);
    assert_eq!(space.find(&["secret/files-restpipe-link"]), None);

    pki.secret(&space, "corp-ca", &[("tls.crt", "corp/ca.crt"), ("tls.key", "corp/ca.key")]);
    let (hub, files) = issued(&space);
    assert!(of_ca(&pki, "corp/ca.crt", &hub["ca.crt"]));
    pki.sh("mkdir leaf");
    std::fs::write(pki.path("leaf/tls.crt"), &files["tls.crt"]).expect("it is written");
    pki.sh("openssl verify -CAfile corp/ca.crt leaf/tls.crt");
    // The user's key is the user's, and no other account of the namespace gets a copy.
    for name in ["hub-restpipe-server", "files-restpipe-link"] {
        let keys: Vec<String> = secret(&space, name, |_| true).into_keys().collect();
        assert_eq!(keys, ["ca.crt", "node.toml", "tls.crt", "tls.key"]);
    }
    space.condition("rps/hub", "Accepted", "True", SETTLE_TIME);
}

#[test]
fn a_secret_that_is_no_ca_says_what_is_wrong_with_it() {
    let operator = shared();
    let space = operator.release.cluster.namespace("no-ca");
    let pki = Pki::new();
    pki.ca("corp");
    pki.ca("other");
    pki.leaf("client", "leaf", "corp");
    pki.dated_ca("expired", "200101000000Z", "210101000000Z");
    pki.dated_ca("early", "400101000000Z", "410101000000Z");
    pki.sh("echo hello >garbage; : >empty; head -c 300 corp/ca.crt >half");
    with_ca(&space);
    let wrong = |certificate: &str, key: &str, words: &[&str]| {
        pki.secret(&space, "corp-ca", &[("tls.crt", certificate), ("tls.key", key)]);
        eventually(&format!("{certificate} and {key} are refused"), SETTLE_TIME, || {
            let server = space.get(&["rps/hub"]);
            let (seen, said) = restpipe_cluster_tests::condition_of(&server, "Accepted");
            let good = seen == "False/SecretInvalid"
                && said.starts_with("the Secret no-ca/corp-ca holds no CA that can be used: ")
                && words.iter().all(|word| said.contains(word));
            if good { Ok(()) } else { Err(format!("{seen}: {said}")) }
        });
        space.condition("rpl/files", "IdentityIssued", "False/CaUnavailable", SETTLE_TIME);
    };
    wrong("garbage", "corp/ca.key", &[]);
    wrong("half", "corp/ca.key", &[]);
    wrong("corp/ca.crt", "garbage", &[]);
    wrong("empty", "corp/ca.key", &["it has no tls.crt"]);
    wrong("corp/ca.crt", "other/ca.key", &[]);
    wrong("leaf/tls.crt", "leaf/tls.key", &["CA"]);
    wrong("expired.crt", "expired.key", &["2020-01-01", "2021-01-01"]);
    wrong("early.crt", "early.key", &["2040-01-01", "2041-01-01"]);
    pki.secret(&space, "corp-ca", &[("tls.crt", "corp/ca.crt")]);
    eventually("a missing key is named", SETTLE_TIME, || {
        let said = space.condition("rps/hub", "Accepted", "False/SecretInvalid", SETTLE_TIME);
        if said.contains("it has no tls.key") { Ok(()) } else { Err(said) }
    });
    assert_eq!(space.find(&["secret/files-restpipe-link"]), None);
    assert_eq!(space.find(&["secret/hub-restpipe-server"]), None);
    pki.secret(&space, "corp-ca", &[("tls.crt", "corp/ca.crt"), ("tls.key", "corp/ca.key")]);
    issued(&space);
}

#[test]
fn a_users_ca_that_goes_bad_takes_nothing_away() {
    let operator = shared();
    let space = operator.release.cluster.namespace("goes-bad");
    let pki = Pki::new();
    pki.ca("corp");
    pki.sh("echo hello >garbage");
    pki.secret(&space, "corp-ca", &[("tls.crt", "corp/ca.crt"), ("tls.key", "corp/ca.key")]);
    with_ca(&space);
    let (hub, files) = issued(&space);
    pki.secret(&space, "corp-ca", &[("tls.crt", "garbage"), ("tls.key", "garbage")]);
    space.condition("rps/hub", "Accepted", "False/SecretInvalid", SETTLE_TIME);
    let now = secret(&space, "files-restpipe-link", |_| true);
    assert!(now["tls.crt"] == files["tls.crt"] && now["ca.crt"] == files["ca.crt"]);
    assert!(secret(&space, "hub-restpipe-server", |_| true)["tls.crt"] == hub["tls.crt"]);
}

#[test]
fn a_lost_ca_is_replaced_and_the_former_one_is_trusted_meanwhile() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("lost-ca");
    space.apply(&pair());
    let (hub, _) = issued(&space);
    let name = format!("restpipe-ca-{}", uid(&space.get(&["rps/hub"])));
    for damage in ["delete", "patch"] {
        let before = cluster.secret(SYSTEM, &name).expect("the CA");
        if damage == "delete" {
            cluster.kubectl(&["-n", SYSTEM, "delete", "secret", &name]);
        } else {
            let patch = r#"{"data":{"ca.key":"aGVsbG8="}}"#;
            cluster.kubectl(&["-n", SYSTEM, "patch", "secret", &name, "--type=merge", "-p", patch]);
        }
        let after = eventually("there is a CA", SETTLE_TIME, || {
            let found = cluster.secret(SYSTEM, &name).ok_or("there is none")?;
            if found["ca.crt"] == before["ca.crt"] {
                Err("it is the former one".to_owned())
            } else {
                Ok(found)
            }
        });
        let has = |bundle: &[u8], pem: &[u8]| {
            String::from_utf8_lossy(bundle).contains(String::from_utf8_lossy(pem).trim())
        };
        secret(&space, "hub-restpipe-server", |now| {
            has(&now["ca.crt"], &after["ca.crt"]) && has(&now["ca.crt"], &before["ca.crt"])
        });
    }
    assert!(secret(&space, "files-restpipe-link", |_| true)["ca.crt"] != hub["ca.crt"]);
    event(&space, "RestPipeServer", "hub", "Warning CaRecovered: the CA's key was lost");
}

#[test]
fn a_rotation_of_the_ca_is_spread_first() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("rotate");
    space.apply(&pair());
    let (hub, files) = issued(&space);
    let roots = |pem: &[u8]| String::from_utf8_lossy(pem).matches("BEGIN CERTIFICATE").count();
    cluster.operator(&["rotate-ca", "server/hub", "-n", "rotate"]).ok();
    let spread = secret(&space, "files-restpipe-link", |now| roots(&now["ca.crt"]) == 2);
    assert!(spread["tls.crt"] == files["tls.crt"], "nothing is signed by the new root yet");
    let spread = secret(&space, "hub-restpipe-server", |now| roots(&now["ca.crt"]) == 2);
    assert!(spread["tls.crt"] == hub["tls.crt"]);
    eventually("the status says so", SETTLE_TIME, || {
        let ca = space.get(&["rps/hub"])["status"]["ca"].clone();
        if ca["phase"] == "Spreading" { Ok(()) } else { Err(ca.to_string()) }
    });
    event(&space, "RestPipeServer", "hub", "Normal RotationStarted: ");
}
