//! Which links a server takes.

use restpipe_cluster_tests::{SETTLE_TIME, eventually, run};
use serde_json::Value;

use crate::{event, issued, link, pair, secret, server, shared};

#[test]
fn the_oldest_link_has_the_hostname_and_the_next_one_takes_over() {
    let operator = shared();
    let space = operator.release.cluster.namespace("taken");
    space.apply(&pair());
    issued(&space);
    // Ages have whole seconds, and of the same age the first name has it.
    let files = space.get(&["rpl/files"]);
    eventually("the next second", SETTLE_TIME, || {
        let now = run("date", &["-u", "+%FT%TZ"], &[]).output;
        let same = files["metadata"]["creationTimestamp"].as_str() == Some(now.trim());
        if same { Err(now) } else { Ok(()) }
    });
    space.apply(&link("a-younger", "{server: {name: hub}, hostname: files}"));
    let said = space.condition("rpl/a-younger", "Accepted", "False/HostnameTaken", SETTLE_TIME);
    assert!(
        said.contains("the older link taken/files has the hostname files at the server taken/hub"),
        "{said}"
    );
    let said =
        space.condition("rpl/a-younger", "IdentityIssued", "False/HostnameTaken", SETTLE_TIME);
    assert_eq!(said, "nothing is issued for a link that is not accepted");
    space.condition("rpl/a-younger", "Ready", "False/HostnameTaken", SETTLE_TIME);
    event(&space, "RestPipeLink", "a-younger", "Warning HostnameTaken: ");
    assert_eq!(space.find(&["secret/a-younger-restpipe-link"]), None);
    space.condition("rpl/files", "Accepted", "True", SETTLE_TIME);
    // It never flips, whatever is looked at.
    space.kubectl(&["label", "rpl/files", "rpl/a-younger", "rps/hub", "touched=1"]);
    crate::quiet::reconciled(&operator, &space);
    space.condition("rpl/files", "Accepted", "True", SETTLE_TIME);
    space.condition("rpl/a-younger", "Accepted", "False/HostnameTaken", SETTLE_TIME);

    space.kubectl(&["delete", "rpl/files"]);
    space.condition("rpl/a-younger", "IdentityIssued", "True", SETTLE_TIME);
    secret(&space, "a-younger-restpipe-link", |_| true);
}

#[test]
fn a_link_without_a_server_waits_for_it() {
    let operator = shared();
    let space = operator.release.cluster.namespace("waiting");
    space.apply(&link("files", "{server: {name: hub}}"));
    let said = space.condition("rpl/files", "Accepted", "False/ServerNotFound", SETTLE_TIME);
    assert!(said.contains("there is no RestPipeServer waiting/hub"), "{said}");
    space.apply(&server("hub", "{}"));
    issued(&space);
    space.kubectl(&["delete", "rps/hub"]);
    space.condition("rpl/files", "Accepted", "False/ServerNotFound", SETTLE_TIME);
}

#[test]
fn a_server_takes_links_of_the_namespaces_that_it_permits() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let home = cluster.namespace("home");
    let guest = cluster.namespace("guest");
    home.apply(&server("hub", "{}"));
    guest.apply(&link("files", "{server: {name: hub, namespace: home}}"));
    let said = guest.condition("rpl/files", "Accepted", "False/RefNotPermitted", SETTLE_TIME);
    assert!(
        said.contains("the server home/hub takes links of its own namespace only, not of guest"),
        "{said}"
    );
    assert_eq!(guest.find(&["secret/files-restpipe-link"]), None);

    home.apply(&server("hub", "{clients: {namespaces: {from: All}}}"));
    guest.condition("rpl/files", "IdentityIssued", "True", SETTLE_TIME);
    let issued = secret(&guest, "files-restpipe-link", |_| true);
    assert_eq!(crate::name_in(&issued["tls.crt"]), "DNS:files.clients.hub.home.restpipe");
    let listed = |wanted: bool| {
        let text = if wanted { r#"clients = ["files"]"# } else { "clients = []" };
        secret(&home, "hub-restpipe-server", |hub| {
            String::from_utf8_lossy(&hub["node.toml"]).contains(text)
        });
    };
    listed(true);

    let selector =
        "{clients: {namespaces: {from: Selector, selector: {matchLabels: {team: web}}}}}";
    home.apply(&server("hub", selector));
    guest.condition("rpl/files", "Accepted", "False/RefNotPermitted", SETTLE_TIME);
    listed(false);
    cluster.kubectl(&["label", "namespace", "guest", "team=web"]);
    guest.condition("rpl/files", "Accepted", "True", SETTLE_TIME);
    listed(true);
    cluster.kubectl(&["label", "namespace", "guest", "team-"]);
    guest.condition("rpl/files", "Accepted", "False/RefNotPermitted", SETTLE_TIME);
    listed(false);
    event(&guest, "RestPipeLink", "files", "Warning RefNotPermitted: ");
}

