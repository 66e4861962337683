//! What `kubectl get` shows.

use std::time::{Duration, SystemTime};

use restpipe_cluster_tests::{Namespace, run};

use crate::{cluster, object};

/// The words of a line of a table.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn set_status(space: &Namespace<'_>, object: &str, status: &str) {
    let body = format!(r#"{{"status":{status}}}"#);
    space.kubectl(&["patch", object, "--subresource=status", "--type=merge", "-p", &body]);
}

/// A time in so many hours, as Kubernetes writes it.
fn in_hours(hours: u64) -> String {
    let at = SystemTime::now() + Duration::from_secs(hours * 3600);
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let date = run("date", &["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"], &[]).ok();
    date.trim().to_owned()
}

#[test]
fn kubectl_get_shows_what_somebody_wants_to_know_first() {
    let cluster = cluster();
    let space = cluster.namespace("columns");
    space.apply(&object("RestPipeServer", "hub", "{}"));
    space.apply(&object("RestPipeLink", "files", r#"{"server":{"name":"hub"}}"#));
    let (soon, later) = (in_hours(20), in_hours(8000));
    let identity = format!(
        r#"{{"secretName":"s","name":"n","serial":"01","notBefore":"{soon}","notAfter":"{soon}"}}"#
    );
    let condition = |type_: &str, status: &str, reason: &str| {
        format!(
            r#"{{"type":"{type_}","status":"{status}","reason":"{reason}","message":"m","lastTransitionTime":"{soon}"}}"#
        )
    };
    let (ready, connected) =
        (condition("Ready", "False", "HostnameTaken"), condition("Connected", "True", "Connected"));
    let server = format!(
        r#"{{"conditions":[{ready}],"identity":{identity},"clients":{{"declared":3,"accepted":2,"suspended":0,"connected":1}},"ca":{{"phase":"Stable","fingerprint":"ab","notAfter":"{later}"}}}}"#
    );
    set_status(&space, "rps/hub", &server);
    let link = format!(
        r#"{{"conditions":[{ready},{connected}],"identity":{identity},"hostname":"files","server":"columns/hub"}}"#
    );
    set_status(&space, "rpl/files", &link);

    let table = space.kubectl(&["get", "rpl"]);
    let lines: Vec<&str> = table.lines().collect();
    let heads =
        ["NAME", "HOSTNAME", "SERVER", "READY", "REASON", "CONNECTED", "CERT-EXPIRES", "AGE"];
    assert_eq!(words(lines[0]), heads);
    let row = words(lines[1]);
    // A column of Kubernetes' own type for times would say <invalid> of one that is to come.
    assert_eq!(
        row[..7],
        ["files", "files", "columns/hub", "False", "HostnameTaken", "True", &soon]
    );

    let table = space.kubectl(&["get", "rps", "-o", "wide"]);
    let lines: Vec<&str> = table.lines().collect();
    let heads =
        ["NAME", "READY", "REASON", "CONNECTED", "LINKS", "CA-EXPIRES", "CERT-EXPIRES", "AGE"];
    assert_eq!(words(lines[0]), heads);
    let row = words(lines[1]);
    assert_eq!(row[..7], ["hub", "False", "HostnameTaken", "1", "2", &later, &soon]);
    let table = space.kubectl(&["get", "rps"]);
    assert!(!table.contains("CERT-EXPIRES"), "{table}");
}

#[test]
fn both_kinds_go_by_their_category_and_their_short_names() {
    let cluster = cluster();
    let space = cluster.namespace("words");
    space.apply(&object("RestPipeServer", "hub", "{}"));
    space.apply(&object("RestPipeLink", "files", r#"{"server":{"name":"hub"}}"#));
    let mut names: Vec<String> =
        space.kubectl(&["get", "restpipe", "-o", "name"]).lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["restpipelink.restpipe.io/files", "restpipeserver.restpipe.io/hub"]);
    assert_eq!(space.kubectl(&["get", "rps,rpl", "-o", "name"]).lines().count(), 2);
    // What the operator asks for when a server changes.
    let of_hub = ["get", "rpl", "--field-selector", "spec.server.name=hub", "-o", "name"];
    assert_eq!(space.kubectl(&of_hub).lines().count(), 1);
    let of_other = ["get", "rpl", "--field-selector", "spec.server.name=other", "-o", "name"];
    assert_eq!(space.kubectl(&of_other), "");
}
