//! The election, against an API server that is one Lease in memory, in virtual time.

use std::sync::Mutex;

use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

#[test]
fn the_gate_is_closed_at_first_and_after_its_time() {
    let gate = Gate::new();
    assert!(gate.check().is_err());
    gate.open_until(Instant::now() + Duration::from_secs(60));
    assert!(gate.check().is_ok());
    gate.open_until(Instant::now());
    assert!(gate.check().is_err());
}

type Spec = Arc<Mutex<Value>>;

/// Answers GET, and merges what PATCH brings: all that the election asks for.
fn api(spec: &Spec) -> Client {
    let spec = Arc::clone(spec);
    let service = tower::service_fn(move |request: Request<Body>| {
        let spec = Arc::clone(&spec);
        async move {
            let is_patch = request.method() == Method::PATCH;
            let body = request.into_body().collect().await?.to_bytes();
            let mut spec = spec.lock().expect("no test panics while it holds this");
            if is_patch {
                let patch: Value = serde_json::from_slice(&body)?;
                json_patch::merge(&mut spec, &patch["spec"]);
            }
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": "lease", "namespace": "system"},
                "spec": *spec,
            });
            Ok::<_, tower::BoxError>(Response::new(Body::from(lease.to_string().into_bytes())))
        }
    });
    Client::new(service, "system")
}

fn held_by(holder: &str) -> Spec {
    Arc::new(Mutex::new(json!({
        "holderIdentity": holder,
        "leaseDurationSeconds": DURATION.as_secs(),
        "acquireTime": "2026-11-22T10:00:00.000000Z",
        "renewTime": restpipe_identity::rfc3339(SystemTime::now()).replace('Z', ".000000Z"),
    })))
}

fn holder(spec: &Spec) -> Value {
    spec.lock().expect("no test panics while it holds this")["holderIdentity"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_released_is_taken_within_two_seconds() {
    let spec = held_by("first");
    let mut second = Election::new(api(&spec), "system", "lease", "second").await;
    let waits = timeout(Duration::from_secs(5), second.campaign()).await;
    assert!(waits.is_err(), "the first one has it");
    assert_eq!(holder(&spec), "first");
    assert!(second.gate().check().is_err());

    let campaign = tokio::spawn(async move {
        second.campaign().await;
        second
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let released = json!({"holderIdentity": null, "renewTime": null, "leaseDurationSeconds": null});
    json_patch::merge(&mut spec.lock().expect("nobody panicked"), &released);
    let second = timeout(Duration::from_secs(2), campaign).await;
    let second = second.expect("it leads within two seconds").expect("it does not panic");
    assert_eq!(holder(&spec), "second");
    assert!(second.gate().check().is_ok());
}
