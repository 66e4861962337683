//! The controller, against a real API server, as the chart's own ServiceAccount. Sidecars are real
//! processes where there is something to see of their pipes.

mod authority;
mod check;
mod claims;
mod damage;
mod examples;
mod exports;
mod external;
mod identities;
mod leaders;
mod many;
mod metrics;
mod outage;
mod pipes;
mod pki;
mod quiet;
mod reasons;
mod rotation;
mod scope;
mod zones;

use std::ops::{Deref, DerefMut};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use restpipe_cluster_tests::{
    Audit, Cluster, Contents, Namespace, Operator, SETTLE_TIME, SYSTEM, eventually, variable, x509,
};
use serde_json::Value;

/// Within this time a client is cut off that is suspended or deleted.
const CUT_OFF: Duration = Duration::from_secs(5);

/// For tests that leave the controller and the API server alone.
fn shared() -> RwLockReadGuard<'static, Operator> {
    operator().read().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that do not.
fn alone() -> Alone {
    Alone(operator().write().unwrap_or_else(PoisonError::into_inner))
}

/// The operator, for one test. However that ends, a controller runs afterwards.
struct Alone(RwLockWriteGuard<'static, Operator>);

impl Deref for Alone {
    type Target = Operator;

    fn deref(&self) -> &Operator {
        &self.0
    }
}

impl DerefMut for Alone {
    fn deref_mut(&mut self) -> &mut Operator {
        &mut self.0
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        if self.0.controller.as_mut().is_none_or(|part| !part.process.runs()) {
            self.0.controller = Some(self.0.release.controller("restpipe-controller-next"));
        }
    }
}

fn operator() -> &'static RwLock<Operator> {
    static OPERATOR: OnceLock<RwLock<Operator>> = OnceLock::new();
    OPERATOR
        .get_or_init(|| RwLock::new(Operator::start(&Cluster::api_only(), "restpipe", SYSTEM, &[])))
}

fn audit() -> Audit {
    Audit::of(&variable("RESTPIPE_KUBE_DIR"))
}

fn server(name: &str, spec: &str) -> String {
    object("RestPipeServer", name, spec)
}

fn link(name: &str, spec: &str) -> String {
    object("RestPipeLink", name, spec)
}

fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: restpipe.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
    )
}

/// The server `hub` and its link `files`.
fn pair() -> String {
    server("hub", "{}") + &link("files", "{server: {name: hub}}")
}

/// Waits until a Secret is there and `good`; its contents.
fn secret(space: &Namespace<'_>, name: &str, good: impl Fn(&Contents) -> bool) -> Contents {
    eventually(&format!("the Secret {name}"), SETTLE_TIME, || {
        let found = space.cluster.secret(&space.name, name).ok_or("it is not there")?;
        if good(&found) {
            Ok(found)
        } else {
            Err("it is there, and not as it should be".to_owned())
        }
    })
}

/// Waits until both Secrets of [`pair`] are there.
fn issued(space: &Namespace<'_>) -> (Contents, Contents) {
    space.condition("rps/hub", "IdentityIssued", "True", SETTLE_TIME);
    space.condition("rpl/files", "IdentityIssued", "True", SETTLE_TIME);
    (secret(space, "hub-restpipe-server", |_| true), secret(space, "files-restpipe-link", |_| true))
}

/// The one DNS name in a certificate.
fn name_in(pem: &[u8]) -> String {
    let text = x509(pem, "-ext subjectAltName");
    text.lines().last().unwrap_or_default().trim().to_owned()
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

/// The Events about an object, as `TYPE REASON: NOTE`.
fn events(space: &Namespace<'_>, kind: &str, name: &str) -> Vec<String> {
    let all = space.get(&["events.events.k8s.io"]);
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    all["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["regarding"]["kind"] == kind && event["regarding"]["name"] == name)
        .map(|event| {
            format!("{} {}: {}", text(event, "type"), text(event, "reason"), text(event, "note"))
        })
        .collect()
}

/// Waits for an Event that begins so.
fn event(space: &Namespace<'_>, kind: &str, name: &str, begin: &str) -> String {
    eventually(&format!("an event of {kind} {name}: {begin}"), SETTLE_TIME, || {
        let all = events(space, kind, name);
        all.iter().find(|one| one.starts_with(begin)).cloned().ok_or_else(|| format!("{all:#?}"))
    })
}
