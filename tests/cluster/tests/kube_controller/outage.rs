//! While the API server is away.

use restpipe_cluster_tests::{Cluster, SETTLE_TIME, eventually};
use serde_json::json;

use crate::metrics::sum;
use crate::pipes::{at, client, hub};
use crate::{alone, issued, link, pair};

/// An API server that keeps its connections and says nothing, as long as the value lives.
struct Silent<'a>(&'a Cluster);

impl<'a> Silent<'a> {
    fn begin(cluster: &'a Cluster) -> Self {
        cluster.control(&["pause", "apiserver"]);
        Self(cluster)
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        // Also when the test fails: other tests need it.
        let _ = std::panic::catch_unwind(|| self.0.control(&["cont", "apiserver"]));
    }
}

#[test]
fn pipes_work_on_and_the_controller_goes_on_when_the_api_server_is_back() {
    let operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("outage");
    space.apply(&pair());
    issued(&space);
    let web = hub(&space, "web-1");
    let files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    let controller = operator.controller.as_ref().expect("a controller");

    let failed = || sum(controller, "restpipe_operator_watch_errors_total", "");
    let mut watches_failed = failed().expect("watches");
    for how in ["kill9", "stop"] {
        cluster.control(&[how, "apiserver"]);
        for _ in 0..5 {
            assert!(files.curl("/server/time").ok().contains("time_from_server"));
            assert!(web.curl("/client/files/time").ok().contains("time_from_client"));
        }
        controller.ask("/live").expect("it lives");
        cluster.control(&["start", "apiserver"]);
        space.kubectl(&["delete", "rpl/late", "--ignore-not-found"]);
        space.apply(&link("late", "{server: {name: hub}}"));
        space.condition("rpl/late", "IdentityIssued", "True", SETTLE_TIME);
        eventually("it is ready", SETTLE_TIME, || controller.ask("/ready"));
        let now = failed().expect("watches");
        assert!(now > watches_failed, "{now} after {watches_failed}");
        watches_failed = now;
    }
    // A silent one, until the controller has given up an attempt to tell of a pipe that ends now.
    let mut late = client(&space, "late-1", "late", &at(&web));
    space.condition("rpl/late", "Connected", "True", SETTLE_TIME);
    let reconciles = "restpipe_operator_reconciles_total";
    let given_up = || sum(controller, reconciles, "result=\"error\"").unwrap_or_default();
    let before = given_up();
    let silent = Silent::begin(&cluster);
    late.process = None;
    eventually("the controller gives up an attempt", SETTLE_TIME, || {
        assert!(files.curl("/server/time").ok().contains("time_from_server"));
        assert!(web.curl("/client/files/time").ok().contains("time_from_client"));
        let now = given_up();
        if now > before { Ok(()) } else { Err(format!("{now} after {before}")) }
    });
    controller.ask("/live").expect("it lives");
    drop(silent);
    space.condition("rpl/late", "Connected", "False", SETTLE_TIME);
    let body = json!({"spec": {"suspend": true}}).to_string();
    space.kubectl(&["patch", "rpl/files", "--type=merge", "-p", &body]);
    space.condition("rpl/files", "Connected", "False/Suspended", SETTLE_TIME);
    let mut operator = operator;
    assert!(operator.controller.as_mut().is_some_and(|part| part.process.runs()));
}
