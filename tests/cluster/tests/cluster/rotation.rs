//! Certificates and roots that are replaced while calls go on.

use std::time::Duration;

use restpipe_cluster_tests::{Namespace, POD_TIME, Traffic, eventually};
use serde_json::{Value, json};

/// kubelet brings a changed Secret to its pods within its sync period and a little more; two roots
/// need three such rounds, and the operator waits for each.
const ROTATION_TIME: Duration = Duration::from_secs(600);

/// How long the operator lets a new root spread. Its default is for kubelets that look once a
/// minute; those of these nodes look every 5 s.
const SPREAD: &str = "RESTPIPE_OPERATOR_CA_SPREAD_TIME=15s";

/// There always is a pipe, so a call takes some milliseconds, and this on a machine that has ten
/// other things to do.
const LONGEST_CALL: Duration = Duration::from_secs(20);

fn serial(space: &Namespace<'_>, object: &str) -> String {
    let object = space.get(&[object]);
    object["status"]["identity"]["serial"].as_str().unwrap_or_default().to_owned()
}

/// Serial number and root of the certificate of each peer that the node of a pod has now.
fn shown(space: &Namespace<'_>, target: &str) -> Result<Vec<[Value; 2]>, String> {
    let text = space.curl(target, "/-/peers").result()?;
    let peers: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let peers = peers["peers"].as_array().cloned().unwrap_or_default();
    Ok(peers.iter().map(|peer| [peer["serial"].clone(), peer["root"].clone()]).collect())
}

/// The roots that the node of a pod trusts now.
fn trusted(space: &Namespace<'_>, target: &str) -> Result<Value, String> {
    let curl = ["curl", "-sS", "-m", "10", "http://localhost:7071/status"];
    let text = space.exec(target, &curl).result()?;
    let status: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    Ok(status["identity"]["trusts"].clone())
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
    // That is what the Secrets say; the nodes follow when kubelet has brought them.
    for target in ["deploy/files", "deploy/hub"] {
        eventually(&format!("{target} trusts the new root only"), ROTATION_TIME, || {
            let found = trusted(&space, target)?;
            if found == json!([new]) { Ok(()) } else { Err(format!("{found}, not {new}")) }
        });
    }

    // Leafs, and with them a pipe that is made by nodes which have forgotten the old root.
    let (client, server) = (serial(&space, "rpl/files"), serial(&space, "rps/hub"));
    space.kubectl(&["annotate", "rpl/files", "restpipe.io/renew=1"]);
    space.kubectl(&["annotate", "rps/hub", "restpipe.io/renew=1"]);
    eventually("both certificates are new", POD_TIME, || {
        let new = (serial(&space, "rpl/files"), serial(&space, "rps/hub"));
        if new.0 != client && new.1 != server { Ok(()) } else { Err(format!("{new:?}")) }
    });
    for (target, of) in [("deploy/hub", "rpl/files"), ("deploy/files", "rps/hub")] {
        let wanted = serial(&space, of);
        let what = format!("{target} is shown the new certificate of {of} and no other");
        eventually(&what, ROTATION_TIME, || {
            let seen = shown(&space, target)?;
            let all = seen.iter().all(|[serial, root]| *serial == wanted && *root == new);
            let good = all && !seen.is_empty();
            if good { Ok(()) } else { Err(format!("{seen:?}, not {wanted} of {new}")) }
        });
    }

    there.more(100);
    back.more(100);
    for (traffic, what) in [(there, "to the server"), (back, "to the client")] {
        let sum = traffic.stop();
        sum.none_failed(what, LONGEST_CALL);
        // A busy machine makes a call take a tenth of a second.
        assert!(sum.good > 300, "{sum:?}");
    }
}
