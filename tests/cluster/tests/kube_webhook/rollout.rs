//! Pods that are created while the webhook, its certificate and the API server change.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use restpipe_cluster_tests::{Namespace, Operator, SETTLE_TIME, SYSTEM, eventually, sh, x509};
use serde_json::{Value, json};

use crate::certificate::{NOTICED, bundle, count, tls};
use crate::{alone, create, create_with, created, has_sidecar, pod};

/// Annotated pods that are created, and as many that are not annotated.
const PODS: usize = 1000;

/// Rotations of the webhook's CA meanwhile.
const ROTATIONS: usize = 20;

/// Rollouts of the webhook meanwhile, each of two pods.
const ROLLOUTS: usize = 5;

/// Restarts of the API server meanwhile.
const RESTARTS: usize = 2;

/// How long a former CA is trusted: several times what a webhook takes to serve with the leaf of the
/// new one.
const OVERLAP: Duration = Duration::from_secs(10);

/// After this rotation the next one waits until no former CA is trusted.
const FORGETS_AT: usize = 12;

/// An apiserver that was killed is back within this time.
const API_TIME: Duration = Duration::from_secs(60);

#[test]
fn while_no_webhook_is_there_annotated_pods_are_refused_and_others_are_not() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("away");
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

fn annotated(name: &str) -> Value {
    pod(name, json!({"restpipe.io/link": "files"}))
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
    /// Raised when the API server goes and when it is back: odd while it is away.
    outages: AtomicUsize,
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
        let wanted = if annotated { self::annotated(name) } else { pod(name, json!({"a": "b"})) };
        let path = format!("/api/v1/namespaces/{}/pods/{name}", space.name);
        while !self.stop.load(Ordering::Relaxed) {
            let before = self.outages.load(Ordering::SeqCst);
            let mut answer = create(space, &wanted);
            if answer.code == 409 {
                // Made before the API server was killed, and not answered: what is there counts.
                answer = space.cluster.request("GET", &path, "");
            }
            // At some time between the question and the answer.
            let away = before % 2 == 1 || self.outages.load(Ordering::SeqCst) != before;
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
                0 | 401 | 403 | 500 | 503 | 504
                    if away && !answer.message().contains("webhook") =>
                {
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

/// Waits until each webhook serves with the leaf that is there now.
fn all_serve_with_it(operator: &Operator) {
    eventually("every webhook serves with the newest leaf", SETTLE_TIME, || {
        let files = tls(&operator.release.cluster).ok_or("it cannot be read")?;
        let wanted = x509(&files["tls.crt"], "-serial");
        for (_, address) in &operator.webhooks {
            let ask = format!("openssl s_client -connect {address} </dev/null 2>/dev/null");
            let found = sh(&format!("{ask} | openssl x509 -noout -serial"), &[]).result()?;
            if found != wanted {
                return Err(format!("{address} serves with {found}, not {wanted}"));
            }
        }
        Ok(())
    });
}

/// Waits until one CA only is trusted. Pods are injected then.
fn former_cas_go(operator: &Operator, space: &Namespace<'_>) {
    eventually("the former CAs leave the bundle", OVERLAP + NOTICED, || {
        let roots = count(&bundle(&operator.release.cluster));
        if roots == 1 { Ok(()) } else { Err(format!("{roots} CAs")) }
    });
    for _ in &operator.webhooks {
        let answer = create_with(space, &annotated("trial"), "?dryRun=All");
        assert_eq!(answer.code, 201, "{}", answer.message());
        assert!(has_sidecar(&answer.body), "{:#}", answer.body);
    }
}

#[test]
fn a_thousand_pods_are_created_during_rotations_rollouts_and_restarts_and_none_is_let_in_wrongly() {
    let mut operator = alone();
    let cluster = operator.release.cluster.clone();
    let space = cluster.namespace("thousand");
    operator.stop_controller();
    let overlap = format!("--webhook-ca-overlap={}s", OVERLAP.as_secs());
    operator.start_controller_with("restpipe-controller-rollout", &[&overlap]);
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
            if number % (ROTATIONS / ROLLOUTS) == 0 {
                // Each generation of webhooks, before the next one comes in its place.
                all_serve_with_it(&operator);
            }
            if number == FORGETS_AT {
                former_cas_go(&operator, &space);
            }
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
                // The time of the former CA goes on while no webhook can learn of the new leaf.
                all_serve_with_it(&operator);
                tally.outages.fetch_add(1, Ordering::SeqCst);
                cluster.control(&["kill9", "apiserver"]);
                // Not sooner, so that it is asked for pods while it is away.
                changes.fetch_add(1, Ordering::Relaxed);
                cluster.control(&["start", "apiserver"]);
                eventually("pods are injected again", API_TIME, || {
                    let answer = create_with(&space, &annotated("trial"), "?dryRun=All");
                    if answer.code == 201 { Ok(()) } else { Err(answer.message().to_owned()) }
                });
                tally.outages.fetch_add(1, Ordering::SeqCst);
            }
        }
        all_serve_with_it(&operator);
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
    operator.stop_controller();
    operator.start_controller("restpipe-controller-after");
    let wrong = tally.wrong.into_inner().expect("nobody panics with it");
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), 2 * PODS, wrong.join("\n"));
    assert_eq!(tally.annotated.into_inner(), PODS);
    assert_eq!(tally.plain.into_inner(), PODS);
    assert!(tally.retried.into_inner() > 0, "nobody has met with an API server that was away");
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
