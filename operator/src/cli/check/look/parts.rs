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
        let spec = match api.get_opt(name).await {
            Ok(lease) => lease.and_then(|lease| lease.spec).unwrap_or_default(),
            Err(error) => return cannot(report, SECTION, check, &error),
        };
        let age = spec.renew_time.map(|at| Timestamp::now().duration_since(at.0).unsigned_abs());
        let holder = spec.holder_identity.unwrap_or_default();
        match age {
            Some(age) if age <= LEASE_OLD && !holder.is_empty() => {
                report.ok(SECTION, format!("{check} ({holder})"))
            }
            age => {
                let age = age.map_or("never".into(), |age| {
                    format!(
                        "{} ago",
                        humantime::format_duration(Duration::from_secs(age.as_secs()))
                    )
                });
                let message = format!("the lease {namespace}/{name} was renewed {age}");
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
