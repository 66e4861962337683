//! What the controller counts, beside what the API server has.

use restpipe_cluster_tests::{
    Cluster, Part, SETTLE_TIME, SYSTEM, condition_of, eventually, sh, x509,
};
use serde_json::Value;

use crate::pipes::{at, client, hub};
use crate::{alone, issued, link, pair};

/// Links at once that are made and deleted: twice as many as the controller looks at at once.
const SHORT_LIVED: usize = 16;

/// The sum of all samples of a metric that have this label; of all, if it is empty.
pub(crate) fn sum(part: &Part, name: &str, label: &str) -> Result<f64, String> {
    let metrics = part.ask("/metrics")?;
    let samples = metrics.lines().filter_map(|line| {
        let (sample, value) = line.rsplit_once(' ')?;
        let (of, labels) = sample.split_once('{').unwrap_or((sample, ""));
        (of == name && labels.contains(label)).then(|| value.parse::<f64>().ok())?
    });
    let samples: Vec<f64> = samples.collect();
    if samples.is_empty() {
        Err(format!("there is no {name}: {metrics}"))
    } else {
        Ok(samples.iter().sum())
    }
}

fn all(cluster: &Cluster, kind: &str) -> Vec<Value> {
    let answer = cluster.request("GET", &format!("/apis/restpipe.io/v1alpha1/{kind}"), "");
    answer.body["items"].as_array().cloned().unwrap_or_default()
}

/// As the metric's documentation has it.
fn state(link: &Value) -> &'static str {
    let is = |condition: &str, value: &str| condition_of(link, condition).0.starts_with(value);
    if is("Accepted", "False") {
        "refused"
    } else if link["spec"]["suspend"] == true {
        "suspended"
    } else if is("Connected", "True") {
        "connected"
    } else {
        "disconnected"
    }
}

/// Whether its certificate is for use outside of the cluster, or came from outside.
fn is_exported(link: &Value) -> bool {
    link["spec"]["export"].is_object() || link["spec"]["server"]["external"].is_object()
}

/// A text that `date` understands, in seconds since 1970.
fn seconds(time: &str) -> f64 {
    let said = sh(&format!("date -u -d '{time}' +%s"), &[]).ok();
    said.trim().parse().expect("a number")
}

