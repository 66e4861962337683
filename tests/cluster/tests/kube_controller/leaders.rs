//! Two controllers, of which one leads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use restpipe_cluster_tests::{
    Cluster, Contents, Part, SETTLE_TIME, SYSTEM, condition_of, contents, eventually,
    run_with_input, variable,
};
use serde_json::Value;

use crate::{alone, audit, issued, link, pair, server, uid};

/// A lease that its holder does not renew is another's within this time: 15 s until it ends, and
/// some for noticing.
const TAKE_OVER: Duration = Duration::from_secs(25);

/// One that its holder has given away is another's within this time: two seconds, and some for a
/// busy machine.
const HAND_OVER: Duration = Duration::from_secs(5);

/// So many that a controller is at work on them for longer than it takes to see that it is.
const LINKS: usize = 400;

fn holder(cluster: &Cluster) -> String {
    let lease = cluster.get(&["-n", SYSTEM, "lease", "restpipe-controller"]);
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

fn held_by(cluster: &Cluster, who: &str, within: Duration) -> Duration {
    let begun = Instant::now();
    eventually(&format!("{who} leads"), within, || {
        let found = holder(cluster);
        if found == who { Ok(()) } else { Err(found) }
    });
    begun.elapsed()
}

fn is_ready(part: &Part) {
    eventually("it is ready", SETTLE_TIME, || part.ask("/ready"));
}

/// Names and contents of the CAs.
fn cas(cluster: &Cluster) -> Vec<(Value, Value)> {
    let all = cluster.get(&[
        "-n",
        SYSTEM,
        "secrets",
        "-l",
        "app.kubernetes.io/managed-by=restpipe-operator",
    ]);
    let items = all["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().map(|item| (item["metadata"]["name"].clone(), item["data"].clone())).collect()
}

#[test]
fn another_takes_over_from_a_leader_that_is_killed_stopped_or_frozen() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let mut first = operator.controller.take().expect("a controller");
    let release = &operator.release;
    let user = release.user("controller");
    held_by(&cluster, &holder(&cluster), TAKE_OVER);
    let mut second = release.controller("second");
    is_ready(&second);
    let before = cluster.namespace("before");
    before.apply(&pair());
    let (hub, _) = issued(&before);

    // Asked to end, it gives the lease away.
    first.process.signal("TERM");
    assert_eq!(first.process.ends(SETTLE_TIME), Some(0));
    let took = held_by(&cluster, "second", HAND_OVER);
    eprintln!("a leader that was stopped was followed after {took:?}");
    is_ready(&second);

    // Killed, its lease has to end.
    let third = release.controller("third");
    is_ready(&third);
    second.process.kill();
    let space = cluster.namespace("killed");
    space.apply(&pair());
    let took = held_by(&cluster, "third", TAKE_OVER);
    eprintln!("a leader that was killed was followed after {took:?}");
    issued(&space);

    // Frozen, it does not know that it is followed.
    let mut frozen = third;
    let fourth = release.controller("fourth");
    is_ready(&fourth);
    frozen.process.signal("STOP");
    let space = cluster.namespace("frozen");
    space.apply(&pair());
    let took = held_by(&cluster, "fourth", TAKE_OVER);
    eprintln!("a leader that was frozen was followed after {took:?}");
    issued(&space);
    let known = cas(&cluster);
    let uid_of_hub = uid(&space.get(&["rps/hub"]));
    assert!(known.iter().any(|(name, _)| *name == format!("restpipe-ca-{uid_of_hub}")));
    // Work for it to find when it wakes.
    let late = cluster.namespace("late");
    let mark = audit().mark();
    late.apply(&pair());
    frozen.process.signal("CONT");
    let status = frozen.process.ends(SETTLE_TIME);
    assert_ne!(
        status,
        Some(0),
        "one that has lost the lease ends with an error, to be started anew"
    );
    assert!(frozen.process.log().contains("the lease was lost"), "{}", frozen.process.log());
    issued(&late);
    assert_eq!(holder(&cluster), "fourth");
    // Of each server there is one CA, and those which were there are as they were.
    let now = cas(&cluster);
    for ca in &known {
        assert!(now.contains(ca), "{} has changed", ca.0);
    }
    let made = audit().writes_since(mark, &user);
    let uids = ["late", "frozen", "killed", "before"]
        .map(|name| uid(&cluster.get(&["-n", name, "rps/hub"])));
    for uid in &uids {
        let name = format!("restpipe-ca-{uid}");
        assert_eq!(now.iter().filter(|(found, _)| *found == name).count(), 1);
        // Neither made twice nor made again: only the one of the late server came, and none went.
        let object = format!("{SYSTEM}/{name}");
        let changes: Vec<&str> = made
            .iter()
            .filter(|one| one.resource == "secrets" && one.object == object && one.code < 300)
            .map(|one| one.verb.as_str())
            .filter(|verb| ["create", "delete"].contains(verb))
            .collect();
        let wanted: &[&str] = if *uid == uids[0] { &["create"] } else { &[] };
        assert_eq!(changes, wanted, "{name}: {made:#?}");
    }
    assert!(made.iter().all(|one| one.verb != "deletecollection"), "{made:#?}");
    assert!(cluster.secret("before", "hub-restpipe-server").expect("it is there") == hub);
    operator.controller = Some(fourth);
}

#[test]
fn one_that_waits_writes_nothing() {
    let operator = alone();
    let cluster = operator.release.cluster.clone();
    let waiting = operator.release.controller("waiting");
    is_ready(&waiting);
    let metrics = waiting.ask("/metrics").expect("metrics");
    assert!(metrics.contains("restpipe_operator_leader 0"), "{metrics}");
    let leader =
        operator.controller.as_ref().expect("a controller").ask("/metrics").expect("metrics");
    assert!(leader.contains("restpipe_operator_leader 1"), "{leader}");
    let space = cluster.namespace("waits");
    space.apply(&pair());
    issued(&space);
    let metrics = waiting.ask("/metrics").expect("metrics");
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("restpipe_operator_writes_total{"))
        .filter(|line| !line.ends_with(" 0"))
        .count();
    assert_eq!(counted, 0, "{metrics}");
}

