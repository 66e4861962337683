//! While the control plane is away: pipes go on, and nothing starts without its sidecar.

use std::time::Duration;

use restpipe_cluster_tests::{Cluster, POD_TIME, SETTLE_TIME, Traffic, condition_of, eventually};
use serde_json::Value;

use crate::SYSTEM;

/// The pipe is there all the time, so a call takes some milliseconds, and this on a machine that has
/// ten other things to do.
const LONGEST_CALL: Duration = Duration::from_secs(20);

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

/// What the sidecar at this address says on its admin port; for that no API server is needed.
fn told(cluster: &Cluster, address: &str, path: &str) -> String {
    let url = format!("http://{address}:7071{path}");
    cluster.control(&["exec", "curl", "-sS", "-m", "10", &url])
}

/// Events `in` of its peers, or `out` to them, that the sidecar at this address has counted.
fn events(cluster: &Cluster, address: &str, direction: &str) -> f64 {
    let metrics = told(cluster, address, "/metrics");
    let label = format!(r#"direction="{direction}""#);
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("restpipe_events_total{") && line.contains(&label));
    counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// The process at the other end of a client's pipe, as the server's sidecar at this address has it.
fn process(cluster: &Cluster, address: &str, hostname: &str) -> Option<String> {
    let status = told(cluster, address, "/status");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    let mut peers = status["peers"].as_array().into_iter().flatten();
    let peer = peers.find(|peer| peer["hostname"] == hostname && peer["state"] == "open")?;
    peer["boot_id"].as_str().map(str::to_owned)
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
fn pipes_work_on_and_are_made_anew_while_operator_webhook_and_api_server_are_away() {
    let exclusive = crate::alone();
    let cluster = &exclusive.cluster;
    let space = cluster.namespace("alone");
    space.apply(&format!(
        "{}---\n{}---\n{}",
        crate::pair_with_app(),
        "apiVersion: restpipe.io/v1alpha1\nkind: RestPipeLink\nmetadata: {name: other}\nspec: {server: {name: hub}}\n",
        crate::deployment("other", "link", "other", ""),
    ));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    space.condition("rpl/other", "Ready", "True", POD_TIME);
    for (asking, path) in [("deploy/files", "/server/x"), ("deploy/hub", "/client/files/x")] {
        eventually("the app listens", POD_TIME, || space.curl(asking, path).result());
    }
    let there = Traffic::start(&space, "deploy/files", "POST", "/server/x");
    let back = Traffic::start(&space, "deploy/hub", "POST", "/client/files/x");
    {
        let back_again = Back {
            cluster,
            scaled: &[("deploy/restpipe-controller", "1"), ("deploy/restpipe-webhook", "2")],
        };
        for (deployment, _) in back_again.scaled {
            scale(cluster, deployment, "0");
        }
        none_left(cluster, "controller");
        none_left(cluster, "webhook");
        there.more(200);
        back.more(200);
        let pod = |app: &str| {
            let pods = space.get(&["pods", "-l", &format!("app={app}")]);
            pods["items"][0].clone()
        };
        let address = pod("hub")["status"]["podIP"].as_str().expect("an address").to_owned();
        let other = pod("other")["metadata"]["name"].as_str().expect("a name").to_owned();
        cluster.control(&["stop", "apiserver"]);
        // What the apps count cannot be read now; what the server's sidecar counts can.
        let count = || ["in", "out"].map(|direction| events(cluster, &address, direction));
        let before = count();
        // A sidecar that nobody calls dies, and kubelet starts it by what it knows.
        let dead = process(cluster, &address, "other").expect("its pipe is up");
        cluster.control(&["kill9-container", &space.name, &other, "restpipe"]);
        eventually("its pipe is made anew without the API server", POD_TIME, || {
            match process(cluster, &address, "other") {
                Some(new) if new != dead => Ok(()),
                found => Err(format!("{found:?} after {dead}")),
            }
        });
        eventually("calls go on both ways without the API server", POD_TIME, || {
            let now = count();
            let all = before.iter().zip(&now).all(|(before, now)| *now > before + 200.0);
            if all { Ok(()) } else { Err(format!("{before:?} before, {now:?} now")) }
        });
        cluster.control(&["start", "apiserver"]);
    }
    there.more(200);
    back.more(200);
    there.stop().none_failed("to the server", LONGEST_CALL);
    back.stop().none_failed("to the client", LONGEST_CALL);
    // And it is all as before.
    space.condition("rpl/files", "Ready", "True", SETTLE_TIME);
    space.condition("rpl/other", "Ready", "True", SETTLE_TIME);
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
