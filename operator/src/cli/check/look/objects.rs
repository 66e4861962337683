//! Pods, servers and links.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use restpipe_api::condition::{IDENTITY_ISSUED, READY, reason};
use restpipe_api::{MAX_NAMES_LISTED, RestPipeLink, RestPipeServer, pods};

use super::{Cluster, cannot};
use crate::cli::check::Options;
use crate::cli::check::report::Report;

/// A certificate that ends sooner than this should have been renewed: leafs of the shortest
/// allowed life, 10 min, are renewed with more than 3 min left.
const ENDS_SOON: SignedDuration = SignedDuration::from_mins(2);

const LINKS: &str = "links";

/// What to do where the controller should have renewed something.
const NOT_RENEWED: &str = "see the controller's log for why it was not renewed";

impl Cluster {
    /// Whether all annotated pods have their sidecar.
    pub(in crate::cli::check) async fn pods(&self, report: &mut Report) {
        const SECTION: &str = "pods";
        let check = "all annotated pods have a sidecar";
        let all = match self.list::<Pod>().await {
            Ok(all) => all,
            Err(error) => return cannot(report, SECTION, check, &error),
        };
        let wanted: Vec<_> = all.iter().filter(|pod| asks_for_a_sidecar(pod)).collect();
        let missed: Vec<_> =
            wanted.iter().filter(|pod| !has_sidecar(pod)).map(|pod| name_of(*pod)).collect();
        if missed.is_empty() {
            return report.ok(SECTION, format!("{check} ({})", wanted.len()));
        }
        let (count, names) = (missed.len(), &missed[..missed.len().min(MAX_NAMES_LISTED)]);
        let message = format!("{count} have none: {}", names.join(", "));
        report.failed(SECTION, check, &message, "they were made while the webhook was not there, or annotated later: `kubectl rollout restart` what made them");
    }

    /// Whether the servers are ready.
    pub(in crate::cli::check) async fn servers(&self, report: &mut Report) {
        const SECTION: &str = "servers";
        let now = Timestamp::now();
        let all = match self.list::<RestPipeServer>().await {
            Ok(all) => all,
            Err(error) => return cannot(report, SECTION, "can be listed", &error),
        };
        for server in all {
            let name = name_of(&server);
            let status = server.status.unwrap_or_default();
            let hint = format!(
                "see `kubectl -n {} describe rps {}`",
                server.metadata.namespace.unwrap_or_default(),
                server.metadata.name.unwrap_or_default()
            );
            self.ready(report, SECTION, &name, &status.conditions, &hint);
            reload(report, SECTION, &name, &status.conditions);
            if let Some(identity) = &status.identity {
                let what = format!("{name}'s certificate");
                in_time(report, SECTION, &what, identity.not_after.0, now, NOT_RENEWED);
            }
            if let Some(ca) = &status.ca {
                let what = format!("{name}'s CA");
                in_time(report, SECTION, &what, ca.not_after.0, now, NOT_RENEWED);
            }
        }
    }

    /// Whether the links are up.
    pub(in crate::cli::check) async fn links(&self, report: &mut Report) {
        let now = Timestamp::now();
        let all = match self.list::<RestPipeLink>().await {
            Ok(all) => all,
            Err(error) => return cannot(report, LINKS, "can be listed", &error),
        };
        for link in &all {
            let hint = format!(
                "see `kubectl -n {} describe rpl {}`",
                link.namespace().unwrap_or_default(),
                link.name_any()
            );
            let conditions = link.status.as_ref().map(|status| &*status.conditions);
            let conditions = conditions.unwrap_or_default();
            self.ready(report, LINKS, &name_of(link), conditions, &hint);
            reload(report, LINKS, &name_of(link), conditions);
            certificate(report, link, now);
        }
    }

    fn ready<'a>(
        &self,
        report: &mut Report,
        section: &'static str,
        name: &str,
        conditions: impl IntoIterator<Item = &'a Condition>,
        hint: &str,
    ) {
        // Somebody wants it so, or it is up to somebody outside of this cluster.
        let intended = [reason::SUSPENDED, reason::NO_PODS, reason::EXPORT_NOT_CONNECTED];
        let check = format!("{name} is ready");
        let said = |ready: &Condition| format!("{}: {}", ready.reason, ready.message);
        match conditions.into_iter().find(|condition| condition.type_ == READY) {
            Some(ready) if ready.status == "True" => report.ok(section, check),
            Some(ready) if intended.contains(&&*ready.reason) => {
                report.warning(section, check, &said(ready), hint);
            }
            Some(ready) => report.failed(section, check, &said(ready), hint),
            None => {
                let Options { system_namespace, lease_name, .. } = &self.options;
                let hint = format!("see `kubectl -n {system_namespace} logs deploy/{lease_name}`");
                report.failed(section, check, "no controller has looked at it", &hint);
            }
        }
    }
}

