//! `check`, where all is installed and no pod can run.

use restpipe_cluster_tests::{Checked, Cluster, run};

use crate::check;

pub(crate) fn what_does_not_run_is_told_apart_from_what_is_not_there(cluster: &Cluster) {
    let checked = check(cluster, &["--namespace", "default"]);
    assert_eq!(checked.status, Some(1));
    assert_eq!(checked.failed(), ["control plane", "webhook", "servers"], "{checked:?}");
    checked.said("kinds", "restpipelinks.restpipe.io is established", "ok");
    for (part, counts) in [
        ("restpipe-controller", "0 of 1 pods are available"),
        ("restpipe-webhook", "0 of 2 pods are available"),
    ] {
        let available = format!("restpipe-system/{part} is available");
        let [message, hint] = checked.said("control plane", &available, "failed");
        assert_eq!(message, counts);
        assert!(
            hint.contains(&format!("`kubectl -n restpipe-system describe deploy {part}`")),
            "{hint}"
        );
    }
    // A server that nobody has looked at.
    let [message, hint] = checked.said("servers", "default/hub is ready", "failed");
    assert_eq!(message, "no controller has looked at it");
    assert_eq!(hint, "see `kubectl -n restpipe-system logs deploy/restpipe-controller`");
    let [message, _] = checked.said("webhook", "an annotated pod gets its sidecar", "failed");
    assert!(message.contains(r#"failed calling webhook "inject.restpipe.io""#), "{message}");

    // Installed, it is not to be installed once more.
    let checked = check(cluster, &["--pre"]);
    assert_eq!(checked.status, Some(0), "a warning is no failure");
    let before = "before the installation";
    let [message, hint] =
        checked.said(before, "restpipelinks.restpipe.io is not there yet", "warning");
    assert_eq!(message, "it is: RestPipe is or was installed");
    assert!(hint.contains("without --pre"), "{hint}");

    // For people, with the same exit status.
    let ran = cluster.operator(&["check"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.output.starts_with("kubernetes-api\n--------------\n√ can be reached\n"));
    assert!(ran.output.contains("\n× default/hub is ready\n    no controller has looked at it\n"));
    // A namespace that is misspelt is not one in which all is well.
    let checked = check(cluster, &["--namespace", "defualt"]);
    let [message, hint] = checked.said("webhook", "an annotated pod gets its sidecar", "failed");
    assert!(message.contains(r#"namespaces "defualt" not found"#), "{message}");
    assert_eq!(hint, "name one that is there with --namespace");
    nobody_answers(cluster);
}

/// A kubeconfig of a cluster that is away, and one of nobody.
fn nobody_answers(cluster: &Cluster) {
    let reached = |environment: &[(String, String)]| {
        let begun = std::time::Instant::now();
        let binary = restpipe_cluster_tests::operator_binary();
        let checked = Checked::of(run(&binary, &["check", "-o", "json"], environment));
        // A TLS or connect timeout is 10 s; here nothing has to be waited for.
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
        assert_eq!(checked.status, Some(1));
        assert_eq!(checked.results(), ["kubernetes-api: failed"], "one line, and not one for each");
        checked.said("kubernetes-api", "can be reached", "failed")
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    let text = std::fs::read_to_string(cluster.kubeconfig()).expect("a kubeconfig");
    let nowhere = format!("https://127.0.0.1:{}", restpipe_cluster_tests::free_port());
    std::fs::write(file.path(), text.replace(&cluster.address(), &nowhere)).expect("written");
    let kubeconfig = |path: &str| [("KUBECONFIG".to_owned(), path.to_owned())];
    let [message, hint] = reached(&kubeconfig(&file.path().display().to_string()));
    assert!(message.contains("onnection refused"), "{message}");
    assert!(hint.contains("kubectl config current-context"), "{hint}");
    let [message, _] = reached(&kubeconfig("/nowhere/config"));
    assert!(
        message.starts_with("no way to the API server is known: give a kubeconfig in KUBECONFIG")
            && message.contains("/nowhere/config"),
        "{message}"
    );
    std::fs::write(file.path(), "clusters: [").expect("written");
    reached(&kubeconfig(&file.path().display().to_string()));
}
