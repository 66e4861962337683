//! While the control plane is away: pipes go on, and nothing starts without its sidecar.

use restpipe_cluster_tests::{Cluster, POD_TIME, SETTLE_TIME, Traffic, condition_of, eventually};

use crate::SYSTEM;

/// Brings back what a test has taken away, also when it fails.
struct Back<'a> {
    cluster: &'a Cluster,
    /// Deployment and its replicas.
    scaled: &'a [(&'a str, &'a str)],
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        let _ = std::panic::catch_unwind(|| self.cluster.control(&["start", "apiserver"]));
        for (deployment, replicas) in self.scaled {
            scale(self.cluster, deployment, replicas);
        }
        for (deployment, _) in self.scaled {
            let args = ["-n", SYSTEM, "rollout", "status", deployment, "--timeout=120s"];
            let _ = self.cluster.try_kubectl(&args);
        }
    }
}

fn scale(cluster: &Cluster, deployment: &str, replicas: &str) {
    let replicas = format!("--replicas={replicas}");
    let _ = cluster.try_kubectl(&["-n", SYSTEM, "scale", deployment, &replicas]);
}

/// Events that the sidecar at this address has handled for its peers.
fn events(cluster: &Cluster, address: &str) -> f64 {
    let url = format!("http://{address}:7071/metrics");
    let metrics = cluster.control(&["exec", "curl", "-sS", "-m", "10", &url]);
    let incoming = metrics.lines().filter(|line| {
        line.starts_with("restpipe_events_total{") && line.contains(r#"direction="in""#)
    });
    incoming.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Waits until no pod of a Deployment is left.
fn none_left(cluster: &Cluster, component: &str) {
    let label = format!("app.kubernetes.io/component={component}");
    eventually(&format!("{component} is away"), POD_TIME, || {
        let pods = cluster.kubectl(&["-n", SYSTEM, "get", "pods", "-l", &label, "-o", "name"]);
        if pods.is_empty() { Ok(()) } else { Err(pods) }
    });
}

#[test]
fn pipes_work_on_while_operator_webhook_and_api_server_are_away() {
    let exclusive = crate::alone();
    let cluster = &exclusive.cluster;
    let space = cluster.namespace("alone");
    space.apply(&crate::pair_with_app());
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    for (asking, path) in [("deploy/files", "/server/x"), ("deploy/hub", "/client/files/x")] {
        eventually("the app listens", POD_TIME, || space.curl(asking, path).result());
    }
    let traffic = Traffic::start(&space, "deploy/files", "POST", "/server/x");
    {
        let back = Back {
            cluster,
            scaled: &[("deploy/restpipe-controller", "1"), ("deploy/restpipe-webhook", "2")],
        };
        for (deployment, _) in back.scaled {
            scale(cluster, deployment, "0");
        }
        none_left(cluster, "controller");
        none_left(cluster, "webhook");
        traffic.more(200);
        let pod = space.get(&["pods", "-l", "app=hub"]);
        let address = pod["items"][0]["status"]["podIP"].as_str().expect("an address").to_owned();
        cluster.control(&["stop", "apiserver"]);
        // What the app counts cannot be read now; what the server's sidecar counts can.
        let before = events(cluster, &address);
        eventually("calls go on without the API server", POD_TIME, || {
            let now = events(cluster, &address);
            if now > before + 200.0 { Ok(()) } else { Err(format!("{before} before, {now} now")) }
        });
        cluster.control(&["start", "apiserver"]);
    }
    traffic.more(200);
    let sum = traffic.stop();
    assert_eq!(sum.bad_count, 0, "{sum:?}");
    // And it is all as before.
    space.condition("rpl/files", "Ready", "True", SETTLE_TIME);
}

#[test]
fn without_the_webhook_annotated_pods_are_refused_and_others_are_not_touched() {
    let exclusive = crate::alone();
    let cluster = &exclusive.cluster;
    let space = cluster.namespace("no-webhook");
    let pod = |name: &str, annotations: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}{annotations}}}\nspec: {{containers: [{{name: app, image: x}}]}}\n"
        )
    };
    let _back = Back { cluster, scaled: &[("deploy/restpipe-webhook", "2")] };
    scale(cluster, "deploy/restpipe-webhook", "0");
    none_left(cluster, "webhook");
    let refusal = space.try_apply(&pod("a", ", annotations: {restpipe.io/link: x}")).refused();
    assert!(refusal.contains("inject.restpipe.io"), "{refusal}");
    space.apply(&pod("b", ""));
    assert!(space.find(&["pod/a"]).is_none());
}

#[test]
fn an_annotated_pod_without_a_sidecar_is_reported() {
    let exclusive = crate::alone();
    let cluster = &exclusive.cluster;
    let space = cluster.namespace("missed");
    space.apply("apiVersion: restpipe.io/v1alpha1\nkind: RestPipeServer\nmetadata: {name: hub}\n---\napiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {name: files}\nspec: {server: {name: hub}}\n");
    // Annotated afterwards, as no webhook sees it.
    space.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: late}\nspec: {containers: [{name: app, image: x}]}\n");
    space.kubectl(&["annotate", "pod", "late", "restpipe.io/link=files"]);
    let message = space.condition("rpl/files", "Injected", "False/NotInjected", SETTLE_TIME);
    assert!(message.contains("late"), "{message}");
    let link = space.get(&["rpl/files"]);
    assert_eq!(link["status"]["podsWithoutSidecar"][0], "late");
    eventually("an Event says so", SETTLE_TIME, || {
        let events = space.kubectl(&["get", "events", "-o", "wide"]);
        if events.contains("NotInjected") { Ok(()) } else { Err(events) }
    });
    assert_eq!(condition_of(&link, "Ready").0.split('/').next(), Some("False"));
}
