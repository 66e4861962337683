//! Pods that are created while the webhook, its certificate and the API server change.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use restpipe_cluster_tests::{Namespace, Operator, SETTLE_TIME, SYSTEM, eventually};
use serde_json::json;

use crate::certificate::{NOTICED, tls};
use crate::{alone, create, created, has_sidecar, pod};

/// Annotated pods that are created, and as many that are not annotated.
const PODS: usize = 1000;

/// Rotations of the webhook's CA meanwhile.
const ROTATIONS: usize = 20;

/// Rollouts of the webhook meanwhile, each of two pods.
const ROLLOUTS: usize = 5;

/// Restarts of the API server meanwhile.
const RESTARTS: usize = 2;

/// An apiserver that was killed is back within this time.
const API_TIME: Duration = Duration::from_secs(60);

#[test]
fn while_no_webhook_is_there_annotated_pods_are_refused_and_others_are_not() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("away");
    let annotated = |name: &str| pod(name, json!({"restpipe.io/link": "files"}));
    created(&space, &annotated("before"));
    operator.kill_webhooks();
    let answer = create(&space, &annotated("meanwhile"));
    assert_eq!(answer.code, 500, "{}", answer.message());
    assert!(
        answer.message().contains(r#"failed calling webhook "inject.restpipe.io""#),
        "{}",
        answer.message()
    );
    assert_eq!(space.find(&["pod/meanwhile"]), None);
    let made = created(&space, &pod("other", json!({"example.com/a": "b"})));
    assert!(!has_sidecar(&made));
    // Also not those of the operator's own, or nothing could ever start.
    let own = format!("/api/v1/namespaces/{SYSTEM}/pods?dryRun=All");
    let answer = cluster.request("POST", &own, &annotated("own").to_string());
    assert_eq!(answer.code, 201, "{}", answer.message());

    operator.add_webhook();
    eventually("pods are injected again", SETTLE_TIME, || {
        let answer = create(&space, &annotated("after"));
        if answer.code == 201 { Ok(()) } else { Err(answer.message().to_owned()) }
    });
    assert!(has_sidecar(&space.get(&["pod/after"])));
}

/// What became of the pods.
#[derive(Default)]
struct Tally {
    /// Annotated pods that were let in.
    annotated: AtomicUsize,
    /// Others that were let in.
    plain: AtomicUsize,
    /// Answers while the API server was away.
    retried: AtomicUsize,
    /// What must not be.
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Tally {
    fn wrong(&self, what: String) {
        self.wrong.lock().expect("nobody panics with it").push(what);
    }

    /// Creates one pod, again and again while the API server is away.
    fn one(&self, space: &Namespace<'_>, name: &str, annotated: bool) {
        let annotations =
            if annotated { json!({"restpipe.io/link": "files"}) } else { json!({"a": "b"}) };
        let wanted = pod(name, annotations);
        let path = format!("/api/v1/namespaces/{}/pods/{name}", space.name);
        while !self.stop.load(Ordering::Relaxed) {
            let mut answer = create(space, &wanted);
            if answer.code == 409 {
                // Made before the API server was killed, and not answered: what is there counts.
                answer = space.cluster.request("GET", &path, "");
            }
            match answer.code {
                200 | 201 if has_sidecar(&answer.body) == annotated => {
                    let count = if annotated { &self.annotated } else { &self.plain };
                    count.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                200 | 201 => {
                    return self
                        .wrong(format!("{name} (annotated: {annotated}) was let in otherwise"));
                }
                // Nobody there, or one that is just starting and has not read who may do what.
                0 | 401 | 403 | 500 | 503 | 504 if !answer.message().contains("webhook") => {
                    self.retried.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(100));
                }
                code => {
                    return self.wrong(format!(
                        "{name} (annotated: {annotated}): {code} {}",
                        answer.message()
                    ));
                }
            }
        }
    }
}

/// Asks for another CA, and waits until its leaf is there.
fn rotate(operator: &Operator, number: usize) {
    let cluster = &operator.release.cluster;
    let before = eventually("the certificate can be read", API_TIME, || {
        tls(cluster).ok_or("it cannot".into())
    });
    let renew = format!("restpipe.io/renew=rotation-{number}");
    eventually("the CA is annotated", API_TIME, || {
        let args =
            ["-n", SYSTEM, "annotate", "--overwrite", "secret", "restpipe-webhook-ca", &renew];
        cluster.try_kubectl(&args).result()
    });
    eventually(&format!("rotation {number} is made"), API_TIME + NOTICED, || {
        let files = tls(cluster).ok_or("it cannot be read")?;
        if files["ca.crt"] == before["ca.crt"] {
            Err("the CA is the former one".to_owned())
        } else {
            Ok(())
        }
    });
}

#[test]
fn a_thousand_pods_are_created_during_rotations_rollouts_and_restarts_and_none_is_let_in_wrongly() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("thousand");
    operator.add_webhook();
    let tally = Tally::default();
    let next = AtomicUsize::new(0);
    let changes = AtomicUsize::new(0);
    let all = ROTATIONS + ROLLOUTS + RESTARTS;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= PODS || tally.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Evenly over all that is changed meanwhile.
                    while number * all > (changes.load(Ordering::Relaxed) + 1) * PODS
                        && !tally.stop.load(Ordering::Relaxed)
                    {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    tally.one(&space, &format!("annotated-{number}"), true);
                    tally.one(&space, &format!("plain-{number}"), false);
                }
            });
        }
        // Ends the others if it panics.
        let _end = OnDrop(|| tally.stop.store(true, Ordering::Relaxed));
        let mut retired = Vec::new();
        for number in 0..ROTATIONS {
            rotate(&operator, number);
            changes.fetch_add(1, Ordering::Relaxed);
            if number % (ROTATIONS / ROLLOUTS) == 1 {
                // As a Deployment with maxUnavailable 0 does it.
                for _ in 0..2 {
                    operator.add_webhook();
                    retired.push(operator.retire_webhook());
                }
                changes.fetch_add(1, Ordering::Relaxed);
            }
            if number % (ROTATIONS / RESTARTS) == 5 {
                cluster.control(&["kill9", "apiserver"]);
                cluster.control(&["start", "apiserver"]);
                changes.fetch_add(1, Ordering::Relaxed);
            }
        }
        eventually("all pods are created", Duration::from_secs(120), || {
            let (annotated, plain) =
                (tally.annotated.load(Ordering::Relaxed), tally.plain.load(Ordering::Relaxed));
            let wrong = tally.wrong.lock().expect("nobody panics with it").len();
            if annotated + plain + wrong >= 2 * PODS {
                Ok(())
            } else {
                Err(format!("{annotated} and {plain}"))
            }
        });
    });
    let wrong = tally.wrong.into_inner().expect("nobody panics with it");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 2 * PODS, wrong.join("\n"));
    assert_eq!(tally.annotated.into_inner(), PODS);
    assert_eq!(tally.plain.into_inner(), PODS);
    // What the API server has stored, not only what it has answered.
    let pods = space.get(&["pods"]);
    let pods = pods["items"].as_array().expect("a list");
    assert_eq!(pods.len(), 2 * PODS);
    for pod in pods {
        let annotated = !pod["metadata"]["annotations"]["restpipe.io/link"].is_null();
        assert_eq!(has_sidecar(pod), annotated, "{}", pod["metadata"]["name"]);
    }
}

struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
