//! Injection, through a real API server: the chart's configuration as it is, with webhooks behind
//! the Service's address and a controller that makes their certificate.

mod bad_reviews;
mod certificate;
mod check;
mod injected;
mod late;
mod refused;
mod reinvoked;
mod rollout;
mod scope;

use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use restpipe_cluster_tests::{
    Answer, Audit, Cluster, Mark, Namespace, Operator, Request, SETTLE_TIME, SYSTEM, eventually,
    variable,
};
use serde_json::{Value, json};

/// For tests that leave controller and webhooks alone.
fn shared() -> RwLockReadGuard<'static, Operator> {
    operator().read().unwrap_or_else(PoisonError::into_inner)
}

/// For tests that do not.
fn alone() -> RwLockWriteGuard<'static, Operator> {
    operator().write().unwrap_or_else(PoisonError::into_inner)
}

fn operator() -> &'static RwLock<Operator> {
    static OPERATOR: OnceLock<RwLock<Operator>> = OnceLock::new();
    // Those in which another release injects.
    let values = format!("webhook.excludeNamespaces={}", json!(scope::NAMESPACES));
    OPERATOR.get_or_init(|| {
        RwLock::new(Operator::start(&Cluster::api_only(), "restpipe", SYSTEM, &[&values]))
    })
}

fn audit() -> Audit {
    Audit::of(&variable("RESTPIPE_KUBE_DIR"))
}

/// The one request since then that created a pod in the namespace, as the API server has noted it.
fn creation(since: Mark, space: &Namespace<'_>) -> Request {
    // The log is written before the answer is, and read by another process.
    eventually("the creation is in the log", SETTLE_TIME, || {
        let all = audit().since(since, "admin");
        let of = |one: &Request| {
            one.verb == "create"
                && one.resource == "pods"
                && one.object.starts_with(&format!("{}/", space.name))
        };
        let mut found: Vec<_> = all.into_iter().filter(of).collect();
        if found.len() == 1 { Ok(found.remove(0)) } else { Err(format!("{found:#?}")) }
    })
}

/// A pod of one container, with these annotations.
fn pod(name: &str, annotations: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [{"name": "app", "image": "app"}]},
    })
}

/// Creates a pod.
fn create(space: &Namespace<'_>, pod: &Value) -> Answer {
    create_with(space, pod, "")
}

/// Creates a pod, with a query such as `?dryRun=All`.
fn create_with(space: &Namespace<'_>, pod: &Value, query: &str) -> Answer {
    let path = format!("/api/v1/namespaces/{}/pods{query}", space.name);
    space.cluster.request("POST", &path, &pod.to_string())
}

/// Creates a pod that has to be taken; the pod as it is then.
fn created(space: &Namespace<'_>, pod: &Value) -> Value {
    let answer = create(space, pod);
    assert_eq!(answer.code, 201, "{pod}: {}", answer.message());
    answer.body
}

fn has_sidecar(pod: &Value) -> bool {
    pod["spec"]["initContainers"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["name"] == "restpipe")
}
