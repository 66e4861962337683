//! The routing record: what the operator sees of pipes between real sidecars.

use std::time::{Duration, Instant};

use restpipe_cluster_tests::{Namespace, Operator, SETTLE_TIME, Sidecar, eventually};
use serde_json::{Value, json};

use crate::{CUT_OFF, audit, event, issued, link, pair, secret, server, shared};

/// Within this time it is told that a server's pod is silent: 10 s until a pipe is given up and 5 s
/// for an attempt, for the operator and for the client, whose pods are asked every 10 s at first.
const SILENCE_IS_TOLD: Duration = Duration::from_secs(60);

/// A pod of the server `hub`, ready.
pub(crate) fn hub<'a>(space: &'a Namespace<'a>, name: &str) -> Sidecar<'a> {
    let mut pod = Sidecar::create(space, name, &json!({"restpipe.io/server": "hub"}));
    pod.run(&[]);
    pod
}

/// A pod of a link, whose name of the server leads to `to`.
pub(crate) fn client<'a>(
    space: &'a Namespace<'a>,
    name: &str,
    link: &str,
    to: &str,
) -> Sidecar<'a> {
    let mut pod = Sidecar::create(space, name, &json!({"restpipe.io/link": link}));
    pod.run(&[("RESTPIPE_SERVER", to)]);
    pod
}

/// Where a pod of a server takes pipes.
pub(crate) fn at(server: &Sidecar<'_>) -> String {
    format!("{}:7072", server.ip)
}

fn connections(space: &Namespace<'_>, link: &str) -> Vec<Value> {
    let found = space.get(&[link]);
    found["status"]["connections"].as_array().cloned().unwrap_or_default()
}

fn counts(space: &Namespace<'_>, wanted: &Value) {
    eventually(&format!("the server counts {wanted}"), SETTLE_TIME, || {
        let found = space.get(&["rps/hub"])["status"]["clients"].clone();
        if found == *wanted { Ok(()) } else { Err(found.to_string()) }
    });
}

/// Waits until a pod has no pipe, in whatever state, which has to be soon after `since`.
fn is_cut_off(pod: &Sidecar<'_>, since: Instant) {
    eventually(&format!("{} has no pipe", pod.name), CUT_OFF, || {
        let said =
            restpipe_cluster_tests::run("curl", &["-sS", "-m", "2", &pod.admin("/status")], &[])
                .ok();
        let status: Value = serde_json::from_str(&said).map_err(|error| error.to_string())?;
        let peers = status["peers"].as_array().ok_or_else(|| said.clone())?;
        if peers.is_empty() { Ok(()) } else { Err(format!("{peers:?}")) }
    });
    let took = since.elapsed();
    assert!(took < CUT_OFF, "{} was cut off after {took:?}", pod.name);
}

fn controller_log(operator: &Operator) -> String {
    operator.controller.as_ref().map(|part| part.process.log()).unwrap_or_default()
}

