//! The release itself: checked, upgraded, rolled back, uninstalled.

use std::time::Duration;

use restpipe_cluster_tests::{POD_TIME, SETTLE_TIME, Traffic, eventually, variable};

use crate::SYSTEM;

/// No pod of the two is touched, so a call takes some milliseconds, and this on a machine that has
/// ten other things to do.
const LONGEST_CALL: Duration = Duration::from_secs(20);

#[test]
fn check_finds_a_healthy_installation_and_helm_test_agrees() {
    // What other tests are just making is not healthy yet, nor is what goes after them: of a namespace
    // that ends, pods may go before links.
    let shared = crate::alone();
    eventually("namespaces of other tests are gone", POD_TIME, || {
        let phases = "-o=jsonpath={range .items[*]}{.metadata.name} {.status.phase}{\"\\n\"}{end}";
        let all = shared.cluster.kubectl(&["get", "namespaces", phases]);
        let ending: Vec<&str> = all.lines().filter(|line| line.ends_with(" Terminating")).collect();
        if ending.is_empty() { Ok(()) } else { Err(ending.join(", ")) }
    });
    let ran = shared.cluster.operator(&["check"]);
    let text = ran.ok();
    assert!(!text.contains('×'), "{text}");
    let json = shared.cluster.operator(&["check", "-o", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert!(json["checks"].as_array().is_some_and(|checks| checks.len() > 5), "{json}");
    let said = shared.cluster.helm(&["test", "restpipe", "-n", SYSTEM, "--timeout", "2m"]);
    assert!(said.contains("Succeeded"), "{said}");
}

#[test]
fn upgrade_rollback_and_uninstall_leave_nothing_stuck() {
    // Alone on cluster A means that nobody uses cluster B either.
    let _exclusive = crate::alone();
    let b = crate::cluster_b();
    let space = b.namespace("release");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    let works = || {
        eventually("calls go through", POD_TIME, || {
            space.curl("deploy/hub", "/client/files/time").result()
        });
    };

    let traffic = Traffic::start_for(404, &space, "deploy/files", "POST", "/server/time");
    let upgrade = "helm upgrade restpipe charts/restpipe -n restpipe-system --set controller.replicas=2 --set logging.level=debug --wait --timeout 3m";
    crate::lines(&b, upgrade).ok();
    works();
    crate::lines(&b, "helm rollback restpipe 1 -n restpipe-system --wait --timeout 3m").ok();
    works();
    traffic.more(100);
    traffic.stop().none_failed("over upgrade and rollback", LONGEST_CALL);
    // New pods still get theirs.
    space.kubectl(&["rollout", "restart", "deploy/files"]);
    space.kubectl(&["rollout", "status", "deploy/files", "--timeout=120s"]);
    space.condition("rpl/files", "Ready", "True", SETTLE_TIME);

    b.helm(&["uninstall", "restpipe", "-n", SYSTEM, "--wait"]);
    works();
    let left = b.kubectl(&[
        "get",
        "mutatingwebhookconfigurations,clusterroles,clusterrolebindings",
        "-A",
        "-o",
        "name",
    ]);
    assert!(!left.contains("restpipe"), "{left}");
    // Who comes now starts all the same.
    let image = variable("RESTPIPE_APP_IMAGE");
    space.apply(&format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: late, annotations: {{restpipe.io/link: files}}}}
spec:
  containers:
  - name: app
    image: {image}
    command: [sh, -c, "trap exit TERM; sleep infinity & wait"]
"#
    ));
    space.kubectl(&["wait", "--for=condition=Ready", "pod/late", "--timeout=120s"]);
    let late = space.get(&["pod/late"]);
    assert!(late["spec"]["initContainers"].is_null(), "it has a sidecar: {late:#}");
    // Objects can be deleted without an operator.
    space.kubectl(&["delete", "rpl,rps", "--all", "--timeout=30s"]);
    b.kubectl(&["delete", "namespace", "release", "--timeout=120s"]);
    b.kubectl(&["delete", "namespace", SYSTEM, "--timeout=120s"]);
    b.kubectl(&[
        "delete",
        "crd",
        "restpipelinks.restpipe.io",
        "restpipeservers.restpipe.io",
        "--timeout=60s",
    ]);
    // And it can be installed again.
    crate::install(&b).ok();
    let space = b.namespace("reinstalled");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    space.curl("deploy/hub", "/client/files/time").ok();
    space.curl("deploy/files", "/server/time").ok();
}
