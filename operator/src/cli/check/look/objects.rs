//! Pods, servers and links.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use restpipe_api::condition::{READY, reason};
use restpipe_api::{MAX_NAMES_LISTED, RestPipeLink, RestPipeServer, pods};

use super::{Cluster, cannot};
use crate::cli::check::Options;
use crate::cli::check::report::Report;

/// A certificate that ends sooner than this should have been renewed: leafs of the shortest
/// allowed life, 10 min, are renewed with more than 3 min left.
const ENDS_SOON: SignedDuration = SignedDuration::from_mins(2);

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
            if let Some(identity) = &status.identity {
                in_time(report, SECTION, &format!("{name}'s certificate"), &identity.not_after);
            }
            if let Some(ca) = &status.ca {
                in_time(report, SECTION, &format!("{name}'s CA"), &ca.not_after);
            }
        }
    }

    /// Whether the links are up.
    pub(in crate::cli::check) async fn links(&self, report: &mut Report) {
        const SECTION: &str = "links";
        let all = match self.list::<RestPipeLink>().await {
            Ok(all) => all,
            Err(error) => return cannot(report, SECTION, "can be listed", &error),
        };
        for link in all {
            let name = name_of(&link);
            let status = link.status.unwrap_or_default();
            let hint = format!(
                "see `kubectl -n {} describe rpl {}`",
                link.metadata.namespace.unwrap_or_default(),
                link.metadata.name.unwrap_or_default()
            );
            self.ready(report, SECTION, &name, &status.conditions, &hint);
            if let Some(identity) = &status.identity {
                in_time(report, SECTION, &format!("{name}'s certificate"), &identity.not_after);
            }
        }
    }

    fn ready(
        &self,
        report: &mut Report,
        section: &'static str,
        name: &str,
        conditions: &[Condition],
        hint: &str,
    ) {
        // Somebody wants it so, or it is up to somebody outside of this cluster.
        let intended = [reason::SUSPENDED, reason::NO_PODS, reason::EXPORT_NOT_CONNECTED];
        let check = format!("{name} is ready");
        let said = |ready: &Condition| format!("{}: {}", ready.reason, ready.message);
        match conditions.iter().find(|condition| condition.type_ == READY) {
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

/// Whether it is annotated, and not on its way out.
fn asks_for_a_sidecar(pod: &Pod) -> bool {
    let annotations = pod.annotations();
    let asks = annotations.contains_key(pods::LINK) || annotations.contains_key(pods::SERVER);
    asks && pod.metadata.deletion_timestamp.is_none()
}

/// By the container itself: labels are copied by all kinds of tools.
fn has_sidecar(pod: &Pod) -> bool {
    let containers = pod.spec.iter().filter_map(|spec| spec.init_containers.as_ref()).flatten();
    containers.into_iter().any(|container| container.name == pods::CONTAINER)
}

fn name_of<K: ResourceExt>(object: &K) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Says something only where a renewal seems to have failed.
fn in_time(report: &mut Report, section: &'static str, what: &str, end: &Time) {
    let left = end.0.duration_since(Timestamp::now());
    let check = format!("{what} is in time");
    if left.is_negative() {
        report.failed(
            section,
            check,
            &format!("it ended at {}", end.0),
            "see the controller's log for why it was not renewed",
        );
    } else if left < ENDS_SOON {
        report.warning(
            section,
            check,
            &format!("it ends at {}", end.0),
            "see the controller's log for why it was not renewed",
        );
    }
}
