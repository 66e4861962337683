//! Certificates and roots that are replaced while calls go on.

use std::time::Duration;

use restpipe_cluster_tests::{Namespace, POD_TIME, Traffic, eventually};
use serde_json::Value;

/// kubelet brings a changed Secret to its pods within its sync period and a little more; two roots
/// need three such rounds, and the operator waits for each.
const ROTATION_TIME: Duration = Duration::from_secs(600);

/// How long the operator lets a new root spread. Its default is for kubelets that look once a
/// minute; those of these nodes look every 5 s.
const SPREAD: &str = "RESTPIPE_OPERATOR_CA_SPREAD_TIME=15s";

fn serial(space: &Namespace<'_>, object: &str) -> String {
    let object = space.get(&[object]);
    object["status"]["identity"]["serial"].as_str().unwrap_or_default().to_owned()
}

/// Serial number of the certificate that a pipe of this hostname shows now.
fn shown(space: &Namespace<'_>, hostname: &str) -> Option<(String, String)> {
    let text = space.curl("deploy/hub", "/-/peers").result().ok()?;
    let peers: Value = serde_json::from_str(&text).ok()?;
    let peer = peers["peers"].as_array()?.iter().find(|peer| peer["hostname"] == hostname)?.clone();
    Some((peer["serial"].as_str()?.to_owned(), peer["root"].as_str()?.to_owned()))
}

#[test]
fn certificates_and_the_ca_are_replaced_under_traffic_without_a_failed_call() {
    let shared = crate::shared();
    let controller = ["-n", crate::SYSTEM, "set", "env", "deploy/restpipe-controller", SPREAD];
    shared.cluster.kubectl(&controller);
    let space = shared.cluster.namespace("rotation");
    space.apply(&crate::pair_with_app());
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    for (asking, path) in [("deploy/files", "/server/x"), ("deploy/hub", "/client/files/x")] {
        eventually("the app listens", POD_TIME, || space.curl(asking, path).result());
    }
    let there = Traffic::start(&space, "deploy/files", "POST", "/server/x");
    let back = Traffic::start(&space, "deploy/hub", "POST", "/client/files/x");

    // Leafs.
    let (client, server) = (serial(&space, "rpl/files"), serial(&space, "rps/hub"));
    space.kubectl(&["annotate", "rpl/files", "restpipe.io/renew=1"]);
    space.kubectl(&["annotate", "rps/hub", "restpipe.io/renew=1"]);
    eventually("both certificates are new", POD_TIME, || {
        let new = (serial(&space, "rpl/files"), serial(&space, "rps/hub"));
        if new.0 != client && new.1 != server { Ok(()) } else { Err(format!("{new:?}")) }
    });
    let renewed = serial(&space, "rpl/files");
    eventually("the pipe shows the new one", ROTATION_TIME, || match shown(&space, "files") {
        Some((serial, _)) if serial == renewed => Ok(()),
        other => Err(format!("{other:?}, not {renewed}")),
    });

    // Roots.
    let root = |space: &Namespace<'_>| {
        let server = space.get(&["rps/hub"]);
        let ca = &server["status"]["ca"];
        (ca["phase"].clone(), ca["fingerprint"].clone())
    };
    let (_, old) = root(&space);
    shared.cluster.operator(&["rotate-ca", "server/hub", "-n", "rotation"]).ok();
    eventually("the new root is the only one", ROTATION_TIME, || match root(&space) {
        (phase, new) if phase == "Stable" && new != old => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let (_, new) = root(&space);
    let (_, shown) = shown(&space, "files").expect("the pipe is up");
    assert_eq!(new, shown);

    there.more(100);
    back.more(100);
    for traffic in [there, back] {
        let sum = traffic.stop();
        assert_eq!(sum.bad_count, 0, "{sum:?}");
        assert!(sum.good > 1000, "{sum:?}");
    }
}
