//! Pods and links that come, go, and come back.

use std::time::{Duration, Instant};

use restpipe_cluster_tests::{POD_TIME, SETTLE_TIME, Traffic, eventually};

/// "Removing or suspending a link closes its pipes within 5 s."
const CUT_OFF: Duration = Duration::from_secs(5);

/// Within this time another pod has come in the place of one that was deleted and has its pipe. The
/// calls wait a little longer.
const LONGEST_CALL: Duration = Duration::from_secs(40);

#[test]
fn a_suspended_link_is_cut_off_within_five_seconds_and_comes_back() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("suspended");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    space.curl("deploy/hub", "/client/files/time").ok();

    let suspended = Instant::now();
    space.kubectl(&["patch", "rpl", "files", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    let refusal = eventually("the server refuses", CUT_OFF, || {
        let ran = space.exec(
            "deploy/hub",
            &[
                "curl",
                "-s",
                "-m",
                "5",
                "-H",
                "Prefer: wait=0",
                "http://localhost:7070/client/files/time",
            ],
        );
        if ran.output.contains("suspended") {
            Ok(ran.output)
        } else {
            Err(ran.output + &ran.errors)
        }
    });
    assert!(suspended.elapsed() < CUT_OFF, "{:?}", suspended.elapsed());
    assert!(refusal.contains(r#""outcome":"not-sent""#), "{refusal}");
    space.condition("rpl/files", "Connected", "False/Suspended", SETTLE_TIME);

    space.kubectl(&[
        "patch",
        "rpl",
        "files",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":false}}"#,
    ]);
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    space.curl("deploy/hub", "/client/files/time").ok();
}

#[test]
fn a_deleted_link_is_cut_off_within_five_seconds() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("deleted");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    let peers =
        || space.exec("deploy/hub", &["curl", "-s", "http://localhost:7070/-/peers"]).output;
    assert!(peers().contains("files"));
    let deleted = Instant::now();
    space.kubectl(&["delete", "rpl", "files"]);
    eventually("the pipe is closed", CUT_OFF, || {
        let peers = peers();
        if peers.contains(r#""peers":[]"#) { Ok(()) } else { Err(peers) }
    });
    assert!(deleted.elapsed() < CUT_OFF, "{:?}", deleted.elapsed());
    // The Secret goes with its owner.
    eventually("the Secret is gone", SETTLE_TIME, || {
        match space.find(&["secret/files-restpipe-link"]) {
            None => Ok(()),
            Some(_) => Err("it is still there".to_owned()),
        }
    });
}

#[test]
fn a_namespace_with_a_server_and_links_is_deleted_without_a_rest() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("gone");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    let uid = space.get(&["rps", "hub"])["metadata"]["uid"].as_str().expect("a uid").to_owned();
    shared.cluster.kubectl(&["delete", "namespace", "gone", "--timeout=120s"]);
    let ca = format!("secret/restpipe-ca-{uid}");
    eventually("the CA is gone", SETTLE_TIME, || {
        match shared.cluster.find(&["-n", crate::SYSTEM, &ca]) {
            None => Ok(()),
            Some(_) => Err("it is still there".to_owned()),
        }
    });
}

#[test]
fn a_namespace_that_is_deleted_takes_its_links_and_their_pipes_along() {
    let shared = crate::shared();
    let (host, guest) = (shared.cluster.namespace("host"), shared.cluster.namespace("guest"));
    host.apply(
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeServer\nmetadata: {name: hub}\nspec: {clients: {namespaces: {from: All}}}\n",
    );
    host.apply(&crate::deployment("hub", "server", "hub", ""));
    guest.apply(
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {name: files}\nspec: {server: {name: hub, namespace: host}, hostname: guest}\n",
    );
    guest.apply(&crate::deployment("files", "link", "files", ""));
    guest.condition("rpl/files", "Ready", "True", POD_TIME);
    host.curl("deploy/hub", "/client/guest/time").ok();

    let mut was_there = Instant::now();
    shared.cluster.kubectl(&["delete", "namespace", "guest", "--wait=false"]);
    eventually("the link is gone", POD_TIME, || {
        let asked = Instant::now();
        match guest.find(&["rpl/files"]) {
            None => Ok(()),
            Some(link) => {
                was_there = asked;
                Err(link["metadata"].to_string())
            }
        }
    });
    eventually("its pipe is closed", CUT_OFF, || {
        let peers = host.exec("deploy/hub", &["curl", "-s", "http://localhost:7070/-/peers"]);
        if peers.output.contains(r#""peers":[]"#) { Ok(()) } else { Err(peers.output) }
    });
    assert!(was_there.elapsed() < CUT_OFF, "{:?}", was_there.elapsed());
    // Kubernetes ends the pods of a namespace before it deletes anything else, so this link held
    // nobody any more. None of it keeps the namespace.
    eventually("the namespace is gone", POD_TIME, || match guest.find(&["namespace/guest"]) {
        None => Ok(()),
        Some(namespace) => Err(namespace["status"].to_string()),
    });
    host.condition("rps/hub", "Ready", "True", SETTLE_TIME);
}

#[test]
fn calls_survive_deleted_pods_and_rollouts_of_either_side() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("rollouts");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);

    // The side that asks stays; the other is deleted, then rolled.
    for (asking, other, path) in
        [("deploy/files", "hub", "/server/time"), ("deploy/hub", "files", "/client/files/time")]
    {
        // A POST that may have run is not sent again, so one that a drain loses shows.
        let traffic = Traffic::start_for(404, &space, asking, "POST", path);
        space.kubectl(&["delete", "pod", "-l", &format!("app={other}"), "--wait=false"]);
        traffic.more(200);
        space.kubectl(&["rollout", "restart", &format!("deploy/{other}")]);
        space.kubectl(&["rollout", "status", &format!("deploy/{other}"), "--timeout=120s"]);
        traffic.more(200);
        traffic.stop().none_failed(other, LONGEST_CALL);
    }
    space.condition("rpl/files", "Ready", "True", SETTLE_TIME);
}

#[test]
fn a_killed_sidecar_comes_back() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("killed");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    for app in ["files", "hub"] {
        let pods = space.get(&["pods", "-l", &format!("app={app}")]);
        let pod = pods["items"][0]["metadata"]["name"].as_str().expect("a name").to_owned();
        shared.cluster.control(&["kill9-container", &space.name, &pod, "restpipe"]);
        eventually("the sidecar was restarted", POD_TIME, || {
            let pod = space.get(&["pod", &pod]);
            let status = &pod["status"]["initContainerStatuses"][0];
            let back = status["restartCount"].as_u64() >= Some(1) && status["ready"] == true;
            if back { Ok(()) } else { Err(status.to_string()) }
        });
        eventually("calls go through again", POD_TIME, || {
            space.curl("deploy/hub", "/client/files/time").result()?;
            space.curl("deploy/files", "/server/time").result()
        });
        let pod = space.get(&["pod", &pod]);
        let status = &pod["status"]["containerStatuses"][0];
        assert_eq!(status["name"], "app", "{status}");
        assert_eq!(status["restartCount"], 0, "its app is none the wiser: {status}");
    }
}

#[test]
fn the_older_of_two_links_keeps_the_hostname_and_the_other_is_told() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("taken");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Accepted", "True", SETTLE_TIME);
    space.apply("apiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {name: other}\nspec: {server: {name: hub}, hostname: files}\n");
    let why = space.condition("rpl/other", "Accepted", "False/HostnameTaken", SETTLE_TIME);
    assert!(why.contains("taken/files"), "the older one is named: {why}");
    assert!(space.find(&["secret/other-restpipe-link"]).is_none());
    // It gets what the older one leaves.
    space.kubectl(&["delete", "rpl", "files"]);
    space.condition("rpl/other", "Accepted", "True", SETTLE_TIME);
}
