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
    operator.stop_controller();
    let mut objects = server("hub", "{}");
    for number in 0..LINKS {
        objects += &link(&format!("l{number}"), "{server: {name: hub}}");
    }
    let args = ["-n", "many", "create", "-f", "-"];
    run_with_input(&variable("KUBECTL"), &args, &cluster.environment(), &objects).ok();
    let begun = Instant::now();
    operator.start_controller("restpipe-controller-many");
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
    // Longer than it may: how long it was is more than that it was too long.
    eventually("all links have their identities", 3 * SETTLED, look);
    eprintln!("{LINKS} links have their identities {:?} after the start", begun.elapsed());
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
    eprintln!("{LINKS} links are settled {settled:?} after the start");
    assert!(settled < SETTLED, "{settled:?}");

    quiet::settled(&operator, &space);
    let mark = audit().mark();
    quiet::reconciled(&operator, &space);
    quiet::settled(&operator, &space);
    let writes = audit().writes_since(mark, &operator.release.user("controller"));
    assert!(writes.is_empty(), "{} writes: {:#?}", writes.len(), writes.first());
    // One more link is a matter of that one and its server.
    let mark = audit().mark();
    space.apply(&link("one-more", "{server: {name: hub}}"));
    space.condition("rpl/one-more", "IdentityIssued", "True", SETTLED);
    quiet::settled(&operator, &space);
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
