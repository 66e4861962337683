//! `check`, before anything is installed.

use std::process::{Command, Stdio};

use restpipe_cluster_tests::{Checked, Cluster, SETTLE_TIME, eventually, operator_binary};

use crate::check;

const BEFORE: &str = "before the installation";
const KINDS: [&str; 2] = ["restpipeservers.restpipe.io", "restpipelinks.restpipe.io"];

pub(crate) fn nothing_is_there_and_that_is_said(cluster: &Cluster) {
    let checked = check(cluster, &[]);
    assert_eq!(checked.status, Some(1));
    // Servers and links are not asked for in vain: their kinds are the cause.
    assert_eq!(checked.failed(), ["kinds", "control plane", "webhook"]);
    for kind in KINDS {
        let said = checked.said("kinds", &format!("{kind} is established"), "failed");
        assert_eq!(said, ["it is not there", "install the chart, with crds.install=true"]);
    }
    for part in ["restpipe-controller", "restpipe-webhook"] {
        let available = format!("restpipe-system/{part} is available");
        let [message, hint] = checked.said("control plane", &available, "failed");
        assert_eq!(message, "there is no such Deployment");
        assert_eq!(hint, "install the chart, or name its namespace by --system-namespace");
    }
    let [message, _] = checked.said("control plane", "a controller is at work", "failed");
    assert_eq!(message, "the lease restpipe-system/restpipe-controller is not there");
    let knows = "the API server knows the webhook, and its CA";
    let [message, hint] = checked.said("webhook", knows, "failed");
    assert_eq!(message, "there is no MutatingWebhookConfiguration restpipe-webhook");
    assert!(hint.contains("annotated pods start without a sidecar"), "{hint}");
    let gets = "an annotated pod gets its sidecar";
    let [message, _] = checked.said("webhook", gets, "failed");
    assert_eq!(message, "a pod in default was admitted without");
    checked.said("pods", "all annotated pods have a sidecar (0)", "ok");
}

pub(crate) fn an_admin_may_install_and_somebody_without_rights_may_not(cluster: &Cluster) {
    let checked = check(cluster, &["--pre"]);
    assert_eq!(checked.status, Some(0));
    checked.said("kubernetes-api", "can be reached", "ok");
    checked.said("kubernetes-api", "is 1.33 or newer (v1.", "ok");
    checked.said(BEFORE, "you may create deployments in restpipe-system", "ok");
    checked.said(BEFORE, "you may create mutatingwebhookconfigurations", "ok");
    for kind in KINDS {
        checked.said(BEFORE, &format!("{kind} is not there yet"), "ok");
    }
    assert!(checked.results().iter().all(|one| one.ends_with(": ok")), "{checked:?}");

    let ran = cluster.operator_as("nobody", "[]", &["check", "--pre", "-o", "json"]);
    let checked = Checked::of(ran);
    assert_eq!(checked.status, Some(1));
    checked.said("kubernetes-api", "can be reached", "ok");
    for resource in ["customresourcedefinitions", "deployments in restpipe-system"] {
        let said = checked.said(BEFORE, &format!("you may create {resource}"), "failed");
        assert_eq!(said, ["you may not", "have somebody install who is cluster-admin"]);
    }
    for kind in KINDS {
        let [message, _] = checked.said(BEFORE, &format!("{kind} is not there yet"), "skipped");
        assert_eq!(message, "you may not look");
    }
    who_makes_roles_needs_the_rights_that_they_give(cluster);
    whoever_reads_no_more_of_it_has_seen_enough(cluster);
}