/// All objects of a kind in the namespace `at-work`.
fn all(cluster: &Cluster, path: &str) -> Vec<Value> {
    let (group, kind) = path.rsplit_once('/').expect("a path");
    let answer = cluster.request("GET", &format!("{group}/namespaces/at-work/{kind}"), "");
    assert_eq!(answer.code, 200, "{}", answer.message());
    answer.body["items"].as_array().cloned().unwrap_or_default()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Serial numbers in the statuses of links that have their certificate, by the link.
fn shown(cluster: &Cluster) -> BTreeMap<String, String> {
    let links = all(cluster, "/apis/restpipe.io/v1alpha1/restpipelinks");
    let is_issued = |link: &&Value| condition_of(link, "IdentityIssued").0 == "True/Issued";
    let serial = |link: &Value| link["status"]["identity"]["serial"].as_str().map(str::to_owned);
    let issued = links.iter().filter(is_issued);
    issued.map(|link| (name(link), serial(link).expect("a serial number"))).collect()
}

/// Serial numbers in the Secrets of links, by the link. A node would take each of them.
fn held(cluster: &Cluster) -> BTreeMap<String, String> {
    let place = tempfile::tempdir().expect("a directory");
    for secret in all(cluster, "/api/v1/secrets") {
        let Some(link) = name(&secret).strip_suffix("-restpipe-link").map(str::to_owned) else {
            continue;
        };
        let directory = place.path().join(link);
        std::fs::create_dir(&directory).expect("one Secret of each link");
        let files: Contents = contents(&secret);
        assert!(files.contains_key("node.toml"), "{directory:?}");
        for (file, bytes) in files {
            std::fs::write(directory.join(file), bytes).expect("written");
        }
    }
    let script = r#"for link in *; do
        restpipe identity verify "$link" --as client >&2
        echo "$link $(openssl x509 -noout -serial -in "$link/tls.crt")"
    done"#;
    let said = cluster.lines(place.path(), script).ok();
    let serials = said.lines().filter_map(|line| line.split_once(" serial="));
    serials.map(|(link, serial)| (link.to_owned(), serial.to_lowercase())).collect()
}

#[test]
fn a_leader_that_is_asked_to_end_at_work_ends_in_order_and_the_next_one_does_the_rest() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("at-work");
    // All at once, as a controller that starts finds them.
    operator.stop_controller();
    let mut objects = server("hub", "{}");
    for number in 0..LINKS {
        objects += &link(&format!("l{number}"), "{server: {name: hub}}");
    }
    let args = ["-n", "at-work", "create", "-f", "-"];
    run_with_input(&variable("KUBECTL"), &args, &cluster.environment(), &objects).ok();
    let deployment = cluster.get(&["-n", SYSTEM, "deploy", "restpipe-controller"]);
    let grace = &deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    let grace = Duration::from_secs(grace.as_u64().expect("seconds"));

    let mut first = operator.release.controller("at-work-1");
    eventually("it is at work", SETTLE_TIME, || {
        if shown(&cluster).is_empty() { Err("nothing is issued".to_owned()) } else { Ok(()) }
    });
    let begun = Instant::now();
    first.process.signal("TERM");
    assert_eq!(first.process.ends(grace), Some(0));
    let took = begun.elapsed();
    assert_eq!(holder(&cluster), "", "its lease is free");
    let said = first.process.log();
    assert!(said.contains("the lease is released"), "{said}");
    assert!(!said.contains("did not end in time"), "{said}");

    // What it has done is whole, and it was not all.
    let (ready, before) = (shown(&cluster), held(&cluster));
    eprintln!("ended after {took:?}, with {} of {LINKS} issued", before.len());
    assert!(before.len() < LINKS, "there was nothing left to do: have more links");
    for (link, serial) in &ready {
        assert_eq!(before.get(link), Some(serial), "{link}");
    }

    operator.start_controller("at-work-2");
    eventually("all links have their identities", SETTLE_TIME, || {
        let done = shown(&cluster).len();
        if done == LINKS { Ok(()) } else { Err(format!("{done}")) }
    });
    let after = held(&cluster);
    assert_eq!(after, shown(&cluster));
    assert_eq!(after.len(), LINKS);
    for (link, serial) in &before {
        assert_eq!(after.get(link), Some(serial), "{link} was issued twice");
    }
    let secrets = space.kubectl(&["get", "secrets", "-o", "name"]);
    assert_eq!(secrets.lines().count(), LINKS + 1, "one for each link, and the server's");
}
