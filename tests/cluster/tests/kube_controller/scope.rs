//! A release that is for two namespaces only, with the rights of such a one.

use restpipe_cluster_tests::{Release, SETTLE_TIME, eventually};

use crate::{alone, audit, issued, link, pair, secret, server};

#[test]
fn a_controller_of_some_namespaces_works_there_and_asks_for_nothing_elsewhere() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let (one, two, other) = (
        cluster.namespace("narrow-a"),
        cluster.namespace("narrow-b"),
        cluster.namespace("narrow-c"),
    );
    drop(operator.controller.take());
    let values = ["crds.install=false", r#"watchNamespaces=["narrow-a","narrow-b"]"#];
    let narrow = Release::install(&cluster, "restpipe-narrow", "narrow-system", &values);
    let mark = audit().mark();
    let part = narrow.controller("narrow");
    eventually("it is ready", SETTLE_TIME, || part.ask("/ready"));
    let selector = "{clients: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: narrow-b}}}}}";
    one.apply(&(server("hub", selector) + &link("files", "{server: {name: hub}}")));
    one.condition("rpl/files", "Accepted", "False/RefNotPermitted", SETTLE_TIME);
    two.apply(&link("files", "{server: {name: hub, namespace: narrow-a}}"));
    two.condition("rpl/files", "IdentityIssued", "True", SETTLE_TIME);
    other.apply(&pair());
    two.apply(&pair().replace("files", "own"));
    two.condition("rpl/own", "IdentityIssued", "True", SETTLE_TIME);
    secret(&two, "hub-restpipe-server", |_| true);
    // By labels it cannot select: it may not read those of namespaces.
    one.apply(&server(
        "hub",
        "{clients: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}}",
    ));
    let said = two.condition("rpl/files", "Accepted", "False/RefNotPermitted", SETTLE_TIME);
    assert!(said.contains("the operator may not read labels of namespaces here"), "{said}");
    assert_eq!(other.find(&["secret/hub-restpipe-server"]), None);
    let requests = audit().since(mark, &narrow.user("controller"));
    let refused: Vec<_> = requests.iter().filter(|one| one.code == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(!requests.iter().any(|one| one.object.starts_with("narrow-c/")));
    drop(part);
    // The other release's goes on, and sees to the third one.
    operator.start_controller("restpipe-controller-after");
    issued(&other);
}