fn who_makes_roles_needs_the_rights_that_they_give(cluster: &Cluster) {
    const CREATES: &str = "{apiGroups: ['*'], resources: ['*'], verbs: [get, list, create]}";
    let of_roles = |verbs: &str| {
        format!(
            "{{apiGroups: [rbac.authorization.k8s.io], resources: [roles, clusterroles], verbs: {verbs}}}"
        )
    };
    let checked = |user: &str, rules: &str| {
        eventually("the rights are known", SETTLE_TIME, || {
            let ran = cluster.operator_as(user, rules, &["check", "--pre", "-o", "json"]);
            let checked = Checked::of(ran);
            if checked.status == Some(0) { Ok(checked) } else { Err(format!("{checked:?}")) }
        })
    };
    let creator = checked("creator", &format!("[{CREATES}]"));
    for (given, made) in [
        ("escalate clusterroles", "clusterroles"),
        ("bind clusterroles", "clusterrolebindings"),
        ("escalate roles in restpipe-system", "roles"),
        ("bind roles in restpipe-system", "rolebindings"),
    ] {
        let [message, hint] = creator.said(BEFORE, &format!("you may {given}"), "warning");
        assert_eq!(
            message,
            format!(
                "you may not: {made} that give more rights than you have yourself will be refused"
            )
        );
        assert!(hint.starts_with("have somebody install who is cluster-admin, unless"), "{hint}");
    }
    let half = checked("half-giver", &format!("[{CREATES}, {}]", of_roles("[escalate]")));
    half.said(BEFORE, "you may escalate clusterroles", "ok");
    half.said(BEFORE, "you may bind clusterroles", "warning");
    let giver = checked("giver", &format!("[{CREATES}, {}]", of_roles("[escalate, bind]")));
    assert!(giver.results().iter().all(|one| one.ends_with(": ok")), "{giver:?}");
}

/// As with `| head`: nobody reads what is written.
fn whoever_reads_no_more_of_it_has_seen_enough(cluster: &Cluster) {
    for args in [&["crds"][..], &["check", "--pre"], &["check", "--pre", "-o", "json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let ran = Command::new(operator_binary())
            .args(args)
            .envs(cluster.environment())
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert_eq!((ran.status.code(), &*said), (Some(0), ""), "{args:?}");
    }
}

pub(crate) fn who_may_not_look_is_told_so(cluster: &Cluster) {
    let ran = cluster.operator_as("nobody", "[]", &["check", "-o", "json"]);
    let checked = Checked::of(ran);
    for section in ["kinds", "control plane", "webhook", "pods", "servers", "links"] {
        let of: Vec<_> =
            checked.results().into_iter().filter(|one| one.starts_with(section)).collect();
        let skipped = |one: &String| one.ends_with(": skipped");
        assert!(!of.is_empty() && of.iter().all(skipped), "{section}: {checked:?}");
    }
    // Nothing is said to be missing that cannot be seen.
    assert_eq!(checked.failed(), Vec::<&str>::new());
    assert_eq!(checked.status, Some(0));
    let [message, _] = checked.said("pods", "all annotated pods have a sidecar", "skipped");
    assert_eq!(message, "you may not look");
    let answers = "the webhook answers with a certificate that the API server trusts";
    let [message, _] = checked.said("webhook", answers, "skipped");
    assert!(
        message.starts_with(
            "you may not create pods, and restpipe-webhook.restpipe-system.svc cannot be reached"
        ),
        "{message}"
    );

    // Who may read all of it sees what is missing.
    let rules = "[{apiGroups: ['*'], resources: ['*'], verbs: [get, list]}]";
    eventually("the rights are known", SETTLE_TIME, || {
        let ran = cluster.operator_as("reader", rules, &["check", "-o", "json"]);
        let checked = Checked::of(ran);
        if checked.failed() == ["kinds", "control plane", "webhook"] {
            Ok(())
        } else {
            Err(format!("{checked:?}"))
        }
    });
}

pub(crate) fn namespaces_to_be_watched_have_to_be_there(cluster: &Cluster) {
    let checked = check(cluster, &["--pre", "--watch-namespaces", "default,team-a"]);
    assert_eq!(checked.status, Some(1));
    checked.said(BEFORE, "the watched namespace default is there", "ok");
    checked.said(BEFORE, "you may create rolebindings in team-a", "ok");
    let said = checked.said(BEFORE, "the watched namespace team-a is there", "failed");
    assert_eq!(said, ["it is not", "`kubectl create namespace team-a`"]);
}
