//! What the README promises.

use restpipe_cluster_tests::{Cluster, Ran, printed_block};

/// Runs the README's lines for Kubernetes, exactly as printed.
pub(crate) fn follow(cluster: &Cluster) -> Ran {
    crate::lines(cluster, &printed())
}

/// The first block of the README's part about Kubernetes.
fn printed() -> String {
    let block = printed_block("README.md", "\n## Kubernetes\n");
    assert!(block.len() <= 10, "ten lines from nothing to curl: {block:?}");
    block.join("\n")
}

#[test]
fn ten_lines_of_the_readme_lead_from_nothing_to_curl_in_both_directions() {
    let shared = crate::shared();
    let curl: Vec<_> =
        printed().lines().filter(|line| line.contains("curl")).map(str::to_owned).collect();
    assert_eq!(curl.len(), 2, "one for each direction");
    let output = crate::lines(&shared.cluster, &curl.join("\n")).ok();
    assert!(output.contains("time_from_server"), "{output}");
    assert!(output.contains("time_from_client"), "{output}");
}

#[test]
fn what_kubectl_shows_says_whether_a_link_is_up() {
    let shared = crate::shared();
    let links = shared.cluster.kubectl(&["-n", "default", "get", "rpl"]);
    let words: Vec<_> = links.split_whitespace().collect();
    let columns =
        ["NAME", "HOSTNAME", "SERVER", "READY", "REASON", "CONNECTED", "CERT-EXPIRES", "AGE"];
    assert_eq!(words[..8], columns, "{links}");
    assert_eq!(
        words[8..14],
        ["fileserver", "fileserver", "default/hub", "True", "Ready", "True"],
        "{links}"
    );
    let servers = shared.cluster.kubectl(&["-n", "default", "get", "rps", "hub"]);
    assert!(servers.contains("True") && servers.contains("Ready"), "{servers}");
    let explained = shared.cluster.kubectl(&["explain", "rpl.spec.suspend"]);
    assert!(explained.contains("cuts this client off at once"), "{explained}");
}
