//! Whether an annotated pod gets its sidecar: by a dry run through the API server, or where one may
//! not do that, by asking the webhook's Service itself.

use std::time::SystemTime;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::core::Status;
use restpipe_api::pods;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Cluster;
use crate::cli::check::report::Report;
use crate::cli::target::TIMEOUT;
use crate::process::causes;

const CHECK: &str = "an annotated pod gets its sidecar";

/// Where a pod is tried, without making one.
const NAMESPACE: &str = "default";

/// What the chart calls the webhook. The API server names it where the webhook refuses a pod, or
/// cannot be asked.
const WEBHOOK: &str = "inject.restpipe.io";

/// What the API server says, whatever the status, where a webhook refuses, a policy does, or a
/// webhook cannot be asked.
const OF_ADMISSION: [&str; 3] = ["denied the request", "denied request", "failed calling webhook"];

/// Whether it was not our webhook that kept the pod out: a quota, a policy, or another webhook.
fn is_of_others(status: &Status) -> bool {
    let said = |words: &&str| status.message.contains(*words);
    let refused = status.is_forbidden() || OF_ADMISSION.iter().any(said);
    refused && !status.message.contains(WEBHOOK)
}

impl Cluster {
    pub(super) async fn injection(&self, report: &mut Report, section: &'static str) {
        let watched = self.options.watch_namespaces.first().map(String::as_str);
        let namespace = self.options.namespace.as_deref().or(watched).unwrap_or(NAMESPACE);
        let pod: Pod = match serde_json::from_value(serde_json::json!({
            "metadata": {"generateName": "restpipe-check-", "annotations": {pods::LINK: "restpipe-check"}},
            "spec": {"containers": [{
                "name": "app", "image": "none",
                // So that a namespace with security standards takes it.
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                },
            }]},
        })) {
            Ok(pod) => pod,
            Err(error) => return report.failed(section, CHECK, &error.to_string(), ""),
        };
        // Asked first: a quota, or another webhook, forbids pods with the same status.
        if let Ok(false) = self.may("create", "", "pods", Some(namespace)).await {
            return self.dial(report, section).await;
        }
        let dry = PostParams { dry_run: true, ..PostParams::default() };
        match Api::<Pod>::namespaced(self.client.clone(), namespace).create(&dry, &pod).await {
            Ok(made) => {
                let first = made.spec.and_then(|spec| spec.init_containers).unwrap_or_default();
                if first.iter().any(|container| container.name == pods::CONTAINER) {
                    report.ok(section, CHECK);
                } else {
                    let message = format!("a pod in {namespace} was admitted without");
                    let hint = "the webhook leaves out kube-* namespaces, the release's and those in webhook.excludeNamespaces";
                    report.failed(section, CHECK, &message, hint);
                }
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                let hint = "name one that is there with --namespace";
                report.failed(section, CHECK, &status.message, hint);
            }
            Err(kube::Error::Api(status)) if is_of_others(&status) => {
                let message = format!(
                    "cannot be tried in {namespace}, where something else keeps pods out: {}",
                    status.message
                );
                let hint = "name a namespace that takes pods with --namespace";
                report.warning(section, CHECK, &message, hint);
            }
            Err(error) => {
                let name = &self.options.webhook_service;
                let hint = format!(
                    "see `kubectl -n {} logs deploy/{name}` and `kubectl describe mutatingwebhookconfiguration {}`",
                    self.options.system_namespace, self.options.webhook_configuration
                );
                let message = match error {
                    kube::Error::Api(status) => status.message,
                    error => causes(&error),
                };
                report.failed(section, CHECK, &message, &hint);
            }
        }
    }

    /// Asks the webhook's Service as the API server would, which only a pod can.
    async fn dial(&self, report: &mut Report, section: &'static str) {
        const CHECK: &str = "the webhook answers with a certificate that the API server trusts";
        let host =
            format!("{}.{}.svc", self.options.webhook_service, self.options.system_namespace);
        match self.handshake(&host).await {
            Ok(left) => report.ok(section, format!("{CHECK}, good for {left}")),
            Err(error) if tokio::net::lookup_host((host.as_str(), 443)).await.is_err() => {
                report.skipped(
                    section,
                    CHECK,
                    &format!(
                        "you may not create pods, and {host} cannot be reached from here: {error:#}"
                    ),
                );
            }
            Err(error) => {
                let hint = format!(
                    "see `kubectl -n {} logs deploy/{}`",
                    self.options.system_namespace, self.options.webhook_service
                );
                report.failed(section, CHECK, &format!("{error:#}"), &hint);
            }
        }
    }

    async fn handshake(&self, host: &str) -> anyhow::Result<String> {
        use anyhow::Context;
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, ServerName};

        let configuration = Api::<MutatingWebhookConfiguration>::all(self.client.clone())
            .get(&self.options.webhook_configuration)
            .await?;
        let bundle = configuration.webhooks.unwrap_or_default().into_iter().next();
        let bundle =
            bundle.and_then(|one| one.client_config.ca_bundle).context("there is no caBundle")?;
        let mut roots = rustls::RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&bundle.0) {
            roots.add(root?)?;
        }
        let config = rustls::ClientConfig::builder_with_provider(restpipe_identity::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned())?;
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let connect = async {
            anyhow::Ok(connector.connect(name, TcpStream::connect((host, 443)).await?).await?)
        };
        let stream =
            tokio::time::timeout(TIMEOUT, connect).await.context("no answer in time")??;
        let leaf = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first())
            .context("no certificate")?;
        let info = restpipe_identity::inspect(leaf)?;
        let left = info.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        Ok(humantime::format_duration(std::time::Duration::from_secs(left.as_secs())).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_a_pod_out_is_told_apart() {
        let of_others = |code: u16, reason: &str, message: &str| {
            is_of_others(&Status::failure(message, reason).with_code(code))
        };
        for (code, reason, message) in [
            (403, "Forbidden", r#"pods "a" is forbidden: exceeded quota: none, requested: pods=1"#),
            (
                403,
                "Forbidden",
                r#"pods "a" is forbidden: violates PodSecurity "restricted:latest""#,
            ),
            (403, "Forbidden", r#"admission webhook "images.example" denied the request: no"#),
            (400, "", r#"admission webhook "images.example" denied the request: no"#),
            (
                422,
                "Invalid",
                r#"pods "a" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no"#,
            ),
            (
                500,
                "InternalError",
                r#"Internal error occurred: failed calling webhook "images.example": no answer"#,
            ),
        ] {
            assert!(of_others(code, reason, message), "{message}");
        }
        for (code, reason, message) in [
            (403, "Forbidden", r#"admission webhook "inject.restpipe.io" denied the request: no"#),
            (400, "", r#"admission webhook "inject.restpipe.io" denied the request: no"#),
            (
                500,
                "InternalError",
                r#"Internal error occurred: failed calling webhook "inject.restpipe.io": no answer"#,
            ),
            // It may be what was injected that is wrong.
            (422, "Invalid", r#"Pod "a" is invalid: spec.initContainers[0].image: Required value"#),
            (500, "InternalError", "etcdserver: request timed out"),
        ] {
            assert!(!of_others(code, reason, message), "{message}");
        }
    }
}