/// Whether it names a link or server, and could be given a sidecar by being made anew: what has
/// ended or is on its way out does not come again, and to what kubelet runs from files nothing can
/// be added.
fn asks_for_a_sidecar(pod: &Pod) -> bool {
    let annotations = pod.annotations();
    let names = |key: &str| annotations.get(key).is_some_and(|value| pods::named(value).is_some());
    let asks = names(pods::LINK) || names(pods::SERVER);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(phase, Some("Succeeded" | "Failed"));
    let ending = pod.metadata.deletion_timestamp.is_some();
    asks && !ended && !ending && !annotations.contains_key(pods::MIRROR)
}

/// By the container itself: labels are copied by all kinds of tools.
fn has_sidecar(pod: &Pod) -> bool {
    let containers = pod.spec.iter().filter_map(|spec| spec.init_containers.as_ref()).flatten();
    containers.into_iter().any(|container| container.name == pods::CONTAINER)
}

fn name_of<K: ResourceExt>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Says something only where a node goes on with older files than it has: all is well until these
/// end.
fn reload(report: &mut Report, section: &'static str, name: &str, conditions: &[Condition]) {
    let failed = conditions.iter().find(|condition| condition.reason == reason::CERT_RELOAD_FAILED);
    if let Some(Condition { message, .. }) = failed {
        let check = format!("{name}'s nodes take their new certificates");
        report.warning(section, check, message, "that node's log says which file is bad, and why");
    }
}

/// Says something only where a link's certificate was not renewed, or has to be by somebody.
fn certificate(report: &mut Report, link: &RestPipeLink, now: Timestamp) {
    let Some(status) = &link.status else { return };
    let Some(identity) = &status.identity else { return };
    let (what, end) = (format!("{}'s certificate", name_of(link)), identity.not_after.0);
    let cure = if link.spec.server.external.is_some() {
        "have another one exported where the server is (`restpipe-operator export`), and apply it here".to_owned()
    } else if identity.renewal_time.is_none() {
        format!(
            "`restpipe-operator export link/{} -n {}` gives a new one: bring it to the client",
            link.name_any(),
            link.namespace().unwrap_or_default()
        )
    } else {
        NOT_RENEWED.to_owned()
    };
    // The link stays ready until its end: nothing else here tells of it.
    let expiring = status.conditions.iter().find(|condition| {
        condition.type_ == IDENTITY_ISSUED && condition.reason == reason::EXPORT_EXPIRING
    });
    match expiring.filter(|_| end > now) {
        Some(condition) => {
            report.warning(LINKS, format!("{what} is in time"), &condition.message, &cure);
        }
        None => in_time(report, LINKS, &what, end, now, &cure),
    }
}