#[test]
fn a_pipe_is_recorded_and_both_sides_call_each_other() {
    let operator = shared();
    let space = operator.release.cluster.namespace("record");
    space.apply(&pair());
    issued(&space);
    space.condition("rps/hub", "Injected", "False/NoPods", SETTLE_TIME);
    space.condition("rps/hub", "Ready", "False/NoPods", SETTLE_TIME);
    space.condition("rpl/files", "Connected", "False/NoPods", SETTLE_TIME);

    let web = hub(&space, "web-1");
    space.condition("rps/hub", "Ready", "True/Ready", SETTLE_TIME);
    assert_eq!(space.get(&["rps/hub"])["status"]["pods"], json!(["web-1"]));
    let files = client(&space, "files-1", "files", &at(&web));
    let said = space.condition("rpl/files", "Connected", "True/Connected", SETTLE_TIME);
    assert_eq!(said, "1 pipe is up");
    space.condition("rpl/files", "Ready", "True/Ready", SETTLE_TIME);
    let record = connections(&space, "rpl/files");
    assert_eq!(record.len(), 1, "{record:?}");
    assert_eq!(record[0]["pod"], "files-1");
    assert_eq!(record[0]["instance"], "files-1");
    assert_eq!(record[0]["server"], "web-1");
    assert!(record[0]["since"].is_string() && record[0]["address"].is_string(), "{record:?}");
    counts(&space, &json!({"declared": 1, "accepted": 1, "suspended": 0, "connected": 1}));
    event(&space, "RestPipeLink", "files", "Normal Connected: 1 pipe is up");

    let said = files.curl("/server/time").ok();
    assert!(said.contains("time_from_server"), "{said}");
    let said = web.curl("/client/files/time").ok();
    assert!(said.contains("time_from_client"), "{said}");
    // The operator's own pipe is nobody's client.
    let peers = web.curl("/-/peers").ok();
    assert!(!peers.contains("operator.restpipe"), "{peers}");

    let second = client(&space, "files-2", "files", &at(&web));
    eventually("both pods are in the record", SETTLE_TIME, || {
        let pods: Vec<Value> =
            connections(&space, "rpl/files").iter().map(|one| one["pod"].clone()).collect();
        if pods == [json!("files-1"), json!("files-2")] { Ok(()) } else { Err(format!("{pods:?}")) }
    });
    second.delete();
    eventually("one is left", SETTLE_TIME, || {
        let found = connections(&space, "rpl/files");
        if found.len() == 1 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    files.delete();
    space.condition("rpl/files", "Connected", "False/NoPods", SETTLE_TIME);
    // Nothing to be warned of: somebody has scaled it down.
    event(&space, "RestPipeLink", "files", "Normal Disconnected: NoPods: ");
    counts(&space, &json!({"declared": 1, "accepted": 1, "suspended": 0, "connected": 0}));
    web.delete();
    space.condition("rps/hub", "Ready", "False/NoPods", SETTLE_TIME);
}

#[test]
fn a_server_that_goes_takes_its_pipes_out_of_the_record() {
    let operator = shared();
    let space = operator.release.cluster.namespace("server-gone");
    space.apply(&pair());
    issued(&space);
    let web = hub(&space, "web-1");
    let _files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    web.delete();
    let said = space.condition("rpl/files", "Connected", "False/ServerNotReady", SETTLE_TIME);
    assert!(said.contains("the server server-gone/hub is not ready (NoPods)"), "{said}");
    assert_eq!(connections(&space, "rpl/files"), Vec::<Value>::new());
    counts(&space, &json!({"declared": 1, "accepted": 1, "suspended": 0, "connected": 0}));
    event(&space, "RestPipeLink", "files", "Warning Disconnected: ");
}

#[test]
fn a_server_pod_that_is_ready_and_silent_leaves_no_link_connected() {
    let operator = shared();
    let space = operator.release.cluster.namespace("silent");
    space.apply(&pair());
    issued(&space);
    let web = hub(&space, "web-1");
    let _files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    let process = web.process.as_ref().expect("it runs");
    process.signal("STOP");
    let said = space.condition("rpl/files", "Connected", "Unknown/ServerNotReady", SILENCE_IS_TOLD);
    assert!(said.contains("(ServerSilent): the operator cannot ask the pod web-1"), "{said}");
    assert_eq!(connections(&space, "rpl/files"), Vec::<Value>::new());
    process.signal("CONT");
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
}

#[test]
fn a_suspended_client_is_cut_off_and_comes_back() {
    let operator = shared();
    let space = operator.release.cluster.namespace("suspended");
    space.apply(&pair());
    issued(&space);
    let web = hub(&space, "web-1");
    let files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    let patch = |suspend: bool| {
        let body = json!({"spec": {"suspend": suspend}}).to_string();
        space.kubectl(&["patch", "rpl/files", "--type=merge", "-p", &body]);
    };
    let since = Instant::now();
    patch(true);
    is_cut_off(&files, since);
    let said = space.condition("rpl/files", "Connected", "False/Suspended", SETTLE_TIME);
    assert!(said.contains("spec.suspend is true"), "{said}");
    counts(&space, &json!({"declared": 1, "accepted": 1, "suspended": 1, "connected": 0}));
    // A server that starts meanwhile knows it from its own files.
    secret(&space, "hub-restpipe-server", |hub| {
        String::from_utf8_lossy(&hub["node.toml"]).contains(r#"suspended = ["files"]"#)
    });
    patch(false);
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    counts(&space, &json!({"declared": 1, "accepted": 1, "suspended": 0, "connected": 1}));
}

#[test]
fn a_link_that_is_deleted_or_not_permitted_any_more_is_cut_off() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("cut");
    let (guest, lodging) = (cluster.namespace("cut-guest"), cluster.namespace("cut-lodging"));
    cluster.kubectl(&["label", "namespace", "cut", "cut-guest", "cut-lodging", "team=web"]);
    let selector =
        "{clients: {namespaces: {from: Selector, selector: {matchLabels: {team: web}}}}}";
    space.apply(&(server("hub", selector) + &link("files", "{server: {name: hub}}")));
    guest.apply(&link("visitor", "{server: {name: hub, namespace: cut}}"));
    lodging.apply(&link("lodger", "{server: {name: hub, namespace: cut}}"));
    issued(&space);
    let web = hub(&space, "web-1");
    let files = client(&space, "files-1", "files", &at(&web));
    let visitor = client(&guest, "visitor-1", "visitor", &at(&web));
    let lodger = client(&lodging, "lodger-1", "lodger", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    guest.condition("rpl/visitor", "Connected", "True", SETTLE_TIME);
    lodging.condition("rpl/lodger", "Connected", "True", SETTLE_TIME);

    // By the namespace's label, by the server's spec, and by the link's own end.
    let since = Instant::now();
    cluster.kubectl(&["label", "namespace", "cut-lodging", "team-"]);
    is_cut_off(&lodger, since);
    lodging.condition("rpl/lodger", "Connected", "False/RefNotPermitted", SETTLE_TIME);
    guest.condition("rpl/visitor", "Connected", "True", SETTLE_TIME);
    let since = Instant::now();
    space.apply(&server("hub", "{}"));
    is_cut_off(&visitor, since);
    guest.condition("rpl/visitor", "Connected", "False/RefNotPermitted", SETTLE_TIME);
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    let since = Instant::now();
    space.kubectl(&["delete", "rpl/files"]);
    is_cut_off(&files, since);
    counts(&space, &json!({"declared": 2, "accepted": 0, "suspended": 0, "connected": 0}));
    assert!(!controller_log(&operator).contains("panicked"));
}

#[test]
fn a_status_is_written_at_most_once_a_second_however_a_pipe_flaps() {
    let operator = shared();
    let space = operator.release.cluster.namespace("flaps");
    space.apply(&pair());
    issued(&space);
    let web = hub(&space, "web-1");
    let mark = audit().mark();
    for round in 0..6 {
        let pod = client(&space, &format!("files-{round}"), "files", &at(&web));
        eventually("it is connected", SETTLE_TIME, || {
            let peers = web.curl("/-/peers").result()?;
            if peers.contains(&pod.name) { Ok(()) } else { Err(peers) }
        });
        pod.delete();
    }
    space.condition("rpl/files", "Connected", "False/NoPods", SETTLE_TIME);
    let writes = audit().writes_since(mark, &operator.release.user("controller"));
    for object in [("restpipelinks/status", "flaps/files"), ("restpipeservers/status", "flaps/hub")]
    {
        let times: Vec<f64> = writes
            .iter()
            .filter(|one| (one.resource.as_str(), one.object.as_str()) == object)
            .map(|one| one.at)
            .collect();
        assert!(times.len() > 1, "{object:?} was hardly written: {times:?}");
        // Counted from the answer to one to the next.
        let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
        let shortest = gaps.fold(f64::MAX, f64::min);
        assert!(shortest >= 0.95, "{object:?}: {shortest} s between two writes: {times:?}");
    }
}

#[test]
fn more_than_one_pod_of_a_server_is_told_of() {
    let operator = shared();
    let space = operator.release.cluster.namespace("replicas");
    space.apply(&pair());
    issued(&space);
    space.condition("rps/hub", "SingleReplica", "True", SETTLE_TIME);
    let first = hub(&space, "web-1");
    let second = hub(&space, "web-2");
    space.condition("rps/hub", "SingleReplica", "False/TooManyPods", SETTLE_TIME);
    event(&space, "RestPipeServer", "hub", "Warning TooManyPods: ");
    // Both are watched all the same.
    let files = client(&space, "files-1", "files", &at(&second));
    eventually("the second one's pipe is recorded", SETTLE_TIME, || {
        let found = connections(&space, "rpl/files");
        if found.first().is_some_and(|one| one["server"] == "web-2") {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
    drop(first);
    files.delete();
}

#[test]
fn a_renewed_certificate_reaches_the_pipe_without_a_gap() {
    let operator = shared();
    let space = operator.release.cluster.namespace("renewal");
    space.apply(&pair());
    let (hub_files, client_files) = issued(&space);
    let web = hub(&space, "web-1");
    let files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    space.kubectl(&["annotate", "rpl/files", "rps/hub", "restpipe.io/renew=1"]);
    secret(&space, "files-restpipe-link", |now| now["tls.crt"] != client_files["tls.crt"]);
    secret(&space, "hub-restpipe-server", |now| now["tls.crt"] != hub_files["tls.crt"]);
    web.sync();
    files.sync();
    let serial = space.get(&["rpl/files"])["status"]["identity"]["serial"].clone();
    let serial = serial.as_str().unwrap_or_default().to_owned();
    eventually("the pipe is of the new certificate", SETTLE_TIME, || {
        // Never without an answer.
        files.curl("/server/time").ok();
        let peers = web.curl("/-/peers").result()?;
        if peers.contains(&serial) { Ok(()) } else { Err(peers) }
    });
    space.condition("rps/hub", "Ready", "True", SETTLE_TIME);
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
}
