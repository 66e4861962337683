//! A new root for a server, as a user asks for it.

use restpipe_cluster_tests::{Namespace, SETTLE_TIME, eventually};
use serde_json::{Value, json};

use crate::pki::Pki;
use crate::{event, issued, link, pair, secret, server, shared};

fn ca(space: &Namespace<'_>) -> Value {
    space.get(&["rps/hub"])["status"]["ca"].clone()
}

/// `restpipe-operator rotate-ca server/hub ARGS…`.
fn rotate(space: &Namespace<'_>, args: &[&str]) -> restpipe_cluster_tests::Ran {
    let all = [&["rotate-ca", "server/hub", "-n", &space.name], args].concat();
    space.cluster.operator(&all)
}

fn roots(pem: &[u8]) -> usize {
    String::from_utf8_lossy(pem).matches("BEGIN CERTIFICATE").count()
}

#[test]
fn a_rotation_that_kubectl_asks_for_waits_for_a_client_outside_until_it_is_told_to_go_on() {
    let operator = shared();
    let space = operator.release.cluster.namespace("by-hand");
    space.apply(&(pair() + &link("plant-7", "{server: {name: hub}, export: {}}")));
    issued(&space);
    space.condition("rpl/plant-7", "IdentityIssued", "True", SETTLE_TIME);
    let said = rotate(&space, &["--go-on"]).refused();
    assert!(
        said.contains("no rotation of the CA of by-hand/hub is under way: without --go-on"),
        "{said}"
    );
    let untouched = space.get(&["rps/hub"])["metadata"]["annotations"].clone();
    assert_eq!(untouched["restpipe.io/rotate-ca-go-on"], Value::Null);

    space.kubectl(&["annotate", "rps/hub", "restpipe.io/rotate-ca=now"]);
    secret(&space, "files-restpipe-link", |now| roots(&now["ca.crt"]) == 2);
    event(&space, "RestPipeServer", "hub", "Normal RotationStarted: ");
    eventually("it waits for the client outside", SETTLE_TIME, || {
        let ca = ca(&space);
        let waits = ca["phase"] == "Spreading" && ca["waitingFor"] == json!(["plant-7"]);
        if waits { Ok(()) } else { Err(ca.to_string()) }
    });
    let said = space.condition("rps/hub", "IdentityIssued", "True/RotationWaits", SETTLE_TIME);
    assert!(said.contains("plant-7"), "{said}");

    let said = rotate(&space, &["--go-on"]).ok();
    assert!(
        said.starts_with(
            "The rotation of the CA of by-hand/hub goes on without clients outside of the cluster."
        ) && said.contains("It waited for: plant-7."),
        "{said}"
    );
    eventually("it waits for nobody", SETTLE_TIME, || {
        let ca = ca(&space);
        let good = ca["phase"] == "Spreading" && ca["waitingFor"] == Value::Null;
        if good { Ok(()) } else { Err(ca.to_string()) }
    });
    space.condition("rps/hub", "IdentityIssued", "True/Issued", SETTLE_TIME);
}

#[test]
fn a_ca_of_the_users_is_rotated_by_its_secret_and_not_by_a_command() {
    let operator = shared();
    let space = operator.release.cluster.namespace("not-ours");
    let pki = Pki::new();
    pki.ca("corp");
    pki.secret(&space, "corp-ca", &[("tls.crt", "corp/ca.crt"), ("tls.key", "corp/ca.key")]);
    let own = "{identity: {caSecretName: corp-ca}}";
    space.apply(&(server("hub", own) + &link("files", "{server: {name: hub}}")));
    let (_, files) = issued(&space);
    let said = rotate(&space, &[]).refused();
    assert!(
        said.contains(
            "the CA of not-ours/hub is your own: put another one into the Secret corp-ca"
        ),
        "{said}"
    );
    let annotations = space.get(&["rps/hub"])["metadata"]["annotations"].clone();
    assert_eq!(annotations["restpipe.io/rotate-ca"], Value::Null);
    // Asked for past the command line, it is told as well.
    space.kubectl(&["annotate", "rps/hub", "restpipe.io/rotate-ca=now"]);
    event(
        &space,
        "RestPipeServer",
        "hub",
        "Warning RotationNotDone: the CA is your own: put another one into the Secret",
    );
    assert_eq!(ca(&space)["phase"], "Stable");
    assert!(secret(&space, "files-restpipe-link", |_| true) == files);
    // What both say is what works, and then it can be told to go on.
    pki.ca("next");
    pki.secret(&space, "corp-ca", &[("tls.crt", "next/ca.crt"), ("tls.key", "next/ca.key")]);
    secret(&space, "files-restpipe-link", |now| roots(&now["ca.crt"]) == 2);
    eventually("the new one is spread", SETTLE_TIME, || {
        let ca = ca(&space);
        if ca["phase"] == "Spreading" { Ok(()) } else { Err(ca.to_string()) }
    });
    let said = rotate(&space, &["--go-on"]).ok();
    assert!(said.contains("goes on without clients outside"), "{said}");
}

#[test]
fn what_is_no_server_is_said_to_be_none() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("no-server");
    space.apply(&pair());
    let said = rotate(&space, &["extra"]);
    assert_eq!(said.status, Some(2), "{said:?}");
    for (target, reason) in [
        ("server/nobody", "there is no RestPipeServer nobody in the namespace no-server"),
        ("link/files", "give server/NAME"),
        ("hub", "is neither link/NAME nor server/NAME"),
    ] {
        let said = cluster.operator(&["rotate-ca", target, "-n", "no-server"]).refused();
        assert!(said.contains(reason), "{target}: {said}");
    }
}
