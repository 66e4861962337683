//! What a certificate is for does not change under it.

use restpipe_cluster_tests::Namespace;

use crate::{cluster, object};

const HOSTNAME_CHANGED: &str =
    "hostname can't be changed, the certificate is for it: make another link";
const HOSTNAME_ADDED: &str =
    "hostname can't be added or removed, the certificate is for it: make another link";
const SERVER_CHANGED: &str =
    "server can't be changed, the certificate is of its CA: make another link";
const EXTERNAL: &str = r#"{"name":null,"namespace":null,"external":{"address":"h:1","serverName":"h","secretName":"s"}}"#;

fn patch(space: &Namespace<'_>, link: &str, spec: &str) -> restpipe_cluster_tests::Ran {
    let body = format!(r#"{{"spec":{spec}}}"#);
    space.try_kubectl(&["patch", "rpl", link, "--type=merge", "--dry-run=server", "-p", &body])
}

fn refused(space: &Namespace<'_>, link: &str, spec: &str, reason: &str) {
    let said = patch(space, link, spec).refused();
    assert!(
        said.contains(reason),
        "{link} {spec}\nwas to be refused with: {reason}\nand was with: {said}"
    );
}

#[test]
fn hostname_and_server_of_a_link_stay_what_they_are() {
    let cluster = cluster();
    let space = cluster.namespace("immutable");
    let link = |name: &str, spec: &str| space.apply(&object("RestPipeLink", name, spec));
    link("plain", r#"{"server":{"name":"hub"}}"#);
    link("named", r#"{"server":{"name":"hub","namespace":"shop"},"hostname":"files"}"#);
    link(
        "outside",
        r#"{"server":{"external":{"address":"h:1","serverName":"h","secretName":"s"}}}"#,
    );

    refused(&space, "named", r#"{"hostname":"other"}"#, HOSTNAME_CHANGED);
    refused(&space, "named", r#"{"hostname":null}"#, HOSTNAME_ADDED);
    refused(&space, "plain", r#"{"hostname":"plain"}"#, HOSTNAME_ADDED);

    refused(&space, "plain", r#"{"server":{"name":"other"}}"#, SERVER_CHANGED);
    refused(&space, "plain", r#"{"server":{"namespace":"shop"}}"#, SERVER_CHANGED);
    refused(&space, "named", r#"{"server":{"namespace":"other"}}"#, SERVER_CHANGED);
    refused(&space, "named", r#"{"server":{"namespace":null}}"#, SERVER_CHANGED);
    refused(&space, "plain", &format!(r#"{{"server":{EXTERNAL}}}"#), SERVER_CHANGED);
    refused(&space, "outside", r#"{"server":{"name":"hub","external":null}}"#, SERVER_CHANGED);

    // An external server may move, a client may be suspended, an identity exported.
    patch(&space, "outside", r#"{"server":{"external":{"address":"h:2"}}}"#).ok();
    patch(&space, "plain", r#"{"suspend":true}"#).ok();
    patch(&space, "plain", r#"{"export":{}}"#).ok();
}