#[test]
fn links_in_each_state_and_the_next_end_of_each_kind_of_certificate_are_shown() {
    let operator = alone();
    let cluster = operator.release.cluster.clone();
    let controller = operator.controller.as_ref().expect("a controller");
    let looks = |kind: &str| {
        let label = format!("kind=\"{kind}\"");
        sum(controller, "restpipe_operator_reconcile_seconds_count", &label).unwrap_or_default()
    };
    let before = [looks("server"), looks("link")];
    let space = cluster.namespace("metered");
    space.apply(
        &(pair()
            + &link("idle", "{server: {name: hub}, suspend: true}")
            + &link("taken", "{server: {name: hub}, hostname: files}")
            + &link("plant-7", "{server: {name: hub}, export: {duration: 48h}}")),
    );
    issued(&space);
    let web = hub(&space, "web-1");
    let _files = client(&space, "files-1", "files", &at(&web));
    space.condition("rpl/files", "Connected", "True", SETTLE_TIME);
    space.condition("rpl/plant-7", "IdentityIssued", "True", SETTLE_TIME);
    space.condition("rpl/taken", "Accepted", "False", SETTLE_TIME);
    // Of links that go while somebody is at work on them nothing stays.
    let short_lived: Vec<_> = (0..SHORT_LIVED).map(|n| format!("short-lived-{n}")).collect();
    let names: Vec<&str> = short_lived.iter().map(String::as_str).collect();
    for round in 0..3 {
        let spec = "{server: {name: hub}, hostname: files}";
        space.apply(&short_lived.iter().map(|name| link(name, spec)).collect::<String>());
        // What was never counted could not stay.
        eventually("each of them is counted", SETTLE_TIME, || {
            let links = all(&cluster, "restpipelinks");
            let ours = links.iter().filter(|link| {
                link["metadata"]["name"].as_str().is_some_and(|name| names.contains(&name))
            });
            let refused = ours.filter(|link| state(link) == "refused").count();
            if refused == SHORT_LIVED { Ok(()) } else { Err(format!("{refused}")) }
        });
        // An annotation that means nothing to it, and has it look at them once more.
        let stamp = format!("example.com/look=at-{round}");
        space.kubectl(&[&["annotate", "rpl"], &names[..], &[stamp.as_str()]].concat());
        space.kubectl(&[&["delete", "rpl", "--wait=false"], &names[..]].concat());
    }

    eventually("links are counted", SETTLE_TIME, || {
        let links = all(&cluster, "restpipelinks");
        for (wanted, least) in
            [("connected", 1), ("disconnected", 1), ("suspended", 1), ("refused", 1)]
        {
            let there = links.iter().filter(|link| state(link) == wanted).count();
            assert!(there >= least, "{wanted}: {there}");
            let label = format!("state=\"{wanted}\"");
            let counted = sum(controller, "restpipe_operator_links", &label)?;
            if counted != there as f64 {
                return Err(format!("{wanted}: {counted}, and there are {there}"));
            }
        }
        Ok(())
    });

    let name = "restpipe_operator_certificate_not_after_seconds";
    eventually("the next ends are shown", SETTLE_TIME, || {
        let (links, servers) = (all(&cluster, "restpipelinks"), all(&cluster, "restpipeservers"));
        let next = |ends: Vec<&Value>| {
            let ends = ends.into_iter().filter_map(Value::as_str);
            ends.min().expect("one").to_owned()
        };
        let identity = |one: &'_ Value| one["status"]["identity"]["notAfter"].clone();
        let of = |all: Vec<Value>| next(all.iter().collect());
        let ends = [
            ("client", of(links.iter().filter(|link| !is_exported(link)).map(identity).collect())),
            ("exported", of(links.iter().filter(|link| is_exported(link)).map(identity).collect())),
            ("server", of(servers.iter().map(identity).collect())),
            ("ca", of(servers.iter().map(|one| one["status"]["ca"]["notAfter"].clone()).collect())),
        ];
        for (kind, end) in ends {
            let shown = sum(controller, name, &format!("kind=\"{kind}\""))?;
            if shown != seconds(&end) {
                return Err(format!("{kind}: {shown}, and the next ends at {end}"));
            }
        }
        Ok(())
    });
    let served = cluster.secret(SYSTEM, "restpipe-webhook-tls").expect("the Secret");
    let end = x509(&served["tls.crt"], "-enddate");
    let end = seconds(end.trim().trim_start_matches("notAfter="));
    assert_eq!(sum(controller, name, "kind=\"webhook\""), Ok(end));

    for (kind, before) in ["server", "link"].into_iter().zip(before) {
        assert!(looks(kind) > before, "{kind}: {before}");
        let label = format!("kind=\"{kind}\"");
        let took = sum(controller, "restpipe_operator_reconcile_seconds_sum", &label);
        assert!(took.as_ref().is_ok_and(|took| *took > 0.0), "{kind}: {took:?}");
        let reconciles = sum(controller, "restpipe_operator_reconciles_total", &label);
        // One may have ended between the two questions.
        assert!(reconciles.is_ok_and(|reconciles| (reconciles - looks(kind)).abs() < 5.0));
    }
    // Of each kind that is watched the errors are shown before the first, or it would be no increase.
    for what in ["servers", "links", "injected pods", "pods without sidecar", "secrets", "services"]
    {
        sum(controller, "restpipe_operator_watch_errors_total", &format!("what=\"{what}\""))
            .expect("it is shown");
    }
    // A link that is gone is counted no more, nor is its certificate.
    let counted = || sum(controller, "restpipe_operator_links", "").expect("links");
    let links = counted();
    space.kubectl(&["delete", "rpl/plant-7"]);
    eventually("it is gone", SETTLE_TIME, || {
        let now = counted();
        if now == links - 1.0 { Ok(()) } else { Err(format!("{now} after {links}")) }
    });
    eventually("its certificate is shown no more", SETTLE_TIME, || {
        let links = all(&cluster, "restpipelinks");
        let ends = links.iter().filter(|link| is_exported(link));
        let ends = ends.filter_map(|link| link["status"]["identity"]["notAfter"].as_str());
        let next = ends.min().map(seconds);
        let shown = sum(controller, name, "kind=\"exported\"").ok();
        if shown == next { Ok(()) } else { Err(format!("{shown:?}, and next ends {next:?}")) }
    });
}
