//! A thousand links.

use std::time::{Duration, Instant};

use restpipe_cluster_tests::{eventually, run_with_input, variable};
use serde_json::Value;

use crate::{alone, audit, link, quiet, secret, server};

const LINKS: usize = 1000;

/// All are settled within this time.
const SETTLED: Duration = Duration::from_secs(60);

#[test]
fn a_thousand_links_settle_and_then_nothing_is_written() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("many");
    // All at once, as a controller that starts finds them.
    drop(operator.controller.take());
    let mut objects = server("hub", "{}");
    for number in 0..LINKS {
        objects += &link(&format!("l{number}"), "{server: {name: hub}}");
    }
    let args = ["-n", "many", "create", "-f", "-"];
    run_with_input(&variable("KUBECTL"), &args, &cluster.environment(), &objects).ok();
    let begun = Instant::now();
    operator.start_controller("restpipe-controller-many");
    let leads = begun.elapsed();
    let look = || {
        let answer =
            cluster.request("GET", "/apis/restpipe.io/v1alpha1/namespaces/many/restpipelinks", "");
        let links = answer.body["items"].as_array().cloned().unwrap_or_default();
        let issued = |link: &Value| {
            restpipe_cluster_tests::condition_of(link, "IdentityIssued").0 == "True/Issued"
                && restpipe_cluster_tests::condition_of(link, "Connected").0 == "False/NoPods"
        };
        let done = links.iter().filter(|link| issued(link)).count();
        if done == LINKS { Ok(()) } else { Err(format!("{done}")) }
    };
    // A lease that was not released has to end first; that is no matter of the links.
    eventually("all links have their identities", SETTLED + Duration::from_secs(30), look);
    let took = begun.elapsed();
    eprintln!("{LINKS} links: {took:?} after the start, {leads:?} of them until it was ready");
    let secrets = space.kubectl(&["get", "secrets", "-o", "name"]);
    assert_eq!(secrets.lines().count(), LINKS + 1);
    secret(&space, "hub-restpipe-server", |hub| {
        String::from_utf8_lossy(&hub["node.toml"]).matches("\"l").count() == LINKS
    });
    eventually("the server counts them", SETTLED, || {
        let clients = space.get(&["rps/hub"])["status"]["clients"].clone();
        if clients["accepted"] == LINKS { Ok(()) } else { Err(clients.to_string()) }
    });
    let settled = begun.elapsed();
    eprintln!("{LINKS} links: all settled after {settled:?}");
    assert!(
        settled - leads < SETTLED,
        "{settled:?} after the start, {leads:?} of them until it was ready"
    );

    quiet::settled(&space);
    let mark = audit().mark();
    quiet::reconciled(&operator, &space);
    quiet::settled(&space);
    let writes = audit().writes_since(mark, &operator.release.user("controller"));
    assert!(writes.is_empty(), "{} writes: {:#?}", writes.len(), writes.first());
    // One more link is a matter of that one and its server.
    let mark = audit().mark();
    space.apply(&link("one-more", "{server: {name: hub}}"));
    space.condition("rpl/one-more", "IdentityIssued", "True", SETTLED);
    quiet::settled(&space);
    let writes = audit().writes_since(mark, &operator.release.user("controller"));
    let others: Vec<_> = writes
        .iter()
        .filter(|one| {
            one.resource != "events"
                && !one.object.contains("one-more")
                && !one.object.contains("hub")
        })
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}
