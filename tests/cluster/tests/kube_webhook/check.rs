//! `restpipe-operator check`, where the webhook is not as it should be.

use restpipe_cluster_tests::{Checked, Namespace, SETTLE_TIME, eventually};

use crate::alone;

const KNOWS: &str = "the API server knows the webhook, and its CA";
const GETS: &str = "an annotated pod gets its sidecar";

fn check(space: &Namespace<'_>) -> Checked {
    Checked::of(space.cluster.operator(&["check", "-o", "json", "-n", &space.name]))
}

/// Until the API server has noticed what was done to the webhook.
fn checked(space: &Namespace<'_>, webhook_fails: bool) -> Checked {
    eventually("it is noticed", SETTLE_TIME, || {
        let checked = check(space);
        let fails = checked.failed().contains(&"webhook");
        if fails == webhook_fails { Ok(checked) } else { Err(format!("{checked:?}")) }
    })
}

#[test]
fn a_webhook_that_is_not_trusted_is_told_apart_from_one_that_is_away() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("check");
    let good = checked(&space, false);
    good.said("webhook", KNOWS, "ok");
    good.said("webhook", GETS, "ok");

    operator.kill_webhooks();
    let away = checked(&space, true);
    assert_eq!(away.status, Some(1));
    away.said("webhook", KNOWS, "ok");
    let [message, hint] = away.said("webhook", GETS, "failed");
    assert!(
        message.contains(r#"failed calling webhook "inject.restpipe.io""#)
            && message.contains("restpipe-webhook.restpipe-system.svc"),
        "{message}"
    );
    assert_eq!(
        hint,
        "see `kubectl -n restpipe-system logs deploy/restpipe-webhook` and `kubectl describe mutatingwebhookconfiguration restpipe-webhook`"
    );
    operator.add_webhook();
    checked(&space, false);

    // Without a controller nobody puts it back.
    operator.stop_controller();
    let remove = r#"[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]"#;
    let args = ["patch", "mutatingwebhookconfiguration", "restpipe-webhook", "--type=json", "-p"];
    cluster.kubectl(&[&args[..], &[remove]].concat());
    let unknown = checked(&space, true);
    let said = unknown.said("webhook", KNOWS, "failed");
    assert_eq!(
        said,
        [
            "restpipe-webhook has no caBundle",
            "the controller writes it: see why it does not by its log"
        ]
    );
    let [message, _] = unknown.said("control plane", "a controller is at work", "failed");
    assert!(message.starts_with("the lease restpipe-system/restpipe-controller is nobody's"));
    eventually("and nothing is injected", SETTLE_TIME, || {
        let [message, _] = check(&space).said("webhook", GETS, "failed");
        if message.contains("x509: certificate") { Ok(()) } else { Err(message) }
    });

    operator.start_controller("restpipe-controller-checked");
    let good = checked(&space, false);
    good.said("webhook", KNOWS, "ok");
    good.said("webhook", GETS, "ok");
    good.said("control plane", "a controller is at work (restpipe-controller-checked)", "ok");
}
