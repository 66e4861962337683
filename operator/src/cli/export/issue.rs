//! Having the operator issue a long-lived identity, and waiting for it.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use kube::Api;
use kube::api::{Patch, PatchParams};
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED};
use restpipe_api::{LinkIdentity, RestPipeLink, RestPipeLinkStatus, names};
use serde_json::json;

use crate::cli::target::fresh_value;

/// Who owns `spec.export` when it was set by this command.
const FIELD_MANAGER: &str = "restpipe-operator-export";

/// How far the life of a certificate may be from what was asked for: it is cut by the CA's end,
/// and backdated by minutes.
const TOLERANCE: Duration = Duration::from_secs(3600);

/// How often the link is looked at. The operator takes a second.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What the user wants of the identity.
pub(super) struct Wanted {
    /// Where the client reaches the server.
    pub(super) address: Option<String>,
    /// How long the certificate lives.
    pub(super) duration: Option<String>,
    /// How long the operator may take.
    pub(super) timeout: Duration,
}

/// The status of the link once it has an exported identity that is fresh.
pub(super) async fn exported(
    links: &Api<RestPipeLink>,
    link: &RestPipeLink,
    namespace: &str,
    wanted: Wanted,
) -> anyhow::Result<RestPipeLinkStatus> {
    let Wanted { address, duration, timeout } = wanted;
    let name = link.metadata.name.clone().unwrap_or_default();
    let mut export = serde_json::Map::new();
    let present = link.spec.export.clone().unwrap_or_default();
    let life = match &duration {
        Some(text) => Some(humantime::parse_duration(text).with_context(|| {
            format!("--duration {text:?} is none: give one such as 2160h, which is 90 days")
        })?),
        None => None,
    };
    if let Some(address) = address.filter(|address| present.address.as_ref() != Some(address)) {
        export.insert("address".to_owned(), json!(address));
    }
    if let Some(duration) = duration.filter(|given| present.duration.as_ref() != Some(given)) {
        export.insert("duration".to_owned(), json!(duration));
    }
    let mut generation = link.metadata.generation;
    if link.spec.export.is_none() || !export.is_empty() {
        let patch = json!({"spec": {"export": export}});
        let params =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        let patched = links.patch(&name, &params, &Patch::Merge(&patch)).await;
        let patched =
            patched.with_context(|| format!("cannot set spec.export of {namespace}/{name}"))?;
        generation = patched.metadata.generation;
    }
    let status = wait(links, &name, namespace, generation, None, timeout).await?;
    let Some(identity) = status.identity.as_ref().filter(|found| !is_fresh(found, life)) else {
        return Ok(status);
    };
    let old_serial = identity.serial.clone();
    let patch = json!({"metadata": {"annotations": {names::RENEW: fresh_value()}}});
    links
        .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("cannot annotate the RestPipeLink {namespace}/{name}"))?;
    wait(links, &name, namespace, generation, Some(&old_serial), timeout).await
}

/// Whether two thirds of its life are left, and it lives as long as was asked for.
fn is_fresh(identity: &LinkIdentity, life: Option<Duration>) -> bool {
    let end = SystemTime::from(identity.not_after.0);
    let begin = SystemTime::from(identity.not_before.0);
    let whole = end.duration_since(begin).unwrap_or_default();
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    left > whole * 2 / 3 && life.is_none_or(|life| whole.abs_diff(life) < TOLERANCE)
}