#[test]
fn the_longest_names_that_the_kinds_take_fit_into_a_certificate() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let long = format!("n{}", "s".repeat(62));
    let space = cluster.namespace(&long);
    let name = "h".repeat(40);
    space.apply(&server(&name, "{}"));
    let hostname = format!("{}.{}", "a".repeat(31), "b".repeat(31));
    let of = |hostname: &str| format!("{{server: {{name: {name}}}, hostname: {hostname}}}");
    space.apply(&link("short", &of("files")));
    space.apply(&link("dotted", &of(&hostname)));
    // 63 + 7 + 1 + 40 + 1 + 63 + 9 is below DNS' 253: what the schema lets through is never too long.
    for one in ["rpl/short", "rpl/dotted"] {
        space.condition(one, "IdentityIssued", "True", SETTLE_TIME);
    }
}

#[test]
fn services_follow_the_server_and_a_foreign_one_is_left_alone() {
    let operator = shared();
    let space = operator.release.cluster.namespace("services");
    space.apply("{apiVersion: v1, kind: Service, metadata: {name: hub-restpipe}, spec: {ports: [{port: 80}]}}");
    let before = space.get(&["service/hub-restpipe"])["metadata"]["resourceVersion"].clone();
    space.apply(&pair());
    let said = space.condition("rps/hub", "Accepted", "False/ServiceConflict", SETTLE_TIME);
    assert!(
        said.contains(
            "the Service services/hub-restpipe is there and was not made for this server"
        ),
        "{said}"
    );
    assert_eq!(space.get(&["service/hub-restpipe"])["metadata"]["resourceVersion"], before);
    space.kubectl(&["delete", "service", "hub-restpipe"]);
    space.condition("rps/hub", "Accepted", "True", SETTLE_TIME);

    let port = |port: i64, type_: &str| {
        eventually(&format!("a {type_} with the port {port}"), SETTLE_TIME, || {
            let service = space.find(&["service/hub-restpipe"]).ok_or("there is none")?;
            let spec = &service["spec"];
            let good = spec["ports"][0]["port"] == port && spec["type"] == type_;
            if good { Ok(service) } else { Err(spec.to_string()) }
        })
    };
    port(7072, "ClusterIP");
    space.apply(&server(
        "hub",
        "{service: {type: NodePort, port: 7443, annotations: {a.example/b: c}}}",
    ));
    let service = port(7443, "NodePort");
    assert_eq!(service["metadata"]["annotations"]["a.example/b"], "c");
    secret(&space, "files-restpipe-link", |files| {
        String::from_utf8_lossy(&files["node.toml"]).contains("hub-restpipe.services.svc:7443")
    });
    // Changed or deleted by somebody, it is as it was.
    space.kubectl(&[
        "patch",
        "service/hub-restpipe",
        "--type=merge",
        "-p",
        r#"{"spec":{"selector":{"restpipe.io/role":"client"}}}"#,
    ]);
    eventually("the selector is mended", SETTLE_TIME, || {
        let selector = space.get(&["service/hub-restpipe"])["spec"]["selector"].clone();
        if selector["restpipe.io/role"] == "server" { Ok(()) } else { Err(selector.to_string()) }
    });
    space.kubectl(&["delete", "service", "hub-restpipe", "hub-restpipe-replicas"]);
    port(7443, "NodePort");
    space.apply(&server("hub", "{}"));
    let service = port(7072, "ClusterIP");
    assert_eq!(service["metadata"]["annotations"]["a.example/b"], Value::Null);
    eventually("the headless one is there", SETTLE_TIME, || {
        space.find(&["service/hub-restpipe-replicas"]).ok_or_else(|| "it is not".to_owned())
    });
}
