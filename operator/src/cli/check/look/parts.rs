//! Controller and webhook, as far as they are objects.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;

use super::{Cluster, cannot};
use crate::cli::check::report::Report;

const SECTION: &str = "control plane";

/// A lease that was not renewed for this long is nobody's: twice what the controller asks for.
const LEASE_OLD: Duration = Duration::from_secs(30);

impl Cluster {
    /// Whether controller and webhook run.
    pub(in crate::cli::check) async fn control_plane(&self, report: &mut Report) {
        for name in [&self.options.lease_name, &self.options.webhook_service] {
            self.deployment(report, name).await;
        }
        self.lease(report).await;
    }

    async fn deployment(&self, report: &mut Report, name: &str) {
        let namespace = &self.options.system_namespace;
        let check = format!("{namespace}/{name} is available");
        let api = Api::<Deployment>::namespaced(self.client.clone(), namespace);
        let there = match api.get_opt(name).await {
            Ok(Some(there)) => there,
            Ok(None) => {
                let hint = "install the chart, or name its namespace by --system-namespace";
                return report.failed(SECTION, check, "there is no such Deployment", hint);
            }
            Err(error) => return cannot(report, SECTION, check, &error),
        };
        let wanted = there.spec.replicas.unwrap_or(1);
        let ready = there.status.and_then(|status| status.available_replicas).unwrap_or(0);
        let hint = format!(
            "see `kubectl -n {namespace} describe deploy {name}` and `kubectl -n {namespace} logs deploy/{name}`"
        );
        let counts = format!("{ready} of {wanted} pods are available");
        match ready {
            0 => report.failed(SECTION, check, &counts, &hint),
            ready if ready < wanted => report.warning(SECTION, check, &counts, &hint),
            _ => report.ok(SECTION, check),
        }
    }

    async fn lease(&self, report: &mut Report) {
        let (namespace, name) = (&self.options.system_namespace, &self.options.lease_name);
        let check = "a controller is at work";
        let api = Api::<Lease>::namespaced(self.client.clone(), namespace);
        let lease = match api.get_opt(name).await {
            Ok(lease) => lease,
            Err(error) => return cannot(report, SECTION, check, &error),
        };
        match at_work(lease.as_ref(), Timestamp::now()) {
            Ok(holder) => report.ok(SECTION, format!("{check} ({holder})")),
            Err(why) => {
                let message = format!("the lease {namespace}/{name} {why}");
                let hint = format!("see `kubectl -n {namespace} logs deploy/{name}`");
                report.failed(SECTION, check, &message, &hint);
            }
        }
    }

    /// Whether annotated pods get their sidecar.
    pub(in crate::cli::check) async fn webhook(&self, report: &mut Report) {
        const SECTION: &str = "webhook";
        let name = &self.options.webhook_configuration;
        let check = "the API server knows the webhook, and its CA";
        match Api::<MutatingWebhookConfiguration>::all(self.client.clone()).get_opt(name).await {
            Ok(Some(there)) => {
                let trusted = there.webhooks.unwrap_or_default();
                let trusted = trusted.first().is_some_and(|one| {
                    one.client_config.ca_bundle.as_ref().is_some_and(|ca| !ca.0.is_empty())
                });
                if trusted {
                    report.ok(SECTION, check);
                } else {
                    report.failed(
                        SECTION,
                        check,
                        &format!("{name} has no caBundle"),
                        "the controller writes it: see why it does not by its log",
                    );
                }
            }
            Ok(None) => report.failed(
                SECTION,
                check,
                &format!("there is no MutatingWebhookConfiguration {name}"),
                "annotated pods start without a sidecar: install or upgrade the chart",
            ),
            Err(error) => cannot(report, SECTION, check, &error),
        }
        self.injection(report, SECTION).await;
    }
}

/// Who holds the lease, or what is the matter with it.
fn at_work(lease: Option<&Lease>, now: Timestamp) -> Result<&str, String> {
    let spec = lease.ok_or("is not there")?.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref());
    let age = renewed.map(|at| now.duration_since(at.0).unsigned_abs());
    match age {
        _ if holder.is_empty() => Err("is nobody's: the last controller gave it away".to_owned()),
        Some(age) if age <= LEASE_OLD => Ok(holder),
        Some(age) => {
            let age = humantime::format_duration(Duration::from_secs(age.as_secs()));
            Err(format!("of {holder} was renewed {age} ago"))
        }
        None => Err(format!("of {holder} was never renewed")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_lease_says_who_is_at_work_or_what_is_the_matter() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let lease = |spec: serde_json::Value| -> Lease {
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a lease")
        };
        let of = |holder: &str, at: &str| {
            lease(
                json!({"holderIdentity": holder, "renewTime": format!("2026-01-01T00:0{at}.000000Z")}),
            )
        };
        let said = |lease: &Lease| at_work(Some(lease), now).map(str::to_owned);
        assert_eq!(said(&of("web-1", "0:40")), Ok("web-1".to_owned()));
        assert_eq!(said(&of("web-1", "0:29")), Err("of web-1 was renewed 31s ago".to_owned()));
        let given_away = said(&of("", "0:59")).expect_err("nobody");
        assert!(given_away.starts_with("is nobody's"), "{given_away}");
        let never = said(&lease(json!({"holderIdentity": "web-1"}))).expect_err("never");
        assert_eq!(never, "of web-1 was never renewed");
        assert_eq!(at_work(None, now), Err("is not there".to_owned()));
    }
}