/// Looks again and again, and does not watch: a watch may be silent for longer than the client waits
/// for an answer.
async fn wait(
    links: &Api<RestPipeLink>,
    name: &str,
    namespace: &str,
    generation: Option<i64>,
    old_serial: Option<&str>,
    timeout: Duration,
) -> anyhow::Result<RestPipeLinkStatus> {
    let waiting = async {
        loop {
            let status = look(links, name, namespace).await?.status.unwrap_or_default();
            if is_exported(&status, generation, old_serial) {
                return anyhow::Ok(status);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    match tokio::time::timeout(timeout, waiting).await {
        Ok(status) => status,
        Err(_) => {
            let link = look(links, name, namespace).await?;
            anyhow::bail!(
                "{namespace}/{name} has no exported identity after {timeout:?}: {}",
                why(&link, generation)
            )
        }
    }
}

async fn look(
    links: &Api<RestPipeLink>,
    name: &str,
    namespace: &str,
) -> anyhow::Result<RestPipeLink> {
    let found = links.get_opt(name).await;
    let found =
        found.with_context(|| format!("cannot read the RestPipeLink {namespace}/{name}"))?;
    found.with_context(|| format!("{namespace}/{name} was deleted meanwhile: nothing was exported"))
}

fn is_exported(
    status: &RestPipeLinkStatus,
    generation: Option<i64>,
    old_serial: Option<&str>,
) -> bool {
    let issued = status
        .conditions
        .iter()
        .any(|condition| condition.type_ == IDENTITY_ISSUED && condition.status == "True");
    // Exported identities are the ones that nobody renews.
    let exported = status.identity.as_ref().is_some_and(|identity| {
        identity.renewal_time.is_none() && old_serial != Some(&*identity.serial)
    });
    issued && exported && status.observed_generation >= generation
}

/// What the conditions say, or that nobody writes them.
fn why(link: &RestPipeLink, generation: Option<i64>) -> String {
    let status = link.status.as_ref();
    if status.is_none_or(|status| status.observed_generation < generation) {
        return "the operator has not looked at it: does it run? (restpipe-operator check)".into();
    }
    let conditions = status.into_iter().flat_map(|status| &status.conditions);
    let mut faults = conditions.filter(|condition| {
        [ACCEPTED, IDENTITY_ISSUED].contains(&condition.type_.as_str())
            && condition.status != "True"
    });
    faults.next().map_or_else(
        || "its certificate was not replaced: see the operator's log".to_owned(),
        |fault| format!("{} ({})", fault.message, fault.reason),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;

    use super::*;

    fn link(value: serde_json::Value) -> RestPipeLink {
        serde_json::from_value(json!({
            "apiVersion": "restpipe.io/v1alpha1", "kind": "RestPipeLink",
            "metadata": {"name": "x", "generation": 2}, "spec": {"server": {"name": "hub"}},
            "status": value,
        }))
        .expect("a link")
    }

    fn condition(type_: &str, status: &str) -> serde_json::Value {
        json!({"type": type_, "status": status, "reason": "R", "message": "because",
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn identity(renewal: bool) -> serde_json::Value {
        let mut identity = json!({"secretName": "s", "name": "n", "serial": "01",
            "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2099-01-01T00:00:00Z"});
        if renewal {
            identity["renewalTime"] = json!("2026-02-01T00:00:00Z");
        }
        identity
    }

    #[test]
    fn an_identity_that_is_renewed_by_itself_is_not_the_exported_one() {
        let with = |renewal| {
            link(json!({"observedGeneration": 2, "identity": identity(renewal),
                "conditions": [condition("IdentityIssued", "True")]}))
        };
        let is = |link: &RestPipeLink, generation, serial: Option<&str>| {
            is_exported(&link.status.clone().unwrap_or_default(), generation, serial)
        };
        assert!(is(&with(false), Some(2), None));
        assert!(!is(&with(true), Some(2), None));
        assert!(!is(&with(false), Some(3), None), "not seen yet");
        assert!(!is(&with(false), Some(2), Some("01")), "not replaced yet");
    }

    /// An API server with one link, whose identity is there from the `issued_at`th look on; and how
    /// often the link was looked at.
    fn api(issued_at: u32) -> (Api<RestPipeLink>, Arc<AtomicU32>) {
        let looks = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&looks);
        let service = tower::service_fn(move |_: Request<Body>| {
            let look = counted.fetch_add(1, Ordering::Relaxed) + 1;
            let mut status = json!({"observedGeneration": 2});
            if look >= issued_at {
                status["identity"] = identity(false);
                status["conditions"] = json!([condition("IdentityIssued", "True")]);
            }
            let body = serde_json::to_vec(&link(status)).expect("JSON");
            async move { Ok::<_, tower::BoxError>(Response::new(Body::from(body))) }
        });
        (Api::namespaced(Client::new(service, "shop"), "shop"), looks)
    }

    #[tokio::test(start_paused = true)]
    async fn an_identity_is_looked_for_until_it_is_there_or_time_is_up() {
        let minute = Duration::from_secs(60);
        // After longer than the API server may take for one answer.
        let (links, looks) = api(100);
        let status = wait(&links, "x", "shop", Some(2), None, minute).await.expect("it comes");
        assert_eq!(status.identity.expect("an identity").serial, "01");
        assert_eq!(looks.load(Ordering::Relaxed), 100);

        let (links, _) = api(u32::MAX);
        let error = wait(&links, "x", "shop", Some(2), None, minute).await.expect_err("in vain");
        let said = error.to_string();
        assert!(said.starts_with("shop/x has no exported identity after 60s: "), "{said}");
    }

    #[test]
    fn who_waits_in_vain_is_told_the_conditions_words() {
        let refused = link(json!({"observedGeneration": 2,
            "conditions": [condition("Accepted", "False")]}));
        assert_eq!(why(&refused, Some(2)), "because (R)");
        assert!(why(&refused, Some(3)).contains("does it run"));
    }
}