/// Says something only where a certificate has ended or is about to.
fn in_time(
    report: &mut Report,
    section: &'static str,
    what: &str,
    end: Timestamp,
    now: Timestamp,
    cure: &str,
) {
    let left = end.duration_since(now);
    let check = format!("{what} is in time");
    if !left.is_positive() {
        report.failed(section, check, &format!("it ended at {end}"), cure);
    } else if left < ENDS_SOON {
        report.warning(section, check, &format!("it ends at {end}"), cure);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// Result, message and hint of the only look, if there was one.
    fn said(report: &Report) -> Option<[String; 3]> {
        let json = report.json();
        let checks = json["checks"].as_array().expect("a list");
        assert!(checks.len() < 2, "{json}");
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        checks.first().map(|check| ["result", "message", "hint"].map(|key| text(check, key)))
    }

    #[test]
    fn of_a_certificate_that_is_renewed_in_time_nothing_is_said() {
        let at = |end: &str| {
            let mut report = Report::default();
            let now = time("2026-01-01T00:10:00Z");
            in_time(&mut report, "servers", "shop/hub's CA", time(end), now, NOT_RENEWED);
            said(&report)
        };
        let words = |result: &str, message: &str| {
            Some([result.to_owned(), message.to_owned(), NOT_RENEWED.to_owned()])
        };
        assert_eq!(at("2026-01-02T00:00:00Z"), None);
        assert_eq!(at("2026-01-01T00:12:00Z"), None);
        let soon = words("warning", "it ends at 2026-01-01T00:11:59Z");
        assert_eq!(at("2026-01-01T00:11:59Z"), soon);
        let ended = words("failed", "it ended at 2026-01-01T00:10:00Z");
        assert_eq!(at("2026-01-01T00:10:00Z"), ended);
        let long_ago = words("failed", "it ended at 2025-12-01T00:00:00Z");
        assert_eq!(at("2025-12-01T00:00:00Z"), long_ago);
    }

    fn link(spec: &Value, reason: &str, end: &str, renewal: Option<&str>) -> RestPipeLink {
        serde_json::from_value(json!({
            "apiVersion": "restpipe.io/v1alpha1", "kind": "RestPipeLink",
            "metadata": {"name": "plant-7", "namespace": "shop"}, "spec": spec,
            "status": {
                "conditions": [
                    {"type": "IdentityIssued", "status": "True", "reason": reason,
                        "message": "it ends soon", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                    {"type": "Ready", "status": "True", "reason": "Ready",
                        "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
                ],
                "identity": {"secretName": "s", "name": "n", "serial": "01",
                    "notBefore": "2026-01-01T00:00:00Z", "notAfter": end, "renewalTime": renewal},
            },
        }))
        .expect("a link")
    }

    #[test]
    fn an_exported_certificate_that_ends_within_weeks_is_a_warning_with_its_cure() {
        let of = |link: &RestPipeLink| {
            let mut report = Report::default();
            certificate(&mut report, link, time("2026-03-20T00:00:00Z"));
            said(&report)
        };
        let here = json!({"server": {"name": "hub"}, "export": {}});
        let (soon, later) = ("2026-04-01T00:00:00Z", "2026-06-01T00:00:00Z");
        assert_eq!(of(&link(&here, "Issued", later, None)), None);
        let [result, message, hint] =
            of(&link(&here, "ExportExpiring", soon, None)).expect("a warning");
        assert_eq!((&*result, &*message), ("warning", "it ends soon"));
        assert!(hint.contains("`restpipe-operator export link/plant-7 -n shop`"), "{hint}");

        // One that came from elsewhere is made where it came from.
        let external = json!({"server": {"external":
            {"address": "h:1", "serverName": "h", "secretName": "s"}}});
        let [result, _, hint] =
            of(&link(&external, "ExportExpiring", soon, None)).expect("a warning");
        assert!(result == "warning" && hint.contains("where the server is"), "{hint}");

        // What has ended is worse than what is about to.
        let ended = link(&here, "ExportExpiring", "2026-03-19T00:00:00Z", None);
        let [result, message, hint] = of(&ended).expect("a failure");
        assert_eq!((&*result, &*message), ("failed", "it ended at 2026-03-19T00:00:00Z"));
        assert!(hint.contains("restpipe-operator export"), "{hint}");

        // The controller's own it renews by itself.
        let own = json!({"server": {"name": "hub"}});
        let renewed = Some("2026-03-19T16:00:00Z");
        assert_eq!(of(&link(&own, "Issued", "2026-03-20T08:00:00Z", renewed)), None);
        let [result, _, hint] =
            of(&link(&own, "Issued", "2026-03-20T00:01:00Z", renewed)).expect("a warning");
        assert_eq!((&*result, &*hint), ("warning", NOT_RENEWED));
    }

    #[test]
    fn a_node_that_does_not_take_its_new_certificate_is_a_warning() {
        let of = |reason: &str| {
            let mut report = Report::default();
            let link =
                link(&json!({"server": {"name": "hub"}}), reason, "2026-04-01T00:00:00Z", None);
            reload(&mut report, LINKS, "shop/plant-7", &link.status.expect("a status").conditions);
            said(&report)
        };
        let [result, message, hint] = of("CertReloadFailed").expect("a warning");
        assert_eq!((&*result, &*message), ("warning", "it ends soon"));
        assert!(hint.contains("log"), "{hint}");
        assert_eq!(of("Issued"), None);
    }

    #[test]
    fn a_pod_that_has_ended_or_that_kubelet_runs_from_a_file_misses_no_sidecar() {
        let asks = |more: Value| {
            let mut pod = json!({
                "metadata": {"name": "a", "annotations": {"restpipe.io/link": "files"}},
                "spec": {"containers": []}, "status": {"phase": "Running"},
            });
            json_patch::merge(&mut pod, &more);
            asks_for_a_sidecar(&serde_json::from_value(pod).expect("a pod"))
        };
        let phase = |phase: &str| json!({"status": {"phase": phase}});
        let annotations = |all: Value| json!({"metadata": {"annotations": all}});
        assert!(asks(json!({})));
        assert!(asks(phase("Pending")));
        assert!(asks(json!({"status": null})));
        assert!(asks(annotations(json!({"restpipe.io/link": null, "restpipe.io/server": "hub"}))));
        let server_only = json!({"restpipe.io/link": "disabled", "restpipe.io/server": "hub"});
        assert!(asks(annotations(server_only)));

        assert!(!asks(annotations(json!({"restpipe.io/link": null}))));
        assert!(!asks(annotations(json!({"restpipe.io/link": "disabled"}))));
        assert!(!asks(phase("Succeeded")));
        assert!(!asks(phase("Failed")));
        assert!(!asks(annotations(json!({"kubernetes.io/config.mirror": "hash"}))));
        assert!(!asks(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    }
}
