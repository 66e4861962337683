//! Having the operator issue a long-lived identity, and waiting for it.

use std::time::{Duration, SystemTime};

use anyhow::Context;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::{Condition, await_condition};
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED};
use restpipe_api::{LinkIdentity, RestPipeLink, RestPipeLinkStatus, names};
use serde_json::json;

use crate::cli::target::{fresh_value, get};

/// Who owns `spec.export` when it was set by this command.
const FIELD_MANAGER: &str = "restpipe-operator-export";

/// How far the life of a certificate may be from what was asked for: it is cut by the CA's end,
/// and backdated by minutes.
const TOLERANCE: Duration = Duration::from_secs(3600);

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
    let waiting = is_exported(generation, None);
    let status = wait(links, &name, namespace, generation, waiting, timeout).await?;
    let Some(identity) = status.identity.as_ref().filter(|found| !is_fresh(found, life)) else {
        return Ok(status);
    };
    let old_serial = identity.serial.clone();
    let patch = json!({"metadata": {"annotations": {names::RENEW: fresh_value()}}});
    links
        .patch(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("cannot annotate the RestPipeLink {namespace}/{name}"))?;
    let waiting = is_exported(generation, Some(old_serial));
    wait(links, &name, namespace, generation, waiting, timeout).await
}

/// Whether two thirds of its life are left, and it lives as long as was asked for.
fn is_fresh(identity: &LinkIdentity, life: Option<Duration>) -> bool {
    let end = SystemTime::from(identity.not_after.0);
    let begin = SystemTime::from(identity.not_before.0);
    let whole = end.duration_since(begin).unwrap_or_default();
    let left = end.duration_since(SystemTime::now()).unwrap_or_default();
    left > whole * 2 / 3 && life.is_none_or(|life| whole.abs_diff(life) < TOLERANCE)
}

async fn wait(
    links: &Api<RestPipeLink>,
    name: &str,
    namespace: &str,
    generation: Option<i64>,
    condition: impl Condition<RestPipeLink>,
    timeout: Duration,
) -> anyhow::Result<RestPipeLinkStatus> {
    let waiting = await_condition(links.clone(), name, condition);
    match tokio::time::timeout(timeout, waiting).await {
        Ok(found) => {
            let found = found.with_context(|| format!("cannot watch {namespace}/{name}"))?;
            let found = found.with_context(|| format!("{namespace}/{name} was deleted"))?;
            found.status.context("the link has no status")
        }
        Err(_) => {
            let link = get(links, name, namespace).await?;
            anyhow::bail!(
                "{namespace}/{name} has no exported identity after {timeout:?}: {}",
                why(&link, generation)
            )
        }
    }
}

fn is_exported(
    generation: Option<i64>,
    old_serial: Option<String>,
) -> impl Condition<RestPipeLink> {
    move |link: Option<&RestPipeLink>| {
        let Some(status) = link.and_then(|link| link.status.as_ref()) else { return false };
        let issued = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == IDENTITY_ISSUED && condition.status == "True");
        // Exported identities are the ones that nobody renews.
        let exported = status.identity.as_ref().is_some_and(|identity| {
            identity.renewal_time.is_none() && old_serial.as_ref() != Some(&identity.serial)
        });
        issued && exported && status.observed_generation >= generation
    }
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
            is_exported(generation, serial.map(str::to_owned)).matches_object(Some(link))
        };
        assert!(is(&with(false), Some(2), None));
        assert!(!is(&with(true), Some(2), None));
        assert!(!is(&with(false), Some(3), None), "not seen yet");
        assert!(!is(&with(false), Some(2), Some("01")), "not replaced yet");
    }

    #[test]
    fn who_waits_in_vain_is_told_the_conditions_words() {
        let refused = link(json!({"observedGeneration": 2,
            "conditions": [condition("Accepted", "False")]}));
        assert_eq!(why(&refused, Some(2)), "because (R)");
        assert!(why(&refused, Some(3)).contains("does it run"));
    }
}
